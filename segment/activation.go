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

// propertyScope resolves the properties of one event for a filter.
type propertyScope struct {
	declared Properties
	values   map[string]any
}

// ResolveName implements interpreter.Activation.
func (s propertyScope) ResolveName(name string) (any, bool) {
	property, ok := strings.CutPrefix(name, "e.")
	if !ok {
		return nil, false
	}
	value, had := s.values[property]
	if !had {
		return nil, false
	}
	return s.declared[property].coerce(value)
}

// Parent implements interpreter.Activation.
func (propertyScope) Parent() interpreter.Activation { return nil }

func celInt(n int64) ref.Val     { return types.Int(n) }
func celString(s string) ref.Val { return types.String(s) }
