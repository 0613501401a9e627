package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGraph(t *testing.T) {
	t.Parallel()
	const saas = "../../examples/saas-onboarding"
	file := filepath.Join(t.TempDir(), "journeys.svg")
	got := onramp(t.Context(), "graph", saas, "--format", "svg", "-o", file)
	require.Equal(t, exitDone, got.code, got.err)
	require.Empty(t, got.out)
	svg, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, journey := range []string{"onboarding", "comeback", "retention"} {
		require.Contains(t, string(svg), `data-journey="`+journey+`"`)
	}

	got = onramp(t.Context(), "graph", saas, "--journey", "comeback")
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "flowchart TD\n")
	require.Contains(t, got.out, "comeback")
	require.NotContains(t, got.out, "send_tutorial")

	got = onramp(t.Context(), "graph", saas, "--journey", "cmeback")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "comeback, onboarding, retention")

	got = onramp(t.Context(), "graph", "nowhere")
	require.Equal(t, exitUsage, got.code)
	got = onramp(t.Context(), "graph", saas, "-o", filepath.Join(file, "below-a-file"))
	require.Equal(t, exitFailed, got.code)
	got = onramp(t.Context(), "graph", "--help")
	require.Contains(t, got.out, "Example: onramp graph")
}
