package segment

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// check refuses what the type checker takes and a running system should not, and notes how the terms are used.
func (b *builder) check(checked *cel.Ast) []*RuleError {
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return []*RuleError{{1, 1, fmt.Sprintf("the rule answers with %s, not true or false", checked.OutputType())}}
	}
	c := &checker{builder: b, info: checked.NativeRep().SourceInfo()}
	c.visit(checked.NativeRep().Expr(), false)
	return c.problems
}

// checker walks through one expression.
type checker struct {
	*builder
	info     *ast.SourceInfo
	problems []*RuleError
}

func (c *checker) at(e ast.Expr, format string, args ...any) {
	location := c.info.GetStartLocation(e.ID())
	c.problems = append(c.problems, &RuleError{location.Line(), location.Column() + 1, fmt.Sprintf(format, args...)})
}

// visit checks an expression and all within. repeated says that it stands in the body of a comprehension.
func (c *checker) visit(e ast.Expr, repeated bool) {
	switch e.Kind() {
	case ast.IdentKind:
		c.use(e)
	case ast.CallKind:
		c.call(e, repeated)
	case ast.ComprehensionKind:
		if repeated {
			c.at(e, "too_deep: a comprehension within another one multiplies the work")
			return
		}
		loop := e.AsComprehension()
		for _, once := range []ast.Expr{loop.IterRange(), loop.AccuInit(), loop.Result()} {
			c.visit(once, false)
		}
		c.visit(loop.LoopCondition(), true)
		c.visit(loop.LoopStep(), true)
	default:
		for _, child := range children(e) {
			c.visit(child, repeated)
		}
	}
}

func (c *checker) call(e ast.Expr, repeated bool) {
	call := e.AsCall()
	if call.FunctionName() == "matches" {
		c.pattern(e, call.Args()[len(call.Args())-1])
	}
	if t, operator, value := c.comparison(e); t != nil && c.compare(e, t, operator, value) {
		return
	}
	for _, child := range children(e) {
		c.visit(child, repeated)
	}
}

// pattern checks what matches() is to look for. The pattern's program is made once, when the rule is compiled.
func (c *checker) pattern(e, arg ast.Expr) {
	pattern, ok := literal(arg)
	switch {
	case !ok:
		c.at(e, "dynamic_regex: the pattern of matches() must stand in the rule")
	case len(pattern) > maxPattern || strings.Contains(pattern, "{"):
		c.at(e, "the pattern of matches() may have %d bytes and no counted repetition", maxPattern)
	}
}

// use notes a term that stands in anything but a comparison with a constant.
func (c *checker) use(e ast.Expr) {
	t := c.termOf(e)
	switch {
	case t == nil:
	case t.moves():
		c.at(e, "%s moves with time: compare it with a duration that stands in the rule, as in %s >= duration(\"3d\")", t.text, t.text)
	default:
		t.strict = true
	}
}

// compare notes a comparison of a term with a constant; false where it needs no special treatment.
func (c *checker) compare(e ast.Expr, t *term, operator string, value ast.Expr) bool {
	if d, ok := constantOf(value); ok && t.moves() {
		t.turns(operator, d)
		return true
	}
	n, ok := literalInt(value)
	if !ok || t.bound() == 0 {
		return false
	}
	most := n
	if operator != operators.GreaterEquals && operator != operators.Less {
		most++ // to tell n from more than n, one more has to be kept
	}
	if most > t.bound() {
		c.at(e, "%s remembers %d, so that it can be compared with at most that: more than %d cannot be told from %d", t.text, t.bound(), t.bound(), t.bound())
	}
	return true
}

// turns notes when a comparison of a moving duration changes its answer. Time is counted in whole milliseconds: more than d is at
// least d and a millisecond.
func (t *term) turns(operator string, d time.Duration) {
	turn := d.Milliseconds()
	later := map[string][]int64{
		operators.GreaterEquals: {turn}, operators.Less: {turn},
		operators.Greater: {turn + 1}, operators.LessEquals: {turn + 1},
		operators.Equals: {turn, turn + 1}, operators.NotEquals: {turn, turn + 1},
	}[operator]
	if t.kind == termTimeUntil { // shrinks: d is left until the moment −d, less than d from the next millisecond on
		later = map[string][]int64{
			operators.LessEquals: {-turn}, operators.Greater: {-turn},
			operators.Less: {-turn + 1}, operators.GreaterEquals: {-turn + 1},
			operators.Equals: {-turn, -turn + 1}, operators.NotEquals: {-turn, -turn + 1},
		}[operator]
	}
	t.flips = append(t.flips, later...)
}

// comparison takes a comparison with one of the rule's terms apart, the term on the left; nil where it is none.
func (b *builder) comparison(e ast.Expr) (t *term, operator string, value ast.Expr) {
	if e.Kind() != ast.CallKind {
		return nil, "", nil
	}
	call := e.AsCall()
	mirrored := mirror(call.FunctionName())
	if mirrored == "" {
		return nil, "", nil
	}
	left, right := call.Args()[0], call.Args()[1]
	if t := b.termOf(left); t != nil {
		return t, call.FunctionName(), right
	}
	return b.termOf(right), mirrored, left
}

// mirror is the comparison that holds when the sides are changed; empty for what is no comparison.
func mirror(operator string) string {
	return map[string]string{
		operators.Less: operators.Greater, operators.LessEquals: operators.GreaterEquals,
		operators.Greater: operators.Less, operators.GreaterEquals: operators.LessEquals,
		operators.Equals: operators.Equals, operators.NotEquals: operators.NotEquals,
	}[operator]
}

// termOf returns the term that an expression stands for; nil where it stands for none.
func (b *builder) termOf(e ast.Expr) *term {
	if e.Kind() != ast.IdentKind {
		return nil
	}
	return termNamed(b.terms, e.AsIdent())
}

// children returns the expressions directly within an expression that is no comprehension.
func children(e ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			return append([]ast.Expr{call.Target()}, call.Args()...)
		}
		return call.Args()
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.MapKind:
		var list []ast.Expr
		for _, entry := range e.AsMap().Entries() {
			list = append(list, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
		return list
	case ast.StructKind:
		var list []ast.Expr
		for _, field := range e.AsStruct().Fields() {
			list = append(list, field.AsStructField().Value())
		}
		return list
	default:
		return nil
	}
}

// costly reports whether an expression can take long: whether it goes through lists or makes texts.
func costly(a *ast.AST) bool {
	long := false
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind, ast.MapKind, ast.StructKind:
			long = true
		case ast.IdentKind:
			long = long || a.GetType(e.ID()).Kind() == types.ListKind
		case ast.CallKind:
			name := e.AsCall().FunctionName()
			adds := name == operators.Add && slices.Contains([]types.Kind{types.StringKind, types.BytesKind, types.ListKind, types.DynKind}, a.GetType(e.ID()).Kind())
			long = long || adds || !cheap(name)
		default: // constants, lists of them, fields
		}
	}))
	return long
}

// cheap reports whether a function of the language takes no longer than to read its arguments once.
func cheap(name string) bool {
	switch name {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional,
		operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
		operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo, operators.Negate, operators.In,
		"size", "contains", "startsWith", "endsWith", "timestamp", "duration":
		return true
	}
	return false
}
