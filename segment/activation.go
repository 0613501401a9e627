package segment

import (
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// evaluation resolves a rule's variables lazily: a term that a short circuit skips is never computed.
type evaluation struct {
	rule   *Rule
	scope  Scope
	until  int64  // when the first of the terms that were asked changes by time alone
	cost   uint64 // what the answer took, where that is counted
	keeps  bool   // the traits it asks for, for it asks more than once
	traits []resolved
}

// resolved is a trait that has been asked for.
type resolved struct {
	name  string
	value any
	ok    bool
}

// ResolveName implements interpreter.Activation. A variable without a value is an error to CEL, which && and || absorb
// where the other side decides: exactly the three-valued logic that rules promise.
func (e *evaluation) ResolveName(name string) (any, bool) {
	if t := termNamed(e.rule.terms, name); t != nil {
		r := t.read(e)
		e.wake(r.until)
		return r.value, r.value != nil
	}
	if trait, ok := strings.CutPrefix(name, "traits."); ok {
		return e.trait(trait)
	}
	return nil, false
}

// wake notes a moment at which the answer may change.
func (e *evaluation) wake(at int64) {
	if at > e.scope.Now && (e.until == 0 || at < e.until) {
		e.until = at
	}
}

// trait returns the trait's value; false where there is none, or one of another type than declared.
func (e *evaluation) trait(name string) (any, bool) {
	for i := range e.traits {
		if e.traits[i].name == name {
			return e.traits[i].value, e.traits[i].ok
		}
	}
	trait, had := e.scope.Facts.Traits[name]
	if !had {
		return nil, false
	}
	value, ok := e.rule.set.plan.Traits[name].coerceJSON(trait.Value)
	if e.keeps {
		e.traits = append(e.traits, resolved{name, value, ok})
	}
	return value, ok
}

// zone returns the user's zone.
func (e *evaluation) zone() *time.Location {
	if e.scope.Zone == nil {
		e.scope.Zone = e.rule.set.Zone(e.scope.Facts)
	}
	return e.scope.Zone
}

// Parent implements interpreter.Activation.
func (*evaluation) Parent() interpreter.Activation { return nil }

// variable names the term at an index, in a way that no writer of rules can.
func variable(index int) string { return "@" + strconv.Itoa(index) + "@" }

// term returns the term that a variable stands for; nil where it stands for none.
func (r *Rule) term(name string) *term { return termNamed(r.terms, name) }

func termNamed(terms []term, name string) *term {
	if len(name) < 3 || name[0] != '@' {
		return nil
	}
	index := 0
	for _, digit := range []byte(name[1 : len(name)-1]) {
		if digit < '0' || digit > '9' {
			return nil // CEL has variables of its own in comprehensions
		}
		index = index*10 + int(digit-'0')
	}
	if index >= len(terms) {
		return nil
	}
	return &terms[index]
}

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
