package backtest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// told writes a story as hours and texts.
func told(story *backtest.Story) []string {
	var lines []string
	for _, l := range story.Lines {
		lines = append(lines, fmt.Sprintf("%+gh %s", float64(l.At-t0)/float64(hour), l.Text))
	}
	return lines
}

const smallPlaybook = `
name: x
events: {a: {properties: {n: int}}, b: {}, c: {}}
traits: {plan: string}
actions: {act: {}}
limit: {actions: 1, per: 7d}
segments: {quiet: {when: 'inactive_for("2h")'}}
journeys:
  j:
    enter: {on: a}
    goal: {on: b, within: 3d}
    steps: [{id: one, action: act, with: {plan: "${traits.plan}", text: "a b"}}, {id: pause, delay: 1h}, {id: two, action: act}]
`

func TestStoryTellsEverythingInOrder(t *testing.T) {
	t.Parallel()
	book := compile(t, smallPlaybook)
	a := event(1, "a", t0, `{"plan":"pro"}`)
	a.Properties = json.RawMessage(`{"n":3,"text":"with\nbreak"}`)
	user := backtest.User{ID: "u", Token: "u", Events: []schema.UserEvent{
		event(2, "b", t0+5*hour, ""), a, event(1, "a", t0+30*60_000, ""), event(3, "undeclared", t0+2*hour, ""),
	}}
	story, err := backtest.Tell(book, user, backtest.Options{Until: t0 + 6*hour, Live: true})
	require.NoError(t, err)
	require.Equal(t, []string{
		`+0h event a {n: 3, text: "with\nbreak"} traits {plan: pro}`,
		"+0h journey j starts: event a",
		"+0h step j/one: event a",
		"+0h step j/pause",
		`+0h action act by j/one {plan: pro, text: "a b"}`,
		"+0.5h event a, known already",
		"+1h step j/two: the time has come",
		"+1h journey j ends at step two: completed",
		"+1h action act by j/two is held back: frequency_cap",
		`+2h segment quiet: in, because inactive_for("2h") = true`,
		"+2h event undeclared, which nothing reads",
		"+5h event b",
		`+5h segment quiet: out, because inactive_for("2h") = false`,
		"+5h goal b of journey j is met",
	}, told(story))
	require.Equal(t, "j/completed", story.Profile.Stage)
	require.Nil(t, story.Zone, "the playbook does not say whose day it is")

	historic, err := backtest.Tell(book, user, backtest.Options{Until: t0 + 6*hour})
	require.NoError(t, err)
	require.Contains(t, told(historic), `+0h event a {n: 3, text: "with\nbreak"} traits {plan: pro}, historic`)
	require.Contains(t, told(historic), "+0h action act by j/one is held back: historic")
}

func TestStoryOfAnEdit(t *testing.T) {
	t.Parallel()
	older, newer := compile(t, smallPlaybook), compile(t, strings.ReplaceAll(smallPlaybook, `inactive_for("2h")`, `inactive_for("30m")`))
	user := backtest.User{ID: "u", Token: "u", Events: []schema.UserEvent{{EventID: "1", EventName: "a", Sequence: 1, OccurredAt: t0, ReceivedAt: t0}}}
	story, err := backtest.TellRecorded([]backtest.Version{{Book: older}, {At: t0 + 45*60_000, Book: newer}}, user, t0+hour)
	require.NoError(t, err)
	lines := told(story)
	require.Contains(t, lines, "+0.75h playbook "+newer.Hash+" is in force")
	require.Contains(t, lines, `+0.75h segment quiet: in, because inactive_for("30m") = true`)
	require.Equal(t, newer.Hash, story.Profile.Playbook)

	before, err := backtest.TellRecorded([]backtest.Version{{Book: older}, {At: t0 + 45*60_000, Book: newer}}, user, t0+44*60_000)
	require.NoError(t, err)
	require.Equal(t, older.Hash, before.Profile.Playbook, "what comes later is not known yet")
}

type shelf map[string]*playbook.Playbook

func (s shelf) Playbook(hash string) *playbook.Playbook { return s[hash] }

// TestTellIsTheFold: what is told of a recorded log, waking at every moment, leaves the same state and the same outcomes as the bare
// fold that never wakes. (An event of the past has no place of its own in time: what it meets depends on which timers have fired, so
// there are none here.)
func TestTellIsTheFold(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../examples/saas-onboarding/playbook.yaml")
	require.NoError(t, err)
	// Expiry alone looks at the clock of who asks.
	book := compile(t, strings.ReplaceAll(string(text), ", expire: 12h", ""))
	names := []string{"signed_up", "profile_completed", "feature_viewed", "feature_used", "onboarding_completed", "activated", "support_ticket_opened"}
	rapid.Check(t, func(r *rapid.T) {
		received := t0
		var events []schema.UserEvent
		for i := range rapid.IntRange(1, 12).Draw(r, "events") {
			received += rapid.Int64Range(0, 3*day).Draw(r, "gap")
			late := rapid.Int64Range(0, 3*day).Draw(r, "late")
			e := event(i, rapid.SampledFrom(names).Draw(r, "name"), received-late, "")
			e.ReceivedAt, e.Sequence, e.Lateness = received, uint64(i)+1, schema.OnTime
			events = append(events, e)
		}
		until := t0 + rapid.Int64Range(0, 60*day).Draw(r, "until")
		story, err := backtest.TellRecorded([]backtest.Version{{Book: book}}, backtest.User{Token: "u", Events: events}, until)
		require.NoError(r, err)

		state := journey.State{Token: "u"}
		books := shelf{book.Hash: book}
		var outcomes []schema.Outcome
		next := func(in journey.Input, now int64) {
			var d journey.Decision
			in.Playbook, in.Revision = book.Hash, 1
			state, d = journey.Next(books, state, in, now)
			outcomes = append(outcomes, d.Outcomes...)
		}
		for i := range events {
			if journey.Moment(&state, &events[i]) > until {
				break
			}
			next(journey.Input{Event: &events[i]}, events[i].ReceivedAt)
		}
		if state.Playbook != "" {
			next(journey.Input{}, until)
		}
		var toldOutcomes []schema.Outcome
		for _, l := range story.Lines {
			if l.Outcome != nil {
				toldOutcomes = append(toldOutcomes, *l.Outcome)
			}
		}
		for _, list := range [][]schema.Outcome{outcomes, toldOutcomes} {
			for i := range list {
				list[i].LogSequence, list[i].DecidedAt = 0, 0 // these say when somebody woke
			}
		}
		require.Equal(r, outcomes, toldOutcomes)
		require.Equal(r, encode(t, state), encode(t, story.State))
	})
}

func TestFormatSpan(t *testing.T) {
	t.Parallel()
	for ms, want := range map[int64]string{0: "0s", 1: "1ms", 90_000: "1m30s", hour: "1h", 30 * hour: "1d6h", -day: "-1d", day + 1: "24h0m0.001s"} {
		require.Equal(t, want, backtest.FormatSpan(ms))
	}
}
