package journey

import (
	"slices"
	"time"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// Books gives compiled playbooks by hash. It must hold the version of the input and every version in State.Versions; one it
// does not hold is as good as frozen: its enrollments stay where they are.
type Books interface {
	Playbook(hash string) *playbook.Playbook
}

// Input is an event, or with a nil Event the passing of time. Playbook and Revision name the newest version the sender
// knows; the state never goes back to an older one. Taken is what was handed over of a user who becomes one with this one by the event;
// it is merged in before the event is applied, and once, however often it comes.
type Input struct {
	Event    *schema.UserEvent
	Playbook string
	Revision uint64
	Taken    *State
}

// Decision is what is to be done about an input.
type Decision struct {
	Outcomes  []schema.Outcome       // to record, in order
	Actions   []schema.ActionRequest // to deliver; UserID is left to the caller
	WakeAt    int64                  // when to ask again though no event comes; 0: never
	Duplicate bool                   // the event was known already and changed nothing
}

// HistoricGrace is how long after the latest historic event the present catches up with a user: while a log is being
// replayed, its own times rule, not the clock on the wall.
const HistoricGrace = time.Minute

// maxRounds bounds how often segments and enrollments may push each other on at one moment; maxDue how many due moments one
// call works through before it asks to be called again, if it brings nothing but time.
const (
	maxRounds = 16
	maxDue    = 1000
)

// turn is one call of Next.
type turn struct {
	books    Books
	book     *playbook.Playbook
	state    *State
	now      int64             // the caller's clock: only tells how stale an action is
	sequence uint64            // of the event that came; 0: none did
	at       int64             // the moment of record
	event    *schema.UserEvent // what caused this moment; nil: time alone
	cause    *schema.UserEvent // the event by which somebody becomes one with the user, at its moment; else nil
	renewed  bool              // the playbook changed: ask every rule
	exposed  bool              // an experiment was met at this moment: ask the rules that look at variants
	owed     int64             // when the user should have reached the step that is being entered; 0: now
	changed  map[string]bool   // segments that changed at this moment: entered or not
	wanted   []want            // actions that steps of this moment ask for
	decoded  map[string]any    // the event's properties, once somebody looked at them
	decision Decision
}

// Next answers what an input means for a user. It takes state over: the caller goes on with the one returned. now is the
// caller's clock in Unix milliseconds, read once per call.
func Next(books Books, state State, input Input, now int64) (State, Decision) {
	t := newTurn(books, &state, input.Event, now)
	link, taken := input.Event, t.takes(&input)
	newer := input.Revision > state.Revision || state.Playbook == ""
	if newer && books.Playbook(input.Playbook) == nil || !newer && t.book == nil {
		return state, t.decision
	}
	if !t.admits(&input, newer, taken != nil) {
		return state, t.decision
	}
	moment := now
	if input.Event != nil || taken != nil {
		moment = t.comes(link, taken)
	}
	if t.book != nil {
		t.advance(moment, newer || input.Event != nil || taken != nil)
	}
	if newer {
		t.renew(input, max(state.Clock, moment))
	}
	if taken != nil {
		t.takeOver(taken, link, input.Event, max(state.Clock, moment))
	}
	if input.Event != nil {
		t.apply(input.Event, max(state.Clock, moment))
	}
	t.decision.WakeAt = WakeAt(&state)
	state.Sequence += uint64(len(t.decision.Outcomes))
	return state, t.decision
}

func newTurn(books Books, state *State, event *schema.UserEvent, now int64) *turn {
	t := &turn{books: books, state: state, now: now, book: books.Playbook(state.Playbook)}
	if event != nil {
		t.sequence = event.Sequence
	}
	return t
}

// place is where in the user's log the turn stands. It looks through all that was seen, so only what goes on record asks for it.
func (t *turn) place() uint64 { return max(t.state.Seen.Newest(), t.sequence) }

// takes returns what is handed over by the input, nil where nothing is that the user does not have already. What lived under a newer
// playbook brings it.
func (t *turn) takes(input *Input) *State {
	taken := input.Taken
	if taken == nil || input.Event == nil || t.state.HasMerged(taken.Token) {
		return nil
	}
	if taken.Revision > max(input.Revision, t.state.Revision) {
		input.Playbook, input.Revision = taken.Playbook, taken.Revision
	}
	return taken
}

// admits reports whether the input means anything to the user, and drops its event where only what came with it does.
func (t *turn) admits(input *Input, newer, taken bool) bool {
	if input.Event != nil && !t.reads(*input, newer) {
		if input.Event = nil; !newer && !taken {
			t.decision.WakeAt = WakeAt(t.state)
			return false
		}
	}
	if input.Event == nil && t.state.Playbook == "" && !taken {
		return false // nobody is there yet
	}
	if input.Event != nil && t.repeats(input.Event) {
		t.decision.Duplicate = true
		if input.Event = nil; !taken {
			t.decision.WakeAt = WakeAt(t.state)
			return false
		}
	}
	return true
}

// comes returns the moment of record at which an event comes, and with it who hands over by it.
func (t *turn) comes(event *schema.UserEvent, taken *State) int64 {
	t.catchUp(event)
	moment := Moment(t.state, event)
	if taken != nil {
		moment = max(moment, taken.Clock)
	}
	return moment
}

// takeOver merges who is handed over by an event into the user. Where the event itself says nothing more, the user comes to rest here.
func (t *turn) takeOver(taken *State, link, event *schema.UserEvent, at int64) {
	t.merge(taken, link, at)
	if event == nil {
		t.settle()
	}
}

// reads reports whether anything in the newest playbook, or in a version that the user is still inside, looks at the event. What
// nothing looks at changes nothing, whoever passed it on: ingest knows the playbooks, not who is inside which.
func (t *turn) reads(input Input, newer bool) bool {
	newest := t.state.Playbook
	if newer {
		newest = input.Playbook
	}
	by := func(hash string) bool {
		book := t.books.Playbook(hash)
		return book != nil && book.Reads(input.Event.EventName, len(input.Event.Traits) > 0)
	}
	return by(newest) || slices.ContainsFunc(t.state.Enrollments, func(e *Enrollment) bool {
		return (e.Ended == "" || !e.Converted && e.awaits(t.state.Clock)) && by(e.Version)
	})
}

// catchUp lets everything happen that a user's timers have seen to before an event of the past was received, unless the event belongs
// to a log that is being replayed at this time: then that log's own times rule.
func (t *turn) catchUp(event *schema.UserEvent) {
	replaying := t.state.Clock == 0 ||
		t.state.HistoricAt != 0 && event.ReceivedAt < t.state.HistoricAt+HistoricGrace.Milliseconds()
	if event.Lateness == schema.Historic && !replaying && t.book != nil {
		t.advance(event.ReceivedAt, true)
	}
}

// Advance lets what is due by a moment happen, as Next does without an event when the caller's clock has got there; now is that
// clock, which may be later. A fold of the log does with it what the workflow's timers did.
func Advance(books Books, state State, until, now int64) (State, Decision) {
	t := newTurn(books, &state, nil, now)
	if t.book == nil {
		return state, t.decision
	}
	t.advance(until, true)
	t.decision.WakeAt = WakeAt(&state)
	state.Sequence += uint64(len(t.decision.Outcomes))
	return state, t.decision
}

// Moment is an event's moment of record: when the stream took it, or for a historic event when it happened; never before
// the state's clock.
func Moment(state *State, event *schema.UserEvent) int64 {
	if event.Lateness == schema.Historic {
		return max(state.Clock, event.OccurredAt)
	}
	return max(state.Clock, event.ReceivedAt)
}

// WakeAt is when time alone next changes something for the user; 0: never.
func WakeAt(state *State) int64 {
	due := earliest(state)
	if due == 0 || state.HistoricAt == 0 {
		return due
	}
	return max(due, state.HistoricAt+HistoricGrace.Milliseconds())
}

// Versions lists the playbooks the state needs: the newest and those that enrollments are pinned to.
func (s *State) Versions() []string {
	versions := []string{s.Playbook}
	for _, e := range s.Enrollments {
		if !slices.Contains(versions, e.Version) {
			versions = append(versions, e.Version)
		}
	}
	return versions
}

func earliest(state *State) int64 {
	if state.HandedOver != nil {
		return 0
	}
	due := state.earliestMember()
	sooner := func(at int64) {
		if at != 0 && (due == 0 || at < due) {
			due = at
		}
	}
	for _, e := range state.Enrollments {
		if e.Ended == "" && !e.Paused {
			sooner(e.Due)
		}
		if e.Ended == "" {
			sooner(e.Until)
		}
	}
	return due
}

func (t *turn) repeats(event *schema.UserEvent) bool {
	switch t.state.Seen.add(event.Sequence, event.EventID) {
	case duplicate:
		t.state.Counts.Duplicates++
	case redelivered:
		t.state.Counts.Redelivered++
	case fresh:
		t.state.Counts.Applied++
		return false
	}
	return true
}

// advance lets everything that is due by then happen, each at its own moment: all of it, where something is to be applied after it,
// else only so much that the caller is not kept for long.
func (t *turn) advance(until int64, all bool) {
	last := int64(0)
	for n := 0; all || n < maxDue; n++ {
		due := earliest(t.state)
		if due == 0 || due > until || due <= last { // the last: an enrollment that is frozen
			break
		}
		t.pass(due)
		last = due
	}
}

// pass asks what time alone changes at a moment. The clock goes on only where something does: when a rule is asked again to no
// effect is nothing that the moment of an event to come may depend on.
func (t *turn) pass(at int64) {
	before := len(t.decision.Outcomes)
	t.event, t.cause, t.at = nil, nil, max(t.state.Clock, at)
	t.settle()
	if len(t.decision.Outcomes) > before {
		t.state.Clock = t.at
	}
}

func (t *turn) apply(event *schema.UserEvent, moment int64) {
	t.event, t.at = event, moment
	t.renewed = t.renewed || t.state.Clock == 0
	t.state.Clock, t.state.LastEvent = moment, event.EventID
	t.state.HistoricAt = 0
	if event.Lateness == schema.Historic {
		t.state.HistoricAt = event.ReceivedAt
	}
	known := make(segment.Done)
	for _, hash := range t.state.Versions() {
		if book := t.books.Playbook(hash); book != nil {
			book.Set.Apply(&t.state.Facts, event, known)
		}
	}
	t.settle()
}

// settle brings the user to rest at one moment: segments first, then enrollments, round by round while one moves the other;
// at last the actions that all of it asked for.
func (t *turn) settle() {
	t.changed = make(map[string]bool)
	event := t.event
	for range maxRounds {
		moved := t.segments(event)
		t.renewed = false
		moved = t.enrollments(event) || moved
		moved = t.entries(event) || moved
		event = nil // later rounds follow from the first, not from the event
		if moved {
			continue
		}
		if t.act(); !t.exposed { // the first action can be an exposure, which rules may ask about
			break
		}
	}
	t.act()
	t.tidy()
}

// tidy drops ended enrollments whose goal can no longer be met, and sends that no limit can count any more. The clock says so, not the
// moment: an event of the past can still come between the two.
func (t *turn) tidy() {
	t.state.Enrollments = slices.DeleteFunc(t.state.Enrollments, func(e *Enrollment) bool {
		return e.Ended != "" && (e.Converted || !e.awaits(t.state.Clock))
	})
	t.forgetSends()
}
