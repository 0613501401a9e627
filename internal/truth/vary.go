package truth

import (
	"slices"

	"pgregory.net/rapid"
)

// Repeated is the case with every message delivered once more and every event published once more, at a random later place.
func (c *Case) Repeated(t *rapid.T) *Case {
	again := *c
	again.Log = slices.Clone(c.Log)
	for i, old := range c.Log {
		if old.Event == nil {
			continue
		}
		first := slices.IndexFunc(again.Log, func(x Delivery) bool { return x.Event == old.Event })
		place := rapid.IntRange(first+1, len(again.Log)).Draw(t, "repeated after")
		e := *old.Event
		e.Sequence = 100_000 + uint64(i)
		at := again.Log[place-1].At
		again.Log = slices.Insert(again.Log, place, Delivery{old.Event, at, old.Revision}, Delivery{&e, at, old.Revision})
	}
	return &again
}

// Punctual is the case with every event once, five hours from one to the next, received as it happens.
func (c *Case) Punctual() *Case {
	return c.rewritten(func(e *Event) { e.Received = e.Claimed })
}

// Shuffled is Punctual, received at once when the last has happened and in any order.
func (c *Case) Shuffled(t *rapid.T) *Case {
	late := c.rewritten(func(*Event) {})
	order := rapid.Permutation(late.Log).Draw(t, "order")
	for i := range order {
		order[i].Sequence = uint64(i + 1)
	}
	late.Log = order
	return late
}

// Backfilled is Punctual, received in order but long after it happened.
func (c *Case) Backfilled(after int64) *Case {
	return c.rewritten(func(e *Event) { e.Received += after })
}

// rewritten makes a log of the first deliveries of all events; Received is the time of the last.
func (c *Case) rewritten(change func(e *Event)) *Case {
	other := *c
	other.Log = nil
	start := c.Log[0].At
	known := map[string]bool{}
	for _, d := range c.Log {
		if d.Event == nil || known[d.ID] {
			continue
		}
		known[d.ID] = true
		e := *d.Event
		e.Sequence, e.Backfill = uint64(len(known)), false
		e.Claimed = start + int64(len(known))*5*hour
		other.Log = append(other.Log, Delivery{Event: &e})
	}
	last := other.Log[len(other.Log)-1].Claimed
	for i := range other.Log {
		e := other.Log[i].Event
		e.Received = last
		change(e)
		e.resolve()
		other.Log[i].At = e.Received
	}
	other.End = last + 400*hour
	return &other
}

// NeverExpires takes out when actions become too old to send.
func (b *Book) NeverExpires() {
	b.Expire = 0
	for _, j := range b.Journeys {
		j.walk(func(s, _ *Step) { s.Expire = 0 })
	}
}
