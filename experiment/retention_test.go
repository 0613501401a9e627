package experiment_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
)

func TestRetentionCountsEligibleUsersAlone(t *testing.T) {
	t.Parallel()
	week := experiment.Window{Delay: 7, Length: 1}
	r := experiment.RetentionOf(week, slices.Values([]experiment.FollowUp{
		{Age: 8, Returns: []float64{7}},          // the first moment counts
		{Age: 8, Returns: []float64{1, 8}},       // and so does the last
		{Age: 20, Returns: []float64{6.9, 8.1}},  // neither
		{Age: 20},                                // never came back
		{Age: 20, Returns: []float64{7.1, 7.2}},  // once is enough
		{Age: 7.9, Returns: []float64{7.5}},      // the window still runs: not eligible, though back
		{Age: math.NaN(), Returns: []float64{7}}, // nothing is known of the age
	}))
	require.Equal(t, int64(7), r.Exposed)
	require.Equal(t, int64(5), r.Eligible.Users())
	require.InDelta(t, 3, r.Eligible.Sum(0), 0)
	require.Equal(t, experiment.StateFewConversions, proportionMetric.Of(r.Eligible).State)
	require.Zero(t, experiment.RetentionOf(week, slices.Values([]experiment.FollowUp(nil))).Eligible.Users())
}

// The percentile is that of both arms together, by R's type 7: quantile(c(0, 1:9, 100), 0.9) is 9.
func TestCaps(t *testing.T) {
	t.Parallel()
	control, treatment := slices.Values([]float64{0, 1, 2, 3, 4}), slices.Values([]float64{5, 6, 7, 8, 9, 100})
	limit, state := experiment.CapAt(0.9, false, control, treatment)
	require.Equal(t, experiment.StateOK, state)
	require.InDelta(t, 9, limit, 1e-12)
	require.Equal(t, []float64{5, 6, 7, 8, 9, 9}, slices.Collect(experiment.Capped(treatment, limit)))
	require.InDelta(t, 42, experiment.FromValues(experiment.Capped(treatment, 8)).Sum(0), 0)

	zeros, _ := experiment.CapAt(0.5, true, slices.Values([]float64{0, 0, 0, 0, 1, 2, 3}))
	require.InDelta(t, 2, zeros, 0)
	for _, p := range []float64{0, -1, 1.1, math.NaN()} {
		_, state := experiment.CapAt(p, false, control)
		require.Equal(t, experiment.StateInvalid, state)
	}
	_, state = experiment.CapAt(0.9, true, slices.Values([]float64{0, 0}))
	require.Equal(t, experiment.StateEmptyArm, state)
	_, state = experiment.CapAt(0.9, true, slices.Values([]float64{1, math.NaN()}))
	require.Equal(t, experiment.StateNotFinite, state)
}

func ExampleRetentionOf() {
	r := experiment.RetentionOf(experiment.Window{Delay: 7, Length: 1}, slices.Values([]experiment.FollowUp{
		{Age: 30, Returns: []float64{1.2, 7.4}}, {Age: 30, Returns: []float64{2}}, {Age: 3, Returns: []float64{1}},
	}))
	fmt.Printf("%.0f of %d, %d more must wait\n", r.Eligible.Sum(0), r.Eligible.Users(), r.Exposed-r.Eligible.Users())
	// Output:
	// 1 of 2, 1 more must wait
}

func ExampleCapAt() {
	rounds := slices.Values([]float64{3, 12, 7, 49854, 21, 16})
	limit, _ := experiment.CapAt(0.8, false, rounds)
	fmt.Printf("cap %.0f, mean %.1f\n", limit, experiment.FromValues(experiment.Capped(rounds, limit)).Mean(0))
	// Output:
	// cap 21, mean 13.3
}
