package outcome_test

import (
	"testing"
	"time"

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
	_, err := outcome.Open(t.Context(), outcome.Config{Addr: clickHouse(t).addr, Database: "a`b; DROP"})
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
	store := openStore(t)
	require.NoError(t, store.Conn().Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"))
	_, err = outcome.Open(t.Context(), outcome.Config{Addr: clickHouse(t).addr, Database: database(t)})
	require.Equal(t, schema.CodeConflict, schema.CodeOf(err))
}
