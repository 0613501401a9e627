package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// lines is a log that is written from several goroutines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// of are the messages that speak of a trace.
func (l *lines) of(t *testing.T, id string) (messages []string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		var entry struct {
			Message string `json:"msg"`
			TraceID string `json:"trace_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		if entry.TraceID == id {
			messages = append(messages, entry.Message)
		}
	}
	return messages
}

// TestTraceOfEvent: the trace of an event goes with it to the workflow and stands in the log, also of one that is refused; the batch has a
// span in it. A broken trace costs nothing.
func TestTraceOfEvent(t *testing.T) {
	t.Parallel()
	const good, refused = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
	js := streams(t)
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	for _, one := range []struct{ trace, body string }{
		{"00-" + good + "-00f067aa0ba902b7-01", `{"event_id":"1","event_name":"seen","user_id":"ann"}`},
		{"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", `{"event_id":"2","event_name":"seen","user_id":"ann"}`},
		{"", `{"event_id":"3","event_name":"seen","user_id":"ann"}`},
		{"00-" + refused + "-00f067aa0ba902b7-01", `{"event_id":"4","user_id":"ann"}`},
	} {
		message := nats.NewMsg(schema.EventSubject("test"))
		message.Data = []byte(one.body)
		if one.trace != "" {
			message.Header.Set("TraceParent", one.trace)
		}
		_, err := js.PublishMsg(t.Context(), message)
		require.NoError(t, err)
	}
	s, log := &sender{}, &lines{}
	in, err := ingest.New(js, s, inForce, ingest.Config{WorkspaceKey: workspaceKey, Exclusive: true, Tracer: tracing.New(provider)},
		slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	eventually(t, func() bool { return in.Stats().Received == 4 }, "all are on their way")
	settled(t, js)
	cancel()
	require.NoError(t, <-done)

	traces := make(map[string]schema.Trace)
	s.mu.Lock()
	for _, c := range s.taken {
		for _, e := range c.batch.Events {
			traces[e.EventID] = e.Trace
		}
	}
	s.mu.Unlock()
	require.Equal(t, map[string]schema.Trace{"1": "00-" + good + "-00f067aa0ba902b7-01", "2": "", "3": ""}, traces)
	require.Equal(t, []string{"event handed to its workflow"}, log.of(t, good))
	require.Equal(t, []string{"event refused"}, log.of(t, refused))
	got := spans.GetSpans()
	require.Len(t, got, 1)
	require.Equal(t, "send events", got[0].Name)
	require.Equal(t, good, got[0].SpanContext.TraceID().String())
	require.Equal(t, "00f067aa0ba902b7", got[0].Parent.SpanID().String())
	letter := letters(t, js)
	require.Len(t, letter, 1)
	again := schema.ReadDeadLetter(letter[0].Subject, letter[0].Header, letter[0].Data)
	require.Equal(t, refused, schema.TraceOf(map[string][]string{"traceparent": {again.Headers["TraceParent"]}}).ID(), "who sends it in again goes on with the trace")
}
