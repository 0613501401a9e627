package playbook

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/segment"
)

// MaxSteps bounds a journey.
const MaxSteps = 500

func (c *compiler) allJourneys(node *yaml.Node) {
	for _, p := range c.mapping(node, "journeys") {
		key := c.key(p.key, "journey")
		f := c.fields(p.value, "journey "+key, "description", "priority", "enter", "reentry", "goal", "exit", "steps")
		j := &Journey{
			Key: key, Description: c.text(f["description"], "description"), Version: c.playbook.Hash,
			Priority: c.integer(f["priority"], "priority", -1000, 1000), Reentry: ReenterNever, Steps: make(map[string]*Step),
		}
		if f["reentry"] != nil {
			j.Reentry = Reentry(c.text(f["reentry"], "reentry"))
			if j.Reentry != ReenterNever && j.Reentry != ReenterAfterExit {
				c.fail(f["reentry"], "reentry must be never or after_exit")
			}
		}
		if f["enter"] == nil {
			c.fail(p.key, "journey %s needs enter: {on: event} or {segment: key}", key)
		} else {
			j.Enter = c.trigger(f["enter"])
		}
		if f["goal"] != nil {
			j.Goal = c.goal(f["goal"])
		}
		if f["exit"] != nil {
			j.Exits = c.exits(f["exit"])
		}
		if f["steps"] == nil {
			c.fail(p.key, "journey %s has no steps", key)
		} else {
			s := &stepper{compiler: c, journey: j}
			j.First = s.list(f["steps"], "", "")
		}
		if len(j.Steps) > MaxSteps {
			c.fail(p.key, "journey %s has %d steps; at most %d are taken", key, len(j.Steps), MaxSteps)
		}
		c.playbook.Journeys = append(c.playbook.Journeys, j)
		c.playbook.journeys[key] = j
	}
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
	if !slices.ContainsFunc(c.playbook.Segments, func(s Segment) bool { return s.Key == key }) {
		c.fail(node, "segment %q is not defined", key)
	}
	return key
}

func (c *compiler) checkRule(node *yaml.Node, rule *segment.Rule) {
	if rule == nil {
		return
	}
	for _, key := range rule.Segments {
		if !slices.ContainsFunc(c.playbook.Segments, func(s Segment) bool { return s.Key == key }) {
			c.fail(node, "the rule asks about segment %q, which is not defined", key)
		}
	}
	c.checkExperiments(node, rule)
}

func (c *compiler) checkExperiments(node *yaml.Node, rule *segment.Rule) {
	for _, key := range rule.Experiments {
		if c.playbook.Experiments[key] == nil {
			c.fail(node, "the rule asks for the variant of experiment %q, which is not defined", key)
		}
	}
}

func (c *compiler) condition(node *yaml.Node) *segment.Rule {
	rule := c.rule(node, "when")
	c.checkRule(node, rule)
	return rule
}

func (c *compiler) trigger(node *yaml.Node) Trigger {
	f := c.fields(node, "enter", "on", "segment", "when")
	t := Trigger{Events: c.eventList(f["on"], "on"), Segment: c.checkSegment(f["segment"]), When: c.condition(f["when"])}
	if (len(t.Events) == 0) == (t.Segment == "") {
		c.fail(node, "enter needs either on: event or segment: key")
	}
	c.note(t.Events, t.When)
	return t
}

func (c *compiler) goal(node *yaml.Node) *Goal {
	f := c.fields(node, "goal", "on", "within")
	if f["on"] == nil || f["within"] == nil {
		c.fail(node, "goal needs on and within, such as {on: activated, within: 14d}")
		return nil
	}
	g := &Goal{Event: c.event(f["on"]), Within: c.duration(f["within"], "within")}
	c.note([]string{g.Event})
	return g
}

func (c *compiler) exits(node *yaml.Node) []Exit {
	if node.Kind != yaml.SequenceNode {
		c.fail(node, "exit must be a list, such as - {on: account_closed, reason: closed}")
		return nil
	}
	var exits []Exit
	for _, item := range node.Content {
		f := c.fields(item, "exit", "on", "left", "when", "reason")
		e := Exit{
			Events: c.eventList(f["on"], "on"), Left: c.checkSegment(f["left"]), When: c.condition(f["when"]),
			Reason: "exited",
		}
		if f["reason"] != nil {
			e.Reason = c.key(f["reason"], "reason")
		}
		if len(e.Events) == 0 && e.Left == "" && e.When == nil {
			c.fail(item, "an exit needs on, left or when")
		}
		c.note(e.Events, e.When)
		exits = append(exits, e)
	}
	return exits
}

// stepper lays the nested steps of one journey out as nodes that name their followers.
type stepper struct {
	*compiler
	journey *Journey
}

// list compiles a list of steps and returns the key of its first. after is where the last leads; path names the list.
func (s *stepper) list(node *yaml.Node, path, after string) string {
	if node.Kind != yaml.SequenceNode {
		s.fail(node, "steps must be a list")
		return after
	}
	keys := make([]string, len(node.Content))
	for i, item := range node.Content {
		keys[i] = s.stepKey(item, fmt.Sprintf("%s%d", cmp.Or(path, "s"), i+1))
	}
	for i, item := range node.Content {
		next := after
		if i+1 < len(keys) {
			next = keys[i+1]
		}
		s.step(item, keys[i], next)
	}
	if len(keys) == 0 {
		return after
	}
	return keys[0]
}

// stepKey is the step's own id, or its place. It is reserved before the step is read, so that the one before can name it.
func (s *stepper) stepKey(item *yaml.Node, place string) string {
	key := place
	if item.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(item.Content); i += 2 {
			if item.Content[i].Value == "id" {
				key = s.key(item.Content[i+1], "id")
			}
		}
	}
	if s.journey.Steps[key] != nil {
		s.fail(item, "a step with id %s stands already in journey %s", key, s.journey.Key)
	}
	s.journey.Steps[key] = &Step{Key: key}
	return key
}

// kindKeys lists the keys of each kind of step; the kind's own name is one of them.
func kindKeys() map[string][]string {
	return map[string][]string{
		"action":     {"action", "with", "expire"},
		"delay":      {"delay"},
		"wait":       {"wait"},
		"branch":     {"branch"},
		"experiment": {"experiment", "variants"},
		"exit":       {"exit"},
	}
}

func (s *stepper) step(item *yaml.Node, key, next string) {
	s.journey.Order = append(s.journey.Order, key)
	if item.Kind != yaml.MappingNode {
		s.mapping(item, "a step")
		return
	}
	kind := ""
	for i := 0; i+1 < len(item.Content) && kind == ""; i += 2 {
		if _, ok := kindKeys()[item.Content[i].Value]; ok {
			kind = item.Content[i].Value
		}
	}
	if kind == "" {
		s.fail(item, "a step is one of: %s", strings.Join(slices.Sorted(maps.Keys(kindKeys())), ", "))
		return
	}
	f := s.fields(item, "a step of kind "+kind, append([]string{"id"}, kindKeys()[kind]...)...)
	step := s.journey.Steps[key]
	step.Kind, step.Next = StepKind(kind), next
	switch step.Kind {
	case StepAction:
		s.action(step, f)
	case StepDelay:
		step.Duration = s.duration(f["delay"], "delay")
	case StepWait:
		s.wait(step, f["wait"], next)
	case StepBranch:
		s.branch(step, f["branch"], next)
	case StepExperiment:
		s.experiment(step, f, next)
	case StepExit:
		step.Reason = s.key(f["exit"], "exit reason")
	}
}

func (s *stepper) action(step *Step, f map[string]*yaml.Node) {
	step.Action = s.text(f["action"], "action")
	if s.playbook.Actions[step.Action] == nil {
		s.fail(f["action"], "action %q is not declared: add it under actions", step.Action)
	}
	step.Expire = s.duration(f["expire"], "expire")
	if f["with"] == nil {
		return
	}
	if err := f["with"].Decode(&step.With); err != nil {
		s.fail(f["with"], "with must be a mapping of names to values")
	}
	if _, err := json.Marshal(step.With); err != nil {
		s.fail(f["with"], "with must hold values that JSON has: texts, numbers, true, false, lists and mappings of names")
	}
	for _, reference := range References(step.With) {
		if _, ok := s.playbook.Plan.Traits[reference]; !ok {
			s.fail(f["with"], "${traits.%s} is not a declared trait", reference)
		}
	}
}

func (s *stepper) wait(step *Step, node *yaml.Node, next string) {
	f := s.fields(node, "wait", "on", "when", "up_to", "timeout")
	step.Events, step.When = s.eventList(f["on"], "on"), s.condition(f["when"])
	step.Duration = s.duration(f["up_to"], "up_to")
	if len(step.Events) == 0 && step.When == nil {
		s.fail(node, "wait needs on: event or when: rule")
	}
	if f["up_to"] == nil {
		s.fail(node, "wait needs up_to: how long at most, such as 3d")
	}
	s.note(step.Events, step.When)
	step.OnTimeout = next
	if f["timeout"] != nil {
		step.OnTimeout = s.list(f["timeout"], step.Key+"_timeout_", next)
	}
}

func (s *stepper) branch(step *Step, node *yaml.Node, next string) {
	if node.Kind != yaml.SequenceNode {
		s.fail(node, "branch must be a list of {when: rule, steps: […]}, {segment: key, steps: […]} and, last, {else: […]}")
		return
	}
	for i, item := range node.Content {
		f := s.fields(item, "branch", "when", "segment", "steps", "else")
		path := fmt.Sprintf("%s_%d_", step.Key, i+1)
		if f["else"] != nil {
			if len(f) > 1 || i+1 < len(node.Content) {
				s.fail(item, "else stands alone and last")
			}
			step.Next = s.list(f["else"], path, next)
			continue
		}
		b := Branch{Segment: s.checkSegment(f["segment"]), When: s.condition(f["when"]), To: next}
		if (b.Segment == "") == (f["when"] == nil) {
			s.fail(item, "a branch has either when or segment")
		}
		if f["steps"] != nil {
			b.To = s.list(f["steps"], path, next)
		}
		s.note(nil, b.When)
		step.Branches = append(step.Branches, b)
	}
}

func (s *stepper) experiment(step *Step, f map[string]*yaml.Node, next string) {
	step.Experiment = s.text(f["experiment"], "experiment")
	e := s.playbook.Experiments[step.Experiment]
	if e == nil {
		s.fail(f["experiment"], "experiment %q is not defined", step.Experiment)
		return
	}
	if f["variants"] == nil {
		s.fail(f["experiment"], "the step needs variants: the steps of each")
		return
	}
	step.Variants = make(map[string]string)
	for _, p := range s.mapping(f["variants"], "variants") {
		step.Variants[p.key.Value] = s.list(p.value, step.Key+"_"+p.key.Value+"_", next)
	}
	for _, v := range e.Variants {
		if _, ok := step.Variants[v.Key]; !ok {
			s.fail(f["variants"], "variant %s of experiment %s has no steps here", v.Key, step.Experiment)
		}
	}
	if len(step.Variants) > len(e.Variants) {
		s.fail(f["variants"], "experiment %s has the variants %s and no others", step.Experiment, variantKeys(e))
	}
}

func variantKeys(e *Experiment) string {
	keys := make([]string, len(e.Variants))
	for i, v := range e.Variants {
		keys[i] = v.Key
	}
	return strings.Join(keys, ", ")
}

var reference = regexp.MustCompile(`\$\{traits\.([a-z][a-z0-9_]*)\}`)

// References returns the traits that the texts of with name.
func References(with map[string]any) []string {
	var found []string
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case string:
			for _, m := range reference.FindAllStringSubmatch(v, -1) {
				found = append(found, m[1])
			}
		case []any:
			for _, item := range v {
				visit(item)
			}
		case map[string]any:
			for _, item := range v {
				visit(item)
			}
		}
	}
	visit(with)
	slices.Sort(found)
	return slices.Compact(found)
}

// Fill returns with, its references replaced by the user's traits. A text that is one reference keeps the trait's type; a
// trait without a value is null alone and empty within a text.
func Fill(with, traits map[string]any) map[string]any {
	filled := make(map[string]any, len(with))
	for k, v := range with {
		filled[k] = fill(v, traits)
	}
	return filled
}

func fill(v any, traits map[string]any) any {
	switch v := v.(type) {
	case string:
		if m := reference.FindStringSubmatch(v); m != nil && m[0] == v {
			return traits[m[1]]
		}
		return reference.ReplaceAllStringFunc(v, func(match string) string {
			if value, ok := traits[reference.FindStringSubmatch(match)[1]]; ok {
				return fmt.Sprint(value)
			}
			return ""
		})
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = fill(v[i], traits)
		}
		return list
	case map[string]any:
		return Fill(v, traits)
	default:
		return v
	}
}
