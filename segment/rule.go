package segment

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// Limits of a rule. Beyond them it is refused when it is compiled.
const (
	MaxRuleBytes   = 4096
	maxNesting     = 32
	maxPattern     = 128
	evaluationCost = 50_000
)

// Rule is a compiled rule. Immutable and safe for concurrent use.
type Rule struct {
	Source   string
	Events   []string // the events whose arrival can change the answer; sorted
	Traits   []string // likewise, that of the user's zone included; sorted
	Segments []string // the segments it asks about; sorted

	Experiments []string // the experiments whose variant it asks about; sorted
	AnyEvent    bool     // every declared event can change the answer (inactive_for, events())

	AsksVariant bool // meeting an experiment can change the answer

	set     *Set
	terms   []term
	program cel.Program
	checked *cel.Ast
	env     *cel.Env
	shown   []string // the traits whose values explain the answer; sorted
	repeats bool     // it names a trait more than once
	tree    func() *node
}

// RuleError is what is wrong with a rule, and where: line and column count from 1 within the rule's text.
type RuleError struct {
	Line, Column int
	Message      string
}

// Error returns position and message.
func (e *RuleError) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message) }

// Compile compiles a rule that answers true or false, adding the aggregates it reads to the set. It returns every problem
// found, each a *RuleError.
func (set *Set) Compile(source string) (*Rule, []error) {
	if err := checkSource(source); err != nil {
		return nil, []error{err}
	}
	b := &builder{set: set}
	env, err := b.environment()
	if err != nil {
		return nil, []error{&RuleError{1, 1, err.Error()}}
	}
	parsed, issues := env.Parse(source)
	if issues.Err() != nil {
		return nil, asErrors(ruleErrors(issues))
	}
	env, err = env.Extend(b.variables()...)
	if err != nil {
		return nil, []error{&RuleError{1, 1, err.Error()}}
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, asErrors(ruleErrors(issues))
	}
	if problems := b.check(checked); len(problems) > 0 {
		return nil, asErrors(problems)
	}
	r := &Rule{Source: source, set: set, terms: b.terms, env: env, checked: checked}
	if r.program, err = program(env, checked.NativeRep()); err != nil {
		return nil, []error{&RuleError{1, 1, err.Error()}}
	}
	r.index()
	r.tree = sync.OnceValue(r.grow)
	return r, nil
}

// program makes an expression ready to run. Counting its cost takes longer than most of them, so only those are counted that can cost
// much: the others are bounded by their length.
func program(env *cel.Env, a *ast.AST) (cel.Program, error) {
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if costly(a) {
		options = append(options, cel.CostLimit(evaluationCost))
	}
	return env.PlanProgram(a, options...)
}

// index notes what can change the answer.
func (r *Rule) index() {
	for i := range r.terms {
		t := &r.terms[i]
		switch t.kind {
		case termInactive, termSeen:
			r.AnyEvent = true
		case termSegment, termSegmentFor:
			r.Segments = append(r.Segments, t.name)
		case termVariant:
			r.AsksVariant = true
			r.Experiments = append(r.Experiments, t.name)
		case termScore:
			r.Traits = append(r.Traits, t.name)
		case termTimeSince, termTimeUntil:
			r.Traits = append(r.Traits, t.name)
			r.shown = append(r.shown, t.name)
		case termLocalTime, termLocalWeekday:
		default:
			r.indexSeries(t)
		}
		if zone := r.set.plan.Zone.Trait; zone != "" && t.zoned() {
			r.Traits = append(r.Traits, zone)
			r.shown = append(r.shown, zone)
		}
	}
	for _, reference := range r.checked.NativeRep().ReferenceMap() {
		if name, ok := strings.CutPrefix(reference.Name, "traits."); ok {
			r.repeats = r.repeats || slices.Contains(r.shown, name)
			r.Traits = append(r.Traits, name)
			r.shown = append(r.shown, name)
		}
	}
	for _, list := range []*[]string{&r.Events, &r.Traits, &r.Segments, &r.Experiments, &r.shown} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
}

func (r *Rule) indexSeries(t *term) {
	r.AnyEvent = r.AnyEvent || t.kind == termTimeTo // the first event ever moves its starting point
	for _, p := range r.set.slots[t.slot].picks() {
		switch {
		case p.trait != "":
			r.Traits = append(r.Traits, p.trait)
		case p.event != "":
			r.Events = append(r.Events, p.event)
		default:
			r.AnyEvent = true
		}
	}
}

// checkSource refuses a text that is not worth parsing.
func checkSource(source string) error {
	if len(source) > MaxRuleBytes {
		return &RuleError{1, 1, fmt.Sprintf("rule_too_large: %d bytes; at most %d are taken", len(source), MaxRuleBytes)}
	}
	if strings.TrimSpace(source) == "" {
		return &RuleError{1, 1, "the rule is empty; an empty condition would mean always: write true if that is meant"}
	}
	return nil
}

func asErrors(problems []*RuleError) []error {
	list := make([]error, len(problems))
	for i, p := range problems {
		list[i] = p
	}
	return list
}

func ruleErrors(issues *cel.Issues) []*RuleError {
	problems := make([]*RuleError, 0, len(issues.Errors()))
	for _, e := range issues.Errors() {
		problems = append(problems, &RuleError{max(1, e.Location.Line()), max(1, e.Location.Column()+1), plain(e.Message)})
	}
	return problems
}

// plain turns the compiler's words into what a writer of rules can act on.
func plain(message string) string {
	message = strings.ReplaceAll(message, " (in container '')", "")
	switch {
	case strings.Contains(message, "undeclared reference to 'events'"):
		return "events(…) needs an ending such as .count(), .first() or .last()"
	case strings.Contains(message, "undeclared reference to 'traits"):
		return message + ": declare the trait under traits in the playbook"
	case strings.Contains(message, "recursion"):
		return fmt.Sprintf("too_deep: a rule nests at most %d deep", maxNesting)
	case message == "undeclared reference to 'e'":
		return "e is known within where(…) alone"
	case strings.Contains(message, "undeclared reference to 'changes'"):
		return "changes(…) needs an ending such as .count()"
	case strings.Contains(message, "undeclared reference to 'now"):
		return "there is no now(): time enters through windows, such as .within(\"7d\") or inactive_for(\"3d\")"
	}
	return message
}

// Truth is the answer of a rule.
type Truth int8

// The three answers.
const (
	Unknown Truth = iota
	False
	True
)

// String returns the word for t.
func (t Truth) String() string { return [...]string{"unknown", "false", "true"}[t] }

// MarshalText writes the word for t.
func (t Truth) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (t *Truth) UnmarshalText(text []byte) error {
	for _, truth := range []Truth{Unknown, False, True} {
		if truth.String() == string(text) {
			*t = truth
			return nil
		}
	}
	return fmt.Errorf("%q is not unknown, false or true", text)
}

// Scope is what a rule is asked about: one user at one moment.
type Scope struct {
	Facts     *Facts
	Now       int64          // Unix milliseconds
	Zone      *time.Location // the user's; nil: as the rule's plan says, which is UTC where it says nothing
	InSegment func(name string) bool
	// SegmentSince says since when, in Unix milliseconds, the user has been in the segment; 0 where the user is not.
	SegmentSince func(name string) int64
	Variant      func(experiment string) string // "" where the user has none
}

// Result is an answer and how long it holds.
type Result struct {
	Truth Truth
	Until int64  // the first moment after Now at which time alone may change the answer; 0: never
	Why   string // what could not be answered, where Truth is Unknown
}

// Eval answers the rule.
func (r *Rule) Eval(scope Scope) Result {
	return (&evaluation{rule: r, scope: scope, keeps: r.repeats}).eval(r.program)
}

// eval asks the rule's program, or that of a part of it.
func (e *evaluation) eval(program cel.Program) Result {
	out, details, err := program.Eval(e)
	if cost := details.ActualCost(); cost != nil {
		e.cost = *cost
	}
	// What a short circuit skipped cannot change the answer while the terms that were asked stay as they are.
	result := Result{Until: e.until}
	if err != nil {
		result.Why = plainEval(err.Error(), e)
		return result
	}
	switch answer, ok := out.Value().(bool); {
	case !ok:
		result.Why = "the rule has no answer"
	case answer:
		result.Truth = True
	default:
		result.Truth = False
	}
	return result
}

// plainEval says which input is missing in the writer's own words.
func plainEval(message string, e *evaluation) string {
	if strings.Contains(message, "cost limit exceeded") {
		return "the rule takes too long to be answered"
	}
	_, name, _ := strings.Cut(message, "no such attribute(s): ")
	name, _, _ = strings.Cut(name, ",")
	if t := e.rule.term(strings.TrimSpace(name)); t != nil {
		return t.text + t.read(e).why
	}
	if trait, ok := strings.CutPrefix(strings.TrimSpace(name), "traits."); ok {
		return "traits." + trait + " is missing or not of its declared type"
	}
	return message
}

// Explain lists the sub-expressions that read the user, each with its value, in the order of the rule:
// `events("feature_viewed").count() = 3; traits.industry = "finance"`.
func (r *Rule) Explain(scope Scope) string {
	parts := make([]string, 0, len(r.terms)+len(r.shown))
	e := &evaluation{rule: r, scope: scope}
	for i := range r.terms {
		parts = append(parts, r.terms[i].text+" = "+r.terms[i].read(e).String())
	}
	for _, name := range r.shown {
		text := "missing"
		if trait, ok := scope.Facts.Traits[name]; ok {
			text = string(trait.Value)
		}
		parts = append(parts, "traits."+name+" = "+text)
	}
	return cmp.Or(strings.Join(parts, "; "), "always the same")
}
