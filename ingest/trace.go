package ingest

import (
	"context"
	"log/slog"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// sending begins the span of a batch on its way to its user's workflow, in the trace of every event of it.
func (i *Ingest) sending(ctx context.Context, user *schema.JourneyStart, batch *schema.EventBatch) tracing.Span {
	if !i.cfg.Tracer.On() {
		return tracing.Span{}
	}
	parts := make([]tracing.Part, len(batch.Events))
	for k := range batch.Events {
		e := &batch.Events[k]
		parts[k] = tracing.Part{Trace: e.Trace, Attributes: []attribute.KeyValue{
			attribute.String("messaging.message.id", strconv.FormatUint(e.Sequence, 10)), attribute.String("onramp.event_name", e.EventName),
		}}
	}
	return i.cfg.Tracer.Shared(ctx, "send events", trace.SpanKindConsumer, parts,
		attribute.String("messaging.system", "nats"), attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", schema.EventsStream), attribute.String("messaging.consumer.group.name", schema.IngestConsumer),
		attribute.Int("messaging.batch.message_count", len(parts)), attribute.String("onramp.user_token", user.UserToken),
		attribute.String("onramp.playbook", batch.Playbook), attribute.String("temporalWorkflowID", schema.WorkflowID(user.UserToken)))
}

// sent ends the span, and says of every event that is in a trace that its workflow has it.
func (i *Ingest) sent(ctx context.Context, span tracing.Span, user *schema.JourneyStart, batch *schema.EventBatch, err error) {
	span.End(err)
	if err != nil || !i.logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	for k := range batch.Events {
		if e := &batch.Events[k]; e.Trace != "" {
			i.logger.DebugContext(ctx, "event handed to its workflow", tracing.Logged(e.Trace), slog.Uint64("sequence", e.Sequence),
				slog.String("user_token", user.UserToken))
		}
	}
}

// tracedBy names the trace of a message in a log line.
func tracedBy(message jetstream.Msg) slog.Attr {
	return tracing.Logged(schema.TraceOf(message.Headers()))
}
