package outcome_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

func TestMigrationsTwiceChangeNothing(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	tables := "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"
	before := rowsOf(t, store, tables)
	require.NotEmpty(t, before)
	require.NoError(t, store.Conn().Exec(t.Context(), "INSERT INTO users (user_token, user_id, first_seen) VALUES ('u', 'ada', now())"))

	again := openStore(t)
	require.Equal(t, store.Version(), again.Version())
	require.Equal(t, before, rowsOf(t, again, tables))
	require.Equal(t, uint64(1), value[uint64](t, again, "SELECT count() FROM users_unique"))

	// A second process may run the same statements at the same time, so each must also pass where its work is done.
	require.NoError(t, store.Conn().Exec(t.Context(), "TRUNCATE TABLE goose_db_version"))
	third := openStore(t)
	require.Equal(t, before, rowsOf(t, third, tables))
	require.Equal(t, uint64(1), value[uint64](t, third, "SELECT count() FROM users_unique"))
}

func TestEveryTableAndColumnIsExplained(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	require.Empty(t, rowsOf(t, store, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name NOT LIKE 'goose%' AND comment = ''"))
	require.Empty(t, rowsOf(t, store, `SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''
		AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name NOT LIKE 'goose%')`))
}

func TestOpenNamesTheAddressOfAServerThatIsAway(t *testing.T) {
	t.Parallel()
	start := time.Now()
	_, err := outcome.Open(t.Context(), outcome.Config{Addr: "127.0.0.1:1"})
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	require.ErrorContains(t, err, "127.0.0.1:1")
	require.Less(t, time.Since(start), 10*time.Second)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	_, err := outcome.Open(t.Context(), outcome.Config{Addr: clickHouse(t).ClickHouseAddr, Database: "a`b; DROP"})
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
	store := openStore(t)
	require.NoError(t, store.Conn().Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"))
	_, err = outcome.Open(t.Context(), outcome.Config{Addr: clickHouse(t).ClickHouseAddr, Database: database(t)})
	require.Equal(t, schema.CodeConflict, schema.CodeOf(err))
}

func TestServersThatRefuseUs(t *testing.T) {
	t.Parallel()
	// Not against the embedded server: it dies of a client with a wrong password.
	for code, want := range map[int32]schema.Code{
		193: schema.CodeInvalid, 497: schema.CodeInvalid, 516: schema.CodeInvalid, 60: schema.CodeInternal,
	} {
		err := outcome.Translate(fmt.Errorf("query: %w", &clickhouse.Exception{Code: code}))
		require.Equal(t, want, schema.CodeOf(err), "code %d", code)
		require.ErrorContains(t, err, "db.example:9000")
	}
	require.ErrorIs(t, outcome.Translate(context.Canceled), context.Canceled)
	require.NoError(t, outcome.Translate(nil))
}

// A batch must be recognized by all it holds: one with the bounds of another that lacks rows in between, or of a stream that
// was made anew, would be dropped as a repetition, and its rows lost.
func TestTokenNamesEveryMessage(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	whole := outcome.BatchToken(created, 5, 6, 7, 8)
	require.Equal(t, whole, outcome.BatchToken(created, 5, 6, 7, 8))
	require.NotEqual(t, whole, outcome.BatchToken(created, 5, 8))
	require.NotEqual(t, whole, outcome.BatchToken(created, 5, 6, 8))
	require.NotEqual(t, whole, outcome.BatchToken(created.Add(time.Hour), 5, 6, 7, 8))
	require.Contains(t, whole, "archive:5-8:")
}

func TestSameBatchTwice(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	outcomes := handMade().outcomes
	n := uint64(len(outcomes))
	require.NoError(t, store.InsertOutcomes(t.Context(), "one", 1, outcomes))
	before := snapshot(t, store)

	require.NoError(t, store.InsertOutcomes(t.Context(), "one", 1, outcomes))
	require.Equal(t, n, value[uint64](t, store, "SELECT count() FROM outcomes"), "the token is remembered: nothing is stored")
	require.Equal(t, before, snapshot(t, store))

	require.NoError(t, store.InsertOutcomes(t.Context(), "long forgotten", 1, outcomes))
	require.Equal(t, 2*n, value[uint64](t, store, "SELECT count() FROM outcomes"), "beyond the window it is stored again")
	require.Equal(t, before, snapshot(t, store), "and counted once")

	for i := range outcomes { // recorded again later in the stream, with another content: the first stands
		outcomes[i].Playbook = "another"
	}
	require.NoError(t, store.InsertOutcomes(t.Context(), "later", 10_000, outcomes))
	require.Equal(t, before, snapshot(t, store))
	require.NoError(t, store.Conn().Exec(t.Context(), "OPTIMIZE TABLE outcomes FINAL"))
	require.Equal(t, before, snapshot(t, store))
	require.Equal(t, n, value[uint64](t, store, "SELECT count() FROM outcomes"))
}
