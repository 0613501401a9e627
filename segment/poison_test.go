package segment_test

import (
	"encoding/json"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// What a rule may take of a machine, from compiling it to answering.
const (
	mostBytes = 16 << 20
	mostTime  = time.Second // ten times what the catalog allows: a busy machine is no poison
)

// fill repeats unit, joined by join, up to what a rule may have.
func fill(unit, join string) string {
	return strings.TrimSuffix(strings.Repeat(unit+join, (segment.MaxRuleBytes-10)/len(unit+join)), join)
}

// greedyPlan has traits to compute with.
func greedyPlan() segment.Plan {
	p := shop()
	p.Traits = segment.Properties{"text": segment.String, "pattern": segment.String, "list": segment.List, "n": segment.Int}
	return p
}

// greedyFacts are traits as long as an event may carry them.
func greedyFacts(tb testing.TB, set *segment.Set) *segment.Facts {
	tb.Helper()
	list := make([]string, 1000)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	traits, err := json.Marshal(map[string]any{"text": strings.Repeat("a", schema.MaxStringBytes), "pattern": "a*", "list": list, "n": 1 << 40})
	require.NoError(tb, err)
	return fold(set, []schema.UserEvent{event("login", epoch, "", string(traits))})
}

// measured runs f and tells what it took: the time of the best of three, for the machine has others to serve.
func measured(f func()) (bytes uint64, took time.Duration) {
	took = time.Hour
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		f()
		took = min(took, time.Since(start))
		runtime.ReadMemStats(&after)
		bytes = after.TotalAlloc - before.TotalAlloc
	}
	return bytes, took
}

// frugal requires that what f took lies within the limits. Short tests look at no clock: the race detector makes everything slow.
func frugal(t *testing.T, bytes uint64, took time.Duration, what string) {
	t.Helper()
	require.Less(t, bytes, uint64(mostBytes), what)
	if !testing.Short() {
		require.Less(t, took, mostTime, what)
	}
}

// Rules that would hurt: refused with a code that a tool can look for, or harmless.
func TestPoisonRules(t *testing.T) { //nolint:paralleltest // measures memory and time
	nested := `traits.list.all(a, traits.list.all(b, traits.list.all(c, a != b + c)))`
	cases := []struct{ name, rule, want string }{ // want empty: taken, and answered within the limits
		{"#87 syntax", "did(\"login\") &&\n  || true", "2:3: "},
		{"#87 function", `true || frobnicate("x")`, "1:19: undeclared reference to 'frobnicate'"},
		{"#87 variable", "true ||\n x == 1", "2:2: undeclared reference to 'x'"},
		{"#88 too long", fill(`did("login")`, "||") + strings.Repeat(" ", 100), "rule_too_large: "},
		{"#88 40,001 bytes", strings.Repeat(`"s"=='a'||`, 4000) + "1", "rule_too_large: 40001 bytes"},
		{"#88 as long as can be", fill(`did("login")`, "||"), ""},
		{"#89 33 parentheses", strings.Repeat("(", 33) + "true" + strings.Repeat(")", 33), "too_deep: "},
		{"#89 200 parentheses", strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "too_deep: "},
		{"#89 2000 parentheses", strings.Repeat("(", 2000) + "true" + strings.Repeat(")", 2000), "too_deep: "},
		{"#89 300 lists", strings.Repeat("[", 300) + strings.Repeat("]", 300) + " == []", "too_deep: "},
		{"#89 300 sums", "0" + strings.Repeat("+1", 300) + " > 1", "too_deep: "},
		{"#89 negations", strings.Repeat("!", 4000) + "true", ""},
		{"#90 the motif", strings.Repeat("!!(!!!!!!(", 409), "too_deep: "},
		{"#90 the motif, closed", "!!(!!!!!!(" + `did("login")` + "))", ""},
		{"#91 three nested comprehensions", nested, "too_deep: a comprehension within another one"},
		{"#91 nested in a filter", `traits.list.filter(a, traits.list.exists(b, a == b)).size() > 1`, "too_deep: a comprehension within another one"},
		{"#91 many, one after the other", fill(`traits.list.exists(a, a == "x")`, "||"), ""},
		{"#92 pattern from data", `traits.text.matches(traits.pattern)`, "dynamic_regex: "},
		{"#92 pattern put together", `traits.text.matches("a" + traits.pattern)`, "dynamic_regex: "},
		{"#93 counted repetition", `traits.text.matches("a{1000}a{1000}")`, "counted repetition"},
		{"#93 129 bytes", `traits.text.matches("` + strings.Repeat("a", 129) + `")`, "128 bytes"},
		{"#93 backtracking elsewhere", `traits.text.matches("(a+)+$")`, ""},
		{"#93 many patterns", fill(`traits.text.matches("(a+)+b$")`, "||"), ""},
		{"#94 replace", `traits.text.replace("a", traits.text) == ""`, "undeclared reference to 'replace'"},
		{"#94 join", `traits.list.join("") == ""`, "undeclared reference to 'join'"},
		{"#94 doubling", `traits.list.map(a, traits.text + traits.text + traits.text)` + strings.Repeat(`.map(b, b + b)`, 20) + `.size() == 1`, ""},
		{"#94 doubling, side by side", fill(`traits.text + traits.text + traits.text + traits.text == "x"`, "||"), ""},
		{"#94 lists that grow", `traits.list.map(a, traits.list + traits.list + traits.list).size() > 1`, ""},
		{"#95 missing", `traits.n / 0 > 1 || events("order").avg(e.total) > 1.0`, ""},
		{"#95 overflow", `traits.n * traits.n * traits.n > 1`, ""},
		{"#97 no window", `events("login").within("0s").count() > 0`, "outside 1s and 730d"},
		{"#97 a window in the future", `events("login").within("-1d").count() > 0`, "is not a duration"},
		{"#97 ten thousand years", `events("login").within("3650000d").count() > 0`, "is not a duration"},
		{"#97 a nanosecond", `events("login").within("1ns").count() > 0`, "outside 1s and 730d"},
		{"#97 days", `events("login").within_days(0).count() > 0`, "from 1 to 366"},
		{"#97 too many days", `events("login").within_days(367).count() > 0`, "from 1 to 366"},
		{"#97 a billion", `events("login").within("5m").count() > 1000000000`, "remembers 128"},
		{"#98 now", `now() > timestamp("2026-01-01T00:00:00Z")`, "there is no now()"},
		{"#98 now, by another name", `timestamp(traits.text) > now`, "there is no now()"},
		{"#100 a long name", `did("` + strings.Repeat("x", 4000) + `")`, "is not declared"},
		{"#100 a name that is a script", `in_segment("<script>alert(1)</script>")`, ""},
	}
	for _, c := range cases { //nolint:paralleltest // as above
		t.Run(c.name, func(t *testing.T) {
			var rule *segment.Rule
			var problems []error
			bytes, took := measured(func() { rule, problems = segment.NewSet(greedyPlan(), 1).Compile(c.rule) })
			frugal(t, bytes, took, "to compile")
			if c.want != "" {
				require.ErrorContains(t, errors.Join(problems...), c.want)
				e, ok := errors.AsType[*segment.RuleError](problems[0])
				require.True(t, ok)
				require.Positive(t, e.Line)
				require.Positive(t, e.Column)
				return
			}
			require.Empty(t, problems)
			set := segment.NewSet(greedyPlan(), 1)
			rule = compile(t, set, c.rule)
			facts := greedyFacts(t, set)
			bytes, took = measured(func() { rule.Eval(scope(facts, epoch)) })
			frugal(t, bytes, took, "to answer")
			bytes, took = measured(func() { rule.Explanation(scope(facts, epoch)) })
			frugal(t, bytes/3, took/3, "to explain") // it asks for more than an answer does
		})
	}
}

// What cannot be answered is unknown, and says why.
func TestUnknown(t *testing.T) {
	t.Parallel()
	cases := []struct{ rule, why string }{
		{`traits.n / 0 > 1`, "division by zero"},
		{`traits.n % 0 > 1`, "modulus by zero"},
		{`traits.n * traits.n * traits.n > 1`, "overflow"},
		{`traits.pattern == "x"`, "traits.pattern is missing or not of its declared type"},
		{`traits.list[0] == "x"`, "index out of bounds: 0"},
		{`timestamp(traits.text) > timestamp("2026-03-02T00:00:00Z")`, "timestamp"},
		{`events("order").avg(e.total) > 1.0`, `events("order").avg(e.total) has no value yet`},
		{`events("order").since_last() > duration("1d")`, `events("order").since_last() has no value yet`},
		{`events("order").session_length("1h") > duration("1d")`, `events("order").session_length("1h") has no value yet`},
		{`!(traits.pattern == "x") && true`, "traits.pattern is missing or not of its declared type"},
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			set := segment.NewSet(greedyPlan(), 1)
			rule := compile(t, set, c.rule)
			facts := fold(set, []schema.UserEvent{event("login", epoch, "", `{"n":4611686018427387904,"text":"monday","pattern":5,"list":[]}`)})
			got := rule.Eval(scope(facts, epoch))
			require.Equal(t, segment.Unknown, got.Truth)
			require.Contains(t, got.Why, c.why)
			explained := rule.Explanation(scope(facts, epoch))
			require.Equal(t, segment.Unknown, explained.Truth)
			require.NotEmpty(t, explained.Needs)
		})
	}
}
