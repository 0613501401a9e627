package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPushLatency has visitors listen to their flags and do what changes them, at a steady rate: every change is pushed. It tells how long
// that takes from the acknowledged event on. ONRAMP_PUSH_RATE=200 makes it 200 events a second for ten seconds; without it it is a small one.
func TestPushLatency(t *testing.T) {
	t.Parallel()
	users, rate, rounds := 20, 10.0, 2
	if text := os.Getenv("ONRAMP_PUSH_RATE"); text != "" {
		var err error
		rate, err = strconv.ParseFloat(text, 64)
		require.NoError(t, err)
		users, rounds = int(rate*2.5), 4
	}
	p := startDev(t, t.TempDir(), "--playbook", filepath.Join("..", "..", "examples", "web", "playbook"))
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	ask := func(ctx context.Context, method, path, body string) *http.Response {
		request, err := http.NewRequestWithContext(ctx, method, p.addrs["api"]+path, strings.NewReader(body))
		require.NoError(t, err)
		response, err := client.Do(request)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
		return response
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make([]chan time.Time, users)
	var listeners sync.WaitGroup
	defer listeners.Wait()
	defer cancel()
	for u := range users {
		var answer struct {
			EventStreams []struct {
				Endpoint struct {
					RequestURI string `json:"requestUri"`
				} `json:"endpoint"`
			} `json:"eventStreams"`
		}
		bulk := ask(ctx, http.MethodPost, "/ofrep/v1/evaluate/flags", fmt.Sprintf(`{"context":{"targetingKey":"visitor-%d"}}`, u))
		require.NoError(t, json.NewDecoder(bulk.Body).Decode(&answer))
		bulk.Body.Close()
		told[u] = make(chan time.Time, 100)
		stream := ask(ctx, http.MethodGet, answer.EventStreams[0].Endpoint.RequestURI, "")
		lines := bufio.NewScanner(stream.Body)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "data:") { // the first event comes with the stream
		}
		listeners.Go(func() {
			defer stream.Body.Close()
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "data:") {
					told[u] <- time.Now()
				}
			}
		})
	}
	var mu sync.Mutex
	var took []time.Duration
	late := 0
	var senders sync.WaitGroup
	steps := []string{"Onboarding Opened", "Profile Filled", "Project Created", "Teammate Invited"}
	began := time.Now()
	for i := range users * rounds {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
		senders.Go(func() {
			u := i % users
			ask(ctx, http.MethodPost, "/v1/track", fmt.Sprintf(`{"messageId":"m%d","userId":"visitor-%d","event":%q}`, i, u, steps[i/users])).Body.Close()
			accepted := time.Now()
			select {
			case at := <-told[u]:
				mu.Lock()
				defer mu.Unlock()
				took = append(took, at.Sub(accepted))
			case <-time.After(30 * time.Second):
				mu.Lock()
				defer mu.Unlock()
				late++
			}
		})
	}
	senders.Wait()
	require.Zero(t, late, "every change is pushed")
	slices.Sort(took)
	at := func(q float64) time.Duration {
		return took[min(len(took)-1, int(q*float64(len(took))))].Round(time.Millisecond / 10)
	}
	t.Logf("%d changes of %d visitors at %.0f a second: from the acknowledged event to the pushed change p50 %s, p90 %s, p99 %s, longest %s", len(took), users, rate, at(0.5), at(0.9), at(0.99), at(1))
}
