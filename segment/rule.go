package segment

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// Limits of a rule. Beyond them it is refused when it is compiled.
const (
	MaxRuleBytes   = 4096
	maxNesting     = 32
	maxPattern     = 128
	evaluationCost = 100_000
)

// Rule is a compiled rule. Immutable and safe for concurrent use.
type Rule struct {
	Source   string
	Events   []string // the events whose arrival can change the answer; sorted
	Traits   []string // likewise; sorted
	Segments []string // the segments it asks about; sorted

	Experiments []string // the experiments whose variant it asks about; sorted
	AnyEvent    bool     // every declared event can change the answer (inactive_for, seen_for)

	AsksVariant bool // meeting an experiment can change the answer

	set     *Set
	terms   []term
	program cel.Program
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
	if problems := checkShape(checked); len(problems) > 0 {
		return nil, asErrors(problems)
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(evaluationCost))
	if err != nil {
		return nil, []error{&RuleError{1, 1, err.Error()}}
	}
	return b.rule(source, checked, program), nil
}

func (b *builder) rule(source string, checked *cel.Ast, program cel.Program) *Rule {
	r := &Rule{Source: source, set: b.set, terms: b.terms, program: program}
	for _, t := range b.terms {
		switch t.kind {
		case termCount, termWindowCount, termFirst, termLast, termTimeTo:
			r.Events = append(r.Events, b.set.slots[t.slot].Event)
			r.AnyEvent = r.AnyEvent || t.kind == termTimeTo // the first event ever moves its starting point
		case termInactive, termSeen:
			r.AnyEvent = true
		case termSegment:
			r.Segments = append(r.Segments, t.name)
		case termVariant:
			r.AsksVariant = true
			r.Experiments = append(r.Experiments, t.name)
		}
	}
	for _, reference := range checked.NativeRep().ReferenceMap() {
		if name, ok := strings.CutPrefix(reference.Name, "traits."); ok {
			r.Traits = append(r.Traits, name)
		}
	}
	for _, list := range []*[]string{&r.Events, &r.Traits, &r.Segments, &r.Experiments} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return r
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
		problems = append(problems, &RuleError{e.Location.Line(), e.Location.Column() + 1, plain(e.Message)})
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
	case strings.Contains(message, "undeclared reference to 'now"):
		return "there is no now(): time enters through windows, such as .within(\"7d\") or inactive_for(\"3d\")"
	}
	return message
}

// checkShape refuses what the type checker takes and a running system should not.
func checkShape(checked *cel.Ast) []*RuleError {
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return []*RuleError{{1, 1, fmt.Sprintf("the rule answers with %s, not true or false", checked.OutputType())}}
	}
	var problems []*RuleError
	info := checked.NativeRep().SourceInfo()
	at := func(e ast.Expr, message string) {
		location := info.GetStartLocation(e.ID())
		problems = append(problems, &RuleError{location.Line(), location.Column() + 1, message})
	}
	ast.PostOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		switch call.FunctionName() {
		case "matches":
			arg := call.Args()[len(call.Args())-1]
			pattern, ok := literal(arg)
			switch {
			case !ok:
				at(e, "dynamic_regex: the pattern of matches() must stand in the rule")
			case len(pattern) > maxPattern || strings.Contains(pattern, "{"):
				at(e, fmt.Sprintf("the pattern of matches() may have %d bytes and no counted repetition", maxPattern))
			}
		case "_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_":
			if n, ok := comparedNumber(call); ok && n > KeepRecent && comparesWindow(call) {
				at(e, fmt.Sprintf("a windowed count remembers %d events: compare it with at most that", KeepRecent))
			}
		}
	}))
	return problems
}

func comparesWindow(call ast.CallExpr) bool {
	return slices.ContainsFunc(call.Args(), func(arg ast.Expr) bool {
		return arg.Kind() == ast.IdentKind && strings.HasPrefix(arg.AsIdent(), windowPrefix)
	})
}

func comparedNumber(call ast.CallExpr) (int64, bool) {
	for _, arg := range call.Args() {
		if arg.Kind() != ast.LiteralKind {
			continue
		}
		n, ok := arg.AsLiteral().Value().(int64)
		return n, ok
	}
	return 0, false
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().Value().(string)
	return s, ok
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
	evaluation := evaluation{rule: r, scope: scope}
	out, _, err := r.program.Eval(&evaluation)
	// What a short circuit skipped cannot change the answer while the terms that were asked stay as they are.
	result := Result{Until: evaluation.until}
	if err != nil {
		result.Why = plainEval(err.Error(), r)
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
func plainEval(message string, r *Rule) string {
	for i := range r.terms {
		if strings.Contains(message, r.terms[i].variable) {
			return r.terms[i].text + " has no value yet"
		}
	}
	for _, trait := range r.Traits {
		if strings.Contains(message, "traits."+trait) {
			return "traits." + trait + " is missing or not of its declared type"
		}
	}
	return message
}

// Explain lists the sub-expressions that read the user, each with its value, in the order of the rule:
// `events("feature_viewed").count() = 3; traits.industry = finance`.
func (r *Rule) Explain(scope Scope) string {
	parts := make([]string, 0, len(r.terms)+len(r.Traits))
	for i := range r.terms {
		value, ok := r.terms[i].value(r.set, scope)
		text := "no value yet"
		if ok {
			text = formatValue(value)
		}
		parts = append(parts, r.terms[i].text+" = "+text)
	}
	for _, name := range r.Traits {
		text := "missing"
		if trait, ok := scope.Facts.Traits[name]; ok {
			text = string(trait.Value)
		}
		parts = append(parts, "traits."+name+" = "+text)
	}
	return cmp.Or(strings.Join(parts, "; "), "always the same")
}

func formatValue(v any) string {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	case time.Duration:
		return FormatDuration(v.Round(time.Second))
	default:
		return fmt.Sprint(v)
	}
}
