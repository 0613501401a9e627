package verify

import (
	"cmp"
	"slices"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// folding is one run through a user's log.
type folding struct {
	in    *Inputs
	user  *User
	live  *journey.State
	flips map[uint64]int64 // events that are taken only after time has passed to a moment

	state    journey.State
	outcomes map[string]schema.Outcome
	version  int // how many of live.Lived are in force
	idle     int // calls at one moment to no effect

	causedAt map[string]int64 // by event id: the moment of its first outcome on record
	lateBy   map[string]int64 // by event id: the clock by which an action of its moment was too late
	lateAt   []late           // likewise of moments of time alone

	applied    map[string]uint64 // event ids, with the place of the first
	twice      []twice
	trusted    int    // events whose reading the state decided
	uncertain  int    // events whose reading nothing decided
	candidates []flip // where time may have passed first
}

type late struct{ at, clock int64 }

type twice struct {
	id            string
	first, second uint64
}

type flip struct {
	sequence uint64
	until    int64
}

// maxIdle bounds how often time may be asked at one moment without anything coming of it.
const maxIdle = 10_000

func newFolding(in *Inputs, user *User, flips map[uint64]int64) *folding {
	f := &folding{
		in: in, user: user, live: user.State, flips: flips, state: journey.State{Token: user.Token},
		outcomes: make(map[string]schema.Outcome), causedAt: make(map[string]int64), lateBy: make(map[string]int64),
		applied: make(map[string]uint64),
	}
	for i := range user.Outcomes {
		o := &user.Outcomes[i]
		expired := o.Kind == schema.ActionSuppressed && o.Reason == journey.SuppressedExpired
		switch {
		case !decided(o.Kind):
		case o.CauseEventID == "" && expired:
			f.lateAt = append(f.lateAt, late{o.At, o.RecordedAt})
		case o.CauseEventID != "":
			if at, known := f.causedAt[o.CauseEventID]; !known || o.At < at {
				f.causedAt[o.CauseEventID] = o.At
			}
			if expired {
				f.lateBy[o.CauseEventID] = o.RecordedAt
			}
		}
	}
	slices.SortFunc(f.lateAt, func(a, b late) int { return cmp.Compare(a.at, b.at) })
	return f
}

// decided reports whether outcomes of a kind come from journey.Next; the others tell how a delivery went.
func decided(kind schema.OutcomeKind) bool {
	return kind != schema.ActionDelivered && kind != schema.ActionFailed
}

// run folds the log up to where the workflow is.
func (f *folding) run() {
	newest := max(f.live.Seen.Newest(), f.in.Settled.Ingest)
	var last *schema.UserEvent // the last event, while nothing has come of it
	for i := range f.user.Events {
		e := &f.user.Events[i]
		if e.Sequence > newest || !f.reaches(e) {
			continue
		}
		f.renewAlone(e.Sequence)
		f.follow(e.ReceivedAt, last)
		last = f.event(e)
	}
	f.renewAlone(^uint64(0))
	f.catchUp(last)
}

// reaches reports whether an event is one that the workflow must have taken.
func (f *folding) reaches(e *schema.UserEvent) bool {
	if v := f.bringing(e.Sequence); v != nil {
		return true // the state says that it came with a playbook
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

// renewAlone puts in force what came without an event before the event at a place.
func (f *folding) renewAlone(before uint64) {
	for f.version < len(f.live.Lived) {
		v := &f.live.Lived[f.version]
		if v.Sequence >= before {
			return
		}
		f.version++
		if !v.Alone {
			continue // its event is not in the log; the next one brings it
		}
		f.advance(v.At)
		f.next(journey.Input{Playbook: v.Playbook, Revision: v.Revision}, v.At)
	}
}

// event takes one event, and returns it where nothing came of it.
func (f *folding) event(e *schema.UserEvent) *schema.UserEvent {
	if v := f.bringing(e.Sequence); v != nil {
		f.version = slices.IndexFunc(f.live.Lived, func(x journey.Version) bool { return x == *v }) + 1
	}
	if until := f.flips[e.Sequence]; until != 0 {
		f.advance(until)
	}
	if at := f.causedAt[e.EventID]; at > journey.Moment(&f.state, e) {
		f.advance(at) // it was taken when time had passed already
	}
	f.advance(journey.Moment(&f.state, e))
	counted, outcomes := f.state.Counts.Applied, len(f.outcomes)
	v := f.current()
	f.next(journey.Input{Event: e, Playbook: v.Playbook, Revision: v.Revision}, f.lateBy[e.EventID])
	if f.state.Counts.Applied > counted {
		if first, known := f.applied[e.EventID]; known {
			f.twice = append(f.twice, twice{e.EventID, first, e.Sequence})
		} else {
			f.applied[e.EventID] = e.Sequence
		}
	}
	if len(f.outcomes) > outcomes {
		return nil
	}
	return e
}

// follow lets time pass up to a moment on the wall, waking when a decision asked for it. The first time that something comes of
// it, an event that came just before and caused nothing may as well have come after.
func (f *folding) follow(until int64, last *schema.UserEvent) {
	for {
		wake := journey.WakeAt(&f.state)
		if wake == 0 || wake > until || f.idle > maxIdle {
			return
		}
		last = f.wake(wake, last)
	}
}

func (f *folding) wake(at int64, last *schema.UserEvent) *schema.UserEvent {
	before := len(f.outcomes)
	f.advance(at)
	if journey.WakeAt(&f.state) == at {
		f.idle++
	}
	if len(f.outcomes) > before && last != nil {
		f.candidates = append(f.candidates, flip{last.Sequence, at})
		return nil
	}
	return last
}

// catchUp lets time pass as far as it has for the workflow: to its clock, and over every moment that it has left behind.
func (f *folding) catchUp(last *schema.UserEvent) {
	asked := journey.WakeAt(f.live)
	for f.idle <= maxIdle {
		wake := journey.WakeAt(&f.state)
		if wake == 0 || wake > f.in.AsOf || wake > f.live.Clock && asked != 0 && wake >= asked {
			return
		}
		last = f.wake(wake, last)
	}
}

// advance lets what is due by a moment happen; what was decided too late on record, by that record's clock.
func (f *folding) advance(until int64) {
	for len(f.lateAt) > 0 && f.lateAt[0].at <= until {
		l := f.lateAt[0]
		f.lateAt = f.lateAt[1:]
		f.pass(l.at-1, 0)
		f.pass(l.at, l.clock)
	}
	f.pass(until, 0)
}

func (f *folding) pass(until, clock int64) {
	state, decision := journey.Advance(f.in.Books, f.state, until, clock)
	f.take(state, decision)
}

func (f *folding) next(in journey.Input, now int64) {
	state, decision := journey.Next(f.in.Books, f.state, in, now)
	f.take(state, decision)
}

func (f *folding) take(state journey.State, decision journey.Decision) {
	f.state = state
	for _, o := range decision.Outcomes {
		f.outcomes[o.OutcomeID] = o
	}
}
