package segment

import (
	"fmt"
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/parser"
)

// MaxDays bounds within_days.
const MaxDays = 366

// pick says which events a selection takes: those of one name, all that are declared, or the changes of one trait; of these, those
// that pass the filter.
type pick struct {
	event  string // empty: every declared event
	trait  string // the trait whose changes it takes; then event means nothing
	where  string
	filter *Filter // nil: all pass
}

// selection is what stands before an ending such as .count(): a pick, and how far back it looks.
type selection struct {
	pick
	window  time.Duration // 0: for ever
	days    int           // calendar days; 0: for ever
	of      []string      // the events it picks from, for messages
	carries Properties    // what `e` carries
}

// identity names what the pick takes. The slots that fold it are known by it, in a state that outlives this program.
func (p *pick) identity() string {
	if p.trait != "" {
		return fmt.Sprintf("changes:%d:%s%s", len(p.trait), p.trait, p.where)
	}
	return fmt.Sprintf("%d:%s%s", len(p.event), p.event, p.where)
}

// takes reports whether it takes an event of that name with the properties that in holds.
func (p *pick) takes(in *intake) bool {
	if p.trait != in.trait || (p.event != "" && p.event != in.name) {
		return false
	}
	if p.filter == nil {
		return true
	}
	in.carried()
	return p.filter.match(&in.scope)
}

// text writes the pick as a rule does.
func (p *pick) text() string {
	text := "events()"
	switch {
	case p.trait != "":
		text = "changes(traits." + p.trait + ")"
	case p.event != "":
		text = fmt.Sprintf("events(%q)", p.event)
	}
	if p.where != "" {
		text += ".where(" + p.where + ")"
	}
	return text
}

func (s *selection) text() string {
	text := s.pick.text()
	if s.window > 0 {
		text += fmt.Sprintf(".within(%q)", FormatDuration(s.window))
	}
	if s.days > 0 {
		text += fmt.Sprintf(".within_days(%d)", s.days)
	}
	return text
}

// retention is how long the times of events must be kept for the selection's window. A calendar day can have 25 hours and more.
func (s *selection) retention() time.Duration {
	if s.days > 0 {
		return time.Duration(s.days+2) * 24 * time.Hour
	}
	return s.window
}

// windowed reports whether the selection forgets.
func (s *selection) windowed() bool { return s.window > 0 || s.days > 0 }

// selection reads a selection of events; nil where the expression is none.
func (b *builder) selection(eh cel.MacroExprFactory, e ast.Expr) (*selection, *cel.Error) {
	if e.Kind() != ast.CallKind {
		return nil, nil //nolint:nilnil // not a selection of events
	}
	call := e.AsCall()
	if !call.IsMemberFunction() {
		switch call.FunctionName() {
		case "events":
			return b.events(eh, e)
		case "changes":
			return b.changes(eh, e)
		}
		return nil, nil //nolint:nilnil // not a selection of events
	}
	if !slices.Contains([]string{"where", "within", "within_days"}, call.FunctionName()) {
		return nil, nil //nolint:nilnil // not a selection of events
	}
	inner, err := b.selection(eh, call.Target())
	if inner == nil || err != nil {
		return nil, err
	}
	if len(call.Args()) != 1 {
		return nil, eh.NewError(e.ID(), call.FunctionName()+"() takes one argument")
	}
	arg := call.Args()[0]
	if call.FunctionName() == "where" {
		return inner, b.where(eh, inner, arg)
	}
	if inner.windowed() {
		return nil, eh.NewError(arg.ID(), "one within() or within_days() per selection")
	}
	if call.FunctionName() == "within" {
		inner.window, err = b.constantDuration(eh, arg)
		return inner, err
	}
	days, ok := literalInt(arg)
	if !ok || days < 1 || days > MaxDays {
		return nil, eh.NewError(arg.ID(), fmt.Sprintf("within_days() takes a number of days from 1 to %d that stands in the rule", MaxDays))
	}
	inner.days = int(days)
	return inner, nil
}

// events reads events("order") and events().
func (b *builder) events(eh cel.MacroExprFactory, e ast.Expr) (*selection, *cel.Error) {
	if args := e.AsCall().Args(); len(args) > 0 {
		name, err := b.eventName(eh, args, e.ID())
		if err != nil {
			return nil, err
		}
		return &selection{pick: pick{event: name}, of: []string{name}, carries: b.set.plan.Events[name]}, nil
	}
	all := keysOf(b.set.plan.Events)
	return &selection{of: all, carries: b.set.plan.alike(all)}, nil
}

// changes reads changes(traits.plan).
func (b *builder) changes(eh cel.MacroExprFactory, e ast.Expr) (*selection, *cel.Error) {
	trait, declared, err := b.traitName(eh, "changes", e.AsCall().Args(), e.ID())
	if err != nil {
		return nil, err
	}
	return &selection{pick: pick{trait: trait}, carries: Properties{"from": declared, "to": declared}}, nil
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

// traitName reads the traits.plan that a function takes as its one argument.
func (b *builder) traitName(eh cel.MacroExprFactory, function string, args []ast.Expr, id int64) (string, Type, *cel.Error) {
	if len(args) != 1 || args[0].Kind() != ast.SelectKind || args[0].AsSelect().Operand().Kind() != ast.IdentKind ||
		args[0].AsSelect().Operand().AsIdent() != "traits" {
		return "", "", eh.NewError(id, function+"() takes one trait, as in "+function+"(traits.plan)")
	}
	name := args[0].AsSelect().FieldName()
	declared, ok := b.set.plan.Traits[name]
	if !ok {
		return "", "", eh.NewError(args[0].ID(), fmt.Sprintf("trait %q is not declared; declared are: %s", name, names(b.set.plan.Traits)))
	}
	return name, declared, nil
}

// propertyName reads the e.total that an ending takes as its one argument.
func (b *builder) propertyName(eh cel.MacroExprFactory, function string, s *selection, args []ast.Expr, id int64) (string, *cel.Error) {
	if len(args) != 1 || args[0].Kind() != ast.SelectKind || args[0].AsSelect().Operand().Kind() != ast.IdentKind ||
		args[0].AsSelect().Operand().AsIdent() != "e" {
		return "", eh.NewError(id, function+"() takes one property, as in "+function+"(e.total)")
	}
	name := args[0].AsSelect().FieldName()
	if _, ok := s.carries[name]; !ok {
		return "", eh.NewError(args[0].ID(), b.undeclared(s, name))
	}
	return name, nil
}

func (b *builder) undeclared(s *selection, name string) string {
	if s.trait != "" {
		return "undeclared reference to 'e." + name + "': a change carries e.from and e.to"
	}
	return b.set.plan.undeclared("e."+name, name, s.of, s.carries)
}

// where compiles the filter on its own: it sees the properties of one event and nothing else.
func (b *builder) where(eh cel.MacroExprFactory, s *selection, arg ast.Expr) *cel.Error {
	if s.where != "" {
		return eh.NewError(arg.ID(), "one where() per selection: join conditions with &&")
	}
	text, err := parser.Unparse(arg, ast.NewSourceInfo(common.NewTextSource("")))
	if err != nil {
		return eh.NewError(arg.ID(), "the filter is too complex: compare properties of e with values")
	}
	filter := &Filter{Source: text, event: s.carries}
	say := func(scope, name string) string {
		if scope == "same" {
			return b.set.plan.undeclared("same."+name, name, nil, nil)
		}
		return b.undeclared(s, name)
	}
	if problems := filter.compile(say); len(problems) > 0 {
		return eh.NewError(arg.ID(), "filter on "+s.pick.text()+": "+problems[0].Message)
	}
	s.where, s.filter = text, filter
	return nil
}

// constantDuration reads a duration that stands in the rule, as text or as duration("…"), already scaled in that form.
func (b *builder) constantDuration(eh cel.MacroExprFactory, arg ast.Expr) (time.Duration, *cel.Error) {
	if d, ok := constantOf(arg); ok {
		return d, nil
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

// constantOf reads a duration("…") that the macro of that name has been through.
func constantOf(e ast.Expr) (time.Duration, bool) {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "duration" || len(e.AsCall().Args()) != 1 {
		return 0, false
	}
	text, ok := literal(e.AsCall().Args()[0])
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().Value().(string)
	return s, ok
}

func literalInt(e ast.Expr) (int64, bool) {
	if e.Kind() != ast.LiteralKind {
		return 0, false
	}
	n, ok := e.AsLiteral().Value().(int64)
	return n, ok
}
