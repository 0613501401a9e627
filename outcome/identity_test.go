package outcome_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// split lets half of the users have come under another token first: their exposures, and every other of their events, stand under that.
// Every fourth came under a third before, and became the second.
func (p *past) split() *past {
	visitor := func(token, which string) string { return schema.UserToken(workspaceKey, which+" visitor of "+token) }
	half := func(token string) bool { return token[5] < 'n' }
	other := &past{events: slices.Clone(p.events), exposures: slices.Clone(p.exposures)}
	merged := map[string]bool{}
	for i := range other.events {
		e := &other.events[i]
		if half(e.Token) {
			merged[e.Token] = true
			if i%2 == 0 {
				e.Token = visitor(e.Token, []string{"first", "second"}[i/2%2])
			}
		}
	}
	for i := range other.exposures {
		if o := &other.exposures[i]; half(o.UserToken) {
			merged[o.UserToken] = true
			o.UserToken = visitor(o.UserToken, "first")
		}
	}
	link := func(from, into string, tokens ...string) {
		details, err := json.Marshal(map[string]any{"from": from, "tokens": append([]string{from}, tokens...)})
		if err != nil {
			panic(err)
		}
		other.exposures = append(other.exposures, schema.Outcome{
			OutcomeID: schema.OutcomeID(schema.UserMerged, into, from), Kind: schema.UserMerged, UserToken: into, At: start, RecordedAt: start, Details: details,
		})
	}
	for token := range merged {
		link(visitor(token, "first"), visitor(token, "second"))
		link(visitor(token, "second"), token, visitor(token, "first"))
	}
	return other
}

// TestMergedUserIsOneUser: who met an experiment as a visitor and did what it counts as a user is one user. The reading is, to the last bit,
// that of a past in which everybody had one name from the beginning.
func TestMergedUserIsOneUser(t *testing.T) {
	t.Parallel()
	store, book := openStore(t), compileBook(t, trial)
	p := drawPast(23, 200)
	p.write(t, store)
	linked, err := outcome.Open(t.Context(), outcome.Config{Addr: clickHouse(t).ClickHouseAddr, Database: database(t) + "_linked"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, linked.Close()) })
	split := p.split()
	split.write(t, linked)
	require.NotEqual(t, p.exposures, split.exposures[:len(p.exposures)])

	read := func(store *outcome.Store) string {
		a := analyze(t, store, book, outcome.AnalyzeOptions{Looks: 5})
		a.Queries = nil
		raw, err := json.Marshal(a)
		require.NoError(t, err)
		return string(raw)
	}
	require.JSONEq(t, read(store), read(linked))
	for _, view := range []string{"exposures", "conversions", "experiment_counts", "experiment_arms", "exposures_excluded", "exposures_first"} {
		sql := "SELECT * FROM " + view + " ORDER BY ALL"
		require.Equal(t, rowsOf(t, store, sql), rowsOf(t, linked, sql), view)
	}
	require.NotZero(t, value[uint64](t, linked, "SELECT count() FROM identity_links"))
	require.Zero(t, value[uint64](t, linked, "SELECT count() FROM identity_links WHERE person_token IN (SELECT merged_token FROM identity_links)"), "chains are followed")
}

// TestEnrollmentFollowsItsUser: a journey that somebody began as a visitor is the user's, and each segment has each user once.
func TestEnrollmentFollowsItsUser(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	n := 0
	at := func(kind schema.OutcomeKind, token string, change func(*schema.Outcome)) schema.Outcome {
		n++
		o := schema.Outcome{OutcomeID: fmt.Sprint("o", n), Kind: kind, UserToken: token, At: start + int64(n), RecordedAt: start, Details: json.RawMessage(`{}`)}
		change(&o)
		return o
	}
	journey := func(o *schema.Outcome) { o.Journey, o.EnrollmentID = "onboarding", "e1" }
	segment := func(o *schema.Outcome) { o.Segment = "new_user" }
	require.NoError(t, store.InsertOutcomes(t.Context(), "all", 1, []schema.Outcome{
		at(schema.SegmentEntered, "visitor", segment), at(schema.EnrollmentStarted, "visitor", journey), at(schema.SegmentLeft, "visitor", segment),
		at(schema.UserMerged, "ann", func(o *schema.Outcome) { o.Details = json.RawMessage(`{"from":"visitor","tokens":["visitor"]}`) }),
		at(schema.SegmentEntered, "ann", segment), at(schema.EnrollmentEnded, "ann", journey),
	}))
	require.NoError(t, store.InsertEvents(t.Context(), "events", []outcome.ArchivedEvent{
		{ID: "1", Name: "signed_up", Token: "visitor", OccurredAt: start, Sequence: 1},
		{ID: "2", Name: "identify", Token: "ann", OccurredAt: start + 1, Sequence: 2},
		{ID: "3", Name: "page", Token: "visitor", OccurredAt: start + 2, Sequence: 3},
		{ID: "4", Name: "page", Token: "ben", OccurredAt: start + 2, Sequence: 4},
	}))
	for _, token := range []string{"", "ann"} {
		got := map[string][]string{}
		for log, err := range store.Logs(t.Context(), token) {
			require.NoError(t, err)
			for _, e := range log.Events {
				got[log.UserToken] = append(got[log.UserToken], e.EventID)
			}
		}
		require.Equal(t, []string{"1", "2", "3"}, got["ann"])
		require.Equal(t, token == "", len(got["ben"]) == 1)
		require.NotContains(t, got, "visitor")
	}
	require.Equal(t, uint64(3), value[uint64](t, store, "SELECT count() FROM user_events WHERE user_token = 'ann'"))
	require.Equal(t, uint64(2), value[uint64](t, store, "SELECT count() FROM user_events WHERE came_as = 'visitor'"))
	require.Equal(t, uint64(1), value[uint64](t, store, "SELECT count() FROM enrollments WHERE user_token = 'ann' AND ended"))
	require.Equal(t, uint64(1), value[uint64](t, store, "SELECT members FROM segment_sizes WHERE segment = 'new_user'"))
	require.Equal(t, uint64(1), value[uint64](t, store, "SELECT ever FROM segment_sizes WHERE segment = 'new_user'"))
}
