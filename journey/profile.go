package journey

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// Profile tells what the user is right now, for those who ask.
func Profile(books Books, s *State) schema.Profile {
	p := schema.Profile{
		UserToken: s.Token, Sequence: s.Sequence, UpdatedAt: s.Clock, Playbook: s.Playbook, Stage: s.Stage(books),
		Segments: []schema.Membership{}, Variants: s.variants(), Journeys: []schema.JourneyStatus{}, LastEvent: s.LastEvent, Unit: s.Unit,
	}
	book := books.Playbook(s.Playbook)
	if s.HandedOver != nil {
		p.Stage, p.MergedInto = schema.StageMerged, s.HandedOver.Into
		return p
	}
	if book == nil {
		return p
	}
	scope := s.scope(book, s.Clock)
	for i := range book.Segments {
		seg := &book.Segments[i]
		m := s.Members[seg.Key]
		if m == nil {
			continue
		}
		p.Segments = append(p.Segments, schema.Membership{
			Segment: seg.Key, In: m.In, Unknown: !m.Known, Since: m.Since, Until: m.Until,
			Reason: cmp.Or(m.Missing, seg.Rule.Explain(scope)),
		})
	}
	for _, e := range s.Enrollments {
		p.Journeys = append(p.Journeys, schema.JourneyStatus{
			Journey: e.Journey, EnrollmentID: e.ID, StartedAt: e.StartedAt, StepKey: e.Step, Waiting: waiting(books, e),
			Deadline: e.Due, Ended: e.Ended, EndedAt: e.EndedAt, Converted: e.Converted, Paused: e.Paused,
		})
	}
	for _, key := range sortedKeys(s.Passed) {
		if !slices.ContainsFunc(s.Enrollments, func(e *Enrollment) bool { return e.Journey == key }) {
			passage := s.Passed[key]
			p.Journeys = append(p.Journeys, schema.JourneyStatus{
				Journey: key, Ended: passage.Ended, EndedAt: passage.EndedAt, Converted: passage.Converted,
			})
		}
	}
	p.NextAt, p.NextChange = NextChange(s)
	return p
}

// TraitValues are the user's traits as they came.
func TraitValues(s *State) map[string]json.RawMessage {
	values := make(map[string]json.RawMessage, len(s.Facts.Traits))
	for _, name := range sortedKeys(s.Facts.Traits) {
		values[name] = s.Facts.Traits[name].Value
	}
	return values
}

// Stage says where the user is in a word or two: the step of the open journey of highest priority, else how the last one
// ended, else `new`.
func (s *State) Stage(books Books) string {
	var top *Enrollment
	best := 0
	for _, e := range s.Enrollments {
		book := books.Playbook(e.Version)
		if e.Ended != "" || book == nil || book.Journey(e.Journey) == nil {
			continue
		}
		if priority := book.Journey(e.Journey).Priority; top == nil || priority > best {
			top, best = e, priority
		}
	}
	if top != nil {
		return stageOf(top)
	}
	last, stage := int64(-1), "new"
	for _, key := range sortedKeys(s.Passed) {
		if passage := s.Passed[key]; passage.EndedAt > last {
			last, stage = passage.EndedAt, key+"/"+passage.Ended
		}
	}
	return stage
}

func waiting(books Books, e *Enrollment) string {
	book := books.Playbook(e.Version)
	if e.Ended != "" || book == nil || book.Journey(e.Journey) == nil {
		return ""
	}
	step := book.Journey(e.Journey).Steps[e.Step]
	switch {
	case step == nil:
		return ""
	case step.Kind == playbook.StepDelay:
		return "the time"
	case step.Kind == playbook.StepAction:
		return "the end of quiet hours"
	case step.Kind != playbook.StepWait:
		return ""
	}
	var what []string
	if len(step.Events) > 0 {
		what = append(what, strings.Join(step.Events, " or "))
	}
	if step.Where != nil {
		what[0] += " where " + step.Where.Source
	}
	if step.When != nil {
		what = append(what, step.When.Source)
	}
	return strings.Join(what, ", or ")
}

// NextChange says when time alone next changes something for the user, and what; 0 where it never does.
func NextChange(s *State) (at int64, what string) {
	at = WakeAt(s)
	if at == 0 {
		return 0, ""
	}
	due := earliest(s)
	var parts []string
	for _, e := range s.Enrollments {
		if e.Ended == "" && e.Due == due && !e.Paused {
			parts = append(parts, fmt.Sprintf("journey %s leaves step %s", e.Journey, e.Step))
		}
		if e.Ended == "" && e.Until == due {
			parts = append(parts, fmt.Sprintf("journey %s asks its rules again at step %s", e.Journey, e.Step))
		}
	}
	for _, key := range sortedKeys(s.Members) {
		if s.Members[key].Until == due {
			parts = append(parts, "segment "+key+" is asked again")
		}
	}
	return at, strings.Join(parts, "; ")
}
