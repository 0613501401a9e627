package outcome_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// TestLogsGiveEveryUserWhole, in order of record, each event once though the archive holds it more often.
func TestLogsGiveEveryUserWhole(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i := range 60 {
		user := fmt.Sprint("user-", i%3)
		for range 2 { // published twice
			publishEvent(t, js, "web", schema.Event{
				EventID: fmt.Sprint("e", i), EventName: "viewed", UserID: user, OccurredAt: now.Add(-time.Duration(i) * time.Minute),
				Properties: fmt.Appendf(nil, `{"i":%d}`, i), Traits: []byte(`{"plan":"pro"}`),
			})
		}
	}
	publishEvent(t, js, "web", schema.Event{EventID: "old", EventName: "viewed", UserID: "user-0", OccurredAt: now.Add(-100 * time.Hour)})
	_, stop := runSink(t, js, store, outcome.SinkConfig{MaxRows: 7})
	settled(t, js)
	stop()

	users, err := store.Users(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(3), users)
	got := make(map[string][]schema.UserEvent)
	for log, err := range store.Logs(t.Context(), "") {
		require.NoError(t, err)
		require.NotContains(t, got, log.UserToken, "a user comes once")
		got[log.UserToken] = log.Events
	}
	require.Len(t, got, 3)
	for user := range 3 {
		events := got[token(fmt.Sprint("user-", user))]
		require.Equal(t, fmt.Sprint("e", user), events[0].EventID)
		require.JSONEq(t, fmt.Sprintf(`{"i":%d}`, user), string(events[0].Properties))
		require.JSONEq(t, `{"plan":"pro"}`, string(events[0].Traits))
		require.Equal(t, now.Add(-time.Duration(user)*time.Minute).UnixMilli(), events[0].OccurredAt)
		require.GreaterOrEqual(t, events[0].ReceivedAt, now.UnixMilli())
		for i := range events[1:] {
			require.Greater(t, events[i+1].Sequence, events[i].Sequence)
		}
	}
	zero := got[token("user-0")]
	require.Len(t, zero, 21)
	require.Equal(t, schema.Historic, zero[20].Lateness)
	require.Equal(t, schema.Late, zero[19].Lateness)
	require.Empty(t, zero[20].Properties)

	for log, err := range store.Logs(t.Context(), token("user-1")) {
		require.NoError(t, err)
		require.Equal(t, outcome.UserLog{UserToken: token("user-1"), Events: got[token("user-1")]}, log)
	}
	for log, err := range store.Logs(t.Context(), "") { // whoever has seen enough may stop
		require.NoError(t, err)
		require.NotEmpty(t, log.Events)
		break
	}
	for range store.Logs(t.Context(), token("nobody")) {
		t.Fatal("nobody has no events")
	}
}

func TestPlaybooksOfAUser(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	h := history{base: time.Now().UTC().Truncate(time.Second)}
	for minute, version := range []string{"p1", "p1", "p2", "p1", "p3"} {
		h.add("ann", minute, schema.StepEntered, func(o *schema.Outcome) { o.Playbook = version })
	}
	h.add("bob", 1, schema.StepEntered, nil)
	for _, o := range h.outcomes {
		publishOutcome(t, js, o)
	}
	_, stop := runSink(t, js, store, outcome.SinkConfig{})
	settled(t, js)
	stop()
	list, err := store.Playbooks(t.Context(), token("ann"))
	require.NoError(t, err)
	at := func(minute int) int64 { return h.base.Add(time.Duration(minute) * time.Minute).UnixMilli() }
	require.Equal(t, []outcome.PlaybookSince{{Playbook: "p1", Since: at(0)}, {Playbook: "p2", Since: at(2)}, {Playbook: "p3", Since: at(4)}}, list)
	list, err = store.Playbooks(t.Context(), token("nobody"))
	require.NoError(t, err)
	require.Empty(t, list)
}
