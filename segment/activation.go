package segment

import (
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// evaluation resolves a rule's variables lazily: a term that a short circuit skips is never computed.
type evaluation struct {
	rule  *Rule
	scope Scope
	until int64 // when the first of the terms that were asked changes by time alone
}

// ResolveName implements interpreter.Activation. A variable without a value is an error to CEL, which && and || absorb
// where the other side decides: exactly the three-valued logic that rules promise.
func (e *evaluation) ResolveName(name string) (any, bool) {
	if trait, ok := strings.CutPrefix(name, "traits."); ok {
		value, had := e.scope.Facts.Traits[trait]
		if !had {
			return nil, false
		}
		return e.rule.set.plan.Traits[trait].coerceJSON(value.Value)
	}
	for i := range e.rule.terms {
		if t := &e.rule.terms[i]; t.variable == name {
			if at := t.until(e.rule.set, e.scope); at > e.scope.Now && (e.until == 0 || at < e.until) {
				e.until = at
			}
			return t.value(e.rule.set, e.scope)
		}
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (*evaluation) Parent() interpreter.Activation { return nil }

// filterScope resolves the properties of one event, and of the one that let the user in, for a filter.
type filterScope struct {
	filter       *Filter
	event, entry map[string]any
}

// ResolveName implements interpreter.Activation.
func (s *filterScope) ResolveName(name string) (any, bool) {
	declared, values := s.filter.event, s.event
	property, ok := strings.CutPrefix(name, "e.")
	if !ok {
		if property, ok = strings.CutPrefix(name, "same."); !ok {
			return nil, false
		}
		declared, values = s.filter.entry, s.entry
	}
	value, had := values[property]
	if !had {
		return nil, false
	}
	return declared[property].coerce(value)
}

// Parent implements interpreter.Activation.
func (*filterScope) Parent() interpreter.Activation { return nil }

func celInt(n int64) ref.Val     { return types.Int(n) }
func celString(s string) ref.Val { return types.String(s) }
