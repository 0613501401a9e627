package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
)

// TestKill kills the program in mid-stream, starts it again on the same folder, and holds it to the first three guarantees:
// every acknowledged event is counted once, and archive, outcomes, profiles and workflows are what follows from the log.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(11, 1))
	acked := map[string]bool{}
	p := startDev(t, dir)
	js := p.js(t)
	// send publishes until the stream does not answer; once so many are acknowledged, kill is called, and it goes on.
	send := func(js jetstream.JetStream, from, to, enough int, kill func()) {
		had := len(acked)
		names := []string{"signed_up", "profile_completed", "feature_viewed", "feature_used", "teammate_invited", "onboarding_completed", "activated"}
		for n := from; n < to; n++ {
			e := schema.Event{EventID: fmt.Sprint("kill-", n), EventName: names[rng.IntN(len(names))], UserID: fmt.Sprint("user-", rng.IntN(60))}
			body, err := json.Marshal(e)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			_, err = js.Publish(ctx, schema.EventSubject("test"), body)
			cancel()
			if err != nil {
				return // unknown fate: may be there or not
			}
			acked[e.EventID] = true
			if len(acked) == had+enough {
				go kill()
			}
		}
	}
	for round := range 2 {
		killed := make(chan struct{})
		send(js, 10_000*round, 10_000*round+5_000, 150+100*round, func() {
			_ = p.cmd.Process.Kill() // the point of the test
			close(killed)
		})
		<-killed
		_ = p.cmd.Wait() // killed: the error says so
		p = startDev(t, dir)
		js = p.js(t)
	}
	send(js, 90_000, 90_100, 100, func() {})
	require.GreaterOrEqual(t, len(acked), 500)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	restarted := time.Now()
	require.NoError(t, drain(ctx, js))
	t.Logf("%d acknowledged events; at rest %s after the last restart", len(acked), time.Since(restarted).Round(time.Millisecond))

	store := p.store(t)
	stored := map[string]bool{}
	rows, err := store.Conn().Query(ctx, `SELECT event_id, count() FROM events_unique GROUP BY event_id`)
	require.NoError(t, err)
	for rows.Next() {
		var id string
		var n uint64
		require.NoError(t, rows.Scan(&id, &n))
		require.Equal(t, uint64(1), n, id)
		stored[id] = true
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	for id := range acked {
		require.True(t, stored[id], "acknowledged and lost: %s", id)
	}
	verdict := p.innocent(t)
	require.GreaterOrEqual(t, verdict.Events, len(acked))
	t.Logf("%d users, %d events: no differences", verdict.Users, verdict.Events)
}
