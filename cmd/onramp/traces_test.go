package main

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// spans is a collector of OTLP over HTTP.
type spans struct {
	*httptest.Server

	mu       sync.Mutex
	all      []*tracepb.Span
	services []string
}

func newSpans(t *testing.T) *spans {
	t.Helper()
	s := &spans{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(raw, &request) != nil {
			http.Error(w, "no spans", http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, resource := range request.GetResourceSpans() {
			for _, a := range resource.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					s.services = append(s.services, a.GetValue().GetStringValue())
				}
			}
			for _, scope := range resource.GetScopeSpans() {
				s.all = append(s.all, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// of are the names of the spans in a trace, and those of spans that link to it, each once.
func (s *spans) of(id string) (names, linked []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.all {
		if hex.EncodeToString(span.GetTraceId()) == id {
			names = append(names, span.GetName())
		}
		for _, link := range span.GetLinks() {
			if hex.EncodeToString(link.GetTraceId()) == id {
				linked = append(linked, span.GetName())
			}
		}
	}
	slices.Sort(names)
	slices.Sort(linked)
	return slices.Compact(names), slices.Compact(linked)
}

// said is everything that the spans say, as text.
func (s *spans) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text strings.Builder
	for _, span := range s.all {
		text.WriteString(span.String() + "\n")
	}
	return text.String()
}

const tracedPlaybook = `
name: traced
events: {signed_up: {}}
segments:
  newcomer: {when: 'did("signed_up")'}
actions:
  greet: {}
  ring: {deliver: "webhook:receiver"}
journeys:
  welcome:
    enter: {on: signed_up}
    steps:
      - {id: hello, action: greet}
      - {id: call, action: ring}
`

// TestC3OneTrace: JS publishes with a traceparent over WebSocket, as a page and as a service, and over HTTP. Of each the one trace id is in
// the log, in the spans of ingest, workflow and deliveries, in the rows of the event and of what followed, and with the receivers.
func TestC3OneTrace(t *testing.T) {
	t.Parallel()
	testenv.NeedNode(t, nodePackages) // before the servers are started for nothing
	const page, service, web = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c", "80e1afed08e019fc1110464cfa66635c"
	ids, parent := []string{page, service, web}, "00f067aa0ba902b7"
	posted := make(chan string, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { posted <- r.Header.Get("Traceparent") }))
	t.Cleanup(receiver.Close)
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	seed, err := account.Seed()
	require.NoError(t, err)
	collected := newSpans(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	p := startDevIn(t, t.TempDir(), []string{
		"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT=" + collected.URL,
		"OTEL_BSP_SCHEDULE_DELAY=50", "ONRAMP_LOG_LEVEL=debug", "ONRAMP_LOG_FORMAT=json",
	}, log, "--nats-websocket-port=-1", "--browser-seed-file", file("seed", string(seed)), "--playbook", file("playbook.yaml", tracedPlaybook),
		"--webhooks", file("webhooks.yaml", "receiver: {url: \""+receiver.URL+"\", secret: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz, allow_private: true}"))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.addrs["api"]+"/v1/users/page%40example.com/credentials", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	credentials, err := io.ReadAll(response.Body)
	require.NoError(t, response.Body.Close())
	require.NoError(t, err)

	var answered struct{ Page, Service, HTTP string }
	testenv.Node(t, nodePackages, &answered, "traces.mjs", p.addrs["nats_websocket"], string(credentials), p.addrs["api"],
		"00-"+page+"-"+parent+"-01", "00-"+service+"-"+parent+"-01", "00-"+web+"-"+parent+"-01")
	require.Equal(t, "by-page", answered.Page)
	require.Equal(t, schema.EventsStream, answered.Service)
	require.Equal(t, "by-http", answered.HTTP)

	store := p.store(t)
	for n, id := range ids {
		event := []string{"by-page", "by-service", "by-http"}[n]
		eventually(t, 30*time.Second, "the row of "+event, func() bool {
			return count(t, store, "SELECT count() FROM events_unique WHERE event_id = '"+event+"' AND trace_id = '"+id+"'") == 1
		})
		eventually(t, 30*time.Second, "outcomes of "+event, func() bool {
			return count(t, store, "SELECT uniqExact(kind) FROM outcomes_unique WHERE trace_id = '"+id+"' AND kind IN ('segment_entered', 'action_decided')") == 2 &&
				count(t, store, "SELECT count() FROM outcomes_unique WHERE trace_id = '"+id+"' AND kind = 'action_delivered'") == 2
		})
		require.Zero(t, count(t, store, "SELECT count() FROM outcomes_unique WHERE cause_event_id = '"+event+"' AND trace_id != '"+id+"'"))
		want := []string{"commit decision", "post action", "publish action", "send events"}
		if id != service { // who publishes into the stream makes that span
			want = slices.Insert(want, 3, "publish events")
		}
		var names, linked []string
		eventually(t, 30*time.Second, "spans of "+event, func() bool {
			names, linked = collected.of(id)
			return slices.Equal(names, want) && slices.Equal(linked, []string{"insert events", "insert outcomes"})
		})
		logged := loggedWith(t, log.Name(), id)
		require.Contains(t, logged, "event handed to its workflow")
		require.Contains(t, logged, "decision recorded")
		require.Equal(t, id == web, slices.Contains(logged, "request answered"))
	}
	require.Contains(t, collected.services, "onramp")
	require.NotContains(t, collected.said(), "example.com", "who somebody is")
	requireTraced(t, p, store, ids, posted)
	p.innocent(t)
}

// requireTraced holds what receivers were told of the trace against the ids.
func requireTraced(t *testing.T, p *process, store *outcome.Store, ids []string, posted <-chan string) {
	t.Helper()
	var told []string
	for range ids {
		told = append(told, schema.ParseTrace(<-posted).ID())
	}
	require.ElementsMatch(t, ids, told, "over HTTP")
	stream, err := p.js(t).Stream(t.Context(), schema.ActionsStream)
	require.NoError(t, err)
	told = nil
	for seq := range ids {
		var message *jetstream.RawStreamMsg
		message, err = stream.GetMsg(t.Context(), uint64(seq)+1)
		require.NoError(t, err)
		told = append(told, schema.TraceOf(message.Header).ID())
	}
	require.ElementsMatch(t, ids, told, "over NATS")
	require.Equal(t, uint64(len(ids)), count(t, store, "SELECT count() FROM events_unique"))
}

// loggedWith are the messages of the lines that speak of a trace.
func loggedWith(t *testing.T, path, id string) (messages []string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		var entry struct {
			Message string `json:"msg"`
			TraceID string `json:"trace_id"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.TraceID == id {
			messages = append(messages, entry.Message)
		}
	}
	return messages
}
