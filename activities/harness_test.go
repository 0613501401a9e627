package activities_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.LeakOptions()...) }

var clock = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func now() time.Time { return clock }

// streams makes the streams that activities write to, as ingest makes them.
func streams(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	for _, cfg := range []jetstream.StreamConfig{
		{Name: schema.ActionsStream, Subjects: []string{schema.ActionsSubjects}, Discard: jetstream.DiscardNew},
		{Name: schema.OutcomesStream, Subjects: []string{schema.OutcomesSubjects}, Discard: jetstream.DiscardNew},
		{Name: schema.ProfilesStream, Subjects: []string{schema.ProfilesSubjects}, MaxMsgsPerSubject: 1},
	} {
		_, err := js.CreateStream(t.Context(), cfg)
		require.NoError(t, err)
	}
}

func messages(t *testing.T, js jetstream.JetStream, name string) []*jetstream.RawStreamMsg {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	require.NoError(t, err)
	state := stream.CachedInfo().State
	all := make([]*jetstream.RawStreamMsg, 0, state.Msgs)
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		message, err := stream.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		all = append(all, message)
	}
	return all
}

// environment runs activities as a worker does.
func environment(t *testing.T, registered ...any) *testsuite.TestActivityEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	for _, a := range registered {
		env.RegisterActivity(a)
	}
	return env
}

// failure asserts the class of a failed activity: its code, whether Temporal tries again and after how long.
func failure(t *testing.T, err error, code schema.Code, retryable bool, after time.Duration) *temporal.ApplicationError {
	t.Helper()
	var failed *temporal.ApplicationError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, string(code), failed.Type(), err)
	require.Equal(t, retryable, !failed.NonRetryable(), err)
	require.Equal(t, after, failed.NextRetryDelay(), err)
	require.Equal(t, string(code), activities.Reason(err))
	return failed
}

func input(webhook string) schema.DeliverInput {
	return schema.DeliverInput{
		Request: schema.ActionRequest{
			ActionID: "a1", Action: "send_tutorial", UserID: "Ada", UserToken: "u1", Journey: "onboarding", JourneyVersion: "abc",
			EnrollmentID: "e1", StepKey: "s1", DecidedAt: clock.Add(-time.Minute).UnixMilli(), Segments: []string{"new_user"},
			Properties: map[string]any{"tutorial": "<start>", "n": 1, "a": true}, Traits: map[string]any{"industry": "finance", "size": 5},
		},
		Webhook: webhook,
		Delivered: schema.Outcome{
			OutcomeID: "o1", Kind: schema.ActionDelivered, UserToken: "u1", At: clock.UnixMilli(), Playbook: "abc", ActionID: "a1",
		},
	}
}
