package main

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/testenv"
)

// TestChaosAPI kills the API again and again while the real Segment SDK sends: it tries again, and each event is there once.
func TestChaosAPI(t *testing.T) { //nolint:paralleltest // alone: it keeps both processors busy
	if testing.Short() {
		t.Skip("runs for a minute")
	}
	testenv.NeedNode(t, nodePackages) // the kills are to fall among the calls, not into the installing
	const calls, seconds, fewestKills = 1500, 15, 8
	seed := chaosSeed(t)
	r := newRig(t, rigConfig{seed: seed})
	rng := rand.New(rand.NewPCG(seed, 7))
	addr := "127.0.0.1:" + r.port(rng)
	r.role("api", 0, "--api-addr", addr)
	eventually(t, time.Minute, "the API listens", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/livez", http.NoBody)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(request)
		return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	})
	kills := make(chan int)
	go func() { // as long as the SDK has calls to make; then it may finish what it holds
		n, until := 0, time.After(seconds*time.Second)
		for {
			select {
			case <-until:
				kills <- n
				return
			case <-time.After(time.Duration(300+rng.IntN(1500)) * time.Millisecond):
				r.part("api").signal(syscall.SIGKILL)
				n++
			}
		}
	}()
	var answer struct {
		Errors []string `json:"errors"`
		IDs    []string `json:"ids"`
	}
	testenv.Node(t, nodePackages, &answer, "flood.mjs", "http://"+addr, "any", strconv.Itoa(calls), strconv.Itoa(seconds))
	killed := <-kills
	require.GreaterOrEqual(t, killed, fewestKills)
	require.Empty(t, answer.Errors, "the SDK gave nothing up")
	require.Len(t, answer.IDs, calls)
	r.settle()
	verdict := r.verify()
	require.Empty(t, verdict.Found)
	require.Zero(t, verdict.Differences)

	stored := map[string]uint64{}
	rows, err := r.store().Conn().Query(t.Context(), `SELECT event_id, count() FROM events_unique WHERE event_name IN ('used', 'started') GROUP BY event_id`)
	require.NoError(t, err)
	for rows.Next() {
		var id string
		var n uint64
		require.NoError(t, rows.Scan(&id, &n))
		if strings.HasPrefix(id, "flood-") {
			stored[id] = n
		}
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.Len(t, stored, calls)
	for _, id := range answer.IDs {
		require.EqualValues(t, 1, stored[id], id)
	}
	t.Logf("%d calls, %d kills, %d users: nothing lost, nothing twice; verify found %d differences", calls, killed, verdict.Users, verdict.Differences)
}
