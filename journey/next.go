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
// knows; the state never goes back to an older one.
type Input struct {
	Event    *schema.UserEvent
	Playbook string
	Revision uint64
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
// call works through before it asks to be called again.
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
	at       int64             // the moment of record
	event    *schema.UserEvent // what caused this moment; nil: time alone
	renewed  bool              // the playbook changed: ask every rule
	changed  map[string]bool   // segments that changed at this moment: entered or not
	wanted   []want            // actions that steps of this moment ask for
	decision Decision
}

// Next answers what an input means for a user. It takes state over: the caller goes on with the one returned. now is the
// caller's clock in Unix milliseconds, read once per call.
func Next(books Books, state State, input Input, now int64) (State, Decision) {
	t := &turn{books: books, state: &state, now: now}
	if input.Revision > state.Revision || state.Playbook == "" {
		state.Playbook, state.Revision = input.Playbook, input.Revision
		t.renewed = true
	}
	t.book = books.Playbook(state.Playbook)
	if t.book == nil {
		return state, t.decision
	}
	if t.renewed {
		t.prune()
	}
	switch {
	case input.Event == nil:
		t.advance(now)
	case t.repeats(input.Event):
		t.decision.Duplicate = true
	default:
		moment := Moment(&state, input.Event)
		t.advance(moment)
		t.apply(input.Event, moment)
	}
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
	var due int64
	sooner := func(at int64) {
		if at != 0 && (due == 0 || at < due) {
			due = at
		}
	}
	for _, m := range state.Members {
		sooner(m.Until)
	}
	for _, e := range state.Enrollments {
		if e.Ended == "" {
			sooner(e.Due)
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

// advance lets everything that is due by then happen, each at its own moment.
func (t *turn) advance(until int64) {
	for range maxDue {
		due := earliest(t.state)
		if due == 0 || due > until {
			break
		}
		t.at = max(t.state.Clock, due)
		t.state.Clock = t.at
		t.event = nil
		t.settle()
	}
	if t.renewed { // a new playbook and nothing due: ask its rules now
		t.at = max(t.state.Clock, until)
		t.settle()
	}
}

func (t *turn) apply(event *schema.UserEvent, moment int64) {
	t.event, t.at = event, moment
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

// prune forgets the aggregates and segments that no playbook in use knows.
func (t *turn) prune() {
	var sets []*segment.Set
	for _, hash := range t.state.Versions() {
		if book := t.books.Playbook(hash); book != nil {
			sets = append(sets, book.Set)
		}
	}
	segment.Prune(&t.state.Facts, sets...)
}

// settle brings the user to rest at one moment: segments first, then enrollments, round by round while one moves the other;
// at last the actions that all of it asked for.
func (t *turn) settle() {
	t.changed = make(map[string]bool)
	event := t.event
	for range maxRounds {
		moved := t.segments(event)
		moved = t.enrollments(event) || moved
		moved = t.entries(event) || moved
		event = nil // later rounds follow from the first, not from the event
		if !moved {
			break
		}
	}
	t.renewed = false
	t.act()
	t.tidy()
}

// segments asks the rules that this moment can have changed.
func (t *turn) segments(event *schema.UserEvent) bool {
	moved := false
	if t.state.Members == nil {
		t.state.Members = make(map[string]*Member)
	}
	if t.renewed {
		moved = t.removedSegments()
	}
	for i := range t.book.Segments {
		s := &t.book.Segments[i]
		m := t.state.Members[s.Key]
		if m != nil && !t.renewed && !t.affects(s.Rule, m, event) {
			continue
		}
		if m == nil {
			m = &Member{}
			t.state.Members[s.Key] = m
		}
		moved = t.judge(s, m) || moved
	}
	return moved
}

func (t *turn) affects(rule *segment.Rule, m *Member, event *schema.UserEvent) bool {
	if m.Until != 0 && m.Until <= t.at {
		return true
	}
	if event != nil && t.book.Set.Declares(event.EventName) && (rule.AnyEvent || slices.Contains(rule.Events, event.EventName) ||
		(len(rule.Traits) > 0 && len(event.Traits) > 0)) {
		return true
	}
	return rule.AsksVariant || slices.ContainsFunc(rule.Segments, func(key string) bool { _, ok := t.changed[key]; return ok })
}

// judge evaluates one segment and records a change. An unknown answer leaves the membership as it was.
func (t *turn) judge(s *playbook.Segment, m *Member) bool {
	scope := t.scope()
	result := s.Rule.Eval(scope)
	m.Until, m.Known, m.Missing = result.Until, result.Truth != segment.Unknown, result.Why
	in := result.Truth == segment.True
	if !m.Known || in == m.In {
		return false
	}
	m.In, m.Since = in, t.at
	t.changed[s.Key] = in
	t.segmentOutcome(s.Key, in, s.Rule.Explain(scope))
	return true
}

func (t *turn) removedSegments() bool {
	moved := false
	for _, key := range sortedKeys(t.state.Members) {
		if slices.ContainsFunc(t.book.Segments, func(s playbook.Segment) bool { return s.Key == key }) {
			continue
		}
		if t.state.Members[key].In {
			t.changed[key] = false
			t.segmentOutcome(key, false, "the segment is no longer in the playbook")
			moved = true
		}
		delete(t.state.Members, key)
	}
	return moved
}

func (t *turn) scope() segment.Scope { return t.state.scope(t.at) }

func (s *State) scope(at int64) segment.Scope {
	return segment.Scope{
		Facts: &s.Facts, Now: at,
		InSegment: func(key string) bool { m := s.Members[key]; return m != nil && m.In },
		SegmentSince: func(key string) int64 {
			if m := s.Members[key]; m != nil && m.In {
				return m.Since
			}
			return 0
		},
		Variant: func(experiment string) string { return s.Assigned[experiment].Variant },
	}
}

// tidy drops ended enrollments whose goal can no longer be met, and sends that no longer count.
func (t *turn) tidy() {
	t.state.Enrollments = slices.DeleteFunc(t.state.Enrollments, func(e *Enrollment) bool {
		return e.Ended != "" && (e.Converted || e.GoalUntil <= t.at)
	})
	if t.book.Limit == nil {
		t.state.Sent = nil
		return
	}
	oldest := t.at - t.book.Limit.Per.Milliseconds()
	t.state.Sent = slices.DeleteFunc(t.state.Sent, func(at int64) bool { return at <= oldest })
}
