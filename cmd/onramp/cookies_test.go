package main

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/internal/results"
)

const cookieCats = "../../../shared/data/cookie_cats/cookie_cats.csv.gz"

// TestCookieCats loads a published experiment through the mapping and the playbook of the example: every published figure comes out.
func TestCookieCats(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(cookieCats); err != nil {
		t.Skip("the public data is not here: " + err.Error())
	}
	a := newAnalyst(t, 0, 0)
	load := []string{
		"experiment", "import", "gate", cookieCats, "--playbook", "../../examples/cookie-cats", "--mapping", "../../examples/cookie-cats/import/mapping.yaml", "--variant", "version",
	}
	for range 2 { // the second time changes nothing
		got := onramp(t.Context(), append(load, "--clickhouse-addr", a.stack.ClickHouseAddr)...)
		require.Equal(t, exitDone, got.code, got.err)
		require.Contains(t, got.out, "90,189 users exposed to gate")
	}
	r := a.results(t, "gate", "--playbook", "../../examples/cookie-cats")
	require.Equal(t, experiment.StateOK, r.State, r.Why)
	require.Empty(t, r.Excluded)

	// Allocation against 50:50: chi-squared 6.902, p 0.0086: suspicious at 0.01, passes at 0.001.
	require.EqualValues(t, 44_700, r.Arms[0].Users)
	require.EqualValues(t, 45_489, r.Arms[1].Users)
	require.InDelta(t, 6.902, r.Ratio.ChiSquared, 0.0005)
	require.InDelta(t, 0.0086, r.Ratio.FixedP, 0.00005)
	require.False(t, r.Ratio.Mismatch)
	require.Contains(t, r.Ratio.Sentence, "unusual but no alarm")

	for _, want := range []struct {
		metric                              string
		converted                           [2]float64
		rates                               [2]float64 // percent
		difference, low, high, p, tolerance float64    // percentage points
	}{
		{"retention_1", [2]float64{20_034, 20_119}, [2]float64{44.819, 44.228}, -0.591, -1.239, 0.058, 0.0744, 0.00005},
		{"retention_7", [2]float64{8_502, 8_279}, [2]float64{19.020, 18.200}, -0.820, -1.328, -0.312, 0.00155, 0.000005},
	} {
		m := metricOf(t, r.Analysis, want.metric)
		for i := range m.Arms {
			require.InDelta(t, want.converted[i], m.Arms[i].Moments.Sums[0], 0)
			require.InDelta(t, want.rates[i], 100*m.Arms[i].Value, 0.0005)
		}
		d := m.Effects[0].Absolute
		require.InDelta(t, want.difference, 100*d.Value, 0.0005)
		require.InDelta(t, want.low, 100*d.Fixed.Low, 0.0005)
		require.InDelta(t, want.high, 100*d.Fixed.High, 0.0005)
		// The published p is that of the pooled test; that of the effect keeps the arms' own variances, and differs in the sixth decimal.
		require.InDelta(t, want.p, d.Fixed.PValue, 2*want.tolerance)
		require.InDelta(t, want.p, r.Pooled[slices.IndexFunc(r.Pooled, func(p results.Pooled) bool { return p.Metric == want.metric })].PValue, want.tolerance)
	}

	// Mean rounds 52.46 against 51.30 with the one player of 49,854 rounds, who counts as 3,000 here.
	rounds := metricOf(t, r.Analysis, "rounds")
	require.InDelta(t, 52.46-(49_854-3_000)/44_700.0, rounds.Arms[0].Value, 0.005)
	require.InDelta(t, 51.30, rounds.Arms[1].Value, 0.005)
	require.EqualValues(t, 1, rounds.Cap.Users)
	require.Contains(t, a.asks(t, "results", "gate", "--playbook", "../../examples/cookie-cats"), "unusual but no alarm")

	// Replayed in one command, it prints the published digits.
	text := a.asks(t, "replay", cookieCats, "--playbook", "../../examples/cookie-cats", "--mapping", "../../examples/cookie-cats/import/mapping.yaml", "--experiment", "gate", "--variant", "version")
	for _, want := range []string{
		"20,034 of 44,700", "20,119 of 45,489", "−0.591 pp; at one look −1.239 to +0.058 pp, p 0.0744 by the pooled test",
		"8,502 of 44,700", "8,279 of 45,489", "−0.820 pp; at one look −1.328 to −0.312 pp, p 0.00155 by the pooled test",
	} {
		require.Contains(t, text, want)
	}
	require.Equal(t, exitUsage, a.tries(t, "replay", cookieCats, "--variant", "version").code)
}

func metricOf(t *testing.T, a *experiment.Analysis, key string) *experiment.MetricReading {
	t.Helper()
	for i := range a.Metrics {
		if a.Metrics[i].Key == key {
			return &a.Metrics[i]
		}
	}
	require.Fail(t, "no metric "+key)
	return nil
}
