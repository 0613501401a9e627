package activities_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// TestMeters: every attempt is told with its result, every outcome on record with its kind, and how late it is.
func TestMeters(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	streams(t, js)
	attempts, kinds := make(map[string]int), make(map[schema.OutcomeKind]int)
	var latencies, commits []float64
	var webhooks []bool
	meters := activities.Meters{
		Commit:  func(s float64) { commits = append(commits, s) },
		Outcome: func(k schema.OutcomeKind) { kinds[k]++ },
		Latency: func(s float64) { latencies = append(latencies, s) },
		Action:  func(action, result string) { attempts[action+" "+result]++ },
		Deliver: func(webhook bool, _ float64) { webhooks = append(webhooks, webhook) },
	}
	delivery, record := activities.NewDelivery(js, nil, now), activities.NewRecord(js, now)
	delivery.Meters, record.Meters = meters, meters
	env := environment(t, delivery, record)

	_, err := env.ExecuteActivity(record.CommitDecision, schema.CommitInput{Outcomes: []schema.Outcome{
		{OutcomeID: "o1", Kind: schema.SegmentEntered, UserToken: "u1", CauseReceivedAt: clock.Add(-2 * time.Second).UnixMilli()},
		{OutcomeID: "o2", Kind: schema.SegmentEntered, UserToken: "u1"}, // time alone
	}, Profile: schema.Profile{UserToken: "u1"}})
	require.NoError(t, err)
	require.Equal(t, []float64{2}, latencies)
	require.Len(t, commits, 1)

	_, err = env.ExecuteActivity(delivery.DeliverAction, input(""))
	require.NoError(t, err)
	_, err = env.ExecuteActivity(delivery.DeliverAction, input("nobody"))
	require.Error(t, err)
	require.NoError(t, js.DeleteStream(t.Context(), schema.ActionsStream))
	_, err = env.ExecuteActivity(delivery.DeliverAction, input(""))
	require.Error(t, err)
	require.Equal(t, map[string]int{"send_tutorial delivered": 1, "send_tutorial refused": 1, "send_tutorial retried": 1}, attempts)
	require.Len(t, kinds, 2)
	require.Equal(t, 2, kinds[schema.SegmentEntered])
	require.Equal(t, 1, kinds[schema.ActionDelivered])
	require.Equal(t, []bool{false, true, false}, webhooks)

	require.NoError(t, js.DeleteStream(t.Context(), schema.OutcomesStream))
	_, err = env.ExecuteActivity(record.CommitDecision, schema.CommitInput{Outcomes: []schema.Outcome{{OutcomeID: "o3", Kind: schema.SegmentLeft, UserToken: "u1"}}})
	require.Error(t, err)
	require.NotContains(t, kinds, schema.SegmentLeft, "what is not on record is not counted")
}
