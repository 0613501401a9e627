package playbook

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/segment"
)

// misspelled reports a name that stands for nothing, with those of the candidates that it resembles.
func (c *compiler) misspelled(node *yaml.Node, name string, candidates []string, format string, args ...any) {
	c.fail(node, format, args...)
	c.problems[len(c.problems)-1].Hint = didYouMean(name, candidates)
}

// misspelledIn is misspelled for a name that stands in quotes within a rule: the place is the name's.
func (c *compiler) misspelledIn(rule *yaml.Node, name string, candidates []string, format string, args ...any) {
	c.misspelled(rule, name, candidates, format, args...)
	p := &c.problems[len(c.problems)-1]
	for _, quoted := range []string{`"` + name + `"`, `'` + name + `'`} {
		before, _, found := strings.Cut(rule.Value, quoted)
		if !found {
			continue
		}
		line := strings.Count(before, "\n") + 1
		column := len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
		if placedLine, placedColumn, ok := place(c.source, rule, line, column); ok {
			p.Line, p.Column = placedLine, placedColumn
		}
		return
	}
}

// holding finds the text within a node that holds a part; node itself where there is none.
func holding(node *yaml.Node, part string) *yaml.Node {
	if node.Kind == yaml.ScalarNode && strings.Contains(node.Value, part) {
		return node
	}
	for _, child := range node.Content {
		if found := holding(child, part); strings.Contains(found.Value, part) {
			return found
		}
	}
	return node
}

// didYouMean asks after the candidates that a name resembles; empty where it resembles none.
func didYouMean(name string, candidates []string) string {
	list := nearest(name, candidates)
	if len(list) == 0 {
		return ""
	}
	quoted := make([]string, len(list))
	for i, candidate := range list {
		quoted[i] = strconv.Quote(candidate)
	}
	return "did you mean " + strings.Join(quoted, " or ") + "?"
}

// nearest returns the candidates that differ least from a name, three at most, sorted; none where all differ much.
func nearest(name string, candidates []string) []string {
	const most = 3
	if len(name) > 100 { // nobody misspells that
		return nil
	}
	best := max(1, len([]rune(name))/3)
	if len(name) < 2 {
		return nil // every other letter is as near
	}
	var list []string
	for _, candidate := range candidates {
		if candidate == name || len(candidate) > 100 {
			continue
		}
		switch d := distance([]rune(strings.ToLower(name)), []rune(strings.ToLower(candidate))); {
		case d < best:
			best, list = d, []string{candidate}
		case d == best:
			list = append(list, candidate)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return list[:min(most, len(list))]
}

// distance is how many letters must be put in, taken out, changed or swapped with the next one to make a into b.
func distance(a, b []rune) int {
	beforeLast, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for k := range last {
		last[k] = k
	}
	for i := range a {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for k := range b {
			change := 1
			if a[i] == b[k] {
				change = 0
			}
			row[k+1] = min(last[k]+change, last[k+1]+1, row[k]+1)
			if i > 0 && k > 0 && a[i] == b[k-1] && a[i-1] == b[k] {
				row[k+1] = min(row[k+1], beforeLast[k-1]+1)
			}
		}
		beforeLast, last = last, row
	}
	return last[len(b)]
}

var (
	undeclaredName = regexp.MustCompile(`^(event|trait|score) "([^"]*)" is not declared`)
	undeclaredTerm = regexp.MustCompile(`undeclared reference to '(?:(traits|e|same)\.)?([^'.]*)`)
	celSuggestion  = regexp.MustCompile(` \(did you mean [^)]*\)`)
)

// ruleHint guesses which name was meant where a rule names something that is not there. What CEL itself suggests knows neither the
// playbook nor the functions of rules.
func (c *compiler) ruleHint(message string) (plain, hint string) {
	message = celSuggestion.ReplaceAllString(message, "")
	plan := c.playbook.Plan
	if m := undeclaredName.FindStringSubmatch(message); m != nil {
		return message, didYouMean(m[2], map[string][]string{
			"event": keysOf(plan.Events), "trait": keysOf(plan.Traits), "score": keysOf(plan.Scores),
		}[m[1]])
	}
	m := undeclaredTerm.FindStringSubmatch(message)
	if m == nil {
		return message, ""
	}
	switch m[1] {
	case "traits":
		return message, didYouMean(m[2], keysOf(plan.Traits))
	case "e", "same":
		return message, didYouMean(m[2], propertiesOf(plan))
	default:
		return message, didYouMean(m[2], ruleWords())
	}
}

// propertiesOf lists the properties of all events.
func propertiesOf(plan segment.Plan) []string {
	all := []string{"from", "to"}
	for _, declared := range plan.Events {
		all = append(all, keysOf(declared)...)
	}
	return all
}

// ruleWords lists what a rule can begin a term with, and what it can end one with.
func ruleWords() []string {
	return []string{
		"did", "did_not", "events", "changes", "where", "within", "within_days", "count", "distinct", "sum", "min", "max", "avg", "days",
		"first", "last", "since_first", "since_last", "followed_by", "not_followed_by", "sessions", "session_length", "longest_session",
		"time_to", "inactive_for", "seen_for", "traits", "time_since", "time_until", "score", "in_segment", "in_segment_for", "variant",
		"local_time", "local_weekday", "size", "contains", "startsWith", "endsWith", "matches", "timestamp", "duration", "exists", "all",
		"true", "false",
	}
}

func keysOf[V any](m map[string]V) []string { return slices.Collect(maps.Keys(m)) }

func (c *compiler) segmentKeys() []string {
	keys := make([]string, len(c.playbook.Segments))
	for i := range c.playbook.Segments {
		keys[i] = c.playbook.Segments[i].Key
	}
	return keys
}

func typeNames() []string {
	names := make([]string, 0, len(segment.Types()))
	for _, t := range segment.Types() {
		names = append(names, string(t))
	}
	return names
}

// unreachable reports steps that nobody comes to: those behind an exit, and behind a branch or an experiment whose ways all end.
// Of steps in a row it names the first.
func (s *stepper) unreachable() {
	j := s.journey
	reached, behind := map[string]bool{j.First: true}, make(map[string]string)
	for _, key := range j.Order { // steps only lead on in the file
		step := j.Steps[key]
		if step.Kind == StepExit && !reached[step.Next] {
			behind[step.Next] = key
		}
		for _, e := range s.playbook.edges(step) {
			if reached[key] {
				reached[e.to] = true
			}
		}
	}
	for _, key := range j.Order {
		if !reached[key] && behind[key] != "" && reached[behind[key]] {
			s.fail(s.nodes[key], "step %s is never reached: %s ends the journey before it", key, behind[key])
			s.problems[len(s.problems)-1].Hint = fmt.Sprintf("take one of them out, or put %s into a way of its own with branch", behind[key])
		}
	}
}
