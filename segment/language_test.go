package segment_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// language is docs/language.md, which this file runs.
func language(tb testing.TB) string {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "docs", "language.md"))
	require.NoError(tb, err)
	return string(raw)
}

// section returns what stands under a heading of the third level.
func section(tb testing.TB, text, heading string) string {
	tb.Helper()
	_, after, found := strings.Cut(text, "\n### "+heading+"\n")
	require.True(tb, found, heading)
	body, _, _ := strings.Cut(after, "\n##")
	return body
}

// tableOf returns the rows of the first table of a text, without head and rule; `\|` is a bar within a cell.
func tableOf(tb testing.TB, text string) [][]string {
	tb.Helper()
	var rows [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if len(rows) > 0 {
				break
			}
			continue
		}
		cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		rows = append(rows, cells)
	}
	require.Greater(tb, len(rows), 2)
	return rows[2:]
}

// exampleBook is the playbook of the examples: the plan that stands in the text, and the segment s.
func exampleBook(tb testing.TB) *playbook.Playbook {
	tb.Helper()
	_, after, found := strings.Cut(language(tb), "```yaml\n")
	require.True(tb, found)
	plan, _, _ := strings.Cut(after, "```")
	text := "name: examples\nsegments: {s: {when: 'did(\"a\")'}}\nexperiments: {x: {variants: {a: 0.5, b: 0.5}}}\n" + plan
	book, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"a.yaml": text}})
	require.NoError(tb, err)
	return book
}

// epoch is Monday, 2 March 2026, 00:00 UTC.
var epoch = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).UnixMilli()

// interval is a time in which a rule is true, from its first moment up to, not including, its last; last 0: for ever.
type interval struct{ from, to int64 }

// example is one row of a table.
type example struct {
	rule    string
	events  []schema.UserEvent
	truth   []interval
	horizon int64
}

var logEntry = regexp.MustCompile(`([a-z_]+)(\{[^}]*\})?@(\w+)`)

func parseExample(tb testing.TB, row []string) example {
	tb.Helper()
	require.Len(tb, row, 3)
	x := example{rule: strings.Trim(row[0], "`"), horizon: epoch + 400*hour}
	for i, m := range logEntry.FindAllStringSubmatch(row[1], -1) {
		after, err := time.ParseDuration(m[3])
		require.NoError(tb, err)
		at := epoch + after.Milliseconds()
		e := schema.UserEvent{EventID: strconv.Itoa(i), EventName: m[1], Sequence: uint64(i + 1), OccurredAt: at, ReceivedAt: at}
		if m[2] != "" {
			var carried map[string]any
			require.NoError(tb, yaml.Unmarshal([]byte(m[2]), &carried))
			raw, err := json.Marshal(carried)
			require.NoError(tb, err)
			if e.Properties = raw; m[1] == "traits" {
				e.Properties, e.Traits = nil, raw
			}
		}
		x.events = append(x.events, e)
	}
	if strings.Contains(x.rule, "local_") {
		x.horizon = epoch + 48*hour
	}
	if row[2] == "" {
		return x
	}
	for text := range strings.SplitSeq(row[2], ", ") {
		from, to, found := strings.Cut(text, "–")
		require.True(tb, found, "%q is no interval", text)
		x.truth = append(x.truth, interval{after(tb, from), x.horizon})
		if to != "" {
			x.truth[len(x.truth)-1].to = after(tb, to)
		}
	}
	return x
}

func after(tb testing.TB, text string) int64 {
	tb.Helper()
	d, err := time.ParseDuration(text)
	require.NoError(tb, err)
	return epoch + d.Milliseconds()
}

// user lives through a log: their facts, and their membership of the segments of a playbook.
type user struct {
	book  *playbook.Playbook
	facts segment.Facts
	since map[string]int64
}

func newUser(book *playbook.Playbook) *user {
	return &user{book: book, since: make(map[string]int64)}
}

func (u *user) scope(now int64) segment.Scope {
	return segment.Scope{
		Facts: &u.facts, Now: now,
		InSegment:    func(name string) bool { return u.since[name] != 0 },
		SegmentSince: func(name string) int64 { return u.since[name] },
		Variant:      func(string) string { return "" },
	}
}

func (u *user) apply(event schema.UserEvent) {
	u.book.Set.Apply(&u.facts, &event, segment.Done{})
	for _, s := range u.book.Segments {
		if s.Rule.Eval(u.scope(event.OccurredAt)).Truth == segment.True && u.since[s.Key] == 0 {
			u.since[s.Key] = event.OccurredAt
		}
	}
}

// answer asks the rule at one moment, knowing what has happened by then.
func (x *example) answer(book *playbook.Playbook, rule *segment.Rule, at int64) segment.Result {
	u := newUser(book)
	for _, e := range x.events {
		if e.OccurredAt <= at {
			u.apply(e)
		}
	}
	return rule.Eval(u.scope(at))
}

// follow asks the rule only at events and when it said that it wants to be asked again, and returns when it was true.
func (x *example) follow(tb require.TestingT, book *playbook.Playbook, rule *segment.Rule, from int64) []interval {
	u := newUser(book)
	events := slices.Clone(x.events)
	var truth []interval
	in := false
	now := from
	for wakes := 0; ; wakes++ {
		require.Less(tb, wakes, 10_000, "the rule asks for too many wake-ups")
		for len(events) > 0 && events[0].OccurredAt <= now {
			u.apply(events[0])
			events = events[1:]
		}
		result := rule.Eval(u.scope(now))
		if result.Until != 0 {
			require.Greater(tb, result.Until, now, "the next change lies in the future")
		}
		if is := result.Truth == segment.True; is != in {
			if in = is; in {
				truth = append(truth, interval{now, x.horizon})
			} else {
				truth[len(truth)-1].to = now
			}
		}
		next := x.horizon
		if result.Until != 0 {
			next = min(next, result.Until)
		}
		if len(events) > 0 {
			next = min(next, events[0].OccurredAt)
		}
		if next >= x.horizon {
			return truth
		}
		now = next
	}
}

func (x *example) isTrue(at int64) bool {
	return slices.ContainsFunc(x.truth, func(i interval) bool { return i.from <= at && at < i.to })
}

// moments are those at which a row is looked at: every boundary and event to the millisecond, and every half hour between.
func (x *example) moments() []int64 {
	var moments []int64
	for at := epoch; at < x.horizon; at += hour / 2 {
		moments = append(moments, at)
	}
	for _, i := range x.truth {
		moments = append(moments, i.from-1, i.from, i.to-1, i.to)
	}
	for _, e := range x.events {
		moments = append(moments, e.OccurredAt-1, e.OccurredAt, e.OccurredAt+1)
	}
	return slices.DeleteFunc(moments, func(at int64) bool { return at < epoch || at >= x.horizon })
}

func TestLanguage(t *testing.T) {
	t.Parallel()
	text := language(t)
	for _, heading := range []string{"Functions", "Operators"} {
		for _, row := range tableOf(t, section(t, text, heading)) {
			t.Run(heading+"/"+row[0], func(t *testing.T) {
				t.Parallel()
				book := exampleBook(t)
				x := parseExample(t, row)
				rule, problems := book.Set.Compile(x.rule)
				require.Empty(t, problems)
				for _, at := range x.moments() {
					result := x.answer(book, rule, at)
					require.Equal(t, x.isTrue(at), result.Truth == segment.True, "%s after the beginning: %s %s %s",
						time.Duration(at-epoch)*time.Millisecond, result.Truth, result.Why, rule.Source)
				}
				require.Equal(t, x.truth, x.follow(t, book, rule, epoch), "asked only at events and wake-ups")
			})
		}
	}
}

var called = regexp.MustCompile(`([a-z_]+)\(`)

// The tables name every function there is, and no other.
func TestLanguageIsComplete(t *testing.T) {
	t.Parallel()
	text := language(t)
	written := make(map[string]bool)
	for _, heading := range []string{"Selections", "Functions"} {
		for _, row := range tableOf(t, section(t, text, heading)) {
			for _, m := range called.FindAllStringSubmatch(row[0], -1) {
				written[m[1]] = true
			}
		}
	}
	delete(written, "timestamp") // CEL's own
	var list []string
	for name := range written {
		list = append(list, name)
	}
	slices.Sort(list)
	require.Equal(t, list, segment.Functions())
}

// Rules joined at random, over logs at random: who asks only at events and at wake-ups misses nothing.
func TestWakeUpsOfJoinedRules(t *testing.T) {
	t.Parallel()
	leaves := languageRules(t)
	book := exampleBook(t)
	rapid.Check(t, func(t *rapid.T) {
		rule := drawRule(t, leaves, 3)
		compiled, problems := book.Set.Compile(rule)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		x := example{rule: rule, events: drawLog(t, 8, 20), horizon: epoch + 40*hour}
		slices.SortStableFunc(x.events, func(a, b schema.UserEvent) int { return int(a.OccurredAt - b.OccurredAt) })
		x.truth = x.follow(t, book, compiled, epoch)
		for at := epoch; at < x.horizon; at += hour / 4 {
			for _, now := range []int64{at, at + 1, at + hour/4 - 1} {
				if got := x.answer(book, compiled, now).Truth == segment.True; got != x.isTrue(now) {
					t.Fatalf("%s is %t %s after the beginning, and nobody asked", rule, got, time.Duration(now-epoch)*time.Millisecond)
				}
			}
		}
	})
}

func drawRule(t *rapid.T, leaves []string, depth int) string {
	kind := rapid.IntRange(0, 4).Draw(t, "kind")
	switch {
	case depth == 0 || kind == 0:
		return "(" + rapid.SampledFrom(leaves).Draw(t, "leaf") + ")"
	case kind == 1:
		return "!" + drawRule(t, leaves, depth-1)
	case kind == 2:
		return "(" + drawRule(t, leaves, depth-1) + " ? " + drawRule(t, leaves, depth-1) + " : " + drawRule(t, leaves, depth-1) + ")"
	case kind == 3:
		return "(" + drawRule(t, leaves, depth-1) + " || " + drawRule(t, leaves, depth-1) + ")"
	}
	return "(" + drawRule(t, leaves, depth-1) + " && " + drawRule(t, leaves, depth-1) + ")"
}
