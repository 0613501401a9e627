package outcome_test

import (
	"io/fs"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// TestRowsHaveTheirTrace: an event's row and those of what it caused are found by the id of its trace; the insert links to it.
func TestRowsHaveTheirTrace(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	for n, trace := range []string{"00-" + id + "-00f067aa0ba902b7-01", "", "garbage"} {
		header := map[string][]string{}
		if trace != "" {
			header["Traceparent"] = []string{trace}
		}
		body := `{"event_id":"e` + string(rune('1'+n)) + `","event_name":"seen","user_id":"ann"}`
		_, err := js.PublishMsg(t.Context(), natsMsg(schema.EventSubject("web"), body, header), jetstream.WithExpectStream(schema.EventsStream))
		require.NoError(t, err)
	}
	token := schema.UserToken(workspaceKey, "ann")
	publishOutcome(t, js, schema.Outcome{OutcomeID: "o1", Kind: schema.SegmentEntered, UserToken: token, At: 1, Trace: "00-" + id + "-00f067aa0ba902b7-01"})
	publishOutcome(t, js, schema.Outcome{OutcomeID: "o2", Kind: schema.SegmentLeft, UserToken: token, At: 1})
	publishOutcome(t, js, schema.Outcome{OutcomeID: "o3", Kind: schema.GoalConverted, UserToken: token, At: 1, Trace: "garbage"})
	_, stop := runSink(t, js, store, outcome.SinkConfig{Tracer: tracing.New(provider)})
	settled(t, js)
	stop()
	require.Equal(t, []string{"('e1','" + id + "')", "('e2','')", "('e3','')"}, rowsOf(t, store, "SELECT event_id, trace_id FROM events_unique ORDER BY event_id"))
	require.Equal(t, []string{"('o1','" + id + "')", "('o2','')", "('o3','')"}, rowsOf(t, store, "SELECT outcome_id, trace_id FROM outcomes_unique ORDER BY outcome_id"))
	linked := map[string]int{}
	for _, span := range spans.GetSpans() {
		for _, link := range span.Links {
			require.Equal(t, id, link.SpanContext.TraceID().String())
			linked[span.Name]++
		}
	}
	require.Equal(t, map[string]int{"insert events": 1, "insert outcomes": 1}, linked)
}

// TestRowsFromBefore: rows that were there before they could have a trace have none, and a program that knows of none still writes.
func TestRowsFromBefore(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	files, err := fs.Sub(schema.Migrations, "clickhouse")
	require.NoError(t, err)
	db := clickhouse.OpenDB(&clickhouse.Options{Addr: []string{clickHouse(t).ClickHouseAddr}, Auth: clickhouse.Auth{Database: database(t)}})
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	migrations, err := goose.NewProvider(goose.DialectClickHouse, db, files, goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	write := func(id string) {
		require.NoError(t, store.Conn().Exec(t.Context(), "INSERT INTO events (event_id, event_name, user_token, sequence) VALUES (?, 'seen', 'u', 1)", id))
		require.NoError(t, store.Conn().Exec(t.Context(), "INSERT INTO outcomes (outcome_id, kind, user_token, sequence) VALUES (?, 'segment_left', 'u', 1)", id))
	}
	_, err = migrations.DownTo(t.Context(), 9)
	require.NoError(t, err)
	write("before")
	require.Equal(t, []string{"('before')"}, rowsOf(t, store, "SELECT event_id FROM events_unique"))
	_, err = migrations.Up(t.Context())
	require.NoError(t, err)
	write("older program")
	require.Equal(t, []string{"('before','')", "('older program','')"}, rowsOf(t, store, "SELECT event_id, trace_id FROM events_unique ORDER BY event_id"))
	require.Equal(t, []string{"('before','')", "('older program','')"}, rowsOf(t, store, "SELECT outcome_id, trace_id FROM outcomes_unique ORDER BY outcome_id"))
}
