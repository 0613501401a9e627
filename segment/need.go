package segment

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// need is something that would have to happen.
type need struct {
	text  string
	never bool // it cannot happen any more
}

func needf(format string, args ...any) need { return need{text: fmt.Sprintf(format, args...)} }

// neverf words what stands in the way for good.
func neverf(format string, args ...any) need {
	return need{text: "nothing can change that " + fmt.Sprintf(format, args...), never: true}
}

// needs says what would have to happen for a part to answer as wanted; nothing where it does.
func (x *explainer) needs(n *node, explained *Explanation, want Truth) []need {
	if explained.Truth == want {
		return nil
	}
	switch {
	case n.op == opNot:
		return x.needs(n.parts[0], &explained.Parts[0], True+False-want)
	case n.op == "":
		return []need{x.leafNeed(n, want)}
	case (n.op == opAnd) == (want == True): // all parts have to
		var all []need
		for i, part := range n.parts {
			all = append(all, x.needs(part, &explained.Parts[i], want)...)
		}
		return all
	default:
		return []need{x.alternatives(n, explained, want)}
	}
}

// alternatives says what would have to happen for one of the parts to answer as wanted. What cannot happen is no alternative.
func (x *explainer) alternatives(n *node, explained *Explanation, want Truth) need {
	var possible, impossible []string
	for i, part := range n.parts {
		list := x.needs(part, &explained.Parts[i], want)
		texts := make([]string, len(list))
		for j := range list {
			texts[j] = list[j].text
		}
		if never := slices.IndexFunc(list, func(n need) bool { return n.never }); never >= 0 {
			impossible = append(impossible, list[never].text)
			continue
		}
		possible = append(possible, strings.Join(texts, " and "))
	}
	if len(possible) == 0 {
		return need{text: strings.Join(impossible, ", and "), never: true}
	}
	return need{text: strings.Join(possible, ", or ")}
}

func (x *explainer) leafNeed(n *node, want Truth) need {
	if at, ok := x.time(n, want); ok {
		return waiting(n, at)
	}
	b := &builder{terms: x.rule.terms}
	if t, operator, value := b.comparison(n.expr); t != nil {
		if constant, ok := constantText(value); ok {
			return x.compared(n, t, direction(operator, want), value, constant)
		}
	}
	if t := b.termOf(n.expr); t != nil {
		return x.answered(t, want)
	}
	if need, ok := traitNeed(n.expr, want); ok {
		return need
	}
	if len(n.terms)+len(n.traits) == 0 {
		return neverf("%s is the same for everybody", n.text)
	}
	if want == True {
		return needf("%s to be true", n.text)
	}
	return needf("%s to be false", n.text)
}

// maxWakes bounds how far into the future time is followed: a window can let go of as many events as it keeps.
const maxWakes = 2 * KeepRecent

// time finds the moment at which time alone makes a leaf answer as wanted.
func (x *explainer) time(n *node, want Truth) (int64, bool) {
	at := x.scope.Now
	for range maxWakes {
		result := x.ask(n, at)
		if result.Truth == want {
			return at, true
		}
		if result.Until == 0 {
			return 0, false
		}
		at = result.Until
	}
	return 0, false
}

// waiting words that nothing but time has to pass, and what must not happen until then.
func waiting(n *node, at int64) need {
	var keep []string
	for _, t := range n.terms {
		if t.kind == termSegmentFor {
			return needf("to stay in segment %s until %s", t.name, moment(at))
		}
		if noun := t.disturber(); noun != "" && !slices.Contains(keep, noun) {
			keep = append(keep, noun)
		}
	}
	if len(keep) == 0 {
		return needf("it to be %s", moment(at))
	}
	return needf("no %s until %s", strings.Join(keep, " and no "), moment(at))
}

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
		return "different e." + t.property + " of " + t.noun() + t.selection.scope()
	case termDays:
		return plural("day", n) + " with " + t.article() + t.noun() + t.selection.scope()
	case termSessions:
		return plural("session", n) + t.ofWhat()
	default:
		return t.nouns(n) + t.selection.scope()
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

// scope names how far back a selection looks.
func (s *selection) scope() string {
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

// answered says what has to happen for a term that is true or false.
func (x *explainer) answered(t *term, want Truth) need {
	yes := want == True
	switch t.kind {
	case termFollowed:
		return x.followedNeed(t, yes)
	case termNotFollowed:
		if yes {
			return needf("%s, and no %s for %s", t.noun(), t.second.noun(), FormatDuration(t.length))
		}
		return needf("%s", t.second.noun()+" to happen")
	case termInactive:
		if yes {
			return needf("an event, and then none for %s", FormatDuration(t.length))
		}
		return needf("an event")
	case termSeen:
		if yes || x.scope.Facts.FirstSeen == 0 {
			return needf("a first event, and then %s to pass", FormatDuration(t.length))
		}
		return neverf("the first event was %s", moment(x.scope.Facts.FirstSeen))
	case termSegment, termSegmentFor:
		return segmentNeed(t, yes)
	default: // local_time and local_weekday: time brings them about
		return needf("%s to be %t", t.text, yes)
	}
}

func segmentNeed(t *term, yes bool) need {
	switch {
	case !yes:
		return needf("to leave segment %s", t.name)
	case t.kind == termSegment:
		return needf("to enter segment %s", t.name)
	default:
		return needf("to be in segment %s for %s", t.name, FormatDuration(t.length))
	}
}

func (x *explainer) followedNeed(t *term, yes bool) need {
	if !yes {
		return neverf("%s was followed by %s", t.noun(), t.second.noun())
	}
	if s := x.series(t); s != nil && len(s.Recent) > 0 {
		if end := s.Recent[len(s.Recent)-1] + t.length.Milliseconds(); end > x.scope.Now {
			return needf("%s before %s", t.second.noun(), moment(end))
		}
	}
	return needf("%s, and %s within %s after it", t.noun(), t.second.noun(), FormatDuration(t.length))
}

func (x *explainer) series(t *term) *Series {
	return x.scope.Facts.Series[x.rule.set.slots[t.slot].Key]
}

// compared says what has to happen for a comparison of a term with a constant to hold. Time alone does not bring it about.
func (x *explainer) compared(n *node, t *term, operator string, value ast.Expr, constant string) need {
	switch t.kind {
	case termCount, termDistinct, termDays, termSessions:
		if k, ok := literalInt(value); ok {
			return x.countNeed(t, operator, k)
		}
	case termSum, termAvg, termMin, termMax:
		return x.amountNeed(t, operator, constant)
	case termFirst, termLast:
		return x.momentNeed(t, operator, constant)
	case termSinceFirst, termSinceLast:
		return x.sinceNeed(t, operator, constant)
	case termSessionLength, termLongestSession:
		return x.sessionNeed(t, operator, constant)
	case termTimeTo:
		return x.timeToNeed(t, operator, constant, value)
	case termTimeSince, termTimeUntil:
		if _, ok := x.scope.Facts.Traits[t.name]; !ok {
			return needf("trait %s to be set", t.name)
		}
		return needf("trait %s to hold another time", t.name)
	case termScore:
		return needf("%s to be %s", strings.Replace(t.name, "score_", "score ", 1), words(operator, constant))
	case termVariant:
		return x.variantNeed(t, operator, constant)
	default:
	}
	return needf("%s to be true", n.text)
}

// countNeed says how many more must come, or that there are too many.
func (x *explainer) countNeed(t *term, operator string, k int64) need {
	n, ok := t.read(&evaluation{rule: x.rule, scope: x.scope}).value.(types.Int)
	if !ok {
		return needf("%s to be %s", t.text, words(operator, fmt.Sprint(k)))
	}
	target := k
	switch operator {
	case operators.Greater, operators.NotEquals:
		target++
	case operators.Less, operators.LessEquals:
		target = -1
	}
	more := target - int64(n)
	switch {
	case more <= 0 && t.kind == termCount && n == 1:
		return neverf("%s happened", t.noun())
	case more <= 0 && t.kind == termCount:
		return neverf("%s happened %d times", t.noun(), n)
	case more <= 0:
		return neverf("there were %d %s", n, t.counted(int64(n)))
	case t.kind == termCount && n == 0 && more == 1:
		return needf("%s to happen", t.article()+t.noun())
	case n == 0:
		return needf("%d %s", more, t.counted(more))
	}
	return needf("%d more %s", more, t.counted(more))
}

func (x *explainer) amountNeed(t *term, operator, constant string) need {
	property := "e." + t.property
	now := t.read(&evaluation{rule: x.rule, scope: x.scope})
	switch {
	case t.kind == termMax && grows(operator), t.kind == termMin && shrinks(operator), now.why == noValue && t.kind != termSum:
		return needf("%s with %s of %s", t.noun(), property, words(operator, constant)+t.selection.scope())
	case now.value != nil && !t.windowed() && (t.kind == termMax && shrinks(operator) || t.kind == termMin && grows(operator)):
		return neverf("the %s of %s of %s was %s", extreme(t.kind), property, t.noun(), now)
	}
	what := map[termKind]string{termSum: "sum", termAvg: "mean", termMin: "least", termMax: "greatest"}[t.kind]
	return needf("the %s of %s of %s to be %s (now: %s)", what, property, t.noun()+t.selection.scope(), words(operator, constant), now)
}

func extreme(kind termKind) string {
	if kind == termMin {
		return "least"
	}
	return "greatest"
}

func (x *explainer) momentNeed(t *term, operator, constant string) need {
	when := "after " + constant
	switch {
	case shrinks(operator):
		when = "before " + constant
	case operator == operators.Equals:
		when = "at " + constant
	case operator == operators.NotEquals:
		when = "not at " + constant
	}
	s := x.series(t)
	switch {
	case s == nil:
		return needf("%s to happen %s", t.noun(), when)
	case t.kind == termFirst && !shrinks(operator):
		return neverf("the first %s was %s", t.noun(), moment(s.First))
	case t.kind == termLast && shrinks(operator):
		return neverf("the last %s was %s", t.noun(), moment(s.Last))
	case t.kind == termFirst:
		return needf("an earlier %s to turn up, from %s", t.noun(), when)
	}
	return needf("%s to happen %s", t.noun(), when)
}

func (x *explainer) sinceNeed(t *term, operator, constant string) need {
	s := x.series(t)
	switch {
	case s == nil && grows(operator):
		return needf("%s to happen, and then %s to pass", t.noun(), constant)
	case s == nil || t.kind == termSinceLast:
		return needf("%s to happen", t.noun())
	}
	return neverf("the first %s was %s", t.noun(), moment(s.First))
}

func (x *explainer) sessionNeed(t *term, operator, constant string) need {
	now := t.read(&evaluation{rule: x.rule, scope: x.scope})
	if t.kind == termLongestSession && shrinks(operator) {
		return neverf("a session%s lasted %s", t.ofWhat(), now)
	}
	return needf("a session%s that lasts %s (now: %s)", t.ofWhat(), words(operator, constant), now)
}

func (x *explainer) timeToNeed(t *term, operator, constant string, value ast.Expr) need {
	first := x.scope.Facts.FirstSeen
	d, ok := constantOf(value)
	s := x.series(t)
	switch {
	case s != nil:
		return neverf("the first %s was %s, and the first event %s", t.noun(), moment(s.First), moment(first))
	case first == 0 || !ok:
		return needf("%s, %s after the first event", t.noun(), words(operator, constant))
	case grows(operator):
		return needf("%s to happen after %s", t.noun(), moment(first+d.Milliseconds()))
	case first+d.Milliseconds() <= x.scope.Now:
		return neverf("the first event was %s, more than %s ago", moment(first), constant)
	}
	return needf("%s to happen before %s", t.noun(), moment(first+d.Milliseconds()))
}

func (x *explainer) variantNeed(t *term, operator, constant string) need {
	if x.scope.Variant != nil && x.scope.Variant(t.name) != "" {
		return neverf("the user met variant %s of experiment %s", x.scope.Variant(t.name), t.name)
	}
	return needf("to meet %s of experiment %s", words(operator, "variant "+constant), t.name)
}

// traitNeed says what a trait has to be; false where the leaf says something else about traits than a comparison does.
func traitNeed(e ast.Expr, want Truth) (need, bool) {
	if name, ok := traitOf(e); ok {
		return needf("trait %s to be %t", name, want == True), true
	}
	if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 {
		return need{}, false
	}
	left, right := e.AsCall().Args()[0], e.AsCall().Args()[1]
	operator := e.AsCall().FunctionName()
	if operator == operators.In {
		return memberNeed(left, right, want)
	}
	if mirror(operator) == "" {
		return need{}, false
	}
	name, isLeft := traitOf(left)
	if !isLeft {
		var isRight bool
		if name, isRight = traitOf(right); !isRight {
			return need{}, false
		}
		left, right = right, left
		operator = mirror(operator)
	}
	constant, ok := constantText(right)
	return needf("trait %s to be %s", name, words(direction(operator, want), constant)), ok
}

// memberNeed words `traits.plan in ["pro", "team"]` and `"x" in traits.tags`.
func memberNeed(left, right ast.Expr, want Truth) (need, bool) {
	not := ""
	if want == False {
		not = "not "
	}
	if name, ok := traitOf(right); ok {
		constant, isConstant := constantText(left)
		return needf("trait %s %sto hold %s", name, not, constant), isConstant
	}
	name, ok := traitOf(left)
	if !ok || right.Kind() != ast.ListKind {
		return need{}, false
	}
	var list []string
	for _, element := range right.AsList().Elements() {
		constant, isConstant := constantText(element)
		ok = ok && isConstant
		list = append(list, constant)
	}
	return needf("trait %s %sto be %s", name, not, strings.Join(list, " or ")), ok
}

func traitOf(e ast.Expr) (string, bool) {
	if e.Kind() != ast.IdentKind {
		return "", false
	}
	return strings.CutPrefix(e.AsIdent(), "traits.")
}
