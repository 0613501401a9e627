package playbook

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/segment"
)

// stepper lays the nested steps of one journey out as nodes that name their followers.
type stepper struct {
	*compiler
	journey *Journey
	nodes   map[string]*yaml.Node // of each step
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
	key, at := place, item
	if item.Kind == yaml.MappingNode {
		if id := valueOf(item, "id"); id != nil {
			key, at = s.key(id, "id"), id
		}
	}
	if s.journey.Steps[key] != nil {
		s.fail(at, "a step with id %s stands already in journey %s", key, s.journey.Key)
	}
	s.journey.Steps[key], s.nodes[key] = &Step{Key: key}, item
	return key
}

// kindKeys lists the keys of each kind of step; the kind's own name is one of them.
func kindKeys() map[string][]string {
	return map[string][]string{
		"action":     {"action", "with", "expire"},
		"delay":      {"delay"},
		"wait":       {"wait"},
		"branch":     {"branch"},
		"experiment": {"experiment", "variants", "factor"},
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
		s.noKind(item)
		return
	}
	f := s.fields(item, "a step of kind "+kind, append([]string{"id"}, kindKeys()[kind]...)...)
	step := s.journey.Steps[key]
	step.Kind, step.Next = StepKind(kind), next
	switch step.Kind {
	case StepAction:
		s.action(step, f)
	case StepDelay:
		s.delay(step, f["delay"])
	case StepWait:
		s.wait(step, f["wait"], next)
	case StepBranch:
		s.branch(step, f["branch"], next)
	case StepExperiment:
		s.experiment(step, f, next)
	default:
		step.Reason = s.key(f["exit"], "exit reason")
	}
}

// noKind reports a step without a kind, at the key that was meant to be one where there is such.
func (s *stepper) noKind(item *yaml.Node) {
	kinds := slices.Sorted(maps.Keys(kindKeys()))
	at, name := item, ""
	for i := 0; i+1 < len(item.Content) && name == ""; i += 2 {
		if key := item.Content[i]; len(nearest(key.Value, kinds)) > 0 {
			at, name = key, key.Value
		}
	}
	s.misspelled(at, name, kinds, "a step is one of: %s", strings.Join(kinds, ", "))
}

func (s *stepper) action(step *Step, f map[string]*yaml.Node) {
	step.Action = s.text(f["action"], "action")
	if s.playbook.Actions[step.Action] == nil {
		s.misspelled(f["action"], step.Action, keysOf(s.playbook.Actions), "action %q is not declared: add it under actions", step.Action)
	}
	step.Expire = s.playbook.Expire
	if f["expire"] != nil {
		step.Expire = s.duration(f["expire"], "expire")
	}
	if f["with"] == nil {
		return
	}
	if err := f["with"].Decode(&step.With); err != nil {
		s.fail(f["with"], "with must be a mapping of names to values")
	}
	if _, err := json.Marshal(step.With); err != nil {
		s.fail(f["with"], "with must hold values that JSON has: texts, numbers, true, false, lists and mappings of names")
	}
	for _, reference := range References(step.With, "traits") {
		if _, ok := s.playbook.Plan.Traits[reference]; !ok {
			s.misspelled(holding(f["with"], "${traits."+reference+"}"), reference, keysOf(s.playbook.Plan.Traits), "${traits.%s} is not a declared trait", reference)
		}
	}
	for _, property := range References(step.With, "same") {
		s.entryProperty(holding(f["with"], "${same."+property+"}"), property, s.journey.Enter.Events)
		s.journey.Same = append(s.journey.Same, property)
	}
}

// delay reads a duration, or a local time after one.
func (s *stepper) delay(step *Step, node *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		step.Duration = s.duration(node, "delay")
		return
	}
	f := s.fields(node, "delay", "for", "at", "on")
	if f["for"] != nil {
		step.Duration = s.duration(f["for"], "for")
	}
	if f["at"] != nil {
		clock := s.clock(f["at"], "at")
		step.At = &clock
	}
	for _, day := range s.texts(f["on"], "on") {
		weekday, err := segment.ParseWeekday(day.Value)
		if err != nil {
			s.misspelled(day, day.Value, []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, "on: %v", err)
		}
		step.Days = append(step.Days, weekday)
	}
	if len(f) == 0 {
		s.fail(node, "delay is a duration such as 1d, or has for, at or on, such as {for: 1d, at: \"09:00\"}")
	}
}

// Over returns when a wait times out or a delay ends that began at from: both Unix milliseconds. Delays to a local time need the
// user's zone.
func (step *Step) Over(from int64, zone *time.Location) int64 {
	at := from + step.Duration.Milliseconds()
	switch {
	case step.At != nil:
		return segment.NextClock(at, *step.At, step.Days, zone)
	case len(step.Days) > 0:
		return segment.NextDay(at, step.Days, zone)
	default:
		return at
	}
}

func (s *stepper) wait(step *Step, node *yaml.Node, next string) {
	f := s.fields(node, "wait", "on", "where", "when", "up_to", "timeout")
	step.Events, step.When = s.eventList(f["on"], "on"), s.condition(f["when"])
	step.Where = s.correlated(f["where"], step.Events, s.journey)
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
		s.misspelled(f["experiment"], step.Experiment, keysOf(s.playbook.Experiments), "experiment %q is not defined", step.Experiment)
		return
	}
	if f["variants"] == nil {
		s.fail(f["experiment"], "the step needs variants: the steps of each")
		return
	}
	if f["factor"] != nil {
		s.factor(step, e, f, next)
		return
	}
	step.Variants = make(map[string]string)
	for _, p := range s.mapping(f["variants"], "variants") {
		if !slices.Contains(variantKeys(e), p.key.Value) {
			s.misspelled(p.key, p.key.Value, variantKeys(e), "experiment %s has the variants %s and no others", step.Experiment, strings.Join(variantKeys(e), ", "))
		}
		step.Variants[p.key.Value] = s.list(p.value, step.Key+"_"+p.key.Value+"_", next)
	}
	for _, v := range e.Variants {
		if _, ok := step.Variants[v.Key]; !ok && v.Key == e.Holdout {
			step.Variants[v.Key] = next // held out: on behind the experiment
			continue
		}
		if _, ok := step.Variants[v.Key]; !ok {
			s.fail(f["variants"], "variant %s of experiment %s has no steps here", v.Key, step.Experiment)
		}
	}
}

// factor compiles a step that looks at one factor of the flow: all variants with one level of it take the same steps.
func (s *stepper) factor(step *Step, e *Experiment, f map[string]*yaml.Node, next string) {
	step.Factor = s.text(f["factor"], "factor")
	factors := make([]string, len(e.Factors))
	for i, factor := range e.Factors {
		factors[i] = factor.Key
	}
	i := slices.Index(factors, step.Factor)
	if i < 0 {
		s.misspelled(f["factor"], step.Factor, factors, "experiment %s has no factor %q", e.Key, step.Factor)
		return
	}
	levels, known := make(map[string]string), levelKeys(e.Factors[i].Levels)
	for _, p := range s.mapping(f["variants"], "variants") {
		if !slices.Contains(known, p.key.Value) {
			s.misspelled(p.key, p.key.Value, known, "factor %s has the levels %s and no others", step.Factor, strings.Join(known, ", "))
		}
		levels[p.key.Value] = s.list(p.value, step.Key+"_"+p.key.Value+"_", next)
	}
	for _, level := range known {
		if _, ok := levels[level]; !ok {
			s.fail(f["variants"], "level %s of factor %s has no steps here", level, step.Factor)
		}
	}
	step.Variants = make(map[string]string)
	for variant, of := range e.Levels {
		step.Variants[variant] = levels[of[step.Factor]]
	}
}

func variantKeys(e *Experiment) []string { return levelKeys(e.Variants) }

func levelKeys(variants []experiment.Variant) []string {
	keys := make([]string, len(variants))
	for i, v := range variants {
		keys[i] = v.Key
	}
	return keys
}
