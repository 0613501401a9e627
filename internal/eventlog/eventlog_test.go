package eventlog_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/internal/eventlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log is all that reading gave.
type log struct {
	records []eventlog.Record
	rejects []eventlog.Reject
	counts  eventlog.Counts
	err     error
}

func (l *log) take(r eventlog.Record) error   { l.records = append(l.records, r); return nil }
func (l *log) refuse(r eventlog.Reject) error { l.rejects = append(l.rejects, r); return nil }

// lines shows the log in short: one event or reject a line, in no more detail than a table needs.
func (l *log) lines() []string {
	shown := []string{}
	for _, r := range l.records {
		text := fmt.Sprintf("%d %s %s", r.Line, r.Event.UserID, r.Event.EventName)
		if len(r.Event.Properties) > 0 {
			text += " " + string(r.Event.Properties)
		}
		if len(r.Event.Traits) > 0 {
			text += " traits " + string(r.Event.Traits)
		}
		shown = append(shown, text)
	}
	for _, r := range l.rejects {
		shown = append(shown, fmt.Sprintf("%d !%s", r.Line, r.Reason))
	}
	return shown
}

func readFiles(t *testing.T, m eventlog.Mapping, files ...string) *log {
	t.Helper()
	l := &log{}
	l.counts, l.err = eventlog.Read(t.Context(), files, m, nil, l.take, l.refuse)
	require.Equal(t, l.counts.Rows, l.counts.Records+l.counts.Rejects, "every row is a record or a reject")
	require.Len(t, l.records, l.counts.Records)
	require.Len(t, l.rejects, l.counts.Rejects)
	return l
}

func readText(t *testing.T, name, text string, m eventlog.Mapping) *log {
	t.Helper()
	return readFiles(t, m, write(t, name, []byte(text)))
}

func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

func TestReadFiles(t *testing.T) {
	t.Parallel()
	const header = "user_id,event,time\n"

	t.Run("gzip is told by its magic bytes", func(t *testing.T) {
		t.Parallel()
		l := readFiles(t, eventlog.Mapping{}, write(t, "log.csv", zipped(t, header+"u1,a,1700000000\n")))
		require.NoError(t, l.err)
		require.Equal(t, []string{"2 u1 a"}, l.lines())
	})
	t.Run("plain file called gz", func(t *testing.T) {
		t.Parallel()
		l := readText(t, "log.CSV.GZ", header+"u1,a,1700000000\n", eventlog.Mapping{})
		require.NoError(t, l.err)
		require.Equal(t, []string{"2 u1 a"}, l.lines())
	})
	t.Run("gzip of several members", func(t *testing.T) {
		t.Parallel()
		text := append(zipped(t, header), zipped(t, "u1,a,1700000000\n")...)
		l := readFiles(t, eventlog.Mapping{}, write(t, "log.csv.gz", text))
		require.NoError(t, l.err)
		require.Equal(t, []string{"2 u1 a"}, l.lines())
	})
	t.Run("truncated gzip", func(t *testing.T) {
		t.Parallel()
		var text strings.Builder
		text.WriteString(header)
		for i := range 5000 {
			fmt.Fprintf(&text, "u%d,a,%d\n", i*7919%5000, 1700000000+i*i)
		}
		whole := zipped(t, text.String())
		path := write(t, "log.csv.gz", whole[:len(whole)/2])
		l := readFiles(t, eventlog.Mapping{}, path)
		require.Positive(t, l.counts.Records)
		require.Empty(t, l.rejects, "half a line is neither an event nor a reject")
		require.Equal(t, l.counts.Records+1, l.counts.Files[0].Lines)
		require.EqualError(t, l.err, fmt.Sprintf("read %s: the gzip data ends after line %d, the file is truncated: unexpected EOF",
			path, l.counts.Files[0].Lines))
	})
	t.Run("gzip of three bytes", func(t *testing.T) {
		t.Parallel()
		l := readText(t, "log.csv.gz", "\x1f\x8b\x08", eventlog.Mapping{})
		require.ErrorContains(t, l.err, "truncated")
	})
	t.Run("damaged gzip", func(t *testing.T) {
		t.Parallel()
		text := zipped(t, header+"u1,a,1700000000\n")
		text[len(text)-8] ^= 1 // the checksum
		l := readFiles(t, eventlog.Mapping{}, write(t, "log.csv.gz", text))
		require.ErrorIs(t, l.err, gzip.ErrChecksum)
		require.ErrorContains(t, l.err, "read after line 2")
	})
	t.Run("several files in order, each with its own columns", func(t *testing.T) {
		t.Parallel()
		first := write(t, "b.csv", []byte(header+"u1,a,1700000000\n"))
		second := write(t, "a.jsonl", []byte(`{"userId":"u2","type":"b","ts":1600000000}`))
		l := readFiles(t, eventlog.Mapping{}, first, second)
		require.NoError(t, l.err)
		require.Equal(t, []string{"2 u1 a", "1 u2 b"}, l.lines())
		require.Equal(t, "user_id event time", l.counts.Files[0].User+" "+l.counts.Files[0].Event+" "+l.counts.Files[0].Time)
		require.Equal(t, "userId type ts", l.counts.Files[1].User+" "+l.counts.Files[1].Event+" "+l.counts.Files[1].Time)
		require.Equal(t, second, l.records[1].File)
	})
	t.Run("problems of all files at once, before any is read", func(t *testing.T) {
		t.Parallel()
		good := write(t, "a.csv", []byte(header+"u1,a,1700000000\n"))
		l := readFiles(t, eventlog.Mapping{}, good, "absent.csv", "log.parquet", t.TempDir(), "-", "-")
		require.ErrorIs(t, l.err, os.ErrNotExist)
		for _, want := range []string{"absent.csv", "log.parquet: the name does not tell the format", "it is a folder", "only once"} {
			require.ErrorContains(t, l.err, want)
		}
		require.Empty(t, l.records)
	})
	t.Run("no file", func(t *testing.T) {
		t.Parallel()
		require.ErrorContains(t, readFiles(t, eventlog.Mapping{}).err, "no file is given")
	})
	t.Run("bad mapping", func(t *testing.T) {
		t.Parallel()
		l := readText(t, "a.csv", header, eventlog.Mapping{TimeUnit: "days"})
		require.ErrorContains(t, l.err, `time unit "days"`)
	})
	t.Run("UTF-16", func(t *testing.T) {
		t.Parallel()
		l := readText(t, "a.csv", "\xff\xfeu\x00", eventlog.Mapping{})
		require.ErrorContains(t, l.err, "a.csv: it is UTF-16")
	})
}

func TestReadStdin(t *testing.T) { //nolint:paralleltest // there is one standard input
	path := write(t, "log", zipped(t, `{"user_id":"u1","event":"a","time":1700000000}`))
	opened, err := os.Open(path)
	require.NoError(t, err)
	defer opened.Close()
	before := os.Stdin
	defer func() { os.Stdin = before }()
	os.Stdin = opened

	require.ErrorContains(t, readFiles(t, eventlog.Mapping{}, "-").err, "name it with --format")
	total := int64(0)
	counts, err := eventlog.Read(t.Context(), []string{"-"}, eventlog.Mapping{Format: "jsonl"}, func(_, of int64) { total = of }, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 1, counts.Records)
	require.Equal(t, int64(-1), total)
}

func TestReadStops(t *testing.T) {
	t.Parallel()
	path := write(t, "log.csv", []byte("user_id,event,time\nu1,a,1700000000\nu2,b\nu3,c,1700000000\n"))
	wish := errors.New("enough")

	t.Run("when taking a record fails", func(t *testing.T) {
		t.Parallel()
		counts, err := eventlog.Read(t.Context(), []string{path}, eventlog.Mapping{}, nil,
			func(eventlog.Record) error { return wish }, nil)
		require.ErrorIs(t, err, wish)
		require.ErrorContains(t, err, "log.csv: take line 2")
		require.Equal(t, 1, counts.Records)
	})
	t.Run("when rejecting fails", func(t *testing.T) {
		t.Parallel()
		_, err := eventlog.Read(t.Context(), []string{path}, eventlog.Mapping{}, nil, nil,
			func(eventlog.Reject) error { return wish })
		require.ErrorIs(t, err, wish)
	})
	t.Run("when the context ends", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		counts, err := eventlog.Read(ctx, []string{path}, eventlog.Mapping{}, nil,
			func(eventlog.Record) error { cancel(wish); return nil }, nil)
		require.ErrorIs(t, err, wish)
		require.Equal(t, 1, counts.Rows)
	})
	t.Run("not for want of callbacks", func(t *testing.T) {
		t.Parallel()
		counts, err := eventlog.Read(t.Context(), []string{path}, eventlog.Mapping{}, nil, nil, nil)
		require.NoError(t, err)
		require.Equal(t, []int{3, 2, 1, 4}, []int{counts.Rows, counts.Records, counts.Rejects, counts.Files[0].Lines})
	})
}

func TestReadProgress(t *testing.T) {
	t.Parallel()
	text := zipped(t, "user_id,event,time\n"+strings.Repeat("u1,a,1700000000\n", 1000))
	path := write(t, "log.csv", text)
	var last, total int64
	_, err := eventlog.Read(t.Context(), []string{path, path}, eventlog.Mapping{}, func(read, of int64) {
		require.Greater(t, read, last)
		last, total = read, of
	}, nil, nil)
	require.NoError(t, err)
	require.Equal(t, []int64{2 * int64(len(text)), 2 * int64(len(text))}, []int64{last, total})
}

func TestRecordKeepsTheExactTime(t *testing.T) {
	t.Parallel()
	l := readText(t, "log.jsonl", `{"user_id":"u1","event":"a","time":1538405774195002001}`, eventlog.Mapping{})
	require.NoError(t, l.err)
	want := time.Unix(1538405774, 195002001).UTC()
	require.Equal(t, want, l.records[0].At)
	require.Equal(t, want, l.records[0].Event.OccurredAt)
}
