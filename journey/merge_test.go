package journey_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// linking is an event that joins somebody to the user.
func linking(seq uint64, at int64, from string) schema.UserEvent {
	return schema.UserEvent{
		EventID: fmt.Sprint("e", seq), EventName: "identify", Sequence: seq, OccurredAt: at, ReceivedAt: at, Lateness: schema.OnTime, From: from,
	}
}

// become ends visitor by an event and merges them into u, as the two workflows do.
func (u *user) become(visitor *user, event *schema.UserEvent) {
	u.until(event.ReceivedAt)
	visitor.until(event.ReceivedAt)
	state, decision := journey.HandOver(u.books, visitor.state, schema.HandOverRequest{
		From: visitor.state.Token, Into: u.state.Token, Playbook: u.hash, Revision: u.revision, Event: *event,
	}, event.ReceivedAt)
	visitor.log = append(visitor.log, decision.Outcomes...)
	raw, err := journey.EncodeState(&state)
	require.NoError(u.t, err)
	visitor.state = state
	taken, err := journey.DecodeState(raw, visitor.state.Token)
	require.NoError(u.t, err)
	u.next(journey.Input{Event: event, Taken: &taken}, event.ReceivedAt)
}

func TestVisitorsJourneyGoesOn(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	visitor, ann := newUser(t, b, hash), newUser(t, b, hash)
	visitor.state.Token = "u_visitor"
	visitor.event("signed_up", t0, `{"industry":"finance","marketing_consent":true}`)
	visitor.event("feature_viewed", t0+hour)
	link := linking(3, t0+2*hour, "u_visitor")
	ann.become(visitor, &link)
	ann.seq = 3
	require.Equal(t, "onboarding/profile", ann.state.Stage(b))
	require.Equal(t, []string{"+0.0h segment_entered new_user", "+2.0h segment_left new_user"}, visitor.story(schema.SegmentEntered, schema.SegmentLeft))
	require.Equal(t, []string{"+2.0h user_merged /", "+2.0h segment_entered new_user"}, ann.story())
	require.Equal(t, visitor.state.Assigned["onboarding_flow"].Variant, ann.state.Assigned["onboarding_flow"].Variant)
	require.Equal(t, "u_visitor", ann.state.Assigned["onboarding_flow"].Under)
	require.Zero(t, journey.WakeAt(&visitor.state), "nothing is due for the visitor any more")
	profile := journey.Profile(b, &visitor.state)
	require.Equal(t, "u_test", profile.MergedInto)
	require.Empty(t, profile.Segments)

	ann.event("profile_completed", t0+3*hour)
	ann.until(t0 + 4*day)
	require.Equal(t, "u_test", ann.log[len(ann.log)-1].UserToken)
	require.Contains(t, ann.story(), "+3.0h step_entered onboarding/completion")
	started := 0
	for _, o := range slices.Concat(visitor.log, ann.log) {
		if o.Kind == schema.EnrollmentStarted && o.Journey == "onboarding" {
			started++
		}
	}
	require.Equal(t, 1, started)

	before, err := json.Marshal(ann.state)
	require.NoError(t, err)
	again := visitor.state
	ann.next(journey.Input{Event: &link, Taken: &again}, t0+4*day)
	ann.state.Counts.Redelivered = 0
	after, err := json.Marshal(ann.state)
	require.NoError(t, err)
	require.JSONEq(t, string(before), string(after), "once is enough")
}

// TestEarlierEnrollmentGoesOn: both are inside one journey. The earlier passage is the one that goes on, and the goal counts once.
func TestEarlierEnrollmentGoesOn(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	for _, visitorFirst := range []bool{true, false} {
		visitor, ann := newUser(t, b, hash), newUser(t, b, hash)
		visitor.state.Token = "u_visitor"
		first, second := visitor, ann
		if !visitorFirst {
			first, second = ann, visitor
		}
		first.event("signed_up", t0)
		second.seq = 1
		second.event("signed_up", t0+hour)
		link := linking(3, t0+2*hour, "u_visitor")
		ann.become(visitor, &link)
		ann.seq = 3
		require.Equal(t, []string{"+2.0h enrollment_ended onboarding/profile merged"}, ann.story(schema.EnrollmentEnded))
		open := slices.DeleteFunc(slices.Clone(ann.state.Enrollments), func(e *journey.Enrollment) bool { return e.Ended != "" })
		require.Len(t, open, 1)
		require.Equal(t, t0, open[0].StartedAt)
		ann.event("activated", t0+3*hour)
		require.Len(t, ann.story(schema.GoalConverted), 1)
		require.Len(t, ann.state.Assigned, 1)
		require.Equal(t, t0, ann.state.Assigned["onboarding_flow"].ExposedAt, "the earlier assignment stays")

		// A flag goes on dealing the variant that it dealt to whoever of the two came first.
		profile := journey.Profile(b, &ann.state)
		x := b.Playbook(hash).Experiments["onboarding_flow"]
		want, ok := journey.FlagVariant(b.Playbook(hash), x, &schema.Profile{UserToken: first.state.Token})
		require.True(t, ok)
		dealt, ok := journey.FlagVariant(b.Playbook(hash), x, &profile)
		require.True(t, ok)
		require.Equal(t, want.Bucket, dealt.Bucket) //nolint:testifylint // the same hash or another
		require.Equal(t, visitorFirst, profile.Unit == "u_visitor")
	}
}

// TestMergeOfNobody: of somebody of whom no event was read there is nothing to take over, and the merge is on record all the same.
func TestMergeOfNobody(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	u := newUser(t, b, hash)
	link := linking(1, t0, "u_visitor")
	u.next(journey.Input{Event: &link, Taken: &journey.State{Token: "u_visitor"}}, t0)
	require.Equal(t, []string{"+0.0h user_merged /"}, u.story())
	require.JSONEq(t, `{"from":"u_visitor","tokens":["u_visitor"]}`, string(u.log[0].Details))
	require.True(t, u.state.HasMerged("u_visitor"))
	u.seq = 1
	u.event("signed_up", t0+hour)
	require.Equal(t, "onboarding/profile", u.state.Stage(b))
}

// TestMergeIsTheFoldOfBothLogs: whoever the events of one log were of before the link, and whatever comes of either after it, what is known
// at the end is what the fold of the one log knows, and the user is in the same segments. Enrollments are not compared: when a rule becomes
// true depends on what is known by then.
func TestMergeIsTheFoldOfBothLogs(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	names := []string{"signed_up", "profile_completed", "feature_viewed", "feature_used", "onboarding_completed", "activated"}
	rapid.Check(t, func(rt *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 5))
		n := rapid.IntRange(0, 30).Draw(rt, "events")
		link := rapid.IntRange(0, n).Draw(rt, "link")
		visitor, ann, one := newUser(t, b, hash), newUser(t, b, hash), newUser(t, b, hash)
		visitor.state.Token = "u_visitor"
		at := t0
		for i := range n {
			at += random.Int64N(30 * hour)
			seq := uint64(i + 1)
			e := schema.UserEvent{
				EventID: fmt.Sprint("x", seq), EventName: names[random.IntN(len(names))], Sequence: seq, OccurredAt: at - random.Int64N(2*hour),
				ReceivedAt: at, Lateness: schema.OnTime,
			}
			if random.IntN(4) == 0 {
				e.Traits = fmt.Appendf(nil, `{"company_size":%d,"industry":%q}`, random.IntN(90), []string{"finance", "health"}[random.IntN(2)])
			}
			if i == link {
				event := linking(seq, at, "u_visitor")
				event.EventID = e.EventID
				ann.become(visitor, &event)
				one.until(at)
				continue
			}
			who := ann
			if i < link && random.IntN(2) == 0 {
				who = visitor
			}
			for _, u := range []*user{who, one} {
				u.until(at)
				u.next(journey.Input{Event: &e}, at)
			}
		}
		if link >= n {
			event := linking(uint64(n+1), at, "u_visitor")
			ann.become(visitor, &event)
		}
		end := at + 20*day
		ann.until(end)
		one.until(end)
		want, err := json.Marshal(one.state.Facts)
		require.NoError(rt, err)
		got, err := json.Marshal(ann.state.Facts)
		require.NoError(rt, err)
		require.JSONEq(rt, string(want), string(got))
		if one.state.Facts.FirstSeen == 0 {
			return
		}
		for key, m := range one.state.Members {
			require.Equal(rt, m.In, ann.state.Members[key].In, key)
			require.Equal(rt, m.Known, ann.state.Members[key].Known, key)
		}
	})
}
