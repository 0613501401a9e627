package scenario

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/playbook"
)

// reader gathers problems while it reads; what is wrong becomes a zero value, so that one run finds them all.
type reader struct {
	file     string
	problems playbook.Problems
}

func (r *reader) fail(node *yaml.Node, format string, args ...any) {
	p := playbook.Problem{File: r.file, Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}
	if node != nil && node.Line > 0 {
		p.Line, p.Column = node.Line, node.Column
	}
	r.problems = append(r.problems, p)
}

// noAliases reports anchors, aliases and merge keys wherever they stand.
func (r *reader) noAliases(node *yaml.Node) bool {
	well := true
	if node.Kind == yaml.AliasNode || node.Anchor != "" || node.Tag == "!!merge" {
		r.fail(node, "anchors, aliases and merge keys are not read: write the value out")
		well = false
	}
	for _, child := range node.Content {
		well = r.noAliases(child) && well
	}
	return well
}

// fields returns node's entries by key, reporting those that are not allowed and those that stand twice.
func (r *reader) fields(node *yaml.Node, what string, allowed ...string) map[string]*yaml.Node {
	fields := make(map[string]*yaml.Node)
	if node.Kind != yaml.MappingNode {
		r.fail(node, "%s must be a mapping of keys to values", what)
		return fields
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case !slices.Contains(allowed, key.Value):
			r.fail(key, "unknown key %q in %s; known are: %s", key.Value, what, strings.Join(allowed, ", "))
		case fields[key.Value] != nil:
			r.fail(key, "%s stands twice in %s", key.Value, what)
		default:
			fields[key.Value] = value
		}
	}
	return fields
}

func (r *reader) text(node *yaml.Node, what string) string {
	if node == nil {
		return ""
	}
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" || node.Value == "" {
		r.fail(node, "%s must be a text", what)
		return ""
	}
	return node.Value
}

// list returns the entries of a list.
func (r *reader) list(node *yaml.Node, what string) []*yaml.Node {
	if node == nil {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		r.fail(node, "%s must be a list", what)
		return nil
	}
	return node.Content
}

// values reads a mapping of names to values.
func (r *reader) values(node *yaml.Node, what string) map[string]any {
	if node == nil {
		return nil
	}
	values := make(map[string]any)
	if err := node.Decode(&values); err != nil || node.Kind != yaml.MappingNode {
		r.fail(node, "%s must be a mapping of names to values", what)
		return nil
	}
	if _, err := json.Marshal(values); err != nil {
		r.fail(node, "%s must hold values that JSON has: texts, numbers, true, false, lists and mappings of names", what)
		return nil
	}
	return values
}

// object reads a mapping as a JSON object.
func (r *reader) object(node *yaml.Node, what string) json.RawMessage {
	values := r.values(node, what)
	if len(values) == 0 {
		return nil
	}
	return json.RawMessage(canonical(values))
}

// canonical writes a value as JSON: equal values are equal texts, whatever Go type holds them.
func canonical(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value) // no value of YAML or of an action; still told apart from others
	}
	return string(raw)
}

var (
	offsetShape = regexp.MustCompile(`^([+-])(0|(?:[0-9]+(?:ms|[wdhms]))+)$`)
	offsetPart  = regexp.MustCompile(`([0-9]+)(ms|[wdhms])`)
)

// parseOffset reads +1d12h, +500ms or -3d; ok is false for a text of another shape.
func parseOffset(text string) (offset time.Duration, ok bool) {
	shape := offsetShape.FindStringSubmatch(text)
	if shape == nil {
		return 0, false
	}
	units := map[string]time.Duration{
		"w": 7 * 24 * time.Hour, "d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second, "ms": time.Millisecond,
	}
	for _, part := range offsetPart.FindAllStringSubmatch(shape[2], -1) {
		n, err := strconv.ParseInt(part[1], 10, 32)
		if err != nil || time.Duration(n) > 20*365*24*time.Hour/units[part[2]] {
			return 0, false
		}
		offset += time.Duration(n) * units[part[2]]
	}
	if shape[1] == "-" {
		offset = -offset
	}
	return offset, true
}

// parseTime reads a time; without an offset it is local to zone. Of a local time that happened twice the earlier is meant; one
// that a clock change skipped is none.
func parseTime(text string, zone *time.Location) (time.Time, bool) {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, true
	}
	for _, layout := range []string{"2006-01-02T15:04:05.000", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		at, err := time.ParseInLocation(layout, text, zone)
		if err != nil {
			continue
		}
		for _, earlier := range []time.Duration{2 * time.Hour, time.Hour, 30 * time.Minute} {
			if before := at.Add(-earlier); before.Format(layout) == text {
				return before, true
			}
		}
		return at, at.Format(layout) == text
	}
	return time.Time{}, false
}
