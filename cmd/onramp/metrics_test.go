package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

type takes struct{ fail int }

// Send implements ingest.Sender.
func (s *takes) Send(context.Context, schema.JourneyStart, schema.EventBatch) (schema.Patience, error) {
	if s.fail--; s.fail >= 0 {
		return schema.Patience{}, &schema.Error{Code: schema.CodeUnavailable, Message: "away"}
	}
	return schema.Patience{}, nil
}

// watched is an engine on a NATS of its own whose roles have all done something, with the metrics it tells.
func watched(t *testing.T) (*engine, jetstream.JetStream) {
	t.Helper()
	js := testenv.NewBroker(t).Connect(t)
	require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{}))
	logger := slog.New(slog.DiscardHandler)
	e := &engine{js: js, metrics: newMetrics(), logger: logger}
	var err error
	reads := func() (ingest.Playbook, error) {
		return ingest.Playbook{Hash: "h", Revision: 1, Reads: func(event string, _ bool) bool { return event == "used" }}, nil
	}
	e.ingest, err = ingest.New(js, &takes{fail: 1}, reads, ingest.Config{WorkspaceKey: []byte(embeddedKey), Meters: e.metrics.ingestMeters()}, logger)
	require.NoError(t, err)
	e.sink = outcome.NewSink(js, nil, outcome.SinkConfig{WorkspaceKey: []byte(embeddedKey), Meters: e.metrics.sinkMeters()})
	require.NoError(t, e.sink.EnsureConsumers(t.Context()))
	e.mirror = api.NewMirror(js, logger)
	e.metrics.watch(e)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.ingest.Run(ctx) }()
	for _, body := range []string{
		`{"event_name":"used","user_id":"secret@example.com"}`, `{"event_name":"secret_name","user_id":"secret@example.com"}`, `{"user_id":"secret@example.com"}`,
	} {
		publishRaw(t, js, []byte(body))
	}
	eventually(t, testenv.Patience, "all events are settled", func() bool {
		stats := e.ingest.Stats()
		return stats.Signaled == 1 && stats.Skipped == 1 && stats.Rejected == 1 && stats.InHand == 0 && stats.Mailboxes == 0
	})
	stop()
	require.NoError(t, <-done)
	worker := e.metrics.workerMeters()
	worker.Commit(.01)
	worker.Latency(.02)
	worker.Outcome(schema.SegmentEntered)
	worker.Action("send_mail", activities.ResultDelivered)
	worker.Deliver(true, .3)
	e.metrics.sinkMeters().Insert(schema.ArchiveConsumer, .1)
	e.metrics.sinkMeters().Batch(schema.ArchiveConsumer, 300)
	e.metrics.answered()("/readyz", 200, time.Millisecond)
	temporal := newTemporalMetrics(e.metrics.registry).WithTags(map[string]string{
		"task_queue": "onramp", "namespace": "default", "workflow_type": "none", "operation": "RespondWorkflowTaskCompleted", "stranger": "secret@example.com",
	})
	temporal.Counter("temporal_request").Inc(1)
	temporal.Counter("temporal_local_activity_total").Inc(1)
	temporal.Gauge("temporal_sticky_cache_size").Update(3)
	temporal.Timer("temporal_request_latency").Record(time.Second)
	temporal.WithTags(map[string]string{"status_code": "Unavailable"}).Counter("temporal_request").Inc(1)
	return e, js
}

func scrape(t *testing.T, e *engine, path string) (int, string) {
	t.Helper()
	server := httptest.NewServer(e.metrics.adminHandler(e.logger))
	defer server.Close()
	code, body := get(t, server.URL+path)
	return code, string(body)
}

// TestMetrics: the names are as Prometheus wants them, the values are right, and nothing of a user is among them.
func TestMetrics(t *testing.T) {
	t.Parallel()
	e, _ := watched(t)
	code, text := scrape(t, e, "/metrics")
	require.Equal(t, http.StatusOK, code)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	for _, line := range []string{
		`onramp_ingest_events_total{result="signaled"} 1`, `onramp_ingest_events_total{result="skipped"} 1`,
		`onramp_ingest_dead_letters_total{reason="bad_event_name"} 1`, `onramp_ingest_dead_letters_total{reason="future"} 0`,
		`onramp_ingest_signal_retries_total 1`, `onramp_ingest_signal_duration_seconds_count 2`, `onramp_ingest_batch_events_sum 1`,
		`onramp_ingest_delay_seconds_count 1`, `onramp_ingest_mailboxes 0`,
		`onramp_stream_messages{stream="ONRAMP_DEADLETTERS"} 1`, `onramp_stream_messages{stream="ONRAMP_EVENTS"} 3`,
		`onramp_consumer_pending_messages{consumer="archive",stream="ONRAMP_EVENTS"} 3`,
		`onramp_consumer_pending_messages{consumer="ingest",stream="ONRAMP_EVENTS"} 0`,
		`onramp_outcomes_total{kind="segment_entered"} 1`, `onramp_outcomes_total{kind="goal_converted"} 0`,
		`onramp_action_attempts_total{action="send_mail",result="delivered"} 1`, `onramp_jetstream_up 1`,
		`onramp_sink_batch_rows_sum{consumer="archive"} 300`, `onramp_profiles 0`,
		`temporal_local_activity_total{activity_type="",failure_reason="",operation="RespondWorkflowTaskCompleted",poller_type="",status_code="",task_queue="onramp",worker_type="",workflow_type=""} 1`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.Contains(t, text, "onramp_build_info{")
	require.Contains(t, text, "temporal_request_latency_seconds_bucket")
	require.Contains(t, text, "go_goroutines")
	require.NotContains(t, text, "secret")
	require.NotContains(t, text, schema.UserToken([]byte(embeddedKey), "secret@example.com"))
}

// TestMetricsAreWrittenDown: the table in docs/operations.md has every metric of ours and no other.
func TestMetricsAreWrittenDown(t *testing.T) {
	t.Parallel()
	e, _ := watched(t)
	families, err := e.metrics.registry.Gather()
	require.NoError(t, err)
	var told []string
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "onramp_") {
			told = append(told, family.GetName())
		}
	}
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	var written []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(onramp_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		written = append(written, m[1])
	}
	slices.Sort(written)
	require.Equal(t, told, written)
}

// TestMetricsWhileNATSIsAway: what the process knows itself is told all the same, and soon.
func TestMetricsWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	e, js := watched(t)
	js.Conn().Close()
	began := time.Now()
	code, text := scrape(t, e, "/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Less(t, time.Since(began), 2*scrapeTimeout)
	require.Contains(t, text, "onramp_jetstream_up 0\n")
	require.Contains(t, text, `onramp_ingest_events_total{result="signaled"} 1`)
}

// TestActionNamesAreBounded: an operator who makes up names without end does not fill Prometheus.
func TestActionNamesAreBounded(t *testing.T) {
	t.Parallel()
	names := bounded{most: 3}
	got := map[string]bool{}
	for n := range 10 {
		got[names.name(fmt.Sprint("action", n))] = true
	}
	require.Len(t, got, 4)
	require.True(t, got["other"])
	require.Equal(t, "action0", names.name("action0"))
}

// TestAdminPort: metrics and profiles, nothing else; the usual port is no reason not to start, one that was asked for is.
func TestAdminPort(t *testing.T) {
	t.Parallel()
	e := &engine{logger: slog.New(slog.DiscardHandler), metrics: newMetrics()}
	for path, want := range map[string]int{"/metrics": 200, "/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200, "/": 404, "/v1/users/x": 404} {
		code, _ := scrape(t, e, path)
		require.Equal(t, want, code, path)
	}
	open := func(addr string) (*engine, error) {
		e := &engine{logger: slog.New(slog.DiscardHandler), servers: servers{AdminAddr: addr}}
		err := e.openAdmin(t.Context())
		t.Cleanup(e.close)
		return e, err
	}
	first, err := open("")
	require.NoError(t, err)
	second, err := open("")
	require.NoError(t, err)
	require.NotEqual(t, first.admin.Addr().String(), second.admin.Addr().String())
	require.True(t, strings.HasPrefix(second.admin.Addr().String(), "127.0.0.1:"))
	_, err = open(second.admin.Addr().String())
	require.ErrorContains(t, err, "--admin-addr")
	off, err := open(adminOff)
	require.NoError(t, err)
	require.Nil(t, off.admin)
	require.Nil(t, off.metrics.ingestMeters().Page, "without an admin port nothing is measured")

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- second.serveAdmin(ctx) }()
	eventually(t, testenv.Patience, "it answers", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+second.admin.Addr().String()+"/metrics", nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err == nil && response.StatusCode == http.StatusOK
	})
	stop()
	require.NoError(t, <-done)
}
