package outcome_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

var (
	archiveRows    = flag.Int("archive-rows", 300_000, "events of one round of BenchmarkArchive; a multiple of 20,000, the rows of one insert")
	archiveProfile = flag.String("archive-profile", "", "file for a processor profile of the sink alone, of the last round of BenchmarkArchive")
)

// BenchmarkArchive carries events that wait in the stream to ClickHouse: read, decoded, tokenized, stored, acknowledged, from the start
// of the sink to the last acknowledgment. Publishing them is not measured. Beside it, in turn, the same columns of as many rows in batches
// of the same size are inserted by the driver alone, row by row (x-bare says how much of that rate the sink reaches) and, which is
// cheaper, column by column (x-columns), with values that are made anew but not read from anywhere.
func BenchmarkArchive(b *testing.B) {
	store, js := openStore(b), jetStream(b)
	require.NoError(b, store.Conn().Exec(b.Context(), "CREATE TABLE bare AS events"))
	var carried, bare, columns cost
	total := 0
	for b.Loop() {
		fillStream(b, js, total, *archiveRows)
		total += *archiveRows
		runtime.GC() // nobody pays for what another has left
		carried.add(b, func() { carryAll(b, js, store) })
		runtime.GC()
		bare.add(b, func() { insertBare(b, store, total-*archiveRows, *archiveRows, appendRows) })
		runtime.GC()
		columns.add(b, func() { insertBare(b, store, total+1_000_000_000, *archiveRows, appendColumns) }) // other ids: the table collapses the same
	}
	require.Equal(b, uint64(total), value[uint64](b, store, "SELECT count() FROM events"))
	require.Equal(b, uint64(2*total), value[uint64](b, store, "SELECT count() FROM bare"))
	b.ReportMetric(float64(total)/carried.wall.Seconds(), "rows/s")
	b.ReportMetric(float64(total)/bare.wall.Seconds(), "bare-rows/s")
	b.ReportMetric(float64(total)/columns.wall.Seconds(), "column-rows/s")
	b.ReportMetric(float64(bare.wall)/float64(carried.wall), "x-bare")
	b.ReportMetric(float64(columns.wall)/float64(carried.wall), "x-columns")
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(total) }
	b.ReportMetric(each(carried.ours), "our-µs/row")
	b.ReportMetric(each(carried.clickHouse), "ch-µs/row")
	b.ReportMetric(each(bare.ours), "bare-our-µs/row")
	b.ReportMetric(each(bare.clickHouse), "bare-ch-µs/row")
}

// cost is what something took: by the clock, of processor time in this process, in which NATS runs too, and in ClickHouse.
type cost struct{ wall, ours, clickHouse time.Duration }

func (c *cost) add(b *testing.B, do func()) {
	b.Helper()
	ours, theirs, begin := processorTime(b, "self"), processorTime(b, strconv.Itoa(clickHouse(b).ChildPID())), time.Now()
	do()
	c.wall += time.Since(begin)
	c.ours += processorTime(b, "self") - ours
	c.clickHouse += processorTime(b, strconv.Itoa(clickHouse(b).ChildPID())) - theirs
}

// processorTime is what a process has used so far, to the hundredth of a second.
func processorTime(b *testing.B, process string) time.Duration {
	b.Helper()
	stat, err := os.ReadFile("/proc/" + process + "/stat")
	require.NoError(b, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the name before may hold anything
	user, err := strconv.ParseInt(fields[11], 10, 64)
	require.NoError(b, err)
	system, err := strconv.ParseInt(fields[12], 10, 64)
	require.NoError(b, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// carryAll runs a sink until nothing waits.
func carryAll(b *testing.B, js jetstream.JetStream, store *outcome.Store) {
	b.Helper()
	if *archiveProfile != "" {
		file, err := os.Create(*archiveProfile)
		require.NoError(b, err)
		require.NoError(b, pprof.StartCPUProfile(file))
		defer func() {
			pprof.StopCPUProfile()
			require.NoError(b, file.Close())
		}()
	}
	var stored atomic.Int64
	sink, stop := runSink(b, js, store, outcome.SinkConfig{Meters: outcome.Meters{Batch: func(_ string, rows int) { stored.Add(int64(rows)) }}})
	require.Eventually(b, func() bool {
		return stored.Load() == int64(*archiveRows) && sink.Stats().Archive.Lag == 0
	}, 5*time.Minute, 2*time.Millisecond)
	stop()
}

func fillStream(b *testing.B, js jetstream.JetStream, first, rows int) {
	b.Helper()
	for i := range rows {
		body := fmt.Appendf(nil, `{"event_id":"e%d","event_name":"feature_viewed","user_id":"user %d","properties":{"feature":"reports"}}`, first+i, i%997)
		_, err := js.PublishAsync(schema.EventSubject("load"), body, jetstream.WithStallWait(time.Minute))
		require.NoError(b, err)
	}
	<-js.PublishAsyncComplete()
}

const bareBatch = 20_000 // what the sink inserts at once while it is behind

// insertBare inserts as many rows as the sink has just carried.
func insertBare(b *testing.B, store *outcome.Store, first, rows int, fill func(*testing.B, driver.Batch, int)) {
	b.Helper()
	insert := func(from int) {
		batch, err := store.Conn().PrepareBatch(b.Context(), "INSERT INTO bare (event_id, event_name, user_token, occurred_at, received_at, sequence, lateness, clamped, source, properties, traits, trace_id)")
		require.NoError(b, err)
		defer func() { require.NoError(b, batch.Close()) }()
		fill(b, batch, from)
		require.NoError(b, batch.Send())
	}
	for from := first; from < first+rows; from += bareBatch {
		insert(from)
	}
}

func appendRows(b *testing.B, batch driver.Batch, from int) {
	b.Helper()
	now := time.Now()
	for i := from; i < from+bareBatch; i++ {
		require.NoError(b, batch.Append("e"+strconv.Itoa(i), "feature_viewed", bareToken(i), now, now, uint64(i), "on_time", false, "load", `{"feature":"reports"}`, "", ""))
	}
}

func appendColumns(b *testing.B, batch driver.Batch, from int) {
	b.Helper()
	now := time.Now().UnixMilli()
	texts := func(value func(i int) string) []string {
		column := make([]string, bareBatch)
		for i := range column {
			column[i] = value(from + i)
		}
		return column
	}
	same := func(s string) []string { return texts(func(int) string { return s }) }
	times, sequences := make([]int64, bareBatch), make([]uint64, bareBatch)
	for i := range bareBatch {
		times[i], sequences[i] = now, uint64(from+i)
	}
	for i, values := range []any{
		texts(func(i int) string { return "e" + strconv.Itoa(i) }), same("feature_viewed"), texts(bareToken), times, times, sequences,
		same("on_time"), make([]bool, bareBatch), same("load"), same(`{"feature":"reports"}`), same(""), same(""),
	} {
		require.NoError(b, batch.Column(i).Append(values))
	}
}

func bareToken(i int) string { return "uaaaaaaaaaaaaaaaaaaaaaaa" + strconv.Itoa(100+i%900) }

var benchUsers = flag.Int("analyze-users", 20_000, "users of BenchmarkAnalyze, each with 20 events; 1,000,000 is the size that counts")

// benchBook has ten metrics and ten segments.
const benchBook = `name: bench
events:
  signed_up: {}
  used: {properties: {seconds: number}}
  viewed: {}
  order: {properties: {total: number}}
  activated: {}
  ticket: {}
traits: {size: int}
segments: {s0: {when: did("used")}, s1: {when: did("used")}, s2: {when: did("used")}, s3: {when: did("used")}, s4: {when: did("used")},
  s5: {when: did("used")}, s6: {when: did("used")}, s7: {when: did("used")}, s8: {when: did("used")}, s9: {when: did("used")}}
metrics:
  activated_14d: {kind: proportion, event: activated, within: 14d}
  big_order: {kind: proportion, event: order, where: e.total > 900.0, within: 14d}
  week_2: {kind: retention, event: used, from: 7d, to: 14d}
  path: {kind: funnel, steps: [viewed, used, activated], within: 14d}
  revenue: {kind: mean, event: order, value: total, within: 30d, cap: 5000}
  uses: {kind: mean, event: used, within: 14d}
  seconds_per_use: {kind: ratio, numerator: {event: used, value: seconds}, denominator: {event: used}, within: 14d}
  session_length: {kind: ratio, sessions: 30m, within: 14d}
  time_to: {kind: quantile, event: activated, q: 0.25, within: 14d}
  tickets: {kind: mean, event: ticket, within: 14d, direction: down, guardrail: {margin: 0.1}}
experiments:
  flow:
    variants: {control: 0.5, treatment: 0.5}
    metrics: [activated_14d, big_order, week_2, path, revenue, uses, seconds_per_use, session_length, time_to, tickets]
    segments: [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9]
    covariates: [size]
`

// fillBench makes up the users where they are: 20 events each, and an exposure.
func fillBench(b *testing.B, store *outcome.Store, users int) {
	b.Helper()
	for _, sql := range []string{
		fmt.Sprintf(`INSERT INTO events (event_id, event_name, user_token, occurred_at, received_at, sequence, lateness, clamped, source, properties, traits)
			SELECT concat('e', toString(number)), if(number %% 20 = 0, 'signed_up', ['used', 'viewed', 'order', 'activated', 'ticket', 'used', 'viewed'][1 + sipHash64(number) %% 7]),
				concat('u', leftPad(lower(hex(intDiv(number, 20) * 2654435761 %% 4294967296)), 26, 'a')),
				toDateTime64('2026-03-01 00:00:00', 3, 'UTC') + toIntervalSecond(intDiv(number, 20) %% 2000000 + if(number %% 20 = 0, 0, sipHash64(number, 1) %% (30 * 86400))) AS o,
				o, number + 1, 'on_time', 0, 'load',
				if(number %% 20 = 0, '', concat('{"total":', toString((sipHash64(number, 2) %% 100000) / 100), ',"seconds":', toString(sipHash64(number, 3) %% 600), '}')),
				if(number %% 20 = 0, concat('{"size":', toString(sipHash64(number, 4) %% 500), '}'), '')
			FROM numbers(%d)`, 20*users),
		fmt.Sprintf(`INSERT INTO outcomes (outcome_id, kind, user_token, at, recorded_at, sequence, cause_received_at, experiment, variant, bucket, details)
			SELECT concat('o', toString(number)), 'exposure_recorded', concat('u', leftPad(lower(hex(number * 2654435761 %% 4294967296)), 26, 'a')),
				toDateTime64('2026-03-01 00:00:00', 3, 'UTC') + toIntervalSecond(number %% 2000000) AS o, o, number + 1, o, 'flow', if(sipHash64(number, 9) %% 2 = 0, 'control', 'treatment'), 0.1,
				concat('{"coverage":1,"hash_version":2,"seed":"flow","segments":[', arrayStringConcat(arrayMap(i -> concat('"s', toString(i), '"'), arrayFilter(i -> sipHash64(number, i) %% 3 = 0, range(10))), ','),
					'],"variants":["control","treatment"],"weights":{"control":0.5,"treatment":0.5}}')
			FROM numbers(%d)`, users),
		"OPTIMIZE TABLE events FINAL", "OPTIMIZE TABLE outcomes FINAL",
	} {
		require.NoError(b, store.Conn().Exec(b.Context(), sql))
	}
}

// bareQuery is what nobody can do without: every event read, and per user one number for each metric, with neither windows,
// duplicates, exposures, segments nor products.
const bareQuery = `SELECT sum(a), sum(b), sum(c), sum(d), sum(f), sum(g), sum(h), sum(i) FROM (SELECT user_token, countIf(event_name = 'activated') AS a,
	countIf(event_name = 'order') AS b, countIf(event_name = 'used') AS c, countIf(event_name = 'viewed') AS d, sumIf(JSONExtractFloat(properties, 'total'), event_name = 'order') AS f,
	sumIf(JSONExtractFloat(properties, 'seconds'), event_name = 'used') AS g, count() AS h, countIf(event_name = 'ticket') AS i FROM events GROUP BY user_token)`

// BenchmarkAnalyze reads an experiment of ten metrics and ten segments, and says how many times as long as the bare aggregation of
// the same events that takes: go test ./outcome -run '^$' -bench Analyze -benchtime 3x -args -analyze-users 1000000.
func BenchmarkAnalyze(b *testing.B) {
	store, book := openStore(b), compileBook(b, benchBook)
	fillBench(b, store, *benchUsers)
	var bare time.Duration
	b.ResetTimer()
	runs := 0
	for b.Loop() {
		b.StopTimer()
		begin := time.Now()
		require.NoError(b, store.Conn().Exec(b.Context(), bareQuery))
		bare += time.Since(begin)
		b.StartTimer()
		a, err := store.Analyze(b.Context(), book, "flow", outcome.AnalyzeOptions{})
		require.NoError(b, err)
		require.Equal(b, int64(*benchUsers), a.Size.Users)
		runs++
	}
	b.ReportMetric(float64(b.Elapsed())/float64(bare), "x-bare")
	b.ReportMetric(bare.Seconds()/float64(runs), "bare-s/op")
}
