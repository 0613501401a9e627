package experiment

import (
	"fmt"
	"math"
)

// Outlook is what to expect of a comparison that stops as soon as its anytime-valid interval leaves zero. It is exact for
// normal estimates: an integral over all paths that have not stopped, no simulation.
type Outlook struct {
	Stopped     []float64 // chance of having stopped at each look or before it, under the plan's lift
	Power       float64   // the last of them
	WrongSign   float64   // chance of stopping on the wrong side
	MeanUsers   float64   // until it stops or the last look has passed, under the plan's lift
	FalseAlarms float64   // chance of stopping at one of these looks where there is no effect: below alpha
}

// Outlook returns what to expect of looks at so many users of both arms together, which must grow.
func (p Plan) Outlook(looks []int64, opts Options) (Outlook, error) {
	p, opts, err := p.prepared(opts)
	if err != nil {
		return Outlook{}, err
	}
	if len(looks) == 0 || len(looks) > maxLooks {
		return Outlook{}, fmt.Errorf("%d looks; there must be 1 to %d", len(looks), maxLooks)
	}
	last := int64(0)
	information, bounds := make([]float64, len(looks)), make([]float64, len(looks))
	for i, users := range looks {
		if users <= last || users > MaxUsers {
			return Outlook{}, fmt.Errorf("look %d is at %d users; looks must grow, from 1 to %d", i+1, users, int64(MaxUsers))
		}
		last = users
		information[i] = float64(users) / float64(looks[0])
		bounds[i] = opts.anytimeMultiple(float64(users))
	}
	drift := p.difference() * math.Sqrt(float64(looks[0])/p.variance())
	above, below := stops(information, bounds, math.Abs(drift))
	o := Outlook{Stopped: make([]float64, len(looks))}
	stopped := 0.0
	for i := range looks {
		stopped += above[i] + below[i]
		o.Stopped[i] = stopped
		o.WrongSign += below[i]
		o.MeanUsers += (above[i] + below[i]) * float64(looks[i])
	}
	o.Power = stopped
	o.MeanUsers += (1 - stopped) * float64(last)
	above, below = stops(information, bounds, 0)
	for i := range looks {
		o.FalseAlarms += above[i] + below[i]
	}
	return o, nil
}

// SequentialUsers returns how many users of both arms a comparison that is looked at every so many users must be allowed in
// the worst case, so that it finds the lift with the plan's power: more than Users, and on average it stops long before.
func (p Plan) SequentialUsers(every int64, opts Options) (int64, error) {
	p, opts, err := p.prepared(opts)
	if err != nil {
		return 0, err
	}
	if every < 1 {
		return 0, fmt.Errorf("a look every %d users; it must be 1 or more", every)
	}
	w := newWalk(math.Abs(p.difference()) * math.Sqrt(float64(every)/p.variance()))
	stopped := 0.0
	for look := range maxLooks {
		information := float64(look + 1)
		bound := opts.anytimeMultiple(information * float64(every))
		above, below := w.leave(information, bound)
		if stopped += above + below; stopped >= p.Power {
			return (int64(look) + 1) * every, nil
		}
		w = w.stay(information, bound)
	}
	return 0, fmt.Errorf("%w within %d looks every %d users", ErrUnreachable, maxLooks, every)
}
