// Package tracing makes the spans of the engine, and says in logs which trace something belongs to.
//
// An event brings its trace with it (schema.Trace), through the stream, the signal and the outcomes that follow from it; nothing hangs on
// headers of Temporal, and workflow code makes no span. So a span is made where the work is done, as a child of the span that published the
// event. What a batch does for events of several traces is told in each of them: who looks at one trace sees all of it. The insert of rows,
// which may be thousands, is one span with links.
//
// A trace passes through the engine whether spans are made or not. Attributes hold no personal data: tokens, places in streams, subjects
// without users, hashes of playbooks.
package tracing

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/onramphq/onramp/schema"
)

// mostLinks is how many traces one span names, as many as exporters keep by default.
const mostLinks = 128

// scope is the name under which the spans are made.
const scope = "github.com/onramphq/onramp"

// Tracer makes spans. Its zero value makes none, at no cost. Safe for concurrent use.
type Tracer struct{ spans trace.Tracer }

// New returns a Tracer whose spans go to provider; nil: the zero value.
func New(provider trace.TracerProvider) Tracer {
	if provider == nil {
		return Tracer{}
	}
	return Tracer{provider.Tracer(scope)}
}

// On reports whether spans are made, for who would gather attributes in vain.
func (t Tracer) On() bool { return t.spans != nil }

// Within returns ctx inside a trace that came from outside; ctx as it is for none.
func Within(ctx context.Context, in schema.Trace) context.Context {
	if at := contextOf(in); at.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, at)
	}
	return ctx
}

// Of is the trace, and the span in it, that ctx is inside of; empty for none.
func Of(ctx context.Context) schema.Trace {
	at := trace.SpanContextFromContext(ctx)
	if !at.IsValid() {
		return ""
	}
	return schema.Trace("00-" + at.TraceID().String() + "-" + at.SpanID().String() + "-" + at.TraceFlags().String())
}

// Logged is the attribute by which a log line is found; nothing for no trace.
func Logged(in schema.Trace) slog.Attr {
	if id := in.ID(); id != "" {
		return slog.String("trace_id", id)
	}
	return slog.Attr{}
}

// Span is work under way; the zero value stands for none.
type Span struct{ spans []trace.Span }

// End ends it, as failed where err is not nil. What the error says stays in the log: it may quote somebody.
func (s Span) End(err error) {
	for _, span := range s.spans {
		if err != nil {
			span.SetStatus(codes.Error, string(schema.CodeOf(err)))
		}
		span.End()
	}
}

// Set adds attributes.
func (s Span) Set(attributes ...attribute.KeyValue) {
	for _, span := range s.spans {
		span.SetAttributes(attributes...)
	}
}

// Start begins a span inside ctx, and returns what is inside of it.
func (t Tracer) Start(ctx context.Context, name string, kind trace.SpanKind, attributes ...attribute.KeyValue) (context.Context, Span) {
	if !t.On() {
		return ctx, Span{}
	}
	ctx, span := t.spans.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	return ctx, Span{[]trace.Span{span}}
}

// Part is a share that one trace has in a batch.
type Part struct {
	Trace      schema.Trace
	Attributes []attribute.KeyValue
}

// Shared begins a span in each of the traces that have a part in a batch: as a child of the first span that it names there, with links to
// the others of that trace. Parts without a trace count for nothing.
func (t Tracer) Shared(ctx context.Context, name string, kind trace.SpanKind, parts []Part, attributes ...attribute.KeyValue) Span {
	if !t.On() {
		return Span{}
	}
	var all Span
	place := make(map[trace.TraceID]int)
	seen := make(map[schema.Trace]bool)
	for _, part := range parts {
		at := contextOf(part.Trace)
		if !at.IsValid() || seen[part.Trace] {
			continue
		}
		seen[part.Trace] = true
		if k, begun := place[at.TraceID()]; begun {
			all.spans[k].AddLink(trace.Link{SpanContext: at})
			continue
		}
		place[at.TraceID()] = len(all.spans)
		_, span := t.spans.Start(trace.ContextWithRemoteSpanContext(ctx, at), name, trace.WithSpanKind(kind),
			trace.WithAttributes(attributes...), trace.WithAttributes(part.Attributes...))
		all.spans = append(all.spans, span)
	}
	return all
}

// Linked begins a span of its own with links to the traces, as many as fit; none where nobody traces anything of it.
func (t Tracer) Linked(ctx context.Context, name string, kind trace.SpanKind, traces []schema.Trace, attributes ...attribute.KeyValue) Span {
	if !t.On() {
		return Span{}
	}
	var links []trace.Link
	seen := make(map[schema.Trace]bool)
	for _, in := range traces {
		if at := contextOf(in); at.IsSampled() && !seen[in] && len(links) < mostLinks {
			seen[in] = true
			links = append(links, trace.Link{SpanContext: at})
		}
	}
	if len(links) == 0 {
		return Span{}
	}
	_, span := t.spans.Start(ctx, name, trace.WithNewRoot(), trace.WithSpanKind(kind), trace.WithLinks(links...), trace.WithAttributes(attributes...))
	return Span{[]trace.Span{span}}
}

// contextOf is a trace in the words of OpenTelemetry; not valid for none.
func contextOf(in schema.Trace) trace.SpanContext {
	in = schema.ParseTrace(string(in)) // what a message says may be anything
	if in == "" {
		return trace.SpanContext{}
	}
	id, err := trace.TraceIDFromHex(string(in[3:35]))
	if err != nil {
		return trace.SpanContext{}
	}
	span, err := trace.SpanIDFromHex(string(in[36:52]))
	if err != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(in[54] - '0'), Remote: true})
}
