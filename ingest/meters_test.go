package ingest_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

// TestMeters: what waits for a user while Temporal is away shares one signal, and the meters and counts say so.
func TestMeters(t *testing.T) {
	t.Parallel()
	js := streams(t)
	publishMany(t, js, "ann", 1, 5)
	publish(t, js, "ann", "skipped", "undeclared")
	publishRaw(t, js, []byte(`{}`))
	var mu sync.Mutex
	told := map[string][]float64{}
	meter := func(name string) func(float64) {
		return func(v float64) {
			mu.Lock()
			defer mu.Unlock()
			told[name] = append(told[name], v)
		}
	}
	release := make(chan struct{})
	s := &sender{behave: func(_ context.Context, nth int, _ schema.JourneyStart, _ schema.EventBatch) error {
		if nth == 1 {
			return away()
		}
		<-release
		return nil
	}}
	in, stop := run(t, js, s, ingest.Config{Meters: ingest.Meters{
		Page: meter("page"), Batch: meter("batch"), Signal: meter("signal"), Delay: meter("delay"),
	}})
	eventually(t, func() bool { return s.attempts() == 2 && in.Stats().Skipped == 1 && in.Stats().Rejected == 1 }, "no second try")
	stats := in.Stats()
	require.Equal(t, int64(1), stats.Mailboxes)
	require.Equal(t, int64(1), stats.Retries)
	require.Equal(t, int64(5), stats.InHand)
	require.Len(t, stats.RejectedBy, 1)
	require.Equal(t, int64(1), stats.RejectedBy[schema.ReasonMissingUser])
	close(release)
	settled(t, js)
	stop()
	stats = in.Stats()
	require.Zero(t, stats.Mailboxes)
	require.Zero(t, stats.Queued)
	require.Zero(t, stats.InHand)
	sum := func(name string) (n float64) {
		for _, v := range told[name] {
			n += v
		}
		return n
	}
	require.InDelta(t, 7, sum("page"), 0)
	require.InDelta(t, 5, sum("batch"), 0)
	require.Len(t, told["signal"], int(stats.Signals+stats.Retries))
	require.Len(t, told["delay"], 5)
	for _, v := range told["delay"] {
		require.GreaterOrEqual(t, v, 0.0)
		require.Less(t, v, patience.Seconds())
	}
}
