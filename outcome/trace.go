package outcome

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// traced makes a span of an insert into table of which somebody traces a row.
func traced[R any](
	tracer tracing.Tracer, table string, traceOf func(*R) schema.Trace, insert func(context.Context, string, []*R) error,
) func(context.Context, string, []*R) error {
	if !tracer.On() {
		return insert
	}
	return func(ctx context.Context, token string, rows []*R) error {
		span := tracer.Linked(ctx, "insert "+table, trace.SpanKindClient, pick(rows, traceOf), attribute.String("db.system.name", "clickhouse"),
			attribute.String("db.operation.name", "INSERT"), attribute.String("db.collection.name", table), attribute.Int("db.operation.batch.size", len(rows)))
		err := insert(ctx, token, rows)
		span.End(err)
		return err
	}
}
