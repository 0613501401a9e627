package main

import (
	"fmt"
	"io"
	"time"
)

// live shows how far a round is: a bar on a person's screen, a line now and then where a program reads.
type live struct {
	*progress

	w     io.Writer
	what  string
	total int
	next  time.Time
}

// liveEvery is the time between two lines.
const liveEvery = 5 * time.Second

func newLive(w io.Writer, what string, total int) *live {
	return &live{progress: newProgress(w, what, int64(total)), w: w, what: what, total: total, next: time.Now().Add(liveEvery)}
}

func (l *live) show(done int) {
	l.set(int64(done))
	if l.bar == nil && time.Now().After(l.next) {
		say(l.w, "%s: %d of %d\n", l.what, done, l.total)
		l.next = time.Now().Add(liveEvery)
	}
}

// loadResult is what a load test found: medians over the rounds, but latencies over all events of all rounds.
type loadResult struct {
	Playbook     string          `json:"playbook"`
	PerSecond    float64         `json:"events_per_second"`
	Baseline     float64         `json:"baseline_signals_per_second"` // 0: not measured
	Ratio        float64         `json:"ratio"`                       // the median of the rounds' own ratios
	Decision     spread          `json:"decision_ms"`
	Profile      spread          `json:"profile_ms"`
	Writes       float64         `json:"temporal_transactions_per_event"`          // 0: not to be known from outside
	BaseWrites   float64         `json:"baseline_temporal_transactions_per_event"` // likewise
	CPU          float64         `json:"cpu_us_per_event"`                         // of this process; with the embedded engine all but ClickHouse
	BaseCPU      float64         `json:"baseline_cpu_us_per_event"`
	LagMost      int             `json:"ingest_lag_max"`
	CheckedUsers int             `json:"checked_users"` // workflows that were asked what they counted
	Lost         int             `json:"lost"`
	Twice        int             `json:"counted_twice"`
	Rounds       []measuredRound `json:"rounds"`

	baselines, baselineWrites, baselineCPU []float64
}

func (r *loadResult) sum() {
	var decision, profile []time.Duration
	var perSecond, writes, cpu, ratios []float64
	for n, m := range r.Rounds {
		perSecond, writes, cpu = append(perSecond, m.PerSecond), append(writes, m.Writes), append(cpu, m.CPU)
		if n < len(r.baselines) {
			ratios = append(ratios, m.PerSecond/r.baselines[n])
		}
		decision, profile = append(decision, m.decision...), append(profile, m.profile...)
		r.LagMost = max(r.LagMost, m.LagMost)
		r.CheckedUsers += m.checked.users
		r.Lost += m.checked.lost
		r.Twice += m.checked.twice
	}
	r.PerSecond, r.Writes, r.CPU, r.BaseCPU = median(perSecond), median(writes), median(cpu), median(r.baselineCPU)
	r.Baseline, r.BaseWrites, r.Ratio = median(r.baselines), median(r.baselineWrites), median(ratios)
	r.Decision, r.Profile = spreadOf(decision), spreadOf(profile)
}

// verdict is an error where an event was lost or counted twice.
func (r *loadResult) verdict() error {
	if r.Lost == 0 && r.Twice == 0 {
		return nil
	}
	return fmt.Errorf("%d events lost, %d counted twice", r.Lost, r.Twice)
}

func (r *loadResult) print(io stdio) {
	events := 0
	for n, m := range r.Rounds {
		events += m.Events
		say(io.out, "round %d: %d events in %.2f s: %.0f /s (decided %.0f /s, archived %.0f /s)", n+1, m.Events, m.Seconds, m.PerSecond, m.Decided, m.Archived)
		if n < len(r.baselines) {
			say(io.out, ", baseline %.0f /s", r.baselines[n])
		}
		if m.Behind > 0 {
			say(io.out, ", the load itself at most %.1f ms late", m.Behind)
		}
		say(io.out, "\n")
	}
	say(io.out, "\nevents to committed state and archived rows  %.0f /s\n", r.PerSecond)
	if r.Baseline > 0 {
		say(io.out, "one SDK signal per event                     %.0f /s   ratio %.2f\n", r.Baseline, r.Ratio)
	}
	say(io.out, "event to decision                            %s\nevent to profile                             %s\n", r.Decision, r.Profile)
	if r.Writes > 0 {
		say(io.out, "Temporal transactions per event              %.3f (baseline %.3f)\n", r.Writes, r.BaseWrites)
	}
	if r.CPU > 0 {
		say(io.out, "processor time per event                     %.0f µs (baseline %.0f µs)\n", r.CPU, r.BaseCPU)
	}
	say(io.out, "ingest lag, at most                          %d events\n", r.LagMost)
	say(io.out, "checked at the end                           %d events, %d workflows: %d lost, %d counted twice\n", events, r.CheckedUsers, r.Lost, r.Twice)
}
