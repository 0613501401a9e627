package segment

import (
	"maps"
	"slices"

	"github.com/onramphq/onramp/schema"
)

// Steady reports whether the rule's answer depends on how many events of that name there are and on nothing that they carry, traits apart,
// nor on when exactly each of them happened: then More says what the answer will be. It is false where in doubt. It speaks of a user who has
// events: the first ever is where time_to counts from.
func (r *Rule) Steady(event string) bool {
	for i := range r.terms {
		if !r.terms[i].steady(r.set, event) {
			return false
		}
	}
	return true
}

func (t *term) steady(set *Set, event string) bool {
	switch t.kind {
	case termInactive, termSeen, termScore, termTimeSince, termTimeUntil, termSegment, termSegmentFor, termVariant, termLocalTime, termLocalWeekday:
		return true // counts nothing
	default:
	}
	if !set.slots[t.slot].takes(event) {
		return true
	}
	slot := &set.slots[t.slot]
	switch t.kind {
	case termCount, termSinceFirst, termSinceLast:
		return slot.Property == "" && slot.second == nil && slot.first.filter == nil
	default:
		return false
	}
}

// Counts reports whether a second event of that name can mean more to the rule than the first: whether it counts them.
func (r *Rule) Counts(event string) bool {
	return slices.ContainsFunc(r.terms, func(t term) bool {
		return t.kind == termCount && r.set.slots[t.slot].takes(event)
	})
}

// takes reports whether events of that name can find the slot.
func (s *Slot) takes(event string) bool {
	return slices.ContainsFunc(s.picks(), func(p *pick) bool { return p.trait == "" && (p.event == "" || p.event == event) })
}

// More returns the facts as they will be when so many more events of that name have come at a moment, in Unix milliseconds, as all the
// sets will count them that the user lives under. The events carry nothing: what filters and properties make of them is not known. f is
// left alone.
func More(f *Facts, event string, n int, at int64, sets ...*Set) Facts {
	more := Facts{FirstSeen: f.FirstSeen, LastSeen: f.LastSeen, Series: maps.Clone(f.Series), Traits: f.Traits}
	for _, set := range sets {
		for _, i := range slices.Concat(set.byEvent[event], set.byAny) {
			if series := f.Series[set.slots[i].Key]; series != nil {
				more.Series[set.slots[i].Key] = series.clone()
			}
		}
	}
	for range n {
		done := make(Done)
		for _, set := range sets {
			set.Apply(&more, &schema.UserEvent{EventName: event, OccurredAt: at, ReceivedAt: at}, done)
		}
	}
	return more
}
