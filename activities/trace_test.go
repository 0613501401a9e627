package activities_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

const (
	firstTrace  schema.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	secondTrace schema.Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

func recording(t *testing.T) (tracing.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	return tracing.New(provider), spans
}

// TestTraceOfDecision: a decision is a span in the trace of every event that led to it, and its outcomes carry the traces on.
func TestTraceOfDecision(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	streams(t, js)
	record := activities.NewRecord(js, now)
	tracer, spans := recording(t)
	record.Tracer = tracer
	in := commit()
	in.Outcomes[0].Trace, in.Outcomes[1].Trace = firstTrace, secondTrace
	in.Outcomes = append(in.Outcomes, schema.Outcome{OutcomeID: "o3", Kind: schema.StepEntered, UserToken: "u1"})
	env := environment(t, record)
	_, err := env.ExecuteLocalActivity(record.CommitDecision, in)
	require.NoError(t, err)
	var traces []schema.Trace
	for _, message := range messages(t, js, schema.OutcomesStream) {
		var o schema.Outcome
		require.NoError(t, json.Unmarshal(message.Data, &o))
		traces = append(traces, o.Trace)
	}
	require.Equal(t, []schema.Trace{firstTrace, secondTrace, ""}, traces)
	got := spans.GetSpans()
	require.Len(t, got, 2)
	for n, want := range []schema.Trace{firstTrace, secondTrace} {
		require.Equal(t, "commit decision", got[n].Name)
		require.Equal(t, want.ID(), got[n].SpanContext.TraceID().String())
		require.Equal(t, codes.Unset, got[n].Status.Code)
	}
	spans.Reset()
	require.NoError(t, js.DeleteStream(t.Context(), schema.ProfilesStream))
	_, err = env.ExecuteLocalActivity(record.CommitDecision, in)
	require.Error(t, err)
	require.Len(t, spans.GetSpans(), 2)
	require.Equal(t, codes.Error, spans.GetSpans()[0].Status.Code, "an attempt that fails is a span too")
}

// TestTraceOfAction: receivers are told of the trace, by the span of the attempt where there is one, else as the event brought it.
func TestTraceOfAction(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	streams(t, js)
	url, requests := receiver(t, status(http.StatusOK))
	run := func(tracer tracing.Tracer, to, id string, cause schema.Trace) {
		delivery := activities.NewDelivery(js, map[string]*activities.Webhook{"crm": webhook(t, url)}, now)
		delivery.Tracer = tracer
		in := input(to)
		in.Request.ActionID, in.Delivered.OutcomeID, in.Delivered.Trace = id, id, cause
		_, err := environment(t, delivery).ExecuteActivity(delivery.DeliverAction, in)
		require.NoError(t, err)
	}
	tracer, spans := recording(t)
	var told []schema.Trace
	for n, use := range []struct {
		tracer tracing.Tracer
		cause  schema.Trace
	}{{tracing.Tracer{}, firstTrace}, {tracer, firstTrace}, {tracer, ""}} {
		run(use.tracer, "", string(rune('a'+n)), use.cause)
		run(use.tracer, "crm", string(rune('k'+n)), use.cause)
		posted, published := requests()[n].header, messages(t, js, schema.ActionsStream)[n].Header
		require.Equal(t, use.cause.ID(), schema.TraceOf(posted).ID())
		require.Equal(t, use.cause.ID(), schema.TraceOf(published).ID())
		told = append(told, schema.TraceOf(published), schema.TraceOf(posted))
	}
	require.Equal(t, []schema.Trace{firstTrace, firstTrace}, told[:2], "as the event brought it")
	got := spans.GetSpans()
	require.Len(t, got, 2)
	for n, name := range []string{"publish action", "post action"} {
		require.Equal(t, name, got[n].Name)
		require.Equal(t, "00f067aa0ba902b7", got[n].Parent.SpanID().String())
		require.Equal(t, got[n].SpanContext.SpanID().String(), string(told[2+n][36:52]), "the receiver's span is a child of the attempt's")
	}
	require.Equal(t, []schema.Trace{"", ""}, told[4:], "time alone has no trace")
}
