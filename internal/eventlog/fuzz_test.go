package eventlog_test

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/eventlog"
	"github.com/onramphq/onramp/schema"
)

// checkStream reads text and checks what must hold for any input.
func checkStream(t *testing.T, name string, text []byte, m eventlog.Mapping) (eventlog.FileCounts, error) {
	t.Helper()
	l := &log{}
	counts, err := eventlog.ReadStream(t.Context(), name, bytes.NewReader(text), m, l.take, l.refuse)
	require.Len(t, l.records, counts.Records)
	require.Len(t, l.rejects, counts.Rejects)
	require.Equal(t, counts.Rows, counts.Records+counts.Rejects)
	require.LessOrEqual(t, counts.Rows, counts.Lines)
	for _, r := range l.rejects {
		require.NotEmpty(t, r.Reason)
		require.NotEmpty(t, r.Message)
		require.Positive(t, r.Line)
		require.LessOrEqual(t, r.Line, counts.Lines)
	}
	last := 0
	for _, r := range l.records {
		require.Greater(t, r.Line, last, "records come in the order of the log, one a line")
		last = r.Line
		require.Equal(t, r.At, r.Event.OccurredAt)
		_, err := schema.DecodeProperties(r.Event.Properties)
		require.NoError(t, err)
	}
	eventlog.Sort(l.records)
	eventlog.Identify(l.records)
	return counts, err
}

func dataLines(text []byte) int {
	lines := 0
	for line := range strings.SplitSeq(string(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))), "\n") {
		if strings.TrimSuffix(line, "\r") != "" {
			lines++
		}
	}
	return lines
}

func FuzzReadCSV(f *testing.F) {
	const header = "user_id,event,time,x\n"
	for _, seed := range []string{
		"", header, header + "u1,a,1700000000,1\n", header + "u1,\"a\nb\",1700000000,\"\"\"\"\n", header + "u1,\"a\nu2,b,1700000000,\n",
		header + "u1,a\"b\r\n\r\n", "\xef\xbb\xbf" + header + "u1,a,2026-11-24T09:00:00Z,\xff\n", header + "\"u1\"x,\n\"", "\x1f\x8b", "\xff\xfe",
		header + "u1,a,1538405774195002001,-0.0\n", header + "\"\r", header + ",,,,\n,,,\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		counts, err := checkStream(t, "log.csv", text, eventlog.Mapping{Properties: []string{"*"}})
		if err == nil && !bytes.HasPrefix(text, []byte("\x1f\x8b")) && !bytes.Contains(text, []byte(`"`)) {
			require.Equal(t, dataLines(text)-1, counts.Rows, "without quotes every line but the header is a row")
		}
		rows := append([]byte(header), text...)
		counts, err = checkStream(t, "log.csv", rows, eventlog.Mapping{Properties: []string{"x"}, EventID: "x"})
		require.NoError(t, err, "no row ends the reading")
		if !bytes.Contains(text, []byte(`"`)) {
			require.Equal(t, dataLines(rows)-1, counts.Rows)
		}
		if whole, err := csv.NewReader(bytes.NewReader(rows)).ReadAll(); err == nil {
			require.Equal(t, len(whole)-1, counts.Rows, "encoding/csv sees the same rows in the whole file")
		}
		after := append(append([]byte(header), text...), "\nu1,\"a\",1700000000,\n"...)
		counts, err = checkStream(t, "log.csv", after, eventlog.Mapping{})
		require.NoError(t, err)
		require.Positive(t, counts.Rows)
	})
}

func FuzzReadJSONL(f *testing.F) {
	const ok = `{"user_id":"u1","event":"a","time":1700000000,"x":{"y":[1,null,"z"]}}` + "\n"
	for _, seed := range []string{
		"", ok, "\n \n" + ok, "{}", `{"user_id":"u1"}{}`, "[1]", "{\"user_id\":\"\xff\"}", `{"user_id":"\ud800"}`, `{"a":{"b":1},"a.b":2}`, "{",
		`{"user_id":1e5,"event":null,"time":"2026-11-24T09:00:00Z"}`, "\xef\xbb\xbf" + ok, `{"user_id":"u","event":"a","time":1538405774195002001}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.HasPrefix(text, []byte("\x1f\x8b")) {
			return
		}
		m := eventlog.Mapping{Properties: []string{"*"}, Traits: []string{"x.*", "t=a.b"}}
		_, _ = checkStream(t, "log.jsonl", text, m) // a file without columns is an error
		rows := append([]byte(ok), text...)
		counts, err := checkStream(t, "log.jsonl", rows, m)
		require.NoError(t, err, "no line ends the reading")
		lines := 0
		for line := range bytes.SplitSeq(rows, []byte("\n")) {
			if len(bytes.TrimSpace(line)) > 0 {
				lines++
			}
		}
		require.Equal(t, lines, counts.Rows)
	})
}
