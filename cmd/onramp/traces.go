package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/onramphq/onramp/internal/tracing"
)

// traces are where the spans of this process go: what the standard variables of OpenTelemetry say, and nowhere while they say nothing.
type traces struct {
	tracing.Tracer

	stop func() // sends what is left; nil: there is nothing
}

// What OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL may be.
const (
	exporterOTLP    = "otlp"
	exporterConsole = "console"
	exporterNone    = "none"
	protocolGRPC    = "grpc"
	protocolHTTP    = "http/protobuf"
)

// tracesPatience is how long the last spans may take on their way out.
const tracesPatience = 3 * time.Second

// openTraces reads the variables. The exporters and the SDK read the rest of them for themselves: endpoints, headers, certificates, sampler,
// batches, the service's name. Errors: usage, for what is none of the standard's words.
func openTraces(ctx context.Context, logger *slog.Logger) (traces, error) {
	exporter, err := spanExporter(ctx)
	if exporter == nil || err != nil {
		return traces{}, err
	}
	what, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", "onramp"), attribute.String("service.version", version())), resource.WithFromEnv())
	if err != nil {
		return traces{}, usagef("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.WarnContext(ctx, "spans not exported", slog.Any("error", err))
	}))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(what))
	return traces{Tracer: tracing.New(provider), stop: func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesPatience) // it comes when ctx is over
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			logger.WarnContext(ctx, "last spans not exported", slog.Any("error", err))
		}
	}}, nil
}

func (e *engine) openTraces(ctx context.Context) (err error) {
	e.traces, err = openTraces(ctx, e.logger)
	return err
}

// spanExporter is what the variables choose; nil for none.
func spanExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil //nolint:nilnil // none is wanted
	}
	endpoint := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	kind := os.Getenv("OTEL_TRACES_EXPORTER")
	if kind == "" && endpoint != "" {
		kind = exporterOTLP
	}
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), protocolHTTP)
	var exporter sdktrace.SpanExporter
	var err error
	switch {
	case kind == "", kind == exporterNone:
		return nil, nil //nolint:nilnil // none is wanted
	case kind == exporterConsole:
		exporter, err = stdouttrace.New(stdouttrace.WithWriter(os.Stderr)) // data goes out, spans to where the logs go
	case kind == exporterOTLP && protocol == protocolGRPC:
		exporter, err = otlptracegrpc.New(ctx)
	case kind == exporterOTLP && protocol == protocolHTTP:
		exporter, err = otlptracehttp.New(ctx)
	case kind == exporterOTLP:
		return nil, usagef("OTEL_EXPORTER_OTLP_PROTOCOL is %q; it must be %s or %s", protocol, protocolHTTP, protocolGRPC)
	default:
		return nil, usagef("OTEL_TRACES_EXPORTER is %q; it must be %s, %s or %s", kind, exporterOTLP, exporterConsole, exporterNone)
	}
	if err != nil {
		return nil, fmt.Errorf("export spans: %w", err)
	}
	return exporter, nil
}

// hideTraces keeps the choice of an exporter from the embedded Temporal, which reads it too: it would send spans of its own, by gRPC alone, and
// not start for any other word. show gives it back.
func hideTraces() (show func(), err error) {
	const name = "OTEL_TRACES_EXPORTER"
	kind, said := os.LookupEnv(name)
	if !said {
		return func() {}, nil
	}
	if err := os.Unsetenv(name); err != nil {
		return nil, fmt.Errorf("unset %s: %w", name, err)
	}
	return func() { _ = os.Setenv(name, kind) }, nil //nolint:errcheck // it was set before
}

// close sends what is left.
func (t *traces) close() {
	if t.stop != nil {
		t.stop()
	}
}
