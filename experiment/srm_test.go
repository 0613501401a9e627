package experiment_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

func TestSampleRatioMismatch(t *testing.T) {
	t.Parallel()
	half := []float64{0.5, 0.5}
	cases := []struct {
		name     string
		users    []int64
		weights  []float64
		chi2, p  float64
		mismatch bool
	}{
		{"published figures", []int64{44700, 45489}, half, 6.902, 0.0086, false},
		{"weights need not sum to 1", []int64{44700, 45489}, []float64{1, 1}, 6.902, 0.0086, false},
		{"exact", []int64{500, 500}, half, 0, 1, false},
		{"broken", []int64{600, 400}, half, 40, 2.54e-10, true},
		{"configured weights are used", []int64{900, 100}, []float64{0.9, 0.1}, 0, 1, false},
		{"three arms", []int64{300, 330, 370}, []float64{1, 1, 1}, 7.4, 0.0247, false},
		{"arm without weight is left out", []int64{500, 500, 0}, []float64{0.5, 0.5, 0}, 0, 1, false},
		{"arm without weight has users", []int64{500, 500, 1}, []float64{0.5, 0.5, 0}, 0, 0, true},
		{"nobody yet", []int64{0, 0}, half, 0, 1, false},
		{"one arm", []int64{5}, []float64{1}, 0, 1, false},
		{"lists differ", []int64{5}, half, 0, 1, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := experiment.SampleRatioMismatch(c.users, c.weights)
			assert.InDelta(t, c.chi2, got.ChiSquared, 0.0006)
			assert.InDelta(t, c.p, got.PValue, 0.00006)
			assert.Equal(t, c.mismatch, got.Mismatch)
		})
	}
}

func TestSampleRatioFalseAlarms(t *testing.T) {
	t.Parallel()
	source := rand.NewPCG(1, 2)
	alarms, below5 := 0, 0
	const runs = 2000
	arm := distuv.Binomial{N: 1000, P: 0.5, Src: source}
	for range runs {
		a := int64(arm.Rand())
		got := experiment.SampleRatioMismatch([]int64{a, 1000 - a}, []float64{0.5, 0.5})
		if got.Mismatch {
			alarms++
		}
		if got.PValue < 0.05 {
			below5++
		}
	}
	require.LessOrEqual(t, alarms, runs/100)
	require.InDelta(t, 0.05, float64(below5)/runs, 0.015)
}

// The table is from the documentation of savvi (examples/Multinomial.qmd), which stops at 402 users with p = 0.0484559…: the
// only counts with that p-value, to its last digit, are these. Its prior has concentration 100.
func TestSequentialEvidenceOfSavvi(t *testing.T) {
	t.Parallel()
	evidence := experiment.DirichletEvidence([]float64{40, 129, 233}, []float64{0.1, 0.4, 0.5}, 100)
	require.InDelta(t, 0.04845591105969517, math.Exp(-evidence), 1e-13)
}

// GrowthBook's tests of its sequential ratio (packages/stats/tests/test_ssrm.py), which ask for no more than the side.
func TestSequentialRatio(t *testing.T) {
	t.Parallel()
	half := []float64{0.5, 0.5}
	for _, c := range []struct {
		name     string
		users    []int64
		weights  []float64
		mismatch bool
	}{
		{"balanced", []int64{500, 500}, half, false},
		{"broken", []int64{100, 900}, half, true},
		{"nobody", []int64{0, 0}, half, false},
		{"public test, suspicious at one look alone", []int64{44700, 45489}, half, false},
		{"a percent off, and many", []int64{505_000, 495_000}, half, true},
		{"as configured", []int64{9000, 1000}, []float64{0.9, 0.1}, false},
		{"arm without weight is left out", []int64{500, 500, 0}, []float64{0.5, 0.5, 0}, false},
		{"arm without weight has users", []int64{500, 500, 1}, []float64{0.5, 0.5, 0}, true},
		{"lists differ", []int64{5}, half, false},
		{"negative", []int64{-5, 5}, half, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := experiment.SampleRatioSequential(c.users, c.weights)
			require.Equal(t, c.mismatch, got.Mismatch, "%+v", got)
			require.Equal(t, c.mismatch, got.PValue < experiment.SRMAlarm)
		})
	}
}

// The chi-squared of the table is that of R 4.2.2: chisq.test(correct = FALSE).
func TestSampleRatioByDimension(t *testing.T) {
	t.Parallel()
	half := []float64{0.5, 0.5}
	d := experiment.SampleRatioBy([]experiment.Slice{
		{Value: "chrome", Users: []int64{520, 480}}, {Value: "safari", Users: []int64{300, 260}}, {Value: "firefox", Users: []int64{410, 490}},
	}, half)
	require.InDelta(t, 11.568253968254, d.Independence.ChiSquared, 1e-10)
	require.InDelta(t, 0.003075994596, d.Independence.PValue, 1e-10)
	require.False(t, d.Mismatch)

	broken := experiment.SampleRatioBy([]experiment.Slice{
		{Value: "chrome", Users: []int64{6000, 4000}}, {Value: "safari", Users: []int64{4000, 6000}}, {Value: "lynx", Users: []int64{1, 0}},
	}, half)
	require.False(t, experiment.SampleRatioMismatch([]int64{10_001, 10_000}, half).Mismatch, "the totals balance")
	require.True(t, broken.Mismatch)
	require.True(t, broken.Slices[0].Mismatch && broken.Slices[1].Mismatch)
	require.False(t, broken.Slices[2].Mismatch, "one user of a kind says nothing")
	require.InDelta(t, 1, broken.Slices[2].Fixed.PValue, 0)

	require.False(t, experiment.SampleRatioBy(nil, half).Mismatch)
	require.False(t, experiment.SampleRatioBy([]experiment.Slice{{Value: "a", Users: []int64{1}}, {Value: "b", Users: []int64{1, 2}}}, half).Mismatch)
}

// Two thousand healthy experiments, looked at after every two hundred users: how often does a ratio test ever fall below a level?
func TestSampleRatioFalseAlarmsAtEveryLook(t *testing.T) {
	t.Parallel()
	const runs, looks = 2000, 50
	arm := distuv.Binomial{N: 200, P: 0.5, Src: rand.NewPCG(3, 4)}
	var sequential, fixed, alarms int
	for range runs {
		var users [2]int64
		least, leastFixed := 1.0, 1.0
		for range looks {
			a := int64(arm.Rand())
			users[0], users[1] = users[0]+a, users[1]+200-a
			least = min(least, experiment.SampleRatioSequential(users[:], []float64{0.5, 0.5}).PValue)
			leastFixed = min(leastFixed, experiment.SampleRatioMismatch(users[:], []float64{0.5, 0.5}).PValue)
		}
		if least < 0.05 {
			sequential++
		}
		if leastFixed < 0.05 {
			fixed++
		}
		if least < experiment.SRMAlarm {
			alarms++
		}
	}
	t.Logf("%d experiments, %d looks each: below 0.05 %.2f %% sequential, %.2f %% chi-squared; sequential alarms %.2f %%",
		runs, looks, 100*float64(sequential)/runs, 100*float64(fixed)/runs, 100*float64(alarms)/runs)
	require.LessOrEqual(t, float64(sequential)/runs, 0.05)
	require.LessOrEqual(t, alarms, 6, "0.001 of 2,000 is 2; 6 is beyond the 99th percentile")
	require.Greater(t, float64(fixed)/runs, 0.2)
}

func TestSampleRatioDoesNotDependOnTheOrderOfArms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		users := rapid.SliceOfN(rapid.Int64Range(0, 1_000_000), 2, 5).Draw(t, "users")
		weights := rapid.SliceOfN(rapid.Float64Range(0, 1), len(users), len(users)).Draw(t, "weights")
		s, f := experiment.SampleRatioSequential(users, weights), experiment.SampleRatioMismatch(users, weights)
		slices.Reverse(users)
		slices.Reverse(weights)
		s2, f2 := experiment.SampleRatioSequential(users, weights), experiment.SampleRatioMismatch(users, weights)
		require.InDelta(t, s.PValue, s2.PValue, 1e-6)
		require.InDelta(t, f.PValue, f2.PValue, 1e-6)
		for _, p := range []float64{s.PValue, f.PValue} {
			require.True(t, p >= 0 && p <= 1)
		}
		require.False(t, math.IsNaN(s.LogEvidence) || math.IsInf(s.LogEvidence, 0))
	})
}

func ExampleSampleRatioSequential() {
	srm := experiment.SampleRatioSequential([]int64{52_000, 48_000}, []float64{0.5, 0.5})
	fmt.Printf("p = %.1g at every look, mismatch: %v\n", srm.PValue, srm.Mismatch)
	// Output:
	// p = 8e-32 at every look, mismatch: true
}

func ExampleSampleRatioMismatch() {
	srm := experiment.SampleRatioMismatch([]int64{5200, 4800}, []float64{0.5, 0.5})
	fmt.Printf("p = %.5f, mismatch: %v\n", srm.PValue, srm.Mismatch)
	// Output:
	// p = 0.00006, mismatch: true
}
