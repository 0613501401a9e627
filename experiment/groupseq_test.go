package experiment_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

func evenly(k int) []float64 {
	times := make([]float64, k)
	for i := range times {
		times[i] = float64(i+1) / float64(k)
	}
	return times
}

func total(list []float64) (sum float64) {
	for _, x := range list {
		sum += x
	}
	return sum
}

// Armitage, McPherson, Rowe 1969, table 2: how often a test at 5 % is significant at one look at least of so many.
func TestRepeatedSignificanceOfArmitage(t *testing.T) {
	t.Parallel()
	for looks, want := range map[int]float64{1: 0.050, 2: 0.083, 3: 0.107, 4: 0.126, 5: 0.142, 10: 0.193, 20: 0.248, 50: 0.320, 100: 0.374} {
		bounds := make([]float64, looks)
		for i := range bounds {
			bounds[i] = 1.959963985
		}
		require.InDelta(t, want, total(experiment.Stops(evenly(looks), bounds, 0)), 0.0006, "%d looks", looks)
	}
}

// Jennison and Turnbull 2000, tables 2.1 and 2.3: the constants of Pocock and of O'Brien and Fleming that spend 5 %.
func TestClassicalConstantsOfJennisonAndTurnbull(t *testing.T) {
	t.Parallel()
	for looks, c := range map[int]struct{ pocock, obrienFleming float64 }{
		2: {2.178, 1.977}, 3: {2.289, 2.004}, 4: {2.361, 2.024}, 5: {2.413, 2.040}, 10: {2.555, 2.087}, 20: {2.672, 2.126},
	} {
		pocock, obf := make([]float64, looks), make([]float64, looks)
		for i, at := range evenly(looks) {
			pocock[i], obf[i] = c.pocock, c.obrienFleming/math.Sqrt(at)
		}
		require.InDelta(t, 0.05, total(experiment.Stops(evenly(looks), pocock, 0)), 0.0001, "Pocock, %d looks", looks)
		require.InDelta(t, 0.05, total(experiment.Stops(evenly(looks), obf, 0)), 0.0001, "O'Brien and Fleming, %d looks", looks)
	}
}

// Bounds by R's rpact 3.3.4: getDesignGroupSequential(alpha = 0.025, sided = 1, typeOfDesign = "asOF", "asP" or "asKD" with
// gammaA = 2). The first is also that of SAS and of ldbounds: 4.8769, 3.3569, 2.6803, 2.2898, 2.0310.
func TestGroupBoundsOfRpact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spending experiment.Spending
		times    []float64
		want     []float64
	}{
		{experiment.SpendOBrienFleming, evenly(5), []float64{4.8768849, 3.3570119, 2.6802801, 2.2898168, 2.0310321}},
		{experiment.SpendOBrienFleming, []float64{0.2, 0.35, 0.8, 1}, []float64{4.8768849, 3.6131333, 2.2520677, 2.0253168}},
		{experiment.SpendOBrienFleming, evenly(10), []float64{6.9913517, 4.8768852, 3.9296823, 3.3670791, 2.9893298, 2.7148090, 2.5040774, 2.3358292, 2.1975034, 2.0811757}},
		{experiment.SpendPocock, evenly(5), []float64{2.4379767, 2.4268139, 2.4101941, 2.3966493, 2.3859997}},
		{experiment.SpendPocock, evenly(10), []float64{2.6551100, 2.6232420, 2.5896367, 2.5620787, 2.5397473, 2.5214041, 2.5060863, 2.4930974, 2.4819341, 2.4722270}},
		{experiment.SpendQuadratic, evenly(4), []float64{2.9551668, 2.5593502, 2.3008553, 2.0919669}},
	} {
		got, err := experiment.GroupBounds(c.times, c.spending, 0.05)
		require.NoError(t, err)
		require.InDeltaSlice(t, c.want, got, 3e-4, "%s", c.spending) // one-sided in rpact: the other bound is ignored, and hardly matters
		require.InDelta(t, 0.05, total(experiment.Stops(c.times, got, 0)), 1e-9, "all of alpha is spent")
	}
}

// The power and the mean sample of the first of these designs for an effect of half a standard deviation and 30 observations,
// by rpact's getPowerAndAverageSampleNumber(theta = 0.5, nMax = 30).
func TestStoppingOfRpact(t *testing.T) {
	t.Parallel()
	bounds, err := experiment.GroupBounds(evenly(5), experiment.SpendOBrienFleming, 0.05)
	require.NoError(t, err)
	stop := experiment.Stops(evenly(5), bounds, 0.5*math.Sqrt(30))
	require.InDelta(t, 0.77183364, total(stop), 1e-5)
	mean, left := 0.0, 1.0
	for i, p := range stop[:4] {
		mean += p * 6 * float64(i+1)
		left -= p
	}
	require.InDelta(t, 24.51561031, mean+left*30, 1e-3)
}

func TestGroupBoundsRefuse(t *testing.T) {
	t.Parallel()
	for _, times := range [][]float64{{0}, {0.5, 0.5}, {0.5, 0.2}, {1.1}, {math.NaN()}} {
		_, err := experiment.GroupBounds(times, experiment.SpendPocock, 0.05)
		require.Error(t, err, "%v", times)
	}
	for _, alpha := range []float64{0, 1, -1, math.NaN()} {
		_, err := experiment.GroupBounds(evenly(2), experiment.SpendPocock, alpha)
		require.ErrorContains(t, err, "alpha")
	}
	_, err := experiment.GroupBounds(evenly(1001), experiment.SpendPocock, 0.05)
	require.ErrorContains(t, err, "too many looks")
	none, err := experiment.GroupBounds([]float64{1e-4, 1}, experiment.SpendOBrienFleming, 0.05)
	require.NoError(t, err)
	require.True(t, math.IsInf(none[0], 1), "nothing to spend yet")
	require.InDelta(t, 1.959964, none[1], 1e-6)
}

func TestGroupBoundsSpendAlphaWhateverTheLooks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		times, at := []float64{}, 0.0
		for range rapid.IntRange(1, 6).Draw(t, "looks") {
			at += rapid.Float64Range(0.01, 0.3).Draw(t, "gap")
			if at < 1 {
				times = append(times, at)
			}
		}
		times = append(times, 1)
		s := rapid.SampledFrom([]experiment.Spending{experiment.SpendOBrienFleming, experiment.SpendPocock, experiment.SpendQuadratic}).Draw(t, "spending")
		alpha := rapid.Float64Range(0.001, 0.2).Draw(t, "alpha")
		bounds, err := experiment.GroupBounds(times, s, alpha)
		require.NoError(t, err)
		require.InDelta(t, alpha, total(experiment.Stops(times, bounds, 0)), 1e-7)
		earlier, err := experiment.GroupBounds(times[:len(times)-1], s, alpha)
		require.NoError(t, err)
		require.InDeltaSlice(t, earlier, bounds[:len(times)-1], 0, "later looks do not change earlier bounds")
	})
}

// A test with five looks and no effect alarms as often as planned, and its intervals agree with its bounds.
func TestGroupSequentialFalseAlarms(t *testing.T) {
	t.Parallel()
	bounds, err := experiment.GroupBounds(evenly(5), experiment.SpendPocock, 0.05)
	require.NoError(t, err)
	arrivals := distuv.Binomial{N: 500, P: 0.3, Src: rand.NewPCG(11, 12)}
	alarmed := 0
	const runs = 2000
	for range runs {
		var control, treatment experiment.Moments
		alarm := false
		for _, bound := range bounds {
			control = experiment.Merge(control, experiment.FromCounts(500, int64(arrivals.Rand())))
			treatment = experiment.Merge(treatment, experiment.FromCounts(500, int64(arrivals.Rand())))
			r := experiment.Compare(proportionMetric, control, treatment, experiment.Options{})
			i, state := r.Contrast.AtBound(bound)
			require.Equal(t, experiment.StateOK, state)
			alarm = alarm || !i.Contains(0)
		}
		if alarm {
			alarmed++
		}
	}
	t.Logf("%d A/A experiments with five planned looks: false alarms %.2f %%", runs, 100*float64(alarmed)/runs)
	require.InDelta(t, 0.05, float64(alarmed)/runs, 0.015)

	_, state := experiment.Contrast{}.AtBound(2)
	require.Equal(t, experiment.StateInvalid, state)
}

func ExampleGroupBounds() {
	bounds, err := experiment.GroupBounds([]float64{0.25, 0.5, 0.75, 1}, experiment.SpendOBrienFleming, 0.05)
	fmt.Printf("%.3f %v\n", bounds, err)
	// Output:
	// [4.333 2.963 2.359 2.014] <nil>
}
