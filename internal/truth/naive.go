package truth

import (
	"maps"
	"slices"
	"time"

	"github.com/onramphq/onramp/schema"
)

// Case is a playbook in its versions, a log, and the moment up to which it is looked at.
type Case struct {
	Books []*Book // by revision
	Log   []Delivery
	End   int64

	Token string // of the user
	// Assign gives the user's variant of one of a book's experiments, or of its holdout.
	Assign func(book *Book, experiment string) string
}

// Naive returns what should happen to the user of a case, in order. Of an outcome it fills in what Tell looks at.
func Naive(c *Case) []schema.Outcome {
	u := &user{Case: c, zones: zones(), ids: map[string]bool{}, messages: map[uint64]bool{}, members: map[string]member{}, met: map[string]string{}}
	u.book = c.Books[0]
	for _, d := range c.Log {
		u.pass(d.At)
		u.take(d)
	}
	u.pass(c.End)
	return u.told
}

// user is everything there is to know about the user of a case.
type user struct {
	*Case

	zones    map[string]*time.Location
	ids      map[string]bool
	messages map[uint64]bool // by sequence
	seen     []*Event        // taken in, in order of record

	clock   int64 // the last moment at which something happened
	looked  int64 // the last moment that was looked at
	history int64 // when the last event was received, if it was a historic one
	wall    int64 // the time on the wall while a moment is looked at

	book        *Book // the newest
	revision    int
	removed     bool // segments may be gone with the last playbook
	members     map[string]member
	enrollments []*enrollment
	met         map[string]string // variants by experiment
	sent        []sent
	told        []schema.Outcome

	at      int64 // the moment that is looked at
	cause   *Event
	changed map[string]bool // segments that changed at this moment: entered or not
	wanted  []wanted
}

type member struct {
	in    bool
	since int64
}

type sent struct {
	at       int64
	category string
}

// pass lets time go by on the wall. While a log of the past is coming in, the present waits a minute for more of it.
func (u *user) pass(wall int64) {
	if u.history != 0 && u.history+60_000 > wall || u.looked == 0 {
		return
	}
	for at := next(u.looked); at <= wall; at = next(at) {
		u.look(at, max(at, u.history+60_000))
	}
}

// next is the next moment to look at: a full hour, or a millisecond after it.
func next(at int64) int64 {
	if at%hour == 0 {
		return at + 1
	}
	return at - at%hour + hour
}

// look asks what time alone has changed.
func (u *user) look(at, wall int64) {
	u.looked, u.wall = at, wall
	u.settle(at, nil)
}

// take applies an event at its moment of record, after everything that was due before it. A newer playbook comes into force before
// the event that brings it, or with no event at all. An event that nothing reads is none.
func (u *user) take(d Delivery) {
	nobody := u.looked == 0
	newer := d.Revision > u.revision || nobody
	event := d.Event
	if event != nil && !u.reads(event, newer, d.Revision) {
		event = nil
	}
	if event == nil && (nobody || !newer && d.Event != nil) || event != nil && (u.messages[d.Sequence] || u.ids[d.ID]) {
		return
	}
	moment := max(u.clock, d.At)
	if event != nil {
		u.messages[d.Sequence], u.ids[d.ID] = true, true
		moment = max(u.clock, d.Received)
		if d.Historic {
			moment = max(u.clock, event.At)
		}
	}
	for at := next(u.looked); !nobody && at <= moment; at = next(at) {
		u.look(at, d.At)
	}
	u.wall = d.At
	if newer {
		u.renew(d.Revision, moment)
	}
	if event == nil {
		return
	}
	u.clock, u.looked, u.history = moment, moment, 0
	if d.Historic {
		u.history = d.Received
	}
	u.seen = append(u.seen, event)
	u.settle(moment, event)
}

// reads reports whether the newest playbook, or one that the user is inside, looks at an event. One that sets traits is always looked
// at. Who has left a journey is inside until no goal can come any more.
func (u *user) reads(event *Event, newer bool, revision int) bool {
	newest := u.book
	if newer {
		newest = u.Books[revision]
	}
	if !slices.Contains(declared(), event.Name) {
		return false
	}
	return len(event.Traits) > 0 || newest.reads(event.Name) || slices.ContainsFunc(u.enrollments, func(e *enrollment) bool {
		return (e.ended == "" || e.awaits(u.clock)) && e.book.reads(event.Name)
	})
}

// renew puts a newer playbook in force for everybody who is there already.
func (u *user) renew(revision int, at int64) {
	u.revision, u.book = revision, u.Books[revision]
	if u.looked == 0 {
		return
	}
	u.at, u.cause, u.clock, u.looked = at, nil, at, at
	for _, e := range u.enrollments {
		if e.ended == "" {
			u.migrate(e)
		}
	}
	u.removed = true
	u.settle(at, nil)
}

// settle brings the user to rest at a moment: segments first, then enrollments, round by round while one moves the other; at
// last the actions that all of it asked for.
func (u *user) settle(at int64, event *Event) {
	u.at, u.cause, u.changed = at, event, map[string]bool{}
	for {
		moved := u.segments()
		moved = u.move(event) || moved
		moved = u.enter(event) || moved
		event = nil
		if !moved && !u.act() { // meeting the holdout at an action is something that rules can ask about
			return
		}
	}
}

func (u *user) view() *view {
	return &view{
		at: u.at, seen: u.seen, zone: u.book.Zone, zones: u.zones,
		member:  func(key string) (bool, int64) { return u.members[key].in, u.members[key].since },
		variant: func(key string) string { return u.met[key] },
	}
}

// holds asks a rule; unknown is not true.
func (u *user) holds(rule Expr) bool { return rule != nil && rule.eval(u.view()) == true }

// segments asks every rule. An unknown answer leaves the membership as it was.
func (u *user) segments() bool {
	moved := u.removed && u.leaveRemoved()
	u.removed = false
	for _, s := range u.book.Segments {
		in, known := s.When.eval(u.view()).(bool)
		if !known || in == u.members[s.Key].in {
			continue
		}
		u.members[s.Key] = member{in, u.at}
		u.changed[s.Key], moved = in, true
		o := schema.Outcome{Kind: schema.SegmentLeft, Segment: s.Key}
		if in {
			o.Kind = schema.SegmentEntered
		}
		u.tell(o)
	}
	return moved
}

// leaveRemoved takes the user out of the segments that the newest playbook does not have.
func (u *user) leaveRemoved() bool {
	moved := false
	for _, key := range slices.Sorted(maps.Keys(u.members)) {
		if slices.ContainsFunc(u.book.Segments, func(s Segment) bool { return s.Key == key }) {
			continue
		}
		if u.members[key].in {
			u.changed[key], moved = false, true
			u.tell(schema.Outcome{Kind: schema.SegmentLeft, Segment: key})
		}
		delete(u.members, key)
	}
	return moved
}

// entered reports whether the user came into a segment at this moment, left whether out of it.
func (u *user) entered(segment string) bool { return u.changed[segment] }

func (u *user) left(segment string) bool {
	in, changed := u.changed[segment]
	return changed && !in
}

func (u *user) tell(o schema.Outcome) {
	o.At, u.clock = u.at, max(u.clock, u.at)
	u.told = append(u.told, o)
}
