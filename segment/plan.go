package segment

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
)

// Type is the declared type of a property or trait.
type Type string

// The types a tracking plan may declare.
const (
	String    Type = "string"
	Int       Type = "int"
	Number    Type = "number"
	Bool      Type = "bool"
	Timestamp Type = "timestamp" // RFC 3339 text in events
	List      Type = "list"      // of strings
)

// Types lists the types in the order a person expects.
func Types() []Type { return []Type{String, Int, Number, Bool, Timestamp, List} }

// Plan is the tracking plan: what services promise to send. Rules can name nothing else.
type Plan struct {
	Events map[string]Properties
	Traits Properties
	Scores map[string]string   // description by key; a score lives in the trait that ScoreTrait names, a Number among Traits
	Docs   map[string]EventDoc // by event; what is not there is neither described nor required
	Zone   Zone

	TraitDocs map[string]string // description by trait
}

// EventDoc is what a plan says about an event besides its properties' types.
type EventDoc struct {
	Description string
	Required    []string          // the properties that every such event carries; sorted
	Properties  map[string]string // description by property
}

// Zone says where a user's local time comes from.
type Zone struct {
	Trait   string         // a string trait that holds an IANA name; empty: none
	Default *time.Location // for users without one; nil: UTC
}

// ScoreTrait is the name of the trait that holds a score.
func ScoreTrait(score string) string { return "score_" + score }

// Properties maps names to declared types.
type Properties map[string]Type

func (t Type) cel() *cel.Type {
	switch t {
	case Int:
		return cel.IntType
	case Number:
		return cel.DoubleType
	case Bool:
		return cel.BoolType
	case Timestamp:
		return cel.TimestampType
	case List:
		return cel.ListType(cel.StringType)
	default:
		return cel.StringType
	}
}

// coerce returns v as the declared type, and false where v is of another: a mistyped value counts as absent.
func (t Type) coerce(v any) (any, bool) {
	switch t {
	case Int:
		switch v := v.(type) {
		case int64:
			return v, true
		case float64: // a whole number that has been through JSON
			return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
		}
	case Number:
		switch v := v.(type) {
		case int64:
			return float64(v), true
		case float64:
			return v, true
		}
	case Bool:
		b, ok := v.(bool)
		return b, ok
	case Timestamp:
		s, ok := v.(string)
		at, err := time.Parse(time.RFC3339Nano, s)
		return at, ok && err == nil
	case List:
		return stringList(v)
	case String:
		s, ok := v.(string)
		return s, ok
	}
	return nil, false
}

func stringList(v any) (any, bool) {
	items, ok := v.([]any)
	list := make([]string, 0, len(items))
	for _, item := range items {
		s, isString := item.(string)
		ok = ok && isString
		list = append(list, s)
	}
	return list, ok
}

// coerceJSON is coerce for a value as it stands in JSON.
func (t Type) coerceJSON(raw json.RawMessage) (any, bool) { return t.coerce(decodeJSON(raw)) }

// decodeJSON turns a JSON value into one of those that schema.DecodeProperties gives; nil where it is none.
func decodeJSON(raw json.RawMessage) any {
	if text, ok := plainText(raw); ok {
		return text
	}
	if len(raw) > 0 && (raw[0] == '-' || (raw[0] >= '0' && raw[0] <= '9')) {
		if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			return n
		}
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	f, err := n.Float64()
	if err != nil {
		return nil
	}
	return f
}

// plainText reads a JSON text without anything escaped in it, which is what most traits are, in a tenth of the time.
func plainText(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", false
	}
	for _, b := range raw[1 : len(raw)-1] {
		if b < ' ' || b > '~' || b == '"' || b == '\\' {
			return "", false
		}
	}
	return string(raw[1 : len(raw)-1]), true
}

// names lists the keys of m for a message, sorted.
func names[V any](m map[string]V) string {
	keys := keysOf(m)
	if len(keys) > 12 {
		keys = append(keys[:12], fmt.Sprintf("and %d more", len(m)-12))
	}
	return strings.Join(keys, ", ")
}

func keysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
