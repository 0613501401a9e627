package activities_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

func TestDeliverActionOverNATS(t *testing.T) {
	t.Parallel()
	t.Run("twice is once", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		streams(t, js)
		delivery := activities.NewDelivery(js, nil, now)
		env := environment(t, delivery)
		in := input("")
		for range 2 {
			value, err := env.ExecuteActivity(delivery.DeliverAction, in)
			require.NoError(t, err)
			var result schema.DeliverResult
			require.NoError(t, value.Get(&result))
			require.Equal(t, schema.DeliverResult{Attempts: 1}, result)
		}
		actions := messages(t, js, schema.ActionsStream)
		require.Len(t, actions, 1)
		require.Equal(t, "onramp.actions.send_tutorial", actions[0].Subject)
		require.Equal(t, "a1", actions[0].Header.Get(jetstream.MsgIDHeader))
		var got schema.ActionRequest
		require.NoError(t, json.Unmarshal(actions[0].Data, &got))
		require.Equal(t, in.Request.DecidedAt, got.DecidedAt)
		want, err := json.Marshal(in.Request)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(actions[0].Data))

		outcomes := messages(t, js, schema.OutcomesStream)
		require.Len(t, outcomes, 1)
		require.Equal(t, "onramp.outcomes.action_delivered", outcomes[0].Subject)
		require.Equal(t, "o1", outcomes[0].Header.Get(jetstream.MsgIDHeader))
		var outcome schema.Outcome
		require.NoError(t, json.Unmarshal(outcomes[0].Data, &outcome))
		require.Equal(t, clock.UnixMilli(), outcome.RecordedAt)
		in.Delivered.RecordedAt = clock.UnixMilli()
		require.Equal(t, in.Delivered, outcome)
	})
	t.Run("nobody stores it: unavailable, and nothing is recorded", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		streams(t, js)
		require.NoError(t, js.DeleteStream(t.Context(), schema.ActionsStream))
		delivery := activities.NewDelivery(js, nil, now)
		_, err := environment(t, delivery).ExecuteActivity(delivery.DeliverAction, input(""))
		failure(t, err, schema.CodeUnavailable, true, 0)
		require.Empty(t, messages(t, js, schema.OutcomesStream))
	})
	t.Run("delivered but not recorded: tried again, and the receiver sees it once", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		streams(t, js)
		outcomes, err := js.Stream(t.Context(), schema.OutcomesStream)
		require.NoError(t, err)
		cfg := outcomes.CachedInfo().Config
		require.NoError(t, js.DeleteStream(t.Context(), schema.OutcomesStream))
		delivery := activities.NewDelivery(js, nil, now)
		env := environment(t, delivery)
		_, err = env.ExecuteActivity(delivery.DeliverAction, input(""))
		failure(t, err, schema.CodeUnavailable, true, 0)
		_, err = js.CreateStream(t.Context(), cfg)
		require.NoError(t, err)
		_, err = env.ExecuteActivity(delivery.DeliverAction, input(""))
		require.NoError(t, err)
		require.Len(t, messages(t, js, schema.ActionsStream), 1)
		require.Len(t, messages(t, js, schema.OutcomesStream), 1)
	})
	t.Run("what is no JSON is invalid", func(t *testing.T) {
		t.Parallel()
		delivery := activities.NewDelivery(nil, nil, now)
		in := input("")
		in.Request.Properties = map[string]any{"c": make(chan int)}
		_, err := delivery.DeliverAction(t.Context(), in)
		failure(t, err, schema.CodeInvalid, false, 0)
	})
}

func commit() schema.CommitInput {
	return schema.CommitInput{
		Outcomes: []schema.Outcome{
			{OutcomeID: "o1", Kind: schema.SegmentEntered, UserToken: "u1", At: 1, Playbook: "abc", Segment: "new_user"},
			{OutcomeID: "o2", Kind: schema.EnrollmentStarted, UserToken: "u1", At: 1, Playbook: "abc", Journey: "onboarding"},
		},
		Profile: schema.Profile{UserToken: "u1", Sequence: 3, Stage: "onboarding", Playbook: "abc"},
	}
}

func TestCommitDecision(t *testing.T) {
	t.Parallel()
	t.Run("outcomes and profile, twice is once", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		streams(t, js)
		record := activities.NewRecord(js, now)
		env := environment(t, record)
		for range 2 {
			value, err := env.ExecuteLocalActivity(record.CommitDecision, commit())
			require.NoError(t, err)
			var result schema.CommitResult
			require.NoError(t, value.Get(&result))
			require.Equal(t, schema.CommitResult{Outcomes: 2}, result)
		}
		outcomes := messages(t, js, schema.OutcomesStream)
		require.Len(t, outcomes, 2)
		for i, message := range outcomes {
			want := commit().Outcomes[i]
			want.RecordedAt = clock.UnixMilli()
			require.Equal(t, schema.OutcomeSubject(want.Kind), message.Subject)
			require.Equal(t, want.OutcomeID, message.Header.Get(jetstream.MsgIDHeader))
			var got schema.Outcome
			require.NoError(t, json.Unmarshal(message.Data, &got))
			require.Equal(t, want, got)
		}
		profiles := messages(t, js, schema.ProfilesStream)
		require.Len(t, profiles, 1)
		require.Equal(t, schema.ProfileSubject("u1"), profiles[0].Subject)
		var profile schema.Profile
		require.NoError(t, json.Unmarshal(profiles[0].Data, &profile))
		require.Equal(t, commit().Profile, profile)
	})
	t.Run("who had no profile points to whom they became", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		streams(t, js)
		in := commit()
		in.Merged = []string{"u0"}
		_, err := activities.NewRecord(js, now).CommitDecision(t.Context(), in)
		require.NoError(t, err)
		profiles := messages(t, js, schema.ProfilesStream)
		require.Len(t, profiles, 2)
		require.Equal(t, schema.ProfileSubject("u0"), profiles[1].Subject)
		var pointer schema.Profile
		require.NoError(t, json.Unmarshal(profiles[1].Data, &pointer))
		require.Equal(t, "u1", pointer.MergedInto)
		require.Equal(t, "u0", pointer.UserToken)
		require.Zero(t, pointer.Sequence, "whatever comes of them otherwise is newer")
	})
	t.Run("nothing decided still publishes the profile", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		streams(t, js)
		in := commit()
		in.Outcomes = nil
		result, err := activities.NewRecord(js, now).CommitDecision(t.Context(), in)
		require.NoError(t, err)
		require.Zero(t, result.Outcomes)
		require.Len(t, messages(t, js, schema.ProfilesStream), 1)
	})
	t.Run("no streams", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		record := activities.NewRecord(js, now)
		_, err := environment(t, record).ExecuteActivity(record.CommitDecision, commit())
		failure(t, err, schema.CodeUnavailable, true, 0)
	})
	t.Run("a full stream", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		streams(t, js)
		outcomes, err := js.Stream(t.Context(), schema.OutcomesStream)
		require.NoError(t, err)
		cfg := outcomes.CachedInfo().Config
		cfg.MaxMsgs = 1
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
		record := activities.NewRecord(js, now)
		_, err = environment(t, record).ExecuteActivity(record.CommitDecision, commit())
		failure(t, err, schema.CodeUnavailable, true, 0)
		require.Empty(t, messages(t, js, schema.ProfilesStream)) // the profile never runs ahead of the outcomes
	})
	t.Run("the server is away", func(t *testing.T) {
		t.Parallel()
		srv := testenv.NewBroker(t)
		js := srv.Connect(t)
		streams(t, js)
		srv.Stop()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := activities.NewRecord(js, now).CommitDecision(ctx, commit())
		failure(t, err, schema.CodeUnavailable, true, 0)
	})
	t.Run("the connection is closed", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		js.Conn().Close()
		_, err := activities.NewRecord(js, now).CommitDecision(t.Context(), commit())
		failure(t, err, schema.CodeUnavailable, true, 0)
	})
}

// TestOutcomesKeepTheirOrder: what was to be said while NATS was away is said again by the next attempt, and not by the connection when it is back:
// the end of a decision would stand before its beginning, whose messages were lost with the connection.
func TestOutcomesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	srv := testenv.NewBroker(t)
	js := srv.Connect(t)
	streams(t, js)
	record := activities.NewRecord(js, now)
	srv.Stop()
	require.Eventually(t, js.Conn().IsReconnecting, testenv.Patience, testenv.Poll)
	late := commit()
	late.Outcomes = late.Outcomes[1:]
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := record.CommitDecision(ctx, late)
	failure(t, err, schema.CodeUnavailable, true, 0)
	srv.Start(t)
	require.Eventually(t, js.Conn().IsConnected, testenv.Patience, testenv.Poll)
	_, err = record.CommitDecision(t.Context(), commit())
	require.NoError(t, err)
	outcomes := messages(t, js, schema.OutcomesStream)
	require.Len(t, outcomes, 2)
	require.Equal(t, "o1", outcomes[0].Header.Get(jetstream.MsgIDHeader))
	require.Equal(t, "o2", outcomes[1].Header.Get(jetstream.MsgIDHeader))
}

// TestLateProfile: of a worker that died, slept or lost its task, a profile can still come when another worker has gone on with the user.
func TestLateProfile(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	streams(t, js)
	one, other := activities.NewRecord(js, now), activities.NewRecord(js, now)
	commits := func(r *activities.Record, sequence uint64, updated int64, outcomes int) (newest uint64) {
		in := commit()
		in.Profile.Sequence, in.Profile.UpdatedAt, in.Outcomes = sequence, updated, in.Outcomes[:outcomes]
		_, err := r.CommitDecision(t.Context(), in)
		require.NoError(t, err)
		profiles := messages(t, js, schema.ProfilesStream)
		require.Len(t, profiles, 1)
		var profile schema.Profile
		require.NoError(t, json.Unmarshal(profiles[0].Data, &profile))
		return profile.Sequence
	}
	for _, c := range []struct {
		why      string
		worker   *activities.Record
		sequence uint64
		updated  int64
		outcomes int
		newest   uint64
	}{
		{"the first there is", one, 2, 100, 2, 2},
		{"a worker that knows nothing of the user", other, 4, 200, 2, 4},
		{"and one that does", other, 5, 300, 1, 5},
		{"the first worker wakes up: its profile is older", one, 3, 150, 1, 5},
		{"or is the user's first", activities.NewRecord(js, now), 2, 100, 2, 5},
		{"the same once more", one, 5, 300, 1, 5},
		{"it goes on with the user", one, 6, 300, 1, 6},
		{"whose workflow was ended and begins anew has a younger one, of fewer outcomes", other, 1, 400, 1, 1},
	} {
		require.Equal(t, c.newest, commits(c.worker, c.sequence, c.updated, c.outcomes), c.why)
	}
	_, err := js.Publish(t.Context(), schema.ProfileSubject("u1"), nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, commits(one, 1, 50, 1), "who was erased has none")
}

func TestReasonOfAStranger(t *testing.T) {
	t.Parallel()
	require.Equal(t, "internal", activities.Reason(context.Canceled))
}
