package experiment_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

func upTo(n int) experiment.Sample {
	return experiment.SampleOf(func(yield func(float64) bool) {
		for i := range n {
			if !yield(float64(n - i)) {
				return
			}
		}
	})
}

// The ranks of the exact 95 % interval of a median, as tables for the sign test give them (Conover, Practical Nonparametric
// Statistics, table A3): 2nd and 9th of 10, 6th and 15th of 20, 18th and 33rd of 50. Quantiles are those of R's type 7.
func TestQuantileRanks(t *testing.T) {
	t.Parallel()
	for n, ranks := range map[int][2]float64{10: {2, 9}, 20: {6, 15}, 50: {18, 33}} {
		r := experiment.QuantileOf(upTo(n), 0.5, experiment.Options{})
		require.InDelta(t, ranks[0], r.Fixed.Low, 1e-9, "%d", n)
		require.InDelta(t, ranks[1], r.Fixed.High, 1e-9, "%d", n)
		require.InDelta(t, float64(n+1)/2, r.Value, 1e-12)
	}
	require.InDelta(t, 18.1, experiment.QuantileOf(upTo(20), 0.9, experiment.Options{}).Value, 1e-9)
	five := experiment.QuantileOf(upTo(5), 0.5, experiment.Options{})
	require.True(t, five.Fixed.LowOpen && five.Fixed.HighOpen, "five values have no 95 %% interval of a median")
	require.Equal(t, experiment.StateFewUsers, five.State)
	tail := experiment.QuantileOf(upTo(100), 0.999, experiment.Options{})
	require.True(t, tail.Fixed.HighOpen && !tail.Fixed.LowOpen)
}

func TestQuantilesNameWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	of := func(v ...float64) experiment.Sample { return experiment.SampleOf(slices.Values(v)) }
	for _, c := range []struct {
		name string
		s    experiment.Sample
		q    float64
		want experiment.State
	}{
		{"zero value", experiment.Sample{}, 0.5, experiment.StateInvalid},
		{"nobody", of(), 0.5, experiment.StateEmptyArm},
		{"NaN", of(1, math.NaN()), 0.5, experiment.StateNotFinite},
		{"infinity", of(1, math.Inf(1)), 0.5, experiment.StateNotFinite},
		{"q is 0", of(1, 2), 0, experiment.StateInvalid},
		{"q is NaN", of(1, 2), math.NaN(), experiment.StateInvalid},
		{"one user", of(1), 0.5, experiment.StateFewUsers},
		{"sketch without users", experiment.SampleOfSketch(-1, 0, math.Sqrt), 0.5, experiment.StateInvalid},
		{"sketch without a function", experiment.SampleOfSketch(1, 0, nil), 0.5, experiment.StateInvalid},
		{"sketch that answers NaN", experiment.SampleOfSketch(100, 0, func(float64) float64 { return math.NaN() }), 0.5, experiment.StateNotFinite},
	} {
		require.Equal(t, c.want, experiment.QuantileOf(c.s, c.q, experiment.Options{}).State, c.name)
	}
	require.Equal(t, experiment.StateEmptyArm, experiment.CompareQuantiles(of(1, 2), of(), 0.5, experiment.Options{}).State)
	same := make([]float64, 1000)
	require.Equal(t, experiment.StateZeroVariance, experiment.CompareQuantiles(of(same...), of(same...), 0.5, experiment.Options{}).State)
}

func TestSketchesWidenIntervals(t *testing.T) {
	t.Parallel()
	exact := upTo(1000)
	sketch := experiment.SampleOfSketch(1000, 0.01, func(share float64) float64 { return 1 + share*999 })
	a, b := experiment.QuantileOf(exact, 0.5, experiment.Options{}), experiment.QuantileOf(sketch, 0.5, experiment.Options{})
	require.InDelta(t, a.Value, b.Value, 1e-9)
	require.InDelta(t, a.Fixed.Low-9.99, b.Fixed.Low, 1e-6)
	require.InDelta(t, a.Anytime.High+9.99, b.Anytime.High, 1e-6)
}

func TestQuantileProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []float64 {
			return rapid.SliceOfN(rapid.Float64Range(-5, 5), 1, 300).Draw(t, name)
		}
		a, b, q := draw("a"), draw("b"), rapid.Float64Range(0.01, 0.99).Draw(t, "q")
		sa, sb := experiment.SampleOf(slices.Values(a)), experiment.SampleOf(slices.Values(b))
		r := experiment.QuantileOf(sa, q, experiment.Options{})
		require.True(t, r.Fixed.Contains(r.Value) && r.Anytime.Contains(r.Value), "%+v", r)
		require.True(t, r.Anytime.LowOpen || !r.Fixed.LowOpen && r.Anytime.Low <= r.Fixed.Low, "%+v", r)
		require.True(t, r.Anytime.HighOpen || !r.Fixed.HighOpen && r.Anytime.High >= r.Fixed.High, "%+v", r)
		e, back := experiment.CompareQuantiles(sa, sb, q, experiment.Options{}), experiment.CompareQuantiles(sb, sa, q, experiment.Options{})
		require.Equal(t, e.State, back.State)
		require.InDelta(t, e.Value, -back.Value, 1e-12)
		require.InDelta(t, e.Anytime.Low, -back.Anytime.High, 1e-12)
		require.InDelta(t, e.Anytime.PValue, back.Anytime.PValue, 1e-9)
		if e.State.Readable() {
			require.Equal(t, e.Anytime.PValue < 0.05, !e.Anytime.Contains(0), "%+v", e)
		}
	})
}

// The median of a skewed value without an effect, looked at twenty times.
func TestFalseAlarmsOfQuantiles(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(21, 22))
	var a alarms
	for range 60 {
		var control, treatment []float64
		effects := make([]experiment.Effect, 0, aaLooks)
		for range aaLooks {
			for range 100 {
				control, treatment = append(control, math.Exp(random.NormFloat64())), append(treatment, math.Exp(random.NormFloat64()))
			}
			effects = append(effects, experiment.CompareQuantiles(experiment.SampleOf(slices.Values(control)), experiment.SampleOf(slices.Values(treatment)), 0.5, experiment.Options{}))
		}
		a.add(slices.Values(effects))
	}
	a.check(t, "medians")
}

func ExampleCompareQuantiles() {
	seconds := func(faster float64) experiment.Sample {
		return experiment.SampleOf(func(yield func(float64) bool) {
			for i := range 5000 {
				if !yield(faster * float64(10+i%600)) {
					return
				}
			}
		})
	}
	e := experiment.CompareQuantiles(seconds(1), seconds(0.8), 0.9, experiment.Options{})
	fmt.Printf("the slowest tenth: %+.0f s, between %+.0f and %+.0f however often you look\n", e.Value, e.Anytime.Low, e.Anytime.High)
	// Output:
	// the slowest tenth: -109 s, between -125 and -94 however often you look
}
