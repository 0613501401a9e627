package results_test

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/internal/results"
)

func text(t *testing.T, r *results.Results, color bool) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, results.WriteText(&b, r, color))
	return b.String()
}

func TestText(t *testing.T) {
	t.Parallel()
	plain := text(t, sample(friendly()), false)
	for _, part := range []string{"EXPERIMENT onboarding_flow", "USERS", "METRICS", "OVER TIME  activated, guided", "FUNNEL BY VARIANT", "SEGMENTS", "░", "▓", "█", "┼", "left out: 3 users, met_two_variants", "refunded has never come"} {
		require.Contains(t, plain, part)
	}
	t.Log("\n" + plain)
	require.NotContains(t, plain, "\x1b", "no color unless asked for")
	require.NotContains(t, plain, "NaN")
	require.Contains(t, text(t, sample(friendly()), true), "\x1b[32m")
	require.Contains(t, text(t, nothing(), false), "nobody has met")
}

func TestTextLetsNothingReachTheTerminal(t *testing.T) {
	t.Parallel()
	h := friendly()
	h.experiment, h.guided, h.metric, h.segment, h.reason = "a\x1b[31mb", "c\rd", "e\u202ef", "g\nh", "i\x07j"
	plain := text(t, sample(h), false)
	for _, r := range []rune{'\x1b', '\r', '\u202e', '\x07'} {
		require.NotContains(t, plain, string(r))
	}
	require.True(t, utf8.ValidString(plain))
}

func TestOverviews(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, results.WriteOverviews(&b, []results.Overview{{Experiment: "flow", Users: 1234, Verdict: experiment.DecideWait, Headline: "Keep it running."}}, false))
	require.Contains(t, b.String(), "flow                        1,234  Keep it running.")
	b.Reset()
	require.NoError(t, results.WriteOverviews(&b, nil, false))
	require.Contains(t, b.String(), "No experiment")
}
