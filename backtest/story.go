package backtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// Kinds of line that are no outcomes.
const (
	LineEvent     = "event"
	LineRepeated  = "event_repeated" // known already: changed nothing
	LineUnread    = "event_unread"   // nothing in the playbook reads it
	LinePublished = "playbook"       // another version is in force
)

// Line is one thing that happened to a user.
type Line struct {
	At      int64                 `json:"at"`   // Unix milliseconds
	Kind    string                `json:"kind"` // of an outcome, or one of the above
	Text    string                `json:"text"` // for a person
	Event   *schema.UserEvent     `json:"event,omitempty"`
	Outcome *schema.Outcome       `json:"outcome,omitempty"`
	Action  *schema.ActionRequest `json:"action,omitempty"` // of an action that goes out
}

// Lines tells a moment line by line, in the order in which it happened: what was due before the event comes before it.
func (m *Moment) Lines() []Line {
	lines := make([]Line, 0, len(m.Outcomes)+1)
	head := m.head()
	for i := range m.Outcomes {
		o := &m.Outcomes[i]
		if head != nil && (m.Event == nil || o.CauseEventID == m.Event.EventID) {
			lines, head = append(lines, *head), nil
		}
		l := Line{At: o.At, Kind: string(o.Kind), Outcome: o}
		for j := range m.Actions {
			if o.Kind == schema.ActionDecided && m.Actions[j].ActionID == o.ActionID {
				l.Action = &m.Actions[j]
			}
		}
		l.Text = outcomeText(o, l.Action)
		lines = append(lines, l)
	}
	if head != nil {
		lines = append(lines, *head)
	}
	return lines
}

// head is the line of what caused the moment; nil where time alone did.
func (m *Moment) head() *Line {
	switch {
	case m.Playbook != "":
		return &Line{At: m.At, Kind: LinePublished, Text: "playbook " + m.Playbook + " is in force"}
	case m.Event == nil:
		return nil
	case m.Duplicate:
		return &Line{At: m.At, Kind: LineRepeated, Event: m.Event, Text: eventText(m.Event) + ", known already"}
	case m.Unread:
		return &Line{At: m.At, Kind: LineUnread, Event: m.Event, Text: eventText(m.Event) + ", which nothing reads"}
	default:
		return &Line{At: m.At, Kind: LineEvent, Event: m.Event, Text: eventText(m.Event)}
	}
}

func eventText(e *schema.UserEvent) string {
	text := "event " + e.EventName
	if p := objectText(e.Properties); p != "" {
		text += " " + p
	}
	if t := objectText(e.Traits); t != "" {
		text += " traits " + t
	}
	if late := e.ReceivedAt - e.OccurredAt; e.Lateness == schema.Late {
		text += fmt.Sprintf(", %s late", FormatSpan(late))
	}
	if e.Lateness == schema.Historic {
		text += ", historic"
	}
	return text
}

func objectText(raw json.RawMessage) string {
	values, err := schema.DecodeProperties(raw)
	if err != nil || len(values) == 0 {
		return ""
	}
	return ValuesText(values)
}

// ValuesText writes values on one line, sorted by name.
func ValuesText(values map[string]any) string {
	parts := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, name+": "+valueText(values[name]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func valueText(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case string:
		if v == "" || strings.ContainsAny(v, " ,:{}[]\n") {
			return strconv.Quote(v)
		}
		return v
	case map[string]any:
		return ValuesText(v)
	default:
		return fmt.Sprint(v)
	}
}

func outcomeText(o *schema.Outcome, action *schema.ActionRequest) string {
	switch o.Kind {
	case schema.SegmentEntered:
		return fmt.Sprintf("segment %s: in, because %s", o.Segment, o.Reason)
	case schema.SegmentLeft:
		return fmt.Sprintf("segment %s: out, because %s", o.Segment, o.Reason)
	case schema.EnrollmentStarted:
		return because("journey "+o.Journey+" starts", o.Reason)
	case schema.EnrollmentEnded:
		return fmt.Sprintf("journey %s ends at step %s: %s", o.Journey, o.StepKey, o.Reason)
	case schema.StepEntered:
		return because(fmt.Sprintf("step %s/%s", o.Journey, o.StepKey), o.Reason)
	case schema.ActionDecided:
		text := fmt.Sprintf("action %s by %s/%s", o.Action, o.Journey, o.StepKey)
		if action != nil && len(action.Properties) > 0 {
			text += " " + ValuesText(action.Properties)
		}
		return text
	case schema.ActionSuppressed:
		return fmt.Sprintf("action %s by %s/%s is held back: %s", o.Action, o.Journey, o.StepKey, o.Reason)
	case schema.ExposureRecorded:
		return fmt.Sprintf("experiment %s: meets variant %s", o.Experiment, o.Variant)
	case schema.GoalConverted:
		return fmt.Sprintf("goal %s of journey %s is met", o.Goal, o.Journey)
	default:
		return strings.ReplaceAll(string(o.Kind), "_", " ") + " " + o.Action
	}
}

// because adds a reason where there is one to tell: that a step follows the one before says nothing.
func because(text, reason string) string {
	if reason == "" || reason == "then" {
		return text
	}
	return text + ": " + reason
}

// FormatSpan writes a length of time in milliseconds as a person would, to the millisecond.
func FormatSpan(ms int64) string {
	if ms < 0 {
		return "-" + FormatSpan(-ms)
	}
	return segment.FormatDuration(msDuration(ms))
}

// Story is everything that happened to one user, in order of record, and where the user stands in the end.
type Story struct {
	User    string         `json:"user"`
	Token   string         `json:"token"`
	Profile schema.Profile `json:"profile"`
	Lines   []Line         `json:"lines"`

	State journey.State  `json:"-"`
	Books journey.Books  `json:"-"`
	Zone  *time.Location `json:"-"` // the user's, where the playbook says whose day it is; else nil
}

// Tell runs one user's events through a playbook, taken as in a backtest, and tells what happened line by line. Of the options,
// Until and Live count.
func Tell(book *playbook.Playbook, user User, opts Options) (*Story, error) {
	if opts.Live {
		Live(user.Events)
	} else {
		Historic(user.Events, opts.Until)
	}
	return tell([]Version{{Book: book}}, user, opts.Until)
}

// Version is a playbook and the moment from which it is in force.
type Version struct {
	At   int64 // Unix milliseconds
	Book *playbook.Playbook
}

// TellRecorded tells what happened to a user whose events say themselves when they were received, up to a moment: the fold of an
// archived log, as the engine made it. versions are in order of time, at least one; the first is in force from the beginning.
func TellRecorded(versions []Version, user User, until int64) (*Story, error) {
	return tell(versions, user, until)
}

func tell(versions []Version, user User, until int64) (*Story, error) {
	story := &Story{User: user.ID, Token: user.Token, Lines: []Line{}}
	life := NewLife(user.Token, versions[0].Book, func(m Moment) { story.Lines = append(story.Lines, m.Lines()...) })
	later := versions[1:]
	publish := func(until int64) error {
		for len(later) > 0 && later[0].At <= until {
			if err := life.Publish(later[0].Book, later[0].At); err != nil {
				return err
			}
			later = later[1:]
		}
		return nil
	}
	for i := range user.Events {
		at := journey.Moment(&life.State, &user.Events[i])
		if at > until {
			break
		}
		if err := publish(at); err != nil {
			return nil, err
		}
		if err := life.Event(&user.Events[i]); err != nil {
			return nil, err
		}
	}
	if err := publish(until); err != nil {
		return nil, err
	}
	if err := life.Settle(until); err != nil {
		return nil, err
	}
	story.State, story.Books = life.State, life.Books()
	if zone := life.Book().Plan.Zone; zone.Trait != "" || zone.Default != nil {
		story.Zone = life.Book().Set.Zone(&life.State.Facts)
	}
	story.Profile = journey.Profile(story.Books, &story.State)
	return story, nil
}
