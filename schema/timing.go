package schema

import "time"

// Lateness classes an event by how far its event time lies behind its receipt.
type Lateness string

// The classes. Only Historic events are barred from causing actions.
const (
	OnTime   Lateness = "on_time"
	Late     Lateness = "late"     // more than LateAfter behind
	Historic Lateness = "historic" // more than HistoricAfter behind, or marked as backfill
)

// Bounds of event time against the time of receipt.
const (
	LateAfter     = 15 * time.Minute
	HistoricAfter = 72 * time.Hour
	ClampAfter    = 5 * time.Minute // further ahead: taken as now, and marked
	FutureLimit   = 24 * time.Hour  // further ahead: refused
	PastLimit     = 10 * 365 * 24 * time.Hour
)

// Timing is an event's time, corrected.
type Timing struct {
	OccurredAt time.Time
	Lateness   Lateness
	Clamped    bool // the event claimed to come from the future
}

// TimingOf corrects e's event time for the publisher's clock skew (occurred_at + received − sent_at, where sent_at is
// plausible), bounds it, and classes it. The answer depends on nothing but its arguments, so a redelivered event is
// classed as it was the first time. It returns a *Rejection for times outside the bounds.
func TimingOf(e *Event, received time.Time) (Timing, error) { return timingOf(e, received, received) }

// timingOf is TimingOf for an event that came first at another moment than now: its own clock is compared with that moment, how
// late it is with this one.
func timingOf(e *Event, first, received time.Time) (Timing, error) {
	at := e.OccurredAt
	skew := first.Sub(e.SentAt)
	switch {
	case at.IsZero():
		at = first // by our own clock, whatever the publisher's says of the sending
	case !e.SentAt.IsZero() && !e.SentAt.Before(at) && skew.Abs() < PastLimit:
		at = at.Add(skew)
	}
	ahead := at.Sub(received)
	timing := Timing{OccurredAt: at.UTC().Truncate(time.Millisecond), Lateness: OnTime}
	switch {
	case ahead > FutureLimit:
		return Timing{}, reject(ReasonFuture, "occurred_at", "lies %s after the time of receipt; at most %s is taken", ahead.Round(time.Second), FutureLimit)
	case ahead > ClampAfter:
		timing.OccurredAt, timing.Clamped = received.UTC().Truncate(time.Millisecond), true
	case -ahead > PastLimit:
		return Timing{}, reject(ReasonTooOld, "occurred_at", "is older than 10 years")
	case -ahead > HistoricAfter:
		timing.Lateness = Historic
	case -ahead > LateAfter:
		timing.Lateness = Late
	}
	if e.Backfill {
		timing.Lateness = Historic
	}
	return timing, nil
}
