package segment

import (
	"fmt"
	"slices"
	"strings"
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
		return []need{x.leafNeed(n, explained.Until, want)}
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

// leafNeed says what would have to happen for a leaf to answer as wanted, which time alone may change next at a known moment.
func (x *explainer) leafNeed(n *node, next int64, want Truth) need {
	if at, ok := x.time(n, next, want); ok {
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

// time finds the moment at which time alone makes a leaf answer as wanted, next being the first at which it can.
func (x *explainer) time(n *node, next int64, want Truth) (int64, bool) {
	for range maxWakes {
		if next == 0 {
			return 0, false
		}
		result := x.ask(n, next)
		if result.Truth == want {
			return next, true
		}
		next = result.Until
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
