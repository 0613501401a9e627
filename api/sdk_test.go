package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/schema"
)

// Real SDKs from npm against a real server. The checks have the numbers of the list that the project keeps of real clients: A1 to
// A5 and A8. A6 and A7 are of browsers.

// seen is one request and its answer.
type seen struct {
	method, path, retry, encoding, contentType string
	status                                     int
	at                                         time.Time
}

// open listens, and notes every request. before, where given, is called with the number of each, from 1.
func (d *door) open(t *testing.T, before func(n int)) (url string, requests func() []seen) {
	t.Helper()
	var mu sync.Mutex
	var all []seen
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n := len(all) + 1
		all = append(all, seen{})
		mu.Unlock()
		if before != nil {
			before(n)
		}
		recorder := &statusRecorder{ResponseWriter: w}
		d.handler.ServeHTTP(recorder, r)
		mu.Lock()
		defer mu.Unlock()
		all[n-1] = seen{
			r.Method, r.URL.Path, r.Header.Get("X-Retry-Count"), r.Header.Get("Content-Encoding"), r.Header.Get("Content-Type"), recorder.status, time.Now(),
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []seen {
		mu.Lock()
		defer mu.Unlock()
		return append([]seen(nil), all...)
	}
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (w *statusRecorder) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// sdk runs one SDK of testdata/node/sdk.mjs and returns the errors it told of.
func sdk(t *testing.T, what, url, key string) []string {
	t.Helper()
	var answer struct{ Errors []string }
	node(t, &answer, "sdk.mjs", what, url, key)
	return answer.Errors
}

// allKinds checks the seven calls of sdk.mjs in the stream.
func allKinds(t *testing.T, all []stored) {
	t.Helper()
	require.Len(t, all, 7)
	names, ids := make(map[string]int), make(map[string]bool)
	for _, e := range all {
		names[e.EventName]++
		ids[e.ID] = true
		require.Equal(t, "ann", e.UserID)
		switch e.EventName {
		case "identify":
			require.Equal(t, map[string]any{"company_size": int64(12), "industry": "finance"}, e.traits)
			require.Equal(t, "anon-1", e.properties["tracking"].(map[string]any)["anonymousId"])
		case "trial_started":
			require.Equal(t, "pro", e.properties["plan_name"])
			require.WithinDuration(t, time.Now(), e.Timing.OccurredAt, time.Minute)
			require.Equal(t, schema.OnTime, e.Lateness)
		case "signed_up":
			require.WithinDuration(t, time.Date(2024, 3, 4, 5, 6, 7, 89e6, time.UTC), e.Timing.OccurredAt, time.Minute, "the old one keeps its time")
			require.Equal(t, schema.Historic, e.Lateness)
		case "group":
			require.Equal(t, "team", e.traits["group_plan"])
		case "alias":
			require.Equal(t, "anon-1", e.properties["previous_id"])
		}
	}
	require.Len(t, ids, 7)
	require.Equal(t, map[string]int{"identify": 1, "trial_started": 1, "page": 1, "screen": 1, "group": 1, "alias": 1, "signed_up": 1}, names)
}

func TestA1SegmentNode(t *testing.T) {
	t.Parallel()
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) {
		c.Keys = ring(t, entry("node", api.RoleWrite, "right"))
	})
	url, requests := d.open(t, nil)
	require.Empty(t, sdk(t, "segment", url, "right"))
	require.Len(t, requests(), 1)
	require.Equal(t, "/v1/batch", requests()[0].path)
	allKinds(t, d.stored(t))
	require.Equal(t, "onramp.events.node", d.stored(t)[0].subject)

	errs := sdk(t, "segment-one", url, "wrong")
	require.NotEmpty(t, errs, "an SDK with a wrong key says so")
	require.Contains(t, strings.Join(errs, " "), "401")
	require.Len(t, d.stored(t), 7)
}

// TestA2SegmentRestart has NATS away for the first two tries.
func TestA2SegmentRestart(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	url, requests := d.open(t, func(n int) {
		if n == 3 {
			d.broker.Start(t)
			require.Eventually(t, d.js.Conn().IsConnected, patience, poll)
		}
	})
	d.broker.Stop()
	require.Eventually(t, func() bool { return !d.js.Conn().IsConnected() }, patience, poll)
	require.Empty(t, sdk(t, "segment", url, "any"))
	allKinds(t, d.stored(t))
	all := requests()
	require.GreaterOrEqual(t, len(all), 3)
	require.Equal(t, []int{503, 503}, []int{all[0].status, all[1].status})
	require.Equal(t, 200, all[len(all)-1].status)
	require.NotEmpty(t, all[1].retry, "X-Retry-Count")
}

// TestA3SegmentBackPressure uses up the rate of the key, and has the SDK wait as long as it is told.
func TestA3SegmentBackPressure(t *testing.T) {
	t.Parallel()
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) {
		c.Keys = ring(t, entry("slow", api.RoleWrite, "slow", "rate: 0.5"))
	})
	items := make([]string, 2500)
	for i := range items {
		items[i] = fmt.Sprintf(`{"type":"track","messageId":"%d","userId":"u","event":"E"}`, i)
	}
	require.Equal(t, http.StatusOK, post(t, d.handler, "/v1/batch", `{"batch":[`+strings.Join(items, ",")+`]}`, "Authorization", basic("slow")).Code)
	url, requests := d.open(t, func(n int) {
		if n == 1 {
			d.empty(t, "slow")
		}
	})
	require.Empty(t, sdk(t, "segment-one", url, "slow"))
	all := requests()
	require.Equal(t, 429, all[0].status)
	require.Equal(t, 200, all[len(all)-1].status)
	require.GreaterOrEqual(t, all[len(all)-1].at.Sub(all[0].at), 900*time.Millisecond, "it waited")
	found := 0
	for _, e := range d.stored(t) {
		if e.UserID == "ann" {
			found++
		}
	}
	require.Equal(t, 1, found)
}

// empty spends what the key has won while a test prepared, until it is refused.
func (d *door) empty(t *testing.T, key string) {
	t.Helper()
	for range 50 {
		if post(t, d.handler, "/v1/track", `{"userId":"u","event":"E"}`, "Authorization", basic(key)).Code == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("the rate is not used up")
}

// TestA4SegmentLarge sends an event of 40 KB, which the SDK lets through, between two others. The other limits are in
// TestTrackingBadInput, TestTrackingBatch and TestTrackingMemory.
func TestA4SegmentLarge(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	url, _ := d.open(t, nil)
	require.Empty(t, sdk(t, "segment-large", url, "any"))
	all := d.stored(t)
	require.Len(t, all, 2)
	require.Equal(t, []string{"before", "after"}, []string{all[0].EventName, all[1].EventName})
	require.Equal(t, 1, d.count(api.VerdictRefused))
}

func TestA5RudderStackNode(t *testing.T) {
	t.Parallel()
	for what, encoding := range map[string]string{"rudder": "", "rudder-gzip": "gzip"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) { c.Keys = ring(t, entry("rs", api.RoleWrite, "right")) })
			url, requests := d.open(t, nil)
			require.Empty(t, sdk(t, what, url, "right"))
			require.Equal(t, encoding, requests()[0].encoding)
			allKinds(t, d.stored(t))
		})
	}
}

func TestA8LegacyNode(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	url, _ := d.open(t, nil)
	require.Empty(t, sdk(t, "legacy", url, "any"))
	all := d.stored(t)
	require.Len(t, all, 1)
	require.Equal(t, "4242", all[0].UserID)
}
