package segment

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// SQL writes the filter as a condition of ClickHouse on properties, a column or expression that holds the event's properties as
// JSON. The condition is true where Match is, and false elsewhere; it is never NULL. What ClickHouse cannot answer alike is
// refused with a *RuleError: properties that are timestamps or lists, `same`, and functions other than those on texts.
func (f *Filter) SQL(properties string) (string, error) {
	checked, err := f.check()
	if err != nil {
		return "", err
	}
	w := &sqlWriter{filter: f, properties: properties, checked: checked.NativeRep()}
	text := w.expr(w.checked.Expr())
	if w.err != nil {
		return "", w.err
	}
	return "ifNull(" + text + ", false)", nil
}

// check parses the filter again: to run it, its tree is not kept.
func (f *Filter) check() (*cel.Ast, error) {
	options := []cel.EnvOption{cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(MaxRuleBytes)}
	for name, t := range f.event {
		options = append(options, cel.Variable("e."+name, t.cel()))
	}
	for name, t := range f.entry {
		options = append(options, cel.Variable("same."+name, t.cel()))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, &RuleError{1, 1, err.Error()}
	}
	checked, issues := env.Compile(f.Source)
	if issues.Err() != nil {
		return nil, ruleErrors(issues)[0] // duration("1d"), which is no part of CEL itself
	}
	return checked, nil
}

// PropertySQL writes the value of a property of the declared type as an expression of ClickHouse, NULL where it is missing or of
// another type. ok is false for timestamps and lists.
func PropertySQL(properties, name string, declared Type) (text string, ok bool) {
	at := properties + ", " + QuoteSQL(name)
	kind := "JSONType(" + at + ")"
	switch declared {
	case String:
		return fmt.Sprintf("if(%s = 'String', JSONExtractString(%s), NULL)", kind, at), true
	case Bool:
		return fmt.Sprintf("if(%s = 'Bool', JSONExtractBool(%s), NULL)", kind, at), true
	case Number:
		return fmt.Sprintf("if(%s IN ('Int64', 'UInt64', 'Double'), JSONExtractFloat(%s), NULL)", kind, at), true
	case Int:
		return fmt.Sprintf("multiIf(%[1]s = 'Int64', JSONExtractInt(%[2]s), "+
			"%[1]s = 'UInt64' AND JSONExtractUInt(%[2]s) <= 9223372036854775807, toInt64(JSONExtractUInt(%[2]s)), "+
			"%[1]s = 'Double' AND JSONExtractFloat(%[2]s) = trunc(JSONExtractFloat(%[2]s)) AND abs(JSONExtractFloat(%[2]s)) < 9007199254740992, "+
			"toInt64(JSONExtractFloat(%[2]s)), NULL)", kind, at), true
	case Timestamp, List:
		return "", false
	}
	return "", false
}

// QuoteSQL writes a text as a literal of ClickHouse.
func QuoteSQL(text string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == '?' || c == '{' || c == 0x7f: // ? and { stand for values where a driver fills them in
			fmt.Fprintf(&b, "\\x%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// sqlWriter walks a checked expression. CEL's error is SQL's NULL: both make false with AND false, true with OR true, and
// themselves with everything else.
type sqlWriter struct {
	filter     *Filter
	properties string
	checked    *ast.AST
	err        error
}

func (w *sqlWriter) refuse(e ast.Expr, format string, args ...any) string {
	if w.err == nil {
		at, column := w.checked.SourceInfo().GetStartLocation(e.ID()), 1
		if e.Kind() == ast.IdentKind || e.Kind() == ast.SelectKind {
			column = 0 // the place of e.name is that of the dot
		}
		w.err = &RuleError{at.Line(), at.Column() + column, fmt.Sprintf(format, args...)}
	}
	return "NULL"
}

func (w *sqlWriter) expr(e ast.Expr) string {
	switch e.Kind() {
	case ast.LiteralKind:
		return w.literal(e)
	case ast.IdentKind, ast.SelectKind:
		return w.property(e)
	case ast.CallKind:
		return w.call(e)
	default:
		return w.refuse(e, "a metric's where cannot hold lists or macros, except in")
	}
}

func (w *sqlWriter) literal(e ast.Expr) string {
	switch v := e.AsLiteral().(type) {
	case types.Bool:
		return strconv.FormatBool(bool(v))
	case types.Int:
		return "toInt64(" + strconv.FormatInt(int64(v), 10) + ")"
	case types.Double:
		return "toFloat64('" + strconv.FormatFloat(float64(v), 'g', -1, 64) + "')"
	case types.String:
		return QuoteSQL(string(v))
	default:
		return w.refuse(e, "a metric's where compares texts, numbers, true and false")
	}
}

// property writes e.name: the checker has turned it into one identifier.
func (w *sqlWriter) property(e ast.Expr) string {
	name := ""
	if reference, ok := w.checked.ReferenceMap()[e.ID()]; ok {
		name = reference.Name
	}
	property, ok := strings.CutPrefix(name, "e.")
	if !ok || e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
		return w.refuse(e, "a metric's where looks at the properties of its event alone: e.name")
	}
	text, ok := PropertySQL(w.properties, property, w.filter.event[property])
	if !ok {
		return w.refuse(e, "a metric's where cannot look at %s: it is a %s", property, w.filter.event[property])
	}
	return text
}

// call writes a function or operator.
func (w *sqlWriter) call(e ast.Expr) string {
	c := e.AsCall()
	args := make([]string, 0, 3)
	if c.FunctionName() == operators.In {
		return w.in(e, c.Args())
	}
	if c.IsMemberFunction() {
		args = append(args, w.expr(c.Target()))
	}
	for _, a := range c.Args() {
		args = append(args, w.expr(a))
	}
	pattern, known := w.pattern(e, c.FunctionName())
	if !known {
		return w.refuse(e, "a metric's where cannot use %s", c.FunctionName())
	}
	places := make([]string, 0, 2*len(args))
	for i, a := range args {
		places = append(places, "$"+strconv.Itoa(i+1), a)
	}
	return strings.NewReplacer(places...).Replace(pattern)
}

// pattern is what a function of CEL is in ClickHouse; $1 stands for its first argument.
func (w *sqlWriter) pattern(e ast.Expr, function string) (string, bool) {
	whole := slices.Contains(w.checked.GetOverloadIDs(e.ID()), intOverload(function))
	switch function {
	case operators.LogicalAnd:
		return "($1 AND $2)", true
	case operators.LogicalOr:
		return "($1 OR $2)", true
	case operators.LogicalNot:
		return "NOT ($1)", true
	case operators.Conditional: // an unknown condition is unknown; SQL would take the second branch
		return "if(isNull($1), NULL, if($1, $2, $3))", true
	case operators.Equals:
		return "($1 = $2)", true
	case operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return "($1 " + strings.Trim(function, "_@") + " $2)", true
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo, operators.Negate:
		return arithmetic(function, whole, slices.Contains(w.checked.GetOverloadIDs(e.ID()), overloads.AddString))
	case overloads.StartsWith:
		return "startsWith($1, $2)", true
	case overloads.EndsWith:
		return "endsWith($1, $2)", true
	case overloads.Contains:
		return "(position($1, $2) > 0)", true
	case overloads.Matches:
		return "match($1, concat('(\\x3F-s)', $2))", true // there, a dot matches a line's end unless told otherwise
	case overloads.Size:
		return "toInt64(lengthUTF8($1))", slices.ContainsFunc(w.checked.GetOverloadIDs(e.ID()), func(id string) bool {
			return id == overloads.SizeString || id == overloads.SizeStringInst
		})
	default:
		return "", false
	}
}

// arithmetic of whole numbers is done in more bits, so that what CEL calls an overflow is seen; so is division by zero.
func arithmetic(function string, whole, text bool) (string, bool) {
	operator := strings.Trim(function, "_@")
	const fits = "if(%[1]s BETWEEN -9223372036854775808 AND 9223372036854775807, toInt64(%[1]s), NULL)"
	switch {
	case text:
		return "concat($1, $2)", true
	case function == operators.Negate && whole:
		return fmt.Sprintf(fits, "(-toInt128($1))"), true
	case function == operators.Negate:
		return "(-($1))", true
	case function == operators.Divide && whole:
		return "if($2 = 0, NULL, " + fmt.Sprintf(fits, "intDivOrZero(toInt128($1), toInt128($2))") + ")", true
	case function == operators.Modulo:
		return "if($2 = 0, NULL, toInt64(moduloOrZero(toInt128($1), toInt128($2))))", true
	case whole:
		return fmt.Sprintf(fits, "(toInt128($1) "+operator+" toInt128($2))"), true
	default:
		return "($1 " + operator + " $2)", true
	}
}

// intOverload is the name of an operator on two whole numbers.
func intOverload(function string) string {
	return map[string]string{
		operators.Add: overloads.AddInt64, operators.Subtract: overloads.SubtractInt64, operators.Multiply: overloads.MultiplyInt64,
		operators.Divide: overloads.DivideInt64, operators.Modulo: overloads.ModuloInt64, operators.Negate: overloads.NegateInt64,
	}[function]
}

// in writes membership of a list that stands in the filter as comparisons.
func (w *sqlWriter) in(e ast.Expr, args []ast.Expr) string {
	if len(args) != 2 || args[1].Kind() != ast.ListKind {
		return w.refuse(e, "a metric's where takes in with a list that stands in it: e.plan in [\"pro\", \"team\"]")
	}
	value := w.expr(args[0])
	either := make([]string, 0, args[1].AsList().Size())
	for _, item := range args[1].AsList().Elements() {
		either = append(either, "("+value+" = "+w.expr(item)+")")
	}
	if len(either) == 0 {
		return "false" // CEL does not look at the value then
	}
	return "(" + strings.Join(either, " OR ") + ")"
}
