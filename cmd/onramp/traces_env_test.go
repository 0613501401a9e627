package main

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
)

// TestTracesFromEnvironment: the standard variables choose where spans go; while none does, nothing is made.
func TestTracesFromEnvironment(t *testing.T) {
	for _, test := range []struct {
		name  string
		env   map[string]string
		want  any
		wrong string
	}{
		{name: "nothing is said"},
		{name: "an endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, want: &otlptrace.Exporter{}},
		{name: "an endpoint for traces", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, want: &otlptrace.Exporter{}},
		{name: "otlp", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, want: &otlptrace.Exporter{}},
		{name: "grpc", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, want: &otlptrace.Exporter{}},
		{name: "console", env: map[string]string{"OTEL_TRACES_EXPORTER": "console"}, want: &stdouttrace.Exporter{}},
		{name: "none", env: map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}},
		{name: "disabled", env: map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}},
		{name: "another exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, wrong: `OTEL_TRACES_EXPORTER is "zipkin"`},
		{name: "another protocol", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, wrong: `PROTOCOL is "http/json"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{
				"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
				"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
			} {
				t.Setenv(name, test.env[name])
			}
			exporter, err := spanExporter(t.Context())
			if test.wrong != "" {
				var usage *usageError
				require.ErrorAs(t, err, &usage)
				require.ErrorContains(t, err, test.wrong)
				return
			}
			require.NoError(t, err)
			require.IsType(t, test.want, exporter)
			opened, err := openTraces(t.Context(), slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.Equal(t, test.want != nil, opened.On())
			opened.close()
		})
	}
}
