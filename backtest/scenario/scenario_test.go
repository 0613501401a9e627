package scenario_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/backtest/scenario"
	"github.com/onramphq/onramp/playbook"
)

const small = `
name: small
events: {signed_up: {}, done: {properties: {n: int}}, other: {}}
traits: {plan: string}
actions: {remind: {}, greet: {}}
limit: {actions: 2, per: 7d}
segments: {waiting: {when: 'did("signed_up") && !did("done")'}, quiet: {when: inactive_for("2d")}}
experiments: {ab: {variants: {control: 0.5, b: 0.5}}}
journeys:
  j:
    enter: {on: signed_up}
    goal: {on: done, within: 3d}
    steps:
      - {id: split, experiment: ab, variants: {control: [], b: [{id: hello, action: greet, with: {plan: "${traits.plan}", n: 2}}]}}
      - {id: first, wait: {on: done, up_to: 1d, timeout: [{id: reminder, action: remind}]}}
      - {id: again, delay: 1d}
      - {id: last, action: remind}
`

func compile(tb testing.TB, text string) *playbook.Playbook {
	tb.Helper()
	p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": text}})
	require.NoError(tb, err)
	return p
}

func none(path string) (*playbook.Playbook, error) { return nil, fmt.Errorf("%s is not here", path) }

// run runs one scenario against the small playbook.
func run(tb testing.TB, text string) *scenario.Report {
	tb.Helper()
	list, err := scenario.Parse("a.scenario.yaml", text, compile(tb, small), none)
	require.NoError(tb, err)
	require.Len(tb, list, 1)
	return scenario.Run(list[0])
}

func messages(r *scenario.Report) []string {
	list := []string{}
	for _, f := range r.Failures {
		list = append(list, f.Message)
	}
	return list
}

const whole = `
scenario: everything that can be expected
variants: {ab: b}
given:
  - {at: +0h, event: signed_up, traits: {plan: pro}}
  - {at: +30h, event: done, properties: {n: 3}}
expect:
  - {at: +0h, started: j}
  - {at: +0h, segment: waiting}
  - {at: +0h, exposed: ab, variant: b}
  - {at: +0h, step: j/hello}
  - {at: +0h, action: greet, with: {plan: pro, n: 2}, segments: [waiting], journey: j}
  - {at: +0h, step: j/first}
  - {at: +1d, action: remind}
  - {at: +30h, converted: done, journey: j}
  - {at: +30h, left: waiting}
  - {at: +30h, ended: j, reason: goal_met}
  - {at: +77h59m59s999ms, in: [], not_in: [waiting, quiet]}
  - {at: +78h, segment: quiet}
  - {at: 2026-03-05T06:00:00Z, in: [quiet], not_in: [waiting]}
never: [{suppressed: remind}, {action: remind, with: {n: 1}}]
only: [actions, suppressions, segments, steps, journeys, conversions, exposures]
`

func TestEverythingThatCanBeExpected(t *testing.T) {
	t.Parallel()
	text := strings.Replace(whole, "  - {at: +0h, step: j/first}", "  - {at: +0h, step: j/split}\n  - {at: +0h, step: j/first}\n  - {at: +1d, step: j/reminder}\n  - {at: +1d, step: j/again}", 1)
	r := run(t, text)
	require.Empty(t, messages(r))
	require.True(t, r.Passed)
}

// TestFailures says what is wrong with one expectation changed, and nothing else.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, from, to, want string }{
		{"earlier", "+1d, action: remind", "+23h59m59s999ms, action: remind", "action remind was expected at +23h59m59.999s (Mon 2026-03-02 23:59:59.999 UTC); it came 1ms later, at +24h (Tue 2026-03-03 00:00 UTC)"},
		{"later", "+78h, segment: quiet", "+78h1ms, segment: quiet", "enters quiet was expected at +78h0m0.001s (Thu 2026-03-05 06:00:00.001 UTC); it came 1ms earlier, at +78h (Thu 2026-03-05 06:00 UTC)"},
		{"other value", "plan: pro, n: 2", "plan: free", "action greet of j {plan: free} segments [waiting] was expected at +0h (Mon 2026-03-02 00:00 UTC); what came is action greet of j {n: 2, plan: pro} segments [waiting]"},
		{"other segments", "segments: [waiting]", "segments: [quiet]", "action greet of j {n: 2, plan: pro} segments [quiet] was expected at +0h (Mon 2026-03-02 00:00 UTC); what came is action greet of j {n: 2, plan: pro} segments [waiting]"},
		{"other reason", "reason: goal_met", "reason: completed", "ended j: completed was expected at +30h (Tue 2026-03-03 06:00 UTC); what came is ended j: goal_met"},
		{"never came", "step: j/hello", "step: j/last", "step j/last was expected at +0h (Mon 2026-03-02 00:00 UTC); it never came"},
		{"state", "in: [quiet], not_in: [waiting]", "in: [waiting], not_in: [quiet]", "at +78h (Thu 2026-03-05 06:00 UTC): waiting is out, quiet is in"},
		{"unexpected", "  - {at: +1d, action: remind}\n", "", "action remind came at +24h (Tue 2026-03-03 00:00 UTC) and is not expected"},
		{"never", "never: [{suppressed: remind}, ", "never: [{started: j}, ", "started j came at +0h (Mon 2026-03-02 00:00 UTC) and must never come"},
		{"of other kinds", "only: [actions, suppressions, segments, steps, journeys, conversions, exposures]", "only: [exposures]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(whole, "steps, ", "", 1)
			from := strings.Replace(c.from, "steps, ", "", 1)
			require.Contains(t, text, from)
			r := run(t, strings.Replace(text, from, c.to, 1))
			want := []string{}
			if c.want != "" {
				want = append(want, c.want)
			}
			require.Equal(t, want, messages(r))
			require.Equal(t, c.want == "", r.Passed)
		})
	}
}

// TestTimeLine shows what a person reads, whole.
func TestTimeLine(t *testing.T) {
	t.Parallel()
	r := run(t, `
scenario: the reminder comes too late
zone: Europe/Berlin
start: 2026-03-02T09:00
variants: {ab: control}
given: [{at: +0h, event: signed_up}, {at: +20h, event: other}]
expect:
  - {at: +0h, started: j}
  - {at: +12h, action: remind}
until: +3d
`)
	require.Equal(t, strings.Join([]string{
		"  a.scenario.yaml:9: action remind was expected at +12h (Mon 2026-03-02 21:00 CET); it came 12h later, at +24h (Tue 2026-03-03 09:00 CET)",
		"  a.scenario.yaml:2: action remind came at +48h (Wed 2026-03-04 09:00 CET) and is not expected",
		"",
		"                                    expected       got",
		"    +0h   Mon 2026-03-02 09:00 CET  event signed_up",
		"    +0h   Mon 2026-03-02 09:00 CET  started j      started j",
		"  ▶ +12h  Mon 2026-03-02 21:00 CET  action remind",
		"    +20h  Tue 2026-03-03 05:00 CET  event other",
		"  ✗ +24h  Tue 2026-03-03 09:00 CET                 action remind",
		"  ✗ +48h  Wed 2026-03-04 09:00 CET                 action remind",
		"",
	}, "\n"), r.Text(false))
	require.Contains(t, r.Text(true), "\x1b[31m")
}

// TestProblems finds every mistake of a file at once, at its place.
func TestProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "scenario: x\ngiven: [{at: +0h, event: other}]\nexpected: []", `3:1: unknown key "expected" in a scenario; known are: scenario, zone, start, user, variants, given, expect, never, only, until`},
		{"no name", "given: [{at: +0h, event: other}]", "1:1: a scenario needs a name: scenario: what it shows"},
		{"nothing given", "scenario: x", "1:1: nothing is given: a scenario needs at least one event"},
		{"unknown event", "scenario: x\ngiven:\n  - {at: +0h, event: othr}", `3:22: event "othr" is not in the playbook; there are: done, other, signed_up`},
		{"bad moment", "scenario: x\ngiven: [{at: 5h, event: other}]", `2:14: at: "5h" is no moment such as +24h, +1d12h, 2026-03-02T09:00:00Z, or 2026-03-02T09:00 in the scenario's zone`},
		{"skipped hour", "scenario: x\nzone: Europe/Berlin\ngiven: [{at: 2026-03-29T02:30, event: other}]", `3:14: at: "2026-03-29T02:30" is no moment such as +24h, +1d12h, 2026-03-02T09:00:00Z, or 2026-03-02T09:00 in the scenario's zone`},
		{"bad start", "scenario: x\nstart: tomorrow\ngiven: [{at: +0h, event: other}]", `2:8: "tomorrow" is not a time such as 2026-03-02T09:00:00Z, or 2026-03-02T09:00 in the scenario's zone`},
		{"bad zone", "scenario: x\nzone: Berlin\ngiven: [{at: +0h, event: other}]", `2:7: "Berlin" is no IANA time zone such as Europe/Berlin`},
		{"no moment", "scenario: x\ngiven: [{event: other}]", "2:9: at is missing: when, such as at: +24h"},
		{"two kinds", "scenario: x\ngiven: [{at: +0h, event: other}]\nexpect: [{at: +0h, action: remind, left: quiet}]", "3:10: an expectation has exactly one of: action, suppressed, segment, left, started, ended, step, converted, exposed, in"},
		{"detail of another kind", "scenario: x\ngiven: [{at: +0h, event: other}]\nexpect: [{at: +0h, left: quiet, reason: r}]", `3:33: unknown key "reason" in an expectation of kind left; known are: at, left`},
		{"moment of never", "scenario: x\ngiven: [{at: +0h, event: other}]\nnever: [{at: +0h, left: quiet}]", `3:10: unknown key "at" in never left; known are: left`},
		{"unknown segment", "scenario: x\ngiven: [{at: +0h, event: other}]\nexpect: [{at: +0h, in: [qiet]}]", `3:25: segment "qiet" is not in the playbook; there are: quiet, waiting`},
		{"unknown variant", "scenario: x\nvariants: {ab: c}\ngiven: [{at: +0h, event: other}]", `2:16: variant "c" is not in the playbook; there are: b, control`},
		{"user and variants", "scenario: x\nuser: u\nvariants: {ab: b}\ngiven: [{at: +0h, event: other}]", "3:11: either user or variants: the variants of a user who is named are what they are"},
		{"playbook away", "scenario: x\ngiven: [{at: +0h, event: other}, {at: +1h, playbook: ../v2}]", "2:54: playbook ../v2: ../v2 is not here"},
		{"both", "scenario: x\ngiven: [{at: +0h, event: other, playbook: ../v2}]", "2:9: given is either an event or a playbook"},
		{"refused event", "scenario: x\ngiven: [{at: +3d, event: other, received: +0h}]", "2:26: event other would be refused: future: field occurred_at: lies 72h0m0s after the time of receipt; at most 24h0m0s is taken"},
		{"until too early", "scenario: x\ngiven: [{at: +2h, event: other}]\nuntil: +1h", "3:8: until lies before the last moment that the scenario names, +2h (Mon 2026-03-02 02:00 UTC)"},
		{"unknown group", "scenario: x\ngiven: [{at: +2h, event: other}]\nonly: [emails]", `3:8: "emails" is no group; they are: actions, conversions, exposures, journeys, segments, steps, suppressions`},
		{"alias", "scenario: &x x\ngiven: []", "1:11: anchors, aliases and merge keys are not read: write the value out"},
		{"no YAML", "scenario: [", "1:1: is not YAML: did not find expected node content"},
		{"empty", "", "1:1: the file holds no scenario"},
		{"second document", "scenario: x\ngiven: [{at: +0h, event: other}]\n---\nscenario: y", "4:1: nothing is given: a scenario needs at least one event"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := scenario.Parse("a.scenario.yaml", c.text, compile(t, small), none)
			problems, ok := errors.AsType[playbook.Problems](err)
			require.True(t, ok, "%v", err)
			require.Len(t, problems, 1, problems.Error())
			require.Equal(t, "a.scenario.yaml:"+c.want, problems.Error())
		})
	}
}

func TestDuplicatesLateEventsAndEdits(t *testing.T) {
	t.Parallel()
	v2 := compile(t, strings.ReplaceAll(small, `inactive_for("2d")`, `inactive_for("3d")`))
	list, err := scenario.Parse("a.scenario.yaml", `
scenario: in flight
variants: {ab: control}
given:
  - {at: +0h, event: signed_up, id: a}
  - {at: +1h, event: signed_up, id: a}
  - {at: +10h, event: done, received: +26h}
  - {at: +47h, playbook: ../v2}
expect:
  - {at: +24h, action: remind}
  - {at: +26h, converted: done}
  - {at: +26h, ended: j}
  - {at: +82h, segment: quiet}
`, compile(t, small), func(path string) (*playbook.Playbook, error) {
		require.Equal(t, "../v2", path)
		return v2, nil
	})
	require.NoError(t, err)
	require.Empty(t, messages(scenario.Run(list[0])))
}

// TestMomentsAreExact: an expectation passes at its moment alone.
func TestMomentsAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		shift := rapid.Int64Range(-90_000_000, 90_000_000).Draw(r, "shift")
		at := 24*3_600_000 + shift
		report := run(t, fmt.Sprintf(`
scenario: x
variants: {ab: control}
given: [{at: +0h, event: signed_up}]
expect: [{at: +%dms, action: remind}]
only: []
until: +3d
`, max(0, at)))
		require.Equal(r, shift == 0 || at == 48*3_600_000, report.Passed, "%v", messages(report))
	})
}

func TestAMonthTakesMilliseconds(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../examples/saas-onboarding/playbook.yaml")
	require.NoError(t, err)
	list, err := scenario.Parse("a", `
scenario: x
variants: {onboarding_flow: control}
given: [{at: +0h, event: signed_up}]
only: []
until: +30d
`, compile(t, string(text)), none)
	require.NoError(t, err)
	result := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		for b.Loop() {
			require.True(b, scenario.Run(list[0]).Passed)
		}
	})
	require.Less(t, result.NsPerOp(), int64(50_000_000))
}

func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("scenario: x\nzone: Europe/Berlin\ngiven: [{at: 2026-10-25T02:30, event: other, received: +1d}]\nnever: [{left: quiet}]")
	book := compile(f, small)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := scenario.Parse("a", text, book, none)
		if err != nil {
			return
		}
		for _, s := range list {
			if s.Until-s.Start < 400*24*3_600_000 {
				require.NotPanics(t, func() { _ = scenario.Run(s).Text(true) })
			}
		}
	})
}
