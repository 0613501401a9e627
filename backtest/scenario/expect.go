package scenario

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/playbook"
)

// kinds lists the keys that say what an expectation is about.
func kinds() []Kind {
	return []Kind{
		KindAction, KindSuppressed, KindSegment, KindLeft, KindStarted, KindEnded, KindStep, KindConverted, KindExposed, KindState,
	}
}

// details lists what else an expectation of a kind may say.
func (k Kind) details() []string {
	switch k {
	case KindAction:
		return []string{"with", "segments", "journey"}
	case KindSuppressed:
		return []string{"reason", "journey"}
	case KindEnded:
		return []string{"reason"}
	case KindConverted:
		return []string{"journey"}
	case KindExposed:
		return []string{"variant"}
	case KindState:
		return []string{"not_in"}
	default:
		return nil
	}
}

// expectation reads an entry of expect, or of never, which has no moment.
func (p *parser) expectation(item *yaml.Node, timed bool) Expectation {
	e := Expectation{Line: item.Line, Kind: p.kind(item, timed)}
	if e.Kind == "" {
		return e
	}
	allowed := append([]string{string(e.Kind)}, e.Kind.details()...)
	what := "an expectation of kind " + string(e.Kind)
	if timed {
		allowed = append([]string{"at"}, allowed...)
	} else {
		what = "never " + string(e.Kind)
	}
	f := p.fields(item, what, allowed...)
	if timed {
		e.At = p.when(item, f)
	}
	e.Reason, e.Variant, e.With = p.text(f["reason"], "reason"), p.text(f["variant"], "variant"), p.values(f["with"], "with")
	if e.Kind == KindState {
		e.In, e.NotIn = p.segments(f["in"], "in"), p.segments(f["not_in"], "not_in")
		return e
	}
	if f["segments"] != nil {
		e.Segments = append([]string{}, p.segments(f["segments"], "segments")...)
	}
	if e.Journey = p.text(f["journey"], "journey"); e.Journey != "" {
		p.journey(f["journey"], e.Journey)
	}
	node := f[string(e.Kind)]
	if e.Key = p.text(node, string(e.Kind)); e.Key != "" {
		p.name(node, e.Kind, e.Key)
	}
	if e.Variant != "" {
		p.variant(f["variant"], e.Key, e.Variant)
	}
	return e
}

// kind finds the one key that says what an entry is about.
func (p *parser) kind(item *yaml.Node, timed bool) Kind {
	if item.Kind != yaml.MappingNode {
		p.fail(item, "an expectation must be a mapping such as {at: +24h, action: send_reminder}")
		return ""
	}
	var found []Kind
	for i := 0; i+1 < len(item.Content); i += 2 {
		key := Kind(item.Content[i].Value)
		if key == "not_in" {
			key = KindState
		}
		if slices.Contains(kinds(), key) && !slices.Contains(found, key) && (timed || key != KindState) {
			found = append(found, key)
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	names := make([]string, 0, len(kinds()))
	for _, k := range kinds() {
		if timed || k != KindState {
			names = append(names, string(k))
		}
	}
	p.fail(item, "an expectation has exactly one of: %s", strings.Join(names, ", "))
	return ""
}

func (p *parser) segments(node *yaml.Node, what string) []string {
	var list []string
	for _, item := range p.list(node, what) {
		if key := p.text(item, "a segment"); p.name(item, KindSegment, key) {
			list = append(list, key)
		}
	}
	return list
}

func (p *parser) journey(node *yaml.Node, name string) bool { return p.name(node, KindStarted, name) }

// name checks that the playbook, in one of its versions, has what an expectation is about.
func (p *parser) name(node *yaml.Node, kind Kind, name string) bool {
	switch kind {
	case KindAction, KindSuppressed:
		return p.known(node, "action", name, func(b *playbook.Playbook) []string { return slices.Collect(maps.Keys(b.Actions)) })
	case KindSegment, KindLeft:
		return p.known(node, "segment", name, segmentKeys)
	case KindStarted, KindEnded:
		return p.known(node, "journey", name, journeyKeys)
	case KindStep:
		return p.known(node, "step", name, stepKeys)
	case KindConverted:
		return p.known(node, "goal", name, goals)
	case KindExposed:
		return p.experiment(node, name)
	default:
		return true
	}
}

func segmentKeys(b *playbook.Playbook) []string {
	keys := make([]string, len(b.Segments))
	for i := range b.Segments {
		keys[i] = b.Segments[i].Key
	}
	return keys
}

func journeyKeys(b *playbook.Playbook) []string {
	keys := make([]string, len(b.Journeys))
	for i, j := range b.Journeys {
		keys[i] = j.Key
	}
	return keys
}

func stepKeys(b *playbook.Playbook) []string {
	var keys []string
	for _, j := range b.Journeys {
		for _, step := range j.Order {
			keys = append(keys, j.Key+"/"+step)
		}
	}
	return keys
}

func goals(b *playbook.Playbook) []string {
	var names []string
	for _, j := range b.Journeys {
		if j.Goal != nil {
			names = append(names, j.Goal.Event)
		}
	}
	return names
}
