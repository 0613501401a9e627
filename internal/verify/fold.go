package verify

import (
	"cmp"
	"slices"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// folding is one run through a user's log. Between which events time passed, and when, the outcomes on record say.
type folding struct {
	in   *Inputs
	user *User
	log  []schema.UserEvent
	live *journey.State

	state    journey.State
	outcomes map[string]schema.Outcome
	version  int // how many of live.Lived are in force
	idle     int // calls at one moment to no effect

	alone     []*schema.Outcome // that no event caused, in the order of the log, and not come to yet
	decidedAt map[uint64]int64  // by the place of an event: the workflow's clock when it was taken

	applied   map[string]uint64 // event ids, with the place of the first
	twice     []twice
	trusted   int // events whose reading the state decided
	uncertain int // events whose reading nothing decided
}

type twice struct {
	id            string
	first, second uint64
}

// maxIdle bounds how often time may be asked at one moment without anything coming of it.
const maxIdle = 10_000

// fold folds the log as the workflow did.
func fold(in *Inputs, user *User, log []schema.UserEvent) *folding {
	f := &folding{
		in: in, user: user, log: log, live: user.State, state: journey.State{Token: user.Token}, outcomes: make(map[string]schema.Outcome),
		decidedAt: make(map[uint64]int64), applied: make(map[string]uint64),
	}
	for i := range user.Outcomes {
		o := &user.Outcomes[i].Outcome
		if !decided(o) {
			continue
		}
		if _, known := f.decidedAt[o.LogSequence]; !known {
			f.decidedAt[o.LogSequence] = o.DecidedAt
		}
		if o.CauseEventID == "" {
			f.alone = append(f.alone, o)
		}
	}
	slices.SortStableFunc(f.alone, func(a, b *schema.Outcome) int { return cmp.Compare(a.LogSequence, b.LogSequence) })
	f.run()
	return f
}

// placeless reports whether an outcome that follows does not say when it was decided: then time may have passed where the fold does not know.
func (f *folding) placeless() bool {
	return slices.ContainsFunc(f.user.Outcomes, func(o Outcome) bool {
		_, follows := f.outcomes[o.OutcomeID]
		return follows && o.LogSequence == 0
	})
}

// decided reports whether an outcome comes from journey.Next; the others tell how a delivery went, or that a flag treated the user.
func decided(o *schema.Outcome) bool {
	return o.Kind != schema.ActionDelivered && o.Kind != schema.ActionFailed && (o.Kind != schema.ExposureRecorded || o.Reason != journey.FlagEvaluated)
}

// run folds the log up to where the workflow is.
func (f *folding) run() {
	newest := max(f.live.Seen.Newest(), f.in.Settled.Ingest)
	for i := range f.log {
		e := &f.log[i]
		if e.Sequence > newest || !f.reaches(e) {
			continue
		}
		if f.awaited(e) {
			break
		}
		f.pass(e.Sequence)
		f.event(e)
	}
	f.pass(^uint64(0))
	f.catchUp()
	if over := f.live.HandedOver; over != nil {
		f.take(journey.Leave(f.state, *over))
	}
}

// awaited reports whether an event waits for somebody to hand over, with all that came after it.
func (f *folding) awaited(e *schema.UserEvent) bool {
	return e.From != "" && !f.live.HasMerged(e.From) && e.ReceivedAt > f.in.AsOf-overdueAfter.Milliseconds()
}

// input is an event as the workflow had it, with what was handed over by it. Of who had no workflow nothing was.
func (f *folding) input(e *schema.UserEvent) journey.Input {
	v := f.current()
	in := journey.Input{Event: e, Playbook: v.Playbook, Revision: v.Revision}
	if e.From != "" {
		taken, known := f.user.Taken[e.From]
		if !known {
			taken = journey.State{Token: e.From}
		}
		in.Taken = &taken
	}
	return in
}

// reaches reports whether an event is one that the workflow must have taken.
func (f *folding) reaches(e *schema.UserEvent) bool {
	if v := f.bringing(e.Sequence); v != nil {
		return true // the state says that it came with a playbook
	}
	if e.From != "" {
		return true // who becomes one with the user does, whatever else it says
	}
	remembered := e.Sequence > f.live.Seen.Floor
	if f.in.refused(e.Sequence) { // valid, and yet a dead letter of ingest's
		if !remembered {
			f.uncertain++
		}
		return remembered && f.live.Seen.Has(e.Sequence)
	}
	reads := f.book().Reads(e.EventName, len(e.Traits) > 0)
	for _, book := range f.in.Stored {
		if book.Reads(e.EventName, len(e.Traits) > 0) == reads {
			continue
		}
		if !remembered {
			f.uncertain++
			return reads
		}
		f.trusted++
		return f.live.Seen.Has(e.Sequence)
	}
	return reads
}

// bringing is the version that came with the event at a place.
func (f *folding) bringing(sequence uint64) *journey.Version {
	for i := f.version; i < len(f.live.Lived); i++ {
		if v := &f.live.Lived[i]; !v.Alone && v.Sequence == sequence {
			return v
		}
	}
	return nil
}

// current is the version in force, the first one before anything came.
func (f *folding) current() *journey.Version { return &f.live.Lived[max(f.version-1, 0)] }

func (f *folding) book() *playbook.Playbook { return f.in.Books.Playbook(f.current().Playbook) }

// pass lets happen what is on record, or known by the state, to have come without an event before the event at a place. What the log
// itself brings with an event is left to that.
func (f *folding) pass(before uint64) {
	for len(f.alone) > 0 && f.alone[0].LogSequence < before {
		o := f.alone[0]
		f.alone = f.alone[1:]
		f.renew(before, func(v *journey.Version) bool {
			return v.Sequence < o.LogSequence || v.At < o.At || v.Playbook == o.Playbook && f.state.Playbook != o.Playbook
		})
		if _, come := f.outcomes[o.OutcomeID]; !come && (o.At <= f.live.Clock || o.LogSequence < f.live.Seen.Newest()) {
			f.take(journey.Advance(f.in.Books, f.state, o.At, o.DecidedAt))
		}
	}
	f.renew(before, func(*journey.Version) bool { return true })
}

// renew puts in force what came without an event before the event at a place, as far as it is due.
func (f *folding) renew(before uint64, due func(*journey.Version) bool) {
	for f.version < len(f.live.Lived) {
		v := &f.live.Lived[f.version]
		if v.Sequence >= before || v.Alone && !due(v) {
			return
		}
		f.version++
		if !v.Alone {
			continue // its event is not in the log; the next one brings it
		}
		f.take(journey.Advance(f.in.Books, f.state, v.At, v.At))
		f.next(journey.Input{Playbook: v.Playbook, Revision: v.Revision}, v.At)
	}
}

// event takes one event.
func (f *folding) event(e *schema.UserEvent) {
	if v := f.bringing(e.Sequence); v != nil {
		f.version = slices.IndexFunc(f.live.Lived, func(x journey.Version) bool { return x == *v }) + 1
	}
	counted := f.state.Counts.Applied
	f.next(f.input(e), f.decidedAt[e.Sequence])
	if f.state.Counts.Applied == counted {
		return
	}
	if first, known := f.applied[e.EventID]; known {
		f.twice = append(f.twice, twice{e.EventID, first, e.Sequence})
	} else {
		f.applied[e.EventID] = e.Sequence
	}
}

// catchUp lets time pass as far as it has for the workflow to no effect that is on record: over every moment that it has left behind.
func (f *folding) catchUp() {
	own := *f.live
	own.HandedOver = nil // for what was due in the user's own time
	asked := journey.WakeAt(&own)
	for f.idle <= maxIdle {
		wake := journey.WakeAt(&f.state)
		if wake == 0 || wake > f.user.AsOf || wake > f.live.Clock && asked != 0 && wake >= asked {
			return
		}
		f.take(journey.Advance(f.in.Books, f.state, wake, 0))
		if journey.WakeAt(&f.state) == wake {
			f.idle++
		}
	}
}

func (f *folding) next(in journey.Input, now int64) {
	f.take(journey.Next(f.in.Books, f.state, in, now))
}

func (f *folding) take(state journey.State, decision journey.Decision) {
	f.state = state
	for _, o := range decision.Outcomes {
		f.outcomes[o.OutcomeID] = o
	}
}
