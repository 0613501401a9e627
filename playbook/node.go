package playbook

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/segment"
)

// compiler gathers problems while it reads; a value that is wrong becomes a zero value, so that one run finds them all.
type compiler struct {
	playbook *Playbook
	file     string
	source   string // text of file
	sources  map[string]string
	known    func(node *yaml.Node, allowed []string) // told of every mapping whose keys are known, if not nil; for tests
	unread   bool                                    // a file could not be read: what is missing may stand there
	problems Problems
}

func (c *compiler) fail(node *yaml.Node, format string, args ...any) {
	p := Problem{File: c.file, Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}
	if node != nil && node.Line > 0 {
		p.Line, p.Column = node.Line, node.Column
	}
	c.problems = append(c.problems, p)
}

// pair is one entry of a mapping.
type pair struct{ key, value *yaml.Node }

// noAliases reports anchors, aliases and merge keys wherever they stand. What reads them afterwards says nothing more.
func (c *compiler) noAliases(node *yaml.Node) {
	if node.Kind == yaml.AliasNode || node.Anchor != "" || node.Tag == "!!merge" {
		c.fail(node, "anchors, aliases and merge keys are not read: write the value out")
	}
	for _, child := range node.Content {
		c.noAliases(child)
	}
}

// mapping returns node's entries in order; it reports a node that is none, and a key that stands twice.
func (c *compiler) mapping(node *yaml.Node, what string) []pair {
	if node.Kind == yaml.AliasNode || (node.Kind == yaml.ScalarNode && node.Tag == "!!null") {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		c.fail(node, "%s must be a mapping of keys to values", what)
		return nil
	}
	pairs := make([]pair, 0, len(node.Content)/2)
	seen := make(map[string]bool)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case value.Kind == yaml.AliasNode || key.Kind == yaml.AliasNode || key.Tag == "!!merge":
			continue // reported
		case key.Kind != yaml.ScalarNode:
			c.fail(key, "a key in %s must be a text", what)
			continue
		case seen[key.Value]:
			c.fail(key, "%s stands twice in %s", key.Value, what)
			continue
		}
		seen[key.Value] = true
		pairs = append(pairs, pair{key, value})
	}
	return pairs
}

// fields returns node's entries by key, reporting those that are not allowed.
func (c *compiler) fields(node *yaml.Node, what string, allowed ...string) map[string]*yaml.Node {
	if c.known != nil {
		c.known(node, allowed)
	}
	fields := make(map[string]*yaml.Node)
	for _, p := range c.mapping(node, what) {
		if !slices.Contains(allowed, p.key.Value) {
			c.misspelled(p.key, p.key.Value, allowed, "unknown key %q in %s; known are: %s", p.key.Value, what, strings.Join(allowed, ", "))
			continue
		}
		fields[p.key.Value] = p.value
	}
	return fields
}

func (c *compiler) text(node *yaml.Node, what string) string {
	if node == nil || node.Kind == yaml.AliasNode {
		return ""
	}
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		c.fail(node, "%s must be a text", what)
		return ""
	}
	return node.Value
}

// texts reads one text or a list of them.
func (c *compiler) texts(node *yaml.Node, what string) []*yaml.Node {
	if node == nil {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		if c.text(node, what) == "" {
			return nil
		}
		return []*yaml.Node{node}
	}
	for _, item := range node.Content {
		c.text(item, what)
	}
	return node.Content
}

func (c *compiler) integer(node *yaml.Node, what string, low, high int) int {
	var n int
	if node == nil {
		return 0
	}
	if err := node.Decode(&n); err != nil || node.Tag != "!!int" || n < low || n > high { // 1.5 decodes too
		c.fail(node, "%s must be a whole number from %d to %d", what, low, high)
		return 0
	}
	return n
}

func (c *compiler) boolean(node *yaml.Node, what string) bool {
	var b bool
	if node == nil {
		return false
	}
	if err := node.Decode(&b); err != nil {
		c.fail(node, "%s must be true or false", what)
	}
	return b
}

func (c *compiler) clock(node *yaml.Node, what string) segment.Clock {
	clock, err := segment.ParseClock(c.text(node, what))
	if err != nil {
		c.fail(node, "%s: %v", what, err)
	}
	return clock
}

func (c *compiler) duration(node *yaml.Node, what string) time.Duration {
	if node == nil {
		return 0
	}
	d, err := c.playbook.Set.Duration(c.text(node, what))
	if err != nil {
		c.fail(node, "%s: %v", what, err)
	}
	return d
}

var keyShape = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// key checks a name that goes into subjects, columns and ids.
func (c *compiler) key(node *yaml.Node, what string) string {
	if !keyShape.MatchString(node.Value) {
		c.fail(node, "%s %q must begin with a letter and hold only a-z, 0-9 and _, at most 63 of them", what, node.Value)
	}
	return node.Value
}

// rule compiles a CEL rule; problems point into the file, not into the rule.
func (c *compiler) rule(node *yaml.Node, what string) *segment.Rule {
	if node == nil {
		return nil
	}
	source := c.text(node, what)
	if node.Kind != yaml.ScalarNode {
		return nil
	}
	rule, problems := c.playbook.Set.Compile(source)
	c.ruleProblems(node, what, problems)
	return rule
}

func (c *compiler) ruleProblems(node *yaml.Node, what string, problems []error) {
	for _, problem := range problems {
		e, ok := errors.AsType[*segment.RuleError](problem)
		if !ok {
			c.fail(node, "%s: %v", what, problem)
			continue
		}
		p := c.locate(node, e)
		p.Message, p.Hint = c.ruleHint(p.Message)
		c.problems = append(c.problems, p)
	}
}

// locate turns a place in a rule's text into a place in the file; where it cannot, the rule's beginning has to do.
func (c *compiler) locate(node *yaml.Node, e *segment.RuleError) Problem {
	p := Problem{File: c.file, Line: node.Line, Column: node.Column, Message: e.Message}
	if line, column, ok := place(c.source, node, e.Line, e.Column); ok {
		p.Line, p.Column = line, column
	}
	return p
}

func (c *compiler) event(node *yaml.Node) string {
	name := node.Value
	if !c.playbook.Set.Declares(name) {
		c.misspelled(node, name, keysOf(c.playbook.Plan.Events), "event %q is not declared: add it under events", name)
	}
	return name
}

func (c *compiler) eventList(node *yaml.Node, what string) []string {
	nodes := c.texts(node, what)
	list := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if n.Kind == yaml.ScalarNode { // everything else is reported
			list = append(list, c.event(n))
		}
	}
	return list
}
