package experiment

import (
	"iter"
	"slices"
)

// Window is the time after an exposure in which something counts, both ends included. Both are in one unit, days as a rule:
// day-7 retention is {Delay: 7, Length: 1}.
type Window struct{ Delay, Length float64 }

// Over says whether the whole window has passed for a user who was exposed so long ago. Before that a user has not had the
// chance, and is no failure: counted as one, every new user lowers the rate.
func (w Window) Over(age float64) bool { return age >= w.Delay+w.Length }

// Contains says whether something so long after the exposure counts.
func (w Window) Contains(after float64) bool { return w.Delay <= after && after <= w.Delay+w.Length }

// FollowUp is one exposed user: how long ago the exposure was, and how long after it the user came back, each time.
type FollowUp struct {
	Age     float64
	Returns []float64
}

// Retention is how many of the eligible users came back.
type Retention struct {
	Eligible Moments // of a proportion: one per user whose window is over, 1 where the user came back in it
	Exposed  int64   // all users, those whose window still runs among them
}

// RetentionOf counts the users of one arm.
func RetentionOf(w Window, users iter.Seq[FollowUp]) Retention {
	var exposed, eligible, retained int64
	for u := range users {
		exposed++
		if !w.Over(u.Age) {
			continue
		}
		eligible++
		if slices.ContainsFunc(u.Returns, w.Contains) {
			retained++
		}
	}
	return Retention{Eligible: FromCounts(eligible, retained), Exposed: exposed}
}
