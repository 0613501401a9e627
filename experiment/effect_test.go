package experiment_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

func mean(n int64, sum, squares float64) experiment.Moments {
	return experiment.FromSums(n, []float64{sum}, []float64{squares})
}

var (
	meanMetric       = experiment.Metric{Key: "revenue", Kind: experiment.KindMean}
	proportionMetric = experiment.Metric{Key: "activated", Kind: experiment.KindProportion}
	ratioMetric      = experiment.Metric{Key: "session_length", Kind: experiment.KindRatio}
)

// The expected values of GrowthBook's own tests (packages/stats/tests/frequentist/test_tests.py), to their five decimals.
func TestEffectsOfGrowthBook(t *testing.T) {
	t.Parallel()
	a, b := mean(3407, 1396.87, 52377.9767), mean(3461, 2422.7, 134698.29)
	a3000 := mean(3000, 1396.87, 52377.9767)
	const digits = 0.5e-5

	r := experiment.Compare(meanMetric, a, b, experiment.Options{})
	require.Equal(t, experiment.StateOK, r.State)
	require.InDelta(t, 0.70732, r.Relative.Value, digits)
	require.InDelta(t, 0.37879, r.Relative.SE, digits)
	require.InDelta(t, -0.03526, r.Relative.Fixed.Low, digits)
	require.InDelta(t, 1.44989, r.Relative.Fixed.High, digits)
	require.InDelta(t, 0.06191, r.Relative.Fixed.PValue, digits)
	require.InDelta(t, 0.29, r.Absolute.Value, digits)
	require.InDelta(t, 0.12478, r.Absolute.SE, digits)
	require.InDelta(t, 0.04538, r.Absolute.Fixed.Low, digits)
	require.InDelta(t, 0.53462, r.Absolute.Fixed.High, digits)
	require.InDelta(t, 0.02016, r.Absolute.Fixed.PValue, digits)

	r = experiment.Compare(meanMetric, a3000, b, experiment.Options{NStar: 1000})
	require.InDelta(t, 0.50336, r.Relative.Value, digits)
	require.InDelta(t, 0.33341, r.Relative.SE, digits)
	require.InDelta(t, -0.55844, r.Relative.Anytime.Low, digits)
	require.InDelta(t, 1.56516, r.Relative.Anytime.High, digits)
	require.InDelta(t, 1, r.Relative.Anytime.PValue, 0)

	r = experiment.Compare(proportionMetric, experiment.FromCounts(3000, 1396), experiment.FromCounts(3461, 2422), experiment.Options{})
	require.InDelta(t, 0.50386, r.Relative.Value, digits)
	require.InDelta(t, 0.03386, r.Relative.SE, digits)
	require.InDelta(t, 0.40098, r.Relative.Anytime.Low, digits)
	require.InDelta(t, 0.60675, r.Relative.Anytime.High, digits)
	require.InDelta(t, 0, r.Relative.Anytime.PValue, digits)

	// One-sided and sequential: what a guardrail asks for. Lower is better turns the other end.
	r = experiment.Compare(meanMetric, a3000, b, experiment.Options{})
	require.InDelta(t, -0.42356454602790883, meanMetric.Guard(r, experiment.Options{}).Worst, 1e-12)
	cost := experiment.Metric{Kind: experiment.KindMean, LowerIsBetter: true}
	require.InDelta(t, -1.4302867177403806, cost.Guard(r, experiment.Options{}).Worst, 1e-12)
}

// The expected values of PostHog's tests of its statistics (products/experiments/stats). Their first arm is the treatment.
func TestEffectsOfPostHog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                string
		metric              experiment.Metric
		control, treatment  experiment.Moments
		value, low, high, p float64
	}{
		{
			"mean", meanMetric, mean(2507, 1196.87, 37377.9767), mean(2461, 1922.7, 94698.29),
			0.63646, -0.0875, 1.36048, 0.08487,
		},
		{"proportion", proportionMetric, experiment.FromCounts(1529, 87), experiment.FromCounts(1471, 62), -0.25925, -0.49475, -0.02376, 0.030960},
		{
			"ratio", ratioMetric,
			experiment.FromSums(1966, []float64{94605.79858780127, 936}, []float64{10463129.505392816, 94605.79858780127, 936}),
			experiment.FromSums(2034, []float64{99673.9364269569, 947}, []float64{11298745.182728939, 99673.9364269569, 947}),
			0.041333, 0.01378609, 0.0689, 0.0032826,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := experiment.Compare(c.metric, c.control, c.treatment, experiment.Options{}).Relative
			assert.InDelta(t, c.value, got.Value, 1e-4)
			assert.InDelta(t, c.low, got.Fixed.Low, 1e-4)
			assert.InDelta(t, c.high, got.Fixed.High, 1e-4)
			assert.InDelta(t, c.p, got.Fixed.PValue, 1e-4)
		})
	}
}

// The results that the documentation of ClickHouse shows for its own functions. They count index 0 minus index 1.
func TestEffectsOfClickHouse(t *testing.T) {
	t.Parallel()
	control := experiment.FromValues(slices.Values([]float64{20.3, 22.1, 21.9}))
	treatment := experiment.FromValues(slices.Values([]float64{18.9, 20.3, 19}))
	r := experiment.Compare(meanMetric, control, treatment, experiment.Options{})
	require.Equal(t, experiment.StateFewUsers, r.State)
	require.InDelta(t, -2.7988719532211235, r.Absolute.Value/r.Absolute.SE, 1e-12, "welchTTest")
	require.InDelta(t, 0.051807360348581945, r.Absolute.Fixed.PValue, 1e-12, "welchTTest")

	given := func(m experiment.Moments, variance float64) experiment.Estimate {
		return experiment.Estimate{State: experiment.StateOK, Value: m.Mean(0), Variance: variance, Users: m.Users()}
	}
	c := experiment.NewContrast(given(control, 0.7), given(treatment, 0.45))
	c.DF = 0
	z := c.Absolute(experiment.Options{})
	require.InDelta(t, -3.2841296025548123, z.Value/z.SE, 1e-12, "meanZTest")
	require.InDelta(t, 0.0010229786769086013, z.Fixed.PValue, 1e-12, "meanZTest")
	require.InDelta(t, -3.2468238419898365, z.Fixed.Low, 1e-10, "meanZTest")
	require.InDelta(t, -0.8198428246768334, z.Fixed.High, 1e-10, "meanZTest")

	p := experiment.CompareProportions(experiment.Arm{Users: 100, Converted: 10}, experiment.Arm{Users: 101, Converted: 11}, experiment.Options{})
	require.InDelta(t, 0.8363478437079654, p.PValue, 1e-12, "proportionsZTest, unpooled")
	require.InDelta(t, -0.07563797172293502, p.DiffLow, 1e-10, "proportionsZTest, unpooled")
	require.InDelta(t, 0.09345975390115283, p.DiffHigh, 1e-10, "proportionsZTest, unpooled")
}

// Few conversions. The difference of the first row is in Newcombe 1998 (Statistics in Medicine 17:873), table II, method 7,
// as 0.0547 to 0.3394. The rest is from R 4.2.2 by another way: optimize over the nuisance rate, uniroot for the ends.
func TestFixedIntervalsOfFewConversions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		control, treatment               [2]int64
		low, high, liftLow, liftHigh, pv float64
	}{
		{[2]int64{80, 48}, [2]int64{70, 56}, 0.0546926624, 0.3393737348, 0.0812626739, 0.6716766205, 0.0073553802},
		{[2]int64{100, 3}, [2]int64{98, 9}, -0.0034418054, 0.1348951641, -0.0548859585, 12.4949042493, 0.0627381941},
		{[2]int64{100, 2}, [2]int64{102, 2}, -0.045509152, 0.044175051, -0.880464925, 7.040867393, 0.984042176},
	} {
		r := experiment.Compare(proportionMetric, experiment.FromCounts(c.control[0], c.control[1]),
			experiment.FromCounts(c.treatment[0], c.treatment[1]), experiment.Options{})
		require.Equal(t, experiment.StateFewConversions, r.State)
		require.InDelta(t, c.low, r.Absolute.Fixed.Low, 1e-8)
		require.InDelta(t, c.high, r.Absolute.Fixed.High, 1e-8)
		require.InDelta(t, c.liftLow, r.Relative.Fixed.Low, 1e-8)
		require.InDelta(t, c.liftHigh, r.Relative.Fixed.High, 1e-7)
		require.InDelta(t, c.pv, r.Absolute.Fixed.PValue, 1e-8)
	}
}

// The same at every look. The expected values are from R 4.2.2 by another way: the evidence integrated numerically against the
// two Beta(½,½) (the last by lbeta, where the integrand is too narrow for that), then as above.
func TestAnytimeIntervalsOfFewConversions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		control, treatment [2]int64
		low, high, p       float64
	}{
		{[2]int64{80, 48}, [2]int64{70, 56}, -0.09694992951, 0.4724627613, 1},
		{[2]int64{100, 3}, [2]int64{100, 30}, 0.07782462861, 0.4757375693, 4.82808694e-05},
		{[2]int64{1000, 5}, [2]int64{1000, 25}, -0.004188909286, 0.05034892784, 0.990511466442},
	} {
		r := experiment.Compare(proportionMetric, experiment.FromCounts(c.control[0], c.control[1]),
			experiment.FromCounts(c.treatment[0], c.treatment[1]), experiment.Options{})
		require.InDelta(t, c.low, r.Absolute.Anytime.Low, 1e-9)
		require.InDelta(t, c.high, r.Absolute.Anytime.High, 1e-9)
		require.InEpsilon(t, c.p, r.Absolute.Anytime.PValue, 1e-7)
	}
}

// The sequences against confseq (test/uniform_boundaries_unittest.cpp, "from a reference implementation in R"): after 100
// observations of variance one, tuned for 100, the two-sided normal mixture is at 30.35209, and the logarithm of the mixture
// at a sum of 10 is −0.6510052. The one-sided mixture is at 27.66071; ours is its bound in closed form, a little wider.
func TestSequencesOfConfseq(t *testing.T) {
	t.Parallel()
	c := experiment.Contrast{State: experiment.StateOK, Difference: 10, VarDifference: 100, Users: 100, Baseline: 1000, VarBaseline: 1e-9}
	e := c.Absolute(experiment.Options{NStar: 100})
	require.InDelta(t, 30.35209, e.Anytime.High-10, 1e-5)
	e = experiment.Contrast{State: experiment.StateOK, Difference: 40, VarDifference: 100, Users: 100}.Absolute(experiment.Options{NStar: 100})
	// p is one over the mixture, whose logarithm is −0.6510052 at 10: the square of the sum is what it grows with.
	require.InDelta(t, -0.6510052+(1600-100)/(2*(100+12.60056)), -math.Log(e.Anytime.PValue), 1e-5)

	guard := experiment.Metric{Kind: experiment.KindMean}.Guard(experiment.Reading{
		Relative: experiment.Effect{State: experiment.StateOK, Value: 0, SE: 10}, Contrast: experiment.Contrast{Users: 100},
	}, experiment.Options{NStar: 100})
	require.GreaterOrEqual(t, -guard.Worst, 27.66071)
	require.InDelta(t, 27.66071, -guard.Worst, 0.15)
}

// Three ways to one relative effect. The Fieller ends are from R 4.2.2: uniroot on (d − r·b)²/Var(d − r·b) = 1.959964².
func TestRelativeMethods(t *testing.T) {
	t.Parallel()
	e := func(value, variance float64) experiment.Estimate {
		return experiment.Estimate{State: experiment.StateOK, Value: value, Variance: variance, Users: 100}
	}
	c := experiment.NewContrast(e(2, 36), e(3, 49))
	c.DF = 0
	delta := c.Relative(experiment.Options{})
	logarithm := c.Relative(experiment.Options{Relative: experiment.RelativeLog})
	fieller := c.Relative(experiment.Options{Relative: experiment.RelativeFieller})
	require.InDelta(t, 0.5, delta.Value, 1e-12)
	require.InDelta(t, -0.299993781022, fieller.Fixed.Low, 1e-9)
	require.InDelta(t, 2.885265813534, fieller.Fixed.High, 1e-8)
	// tea-tasting's form: exp(ln(3/2) ± q·√(36/(100·4) + 49/(100·9))) − 1.
	se := math.Sqrt(36/(100*4.0) + 49/(100*9.0))
	require.InDelta(t, 1.5*math.Exp(-1.9599639845*se)-1, logarithm.Fixed.Low, 1e-9)
	require.InDelta(t, 1.5*math.Exp(1.9599639845*se)-1, logarithm.Fixed.High, 1e-9)

	require.True(t, fieller.Anytime.LowOpen && fieller.Anytime.HighOpen, "a wider interval of the baseline holds zero")
	require.InDelta(t, 1, fieller.Anytime.PValue, 0)

	weak := experiment.NewContrast(e(1, 36), e(3, 49))
	require.Equal(t, experiment.StateUnbounded, weak.Relative(experiment.Options{}).State, "a baseline of 1 ± 1.2")
	require.Equal(t, experiment.StateOK, weak.Absolute(experiment.Options{}).State)
	require.Equal(t, experiment.StateZeroBaseline, experiment.NewContrast(e(0, 36), e(3, 49)).Relative(experiment.Options{}).State)
}

// A negative baseline: the effect is relative to its size, and keeps its sign.
func TestRelativeToANegativeBaseline(t *testing.T) {
	t.Parallel()
	c := experiment.Contrast{State: experiment.StateOK, Difference: 1, Baseline: -4, VarDifference: 0.02, VarBaseline: 0.01, Covariance: -0.01, Users: 100}
	for _, method := range []experiment.RelativeMethod{experiment.RelativeDelta, experiment.RelativeFieller} {
		r := c.Relative(experiment.Options{Relative: method})
		require.InDelta(t, 0.25, r.Value, 1e-12)
		require.True(t, r.Fixed.Contains(0.25) && r.Fixed.Low > 0 && r.Fixed.High < 0.5, "%+v", r)
	}
	require.Equal(t, experiment.StateUnbounded, c.Relative(experiment.Options{Relative: experiment.RelativeLog}).State)
}

func TestCompareNamesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	values := func(v ...float64) experiment.Moments { return experiment.FromValues(slices.Values(v)) }
	some := values(1, 2, 3, 4)
	for _, c := range []struct {
		name               string
		metric             experiment.Metric
		control, treatment experiment.Moments
		absolute, relative experiment.State
	}{
		{"nobody", meanMetric, experiment.Moments{}, experiment.Moments{}, experiment.StateEmptyArm, experiment.StateEmptyArm},
		{"an empty arm", meanMetric, some, values(), experiment.StateEmptyArm, experiment.StateEmptyArm},
		{"one user", meanMetric, some, values(3), experiment.StateOneUser, experiment.StateOneUser},
		{"no spread", meanMetric, values(2, 2, 2), values(2, 2), experiment.StateZeroVariance, experiment.StateZeroVariance},
		{"zero baseline", meanMetric, values(-1, 0, 1), some, experiment.StateFewUsers, experiment.StateZeroBaseline},
		{"few users", meanMetric, values(101, 102, 103), values(102, 103, 104), experiment.StateFewUsers, experiment.StateFewUsers},
		{"NaN", meanMetric, some, values(1, math.NaN()), experiment.StateNotFinite, experiment.StateNotFinite},
		{"overflow", meanMetric, some, values(1, 1e200), experiment.StateOverflow, experiment.StateOverflow},
		{"no kind", experiment.Metric{}, some, some, experiment.StateInvalid, experiment.StateInvalid},
		{"columns missing", ratioMetric, some, some, experiment.StateInvalid, experiment.StateInvalid},
		{"denominators of zero", ratioMetric, experiment.FromSums(2, []float64{1, 0}, []float64{1, 0, 0}), experiment.FromSums(2, []float64{1, 0}, []float64{1, 0, 0}), experiment.StateZeroTotal, experiment.StateZeroTotal},
		{"not 0 or 1", proportionMetric, some, some, experiment.StateInvalid, experiment.StateInvalid},
		{"nobody converts", proportionMetric, experiment.FromCounts(10, 0), experiment.FromCounts(10, 0), experiment.StateFewConversions, experiment.StateZeroBaseline},
		{"everybody converts", proportionMetric, experiment.FromCounts(10, 10), experiment.FromCounts(10, 10), experiment.StateFewConversions, experiment.StateFewConversions},
		{"one user of each", proportionMetric, experiment.FromCounts(1, 1), experiment.FromCounts(1, 0), experiment.StateFewConversions, experiment.StateFewConversions},
		{"enough", proportionMetric, experiment.FromCounts(100, 30), experiment.FromCounts(100, 40), experiment.StateOK, experiment.StateOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := experiment.Compare(c.metric, c.control, c.treatment, experiment.Options{})
			require.Equal(t, c.absolute, r.State)
			require.Equal(t, c.absolute, r.Absolute.State)
			require.Equal(t, c.relative, r.Relative.State)
			for _, e := range []experiment.Effect{r.Absolute, r.Relative} {
				if !e.State.Readable() {
					one := experiment.Evidence{PValue: 1}
					require.Equal(t, experiment.Effect{State: e.State, Anytime: one, Fixed: one}, e)
				}
			}
		})
	}
}

func TestValidateMetric(t *testing.T) {
	t.Parallel()
	require.NoError(t, meanMetric.Validate())
	err := experiment.Metric{Kind: "median", Margin: math.NaN(), Covariates: 99}.Validate()
	for _, want := range []string{"without a key", `kind "median"`, "margin NaN", "99 covariates"} {
		require.ErrorContains(t, err, want)
	}
}

// drawArm draws moments of the kind, few users and degenerate ones among them.
func drawArm(t *rapid.T, kind experiment.Kind, name string) experiment.Moments {
	n := rapid.OneOf(rapid.IntRange(0, 5), rapid.IntRange(30, 200)).Draw(t, name+" users")
	if kind == experiment.KindProportion {
		scale := rapid.SampledFrom([]int64{1, 1, 10_000}).Draw(t, name+" scale")
		users := int64(n) * scale
		return experiment.FromCounts(users, rapid.Int64Range(0, users).Draw(t, name+" converted"))
	}
	columns := 1
	if kind == experiment.KindRatio {
		columns = 2
	}
	value := rapid.OneOf(rapid.Float64Range(0, 10), rapid.SampledFrom([]float64{0, 1, 1e50, 1e-50, -3}))
	return experiment.FromRows(columns, slices.Values(rapid.SliceOfN(rapid.SliceOfN(value, columns, columns), n, n).Draw(t, name)))
}

func drawOptions(t *rapid.T) experiment.Options {
	return experiment.Options{
		Alpha:    rapid.OneOf(rapid.Just(0.05), rapid.Float64(), rapid.Float64Range(0, 1)).Draw(t, "alpha"),
		NStar:    rapid.OneOf(rapid.Just(5000.0), rapid.Float64(), rapid.Float64Range(1, 1e6)).Draw(t, "nstar"),
		Relative: rapid.SampledFrom([]experiment.RelativeMethod{"", experiment.RelativeDelta, experiment.RelativeLog, experiment.RelativeFieller}).Draw(t, "relative"),
	}
}

func TestReadingsKeepTheirPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]experiment.Kind{experiment.KindProportion, experiment.KindMean, experiment.KindRatio}).Draw(t, "kind")
		metric := experiment.Metric{Key: "m", Kind: kind}
		control, treatment, opts := drawArm(t, kind, "control"), drawArm(t, kind, "treatment"), drawOptions(t)
		r := experiment.Compare(metric, control, treatment, opts)
		swapped := experiment.Compare(metric, treatment, control, opts)
		require.Equal(t, r.State, swapped.State)

		for _, e := range []experiment.Effect{r.Absolute, r.Relative} {
			for _, f := range []float64{e.Value, e.SE, e.Anytime.Low, e.Anytime.High, e.Anytime.PValue, e.Fixed.Low, e.Fixed.High, e.Fixed.PValue} {
				require.False(t, math.IsNaN(f) || math.IsInf(f, 0), "%+v", e)
			}
			if !e.State.Readable() {
				continue
			}
			if e.Anytime.LowOpen {
				continue
			}
			slack := 1e-9 * (math.Abs(e.Value) + e.SE + 1e-300)
			for _, i := range []experiment.Interval{e.Anytime.Interval, e.Fixed.Interval} {
				require.LessOrEqual(t, i.Low, e.Value+slack)
				require.GreaterOrEqual(t, i.High, e.Value-slack)
			}
			if e.State != experiment.StateFewConversions {
				require.LessOrEqual(t, e.Anytime.Low, e.Fixed.Low+slack, "a confidence sequence is wider than the interval for one look")
				require.GreaterOrEqual(t, e.Anytime.High, e.Fixed.High-slack)
			}
			require.LessOrEqual(t, e.Fixed.PValue, e.Anytime.PValue+1e-9)
		}
		if r.State.Readable() {
			size := math.Abs(r.Absolute.Value) + r.Absolute.Anytime.High - r.Absolute.Anytime.Low + 1e-3
			require.InDelta(t, -r.Absolute.Anytime.Low, swapped.Absolute.Anytime.High, 1e-6*size, "swapped arms")
			require.InDelta(t, -r.Absolute.Fixed.High, swapped.Absolute.Fixed.Low, 1e-6*size)
			require.InDelta(t, r.Absolute.Anytime.PValue, swapped.Absolute.Anytime.PValue, 1e-6)
		}
	})
}

// A p-value is below alpha just when the interval of the same evidence leaves zero.
func TestIntervalsAndPValuesAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		users := rapid.Int64Range(50, 5000)
		nc, nt := users.Draw(t, "control"), users.Draw(t, "treatment")
		c, b := rapid.Int64Range(1, nc-1).Draw(t, "converted c"), rapid.Int64Range(1, nt-1).Draw(t, "converted t")
		method := rapid.SampledFrom([]experiment.RelativeMethod{experiment.RelativeDelta, experiment.RelativeLog}).Draw(t, "method")
		r := experiment.Compare(proportionMetric, experiment.FromCounts(nc, c), experiment.FromCounts(nt, b), experiment.Options{Relative: method})
		for _, e := range []experiment.Effect{r.Absolute, r.Relative} {
			if !e.State.Readable() {
				continue
			}
			for _, v := range []experiment.Evidence{e.Anytime, e.Fixed} {
				if math.Abs(v.PValue-0.05) > 1e-6 {
					require.Equal(t, v.PValue < 0.05, !v.Contains(0), "%+v", e)
				}
			}
		}
	})
}

// Student's t from below and above where it is expanded, by R 4.2.2: qt(1 − alpha/2, df).
func TestStudentQuantiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ alpha, df, want float64 }{
		{0.05, 1, 12.706204736175},
		{0.05, 3.5, 2.9400886379827},
		{0.05, 29, 2.0452296421327},
		{0.05, 99, 1.9842169515864},
		{0.05, 100, 1.9839715185236},
		{0.05, 150.3, 1.9758732589209},
		{0.05, 2000, 1.9611508260994},
		{0.05, 5e+06, 1.9599644589944},
		{0.005, 1, 127.32133646887},
		{0.005, 3.5, 6.3092038716998},
		{0.005, 29, 3.0380467448492},
		{0.005, 99, 2.8713076612148},
		{0.005, 100, 2.8706515238365},
		{0.005, 150.3, 2.8490671996084},
		{0.005, 2000, 2.8101525940928},
		{0.005, 5e+06, 2.8070350145885},
		{1e-06, 1, 636619.77236706},
		{1e-06, 3.5, 74.424185739528},
		{1e-06, 29, 6.1700561014188},
		{1e-06, 99, 5.2171642066495},
		{1e-06, 100, 5.2137275742301},
		{1e-06, 150.3, 5.1019932135586},
		{1e-06, 2000, 4.9069223654326},
		{1e-06, 5e+06, 4.8916445726745},
	} {
		require.InEpsilon(t, c.want, experiment.FixedMultiple(c.alpha, c.df), 1e-9, "%+v", c)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	goal := experiment.Metric{Key: "activated", Kind: experiment.KindProportion}
	cost := experiment.Metric{Key: "unsubscribed", Kind: experiment.KindProportion, LowerIsBetter: true, Margin: 0.05}
	guardrail := experiment.Metric{Key: "retained", Kind: experiment.KindProportion, Margin: 0.05}
	for _, c := range []struct {
		name                string
		control, treatment  experiment.Moments
		goal, cost          experiment.Verdict
		guarded, guardedLow experiment.Verdict
	}{
		{
			"clearly more", experiment.FromCounts(10_000, 3000), experiment.FromCounts(10_000, 3500),
			experiment.VerdictBetter, experiment.VerdictWorse, experiment.VerdictSafe, experiment.VerdictBreached,
		},
		{
			"clearly less", experiment.FromCounts(10_000, 3500), experiment.FromCounts(10_000, 3000),
			experiment.VerdictWorse, experiment.VerdictBetter, experiment.VerdictBreached, experiment.VerdictSafe,
		},
		{
			"too few to say", experiment.FromCounts(100, 35), experiment.FromCounts(100, 33),
			experiment.VerdictUndecided, experiment.VerdictUndecided, experiment.VerdictUndecided, experiment.VerdictUndecided,
		},
		{
			"the same, known well", experiment.FromCounts(1_000_000, 300_000), experiment.FromCounts(1_000_000, 300_000),
			experiment.VerdictUndecided, experiment.VerdictUndecided, experiment.VerdictSafe, experiment.VerdictSafe,
		},
		{"nobody", experiment.Moments{}, experiment.Moments{}, experiment.VerdictUndecided, experiment.VerdictUndecided, experiment.VerdictUndecided, experiment.VerdictUndecided},
		{
			"few conversions, and none any more", experiment.FromCounts(3000, 300), experiment.FromCounts(3000, 2),
			experiment.VerdictWorse, experiment.VerdictBetter, experiment.VerdictBreached, experiment.VerdictSafe,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := experiment.Compare(goal, c.control, c.treatment, experiment.Options{})
			assert.Equal(t, c.goal, goal.Verdict(r))
			assert.Equal(t, c.cost, cost.Verdict(r))
			for m, want := range map[*experiment.Metric]experiment.Verdict{&guardrail: c.guarded, &cost: c.guardedLow} {
				g := m.Guard(r, experiment.Options{})
				assert.Equal(t, want, g.Verdict, "%+v", g)
				assert.Equal(t, want == experiment.VerdictSafe, g.PValue <= 0.05, "the p-value agrees: %+v", g)
			}
		})
	}
}

func ExampleCompare() {
	metric := experiment.Metric{Key: "session_length", Kind: experiment.KindMean}
	control := experiment.FromSums(2000, []float64{240_000}, []float64{36_800_000})
	treatment := experiment.FromSums(2010, []float64{265_300}, []float64{43_000_000})
	r := experiment.Compare(metric, control, treatment, experiment.Options{})
	fmt.Printf("%.1f against %.1f seconds (%s)\n", r.Treatment.Value, r.Control.Value, r.State)
	fmt.Printf("lift %+.1f %%, between %+.1f %% and %+.1f %% however often you look\n",
		100*r.Relative.Value, 100*r.Relative.Anytime.Low, 100*r.Relative.Anytime.High)
	fmt.Println(metric.Verdict(r))
	// Output:
	// 132.0 against 120.0 seconds (ok)
	// lift +10.0 %, between +4.7 % and +15.3 % however often you look
	// better
}

func ExampleMetric_Guard() {
	retained := experiment.Metric{Key: "retained", Kind: experiment.KindProportion, Margin: 0.05}
	r := experiment.Compare(retained, experiment.FromCounts(20_000, 8000), experiment.FromCounts(20_000, 7980), experiment.Options{})
	g := retained.Guard(r, experiment.Options{})
	fmt.Printf("%s: at worst %+.1f %%, %+.0f %% would be accepted\n", g.Verdict, 100*g.Worst, -100*retained.Margin)
	// Output:
	// safe: at worst -3.9 %, -5 % would be accepted
}
