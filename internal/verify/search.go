package verify

import (
	"maps"
	"slices"

	"github.com/onramphq/onramp/schema"
)

// maxTries bounds how often one user's log is folded.
const maxTries = 96

// eventsTried is how many events before an unexplained outcome may have been taken after it.
const eventsTried = 8

// fold folds the log. Where the result is another than the workflow's, it goes through what the log leaves open, which is whether
// time passed before an event of which no outcome is on record, and comes nearer step by step: first to the record, then to the state.
// What cannot be explained so is told as it is.
func fold(in *Inputs, u *User, log []schema.UserEvent) *folding {
	plain := newFolding(in, u, log)
	plain.run()
	if len(plain.alone) == 0 || plain.distance() == 0 {
		return plain
	}
	best := refold(plain, nil)
	for tries := maxTries; tries > 0 && best.distance() > 0; {
		improved := false
		for _, way := range best.ways() {
			if tries--; tries == 0 {
				break
			}
			if other := refold(best, &way); other.nearer(best) {
				best, improved = other, true
				break
			}
		}
		if !improved {
			break
		}
	}
	if best.distance() > 0 {
		return plain
	}
	return best
}

// refold folds the log again, with one thing the other way round.
func refold(f *folding, way *flip) *folding {
	other := newFolding(f.in, f.user, f.log)
	other.careful, other.flips = true, maps.Clone(f.flips)
	if way != nil {
		if other.flips == nil {
			other.flips = make(map[uint64]int64)
		}
		other.flips[way.sequence] = way.until
	}
	other.run()
	return other
}

// distance is how far the fold is from the workflow: from its state, and from the outcomes on record.
func (f *folding) distance() int {
	apart := 0
	recorded := make(map[string]bool, len(f.user.Outcomes))
	for i := range f.user.Outcomes {
		o := &f.user.Outcomes[i]
		recorded[o.OutcomeID] = true
		if _, follows := f.outcomes[o.OutcomeID]; !follows && f.in.judged(o) {
			apart++
		}
	}
	for id := range f.outcomes {
		if !recorded[id] {
			apart++
		}
	}
	return len(differences(&f.state, f.live)) + apart
}

// nearer reports whether f explains more than other.
func (f *folding) nearer(other *folding) bool {
	a, b := f.explained(), other.explained()
	return a > b || a == b && f.distance() < other.distance()
}

// explained is how many outcomes on record follow from the fold, up to the first that does not.
func (f *folding) explained() int {
	for i := range f.user.Outcomes {
		o := &f.user.Outcomes[i]
		if got, follows := f.outcomes[o.OutcomeID]; f.in.judged(o) && (!follows || got.At != o.At) {
			return i
		}
	}
	return len(f.user.Outcomes)
}

// ways are what may have been the other way round: events that were taken after the first outcome of time alone that does not
// follow, the latest first; then those that came just before something of time alone.
func (f *folding) ways() []flip {
	var ways []flip
	if i := f.explained(); i < len(f.user.Outcomes) && f.user.Outcomes[i].CauseEventID == "" {
		at := f.user.Outcomes[i].At
		for _, e := range slices.Backward(f.silent) {
			if len(ways) < eventsTried && e.ReceivedAt < at && f.flips[e.Sequence] != at {
				ways = append(ways, flip{e.Sequence, at})
			}
		}
	}
	return append(ways, f.candidates...)
}
