package main

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

// TestBatches: batches reach a real workflow by update while a worker answers, by signal where none does or a moment is near, and each once.
func TestBatches(t *testing.T) {
	if testing.Short() {
		t.Skip("starts every server")
	}
	t.Parallel()
	l, err := startLocal(t.Context(), freePorts(), "", io.Discard, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(l.close)
	bundle, err := example(1)
	require.NoError(t, err)
	_, err = l.library.Publish(t.Context(), bundle)
	require.NoError(t, err)
	batches := ingest.NewBatches(l.temporal)
	token := schema.UserToken([]byte(embeddedKey), "ann")
	user := schema.JourneyStart{Version: schema.JourneyVersion, UserID: "ann", UserToken: token}
	sequence := uint64(0)
	send := func(name string, at time.Time) schema.Patience {
		sequence++
		patience, err := batches.Send(t.Context(), user, schema.EventBatch{Playbook: bundle.Hash(), Revision: 1, Events: []schema.UserEvent{{
			EventID: name, EventName: name, Sequence: sequence, OccurredAt: at.UnixMilli(), ReceivedAt: at.UnixMilli(), Lateness: schema.OnTime,
		}}})
		require.NoError(t, err)
		return patience
	}
	now := time.Now()
	require.Zero(t, send("signed_up", now), "no worker runs: the update gets no answer")
	began := time.Now()
	require.Zero(t, send("feature_viewed", now), "nor is the next tried")
	require.Less(t, time.Since(began), 3*time.Second)

	engine := l.engine
	done := make(chan error, 1)
	go func() { done <- engine.run(t.Context()) }()
	fresh := ingest.NewBatches(l.temporal) // as a process that starts now
	batches = fresh
	patience := send("profile_completed", time.Now())
	require.Equal(t, 8, patience.Events["feature_used"])
	require.NotContains(t, patience.Events, "onboarding_completed", "it is waited for")
	require.NotZero(t, patience.Until)

	counts := make(map[enumspb.EventType]int)
	history := l.temporal.GetWorkflowHistory(t.Context(), schema.WorkflowID(token), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		require.NoError(t, err)
		counts[event.GetEventType()]++
	}
	require.Equal(t, 2, counts[enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED])
	require.GreaterOrEqual(t, counts[enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED], 1)
	require.LessOrEqual(t, counts[enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED], 2, "the first may be taken late, when it was sent again")

	value, err := l.temporal.QueryWorkflow(t.Context(), schema.WorkflowID(token), "", schema.ProfileQuery.Name)
	require.NoError(t, err)
	var profile schema.Profile
	require.NoError(t, value.Get(&profile))
	require.Len(t, profile.Journeys, 1)
	require.Equal(t, "profile_completed", profile.LastEvent)
}
