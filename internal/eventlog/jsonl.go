package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/onramphq/onramp/schema"
)

func (f *file) readJSON(ctx context.Context) error {
	var fields *jsonFields
	for {
		if err := f.stopped(ctx); err != nil {
			return err
		}
		l, err := f.lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.name, f.lines.broken(err))
		}
		text := bytes.TrimSpace(l.text)
		if len(text) == 0 {
			continue
		}
		if f.counts.Rows == 0 && (text[0] == '[' || string(text) == "{") {
			return fmt.Errorf("read %s: line %d: it is one JSON document over all lines: write one object a line, "+
				"as `jq -c '.[]'` makes of an array", f.name, l.number)
		}
		if err := f.takeJSON(l, &fields); err != nil {
			return err
		}
	}
}

func (f *file) takeJSON(l line, fields **jsonFields) error {
	if l.isOver {
		return f.refuse(l.number, l.bare(), refusal(schema.ReasonTooLarge, "", "the line has more than %d bytes", MaxLine))
	}
	top, rejection := parseObject(l.bare())
	if rejection != nil {
		return f.refuse(l.number, l.bare(), rejection)
	}
	if *fields == nil {
		bound, err := f.bindJSON(top)
		if err != nil {
			return fmt.Errorf("read event log: %w", err)
		}
		*fields = bound
	}
	d, rejection := f.draftOf(top, *fields)
	if rejection != nil {
		return f.refuse(l.number, l.bare(), rejection)
	}
	return f.accept(l.number, l.bare(), d)
}

func (f *file) draftOf(top object, fields *jsonFields) (draft, *schema.Rejection) {
	var d draft
	for _, part := range []struct {
		to          *string
		field, path string
	}{{&d.user, "user_id", f.mapping.User}, {&d.event, "event_name", f.mapping.Event}, {&d.id, "event_id", f.mapping.EventID}} {
		text, ok := textOf(top.find(part.path))
		if !ok {
			return d, refusal(schema.ReasonWrongType, part.field, "is neither a string nor a whole number")
		}
		*part.to = text
	}
	moment := top.find(f.mapping.Time)
	text := string(moment)
	if moment.Kind() != '0' {
		var ok bool
		if text, ok = textOf(moment); !ok {
			return d, refusal(schema.ReasonBadTimestamp, "occurred_at", "is neither a string nor a number")
		}
	}
	at, err := f.clock.parse(text)
	if err != nil {
		return d, refusal(schema.ReasonBadTimestamp, "occurred_at", "%v", err)
	}
	d.at = at
	var rejection *schema.Rejection
	if d.properties, rejection = fields.appendFields(top, "properties", fields.properties); rejection != nil {
		return d, rejection
	}
	d.traits, rejection = fields.appendFields(top, "traits", fields.traits)
	return d, rejection
}

// textOf returns the text of a string or whole number; nothing and null are the empty text.
func textOf(value jsontext.Value) (string, bool) {
	switch value.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		return string(text), err == nil
	case '0':
		return string(value), !bytes.ContainsAny(value, ".eE")
	case 'n':
		return "", true
	default:
		return "", len(value) == 0
	}
}

// jsonFields says which fields become properties and traits.
type jsonFields struct {
	properties, traits []jsonProperty
	taken              map[string]bool // paths that * leaves out
}

type jsonProperty struct {
	key  []byte // the name as JSON, with the colon
	path string // without the .* of a selector of many
	many bool
}

// bindJSON takes the fields of the first object for those of the file.
func (f *file) bindJSON(first object) (*jsonFields, error) {
	names := make([]string, len(first))
	for i := range first {
		names[i] = first[i].name
	}
	m, err := f.mapping.columns(f.name, names, false)
	if err != nil {
		return nil, err
	}
	f.useColumns(m)
	fields := &jsonFields{taken: map[string]bool{m.User: true, m.Event: true, m.Time: true, m.EventID: true}}
	for _, text := range slices.Concat(m.Properties, m.Traits) {
		fields.taken[strings.TrimSuffix(parseSelector(text).path, "."+everything)] = true
	}
	bind := func(what string, selectors []string) []jsonProperty {
		var bound []jsonProperty
		for _, text := range selectors {
			s := parseSelector(text)
			if s.isMany() {
				path := strings.TrimSuffix(strings.TrimSuffix(s.path, everything), ".")
				bound = append(bound, jsonProperty{path: path, many: true})
				continue
			}
			key := keyOf(s.name, s.path[strings.LastIndexByte(s.path, '.')+1:])
			if slices.ContainsFunc(bound, func(p jsonProperty) bool { return bytes.Equal(p.key, key) }) {
				err = errors.Join(err, fmt.Errorf("%s: two fields would be called %s: rename one with name=path", what, bytes.TrimSuffix(key, []byte(":"))))
			}
			bound = append(bound, jsonProperty{key: key, path: s.path})
		}
		return bound
	}
	fields.properties, fields.traits = bind("properties", m.Properties), bind("traits", m.Traits)
	return fields, err
}

// appendFields returns the object of the selected fields; empty where none is there. Names that meet only here, out of
// two selectors of many, are left to the schema to refuse.
func (fields *jsonFields) appendFields(top object, what string, selected []jsonProperty) ([]byte, *schema.Rejection) {
	var b []byte
	before := byte('{')
	add := func(key []byte, value jsontext.Value) {
		b = append(append(append(b, before), key...), value...)
		before = ','
	}
	for _, p := range selected {
		members := top
		switch {
		case !p.many:
			if value := top.find(p.path); len(value) > 0 {
				add(p.key, value)
			}
			continue
		case p.path != "":
			value := top.find(p.path)
			if len(value) == 0 || value.Kind() == 'n' {
				continue
			}
			var rejection *schema.Rejection
			if members, rejection = parseObject(value); rejection != nil {
				return nil, refusal(schema.ReasonWrongType, what, "%s is not an object", schema.Clean(p.path))
			}
		}
		for _, m := range members {
			if p.path == "" && fields.taken[m.name] {
				continue
			}
			add(keyOf(m.name, ""), m.value)
		}
	}
	if len(b) > 0 {
		b = append(b, '}')
	}
	return b, nil
}

// object is a JSON object in its own order; the values are pieces of the line.
type object []member

type member struct {
	name  string
	value jsontext.Value
}

// find returns the value at a dotted path, nil where there is none. A name that holds the dots itself comes first.
func (o object) find(path string) jsontext.Value {
	if path == "" {
		return nil
	}
	for _, m := range o {
		if m.name == path {
			return m.value
		}
	}
	for _, m := range o {
		rest, inside := strings.CutPrefix(path, m.name+".")
		if !inside || m.value.Kind() != '{' {
			continue
		}
		if inner, rejection := parseObject(m.value); rejection == nil {
			if value := inner.find(rest); value != nil {
				return value
			}
		}
	}
	return nil
}

// parseObject reads text as exactly one JSON object, strictly.
func parseObject(text []byte) (object, *schema.Rejection) {
	if !utf8.Valid(text) {
		return nil, refusal(schema.ReasonInvalidUTF8, "", "the line is not valid UTF-8")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return nil, syntaxRefusal(err, dec.InputOffset())
		}
		return nil, refusal(schema.ReasonNotAnObject, "", "the line is not a JSON object")
	}
	if _, err := dec.ReadToken(); err != nil { // the opening brace
		return nil, syntaxRefusal(err, dec.InputOffset())
	}
	var o object
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, syntaxRefusal(err, dec.InputOffset())
		}
		m := member{name: name.String()}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, syntaxRefusal(err, dec.InputOffset())
		}
		end := dec.InputOffset()
		m.value = text[end-int64(len(value)) : end] // value itself lives only until the next read
		o = append(o, m)
	}
	if _, err := dec.ReadToken(); err != nil { // the closing brace
		return nil, syntaxRefusal(err, dec.InputOffset())
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, refusal(schema.ReasonTrailingData, "", "something follows the object at column %d", dec.InputOffset()+1)
	}
	return o, nil
}

// syntaxRefusal gives the reasons that package schema gives for the same faults.
func syntaxRefusal(err error, offset int64) *schema.Rejection {
	switch text := err.Error(); {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refusal(schema.ReasonDuplicateKey, "", "a name stands twice in one object, near column %d", offset+1)
	case strings.Contains(text, "surrogate") || strings.Contains(text, "UTF-8"):
		return refusal(schema.ReasonInvalidUTF8, "", "a string holds broken text near column %d", offset+1)
	case strings.Contains(text, "depth"):
		return refusal(schema.ReasonTooDeep, "", "the line nests far too deep")
	default:
		return refusal(schema.ReasonMalformedJSON, "", "the line is not JSON near column %d", offset+1)
	}
}
