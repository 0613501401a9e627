package api

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// publishing begins the span of events on their way into the stream, inside the trace that the caller named. What is inside of it goes with
// every event; without spans, that is the trace as the caller named it.
func (s *Server) publishing(ctx context.Context, source string, events []tracked) (context.Context, tracing.Span) {
	if !s.cfg.Tracer.On() {
		return ctx, tracing.Span{}
	}
	inside, span := s.cfg.Tracer.Start(ctx, "publish events", trace.SpanKindProducer,
		attribute.String("messaging.system", "nats"), attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", schema.EventSubject(source)), attribute.Int("messaging.batch.message_count", len(events)))
	if known, ok := ctx.Value(requestKey{}).(*request); ok { // over HTTP: the caller may have named none
		known.trace = tracing.Of(inside)
	}
	callOf(ctx).trace = tracing.Of(inside) // likewise over gRPC
	return inside, span
}

// published ends it, with the place of the first event in the stream.
func published(span tracing.Span, places []place, err error) {
	if len(places) > 0 {
		span.Set(attribute.Int64("onramp.sequence", int64(places[0].sequence))) //nolint:gosec // a place in a stream
	}
	span.End(err)
}

// passTrace lets a message carry the trace that ctx is inside of, where there is one.
func passTrace(ctx context.Context, message *nats.Msg) {
	if in := tracing.Of(ctx); in != "" {
		message.Header.Set(schema.HeaderTrace, string(in))
	}
}
