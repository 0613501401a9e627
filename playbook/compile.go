package playbook

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/segment"
)

// sections are the top-level keys, in the order in which they depend on each other. Each may stand in one file only, so
// that a reader finds a thing in one place.
func sections() []string {
	return []string{
		"name", "events", "traits", "scores", "zone", "segments", "metrics", "experiments", "consent", "limit", "quiet", "expire",
		"holdout", "actions", "journeys",
	}
}

// maxSegmentDepth bounds how many segments may stand one behind the other, each asking about the next.
const maxSegmentDepth = 32

// section is a top-level key with the file it stands in.
type section struct {
	file string
	node *yaml.Node
}

// Compile reads and checks a bundle. It returns the playbook, or all its problems.
func Compile(b Bundle) (*Playbook, error) { return (&compiler{}).compile(b) }

func (c *compiler) compile(b Bundle) (*Playbook, error) {
	p := &Playbook{
		Hash: b.Hash(), Scale: b.Scale, Metrics: make(map[string]*Metric), Experiments: make(map[string]*Experiment), Actions: make(map[string]*Action),
		Consent: make(map[string]*segment.Rule), journeys: make(map[string]*Journey), reads: make(map[string]bool),
		Plan: newPlan(),
	}
	if !(b.Scale > 0 && b.Scale <= 1) {
		return nil, Problems{{File: "bundle", Line: 1, Column: 1, Message: fmt.Sprintf("the scale %g must lie in (0, 1]", b.Scale)}}
	}
	c.playbook, c.sources = p, b.Files
	found := c.sections(b)
	for _, name := range sections() {
		if s, ok := found[name]; ok && slices.Contains(planSections(), name) {
			c.file, c.source = s.file, b.Files[s.file]
			c.planSection(name, s.node)
		}
	}
	p.Set = segment.NewSet(p.Plan, b.Scale)
	for _, name := range sections() {
		if s, ok := found[name]; ok && !slices.Contains(planSections(), name) {
			c.file, c.source = s.file, b.Files[s.file]
			c.section(name, s.node)
		}
	}
	c.finish(found)
	if len(c.problems) > 0 {
		return nil, c.problems.sorted()
	}
	return p, nil
}

func (c *compiler) sections(b Bundle) map[string]section {
	found := make(map[string]section)
	if len(b.Files) == 0 || len(b.Files) > MaxFiles {
		c.file = "playbook"
		c.fail(nil, "a playbook has 1 to %d YAML files; this one has %d", MaxFiles, len(b.Files))
	}
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		c.file = name
		node, ok := c.document(b.Files[name])
		if !ok {
			continue
		}
		for _, p := range c.mapping(node, "a playbook file") {
			if !slices.Contains(sections(), p.key.Value) {
				c.misspelled(p.key, p.key.Value, sections(), "unknown key %q; a playbook has: %s", p.key.Value, strings.Join(sections(), ", "))
				continue
			}
			if other, twice := found[p.key.Value]; twice {
				c.fail(p.key, "%s stands in %s too: keep it in one file", p.key.Value, other.file)
				continue
			}
			found[p.key.Value] = section{name, p.value}
		}
	}
	return found
}

func (c *compiler) document(text string) (*yaml.Node, bool) {
	if len(text) > MaxFileBytes {
		c.unread = true
		c.fail(nil, "the file has %d bytes; at most %d are read", len(text), MaxFileBytes)
		return nil, false
	}
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, false // an empty file says nothing, which is no problem
		}
		c.syntax(text, err)
		return nil, false
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		c.syntax(text, err)
	default:
		c.fail(&second, "one YAML document a file: a second one follows")
	}
	c.noAliases(&doc)
	c.unread = c.unread || doc.Content[0].Kind == yaml.SequenceNode
	return doc.Content[0], true
}

func (c *compiler) section(name string, node *yaml.Node) {
	switch name {
	case "name":
		c.playbook.Name = c.text(node, "name")
	case "segments":
		c.segments(node)
	case "metrics":
		c.metrics(node)
	case "experiments":
		c.experiments(node)
	case "consent":
		for _, p := range c.mapping(node, "consent") {
			rule := c.condition(p.value)
			c.note(nil, rule)
			c.playbook.Consent[c.key(p.key, "consent category")] = rule
		}
	case "limit":
		c.limits(node)
	case "quiet":
		c.quiet(node)
	case "expire":
		c.playbook.Expire = c.duration(node, "expire")
	case "holdout":
		c.holdout(node)
	case "actions":
		c.actions(node)
	case "journeys":
		c.allJourneys(node)
	}
}

func (c *compiler) segments(node *yaml.Node) {
	rules := make(map[string]*yaml.Node)
	byKey := make(map[string]Segment)
	var order []string
	for _, p := range c.mapping(node, "segments") {
		key := c.key(p.key, "segment")
		f := c.fields(p.value, "segment "+key, "description", "when")
		if f["when"] == nil {
			c.fail(p.key, "segment %s needs a rule: when: …", key)
			continue
		}
		rule := c.rule(f["when"], "when")
		rules[key] = f["when"]
		order = append(order, key)
		byKey[key] = Segment{Key: key, Description: c.text(f["description"], "description"), Rule: rule}
	}
	c.playbook.Segments = c.sortSegments(order, byKey, rules)
}

// sortSegments puts each segment behind those it asks about, so that one pass in order sees settled answers.
func (c *compiler) sortSegments(order []string, byKey map[string]Segment, rules map[string]*yaml.Node) []Segment {
	const visiting, done = 1, 2
	state := make(map[string]int)
	sorted := make([]Segment, 0, len(order))
	deep := false
	var visit func(key string, path []string)
	visit = func(key string, path []string) {
		switch {
		case state[key] == done:
			return
		case len(path) > maxSegmentDepth:
			if !deep {
				c.fail(rules[key], "too_deep: segments ask about segments at most %d deep", maxSegmentDepth)
			}
			deep = true
			return
		case state[key] == visiting:
			c.circle(append(path, key), rules)
			return
		}
		state[key] = visiting
		s := byKey[key]
		if s.Rule != nil {
			for _, other := range s.Rule.Segments {
				if _, ok := byKey[other]; !ok {
					c.misspelledIn(rules[key], other, order, "segment %s asks about %q, which is not defined", key, other)
					continue
				}
				visit(other, append(path, key))
			}
		}
		state[key] = done
		sorted = append(sorted, s)
	}
	for _, key := range order {
		visit(key, nil)
	}
	return sorted
}

// circle reports segments that ask about each other, at every place where one does: any of them may be the mistake.
func (c *compiler) circle(path []string, rules map[string]*yaml.Node) {
	path = path[slices.Index(path, path[len(path)-1]):]
	for i, key := range path[:len(path)-1] {
		c.misspelledIn(rules[key], path[i+1], nil, "cycle: segment %s asks about itself: %s", path[0], strings.Join(path, " → "))
	}
}

func (c *compiler) actions(node *yaml.Node) {
	for _, p := range c.mapping(node, "actions") {
		key := c.key(p.key, "action")
		f := c.fields(p.value, "action "+key, "description", "deliver", "category", "uncapped", "quiet")
		a := &Action{Key: key, Description: c.text(f["description"], "description"), Category: c.text(f["category"], "category")}
		if a.Category != "" && c.playbook.Consent[a.Category] == nil {
			c.misspelled(f["category"], a.Category, keysOf(c.playbook.Consent), "category %q has no rule under consent", a.Category)
		}
		a.Uncapped, a.Quiet = c.boolean(f["uncapped"], "uncapped"), QuietHold
		if f["quiet"] != nil {
			a.Quiet = Quiet(c.text(f["quiet"], "quiet"))
			if a.Quiet != QuietHold && a.Quiet != QuietDrop && a.Quiet != QuietIgnore {
				c.misspelled(f["quiet"], string(a.Quiet), []string{string(QuietHold), string(QuietDrop), string(QuietIgnore)}, "quiet must be hold, drop or ignore")
			}
		}
		switch deliver := c.text(f["deliver"], "deliver"); {
		case deliver == "" || deliver == "nats":
		case strings.HasPrefix(deliver, "webhook:") && keyShape.MatchString(strings.TrimPrefix(deliver, "webhook:")):
			a.Webhook = strings.TrimPrefix(deliver, "webhook:")
		default:
			c.fail(f["deliver"], "deliver must be nats, or webhook:NAME with the name of a receiver in the operator's configuration")
		}
		c.playbook.Actions[key] = a
	}
}

// finish checks what needs the whole playbook, and indexes which events are read at all.
func (c *compiler) finish(found map[string]section) {
	p := c.playbook
	for _, name := range []string{"name", "events"} {
		if _, ok := found[name]; !ok && !c.unread {
			c.file = "playbook"
			c.fail(nil, "the playbook has no %s", name)
		}
	}
	slices.SortStableFunc(p.Journeys, func(a, b *Journey) int {
		if a.Priority != b.Priority {
			return b.Priority - a.Priority
		}
		return strings.Compare(a.Key, b.Key)
	})
	for _, slot := range p.Set.Slots() {
		p.reads[slot.Event] = true
	}
	p.asked = newIndex(p)
	c.file, c.source = found["segments"].file, c.sources[found["segments"].file]
	for i := range p.Segments {
		rule := p.Segments[i].Rule
		if rule == nil {
			continue
		}
		c.note(nil, rule)
		c.checkExperiments(valueOf(valueOf(found["segments"].node, p.Segments[i].Key), "when"), rule)
	}
}

// valueOf finds the value of a mapping's key; nil where there is none.
func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; mapping != nil && i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}
