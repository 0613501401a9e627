package playbook_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/playbook"
)

// mutants is how many wrong playbooks TestMutants makes of the examples.
const mutants = 1000

// mutant is an example with one mistake in it.
type mutant struct {
	text  string
	lines []int  // any of which a problem must name
	hint  string // what it must ask after; empty: nothing
}

// TestMutants makes one mistake at a time in the examples: whatever it is, Compile must refuse the playbook and name the line, and
// where a name is misspelled, ask after the right one.
func TestMutants(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../examples/*/playbook.yaml")
	require.NoError(t, err)
	byKind := make(map[string][]mutant)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		s := newSource(t, string(raw))
		for kind, made := range mistakes() {
			byKind[kind] = append(byKind[kind], made(s)...)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	kinds := slices.Sorted(maps.Keys(byKind))
	seen := make(map[string]bool)
	for _, kind := range kinds {
		require.NotEmpty(t, byKind[kind], "no place for %s", kind)
		random.Shuffle(len(byKind[kind]), func(i, k int) { byKind[kind][i], byKind[kind][k] = byKind[kind][k], byKind[kind][i] })
	}
	count := make(map[string]int)
	for taken := 0; taken < mutants; {
		before := taken
		for _, kind := range kinds {
			for len(byKind[kind]) > 0 && taken < mutants {
				m := byKind[kind][0]
				byKind[kind] = byKind[kind][1:]
				if seen[m.text] {
					continue
				}
				seen[m.text] = true
				count[kind]++
				taken++
				t.Run(fmt.Sprintf("%s/%d", kind, count[kind]), func(t *testing.T) {
					t.Parallel()
					m.check(t)
				})
				break
			}
		}
		require.Greater(t, taken, before, "the examples are too small for %d mistakes", mutants)
	}
	for _, kind := range kinds {
		t.Logf("%4d %s", count[kind], kind)
	}
}

func (m *mutant) check(t *testing.T) {
	t.Helper()
	_, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": m.text}})
	var problems playbook.Problems
	lines := strings.Split(m.text, "\n")
	at := fmt.Sprintf("line %d: %s", m.lines[0], lines[min(m.lines[0], len(lines))-1])
	require.ErrorAs(t, err, &problems, at)
	named := slices.DeleteFunc(slices.Clone(problems), func(p playbook.Problem) bool {
		return p.File != "playbook.yaml" || !slices.Contains(m.lines, p.Line)
	})
	require.NotEmpty(t, named, "%s\n%v", at, err)
	if m.hint != "" {
		require.True(t, slices.ContainsFunc(named, func(p playbook.Problem) bool {
			return strings.Contains(p.Hint, strconv.Quote(m.hint))
		}), "%s\n%v does not ask after %s", at, err, m.hint)
	}
}

// source is an example that mistakes are made in.
type source struct {
	text     string
	lines    []string
	root     *yaml.Node
	mappings []mapping                 // those with known keys
	parents  map[*yaml.Node]*yaml.Node // of values: the key
	declared map[string][]string       // names by what they are of
}

// mapping is one with known keys, and the function of the compiler that reads it.
type mapping struct {
	node     *yaml.Node
	function string
}

func newSource(t *testing.T, text string) *source {
	t.Helper()
	s := &source{text: text, lines: strings.Split(text, "\n"), parents: make(map[*yaml.Node]*yaml.Node), declared: make(map[string][]string)}
	recorded, err := playbook.CompileRecording(bundle(text))
	require.NoError(t, err)
	_, nodes := mappingPaths(t, text)
	s.root = nodes[mappingPlace{firstKeyLine(s.lines), 1}]
	require.NotNil(t, s.root)
	for _, known := range recorded {
		// The nodes of this document are others than the compiler's, at the same places.
		if node := nodes[mappingPlace{known.Line, known.Column}]; node != nil {
			s.mappings = append(s.mappings, mapping{node, known.Function[strings.LastIndex(known.Function, ".")+1:]})
		}
	}
	for _, n := range nodes {
		for i := 0; i+1 < len(n.Content); i += 2 {
			s.parents[n.Content[i+1]] = n.Content[i]
		}
	}
	for _, section := range []string{"events", "traits", "scores", "segments", "experiments", "consent", "actions"} {
		if value := valueOf(s.root, section); value != nil {
			s.declared[section] = keysOf(value)
		}
	}
	return s
}

func firstKeyLine(lines []string) int {
	return slices.IndexFunc(lines, func(line string) bool { return line != "" && line[0] != '#' }) + 1
}

func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func keysOf(mapping *yaml.Node) []string {
	var keys []string
	for i := 0; i < len(mapping.Content); i += 2 {
		keys = append(keys, mapping.Content[i].Value)
	}
	return keys
}

// span is a piece of one line, in bytes from 0; line counts from 1.
type span struct{ line, from, to int }

func (s *source) at(p span) string { return s.lines[p.line-1][p.from:p.to] }

// replace returns the text with a piece of a line replaced.
func (s *source) replace(p span, by string) string {
	lines := slices.Clone(s.lines)
	lines[p.line-1] = lines[p.line-1][:p.from] + by + lines[p.line-1][p.to:]
	return strings.Join(lines, "\n")
}

// without returns the text without the lines from (which counts from 1) up to, not including, to.
func (s *source) without(from, to int) string {
	return strings.Join(slices.Concat(s.lines[:from-1], s.lines[to-1:]), "\n")
}

// insert returns the text with a line put in, which then is the one of that number.
func (s *source) insert(number int, line string) string {
	return strings.Join(slices.Insert(slices.Clone(s.lines), number-1, line), "\n")
}

// column turns a node's column, in characters, into bytes from 0.
func (s *source) column(n *yaml.Node) int {
	return len(string([]rune(s.lines[n.Line-1])[:n.Column-1]))
}

// written is where a node is written, on one line; false where it is on more.
func (s *source) written(n *yaml.Node) (span, bool) {
	line, from := s.lines[n.Line-1], s.column(n)
	switch {
	case n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return span{}, false
	case n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		quote := line[from]
		for to := from + 1; to < len(line); to++ {
			switch {
			case quote == '"' && line[to] == '\\', quote == '\'' && line[to] == '\'' && to+1 < len(line) && line[to+1] == '\'':
				to++
			case line[to] == quote:
				return span{n.Line, from, to + 1}, true
			}
		}
		return span{}, false
	case n.Kind == yaml.ScalarNode:
		return span{n.Line, from, from + len(n.Value)}, n.Value != "" && strings.HasPrefix(line[from:], n.Value)
	case n.Style&yaml.FlowStyle != 0 && (line[from] == '{' || line[from] == '['):
		depth, quote := 0, byte(0)
		for to := from; to < len(line); to++ {
			c := line[to]
			switch {
			case quote != 0:
				if c == quote {
					quote = 0
				}
			case c == '"' || c == '\'':
				quote = c
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth == 0 {
					return span{n.Line, from, to + 1}, true
				}
			}
		}
	}
	return span{}, false
}

// entry is a key with its value within a mapping with known keys.
type entry struct {
	key, value *yaml.Node
	in         mapping
}

// entries lists the entries of mappings with known keys, those of the playbook itself first.
func (s *source) entries() []entry {
	var list []entry
	for _, m := range append([]mapping{{s.root, "sections"}}, s.mappings...) {
		for i := 0; i+1 < len(m.node.Content); i += 2 {
			list = append(list, entry{m.node.Content[i], m.node.Content[i+1], m})
		}
	}
	return list
}

// values lists the scalars under keys, given as function.key, within lists too.
func (s *source) values(places ...string) []*yaml.Node {
	var list []*yaml.Node
	for _, e := range s.entries() {
		if !slices.Contains(places, e.in.function+"."+e.key.Value) {
			continue
		}
		switch e.value.Kind {
		case yaml.ScalarNode:
			list = append(list, e.value)
		case yaml.SequenceNode:
			list = append(list, e.value.Content...)
		default: // no values, but keys of their own
		}
	}
	return slices.DeleteFunc(list, func(n *yaml.Node) bool { return n.Kind != yaml.ScalarNode || n.Tag == "!!null" })
}

// rules lists where rules and filters are written, line by line.
func (s *source) rules() [][]span {
	var rules [][]span
	nodes := s.values("segments.when", "trigger.when", "trigger.where", "goal.where", "exits.when", "exits.where", "wait.when", "wait.where", "branch.when")
	if consent := valueOf(s.root, "consent"); consent != nil {
		for i := 1; i < len(consent.Content); i += 2 {
			nodes = append(nodes, consent.Content[i])
		}
	}
	for _, n := range nodes {
		if n.Style&(yaml.FoldedStyle|yaml.LiteralStyle) == 0 {
			p, ok := s.written(n)
			if !ok || n.Style&yaml.DoubleQuotedStyle != 0 {
				continue
			}
			if n.Style&yaml.SingleQuotedStyle != 0 {
				p.from, p.to = p.from+1, p.to-1
			}
			rules = append(rules, []span{p})
			continue
		}
		var pieces []span
		for number := n.Line + 1; number <= len(s.lines); number++ {
			line := s.lines[number-1]
			indent := len(line) - len(strings.TrimLeft(line, " "))
			if strings.TrimSpace(line) == "" || indent < s.column(s.parents[n])+1 {
				break
			}
			pieces = append(pieces, span{number, indent, len(line)})
		}
		rules = append(rules, pieces)
	}
	return rules
}

// inRules lists where a group of a pattern stands in rules.
func (s *source) inRules(pattern string) []span {
	var list []span
	expression := regexp.MustCompile(pattern)
	for _, rule := range s.rules() {
		for _, piece := range rule {
			for _, m := range expression.FindAllStringSubmatchIndex(s.at(piece), -1) {
				if m[2] >= 0 {
					list = append(list, span{piece.line, piece.from + m[2], piece.from + m[3]})
				}
			}
		}
	}
	return list
}

// spans are the places where nodes are written.
func (s *source) spans(nodes []*yaml.Node) []span {
	var list []span
	for _, n := range nodes {
		if p, ok := s.written(n); ok {
			if q := s.at(p)[0]; q == '"' || q == '\'' {
				p.from, p.to = p.from+1, p.to-1
			}
			list = append(list, p)
		}
	}
	return list
}

// misspellings are ways to get a name wrong that no other name is right for.
func misspellings(name string, others []string) []string {
	var list []string
	for i := range name {
		list = append(list, name[:i]+name[i+1:], name[:i]+"q"+name[i:]) // left out, put in
		if i+1 < len(name) && name[i] != name[i+1] {
			list = append(list, name[:i]+name[i+1:i+2]+name[i:i+1]+name[i+2:]) // swapped
		}
	}
	return slices.DeleteFunc(list, func(wrong string) bool {
		return len(wrong) < 2 || slices.Contains(others, wrong) || wrong == name || wrong[0] == '_' || wrong[0] >= '0' && wrong[0] <= '9'
	})
}

// misspell makes mutants of places that hold a name, which is none of others otherwise. A few of a place's misspellings will do.
func (s *source) misspell(places []span, others []string) []mutant {
	var list []mutant
	for i, p := range places {
		name := s.at(p)
		wrong := misspellings(name, others)
		for k := range min(4, len(wrong)) {
			list = append(list, mutant{s.replace(p, wrong[(i*7+k*5)%len(wrong)]), []int{p.line}, name})
		}
	}
	return list
}

// put makes mutants of places where something else comes to stand.
func (s *source) put(places []span, wrong ...string) []mutant {
	var list []mutant
	for _, p := range places {
		for _, by := range wrong {
			if s.at(p) != by {
				list = append(list, mutant{s.replace(p, by), []int{p.line}, ""})
			}
		}
	}
	return list
}

// whole are the places of nodes with their quotes.
func (s *source) whole(nodes []*yaml.Node) []span {
	var list []span
	for _, n := range nodes {
		if p, ok := s.written(n); ok {
			list = append(list, p)
		}
	}
	return list
}
