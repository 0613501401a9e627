package segment

import (
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/parser"
)

type termKind int8

const (
	termCount termKind = iota
	termWindowCount
	termFirst
	termLast
	termTimeTo
	termInactive
	termSeen
	termSegment
	termVariant
)

// windowPrefix marks variables that hold windowed counts, whose size is bounded.
const windowPrefix = "@window"

// term is a sub-expression that reads the user's behavior. The parser replaces it by a variable.
type term struct {
	kind     termKind
	variable string
	text     string // as a person would write it, with the durations in force
	slot     int
	window   time.Duration
	name     string // of a segment or experiment
}

func (t *term) celType() *cel.Type {
	switch t.kind {
	case termCount, termWindowCount:
		return cel.IntType
	case termFirst, termLast:
		return cel.TimestampType
	case termTimeTo:
		return cel.DurationType
	case termVariant:
		return cel.StringType
	default:
		return cel.BoolType
	}
}

// value answers the term; false where it has no value.
func (t *term) value(set *Set, scope Scope) (any, bool) {
	facts := scope.Facts
	switch t.kind {
	case termInactive:
		return scope.Now-facts.LastSeen >= t.window.Milliseconds(), facts.LastSeen != 0
	case termSeen:
		return scope.Now-facts.FirstSeen >= t.window.Milliseconds(), facts.FirstSeen != 0
	case termSegment:
		return scope.InSegment(t.name), true
	case termVariant:
		return scope.Variant(t.name), true
	default: // the others read a series
	}
	series := facts.Series[set.slots[t.slot].Key]
	switch {
	case series == nil && (t.kind == termCount || t.kind == termWindowCount):
		return int64(0), true
	case series == nil:
		return nil, false
	}
	switch t.kind {
	case termWindowCount:
		n, _ := series.within(scope.Now, t.window)
		return n, true
	case termFirst:
		return time.UnixMilli(series.First).UTC(), true
	case termLast:
		return time.UnixMilli(series.Last).UTC(), true
	case termTimeTo:
		return time.Duration(series.First-facts.FirstSeen) * time.Millisecond, true
	default:
		return series.Count, true
	}
}

// until returns the moment at which time alone next changes the term; 0 where it never does.
func (t *term) until(set *Set, scope Scope) int64 {
	switch t.kind {
	case termInactive:
		return scope.Facts.LastSeen + t.window.Milliseconds()
	case termSeen:
		return scope.Facts.FirstSeen + t.window.Milliseconds()
	case termWindowCount:
		if series := scope.Facts.Series[set.slots[t.slot].Key]; series != nil {
			_, leaves := series.within(scope.Now, t.window)
			return leaves
		}
	default: // time alone never changes the others
	}
	return 0
}

// within counts the events in (now − window, …] and says when the first of them leaves.
func (s *Series) within(now int64, window time.Duration) (n, leaves int64) {
	for i, at := range s.Recent {
		if at+window.Milliseconds() > now {
			return int64(len(s.Recent) - i), at + window.Milliseconds()
		}
	}
	return 0, 0
}

// builder collects the terms of one rule while the parser expands them.
type builder struct {
	set   *Set
	terms []term
}

func (b *builder) environment() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(MaxRuleBytes),
		cel.Macros(
			cel.ReceiverMacro("count", 0, b.series(termCount, ".count()")),
			cel.ReceiverMacro("first", 0, b.series(termFirst, ".first()")),
			cel.ReceiverMacro("last", 0, b.series(termLast, ".last()")),
			cel.GlobalMacro("did", 1, b.did),
			cel.GlobalMacro("time_to", 1, b.timeTo),
			cel.GlobalMacro("inactive_for", 1, b.clock(termInactive, "inactive_for")),
			cel.GlobalMacro("seen_for", 1, b.clock(termSeen, "seen_for")),
			cel.GlobalMacro("in_segment", 1, b.named(termSegment, "in_segment")),
			cel.GlobalMacro("variant", 1, b.named(termVariant, "variant")),
			cel.GlobalMacro("duration", 1, b.duration),
		),
	}
	for name, t := range b.set.plan.Traits {
		options = append(options, cel.Variable("traits."+name, t.cel()))
	}
	return cel.NewEnv(options...)
}

func (b *builder) variables() []cel.EnvOption {
	options := make([]cel.EnvOption, 0, len(b.terms))
	for i := range b.terms {
		options = append(options, cel.Variable(b.terms[i].variable, b.terms[i].celType()))
	}
	return options
}

func (b *builder) add(t term) string {
	for i := range b.terms {
		if b.terms[i].text == t.text {
			return b.terms[i].variable
		}
	}
	prefix := "@term"
	if t.kind == termWindowCount {
		prefix = windowPrefix
	}
	t.variable = fmt.Sprintf("%s%d@", prefix, len(b.terms))
	b.terms = append(b.terms, t)
	return t.variable
}

// series expands `events("x").where(…).within("7d").count()` and its kin.
func (b *builder) series(kind termKind, ending string) cel.MacroFactory {
	return func(eh cel.MacroExprFactory, target ast.Expr, _ []ast.Expr) (ast.Expr, *cel.Error) {
		t := term{kind: kind}
		chain, err := b.chain(eh, target)
		if err != nil {
			return nil, err
		}
		if chain == nil {
			return nil, nil //nolint:nilnil // not ours: the parser goes on with the call as it stands
		}
		t.slot = b.set.slot(chain.event, chain.where, chain.filter)
		t.text = chain.text() + ending
		if chain.window > 0 {
			if kind != termCount {
				return nil, eh.NewError(target.ID(), "within() goes with count(): first and last event times have no window")
			}
			t.kind, t.window = termWindowCount, chain.window
			b.set.widen(t.slot, chain.window)
		}
		return eh.NewIdent(b.add(t)), nil
	}
}

// chain is a selection of events: what stands before .count().
type chain struct {
	event, where string
	filter       *Filter
	window       time.Duration
}

func (c *chain) text() string {
	text := fmt.Sprintf("events(%q)", c.event)
	if c.where != "" {
		text += ".where(" + c.where + ")"
	}
	if c.window > 0 {
		text += fmt.Sprintf(".within(%q)", FormatDuration(c.window))
	}
	return text
}

func (b *builder) chain(eh cel.MacroExprFactory, e ast.Expr) (*chain, *cel.Error) {
	if e.Kind() != ast.CallKind {
		return nil, nil //nolint:nilnil // not a selection of events
	}
	call := e.AsCall()
	if call.FunctionName() == "events" && !call.IsMemberFunction() {
		name, err := b.eventName(eh, call.Args(), e.ID())
		return &chain{event: name}, err
	}
	if !call.IsMemberFunction() || (call.FunctionName() != "where" && call.FunctionName() != "within") {
		return nil, nil //nolint:nilnil // not a selection of events
	}
	inner, err := b.chain(eh, call.Target())
	if inner == nil || err != nil {
		return nil, err
	}
	if len(call.Args()) != 1 {
		return nil, eh.NewError(e.ID(), call.FunctionName()+"() takes one argument")
	}
	arg := call.Args()[0]
	if call.FunctionName() == "within" {
		inner.window, err = b.constantDuration(eh, arg)
		return inner, err
	}
	return inner, b.where(eh, inner, arg)
}

func (b *builder) eventName(eh cel.MacroExprFactory, args []ast.Expr, id int64) (string, *cel.Error) {
	if len(args) != 1 {
		return "", eh.NewError(id, "name one event, as in events(\"signed_up\")")
	}
	name, ok := literal(args[0])
	if !ok {
		return "", eh.NewError(args[0].ID(), "the event's name must stand in the rule, in quotes")
	}
	if !b.set.Declares(name) {
		return "", eh.NewError(args[0].ID(), fmt.Sprintf("event %q is not declared; declared are: %s", name, names(b.set.plan.Events)))
	}
	return name, nil
}

// where compiles the filter on its own: it sees the properties of one event and nothing else.
func (b *builder) where(eh cel.MacroExprFactory, c *chain, arg ast.Expr) *cel.Error {
	if c.where != "" {
		return eh.NewError(arg.ID(), "one where() per selection: join conditions with &&")
	}
	text, err := parser.Unparse(arg, ast.NewSourceInfo(common.NewTextSource("")))
	if err != nil {
		return eh.NewError(arg.ID(), "the filter is too complex: compare properties of e with values")
	}
	filter := &Filter{Source: text, event: b.set.plan.Events[c.event]}
	say := func(scope, name string) string {
		if scope == "same" {
			return b.set.plan.undeclared(scope+"."+name, name, nil, nil)
		}
		return b.set.plan.undeclared(scope+"."+name, name, []string{c.event}, filter.event)
	}
	if problems := filter.compile(say); len(problems) > 0 {
		return eh.NewError(arg.ID(), fmt.Sprintf("filter on %q: %s", c.event, problems[0].Message))
	}
	c.where, c.filter = text, filter
	return nil
}

// did expands did("x"): the event has ever happened.
func (b *builder) did(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	name, err := b.eventName(eh, args, 0)
	if err != nil {
		return nil, err
	}
	selection := chain{event: name}
	variable := b.add(term{kind: termCount, slot: b.set.slot(name, "", nil), text: selection.text() + ".count()"})
	return eh.NewCall("_>_", eh.NewIdent(variable), eh.NewLiteral(celInt(0))), nil
}

func (b *builder) timeTo(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	name, err := b.eventName(eh, args, 0)
	if err != nil {
		return nil, err
	}
	return eh.NewIdent(b.add(term{kind: termTimeTo, slot: b.set.slot(name, "", nil), text: fmt.Sprintf("time_to(%q)", name)})), nil
}

func (b *builder) clock(kind termKind, function string) cel.MacroFactory {
	return func(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		window, err := b.constantDuration(eh, args[0])
		if err != nil {
			return nil, err
		}
		return eh.NewIdent(b.add(term{kind: kind, window: window, text: fmt.Sprintf("%s(%q)", function, FormatDuration(window))})), nil
	}
}

func (b *builder) named(kind termKind, function string) cel.MacroFactory {
	return func(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		name, ok := literal(args[0])
		if !ok {
			return nil, eh.NewError(args[0].ID(), "the name must stand in the rule, in quotes")
		}
		return eh.NewIdent(b.add(term{kind: kind, name: name, text: fmt.Sprintf("%s(%q)", function, name)})), nil
	}
}

// duration expands duration("3d"), scaled, so that comparisons with it fit scaled windows.
func (b *builder) duration(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	d, err := b.constantDuration(eh, args[0])
	if err != nil {
		return nil, err
	}
	return eh.NewCall("duration", eh.NewLiteral(celString(d.String()))), nil
}

// constantDuration reads a duration that stands in the rule, as text or as duration("…"), already scaled in that form.
func (b *builder) constantDuration(eh cel.MacroExprFactory, arg ast.Expr) (time.Duration, *cel.Error) {
	if arg.Kind() == ast.CallKind && arg.AsCall().FunctionName() == "duration" {
		if text, ok := literal(arg.AsCall().Args()[0]); ok {
			d, err := time.ParseDuration(text)
			if err == nil {
				return d, nil
			}
		}
	}
	text, ok := literal(arg)
	if !ok {
		return 0, eh.NewError(arg.ID(), "the duration must stand in the rule, such as \"3d\" or \"36h\"")
	}
	d, err := b.set.Duration(text)
	if err != nil {
		return 0, eh.NewError(arg.ID(), err.Error())
	}
	return d, nil
}
