package api_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/api/onrampv1"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

const (
	callersID                 = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersTrace schema.Trace = "00-" + callersID + "-00f067aa0ba902b7-01"
)

func recordingSpans(t *testing.T) (tracing.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	return tracing.New(provider), spans
}

// TestTracePassesThrough: on every tracking route the trace that a caller names goes with the event, as it is; what is none counts for nothing.
func TestTracePassesThrough(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	call := func(path, body string, trace ...string) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+path, strings.NewReader(body))
		request.Header["Traceparent"] = trace
		w := httptest.NewRecorder()
		d.handler.ServeHTTP(w, request)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", path, w.Body)
	}
	const alone, batch = `{"userId":"ann","event":"Seen","name":"x","groupId":"g","previousId":"bob"}`, `{"batch":[{"type":"track","userId":"ann","event":"Seen"},{"type":"track","userId":"ann","event":"Seen"}]}`
	var want []schema.Trace
	for _, path := range []string{"track", "identify", "page", "screen", "group", "alias", "t", "i", "p", "s", "g", "a"} {
		call("/v1/"+path, alone, string(callersTrace))
		want = append(want, callersTrace)
	}
	for _, path := range []string{"batch", "b", "import"} {
		call("/v1/"+path, batch, string(callersTrace))
		want = append(want, callersTrace, callersTrace)
	}
	call("/v1/track", alone)
	call("/v1/track", alone, "garbage")
	call("/v1/track", alone, string(callersTrace), string(callersTrace))
	want = append(want, "", "", "")
	var got []schema.Trace
	for _, e := range d.stored(t) {
		got = append(got, e.Trace)
	}
	require.Equal(t, want, got)
}

// TestTraceOfCall: with spans on, the event is told of the span that published it, and the access log of its trace, also where the caller
// named none.
func TestTraceOfCall(t *testing.T) {
	t.Parallel()
	tracer, spans := recordingSpans(t)
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) { c.Tracer = tracer })
	events, err := jetstream.New(d.js.Conn(), api.IntakeOptions()...)
	require.NoError(t, err)
	var log bytes.Buffer
	handler := api.New(api.Config{WorkspaceKey: key(), Events: events, Tracer: tracer}, nil, nil, slog.New(slog.NewJSONHandler(&log, nil))).Handler()
	for n, trace := range []string{string(callersTrace), ""} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v1/track", strings.NewReader(`{"userId":"ann@example.com","event":"Seen"}`))
		request.Header.Set("Traceparent", trace)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, request)
		require.Equal(t, http.StatusOK, w.Code)
		span, stored := spans.GetSpans()[n], d.stored(t)[n]
		require.Equal(t, "publish events", span.Name)
		require.Equal(t, schema.Trace("00-"+span.SpanContext.TraceID().String()+"-"+span.SpanContext.SpanID().String()+"-01"), stored.Trace)
		require.Equal(t, trace != "", stored.Trace.ID() == callersID)
		require.Equal(t, trace != "", span.Parent.IsValid())
		for _, a := range span.Attributes {
			require.NotContains(t, a.Value.String(), "ann", "who somebody is")
		}
		var entry struct {
			TraceID string `json:"trace_id"`
		}
		line, err := log.ReadBytes('\n')
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(line, &entry))
		require.Equal(t, stored.Trace.ID(), entry.TraceID)
	}
}

func TestTraceOverGRPC(t *testing.T) {
	t.Parallel()
	s := speak(t, nil)
	for _, trace := range []string{string(callersTrace), "garbage"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", trace)
		answer, err := s.client.Publish(ctx, &onrampv1.PublishRequest{Events: []*onrampv1.Event{{EventName: "seen", UserId: "ann"}}})
		require.NoError(t, err)
		require.EqualValues(t, 1, answer.GetAccepted())
	}
	all := s.door.stored(t)
	require.Len(t, all, 2)
	require.Equal(t, []schema.Trace{callersTrace, ""}, []schema.Trace{all[0].Trace, all[1].Trace})
}

// TestTraceOfPage: a page's request over NATS names a trace in whatever case.
func TestTraceOfPage(t *testing.T) {
	t.Parallel()
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	seed, err := account.Seed()
	require.NoError(t, err)
	issuer, err := api.NewBrowsers(api.BrowsersConfig{Seed: seed})
	require.NoError(t, err)
	b := openBus(t, testenv.NewBroker(t), func(c *api.Config) { c.Browsers = issuer })
	var credentials struct {
		Subjects struct {
			Track string `json:"track"`
		} `json:"subjects"`
	}
	require.NoError(t, json.Unmarshal(post(t, b.handler, "/v1/users/ann/credentials", "").Body.Bytes(), &credentials))
	request := nats.NewMsg(credentials.Subjects.Track)
	request.Data = []byte(`{"event_name":"seen","event_id":"1"}`)
	request.Header.Set("traceParent", string(callersTrace))
	answer, err := b.nc.RequestMsg(request, patience)
	require.NoError(t, err)
	require.Contains(t, string(answer.Data), `"success":true`)
	message, err := lastEvent(t, b.js)
	require.NoError(t, err)
	require.Equal(t, callersTrace, schema.TraceOf(message.Header))
}
