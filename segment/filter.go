package segment

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// Filter is a compiled condition on the properties of one event, `e.total > 10.0`, and where it was compiled so, on those of the
// event that let the user in: `e.order_id == same.order_id`. Immutable and safe for concurrent use.
type Filter struct {
	Source string
	Same   []string // the entry's properties it reads; sorted

	event, entry Properties
	program      cel.Program
}

// Match reports whether an event with these properties passes; same holds those of the entry. Values are as
// schema.DecodeProperties gives them. A condition that cannot be answered, because a property is missing or mistyped, does not pass.
func (f *Filter) Match(properties, same map[string]any) bool {
	return f.match(&filterScope{event: properties, entry: same})
}

// match is Match with a scope that the caller can use again for the next filter.
func (f *Filter) match(scope *filterScope) bool {
	scope.filter = f
	out, _, err := f.program.Eval(scope)
	if err != nil {
		return false
	}
	answer, ok := out.Value().(bool)
	return ok && answer
}

// CompileFilter compiles a condition on the properties of one event, which is one of events: it can name those properties that all of
// them declare alike. Where entry is not empty it can name the properties that all events of entry declare alike, too, under `same`.
// It returns every problem found, each a *RuleError whose place counts within source.
func (set *Set) CompileFilter(source string, events, entry []string) (*Filter, []error) {
	if err := checkSource(source); err != nil {
		return nil, []error{err}
	}
	for _, name := range slices.Concat(events, entry) {
		if !set.Declares(name) {
			return nil, []error{&RuleError{1, 1, fmt.Sprintf("event %q is not declared; declared are: %s", name, names(set.plan.Events))}}
		}
	}
	f := &Filter{Source: source, event: set.plan.alike(events), entry: set.plan.alike(entry)}
	b := &builder{set: set}
	say := func(scope, name string) string {
		of, declared := events, f.event
		if scope == "same" {
			of, declared = entry, f.entry
		}
		return set.plan.undeclared(scope+"."+name, name, of, declared)
	}
	if problems := f.compile(say, cel.Macros(b.global("duration"))); len(problems) > 0 {
		return nil, asErrors(problems)
	}
	return f, nil
}

// Value returns a property of an event as its declared type; false where it is missing or of another, which is the same.
func (set *Set) Value(event, property string, properties map[string]any) (any, bool) {
	declared, known := set.plan.Events[event][property]
	value, had := properties[property]
	if !known || !had {
		return nil, false
	}
	return declared.coerce(value)
}

// undeclared says what is wrong with a property that a filter names and its events do not all declare alike.
func (p *Plan) undeclared(written, name string, events []string, declared Properties) string {
	message := "undeclared reference to '" + written + "'"
	if len(events) == 0 {
		return message + ": only journeys know the event that let a user in"
	}
	for _, event := range events {
		if _, some := p.Events[event][name]; some {
			return fmt.Sprintf("%s: the events %s do not all declare %s alike", message, strings.Join(events, ", "), name)
		}
	}
	return fmt.Sprintf("%s; the declared properties of %s are: %s", message, strings.Join(events, ", "), names(declared))
}

// alike returns the properties that all of the events declare, with the same type; the empty set of events has none.
func (p *Plan) alike(events []string) Properties {
	common := make(Properties)
	if len(events) == 0 {
		return common
	}
	for name, t := range p.Events[events[0]] {
		if !slices.ContainsFunc(events[1:], func(event string) bool { return p.Events[event][name] != t }) {
			common[name] = t
		}
	}
	return common
}

// compile checks Source and makes it ready to run. What a filter sees is one event (and the entry), nothing of the user. say words
// the problem of an undeclared property.
func (f *Filter) compile(say func(scope, name string) string, options ...cel.EnvOption) []*RuleError {
	options = append(options, cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(MaxRuleBytes))
	for name, t := range f.event {
		options = append(options, cel.Variable("e."+name, t.cel()))
	}
	for name, t := range f.entry {
		options = append(options, cel.Variable("same."+name, t.cel()))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return []*RuleError{{1, 1, err.Error()}}
	}
	parsed, issues := env.Parse(f.Source)
	if issues.Err() != nil {
		return ruleErrors(issues)
	}
	if problems := f.undeclared(parsed, say); len(problems) > 0 {
		return problems
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return ruleErrors(issues)
	}
	if problems := (&builder{}).check(checked); len(problems) > 0 {
		return problems
	}
	if f.program, err = program(env, checked.NativeRep()); err != nil {
		return []*RuleError{{1, 1, err.Error()}}
	}
	for _, reference := range checked.NativeRep().ReferenceMap() {
		if name, ok := strings.CutPrefix(reference.Name, "same."); ok {
			f.Same = append(f.Same, name)
		}
	}
	slices.Sort(f.Same)
	f.Same = slices.Compact(f.Same)
	return nil
}

// undeclared finds the properties that the filter names and cannot have. The type checker finds them too, but names only the `e`.
func (f *Filter) undeclared(parsed *cel.Ast, say func(scope, name string) string) []*RuleError {
	var problems []*RuleError
	info := parsed.NativeRep().SourceInfo()
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.SelectKind || e.AsSelect().Operand().Kind() != ast.IdentKind {
			return
		}
		operand, name := e.AsSelect().Operand(), e.AsSelect().FieldName()
		declared := map[string]Properties{"e": f.event, "same": f.entry}[operand.AsIdent()]
		if _, ok := declared[name]; ok || (operand.AsIdent() != "e" && operand.AsIdent() != "same") {
			return
		}
		location := info.GetStartLocation(operand.ID())
		problems = append(problems, &RuleError{location.Line(), location.Column() + 1, say(operand.AsIdent(), name)})
	}))
	return problems
}
