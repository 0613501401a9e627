package experiment_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

// The figures are those of a public A/B test of a mobile game's first gate (90,189 players), worked out by hand.
func TestComparePublishedFigures(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name               string
		control, treatment experiment.Arm
		diff, low, high, p float64 // percentage points
	}{
		{"day-1 retention", experiment.Arm{Users: 44700, Converted: 20034}, experiment.Arm{Users: 45489, Converted: 20119}, -0.591, -1.239, 0.058, 0.0744},
		{"day-7 retention", experiment.Arm{Users: 44700, Converted: 8502}, experiment.Arm{Users: 45489, Converted: 8279}, -0.820, -1.328, -0.312, 0.00155},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := experiment.CompareProportions(c.control, c.treatment, experiment.Options{})
			require.Equal(t, experiment.StateOK, got.State)
			assert.InDelta(t, c.diff, 100*got.Difference, 0.0006)
			assert.InDelta(t, c.low, 100*got.DiffLow, 0.0006)
			assert.InDelta(t, c.high, 100*got.DiffHigh, 0.0006)
			assert.InDelta(t, c.p, got.PValue, c.p/100)
		})
	}
}

// Worked out by hand, step by step: m_c = 0.30, m_t = 0.345, v/n = 0.21/1700 and 0.225975/1700.
func TestCompareRelativeByHand(t *testing.T) {
	t.Parallel()
	got := experiment.CompareProportions(experiment.Arm{Users: 1700, Converted: 510}, experiment.Arm{Users: 1700, Converted: 586}, experiment.Options{})
	mc, mt := 510.0/1700, 586.0/1700
	se := math.Sqrt(mt*(1-mt)/1700/(mc*mc) + mc*(1-mc)/1700*mt*mt/(mc*mc*mc*mc))
	require.InDelta(t, mt/mc-1, got.Lift, 1e-12)
	require.InDelta(t, 0.149020, got.Lift, 1e-6)
	require.InDelta(t, got.Lift-1.959964*se, got.FixedLow, 1e-6)
	require.InDelta(t, got.Lift+1.959964*se, got.FixedHigh, 1e-6)
	rho := math.Sqrt((-2*math.Log(0.05) + math.Log(1-2*math.Log(0.05))) / 5000)
	k := 3400*rho*rho + 1
	half := se * math.Sqrt(3400) * math.Sqrt(2*k/(3400*rho*3400*rho)*math.Log(math.Sqrt(k)/0.05))
	require.InDelta(t, got.Lift-half, got.Low, 1e-9)
	require.InDelta(t, got.Lift+half, got.High, 1e-9)
}

// The widths against the fixed interval that the literature gives for N* = 5,000 and alpha 0.05.
func TestAnytimeWidthAgainstFixed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		users int64
		ratio float64
	}{{1000, 1.72}, {2500, 1.57}, {5000, 1.55}, {10000, 1.56}, {50000, 1.65}} {
		arm := experiment.Arm{Users: c.users / 2, Converted: c.users / 5}
		got := experiment.CompareProportions(arm, arm, experiment.Options{})
		require.InDelta(t, c.ratio, (got.High-got.Low)/(got.FixedHigh-got.FixedLow), 0.006, "%d users", c.users)
	}
}

func TestCompareNamesDegenerateInput(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name               string
		control, treatment experiment.Arm
		want               experiment.State
	}{
		{"both arms empty", experiment.Arm{}, experiment.Arm{}, experiment.StateEmptyArm},
		{"treatment empty", experiment.Arm{Users: 10, Converted: 5}, experiment.Arm{}, experiment.StateEmptyArm},
		{"zero baseline", experiment.Arm{Users: 10}, experiment.Arm{Users: 10, Converted: 5}, experiment.StateZeroBaseline},
		{"nobody converts", experiment.Arm{Users: 10}, experiment.Arm{Users: 10}, experiment.StateZeroBaseline},
		{"everybody converts", experiment.Arm{Users: 10, Converted: 10}, experiment.Arm{Users: 10, Converted: 10}, experiment.StateZeroVariance},
		{"few conversions", experiment.Arm{Users: 100, Converted: 29}, experiment.Arm{Users: 100, Converted: 30}, experiment.StateFewConversions},
		{"enough conversions", experiment.Arm{Users: 100, Converted: 30}, experiment.Arm{Users: 100, Converted: 30}, experiment.StateOK},
		{"more conversions than users", experiment.Arm{Users: 1, Converted: 2}, experiment.Arm{Users: 10, Converted: 5}, experiment.StateInvalid},
		{"negative", experiment.Arm{Users: -1, Converted: -1}, experiment.Arm{Users: 10, Converted: 5}, experiment.StateInvalid},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, experiment.CompareProportions(c.control, c.treatment, experiment.Options{}).State)
		})
	}
}

func TestCompareNeverReturnsNaN(t *testing.T) {
	t.Parallel()
	arm := rapid.Custom(func(t *rapid.T) experiment.Arm {
		users := rapid.Int64Range(-2, 1_000_000).Draw(t, "users")
		return experiment.Arm{Users: users, Converted: rapid.Int64Range(-2, max(users, 0)+2).Draw(t, "converted")}
	})
	rapid.Check(t, func(t *rapid.T) {
		opts := experiment.Options{
			Alpha: rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1)).Draw(t, "alpha"),
			NStar: rapid.OneOf(rapid.Float64(), rapid.Float64Range(1, 1e6)).Draw(t, "nstar"),
		}
		got := experiment.CompareProportions(arm.Draw(t, "control"), arm.Draw(t, "treatment"), opts)
		for _, f := range []float64{
			got.ControlRate, got.TreatmentRate, got.Lift, got.Low, got.High, got.FixedLow, got.FixedHigh,
			got.Difference, got.DiffLow, got.DiffHigh, got.PValue, got.AnytimePValue,
		} {
			assert.False(t, math.IsNaN(f) || math.IsInf(f, 0), "%+v", got)
		}
		if got.State == experiment.StateOK {
			assert.LessOrEqual(t, got.Low, got.FixedLow)
			assert.GreaterOrEqual(t, got.High, got.FixedHigh)
		}
	})
}

// The search found alpha 2.7e-17, for which 1−alpha/2 is 1 in a float64 and the quantile infinite.
func TestCompareBoundsOptions(t *testing.T) {
	t.Parallel()
	compare := func(opts experiment.Options) experiment.Comparison {
		return experiment.CompareProportions(experiment.Arm{Users: 1700, Converted: 510}, experiment.Arm{Users: 1700, Converted: 586}, opts)
	}
	byDefault, strictest := compare(experiment.Options{}), compare(experiment.Options{Alpha: experiment.MinAlpha})
	require.Less(t, strictest.Low, byDefault.Low, "a smaller alpha never gives a narrower interval")
	require.Less(t, strictest.FixedLow, byDefault.FixedLow)
	for _, alpha := range []float64{1e-13, 2.7e-17, 1e-310, math.SmallestNonzeroFloat64} {
		require.Equal(t, strictest, compare(experiment.Options{Alpha: alpha}), "alpha %v", alpha)
	}
	for _, alpha := range []float64{-1, 0, 1, 2, math.NaN(), math.Inf(1)} {
		require.Equal(t, byDefault, compare(experiment.Options{Alpha: alpha}), "alpha %v", alpha)
	}
	require.Equal(t, compare(experiment.Options{NStar: 1}), compare(experiment.Options{NStar: 1e-320}))
	require.Equal(t, compare(experiment.Options{NStar: experiment.MaxNStar}), compare(experiment.Options{NStar: math.Inf(1)}))
	for _, n := range []float64{-1, 0, math.NaN()} {
		require.Equal(t, byDefault, compare(experiment.Options{NStar: n}), "n* %v", n)
	}
	for _, alpha := range []float64{experiment.MinAlpha, 1 - 1e-16} {
		for _, n := range []float64{1, experiment.MaxNStar} {
			got := compare(experiment.Options{Alpha: alpha, NStar: n})
			for _, f := range []float64{got.Low, got.High, got.FixedLow, got.FixedHigh, got.DiffLow, got.DiffHigh, got.AnytimePValue} {
				require.False(t, math.IsNaN(f) || math.IsInf(f, 0), "%+v", got)
			}
		}
	}
}

// Twenty looks, one every 500 users, at a treatment that lifts 30 % by a known share: how often does an interval miss the
// truth at one look at least? Under no effect theory says 1.4 % for the anytime-valid one and 24.8 % for the fixed one.
func TestIntervalCoverageWhenLookedAtTwentyTimes(t *testing.T) {
	t.Parallel()
	for _, lift := range []float64{0, 0.15} {
		t.Run(fmt.Sprintf("lift %v", lift), func(t *testing.T) {
			t.Parallel()
			const runs, looks, perLook = 2000, 20, 250
			source := rand.NewPCG(20, 26)
			controls := distuv.Binomial{N: perLook, P: 0.30, Src: source}
			treatments := distuv.Binomial{N: perLook, P: 0.30 * (1 + lift), Src: source}
			missedAnytime, missedFixed := 0, 0
			for range runs {
				var c, b experiment.Arm
				anytime, fixed := false, false
				for range looks {
					c = experiment.Arm{Users: c.Users + perLook, Converted: c.Converted + int64(controls.Rand())}
					b = experiment.Arm{Users: b.Users + perLook, Converted: b.Converted + int64(treatments.Rand())}
					got := experiment.CompareProportions(c, b, experiment.Options{})
					anytime = anytime || lift < got.Low || lift > got.High
					fixed = fixed || lift < got.FixedLow || lift > got.FixedHigh
				}
				if anytime {
					missedAnytime++
				}
				if fixed {
					missedFixed++
				}
			}
			require.Less(t, float64(missedAnytime)/runs, 0.05, "the anytime-valid interval must keep its promise")
			require.Less(t, float64(missedAnytime)/runs, 0.03, "and is known to be conservative here")
			require.Greater(t, float64(missedFixed)/runs, 0.18, "the fixed one must not be peeked at: this test would not notice otherwise")
		})
	}
}

func ExampleCompareProportions() {
	c := experiment.CompareProportions(
		experiment.Arm{Users: 4000, Converted: 1200},
		experiment.Arm{Users: 4010, Converted: 1384},
		experiment.Options{},
	)
	fmt.Printf("lift %+.1f %%, true lift between %+.1f %% and %+.1f %% however often you look (%s)\n",
		100*c.Lift, 100*c.Low, 100*c.High, c.State)
	// Output:
	// lift +15.0 %, true lift between +3.6 % and +26.4 % however often you look (ok)
}
