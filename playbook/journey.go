package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/segment"
)

// Bounds of a journey.
const (
	MaxSteps       = 500
	MaxEnrollments = 16 // of one user in one journey at a time, where it is entered per value of a property
)

func (c *compiler) allJourneys(node *yaml.Node) {
	for _, p := range c.mapping(node, "journeys") {
		key := c.key(p.key, "journey")
		f := c.fields(p.value, "journey "+key,
			"description", "priority", "paused", "enter", "reentry", "goal", "exit", "migrate", "steps")
		j := &Journey{
			Key: key, Description: c.text(f["description"], "description"), Version: c.playbook.Hash,
			Priority: c.integer(f["priority"], "priority", -1000, 1000), Paused: c.boolean(f["paused"], "paused"),
			Reentry: ReenterNever, Steps: make(map[string]*Step),
		}
		c.reentry(f["reentry"], j)
		if f["enter"] == nil {
			c.fail(p.key, "journey %s needs enter: {on: event}, {segment: key} or {left: key}", key)
		} else {
			j.Enter = c.trigger(f["enter"])
		}
		c.goal(f["goal"], j)
		c.exits(f["exit"], j)
		if f["steps"] == nil {
			c.fail(p.key, "journey %s has no steps", key)
		} else {
			s := &stepper{compiler: c, journey: j, nodes: make(map[string]*yaml.Node)}
			sound := len(c.problems)
			j.First = s.list(f["steps"], "", "")
			if len(c.problems) == sound {
				s.unreachable()
			}
		}
		c.migrate(f["migrate"], j)
		if len(j.Steps) > MaxSteps {
			c.fail(p.key, "journey %s has %d steps; at most %d are taken", key, len(j.Steps), MaxSteps)
		}
		j.Digest = digest(p.value, c.playbook.Scale)
		slices.Sort(j.Same)
		j.Same = slices.Compact(j.Same)
		c.playbook.Journeys = append(c.playbook.Journeys, j)
		c.playbook.journeys[key] = j
	}
}

// digest names what a journey does to those inside: its text, but for what is said of it (description), of its place among others
// (priority), and of versions (paused, migrate). Comments, and how the YAML is laid out, are no part of it.
func digest(journey *yaml.Node, scale float64) string {
	h := sha256.New()
	fmt.Fprintf(h, "%g", scale) // hash.Hash never returns an error
	var add func(node *yaml.Node)
	add = func(node *yaml.Node) {
		fmt.Fprintf(h, "(%d %s %d:%s", node.Kind, node.ShortTag(), len(node.Value), node.Value)
		for _, child := range node.Content {
			add(child)
		}
		fmt.Fprint(h, ")")
	}
	for i := 0; i+1 < len(journey.Content); i += 2 {
		if !slices.Contains([]string{"description", "priority", "paused", "migrate"}, journey.Content[i].Value) {
			add(journey.Content[i])
			add(journey.Content[i+1])
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// note remembers that the engine must see these events.
func (c *compiler) note(events []string, rules ...*segment.Rule) {
	for _, e := range events {
		c.playbook.reads[e] = true
	}
	for _, r := range rules {
		if r == nil {
			continue
		}
		c.playbook.anyEvent = c.playbook.anyEvent || r.AnyEvent
		for _, e := range r.Events {
			c.playbook.reads[e] = true
		}
	}
}

func (c *compiler) checkSegment(node *yaml.Node) string {
	if node == nil {
		return ""
	}
	key := c.text(node, "segment")
	if !slices.Contains(c.segmentKeys(), key) {
		c.misspelled(node, key, c.segmentKeys(), "segment %q is not defined", key)
	}
	return key
}

func (c *compiler) checkRule(node *yaml.Node, rule *segment.Rule) {
	if rule == nil {
		return
	}
	for _, key := range rule.Segments {
		if !slices.Contains(c.segmentKeys(), key) {
			c.misspelledIn(node, key, c.segmentKeys(), "the rule asks about segment %q, which is not defined", key)
		}
	}
	c.checkExperiments(node, rule)
}

func (c *compiler) checkExperiments(node *yaml.Node, rule *segment.Rule) {
	for _, key := range rule.Experiments {
		if c.playbook.Experiments[key] == nil {
			c.misspelledIn(node, key, keysOf(c.playbook.Experiments), "the rule asks for the variant of experiment %q, which is not defined", key)
		}
	}
}

func (c *compiler) condition(node *yaml.Node) *segment.Rule {
	rule := c.rule(node, "when")
	c.checkRule(node, rule)
	return rule
}

// filter compiles a condition on the properties of one of the events. entry names the events that can have let the user in.
func (c *compiler) filter(node *yaml.Node, events, entry []string) *segment.Filter {
	if node == nil {
		return nil
	}
	source := c.text(node, "where")
	if node.Kind != yaml.ScalarNode {
		return nil
	}
	if len(events) == 0 {
		c.fail(node, "where looks at the properties of an event: it needs on: event beside it")
		return nil
	}
	if slices.ContainsFunc(slices.Concat(events, entry), func(name string) bool { return !c.playbook.Set.Declares(name) }) {
		return nil // reported where they are named
	}
	filter, problems := c.playbook.Set.CompileFilter(source, events, entry)
	c.ruleProblems(node, "where", problems)
	return filter
}

// correlated is filter for what comes after the entry: it may look at the entry event's properties too.
func (c *compiler) correlated(node *yaml.Node, events []string, j *Journey) *segment.Filter {
	filter := c.filter(node, events, j.Enter.Events)
	if filter != nil {
		j.Same = append(j.Same, filter.Same...)
	}
	return filter
}

func (c *compiler) trigger(node *yaml.Node) Trigger {
	f := c.fields(node, "enter", "on", "where", "segment", "left", "when", "per")
	t := Trigger{
		Events: c.eventList(f["on"], "on"), Segment: c.checkSegment(f["segment"]), Left: c.checkSegment(f["left"]),
		When: c.condition(f["when"]),
	}
	t.Where = c.filter(f["where"], t.Events, nil)
	ways := 0
	for _, is := range []bool{f["on"] != nil, f["segment"] != nil, f["left"] != nil} {
		if is {
			ways++
		}
	}
	if ways != 1 {
		c.fail(node, "enter needs one of on: event, segment: key or left: key")
	}
	if f["per"] != nil {
		t.Per = c.text(f["per"], "per")
		c.entryProperty(f["per"], t.Per, t.Events)
	}
	c.note(t.Events, t.When)
	return t
}

// entryProperty checks a property that every event which lets a user in must declare.
func (c *compiler) entryProperty(node *yaml.Node, property string, events []string) {
	if len(events) == 0 {
		c.fail(node, "%s is a property of the event that lets the user in; this journey is entered by a segment", property)
	}
	for _, event := range events {
		if declared, ok := c.playbook.Plan.Events[event]; ok && declared[property] == "" {
			c.misspelled(node, property, keysOf(declared), "event %s declares no property %q", event, property)
		}
	}
}

func (c *compiler) reentry(node *yaml.Node, j *Journey) {
	switch {
	case node == nil:
	case node.Kind == yaml.MappingNode:
		f := c.fields(node, "reentry", "after")
		if f["after"] == nil {
			c.fail(node, "reentry needs after: a time since the last end, such as {after: 30d}")
		}
		j.Reentry, j.Cooldown = ReenterAfterExit, c.duration(f["after"], "after")
	default:
		j.Reentry = Reentry(c.text(node, "reentry"))
		if j.Reentry != ReenterNever && j.Reentry != ReenterAfterExit {
			c.misspelled(node, string(j.Reentry), []string{string(ReenterNever), string(ReenterAfterExit)}, "reentry must be never, after_exit, or {after: 30d}")
		}
	}
}

func (c *compiler) goal(node *yaml.Node, j *Journey) {
	if node == nil {
		return
	}
	f := c.fields(node, "goal", "on", "where", "within")
	if f["on"] == nil || f["within"] == nil {
		c.fail(node, "goal needs on and within, such as {on: activated, within: 14d}")
		return
	}
	j.Goal = &Goal{Event: c.event(f["on"]), Within: c.duration(f["within"], "within")}
	j.Goal.Where = c.correlated(f["where"], []string{j.Goal.Event}, j)
	c.note([]string{j.Goal.Event})
}

func (c *compiler) exits(node *yaml.Node, j *Journey) {
	if node == nil {
		return
	}
	if node.Kind != yaml.SequenceNode {
		c.fail(node, "exit must be a list, such as - {on: account_closed, reason: closed}")
		return
	}
	for _, item := range node.Content {
		f := c.fields(item, "exit", "on", "where", "left", "entered", "when", "reason")
		e := Exit{
			Events: c.eventList(f["on"], "on"), Left: c.checkSegment(f["left"]), Entered: c.checkSegment(f["entered"]),
			When: c.condition(f["when"]), Reason: "exited",
		}
		e.Where = c.correlated(f["where"], e.Events, j)
		if f["reason"] != nil {
			e.Reason = c.key(f["reason"], "reason")
		}
		if len(e.Events) == 0 && e.Left == "" && e.Entered == "" && e.When == nil {
			c.fail(item, "an exit needs on, left, entered or when")
		}
		c.note(e.Events, e.When)
		j.Exits = append(j.Exits, e)
	}
}

// migrate reads what becomes of those inside when the playbook changes. Whether the old version has the steps that a map names
// is for Diff to say: this one is all there is here.
func (c *compiler) migrate(node *yaml.Node, j *Journey) {
	j.Migrate = Migration{Policy: MigrateStay}
	switch {
	case node == nil:
	case node.Kind == yaml.MappingNode:
		f := c.fields(node, "migrate", "move")
		if f["move"] == nil {
			c.fail(node, "migrate is stay, exit, or {move: {old_step: new_step}}")
			return
		}
		j.Migrate = Migration{Policy: MigrateMove, Steps: make(map[string]string)}
		for _, p := range c.mapping(f["move"], "move") {
			to := c.text(p.value, "the step to move to")
			if j.Steps[to] == nil {
				c.misspelled(p.value, to, j.Order, "journey %s has no step %q to move to", j.Key, to)
			}
			j.Migrate.Steps[p.key.Value] = to
		}
	default:
		policy := Policy(c.text(node, "migrate"))
		if policy != MigrateStay && policy != MigrateExit && policy != MigrateMove {
			c.misspelled(node, string(policy), []string{string(MigrateStay), string(MigrateExit), string(MigrateMove)}, "migrate is stay, exit, move, or {move: {old_step: new_step}}")
			return
		}
		j.Migrate.Policy = policy
	}
}
