package truth

import (
	"slices"
	"time"

	"github.com/onramphq/onramp/schema"
)

// Case is a playbook in its versions, a log, and the moment up to which it is looked at.
type Case struct {
	Books []*Book // by revision
	Log   []Delivery
	End   int64

	// Assign gives a user's variant of an experiment, false where the user is outside it.
	Assign func(experiment string, share float64) (variant string, in bool)
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

	book        *Book
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

// take applies an event at its moment of record, after everything that was due before it.
func (u *user) take(d Delivery) {
	if u.messages[d.Sequence] || u.ids[d.ID] {
		return
	}
	u.messages[d.Sequence], u.ids[d.ID] = true, true
	moment := max(u.clock, d.Received)
	if d.Historic {
		moment = max(u.clock, d.Event.At)
	}
	if u.looked != 0 {
		for at := next(u.looked); at <= moment; at = next(at) {
			u.look(at, d.At)
		}
	}
	u.clock, u.looked, u.wall = moment, moment, d.At
	u.history = 0
	if d.Historic {
		u.history = d.Received
	}
	if slices.Contains(declared(), d.Name) {
		u.seen = append(u.seen, d.Event)
	}
	u.settle(moment, d.Event)
}

// settle brings the user to rest at a moment: segments first, then enrollments, round by round while one moves the other; at
// last the actions that all of it asked for.
func (u *user) settle(at int64, event *Event) {
	u.at, u.cause, u.changed = at, event, map[string]bool{}
	for moved := true; moved; event = nil {
		moved = u.segments()
		moved = u.move(event) || moved
		moved = u.enter(event) || moved
	}
	u.act()
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
	moved := false
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
