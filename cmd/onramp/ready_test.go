package main

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
)

// The promise of /readyz.
const (
	readyWithin    = 5 * time.Second
	notReadyWithin = 10 * time.Second
	healsWithin    = time.Minute // servers take their time to start
)

// answerReady is what /readyz?verbose says.
type answerReady struct {
	Failed []string `json:"failed"`
	Checks []struct {
		Name  string `json:"name"`
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	} `json:"checks"`
	code int
}

func askReady(t *testing.T, addr, query string) (answerReady, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/readyz?verbose"+query, http.NoBody)
	require.NoError(t, err)
	response, err := (&http.Client{Timeout: readyWithin}).Do(request)
	if err != nil {
		return answerReady{}, err
	}
	defer response.Body.Close()
	answer := answerReady{code: response.StatusCode}
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}

// TestReadyTellsTheTruth takes each part away that an event needs on its way, and brings it back.
func TestReadyTellsTheTruth(t *testing.T) { //nolint:paralleltest // alone: it keeps both processors busy
	if testing.Short() {
		t.Skip("runs for minutes")
	}
	seed := chaosSeed(t)
	r := newRig(t, rigConfig{seed: seed})
	addr := "127.0.0.1:" + r.port(rand.New(rand.NewPCG(seed, 5)))
	r.role("api", 0, "--api-addr", addr)
	become := func(within time.Duration, what string, holds func(answerReady) bool) {
		t.Helper()
		began := time.Now()
		var last answerReady
		var failed error
		defer func() {
			t.Logf("%s: %s, not ready: %v", what, time.Since(began).Round(100*time.Millisecond), last.Failed)
			if t.Failed() {
				t.Logf("the last answer: %+v, and %v", last, failed)
			}
		}()
		require.Eventually(t, func() bool {
			answer, err := askReady(t, addr, "")
			if failed = err; err != nil {
				return false
			}
			last = answer
			return holds(answer)
		}, within, 200*time.Millisecond, what)
	}
	ready := func(a answerReady) bool { return a.code == http.StatusOK }
	naming := func(name string) func(answerReady) bool {
		return func(a answerReady) bool {
			return a.code == http.StatusServiceUnavailable && slices.Contains(a.Failed, name)
		}
	}
	eventually(t, time.Minute, "the API listens", func() bool {
		_, err := askReady(t, addr, "")
		return err == nil
	})
	become(readyWithin, "ready", ready)
	for _, c := range []struct{ part, named string }{
		{"ingest-0", "ingest"}, {"sink-0", "archive"}, {"clickhouse", "clickhouse"}, {"nats", "nats"}, {"temporal", "temporal"},
	} {
		p := r.part(c.part)
		p.hold()
		p.signal(syscall.SIGKILL)
		become(notReadyWithin, c.part+" is away", naming(c.named))
		if c.part == "clickhouse" {
			become(notReadyWithin, "what needs ClickHouse does not pass either", naming("archive"))
			answer, err := askReady(t, addr, "&exclude=clickhouse&exclude=archive")
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, answer.code, "all else is there: %+v", answer)
		}
		if c.part == "temporal" { // it forgets who asked it for tasks
			worker := r.part("worker")
			worker.hold()
			worker.signal(syscall.SIGKILL)
			p.release()
			become(healsWithin, "no worker", func(a answerReady) bool { return slices.Equal(a.Failed, []string{"workers"}) })
			worker.release()
		}
		p.release()
		become(healsWithin, "healed", ready)
	}
	r.leftNoCanary(t)
}

// leftNoCanary: the stream holds hardly any, and nobody else has heard of them.
func (r *rig) leftNoCanary(t *testing.T) {
	t.Helper()
	stream, err := r.js.Stream(t.Context(), schema.EventsStream)
	require.NoError(t, err)
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(schema.CanarySubject))
	require.NoError(t, err)
	require.Less(t, info.State.Subjects[schema.CanarySubject], uint64(10), "those whose acknowledgment was lost, and the newest")
	require.Positive(t, info.State.NumDeleted)
	require.Zero(t, count(t, r.store(), `SELECT count() FROM events WHERE event_name = ?`, schema.CanaryEvent))
	require.Zero(t, count(t, r.store(), `SELECT count() FROM users WHERE user_id = ?`, schema.CanaryEvent))
	require.Zero(t, count(t, r.store(), `SELECT count() FROM dead_letters`))
	r.settle()
	verdict := r.verify()
	require.Zero(t, verdict.Differences, verdict.Found)
}
