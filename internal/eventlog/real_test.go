package eventlog_test

import (
	"bufio"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/eventlog"
)

// realFile returns a file of the public data set that stands beside the repository, not in it.
func realFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", "app_onboarding", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the public data set is not here: %v", err)
	}
	return path
}

func TestRealLog(t *testing.T) {
	t.Parallel()
	path := realFile(t, "train.csv.gz")
	read := func() []eventlog.Record {
		l := readFiles(t, eventlog.Mapping{}, path)
		require.NoError(t, l.err)
		require.Empty(t, l.rejects)
		require.Equal(t, eventlog.FileCounts{
			File: path, Format: "csv", User: "user_pseudo_id", Event: "event_name", Time: "event_timestamp",
			Lines: 30_944, Rows: 30_943, Records: 30_943,
		}, l.counts.Files[0])
		eventlog.Sort(l.records)
		eventlog.Identify(l.records)
		return l.records
	}
	records := read()

	users, names, ids := map[string]bool{}, map[string]int{}, map[string]bool{}
	sum := 0
	for i, r := range records {
		users[r.Event.UserID], ids[r.Event.EventID] = true, true
		names[r.Event.EventName]++
		sum++
		require.True(t, i == 0 || !r.At.Before(records[i-1].At))
	}
	require.Len(t, users, 4_139)
	require.Len(t, ids, 30_943)
	require.Equal(t, 30_943, sum)
	require.Equal(t, []int{11_956, 2_497, 1_642}, []int{names["onboarding_welcome_screen"], names["passed"], names["lost"]})
	require.Equal(t, idsOf(records), idsOf(read()), "a second reading gives the same ids")

	exact := timesOf(t, path)
	for _, r := range records {
		require.Equal(t, exact[r.Line], strconv.FormatInt(r.At.UnixNano(), 10), "line %d", r.Line)
		require.Equal(t, r.At, r.Event.OccurredAt)
	}
}

// timesOf reads the second column by line, as text, with nothing of the package under test.
func timesOf(t *testing.T, path string) map[int]string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	unzip, err := gzip.NewReader(file)
	require.NoError(t, err)
	times := map[int]string{}
	lines := bufio.NewScanner(unzip)
	for number := 1; lines.Scan(); number++ {
		times[number] = strings.Split(lines.Text(), ",")[1]
	}
	require.NoError(t, lines.Err())
	return times
}

func TestRealLogOfMicroseconds(t *testing.T) {
	t.Parallel()
	l := readFiles(t, eventlog.Mapping{}, realFile(t, "test_unlabelled.csv"))
	require.NoError(t, l.err)
	require.Empty(t, l.rejects)
	require.Len(t, l.records, 1_905)
	users := map[string]bool{}
	for _, r := range l.records {
		users[r.Event.UserID] = true
		require.Equal(t, 2018, r.At.Year())
	}
	require.Len(t, users, 411)
	eventlog.Sort(l.records)
	eventlog.Identify(l.records)
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(idsOf(l.records)))), 1_905)
}
