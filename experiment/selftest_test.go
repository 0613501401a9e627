package experiment_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
)

// R 4.2.2, ks.test(x, "punif", exact = FALSE), which is without the correction for few values: the argument of the series is
// √n·D there and (√n + 0.12 + 0.11/√n)·D here, so p is a little smaller.
func TestUniformP(t *testing.T) {
	t.Parallel()
	ten := []float64{0.02, 0.11, 0.13, 0.22, 0.24, 0.31, 0.38, 0.55, 0.61, 0.9}
	require.InDelta(t, 0.257431562626, experiment.UniformP(ten), 0.05)
	many := make([]float64, 200)
	for i := range many {
		many[i] = math.Pow(float64(i+1), 1.15) / math.Pow(200, 1.15)
	}
	require.InDelta(t, 0.666735228522, experiment.UniformP(many), 0.02)
	// The table of critical values: 1.358/√n at 5 %, 1.628/√n at 1 % (Smirnov 1948).
	for at, want := range map[float64]float64{1.358: 0.05, 1.628: 0.01, 1.224: 0.10} {
		require.InDelta(t, want, experiment.Kolmogorov(at), 0.0005)
	}
	require.InDelta(t, 1, experiment.UniformP(nil), 0)
	require.Less(t, experiment.UniformP([]float64{0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5}), 0.001)
}

func someUnits(n int, value func(*rand.Rand) []float64) []experiment.Unit {
	random := rand.New(rand.NewPCG(23, 24))
	units := make([]experiment.Unit, n)
	for i := range units {
		units[i] = experiment.Unit{ID: "u" + strconv.Itoa(i), Values: value(random)}
	}
	return units
}

func coin(r *rand.Rand) []float64 {
	if r.Float64() < 0.3 {
		return []float64{1}
	}
	return []float64{0}
}

func TestSelfTest(t *testing.T) {
	t.Parallel()
	money := func(r *rand.Rand) []float64 { return []float64{math.Exp(r.NormFloat64()), 1 + float64(r.IntN(5))} }
	for _, c := range []struct {
		name   string
		metric experiment.Metric
		units  []experiment.Unit
		test   experiment.SelfTest
		found  bool // the lift is large enough to be seen
	}{
		{"A/A of a rate", proportionMetric, someUnits(1000, coin), experiment.SelfTest{Replications: 200}, false},
		{"A/A of a ratio", ratioMetric, someUnits(500, money), experiment.SelfTest{Replications: 150}, false},
		{"lift of a rate", proportionMetric, someUnits(1000, coin), experiment.SelfTest{Lift: 0.5, Replications: 200}, true},
		{"loss of a rate", proportionMetric, someUnits(1000, coin), experiment.SelfTest{Lift: -0.5, Replications: 200}, true},
		{"lift of a ratio", ratioMetric, someUnits(500, money), experiment.SelfTest{Lift: 0.8, Replications: 150}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := c.test.Run(c.metric, c.units, experiment.Options{})
			require.NoError(t, err)
			t.Logf("%+v", r)
			require.True(t, r.Passed)
			require.Zero(t, r.Unreadable)
			require.Equal(t, c.found, r.Found > r.Replications/2)
		})
	}
}

// A metric whose rows are not independent must fail: each user stands ten times, under ten ids that a mistake gave the same
// label.
func TestSelfTestFindsAFault(t *testing.T) {
	t.Parallel()
	units := someUnits(200, coin)
	var repeated []experiment.Unit
	for _, u := range units {
		for range 10 {
			repeated = append(repeated, u)
		}
	}
	r, err := experiment.SelfTest{Replications: 100}.Run(proportionMetric, repeated, experiment.Options{})
	require.NoError(t, err)
	require.False(t, r.Passed, "%+v", r)
	require.Greater(t, r.FixedMissed, r.FixedLimit)
}

// The limits are R's qbinom(0.999, n, alpha).
func TestSelfTestLimits(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{500: 41, 300: 28, 1: 1} {
		require.Equal(t, want, experiment.BinomialLimit(n, 0.05))
	}
	require.Equal(t, 9, experiment.BinomialLimit(10, 0.5))
}

func TestSelfTestRefuses(t *testing.T) {
	t.Parallel()
	units := someUnits(10, coin)
	for _, c := range []struct {
		metric experiment.Metric
		units  []experiment.Unit
		test   experiment.SelfTest
		want   string
	}{
		{experiment.Metric{}, nil, experiment.SelfTest{}, "without a key"},
		{ratioMetric, units, experiment.SelfTest{}, "a unit has 1 values"},
		{proportionMetric, units, experiment.SelfTest{Replications: -1}, "replications"},
		{proportionMetric, units, experiment.SelfTest{Lift: math.NaN()}, "lift is NaN"},
		{proportionMetric, units, experiment.SelfTest{Lift: 50}, "out of [0,1]"},
	} {
		_, err := c.test.Run(c.metric, c.units, experiment.Options{})
		require.ErrorContains(t, err, c.want)
	}
	r, err := experiment.SelfTest{Replications: 3}.Run(proportionMetric, nil, experiment.Options{})
	require.NoError(t, err)
	require.False(t, r.Passed)
	require.Equal(t, 3, r.Unreadable)
}

func TestCheckBuckets(t *testing.T) {
	t.Parallel()
	ids := func(yield func(string) bool) {
		for i := range 50_000 {
			if !yield("user-" + strconv.Itoa(i)) {
				return
			}
		}
	}
	c := experiment.CheckBuckets(ids, "checklist_first", "welcome_mail", experiment.HashV2)
	require.True(t, c.Passed, "%+v", c)
	require.Equal(t, int64(50_000), c.Users)
	require.False(t, experiment.CheckBuckets(ids, "a", "a", experiment.HashV2).Passed, "a seed depends on itself")
	require.False(t, experiment.CheckBuckets(slices.Values([]string{"a"}), "a", "b", 99).Passed)
	few := experiment.CheckBuckets(slices.Values([]string{"a"}), "a", "b", experiment.HashV2)
	require.InDelta(t, 1, few.UniformP, 0)
}

func ExampleSelfTest() {
	units := make([]experiment.Unit, 500)
	for i := range units {
		units[i] = experiment.Unit{ID: "u" + strconv.Itoa(i), Values: []float64{float64(i % 10 / 7)}}
	}
	metric := experiment.Metric{Key: "activated", Kind: experiment.KindProportion}
	r, err := experiment.SelfTest{}.Run(metric, units, experiment.Options{})
	fmt.Printf("%d A/A tests: %d false alarms at one look (up to %d are chance), %d anytime-valid; passed: %v %v\n",
		r.Replications, r.FixedMissed, r.FixedLimit, r.Found, r.Passed, err)
	// Output:
	// 500 A/A tests: 25 false alarms at one look (up to 41 are chance), 0 anytime-valid; passed: true <nil>
}
