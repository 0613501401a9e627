package outcome_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

const benchRows = 20_000

// BenchmarkArchive carries a batch of events from JetStream to ClickHouse: decoded, tokenized, stored, acknowledged.
// BenchmarkInsert is its baseline: the same rows by the driver alone.
func BenchmarkArchive(b *testing.B) {
	store, js := openStore(b), jetStream(b)
	_, stop := runSink(b, js, store, outcome.SinkConfig{MaxRows: benchRows})
	defer stop()
	total := 0
	for b.Loop() {
		b.StopTimer()
		bodies := make([][]byte, benchRows)
		for i := range bodies {
			bodies[i] = fmt.Appendf(nil, `{"event_id":"e%d","event_name":"feature_viewed","user_id":"user %d","properties":{"feature":"reports"}}`, total+i, i%997)
		}
		b.StartTimer()
		for _, body := range bodies {
			_, err := js.PublishAsync(schema.EventSubject("load"), body, jetstream.WithStallWait(time.Minute))
			require.NoError(b, err)
		}
		total += benchRows
		eventually(b, store, uint64(total), "SELECT count() FROM events")
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkInsert(b *testing.B) {
	store := openStore(b)
	total := 0
	for b.Loop() {
		insertBatch(b, store, total)
		total += benchRows
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "events/s")
}

func insertBatch(b *testing.B, store *outcome.Store, first int) {
	b.Helper()
	batch, err := store.Conn().PrepareBatch(b.Context(), "INSERT INTO events (event_id, event_name, user_token, occurred_at, received_at, sequence, lateness, properties)")
	require.NoError(b, err)
	defer func() { require.NoError(b, batch.Close()) }()
	now := time.Now()
	for i := range benchRows {
		require.NoError(b, batch.Append(fmt.Sprint("e", first+i), "feature_viewed", fmt.Sprint("user ", i%997), now, now, uint64(first+i), "on_time", `{"feature":"reports"}`))
	}
	require.NoError(b, batch.Send())
}
