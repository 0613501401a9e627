package tracing_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// traceOf is the trace of that number, in the span of that number.
func traceOf(id, span int) schema.Trace {
	return schema.Trace(fmt.Sprintf("00-%032x-%016x-01", id, span))
}

// recording is a tracer whose spans the test sees as soon as they end.
func recording(t *testing.T) (tracing.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	return tracing.New(provider), spans
}

// TestThrough: a trace goes through a context as it is, whether spans are made or not.
func TestThrough(t *testing.T) {
	t.Parallel()
	for _, in := range []schema.Trace{traceOf(1, 2), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"} {
		require.Equal(t, in, tracing.Of(tracing.Within(t.Context(), in)))
		inside, span := tracing.Tracer{}.Start(tracing.Within(t.Context(), in), "nothing", trace.SpanKindInternal)
		span.End(nil)
		require.Equal(t, in, tracing.Of(inside))
	}
	for _, none := range []schema.Trace{"", "garbage", schema.Trace(strings.Repeat("x", 55)), traceOf(0, 1), traceOf(1, 0)} {
		require.Equal(t, t.Context(), tracing.Within(t.Context(), none))
	}
	require.Empty(t, tracing.Of(t.Context()))
	require.False(t, tracing.New(nil).On())
	require.Equal(t, slog.String("trace_id", fmt.Sprintf("%032x", 1)), tracing.Logged(traceOf(1, 2)))
	require.Equal(t, slog.Attr{}, tracing.Logged(""))
}

func TestStart(t *testing.T) {
	t.Parallel()
	tracer, spans := recording(t)
	inside, span := tracer.Start(tracing.Within(t.Context(), traceOf(1, 2)), "work", trace.SpanKindClient, attribute.Int("n", 1))
	span.Set(attribute.Int("m", 2))
	span.End(&schema.Error{Code: schema.CodeUnavailable, Message: "who it is", Err: errors.New("stays out")})
	got := spans.GetSpans()
	require.Len(t, got, 1)
	require.Equal(t, traceOf(1, 2).ID(), got[0].SpanContext.TraceID().String())
	require.Equal(t, "0000000000000002", got[0].Parent.SpanID().String())
	require.True(t, got[0].Parent.IsRemote())
	require.Equal(t, tracing.Of(inside), schema.Trace("00-"+traceOf(1, 2).ID()+"-"+got[0].SpanContext.SpanID().String()+"-01"), "what is inside is told of this span")
	require.Equal(t, []attribute.KeyValue{attribute.Int("n", 1), attribute.Int("m", 2)}, got[0].Attributes)
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "unavailable"}, got[0].Status)
}

// TestShared: a span in each trace, a link for what else the trace has there, nothing for events that nobody traces.
func TestShared(t *testing.T) {
	t.Parallel()
	tracer, spans := recording(t)
	part := func(in schema.Trace, n int) tracing.Part {
		return tracing.Part{Trace: in, Attributes: []attribute.KeyValue{attribute.Int("n", n)}}
	}
	tracer.Shared(t.Context(), "batch", trace.SpanKindConsumer, []tracing.Part{
		part(traceOf(1, 10), 1), part("", 2), part(traceOf(2, 20), 3), part(traceOf(1, 11), 4), part(traceOf(1, 10), 5), part("garbage", 6),
	}, attribute.Bool("all", true)).End(nil)
	got := spans.GetSpans()
	require.Len(t, got, 2)
	for n, want := range []struct {
		in    schema.Trace
		n     int
		links []string
	}{{traceOf(1, 10), 1, []string{"000000000000000b"}}, {traceOf(2, 20), 3, nil}} {
		require.Equal(t, want.in.ID(), got[n].SpanContext.TraceID().String())
		require.Equal(t, string(want.in[36:52]), got[n].Parent.SpanID().String())
		require.Equal(t, []attribute.KeyValue{attribute.Bool("all", true), attribute.Int("n", want.n)}, got[n].Attributes)
		var links []string
		for _, link := range got[n].Links {
			links = append(links, link.SpanContext.SpanID().String())
		}
		require.Equal(t, want.links, links)
	}
	spans.Reset()
	tracer.Shared(t.Context(), "batch", trace.SpanKindConsumer, nil).End(nil)
	tracer.Shared(t.Context(), "batch", trace.SpanKindConsumer, []tracing.Part{part("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", 1)}).End(nil)
	tracing.Tracer{}.Shared(t.Context(), "batch", trace.SpanKindConsumer, []tracing.Part{part(traceOf(1, 1), 1)}).End(nil)
	require.Empty(t, spans.GetSpans(), "nobody traces it, the trace is not recorded, spans are off")
}

func TestLinked(t *testing.T) {
	t.Parallel()
	tracer, spans := recording(t)
	traces := []schema.Trace{"", traceOf(1, 1), traceOf(1, 1), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
	for n := range 200 {
		traces = append(traces, traceOf(n+2, 1))
	}
	tracer.Linked(tracing.Within(t.Context(), traceOf(7, 7)), "insert", trace.SpanKindClient, traces).End(nil)
	got := spans.GetSpans()
	require.Len(t, got, 1)
	require.False(t, got[0].Parent.IsValid(), "a trace of its own")
	require.Len(t, got[0].Links, 128)
	require.Equal(t, traceOf(1, 1).ID(), got[0].Links[0].SpanContext.TraceID().String())
	spans.Reset()
	tracer.Linked(t.Context(), "insert", trace.SpanKindClient, []schema.Trace{"", ""}).End(nil)
	tracing.Tracer{}.Linked(t.Context(), "insert", trace.SpanKindClient, traces).End(nil)
	require.Empty(t, spans.GetSpans())
}

func BenchmarkOff(b *testing.B) {
	parts := []tracing.Part{{Trace: traceOf(1, 1)}}
	b.ReportAllocs()
	for b.Loop() {
		tracing.Tracer{}.Shared(b.Context(), "batch", trace.SpanKindConsumer, parts).End(nil)
	}
}
