package journey_test

import (
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
	for _, rule := range []string{"false", `events("a").within("2h").count() >= 9`} {
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
