package journey_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// shop is the plan of these tests.
const shop = `
name: shop
zone: {trait: timezone, default: UTC}
events:
  signed_up: {}
  cart: {properties: {order_id: string, total: number}}
  order: {properties: {order_id: string, total: number}}
  closed: {}
traits: {timezone: string, vip: bool}
consent: {marketing: 'true'}
segments:
  buyer: {when: 'events("order").within("2d").count() >= 1'}
`

func shopper(t *testing.T, text string) *user {
	t.Helper()
	b, hash := compile(t, shop+text)
	return newUser(t, b, hash)
}

// with sends an event with properties.
func (u *user) with(name string, at int64, properties string) {
	u.seq++
	u.next(journey.Input{Event: &schema.UserEvent{
		EventID: fmt.Sprint("e", u.seq), EventName: name, Sequence: u.seq, OccurredAt: at, ReceivedAt: at,
		Lateness: schema.OnTime, Properties: []byte(properties),
	}}, at)
}

// put brings a newer playbook to the user, as apply does to those who send no events.
func (u *user) put(text string, at int64) {
	u.t.Helper()
	more, hash := compile(u.t, shop+text)
	u.books[hash] = more[hash]
	u.hash = hash
	u.revision++
	u.next(journey.Input{}, at)
}

const abandoned = `
actions: {remind: {}}
journeys:
  checkout:
    enter: {on: cart, where: e.total > 10.0, per: order_id}
    goal: {on: order, where: e.order_id == same.order_id, within: 10d}
    steps:
      - id: paid
        wait: {on: order, where: e.order_id == same.order_id, up_to: 1d, timeout: [{id: nudge, action: remind, with: {order: "${same.order_id}"}}]}
`

func TestCorrelation(t *testing.T) {
	t.Parallel()
	u := shopper(t, abandoned)
	u.with("cart", t0, `{"order_id":"x","total":20}`)
	u.with("cart", t0+hour, `{"order_id":"y","total":30}`)
	u.with("cart", t0+2*hour, `{"order_id":"z","total":5}`) // too small
	u.with("cart", t0+2*hour, `{"total":50}`)               // for no order
	u.with("order", t0+3*hour, `{"order_id":"y"}`)
	u.with("order", t0+4*hour, `{}`)                         // of no order: nobody's
	u.with("cart", t0+5*hour, `{"order_id":"y","total":30}`) // reentry: never, for this order
	u.until(t0 + 9*day)
	require.Equal(t, []string{
		"+0.0h enrollment_started checkout/",
		"+1.0h enrollment_started checkout/",
		"+3.0h goal_converted order",
		"+3.0h enrollment_ended checkout/paid goal_met",
		"+24.0h enrollment_ended checkout/nudge completed",
		"+24.0h action_decided remind",
	}, u.story(schema.EnrollmentStarted, schema.EnrollmentEnded, schema.ActionDecided, schema.GoalConverted))
	require.Equal(t, map[string]any{"order": "x"}, u.actions[0].Properties)
	require.Equal(t, "has been through; reentry: never", u.state.Refused["checkout"].Why)
}

func TestEnrollmentsPerValueAreBounded(t *testing.T) {
	t.Parallel()
	u := shopper(t, abandoned)
	for i := range 3 * playbook.MaxEnrollments {
		u.with("cart", t0, fmt.Sprintf(`{"order_id":"%d","total":20}`, i))
	}
	require.Len(t, u.state.Enrollments, playbook.MaxEnrollments)
	require.Equal(t, "is inside 16 times already", u.state.Refused["checkout"].Why)
}

func TestReentryAfterATime(t *testing.T) {
	t.Parallel()
	u := shopper(t, `
actions: {remind: {}}
journeys:
  j: {enter: {on: signed_up}, reentry: {after: 2d}, steps: [{action: remind}]}
`)
	u.event("signed_up", t0)
	u.event("signed_up", t0+2*day-1)
	require.Equal(t, "may enter again 2024-10-06 00:00:00.000 UTC", u.state.Refused["j"].Why)
	u.event("signed_up", t0+2*day)
	require.Equal(t, []string{"+0.0h enrollment_started j/", "+48.0h enrollment_started j/"}, u.story(schema.EnrollmentStarted))
	require.Empty(t, u.state.Refused)
}

func TestLeavingASegmentIsATrigger(t *testing.T) {
	t.Parallel()
	u := shopper(t, `
actions: {remind: {}}
journeys:
  lapsed:
    enter: {left: buyer}
    reentry: after_exit
    exit: [{entered: buyer, reason: came_back}]
    steps: [{action: remind}, {delay: 10d}]
`)
	u.with("order", t0, `{}`)
	u.until(t0 + 3*day)
	u.with("order", t0+4*day, `{}`)
	u.until(t0 + 7*day)
	require.Equal(t, []string{
		"+0.0h segment_entered buyer", "+48.0h segment_left buyer", "+48.0h enrollment_started lapsed/",
		"+96.0h segment_entered buyer", "+96.0h enrollment_ended lapsed/s2 came_back",
		"+144.0h segment_left buyer", "+144.0h enrollment_started lapsed/",
	}, u.story(schema.SegmentEntered, schema.SegmentLeft, schema.EnrollmentStarted, schema.EnrollmentEnded))
	require.Empty(t, u.state.Refused, "who was let in was not refused")
}

const nightly = `
quiet: {from: "21:00", to: "08:00"}
expire: 12h
actions: {held: {}, dropped: {quiet: drop}, loud: {quiet: ignore}}
journeys:
  j: {enter: {on: signed_up}, exit: [{on: closed, reason: closed}], steps: [{id: loud, action: loud}, {id: dropped, action: dropped}, {id: held, action: held}, {id: again, action: held}]}
`

func TestQuietHours(t *testing.T) {
	t.Parallel()
	evening := t0 + 20*hour
	u := shopper(t, nightly)
	u.event("signed_up", evening, `{"timezone":"Europe/Berlin"}`) // 22:00 there, in October
	require.Equal(t, t0+30*hour, u.wake)
	u.until(t0 + 2*day)
	require.Equal(t, []string{
		"+20.0h action_decided loud", "+20.0h action_suppressed dropped quiet_hours",
		"+30.0h enrollment_ended j/again completed", "+30.0h action_decided held", "+30.0h action_decided held",
	}, u.story(schema.ActionDecided, schema.ActionSuppressed, schema.EnrollmentEnded))

	u = shopper(t, nightly) // whoever leaves at night gets nothing in the morning
	u.event("signed_up", evening, `{"timezone":"Europe/Berlin"}`)
	u.event("closed", evening+hour)
	u.until(t0 + 2*day)
	require.Equal(t, []string{"+20.0h action_decided loud", "+21.0h enrollment_ended j/held closed"}, u.story(schema.ActionDecided, schema.EnrollmentEnded))
}

func TestDelaysToLocalTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, zone, delay, start, want string }{
		{"the next nine o'clock", "Europe/Berlin", `{at: "09:00"}`, "2026-03-02T10:00:00Z", "2026-03-03T08:00:00Z"},
		{"after a day, the next nine o'clock", "Europe/Berlin", `{for: 1d, at: "09:00"}`, "2026-03-02T06:00:00Z", "2026-03-03T08:00:00Z"},
		{"over the change of clocks", "America/New_York", `{for: 1d, at: "09:00"}`, "2026-03-07T13:00:00Z", "2026-03-08T13:00:00Z"},
		{"Monday in Tokyo", "Asia/Tokyo", `{at: "08:00", on: mon}`, "2026-03-06T00:00:00Z", "2026-03-08T23:00:00Z"},
		{"a working day", "Europe/Berlin", `{at: "09:00", on: [mon, tue, wed, thu, fri]}`, "2026-03-06T12:00:00Z", "2026-03-09T08:00:00Z"},
		{"the weekend, as it begins", "Europe/Berlin", `{on: [sat, sun]}`, "2026-03-06T12:00:00Z", "2026-03-06T23:00:00Z"},
		{"an unknown zone is none", "Mars/Base", `{at: "09:00"}`, "2026-03-02T10:00:00Z", "2026-03-03T09:00:00Z"},
	} {
		start, err := time.Parse(time.RFC3339, c.start)
		require.NoError(t, err)
		want, err := time.Parse(time.RFC3339, c.want)
		require.NoError(t, err)
		u := shopper(t, "actions: {remind: {}}\njourneys:\n  j: {enter: {on: signed_up}, steps: [{delay: "+c.delay+"}, {action: remind}]}\n")
		u.event("signed_up", start.UnixMilli(), fmt.Sprintf(`{"timezone":%q}`, c.zone))
		u.until(start.UnixMilli() + 30*day)
		require.Len(t, u.actions, 1, c.name)
		require.Equal(t, want.UnixMilli(), u.actions[0].DecidedAt, c.name)
	}
}

func TestADelayThatIsOverAtOnce(t *testing.T) {
	t.Parallel()
	u := shopper(t, "actions: {remind: {}}\njourneys:\n  j: {enter: {on: signed_up}, steps: [{delay: {on: [mon, tue, wed, thu, fri, sat, sun]}}, {action: remind}]}\n")
	u.event("signed_up", t0)
	require.Len(t, u.actions, 1)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	u := shopper(t, `
limit:
  - {actions: 3, per: 7d}
  - {actions: 1, per: day, category: marketing}
actions: {offer: {category: marketing}, tip: {}}
journeys:
  j: {enter: {on: signed_up}, reentry: after_exit, steps: [{action: offer}]}
  k: {enter: {on: cart}, reentry: after_exit, steps: [{action: tip}]}
`)
	night := t0 + 22*hour // in Kiritimati the day is fourteen hours ahead, and changes at ten in the morning UTC
	u.event("signed_up", night, `{"timezone":"Pacific/Kiritimati"}`)
	u.event("signed_up", night+2*hour) // the next day in UTC, the same there
	u.event("cart", night+3*hour)
	u.event("signed_up", night+12*hour) // the next day there
	u.event("cart", night+13*hour)      // the fourth in seven days
	u.event("cart", night+7*day)        // the first has left the seven days
	require.Equal(t, []string{
		"+22.0h action_decided offer", "+24.0h action_suppressed offer frequency_cap", "+25.0h action_decided tip",
		"+34.0h action_decided offer", "+35.0h action_suppressed tip frequency_cap", "+190.0h action_decided tip",
	}, u.story(schema.ActionDecided, schema.ActionSuppressed))
	require.LessOrEqual(t, len(u.state.Sent), 3)
}

func TestHoldout(t *testing.T) {
	t.Parallel()
	const text = `
holdout: {share: 0.5}
experiments:
  flow: {variants: {a: 0.4, b: 0.4, none: 0.2}, holdout: none}
actions: {tip: {}}
journeys:
  j:
    enter: {on: signed_up}
    steps:
      - {id: arm, experiment: flow, variants: {a: [{action: tip}], b: [{action: tip}]}}
      - {id: last, action: tip}
`
	b, hash := compile(t, shop+text)
	counts := map[string]int{}
	for i := range 200 {
		u := newUser(t, b, hash)
		u.state.Token = fmt.Sprint("u", i)
		u.event("signed_up", t0)
		group := u.state.Assigned["holdout"].Variant
		flow, met := u.state.Assigned["flow"]
		counts[group+"/"+flow.Variant]++
		switch group {
		case playbook.HeldOut:
			require.Empty(t, u.actions)
			require.False(t, met, "who gets nothing is in no other experiment")
			require.Equal(t, []string{"+0.0h action_suppressed tip holdout", "+0.0h action_suppressed tip holdout"}, u.story(schema.ActionSuppressed))
			require.JSONEq(t, "true", counterfactual(t, u))
		case playbook.Treated:
			require.True(t, met)
			want := 2
			if flow.Variant == "none" {
				want = 1
			}
			require.Len(t, u.actions, want)
		default:
			t.Fatal("everybody is in one of the two groups")
		}
	}
	require.Greater(t, counts["held_out/"], 70)
	require.Greater(t, counts["treated/none"], 5)
	require.Greater(t, counts["treated/a"], 15)
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	text := func(paused string) string {
		return `
actions: {fresh: {}, tip: {}}
journeys:
  j:
    paused: ` + paused + `
    migrate: move
    enter: {on: signed_up}
    reentry: after_exit
    exit: [{on: closed, reason: closed}]
    steps: [{id: d, delay: 1d}, {id: stale, action: fresh, expire: 12h}, {id: sent, action: tip}, {id: w, wait: {on: order, up_to: 5d, timeout: [{exit: gave_up}]}}, {id: end, action: tip}]
`
	}
	u := shopper(t, text("false"))
	u.event("signed_up", t0)
	u.put(text("true"), t0+hour)
	require.Zero(t, u.wake, "a paused journey wakes nobody")
	u.event("signed_up", t0+2*day) // inside, and paused besides
	u.put(text("false"), t0+3*day)
	require.Equal(t, []string{
		"+0.0h enrollment_started j/", "+72.0h action_suppressed fresh expired", "+72.0h action_decided tip",
	}, u.story(schema.EnrollmentStarted, schema.ActionDecided, schema.ActionSuppressed))
	u.put(text("true"), t0+4*day)
	u.event("order", t0+5*day)      // what it waits for comes during the pause
	u.put(text("false"), t0+20*day) // long after the wait would have timed out
	require.Equal(t, []string{"+480.0h enrollment_ended j/end completed"}, u.story(schema.EnrollmentEnded))

	u = shopper(t, text("true"))
	u.event("signed_up", t0)
	require.Equal(t, "the journey is paused", u.state.Refused["j"].Why)
	require.Empty(t, u.state.Enrollments)
}

func TestMigration(t *testing.T) {
	t.Parallel()
	version := func(migrate, steps string) string {
		return "actions: {tip: {}}\njourneys:\n  j: {enter: {on: signed_up}, migrate: " + migrate + ", steps: " + steps + "}\n"
	}
	old := version("stay", "[{id: d, delay: 4d}, {id: old, action: tip}]")
	for _, c := range []struct {
		name, next string
		want       []string
	}{
		{"stay", version("stay", "[{id: d, delay: 10d}]"), []string{"+96.0h enrollment_ended j/old completed", "+96.0h action_decided tip"}},
		{"exit", version("exit", "[{id: d, delay: 4d}]"), []string{"+24.0h enrollment_ended j/d version_ended"}},
		{"move: a longer delay counts from its beginning", version("move", "[{id: d, delay: 6d}, {id: new, action: tip}]"), []string{"+144.0h enrollment_ended j/new completed", "+144.0h action_decided tip"}},
		{"move: a delay that is over by now", version("move", "[{id: d, delay: 12h}, {id: new, action: tip}]"), []string{"+24.0h enrollment_ended j/new completed", "+24.0h action_decided tip"}},
		{"move: mapped", version("{move: {d: w}}", "[{id: w, wait: {on: order, up_to: 2d, timeout: [{exit: late}]}}]"), []string{"+48.0h enrollment_ended j/w_timeout_1 late"}},
		{"move: to an action", version("{move: {d: new}}", "[{id: new, action: tip}]"), []string{"+24.0h enrollment_ended j/new completed", "+24.0h action_decided tip"}},
		{"move: the step is gone", version("move", "[{id: other, delay: 1d}]"), []string{"+24.0h enrollment_ended j/d step_removed"}},
		{"the journey is gone", "actions: {tip: {}}\n", []string{"+96.0h enrollment_ended j/old completed", "+96.0h action_decided tip"}},
	} {
		u := shopper(t, old)
		u.event("signed_up", t0)
		u.put(c.next, t0+day)
		u.until(t0 + 20*day)
		require.Equal(t, c.want, u.story(schema.ActionDecided, schema.EnrollmentEnded), c.name)
	}
}

func TestTheTrailTellsWhy(t *testing.T) {
	t.Parallel()
	u := shopper(t, `
actions: {tip: {}}
journeys:
  j:
    enter: {on: signed_up}
    steps:
      - id: way
        branch:
          - {when: traits.vip, steps: [{id: gold, action: tip}]}
          - {else: [{id: plain, wait: {on: order, up_to: 1d}}]}
      - {id: last, wait: {when: 'events("order").count() > 1', up_to: 1d}}
`)
	u.event("signed_up", t0, `{"vip":false}`)
	u.until(t0 + day)
	u.with("order", t0+day+hour, `{}`)
	u.with("order", t0+day+hour, `{}`)
	var why []string
	for _, m := range u.state.Passed["j"].Trail {
		why = append(why, m.Step+": "+m.Why)
	}
	require.Equal(t, []string{
		"way: event signed_up",
		"plain: no branch holds: traits.vip is false: traits.vip = false",
		"last: timed out after 1d",
		`last: ended: completed`,
	}, why)
	page := journey.Explain(u.books, &u.state)
	require.Contains(t, page, "plain: no branch holds: traits.vip is false")
}

// counterfactual returns what the holdout's exposure says.
func counterfactual(t *testing.T, u *user) string {
	t.Helper()
	for _, o := range u.log {
		if o.Kind == schema.ExposureRecorded && o.Experiment == playbook.HoldoutKey {
			var d map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(o.Details, &d))
			return string(d["counterfactual"])
		}
	}
	return ""
}

// TestThePageTellsTheWholeStory is what a support person reads in the Temporal UI.
func TestThePageTellsTheWholeStory(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	u := newUser(t, b, hash)
	u.event("signed_up", t0, `{"industry":"finance","company_size":40,"marketing_consent":true}`)
	u.event("feature_viewed", t0+hour)
	u.until(t0 + 5*day)
	page := journey.Explain(u.books, &u.state)
	for _, part := range []string{
		"### retention/answer",
		"**Next:** 2024-10-09 01:00:00.000 UTC — journey comeback leaves step response",
		"timed out after 1d",
		"checklist: send_checklist suppressed: frequency_cap",
		"✗ `did(\"profile_completed\")`",
		"to enter: no event until 2025-04-02 01:00 UTC",
		"holds until 2025-04-02 01:00:00.000 UTC",
	} {
		require.Contains(t, page, part)
	}
}
