package outcome_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// TestLedger: what a judge reads is what analysts see, user by user and in order; copies are counted apart.
func TestLedger(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	token := func(user string) string { return schema.UserToken(workspaceKey, user) }
	publishEvent(t, js, "web", schema.Event{EventID: "e1", EventName: "used", UserID: "ann", Properties: []byte(`{"n": 1}`)})
	publishEvent(t, js, "web", schema.Event{EventID: "e1", EventName: "used", UserID: "ann"})
	publishEvent(t, js, "web", schema.Event{EventID: "e2", EventName: "used", UserID: "bob"})
	publishRaw(t, js, schema.DeadLetterSubject(schema.ReasonFuture), []byte("x"))
	o := schema.Outcome{
		OutcomeID: "o1", Kind: schema.ActionSuppressed, UserToken: token("ann"), At: 1000, RecordedAt: 1001, CauseEventID: "e1", Playbook: "p",
		Journey: "j", StepKey: "s", Action: "a", ActionID: "a1", Segment: "g", Experiment: "x", Goal: "o", Reason: "expired",
	}
	publishOutcome(t, js, o)
	_, stop := runSink(t, js, store, outcome.SinkConfig{})
	settled(t, js)
	stop()

	archive := func(from, to string) (all []string) {
		for a, err := range store.Archive(t.Context(), from, to) {
			require.NoError(t, err)
			all = append(all, a.EventID+" "+a.UserToken+" "+string(a.Properties))
		}
		return all
	}
	first, second := "e1 "+token("ann")+` {"n":1}`, "e2 "+token("bob")+" "
	if token("bob") < token("ann") {
		first, second = second, first
	}
	require.Equal(t, []string{first, second}, archive("u", "v"))
	require.Equal(t, []string{"e1 " + token("ann") + ` {"n":1}`}, archive(token("ann"), token("ann")+"~"))
	require.Empty(t, archive("v", "w"))

	var recorded []outcome.Recorded
	for r, err := range store.Outcomes(t.Context(), "u", "v") {
		require.NoError(t, err)
		recorded = append(recorded, r)
	}
	require.Equal(t, []outcome.Recorded{{Outcome: o, Sequence: 1}}, recorded)
	var written []outcome.Written
	for w, err := range store.DeadLetters(t.Context()) {
		require.NoError(t, err)
		written = append(written, w)
	}
	require.Equal(t, []outcome.Written{{Stream: schema.DeadLettersStream, Sequence: 1}}, written)
	for range store.Archive(t.Context(), "u", "v") { // who has enough leaves
		break
	}

	require.NoError(t, store.Conn().Exec(t.Context(), "SYSTEM STOP MERGES outcomes"))
	require.NoError(t, store.InsertOutcomes(t.Context(), "again", 1, []schema.Outcome{o}))
	copies, err := store.StoredTwice(t.Context())
	require.NoError(t, err)
	require.Equal(t, outcome.Copies{Outcomes: 1}, copies)
}
