package outcome

import (
	"cmp"
	"context"
	"time"

	"github.com/onramphq/onramp/experiment"
)

// ReportOptions says what a report is about. The zero value is everything but an experiment.
type ReportOptions struct {
	Experiment string // Defaults to none.
	Control    string // variant to compare with. Defaults to control.
	Treatment  string // variant that is compared. Defaults to the largest other one.
	Goal       string // what counts as conversion. Defaults to the goal of the journey the exposures happened in.

	// Since leaves out what began before: events by the time they occurred, enrollments by their start, exposures by the
	// first of each user, actions by their decision. What began later is followed to its end, so that no funnel is cut.
	// The members of segments are those of now in any case. Defaults to the beginning.
	Since time.Time

	// Options of the interval. The zero value is 95 % and N* = 5,000.
	Interval experiment.Options
}

// Report is what the views said at one moment. Every figure counts a thing once, however often it was delivered.
type Report struct {
	Users        uint64                    `json:"users"` // with an event
	Events       uint64                    `json:"events"`
	DeadLetters  uint64                    `json:"dead_letters"`
	EventsByName map[string]uint64         `json:"events_by_name"`
	Funnel       []FunnelStep              `json:"funnel"` // per journey in order, from enrolled to converted
	Segments     []SegmentSize             `json:"segments"`
	Actions      []ActionCounts            `json:"actions"`
	Journeys     map[string]JourneySummary `json:"journeys"`
	Experiment   *Experiment               `json:"experiment,omitempty"`
	LatencyMS    Latency                   `json:"latency_ms"`
}

// FunnelStep is how many users reached a step. Step is enrolled, the key of a step, or converted.
type FunnelStep struct {
	Journey string `json:"journey"`
	Step    string `json:"step"`
	Users   uint64 `json:"users"`
}

// SegmentSize is how many users are in a segment, and how many ever were.
type SegmentSize struct {
	Segment string `json:"segment"`
	Members uint64 `json:"members"`
	Ever    uint64 `json:"ever"`
}

// ActionCounts is what became of an action. Reasons are those of suppression.
type ActionCounts struct {
	Action     string            `json:"action"`
	Decided    uint64            `json:"decided"`
	Delivered  uint64            `json:"delivered"`
	Failed     uint64            `json:"failed"`
	Suppressed uint64            `json:"suppressed"`
	Reasons    map[string]uint64 `json:"reasons"`
}

// JourneySummary is how many enrollments a journey had, and what became of them.
type JourneySummary struct {
	Enrollments uint64            `json:"enrollments"`
	Open        uint64            `json:"open"`
	Ended       map[string]uint64 `json:"ended"` // by reason
}

// Latency from the receipt of an event to the record of what it caused, deliveries left out.
type Latency struct {
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Count uint64  `json:"count"`
}

// Experiment compares two variants on one goal. Lift is relative, and [Low, High] may be looked at every day. Where State is
// neither ok nor few_conversions, lift and interval mean nothing and are zero.
type Experiment struct {
	Key                string           `json:"key"`
	Metric             string           `json:"metric"` // the goal; empty while nobody has met any
	Control            string           `json:"control"`
	Treatment          string           `json:"treatment"`
	ControlUsers       int64            `json:"control_users"`
	TreatmentUsers     int64            `json:"treatment_users"`
	ControlConverted   int64            `json:"control_converted"`
	TreatmentConverted int64            `json:"treatment_converted"`
	ControlRate        float64          `json:"control_rate"`
	TreatmentRate      float64          `json:"treatment_rate"`
	Lift               float64          `json:"lift"`
	Low                float64          `json:"low"`
	High               float64          `json:"high"`
	PValue             float64          `json:"p_value"` // anytime-valid
	State              experiment.State `json:"state"`
	SRMP               float64          `json:"srm_p"`             // below experiment.SRMAlarm: distrust all of this
	MixedUsers         int64            `json:"mixed_users"`       // met two variants; counted under the first
	Planted            *float64         `json:"planted,omitempty"` // the true lift, where the caller knows it
}

// Report reads the results. It touches nothing but ClickHouse; where that is away, the error is CodeUnavailable.
func (s *Store) Report(ctx context.Context, opts ReportOptions) (*Report, error) {
	opts.Control = cmp.Or(opts.Control, "control")
	since := int64(0)
	if !opts.Since.IsZero() {
		since = max(0, opts.Since.UnixMilli())
	}
	report := &Report{EventsByName: map[string]uint64{}, Journeys: map[string]JourneySummary{}}
	q := &query{store: s, since: since}
	for _, read := range []func(context.Context, *Report) error{
		q.events, q.deadLetters, q.journeys, q.segments, q.actions, q.latency,
	} {
		if err := read(ctx, report); err != nil {
			return nil, translate(err, s.addr, "read report")
		}
	}
	if opts.Experiment != "" {
		result, err := q.experiment(ctx, opts)
		if err != nil {
			return nil, translate(err, s.addr, "read experiment "+opts.Experiment)
		}
		report.Experiment = result
	}
	return report, nil
}
