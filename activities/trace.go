package activities

import (
	"context"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/activity"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// span is that of one decision, in the trace of every event that led to it. It stands for the workflow's task: workflow code is replayed and
// makes none.
func (r *Record) span(ctx context.Context, in *schema.CommitInput) tracing.Span {
	if !r.Tracer.On() {
		return tracing.Span{}
	}
	parts, kinds := make([]tracing.Part, 0, len(in.Outcomes)), make([]string, 0, len(in.Outcomes))
	for i := range in.Outcomes {
		parts = append(parts, tracing.Part{Trace: in.Outcomes[i].Trace})
		if kind := string(in.Outcomes[i].Kind); !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return r.Tracer.Shared(ctx, "commit decision", trace.SpanKindInternal, parts, append(workflowOf(ctx),
		attribute.String("onramp.user_token", in.Profile.UserToken), attribute.String("onramp.playbook", in.Profile.Playbook),
		attribute.StringSlice("onramp.outcome_kinds", kinds), attribute.Int("onramp.outcomes", len(in.Outcomes)))...)
}

// tell says to which traces the decision belongs.
func (r *Record) tell(ctx context.Context, in *schema.CommitInput, err error) {
	if r.Logger == nil || err == nil && !r.Logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	told := make(map[string]bool)
	for i := range in.Outcomes {
		id := in.Outcomes[i].Trace.ID()
		if id == "" || told[id] {
			continue
		}
		told[id] = true
		if err != nil {
			r.Logger.WarnContext(ctx, "decision not recorded, trying again", tracing.Logged(in.Outcomes[i].Trace),
				slog.String("user_token", in.Profile.UserToken), slog.Any("error", err))
			continue
		}
		r.Logger.DebugContext(ctx, "decision recorded", tracing.Logged(in.Outcomes[i].Trace),
			slog.String("user_token", in.Profile.UserToken), slog.Int("outcomes", len(in.Outcomes)))
	}
}

// span begins that of one attempt to deliver an action, in the trace of the event that caused it. What is inside of it is what the receiver
// is told of the trace; without spans, that is the trace as the event brought it.
func (d *Delivery) span(ctx context.Context, in *schema.DeliverInput) (context.Context, tracing.Span) {
	cause := in.Delivered.Trace
	if ctx = tracing.Within(ctx, cause); cause == "" || !d.Tracer.On() {
		return ctx, tracing.Span{}
	}
	attributes := append(workflowOf(ctx), attribute.String("onramp.user_token", in.Request.UserToken), attribute.String("onramp.action", in.Request.Action),
		attribute.String("onramp.action_id", in.Request.ActionID), attribute.String("onramp.journey", in.Request.Journey))
	if in.Webhook != "" {
		return d.Tracer.Start(ctx, "post action", trace.SpanKindClient, append(attributes, attribute.String("onramp.webhook", in.Webhook))...)
	}
	return d.Tracer.Start(ctx, "publish action", trace.SpanKindProducer, append(attributes, attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.type", "send"), attribute.String("messaging.destination.name", schema.ActionSubject(in.Request.Action)))...)
}

// workflowOf names the workflow as Temporal's own interceptors do.
func workflowOf(ctx context.Context) []attribute.KeyValue {
	if !activity.IsActivity(ctx) {
		return nil
	}
	execution := activity.GetInfo(ctx).WorkflowExecution
	return []attribute.KeyValue{attribute.String("temporalWorkflowID", execution.ID), attribute.String("temporalRunID", execution.RunID)}
}

// passTrace writes the trace that ctx is inside of, where there is one.
func passTrace(ctx context.Context, set func(name, value string)) {
	if in := tracing.Of(ctx); in != "" {
		set(schema.HeaderTrace, string(in))
	}
}
