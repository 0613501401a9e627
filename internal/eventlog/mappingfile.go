package eventlog

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/schema"
)

// maxMapping bounds a mapping file: it is a dozen lines.
const maxMapping = 1 << 20

// LoadMapping reads a mapping from YAML; name is what messages call it. Keys are the fields of [Mapping] in snake_case.
// Unknown and repeated keys and values of the wrong kind are errors, all at once, each as name:line:column. An empty file
// is the zero Mapping. It does not validate: a flag may still complete what the file says.
func LoadMapping(r io.Reader, name string) (Mapping, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxMapping+1))
	if err != nil {
		return Mapping{}, fmt.Errorf("read mapping %s: %w", name, err)
	}
	if len(text) > maxMapping {
		return Mapping{}, fmt.Errorf("read mapping %s: it has more than %d bytes", name, maxMapping)
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var document, more yaml.Node
	if err := dec.Decode(&document); errors.Is(err, io.EOF) {
		return Mapping{}, nil
	} else if err != nil {
		return Mapping{}, fmt.Errorf("read mapping %s: %w", name, err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return Mapping{}, fmt.Errorf("read mapping %s: it holds more than one document", name)
	}
	f := mappingFile{name: name}
	m := f.mapping(document.Content[0])
	return m, errors.Join(f.problems...)
}

// mappingFile collects the problems of one file.
type mappingFile struct {
	name     string
	problems []error
}

func (f *mappingFile) bad(at *yaml.Node, format string, args ...any) {
	f.problems = append(f.problems, fmt.Errorf("%s:%d:%d: %s", f.name, at.Line, at.Column, fmt.Sprintf(format, args...)))
}

func (f *mappingFile) mapping(node *yaml.Node) Mapping {
	var m Mapping
	texts := map[string]*string{
		"format": &m.Format, "user": &m.User, "event": &m.Event, "time": &m.Time, "event_id": &m.EventID,
		"time_unit": &m.TimeUnit, "time_layout": &m.TimeLayout, "zone": &m.Zone, "delimiter": &m.Delimiter,
	}
	f.pairs(node, "a mapping file", func(key, value *yaml.Node) {
		switch text := texts[key.Value]; {
		case text != nil:
			*text = f.text(value, key.Value)
		case key.Value == "properties":
			m.Properties = f.list(value, key.Value)
		case key.Value == "traits":
			m.Traits = f.list(value, key.Value)
		case key.Value == "rename":
			m.Rename = map[string]string{}
			f.pairs(value, "rename", func(from, to *yaml.Node) { m.Rename[from.Value] = f.text(to, "rename") })
		default:
			f.bad(key, "unknown key %q: keys are format, user, event, time, event_id, time_unit, time_layout, zone, "+
				"properties, traits, delimiter, rename", schema.Clean(key.Value))
		}
	})
	return m
}

// pairs calls take for every key and value of node, which must be a mapping of distinct plain keys.
func (f *mappingFile) pairs(node *yaml.Node, what string, take func(key, value *yaml.Node)) {
	if node.Kind != yaml.MappingNode {
		if node.Tag != "!!null" {
			f.bad(node, "%s is not a mapping of keys to values", what)
		}
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			f.bad(key, "a key of %s is not text", what)
		case seen[key.Value]:
			f.bad(key, "key %q is there twice", schema.Clean(key.Value))
		default:
			seen[key.Value] = true
			take(key, value)
		}
	}
}

// text takes any plain value as it is written, so that a column called 1 or yes needs no quotes.
func (f *mappingFile) text(node *yaml.Node, what string) string {
	if node.Kind != yaml.ScalarNode {
		f.bad(node, "%s is not text", what)
		return ""
	}
	if node.Tag == "!!null" {
		return ""
	}
	return node.Value
}

// list takes a list of texts, or one text for a list of one.
func (f *mappingFile) list(node *yaml.Node, what string) []string {
	if node.Kind != yaml.SequenceNode {
		if text := f.text(node, what); text != "" {
			return []string{text}
		}
		return nil
	}
	texts := make([]string, len(node.Content))
	for i, item := range node.Content {
		texts[i] = f.text(item, what)
	}
	return texts
}
