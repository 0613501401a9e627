package playbook

import (
	"maps"
	"slices"
)

// index says which segments must be asked again when something happens, by their place in Playbook.Segments. What one event costs
// grows with the rules that read it, not with all rules.
type index struct {
	byEvent    map[string][]int // without traits
	withTraits map[string][]int // with
	bySegment  map[string][]int // when the membership changed
	byVariant  []int            // when an experiment was met
	place      map[string]int
	names      []string // of all declared events, sorted
}

func newIndex(p *Playbook) index {
	x := index{
		byEvent: make(map[string][]int), withTraits: make(map[string][]int), bySegment: make(map[string][]int),
		place: make(map[string]int), names: slices.Sorted(maps.Keys(p.Plan.Events)),
	}
	for i := range p.Segments {
		s := &p.Segments[i]
		x.place[s.Key] = i
		if s.Rule == nil {
			continue // reported
		}
		for event := range p.Plan.Events {
			reads := s.Rule.AnyEvent || slices.Contains(s.Rule.Events, event)
			if reads {
				x.byEvent[event] = append(x.byEvent[event], i)
			}
			if reads || len(s.Rule.Traits) > 0 {
				x.withTraits[event] = append(x.withTraits[event], i)
			}
		}
		for _, other := range s.Rule.Segments {
			x.bySegment[other] = append(x.bySegment[other], i)
		}
		if s.Rule.AsksVariant {
			x.byVariant = append(x.byVariant, i)
		}
	}
	return x
}

// EventNames returns the names of all declared events, sorted; not to be changed.
func (p *Playbook) EventNames() []string { return p.asked.names }

// AskedBy returns the places of the segments whose answer an event can change; none for an event that is not declared.
func (p *Playbook) AskedBy(event string, hasTraits bool) []int {
	if hasTraits {
		return p.asked.withTraits[event]
	}
	return p.asked.byEvent[event]
}

// AskedBySegment returns the places of the segments that ask about a segment. All stand behind it.
func (p *Playbook) AskedBySegment(key string) []int { return p.asked.bySegment[key] }

// AskedByVariant returns the places of the segments that ask which variant a user met.
func (p *Playbook) AskedByVariant() []int { return p.asked.byVariant }

// Place returns a segment's place in Segments, false where there is none of that key.
func (p *Playbook) Place(key string) (int, bool) {
	i, ok := p.asked.place[key]
	return i, ok
}
