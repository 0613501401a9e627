package journey_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// TestNobodyIsThereBeforeTheFirstEvent: rules are not asked about a user of whom nothing is known yet.
func TestNobodyIsThereBeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	b, hash := compile(t, `
name: x
events: {a: {}}
actions: {act: {}}
segments: {without: {when: '!did("a")'}}
journeys: {j: {enter: {segment: without}, steps: [{action: act}]}}
`)
	u := newUser(t, b, hash)
	u.event("a", t0)
	require.Empty(t, u.story(), "did the user not do it a moment ago?")
}

// TestGoalThatComesLate: an event counts by its own time, whatever else happened to the user before it came in.
func TestGoalThatComesLate(t *testing.T) {
	t.Parallel()
	for _, reminder := range []string{"1h", "30h"} { // whether time moves the user between the goal's window and the event
		b, hash := compile(t, `
name: x
events: {a: {}, b: {}}
actions: {act: {}}
segments: {quiet: {when: inactive_for("`+reminder+`")}}
journeys: {j: {enter: {on: a}, goal: {on: b, within: 2h}, steps: [{action: act}]}}
`)
		u := newUser(t, b, hash)
		u.event("a", t0)
		u.until(t0 + 24*hour)
		late := schema.UserEvent{EventID: "b", EventName: "b", Sequence: 9, OccurredAt: t0 + 2*hour, ReceivedAt: t0 + 24*hour, Lateness: schema.Late}
		u.next(journey.Input{Event: &late}, t0+24*hour)
		require.Len(t, u.story(schema.GoalConverted), 1, reminder)
	}
}

// TestBackfillDoesNotDependOnWhenRulesWereAsked: the moment of an event of the past follows from what happened, not from when
// time had some rule asked again to no effect.
func TestBackfillDoesNotDependOnWhenRulesWereAsked(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{`did("a") && false`, `events("a").within("2h").count() >= 9`} {
		b, hash := compile(t, `
name: x
events: {a: {}, b: {}}
segments: {other: {when: '`+rule+`'}, did_b: {when: did("b")}}
`)
		u := newUser(t, b, hash)
		u.event("a", t0)
		u.until(t0 + 100*hour)
		past := schema.UserEvent{EventID: "b", EventName: "b", Sequence: 9, OccurredAt: t0 - hour, ReceivedAt: t0 + 100*hour, Lateness: schema.Historic}
		u.next(journey.Input{Event: &past}, t0+100*hour)
		require.Equal(t, []string{"+0.0h segment_entered did_b"}, u.story(), rule)
	}
}

// TestMistypedValueIsNone: a property of another type than declared counts as absent, for `per` as for filters.
func TestMistypedValueIsNone(t *testing.T) {
	t.Parallel()
	u := shopper(t, abandoned)
	u.with("cart", t0, `{"order_id": 7, "total": 20}`)
	require.Empty(t, u.story(schema.EnrollmentStarted))
	u.with("cart", t0, `{"order_id": "7", "total": 20}`)
	require.Len(t, u.story(schema.EnrollmentStarted), 1)
}

const paused = `
actions: {act: {}}
journeys:
  held:
    paused: true
    enter: {on: signed_up}
    steps: [{id: first, wait: {on: cart, up_to: 5h, timeout: [{exit: late}]}}, {id: second, action: act, expire: 2h}]
`

// TestPauseKeepsTheOrder: an event that came when the wait was over already does not count when the journey goes on.
func TestPauseKeepsTheOrder(t *testing.T) {
	t.Parallel()
	for at, want := range map[int64]string{ // of the event waited for
		4 * hour: "completed",
		5 * hour: "late",
	} {
		running := strings.Replace(paused, "paused: true", "", 1)
		u := shopper(t, running)
		u.event("signed_up", t0)
		u.put(paused, t0+hour)
		u.until(t0 + at)
		u.event("cart", t0+at)
		u.put(running+" \n", t0+9*hour)
		ended := u.log[len(u.log)-1]
		if ended.Kind == schema.ActionSuppressed {
			require.Equal(t, "expired", ended.Reason, "it should have been sent five hours ago")
			ended = u.log[len(u.log)-2]
		}
		require.Equal(t, want, ended.Reason)
	}
}

// TestPauseMakesNobodyElseLate: what is overdue in a paused journey does not make the actions of another look stale.
func TestPauseMakesNobodyElseLate(t *testing.T) {
	t.Parallel()
	other := `
  other:
    enter: {on: order}
    steps: [{action: act, expire: 2h}]
`
	u := shopper(t, strings.Replace(paused, "paused: true", "", 1)+other)
	u.event("signed_up", t0)
	u.put(paused+other, t0+hour)
	u.event("order", t0+40*hour)
	require.Equal(t, []string{"+40.0h action_decided act"}, u.story(schema.ActionDecided, schema.ActionSuppressed))
}

// TestMoveToAnActionOfTheSameName: who waited at a step that is an action in the new version reaches it at once.
func TestMoveToAnActionOfTheSameName(t *testing.T) {
	t.Parallel()
	old := `
actions: {act: {}}
journeys: {j: {enter: {on: cart}, steps: [{id: one, delay: 5h}]}}
`
	u := shopper(t, old)
	u.event("cart", t0)
	u.put(strings.Replace(strings.Replace(old, "delay: 5h", "action: act", 1), "steps:", "migrate: move, steps:", 1), t0+hour)
	require.Equal(t, []string{"+1.0h action_decided act"}, u.story(schema.ActionDecided))
}

// TestOneAtATimeWhenPerIsGone: a journey that was entered per value and no longer is lets nobody in who is inside for a value.
func TestOneAtATimeWhenPerIsGone(t *testing.T) {
	t.Parallel()
	per := `
journeys: {j: {enter: {on: cart, per: order_id}, steps: [{delay: 50h}]}}
`
	u := shopper(t, per)
	u.with("cart", t0, `{"order_id": "x"}`)
	u.put(strings.Replace(per, ", per: order_id", "", 1), t0+hour)
	u.with("cart", t0+2*hour, `{"order_id": "y"}`)
	require.Len(t, u.story(schema.EnrollmentStarted), 1)
}

// TestBackfillOfALiveUser: what timers did before an event of the past was received is the same where a log is folded without them.
func TestBackfillOfALiveUser(t *testing.T) {
	t.Parallel()
	b, hash := compile(t, `
name: x
events: {a: {}, b: {}}
actions: {act: {}}
segments: {busy: {when: did("b")}}
journeys: {j: {enter: {on: a}, steps: [{delay: 1h}, {branch: [{segment: busy, steps: [{exit: busy}]}, {else: [{exit: free}]}]}]}}
`)
	past := schema.UserEvent{EventID: "b", EventName: "b", Sequence: 9, OccurredAt: t0 - 100*hour, ReceivedAt: t0 + 2*hour, Lateness: schema.Historic}
	live := newUser(t, b, hash)
	live.event("a", t0)
	live.until(t0 + 2*hour)
	live.next(journey.Input{Event: &past}, t0+2*hour)
	folded := newUser(t, b, hash)
	folded.event("a", t0)
	folded.next(journey.Input{Event: &past}, t0+2*hour)
	require.Equal(t, []string{"+1.0h enrollment_ended j/s2_2_1 free"}, live.story(schema.EnrollmentEnded))
	require.Equal(t, live.story(), folded.story())
	require.Equal(t, live.state, folded.state)
}

// TestWhatNothingReadsChangesNothing: ingest passes on what any version reads; a user is touched by what their own versions read.
func TestWhatNothingReadsChangesNothing(t *testing.T) {
	t.Parallel()
	version := func(steps string) string {
		return "name: x\nevents: {a: {}, b: {}, c: {}}\nactions: {act: {}}\njourneys: {j: {enter: {on: a}, steps: [" + steps + "]}}\n"
	}
	b, hash := compile(t, version("{wait: {on: b, up_to: 9d, timeout: [{exit: late}]}}, {exit: seen}"))
	u := newUser(t, b, hash)
	u.event("a", t0)
	before := u.state
	u.event("c", t0+hour)
	require.Equal(t, before, u.state)
	more, next := compile(t, version("{delay: 1h}"))
	b[next] = more[next]
	u.hash, u.revision = next, 2
	u.event("b", t0+2*hour) // the new version does not read it; the one the user is inside does
	require.Equal(t, []string{"+2.0h enrollment_ended j/s2 seen"}, u.story(schema.EnrollmentEnded))
	u.event("b", t0+3*hour)
	require.EqualValues(t, 2, u.state.Counts.Applied)
}

// TestYearsBetweenTwoEvents: whatever was due in between happens first, each at its own moment, however much it is.
func TestYearsBetweenTwoEvents(t *testing.T) {
	t.Parallel()
	u := shopper(t, `
  daytime: {when: 'local_time("09:00", "17:00")'}
  reads: {when: 'did("cart") && false'}
`)
	const years = 1100 // days
	for i, at := range []int64{t0, t0 + years*day} {
		event := schema.UserEvent{
			EventID: strconv.Itoa(i), EventName: "cart", Sequence: uint64(i + 1), OccurredAt: at, ReceivedAt: t0 + 2000*day, Lateness: schema.Historic,
		}
		u.next(journey.Input{Event: &event}, event.ReceivedAt)
	}
	require.Equal(t, 2*years, len(u.log)) //nolint:testifylint // a list of two thousand outcomes says less
	for i, o := range u.log {
		require.Equal(t, t0+int64(i/2)*day+(9+int64(i%2)*8)*hour, o.At)
	}
}

// TestMistypedEntryPropertyIsNotFilledIn: what counts as absent in filters is not sent to a receiver either.
func TestMistypedEntryPropertyIsNotFilledIn(t *testing.T) {
	t.Parallel()
	u := shopper(t, `
actions: {act: {}}
journeys: {j: {enter: {on: cart}, reentry: after_exit, steps: [{action: act, with: {order: "${same.order_id}"}}]}}
`)
	u.with("cart", t0, `{"order_id": 7}`)
	u.with("cart", t0+1, `{"order_id": "7"}`)
	require.Nil(t, u.actions[0].Properties["order"])
	require.Equal(t, "7", u.actions[1].Properties["order"])
}

// TestAnEditElsewhereEndsNobody: migrate: exit is about the journey, not about every comment in the playbook.
func TestAnEditElsewhereEndsNobody(t *testing.T) {
	t.Parallel()
	text := func(tip, journey string) string {
		return "actions: {tip: {description: " + tip + "}}\njourneys:\n  j: {enter: {on: signed_up}, migrate: exit, " + journey + "}\n"
	}
	u := shopper(t, text("a tip", "steps: [{id: d, delay: 4d}, {id: e, action: tip}]"))
	u.event("signed_up", t0)
	u.put(text("a hint", "priority: 3, steps: [{id: d, delay: 4d}, {id: e, action: tip}]"), t0+day)
	require.Empty(t, u.story(schema.EnrollmentEnded))
	u.put(text("a hint", "priority: 3, steps: [{id: d, delay: 5d}, {id: e, action: tip}]"), t0+2*day)
	require.Equal(t, []string{"+48.0h enrollment_ended j/d version_ended"}, u.story(schema.EnrollmentEnded))
}

// TestTwiceAtOneMoment: what enters a segment, leaves it and enters it again at one moment of record enters it twice on record, whoever
// moved it: time, an event that came late, a playbook.
func TestTwiceAtOneMoment(t *testing.T) {
	t.Parallel()
	text := func(rule string) string {
		return "name: x\nevents: {a: {}, b: {}}\nsegments: {quiet: {when: '" + rule + "'}, kept: {when: 'did(\"b\") && false'}}\n"
	}
	b, hash := compile(t, text(`inactive_for("1h")`))
	u := newUser(t, b, hash)
	u.event("a", t0)
	u.until(t0 + hour)
	u.event("b", t0+hour)
	more, hash := compile(t, text(`did("b")`))
	u.books[hash], u.hash = more[hash], hash
	u.revision++
	u.next(journey.Input{}, t0+hour)
	require.Equal(t, []string{"+1.0h segment_entered quiet", "+1.0h segment_left quiet", "+1.0h segment_entered quiet"}, u.story())
	ids := make(map[string]bool)
	for _, o := range u.log {
		require.False(t, ids[o.OutcomeID], "two outcomes under one id: the second would be lost")
		ids[o.OutcomeID] = true
	}
}
