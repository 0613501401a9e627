package outcome

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/onramphq/onramp/schema"
)

// flagEvaluated is the reason of exposures that no journey recorded.
const flagEvaluated = "flag_evaluated"

// Past is what the outcomes on record say of a user as of a moment. Times are Unix milliseconds, UTC.
type Past struct {
	UserToken string                 `json:"user_token"`
	At        int64                  `json:"at"`         // the moment that was asked for
	UpdatedAt int64                  `json:"updated_at"` // of the last outcome by then
	Playbook  string                 `json:"playbook"`
	Stage     string                 `json:"stage"`
	Segments  []schema.Membership    `json:"segments"` // those the user was ever in by then
	Variants  map[string]string      `json:"variants,omitempty"`
	Journeys  []schema.JourneyStatus `json:"journeys"`
}

// UserAt tells what a user was at a moment: what was on record with a moment of record not after it. priority is that of a journey
// under a playbook, by which the stage is told where a user is in several; nil takes all for alike. An event of the past that came
// later, and changed what was recorded to have been, is in. Errors: not_found where nothing is on record by then, unavailable where
// ClickHouse is away.
func (s *Store) UserAt(ctx context.Context, token string, at time.Time, priority func(playbook, journey string) int) (Past, error) {
	f := pastFold{past: Past{UserToken: token, At: at.UnixMilli(), Segments: []schema.Membership{}, Journeys: []schema.JourneyStatus{}}, version: make(map[string]string)}
	q := &query{store: s}
	err := q.each(ctx, func(rows driver.Rows) error {
		var o schema.Outcome
		var kind string
		if err := rows.Scan(&kind, &o.At, &o.Playbook, &o.Journey, &o.JourneyVersion, &o.EnrollmentID, &o.StepKey, &o.Segment, &o.Experiment, &o.Variant, &o.Reason); err != nil {
			return err
		}
		o.Kind = schema.OutcomeKind(kind)
		f.take(&o)
		return nil
	}, `SELECT toString(kind), toUnixTimestamp64Milli(at), toString(playbook), toString(journey), toString(journey_version), enrollment_id, toString(step_key),
		toString(segment), toString(experiment), toString(variant), toString(reason)
		FROM outcomes_unique WHERE user_token = ? AND toUnixTimestamp64Milli(at) <= ? ORDER BY sequence`, token, at.UnixMilli())
	if err != nil {
		return Past{}, translate(err, s.addr, "read the past of "+token)
	}
	if f.past.UpdatedAt == 0 {
		return Past{}, &schema.Error{Code: schema.CodeNotFound, Message: "nothing is on record of this user by then"}
	}
	f.past.Stage = f.stage(priority)
	return f.past, nil
}

// pastFold puts outcomes together in the order in which they were recorded.
type pastFold struct {
	past    Past
	version map[string]string // by enrollment: the playbook it is pinned to
}

func (f *pastFold) take(o *schema.Outcome) {
	f.past.UpdatedAt = max(f.past.UpdatedAt, o.At)
	if o.Reason != flagEvaluated {
		f.past.Playbook = o.Playbook
	}
	switch o.Kind {
	case schema.SegmentEntered, schema.SegmentLeft:
		m := f.segment(o.Segment)
		m.In, m.Since, m.Reason = o.Kind == schema.SegmentEntered, o.At, o.Reason
	case schema.EnrollmentStarted:
		f.version[o.EnrollmentID] = o.JourneyVersion
		f.past.Journeys = append(f.past.Journeys, schema.JourneyStatus{Journey: o.Journey, EnrollmentID: o.EnrollmentID, StartedAt: o.At})
	case schema.StepEntered:
		if j := f.enrollment(o.EnrollmentID); j != nil {
			j.StepKey = o.StepKey
		}
	case schema.EnrollmentEnded:
		if j := f.enrollment(o.EnrollmentID); j != nil {
			j.Ended, j.EndedAt = o.Reason, o.At
		}
	case schema.GoalConverted:
		if j := f.enrollment(o.EnrollmentID); j != nil {
			j.Converted = true
		}
	case schema.ExposureRecorded:
		if f.past.Variants == nil {
			f.past.Variants = make(map[string]string)
		}
		if _, met := f.past.Variants[o.Experiment]; !met {
			f.past.Variants[o.Experiment] = o.Variant
		}
	default: // what became of an action is no state
	}
}

func (f *pastFold) segment(key string) *schema.Membership {
	for i := range f.past.Segments {
		if f.past.Segments[i].Segment == key {
			return &f.past.Segments[i]
		}
	}
	f.past.Segments = append(f.past.Segments, schema.Membership{Segment: key})
	return &f.past.Segments[len(f.past.Segments)-1]
}

func (f *pastFold) enrollment(id string) *schema.JourneyStatus {
	for i := range f.past.Journeys {
		if f.past.Journeys[i].EnrollmentID == id {
			return &f.past.Journeys[i]
		}
	}
	return nil
}

// stage is told as journey tells it: the step of the open enrollment of highest priority, else how the last one ended, else `new`.
func (f *pastFold) stage(priority func(playbook, journey string) int) string {
	stage, best, open, last := "new", 0, false, int64(-1)
	for i := range f.past.Journeys {
		j := &f.past.Journeys[i]
		if j.Ended != "" {
			if !open && j.EndedAt > last {
				stage, last = j.Journey+"/"+j.Ended, j.EndedAt
			}
			continue
		}
		p := 0
		if priority != nil {
			p = priority(f.version[j.EnrollmentID], j.Journey)
		}
		if !open || p > best {
			stage, best, open = j.Journey+"/"+j.StepKey, p, true
		}
	}
	return stage
}
