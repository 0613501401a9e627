package segment

import (
	"fmt"
	"slices"
	"strings"
)

// Violation is one way in which an event breaks what the tracking plan promises.
type Violation struct {
	Kind ViolationKind `json:"kind"`
	Name string        `json:"name"`           // of the event, property or trait
	Want Type          `json:"want,omitempty"` // the declared type
	Got  string        `json:"got,omitempty"`  // what came instead, in the words of JSON
}

// ViolationKind says what is wrong.
type ViolationKind string

// The kinds of violation.
const (
	UndeclaredEvent    ViolationKind = "undeclared_event"
	UndeclaredProperty ViolationKind = "undeclared_property"
	UndeclaredTrait    ViolationKind = "undeclared_trait"
	MissingProperty    ViolationKind = "missing_property" // required, and not there or null
	MistypedProperty   ViolationKind = "mistyped_property"
	MistypedTrait      ViolationKind = "mistyped_trait"
)

// String words the violation for a person.
func (v Violation) String() string {
	switch v.Kind {
	case UndeclaredEvent:
		return fmt.Sprintf("event %s is not declared", v.Name)
	case UndeclaredProperty:
		return fmt.Sprintf("property %s is not declared", v.Name)
	case UndeclaredTrait:
		return fmt.Sprintf("trait %s is not declared", v.Name)
	case MissingProperty:
		return fmt.Sprintf("property %s is required and missing", v.Name)
	case MistypedTrait:
		return fmt.Sprintf("trait %s should be %s, not %s", v.Name, v.Want, v.Got)
	default:
		return fmt.Sprintf("property %s should be %s, not %s", v.Name, v.Want, v.Got)
	}
}

// Violations returns what is wrong with an event of that name: first with its properties, then with its traits, each in order of
// name. Values are as schema.DecodeProperties gives them; one that is null counts as left out. The engine takes such events
// nonetheless: what is not as declared, it does not see.
func (p *Plan) Violations(event string, properties, traits map[string]any) []Violation {
	declared, ok := p.Events[event]
	if !ok {
		return []Violation{{Kind: UndeclaredEvent, Name: event}}
	}
	found := declared.violations(properties, UndeclaredProperty, MistypedProperty)
	for _, name := range p.Docs[event].Required {
		if properties[name] == nil {
			found = append(found, Violation{Kind: MissingProperty, Name: name, Want: declared[name]})
		}
	}
	slices.SortStableFunc(found, func(a, b Violation) int { return strings.Compare(a.Name, b.Name) })
	return append(found, p.Traits.violations(traits, UndeclaredTrait, MistypedTrait)...)
}

func (p Properties) violations(values map[string]any, undeclared, mistyped ViolationKind) []Violation {
	var found []Violation
	for _, name := range keysOf(values) {
		value := values[name]
		declared, ok := p[name]
		if !ok {
			found = append(found, Violation{Kind: undeclared, Name: name})
			continue
		}
		if _, fits := declared.coerce(value); !fits && value != nil {
			found = append(found, Violation{Kind: mistyped, Name: name, Want: declared, Got: kindOf(value)})
		}
	}
	return found
}

// kindOf names a value's kind.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case int64:
		return "whole number"
	case float64:
		return "number"
	case bool:
		return "bool"
	case []any:
		return "list of other things than texts"
	default:
		return "object"
	}
}
