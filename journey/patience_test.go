package journey_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

const minute = int64(60_000)

const patient = `
name: patient
events:
  opened: {}
  used: {properties: {seconds: number, kind: string}}
  left: {}
traits: {plan: string}
actions: {nudge: {}}
segments:
  heavy: {when: 'events("used").within("1h").count() >= 3'}
  idle: {when: 'inactive_for("2h")'}
  opener: {when: 'did("opened")'}
journeys:
  tour:
    enter: {on: opened}
    exit: [{when: 'events("used").count() >= 5', reason: enough}]
    steps:
      - id: pause
        wait: {on: left, up_to: 3h, timeout: [{id: late, action: nudge}]}
`

// TestPatience: what may wait is what the playbook and the user's place in it say.
func TestPatience(t *testing.T) {
	t.Parallel()
	b, hash := compile(t, patient)
	u := newUser(t, b, hash)
	ask := func(at int64) schema.Patience { return journey.Patience(u.books, &u.state, u.state.Playbook, at) }
	require.Zero(t, ask(t0), "nobody is there yet")
	u.event("used", t0)
	p := ask(t0)
	require.Equal(t, map[string]int{"left": journey.MaxPatience, "used": 1}, p.Events, "opened lets in; the second `used` after this one makes heavy")
	require.Equal(t, t0, p.AsOf)
	require.Zero(t, journey.Patience(u.books, &u.state, "a newer one", t0), "what the next event is read with says more")
	require.Equal(t, t0+hour, p.Until, "when the first use leaves the window")

	u.event("opened", t0+minute)
	require.Equal(t, map[string]int{"used": 1}, ask(t0+minute).Events, "who is inside is waited for to leave")
	u.event("used", t0+2*minute)
	u.event("used", t0+3*minute)
	require.Equal(t, 1, ask(t0 + 3*minute).Events["used"], "heavy already; the second from now is the fifth, and so the exit")
	u.event("used", t0+4*minute)
	require.NotContains(t, ask(t0+4*minute).Events, "used")
	u.event("used", t0+5*minute)
	require.Equal(t, map[string]int{"left": 8, "used": 8}, ask(t0+5*minute).Events, "out of the journey")

	u.until(t0 + 3*hour)
	require.Empty(t, ask(t0+3*hour).Events, "idle: any event is a sign of life")
	historic := schema.UserEvent{EventID: "h", EventName: "left", Sequence: 99, OccurredAt: t0 - 9*day, ReceivedAt: t0 + 3*hour, Lateness: schema.Historic}
	u.next(journey.Input{Event: &historic}, t0+3*hour)
	require.Zero(t, ask(t0+3*hour), "a past that is being replayed")
	var none journey.State
	require.Zero(t, journey.Patience(books{}, &none, "", t0))
}

// rulesOfPatience are rules of every kind, over the three events of patient.
func rulesOfPatience() []string {
	return []string{
		`events("used").within("20m").count() >= 2`, `events("used").within("1h").count() < 4`, `events("used").count() == 6`, `events("opened").count() + events("used").count() >= 7`,
		`inactive_for("15m")`, `inactive_for("1h") && did("opened")`, `events().within("30m").count() >= 5`, `seen_for("2h") && events("left").count() < 2`,
		`events("used").within("1h").sum(e.seconds) >= 20.0`, `events("used").where(e.kind == "a").count() >= 2`, `events("used").distinct(e.kind) >= 2`,
		`time_since_last("used") > duration("10m")`, `time_since_first("opened") > duration("30m")`, `time_to("used") < duration("20m")`, `events("left").within_days(1).count() >= 3`,
		`events("used").days() >= 2`, `in_segment("s0") && events("opened").within("40m").count() >= 2`, `in_segment_for("s0", "10m")`,
		`events("opened").within("1h").count() > events("used").within("1h").count()`, `traits.plan == "pro" || events("left").count() >= 3`,
	}
}

// TestWhatMayWaitChangesNothing: with rules of every kind and events that come thick and fast, a user whose events wait as ingest lets them
// lives through the same, at the same moments, as one whose events come at once.
func TestWhatMayWaitChangesNothing(t *testing.T) {
	t.Parallel()
	waited, most := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		book, err := bookOf(rapid.SliceOfN(rapid.SampledFrom(rulesOfPatience()), 1, 4).Draw(r, "rules"), rapid.SampledFrom(rulesOfPatience()).Draw(r, "exit"))
		if err != nil {
			r.Skip(err) // s0 may not ask about itself
		}
		b := books{book.Hash: book}
		prompt, patient := newUser(t, b, book.Hash), newUser(t, b, book.Hash)
		linger := rapid.SampledFrom([]int64{1000, minute, 10 * minute}).Draw(r, "linger")
		var held []schema.UserEvent
		var p schema.Patience
		deliver := func(now int64) {
			patient.until(now)
			for i := range held {
				patient.next(journey.Input{Event: &held[i]}, now)
			}
			waited, most = waited+len(held)-1, max(most, len(held))
			held, p = nil, journey.Patience(b, &patient.state, patient.state.Playbook, now)
		}
		at := t0
		for n := range rapid.IntRange(5, 40).Draw(r, "events") {
			at += rapid.SampledFrom([]int64{100, 700, 5000, minute, 7 * minute, 40 * minute}).Draw(r, "gap")
			name := rapid.SampledFrom([]string{"opened", "used", "used", "used", "left"}).Draw(r, "name")
			e := schema.UserEvent{EventID: strconv.Itoa(n), EventName: name, Sequence: uint64(n + 1), OccurredAt: at, ReceivedAt: at, Lateness: schema.OnTime}
			e.OccurredAt -= rapid.SampledFrom([]int64{0, 0, 50, 3000}).Draw(r, "late")
			e.Properties = json.RawMessage(fmt.Sprintf(`{"seconds":%d,"kind":%q}`, rapid.IntRange(-5, 9).Draw(r, "seconds"), rapid.SampledFrom([]string{"a", "b"}).Draw(r, "kind")))
			prompt.until(at)
			prompt.next(journey.Input{Event: &e}, at)
			if len(held) > 0 && held[0].ReceivedAt+linger <= at {
				deliver(held[0].ReceivedAt + linger)
			}
			first := e
			if len(held) > 0 {
				first = held[0]
			}
			may := name == first.EventName && len(held) < p.Events[name] && e.OccurredAt >= p.AsOf && (p.Until == 0 || first.ReceivedAt+linger < p.Until)
			if held = append(held, e); !may {
				deliver(at)
			}
		}
		if len(held) > 0 {
			deliver(held[0].ReceivedAt + linger)
		}
		prompt.until(at + day)
		patient.until(at + day)
		for i, want := range prompt.decided {
			if i >= len(patient.decided) || patient.decided[i] != want {
				r.Fatalf("at once:\n%s\nwith patience:\n%s\nfirst differ in %d", strings.Join(prompt.story(), "\n"), strings.Join(patient.story(), "\n"), i)
			}
		}
		require.Len(r, patient.decided, len(prompt.decided))
	})
	require.Positive(t, waited, "no event ever waited: this shows nothing")
	t.Logf("%d events waited, up to %d with another", waited, most)
}

// bookOf is a playbook with segments of these rules, and a journey that the second ends.
func bookOf(rules []string, exit string) (*playbook.Playbook, error) {
	var text strings.Builder
	text.WriteString("name: drawn\nevents: {opened: {}, used: {properties: {seconds: number, kind: string}}, left: {}}\ntraits: {plan: string}\nactions: {nudge: {}}\nsegments:\n")
	for i, rule := range rules {
		fmt.Fprintf(&text, "  s%d: {when: '%s'}\n", i, rule)
	}
	fmt.Fprintf(&text, "journeys:\n  tour:\n    enter: {on: opened}\n    reentry: after_exit\n    exit: [{when: '%s', reason: enough}]\n    steps: [{id: pause, wait: {on: left, up_to: 3h, timeout: [{id: late, action: nudge}]}}]\n", exit)
	return playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": text.String()}})
}
