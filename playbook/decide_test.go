package playbook_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/playbook"
)

const decided = `name: n
events: {a: {}, t: {}}
metrics:
  activated: {kind: proportion, event: a, within: 14d}
  tickets: {kind: mean, event: t, within: 14d, direction: down, guardrail: {margin: 0.1}}
experiments:
  x: {variants: {control: 0.5, b: 0.5}, metrics: [activated, tickets], namespace: {name: n, range: [0, 0.2]}, decide: DECIDE}
  rest: {variants: {control: 0.5, b: 0.5}, namespace: {name: n, range: [0.2, 1]}}
  apart: {variants: {control: 0.5, b: 0.5}}
  other: {variants: {control: 0.5, c: 0.5}}
`

func TestDecide(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]playbook.Decide{
		`{}`: {},
		`{pause_on_guardrail: true, stop_for_winner: true, at_least: 14d}`: {PauseOnGuardrail: true, StopForWinner: true, AtLeast: 14 * 24 * time.Hour},
		`{allocate: {to: rest}}`: {Allocate: &playbook.Allocate{To: "rest", Floor: 0.05, MinUsers: 100}},
		`{allocate: {to: rest, floor: 0.5, min_users: 7, top_two: true}}`: {Allocate: &playbook.Allocate{To: "rest", Floor: 0.5, MinUsers: 7, TopTwo: true}},
	} {
		p, err := playbook.Compile(bundle(strings.Replace(decided, "DECIDE", text, 1)))
		require.NoError(t, err, text)
		require.Equal(t, want, p.Experiments["x"].Decide, text)
	}
	require.Empty(t, playbook.Decide{}.Text())
	require.Equal(t, "pause an arm whose guardrail is breached; stop for a winner after 14d; move the weights of rest, with a floor of 5 %",
		playbook.Decide{PauseOnGuardrail: true, StopForWinner: true, AtLeast: 14 * 24 * time.Hour, Allocate: &playbook.Allocate{To: "rest", Floor: 0.05}}.Text())
}

func TestDecideRefuses(t *testing.T) {
	t.Parallel()
	for text, problem := range map[string]string{
		`{stop: true}`:                         "unknown key",
		`{pause_on_guardrail: perhaps}`:        "must be true or false",
		`{at_least: soon}`:                     "at_least",
		`{allocate: {to: rest, floor: 0.6}}`:   "at most 1/2",
		`{allocate: {to: rest, floor: .nan}}`:  "at most 1/2",
		`{allocate: {to: rest, min_users: 0}}`: "min_users",
		`{allocate: {floor: 0.1}}`:             "needs to",
		`{allocate: {to: nowhere}}`:            "no other experiment",
		`{allocate: {to: x}}`:                  "no other experiment",
		`{allocate: {to: other}}`:              "same variants",
		`{allocate: {to: apart}}`:              "one namespace",
	} {
		_, err := playbook.Compile(bundle(strings.Replace(decided, "DECIDE", text, 1)))
		require.ErrorContains(t, err, problem, text)
	}
	bare := strings.Replace(strings.Replace(decided, ", guardrail: {margin: 0.1}", "", 1), "DECIDE", "{pause_on_guardrail: true}", 1)
	_, err := playbook.Compile(bundle(bare))
	require.ErrorContains(t, err, "no guardrail among its metrics")
	_, err = playbook.Compile(bundle(strings.Replace(strings.Replace(decided, "metrics: [activated, tickets]", "metrics: [tickets]", 1), "DECIDE", "{stop_for_winner: true}", 1)))
	require.ErrorContains(t, err, "no metric that decides")
}
