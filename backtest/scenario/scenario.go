package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// Scenario is one example of what a playbook does. Times are Unix milliseconds.
type Scenario struct {
	Name   string
	File   string
	Line   int
	Zone   *time.Location
	Start  int64
	Until  int64
	User   string // raw id
	Book   *playbook.Playbook
	Given  []Given // in order of receipt
	Expect []Expectation
	Never  []Expectation // their At means nothing
	Only   []Group
}

// Given is something that comes from outside: an event, or another version of the playbook.
type Given struct {
	At       int64 // when it is received
	Event    *schema.UserEvent
	Playbook *playbook.Playbook
	Path     string // of the playbook, as written
}

// Kind is what an expectation is about.
type Kind string

// The kinds: each is a key of an entry under expect.
const (
	KindAction     Kind = "action"     // goes out
	KindSuppressed Kind = "suppressed" // an action is decided and held back
	KindSegment    Kind = "segment"    // is entered
	KindLeft       Kind = "left"       // a segment is left
	KindStarted    Kind = "started"    // a journey
	KindEnded      Kind = "ended"      // a journey
	KindStep       Kind = "step"       // is entered: journey/step
	KindConverted  Kind = "converted"  // a goal is met
	KindExposed    Kind = "exposed"    // an experiment is met
	KindState      Kind = "in"         // with not_in: memberships at a moment
)

// Group is what `only` names: kinds of which nothing may happen that is not expected.
type Group string

// groups lists the groups with their kinds.
func groups() map[Group][]Kind {
	return map[Group][]Kind{
		"actions": {KindAction}, "suppressions": {KindSuppressed}, "segments": {KindSegment, KindLeft}, "journeys": {KindStarted, KindEnded},
		"steps": {KindStep}, "conversions": {KindConverted}, "exposures": {KindExposed},
	}
}

// Expectation is something that must happen, or under never must not. Empty fields match anything.
type Expectation struct {
	At   int64
	Line int // in the file
	Kind Kind
	Key  string // the action, segment, journey, goal or experiment; of a step, journey/step

	Journey  string
	Reason   string
	Variant  string
	With     map[string]any // what an action must carry at least
	Segments []string       // exactly those an action must carry; nil: any
	In       []string       // of a state
	NotIn    []string
}

// String writes the expectation without its moment.
func (e *Expectation) String() string {
	if e.Kind == KindState {
		var parts []string
		if len(e.In) > 0 {
			parts = append(parts, "in "+strings.Join(e.In, ", "))
		}
		if len(e.NotIn) > 0 {
			parts = append(parts, "not in "+strings.Join(e.NotIn, ", "))
		}
		return strings.Join(parts, ", ")
	}
	text := label(e.Kind, e.Key)
	if e.Journey != "" {
		text += " of " + e.Journey
	}
	if len(e.With) > 0 {
		text += " " + backtest.ValuesText(e.With)
	}
	if e.Segments != nil {
		text += " segments [" + strings.Join(e.Segments, ", ") + "]"
	}
	if detail := e.Reason + e.Variant; detail != "" {
		text += ": " + detail
	}
	return text
}

func label(kind Kind, key string) string {
	switch kind {
	case KindSegment:
		return "enters " + key
	case KindLeft:
		return "leaves " + key
	case KindSuppressed:
		return "held back " + key
	default:
		return string(kind) + " " + key
	}
}

// fact is something that happened, of a kind that can be expected.
type fact struct {
	Expectation // what it would be expected as

	matched bool // by an expectation
	row     bool // stands in the time line already
}

// factOf turns a line of a user's story into a fact; false where nothing can expect it.
func factOf(l *backtest.Line) (fact, bool) {
	o := l.Outcome
	if o == nil {
		return fact{}, false
	}
	f := fact{Expectation: Expectation{At: l.At, Variant: o.Variant}}
	switch o.Kind {
	case schema.ActionDecided:
		f.Kind, f.Key, f.Journey = KindAction, o.Action, o.Journey
		if l.Action != nil {
			f.With, f.Segments = l.Action.Properties, l.Action.Segments
		}
	case schema.ActionSuppressed:
		f.Kind, f.Key, f.Journey, f.Reason = KindSuppressed, o.Action, o.Journey, o.Reason
	case schema.SegmentEntered:
		f.Kind, f.Key = KindSegment, o.Segment
	case schema.SegmentLeft:
		f.Kind, f.Key = KindLeft, o.Segment
	case schema.EnrollmentStarted:
		f.Kind, f.Key = KindStarted, o.Journey
	case schema.EnrollmentEnded:
		f.Kind, f.Key, f.Reason = KindEnded, o.Journey, o.Reason
	case schema.StepEntered:
		f.Kind, f.Key = KindStep, o.Journey+"/"+o.StepKey
	case schema.GoalConverted:
		f.Kind, f.Key, f.Journey = KindConverted, o.Goal, o.Journey
	case schema.ExposureRecorded:
		f.Kind, f.Key = KindExposed, o.Experiment
	default: // deliveries: there are none
		return fact{}, false
	}
	return f, true
}

// String writes the fact as an expectation of it would be written, without what is long and was not asked for.
func (f *fact) String() string {
	e := f.Expectation
	switch e.Kind {
	case KindAction, KindSuppressed, KindConverted:
		e.Journey, e.Segments = "", nil
	default: // short as they are
	}
	return e.String()
}

// as writes the fact with the details that an expectation asks for.
func (f *fact) as(e *Expectation) string {
	shown := f.Expectation
	if e.Journey == "" {
		shown.Journey = ""
	}
	if e.With == nil {
		shown.With = nil
	}
	if e.Segments == nil {
		shown.Segments = nil
	} else if shown.Segments == nil {
		shown.Segments = []string{}
	}
	return shown.String()
}

// matches reports whether the fact is what is expected, its moment aside.
func (e *Expectation) matches(f *fact) bool {
	if e.Kind != f.Kind || e.Key != f.Key {
		return false
	}
	return e.allows(f)
}

// allows reports whether the details of a fact are as expected.
func (e *Expectation) allows(f *fact) bool {
	if (e.Journey != "" && e.Journey != f.Journey) || (e.Reason != "" && e.Reason != f.Reason) || (e.Variant != "" && e.Variant != f.Variant) {
		return false
	}
	for name, want := range e.With {
		got, there := f.With[name]
		if !there || canonical(got) != canonical(want) {
			return false
		}
	}
	return e.Segments == nil || slices.Equal(slices.Sorted(slices.Values(e.Segments)), slices.Sorted(slices.Values(f.Segments)))
}

// detail counts what an expectation pins down: who asks for more is served first.
func (e *Expectation) detail() int {
	n := len(e.With)
	for _, asked := range []bool{e.Journey != "", e.Reason != "", e.Variant != "", e.Segments != nil} {
		if asked {
			n++
		}
	}
	return n
}

// moment writes a time as offset and local time.
func (s *Scenario) moment(at int64) string {
	return fmt.Sprintf("%s (%s)", s.offset(at), s.local(at))
}

func (s *Scenario) offset(at int64) string {
	if at < s.Start {
		return "-" + span(s.Start-at)
	}
	return "+" + span(at-s.Start)
}

// span writes a length of time as scenarios are written: in hours up to a hundred of them.
func span(ms int64) string {
	const hour = int64(time.Hour / time.Millisecond)
	if ms%hour == 0 && ms/hour < 100 {
		return fmt.Sprintf("%dh", ms/hour)
	}
	return backtest.FormatSpan(ms)
}

func (s *Scenario) local(at int64) string {
	t := time.UnixMilli(at).In(s.Zone)
	layout := "Mon 2006-01-02 15:04"
	switch {
	case at%1000 != 0:
		layout += ":05.000"
	case at%60_000 != 0:
		layout += ":05"
	}
	return t.Format(layout + " MST")
}
