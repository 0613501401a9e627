package segment

import (
	"strconv"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

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
		return needf("%s to be %s", t.text, words(operator, strconv.FormatInt(k, 10)))
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
		return needf("%s with %s of %s", t.noun(), property, words(operator, constant)+t.reach())
	case now.value != nil && !t.windowed() && (t.kind == termMax && shrinks(operator) || t.kind == termMin && grows(operator)):
		return neverf("the %s of %s of %s was %s", aggregate(t.kind), property, t.noun(), now)
	}
	return needf("the %s of %s of %s to be %s (now: %s)", aggregate(t.kind), property, t.noun()+t.reach(), words(operator, constant), now)
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
		right, operator = left, mirror(operator)
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
