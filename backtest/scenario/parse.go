package scenario

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

const (
	defaultStart = "2026-03-02T00:00:00Z" // a Monday
	defaultUser  = "user"
	searched     = 100_000 // ids that are tried for a user who gets given variants
)

// tokenKey makes the tokens of scenarios: the same on every machine, whatever workspace one works for.
const tokenKey = "onramp-scenario-workspace"

// Token is the token of a scenario's user.
func Token(userID string) string { return schema.UserToken([]byte(tokenKey), userID) }

// Load gives the playbook that a scenario names by a path, relative to the scenario's file.
type Load func(path string) (*playbook.Playbook, error)

// Parse reads the scenarios of one file, to be run against a playbook. file is what problems call it. It returns the scenarios, or
// all problems as playbook.Problems.
func Parse(file, text string, book *playbook.Playbook, load Load) ([]*Scenario, error) {
	r := &reader{file: file}
	var list []*Scenario
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.syntax(err)
			break
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		if !r.noAliases(doc.Content[0]) {
			continue
		}
		p := &parser{reader: r, load: load, books: []*playbook.Playbook{book}, scenario: &Scenario{File: file, Book: book}}
		list = append(list, p.parse(doc.Content[0]))
	}
	if len(list) == 0 && len(r.problems) == 0 {
		r.fail(nil, "the file holds no scenario")
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b playbook.Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, r.problems
	}
	return list, nil
}

// syntax reports a YAML error at the line its text names.
func (r *reader) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	p := playbook.Problem{File: r.file, Line: 1, Column: 1}
	var line int
	if _, scanErr := fmt.Sscanf(text, "line %d:", &line); scanErr == nil {
		p.Line = line
		_, text, _ = strings.Cut(text, ": ")
	}
	p.Message = "is not YAML: " + text
	r.problems = append(r.problems, p)
}

// parser reads one document.
type parser struct {
	*reader

	load     Load
	books    []*playbook.Playbook // the versions the scenario speaks of, the first in the beginning
	scenario *Scenario
	latest   int64 // the latest moment that is named
}

func (p *parser) parse(node *yaml.Node) *Scenario {
	s := p.scenario
	f := p.fields(node, "a scenario", "scenario", "zone", "start", "user", "variants", "given", "expect", "never", "only", "until")
	s.Line = node.Line
	if s.Name = p.text(f["scenario"], "scenario"); f["scenario"] == nil {
		p.fail(node, "a scenario needs a name: scenario: what it shows")
	}
	p.clock(f)
	given := p.list(f["given"], "given")
	for i, item := range given {
		p.given(item, i)
	}
	if len(given) == 0 {
		p.fail(cmp.Or(f["given"], node), "nothing is given: a scenario needs at least one event")
	}
	slices.SortStableFunc(s.Given, func(a, b Given) int { return cmp.Compare(a.At, b.At) })
	sequence := uint64(0)
	for i := range s.Given {
		if e := s.Given[i].Event; e != nil {
			sequence++
			e.Sequence = sequence
		}
	}
	p.user(f["user"], f["variants"])
	for _, item := range p.list(f["expect"], "expect") {
		s.Expect = append(s.Expect, p.expectation(item, true))
	}
	for _, item := range p.list(f["never"], "never") {
		s.Never = append(s.Never, p.expectation(item, false))
	}
	p.only(f["only"])
	s.Until = p.latest
	if f["until"] != nil {
		s.Until = p.at(f["until"], "until")
		if s.Until < p.latest {
			p.fail(f["until"], "until lies before the last moment that the scenario names, %s", s.moment(p.latest))
		}
	}
	return s
}

// clock reads zone and start.
func (p *parser) clock(f map[string]*yaml.Node) {
	s := p.scenario
	s.Zone = time.UTC
	if name := p.text(f["zone"], "zone"); name != "" {
		zone, ok := segment.Location(name)
		if ok {
			s.Zone = zone
		} else {
			p.fail(f["zone"], "%q is no IANA time zone such as Europe/Berlin", name)
		}
	}
	text := cmp.Or(p.text(f["start"], "start"), defaultStart)
	start, ok := parseTime(text, s.Zone)
	if !ok {
		p.fail(f["start"], "%q is not a time such as 2026-03-02T09:00:00Z, or 2026-03-02T09:00 in the scenario's zone", text)
	}
	s.Start = start.UnixMilli()
	p.latest = s.Start
}

// at reads a moment.
func (p *parser) at(node *yaml.Node, what string) int64 {
	text := p.text(node, what)
	if text == "" {
		return p.scenario.Start
	}
	if offset, ok := parseOffset(text); ok {
		return p.scenario.Start + offset.Milliseconds()
	}
	at, ok := parseTime(text, p.scenario.Zone)
	if !ok {
		p.fail(node, "%s: %q is no moment such as +24h, +1d12h, 2026-03-02T09:00:00Z, or 2026-03-02T09:00 in the scenario's zone", what, text)
		return p.scenario.Start
	}
	return at.UnixMilli()
}

// when reads the `at` that every entry needs.
func (p *parser) when(item *yaml.Node, f map[string]*yaml.Node) int64 {
	if f["at"] == nil {
		p.fail(item, "at is missing: when, such as at: +24h")
		return p.scenario.Start
	}
	at := p.at(f["at"], "at")
	p.latest = max(p.latest, at)
	return at
}

func (p *parser) given(item *yaml.Node, index int) {
	f := p.fields(item, "given", "at", "event", "traits", "properties", "id", "received", "playbook")
	if item.Kind != yaml.MappingNode {
		return
	}
	at := p.when(item, f)
	if (f["event"] == nil) == (f["playbook"] == nil) {
		p.fail(item, "given is either an event or a playbook")
		return
	}
	if f["playbook"] != nil {
		for _, name := range []string{"traits", "properties", "id", "received"} {
			if f[name] != nil {
				p.fail(f[name], "%s goes with an event, not with a playbook", name)
			}
		}
		p.version(f["playbook"], at)
		return
	}
	p.event(f, at, fmt.Sprintf("e%d", index+1))
}

// version reads another playbook that comes into force.
func (p *parser) version(node *yaml.Node, at int64) {
	path := p.text(node, "playbook")
	if path == "" {
		return
	}
	book, err := p.load(path)
	if err != nil {
		p.fail(node, "playbook %s: %v", path, err)
		return
	}
	p.books = append(p.books, book)
	p.scenario.Given = append(p.scenario.Given, Given{At: at, Playbook: book, Path: path})
}

// event reads an event as ingestion would read its message.
func (p *parser) event(f map[string]*yaml.Node, at int64, id string) {
	name := p.text(f["event"], "event")
	if !p.known(f["event"], "event", name, func(b *playbook.Playbook) []string { return slices.Collect(maps.Keys(b.Plan.Events)) }) {
		return
	}
	received := at
	if f["received"] != nil {
		received = p.at(f["received"], "received")
		p.latest = max(p.latest, received)
	}
	raw, err := json.Marshal(schema.Event{
		EventID: cmp.Or(p.text(f["id"], "id"), id), EventName: name, UserID: defaultUser, OccurredAt: time.UnixMilli(at).UTC(),
		Properties: p.object(f["properties"], "properties"), Traits: p.object(f["traits"], "traits"),
	})
	if err != nil {
		p.fail(f["event"], "event %s: %v", name, err)
		return
	}
	message, err := schema.Receive(raw, nil, 0, time.UnixMilli(received).UTC())
	if err != nil {
		p.fail(f["event"], "event %s would be refused: %v", name, err)
		return
	}
	event := message.UserEvent()
	p.scenario.Given = append(p.scenario.Given, Given{At: received, Event: &event})
}

// known reports whether one of the versions has the name, and says which names there are where none has.
func (p *parser) known(node *yaml.Node, what, name string, names func(*playbook.Playbook) []string) bool {
	var all []string
	for _, book := range p.books {
		all = append(all, names(book)...)
	}
	if name == "" || slices.Contains(all, name) {
		return name != ""
	}
	slices.Sort(all)
	all = slices.Compact(all)
	p.fail(node, "%s %q is not in the playbook; there are: %s", what, name, strings.Join(all, ", "))
	return false
}

// user takes the user who is named, or looks for one who gets the variants that are asked for.
func (p *parser) user(node, variants *yaml.Node) {
	p.scenario.User = cmp.Or(p.text(node, "user"), defaultUser)
	if variants == nil {
		return
	}
	if node != nil {
		p.fail(variants, "either user or variants: the variants of a user who is named are what they are")
		return
	}
	if variants.Kind != yaml.MappingNode {
		p.fail(variants, "variants must be a mapping of experiments to variants")
		return
	}
	wanted := make(map[*playbook.Experiment]string)
	for i := 0; i+1 < len(variants.Content); i += 2 {
		key, value := variants.Content[i], variants.Content[i+1]
		if !p.experiment(key, key.Value) || !p.variant(value, key.Value, value.Value) {
			return
		}
		for _, book := range p.books {
			if e := experimentOf(book, key.Value); e != nil {
				wanted[e] = value.Value
			}
		}
	}
	for i := range searched {
		id := fmt.Sprintf("user-%d", i+1)
		if gets(Token(id), wanted) {
			p.scenario.User = id
			return
		}
	}
	p.fail(variants, "no user gets these variants: of %d none does", searched)
}

func gets(token string, wanted map[*playbook.Experiment]string) bool {
	for e, variant := range wanted {
		if e.Assign(token).Variant != variant {
			return false
		}
	}
	return true
}

func (p *parser) experiment(node *yaml.Node, name string) bool {
	return p.known(node, "experiment", name, func(b *playbook.Playbook) []string {
		keys := slices.Collect(maps.Keys(b.Experiments))
		if b.Holdout != nil {
			keys = append(keys, playbook.HoldoutKey)
		}
		return keys
	})
}

// experimentOf finds an experiment, the playbook's holdout among them; nil where there is none of that key.
func experimentOf(b *playbook.Playbook, key string) *playbook.Experiment {
	if e := b.Experiments[key]; e != nil {
		return e
	}
	if key == playbook.HoldoutKey && b.Holdout != nil {
		return &playbook.Experiment{Experiment: *b.Holdout}
	}
	return nil
}

func (p *parser) variant(node *yaml.Node, key, name string) bool {
	return p.known(node, "variant", name, func(b *playbook.Playbook) []string {
		var keys []string
		if e := experimentOf(b, key); e != nil {
			for _, v := range e.Variants {
				keys = append(keys, v.Key)
			}
		}
		return keys
	})
}

// only reads the groups of which everything must be expected.
func (p *parser) only(node *yaml.Node) {
	p.scenario.Only = []Group{"actions", "suppressions"}
	if node == nil {
		return
	}
	p.scenario.Only = nil
	for _, item := range p.list(node, "only") {
		group := Group(p.text(item, "a group under only"))
		if _, ok := groups()[group]; !ok {
			p.fail(item, "%q is no group; they are: %s", group, strings.Join(groupNames(), ", "))
		}
		p.scenario.Only = append(p.scenario.Only, group)
	}
}

func groupNames() []string {
	var names []string
	for group := range groups() {
		names = append(names, string(group))
	}
	slices.Sort(names)
	return names
}
