package segment

import (
	"fmt"
	"strconv"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// disturber names what would put off the change that time brings; empty where nothing would.
func (t *term) disturber() string {
	switch t.kind {
	case termInactive:
		return "event"
	case termNotFollowed:
		return t.second.noun()
	case termSinceLast:
		return t.noun()
	default:
		if t.windowed() {
			return t.noun()
		}
		return ""
	}
}

// moment writes a time as short as it can be.
func moment(at int64) string {
	t := time.UnixMilli(at).UTC()
	switch {
	case at%60_000 == 0:
		return t.Format("2006-01-02 15:04 UTC")
	case at%1000 == 0:
		return t.Format("2006-01-02 15:04:05 UTC")
	}
	return t.Format("2006-01-02 15:04:05.000 UTC")
}

// noun names one of what a pick takes: `order where e.total > 10.0`.
func (p *pick) noun() string { return p.nouns(1) }

// nouns names so many of them. The names of events are left as they are declared.
func (p *pick) nouns(n int64) string {
	noun := plural("event", n)
	switch {
	case p.trait != "":
		noun = plural("change", n) + " of trait " + p.trait
	case p.event != "":
		noun = p.event
	}
	if p.where != "" {
		noun += " where " + p.where
	}
	return noun
}

func plural(word string, n int64) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// counted names so many of what a term counts.
func (t *term) counted(n int64) string {
	switch t.kind {
	case termDistinct:
		return "different e." + t.property + " of " + t.noun() + t.reach()
	case termDays:
		return plural("day", n) + " with " + t.article() + t.noun() + t.reach()
	case termSessions:
		return plural("session", n) + t.ofWhat()
	default:
		return t.nouns(n) + t.reach()
	}
}

// article is that of a noun which is ours; the names of events have none.
func (t *term) article() string {
	switch {
	case t.trait != "":
		return "a "
	case t.event == "":
		return "an "
	}
	return ""
}

// ofWhat names what sessions are made of, where not all events make them.
func (t *term) ofWhat() string {
	if t.event == "" && t.trait == "" && t.where == "" {
		return ""
	}
	return " of " + t.noun()
}

// reach names how far back a selection looks.
func (s *selection) reach() string {
	switch {
	case s.window > 0:
		return " within " + FormatDuration(s.window)
	case s.days == 1:
		return " within one calendar day"
	case s.days > 0:
		return fmt.Sprintf(" within %d calendar days", s.days)
	}
	return ""
}

// direction is the comparison that has to hold.
func direction(operator string, want Truth) string {
	if want == True {
		return operator
	}
	return map[string]string{
		operators.Less: operators.GreaterEquals, operators.GreaterEquals: operators.Less,
		operators.Greater: operators.LessEquals, operators.LessEquals: operators.Greater,
		operators.Equals: operators.NotEquals, operators.NotEquals: operators.Equals,
	}[operator]
}

// words writes a comparison with a constant: "at least 3".
func words(operator, constant string) string {
	return map[string]string{
		operators.Less: "less than ", operators.LessEquals: "at most ", operators.Greater: "more than ",
		operators.GreaterEquals: "at least ", operators.Equals: "", operators.NotEquals: "other than ",
	}[operator] + constant
}

// grows reports whether a comparison wants more, rather than less or another value.
func grows(operator string) bool {
	return operator == operators.Greater || operator == operators.GreaterEquals
}

// shrinks reports whether a comparison wants less.
func shrinks(operator string) bool {
	return operator == operators.Less || operator == operators.LessEquals
}

// constantText writes a constant as a rule does; false where the expression is none.
func constantText(e ast.Expr) (string, bool) {
	if d, ok := constantOf(e); ok {
		return FormatDuration(d), true
	}
	switch e.Kind() {
	case ast.LiteralKind:
		switch v := e.AsLiteral().Value().(type) {
		case string:
			return strconv.Quote(v), true
		case int64, bool:
			return fmt.Sprint(v), true
		case float64:
			return number(v), true
		}
	case ast.CallKind:
		if e.AsCall().FunctionName() == "timestamp" && len(e.AsCall().Args()) == 1 {
			return literal(e.AsCall().Args()[0])
		}
	default: // no constant
	}
	return "", false
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// aggregate names what a term makes of amounts.
func aggregate(kind termKind) string {
	switch kind {
	case termSum:
		return "sum"
	case termAvg:
		return "mean"
	case termMin:
		return "least"
	default:
		return "greatest"
	}
}
