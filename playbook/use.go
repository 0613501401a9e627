package playbook

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/onramphq/onramp/segment"
)

// use is one place in a playbook that reads something declared elsewhere in it.
type use struct {
	where    string // as a person would say it: `journey welcome, step nudge`
	journey  string // empty: not in a journey
	rule     *segment.Rule
	filter   *segment.Filter
	events   []string
	segments []string
	traits   []string
}

// uses lists every place that reads events, traits or segments, in the order of the sections.
func (p *Playbook) uses() []use {
	var list []use
	for i := range p.Segments {
		list = append(list, use{where: "segment " + p.Segments[i].Key, rule: p.Segments[i].Rule})
	}
	for _, key := range slices.Sorted(maps.Keys(p.Consent)) {
		list = append(list, use{where: "consent " + key, rule: p.Consent[key]})
	}
	for _, j := range p.Journeys {
		list = append(list, j.uses()...)
	}
	return list
}

func (j *Journey) uses() []use {
	in := "journey " + j.Key
	list := []use{{
		where: in + ", enter", journey: j.Key, rule: j.Enter.When, filter: j.Enter.Where, events: j.Enter.Events,
		segments: named(j.Enter.Segment, j.Enter.Left),
	}}
	if j.Goal != nil {
		list = append(list, use{where: in + ", goal", journey: j.Key, filter: j.Goal.Where, events: []string{j.Goal.Event}})
	}
	for i, e := range j.Exits {
		list = append(list, use{
			where: fmt.Sprintf("%s, exit %d", in, i+1), journey: j.Key, rule: e.When, filter: e.Where, events: e.Events,
			segments: named(e.Left, e.Entered),
		})
	}
	for _, key := range j.Order {
		s := j.Steps[key]
		where := in + ", step " + key
		list = append(list, use{
			where: where, journey: j.Key, rule: s.When, filter: s.Where, events: s.Events, traits: References(s.With, "traits"),
		})
		for _, b := range s.Branches {
			list = append(list, use{where: where, journey: j.Key, rule: b.When, segments: named(b.Segment)})
		}
	}
	return list
}

// named drops the empty names.
func named(names ...string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

func (u *use) readsEvent(event string) bool {
	return slices.Contains(u.events, event) || u.rule != nil && (slices.Contains(u.rule.Events, event) || u.rule.AnyEvent)
}

func (u *use) readsTrait(trait string) bool {
	return slices.Contains(u.traits, trait) || u.rule != nil && slices.Contains(u.rule.Traits, trait)
}

func (u *use) readsSegment(key string) bool {
	return slices.Contains(u.segments, key) || u.rule != nil && slices.Contains(u.rule.Segments, key)
}

// asksFor reports whether the place asks about what a slot selects.
func (u *use) asksFor(slot segment.Slot) bool {
	switch {
	case u.rule == nil:
		return false
	case slot.Trait != "":
		return slices.Contains(u.rule.Traits, slot.Trait)
	case slot.Event != "":
		return slices.Contains(u.rule.Events, slot.Event)
	default:
		return u.rule.AnyEvent
	}
}

// readsProperty reports whether the place looks at a property of an event: it reads the event and names the property.
func (u *use) readsProperty(event, property string) bool {
	mention := regexp.MustCompile(`\b(e|same)\s*\.\s*` + regexp.QuoteMeta(property) + `\b`)
	switch {
	case u.filter != nil && mention.MatchString(u.filter.Source):
		return slices.Contains(u.events, event) || slices.Contains(u.filter.Same, property)
	case u.rule != nil && slices.Contains(u.rule.Events, event):
		return mention.MatchString(u.rule.Source)
	}
	return false
}

// readers lists the places for which reads holds, each once.
func readers(uses []use, reads func(*use) bool) []string {
	var places []string
	for i := range uses {
		if reads(&uses[i]) && !slices.Contains(places, uses[i].where) {
			places = append(places, uses[i].where)
		}
	}
	return places
}
