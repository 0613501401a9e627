package verify

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// folding is one run through a user's log.
type folding struct {
	in      *Inputs
	user    *User
	log     []schema.UserEvent
	live    *journey.State
	flips   map[uint64]int64 // events that are taken only after time has passed to a moment
	careful bool             // look for the moment at which an event that caused nothing was taken

	state    journey.State
	outcomes map[string]schema.Outcome
	version  int // how many of live.Lived are in force
	idle     int // calls at one moment to no effect

	alone    []int64          // moments at which time alone had outcomes on record
	causedAt map[string]int64 // by event id: the moment of its first outcome on record
	lateBy   map[string]int64 // by event id: the clock by which an action of its moment was too late
	lateAt   []late           // likewise of moments of time alone

	applied    map[string]uint64 // event ids, with the place of the first
	twice      []twice
	trusted    int                 // events whose reading the state decided
	uncertain  int                 // events whose reading nothing decided
	candidates []flip              // where time may have passed first
	silent     []*schema.UserEvent // of which no outcome is on record
}

type late struct{ at, clock int64 }

type twice struct {
	id            string
	first, second uint64
}

type flip struct {
	sequence uint64
	until    int64 // negative: see before
}

// momentsTried is over how many changes by time alone an event may be moved for which the record does not say when it was taken.
const momentsTried = 8

// maxIdle bounds how often time may be asked at one moment without anything coming of it.
const maxIdle = 10_000

func newFolding(in *Inputs, user *User, log []schema.UserEvent) *folding {
	f := &folding{
		in: in, user: user, log: log, live: user.State, state: journey.State{Token: user.Token}, outcomes: make(map[string]schema.Outcome),
		causedAt: make(map[string]int64), lateBy: make(map[string]int64), applied: make(map[string]uint64),
	}
	for i := range user.Outcomes {
		o := &user.Outcomes[i]
		if !decided(&o.Outcome) {
			continue
		}
		switch o.CauseEventID {
		case "":
			f.alone = append(f.alone, o.At)
			if tooLate(&o.Outcome) {
				f.lateAt = append(f.lateAt, late{o.At, o.RecordedAt})
			}
		default:
			if at, known := f.causedAt[o.CauseEventID]; !known || o.At < at {
				f.causedAt[o.CauseEventID] = o.At
			}
			if tooLate(&o.Outcome) {
				f.lateBy[o.CauseEventID] = o.RecordedAt
			}
		}
	}
	slices.Sort(f.alone)
	f.alone = slices.Compact(f.alone)
	slices.SortFunc(f.lateAt, func(a, b late) int { return cmp.Compare(a.at, b.at) })
	return f
}

// decided reports whether an outcome comes from journey.Next; the others tell how a delivery went, or that a flag treated the user.
func decided(o *schema.Outcome) bool {
	return o.Kind != schema.ActionDelivered && o.Kind != schema.ActionFailed && (o.Kind != schema.ExposureRecorded || o.Reason != journey.FlagEvaluated)
}

// tooLate reports whether an action was, or may have been, decided too late: of who is held out, only that is on record.
func tooLate(o *schema.Outcome) bool {
	return o.Kind == schema.ActionSuppressed && (o.Reason == journey.SuppressedExpired || o.Reason == journey.SuppressedHoldout)
}

// run folds the log up to where the workflow is.
func (f *folding) run() {
	newest := max(f.live.Seen.Newest(), f.in.Settled.Ingest)
	var idle []uint64 // the latest events of which nothing came
	for i := range f.log {
		e := &f.log[i]
		if e.Sequence > newest || !f.reaches(e) {
			continue
		}
		if f.awaited(e) {
			break
		}
		f.renewAlone(e.Sequence)
		if f.state.Seen.Repeats(e.Sequence, e.EventID) { // no time need have passed: nothing is done about it
			f.next(f.input(e), 0)
			continue
		}
		idle = f.before(e, idle)
		if f.event(e, idle) {
			idle = nil
		} else {
			idle = append(idle, e.Sequence)
		}
	}
	f.renewAlone(^uint64(0))
	f.catchUp(idle)
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

// before lets time pass until an event came. An event of the past can have been taken before what was due when it came: its moment
// needs no time to have passed. A flip says with a minus sign what was still due then.
func (f *folding) before(e *schema.UserEvent, idle []uint64) []uint64 {
	at, caused := f.causedAt[e.EventID]
	switch {
	case e.Lateness != schema.Historic:
		return f.follow(e.ReceivedAt, idle)
	case f.flips[e.Sequence] < 0:
		return f.follow(-f.flips[e.Sequence]-1, idle)
	case caused:
		return f.follow(min(at, e.ReceivedAt), idle)
	}
	for {
		wake, outcomes := journey.WakeAt(&f.state), len(f.outcomes)
		if wake == 0 || wake > e.ReceivedAt || f.idle > maxIdle {
			return idle
		}
		idle = f.wake(wake, idle)
		if len(f.outcomes) > outcomes {
			f.candidates = append(f.candidates, flip{e.Sequence, -wake})
		}
	}
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

// event takes one event, and reports whether anything came of it. idle are those just before, of which nothing came: where it was taken
// only after time had passed, each of them may have been too.
func (f *folding) event(e *schema.UserEvent, idle []uint64) bool {
	until := f.flips[e.Sequence]
	at, caused := f.causedAt[e.EventID]
	until = max(until, at) // time had passed already when it was taken
	if v := f.bringing(e.Sequence); v != nil {
		f.version = slices.IndexFunc(f.live.Lived, func(x journey.Version) bool { return x == *v }) + 1
		until, caused = max(until, v.At), true
	}
	if !caused {
		f.silent = append(f.silent, e)
		if f.careful && until == 0 {
			until = f.search(e)
		}
	}
	if until > journey.Moment(&f.state, e) {
		for _, sequence := range idle {
			f.candidates = append(f.candidates, flip{sequence, until})
		}
	}
	counted := f.state.Counts.Applied
	outcomes := f.takeAt(e, until)
	if f.state.Counts.Applied > counted {
		if first, known := f.applied[e.EventID]; known {
			f.twice = append(f.twice, twice{e.EventID, first, e.Sequence})
		} else {
			f.applied[e.EventID] = e.Sequence
		}
	}
	return len(outcomes) > 0
}

// takeAt takes an event once time has passed to a moment, which may be before its own, and returns what it caused.
func (f *folding) takeAt(e *schema.UserEvent, until int64) []schema.Outcome {
	f.advance(max(until, journey.Moment(&f.state, e)))
	return f.next(f.input(e), f.lateBy[e.EventID])
}

// search finds the moment to which time had passed when an event was taken of which no outcome is on record: the first at which it
// causes none, beginning with its own. 0 is its own.
func (f *folding) search(e *schema.UserEvent) int64 {
	first, _ := slices.BinarySearch(f.alone, journey.Moment(&f.state, e)+1)
	tries := append([]int64{0}, f.alone[first:min(len(f.alone), first+momentsTried)]...)
	for _, until := range tries {
		other := *f
		other.state, other.outcomes = copyOf(&f.state), make(map[string]schema.Outcome)
		if len(other.takeAt(e, until)) == 0 {
			return until
		}
	}
	return 0
}

// copyOf goes through the form in which a state goes from one run of the workflow to the next.
func copyOf(s *journey.State) journey.State {
	raw, err := json.Marshal(s)
	if err != nil {
		return *s // never: a state is made to be written
	}
	var other journey.State
	if err := json.Unmarshal(raw, &other); err != nil {
		return *s // likewise
	}
	return other
}

// follow lets time pass up to a moment on the wall, waking when a decision asked for it. idle are the events just before, of which
// nothing came: the first time that something comes of time alone, each of them may as well have come after. It returns those of
// which that is still to be seen.
func (f *folding) follow(until int64, idle []uint64) []uint64 {
	for {
		wake := journey.WakeAt(&f.state)
		if wake == 0 || wake > until || f.idle > maxIdle {
			return idle
		}
		idle = f.wake(wake, idle)
	}
}

func (f *folding) wake(at int64, idle []uint64) []uint64 {
	before := len(f.outcomes)
	f.advance(at)
	if journey.WakeAt(&f.state) == at {
		f.idle++
	}
	if len(f.outcomes) == before {
		return idle
	}
	first, _ := slices.BinarySearch(f.alone, at)
	for _, until := range f.alone[first:min(len(f.alone), first+momentsTried)] {
		for _, sequence := range idle {
			f.candidates = append(f.candidates, flip{sequence, until})
		}
	}
	return nil
}

// catchUp lets time pass as far as it has for the workflow: to its clock, and over every moment that it has left behind.
func (f *folding) catchUp(idle []uint64) {
	own := *f.live
	own.HandedOver = nil // for what was due in the user's own time
	asked := journey.WakeAt(&own)
	for f.idle <= maxIdle {
		wake := journey.WakeAt(&f.state)
		if wake == 0 || wake > f.in.AsOf || wake > f.live.Clock && asked != 0 && wake >= asked {
			return
		}
		idle = f.wake(wake, idle)
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

func (f *folding) next(in journey.Input, now int64) []schema.Outcome {
	state, decision := journey.Next(f.in.Books, f.state, in, now)
	f.take(state, decision)
	return decision.Outcomes
}

func (f *folding) take(state journey.State, decision journey.Decision) {
	f.state = state
	for _, o := range decision.Outcomes {
		f.outcomes[o.OutcomeID] = o
	}
}
