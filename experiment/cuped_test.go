package experiment_test

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

// GrowthBook's tests of regression adjustment (packages/stats/tests/frequentist/test_tests.py): a mean with a covariate that
// explains next to nothing, and a ratio whose covariate is the same ratio before. Of theirs the second makes one covariate of
// numerator and denominator, z = (n − r·d)/d̄; so does the test.
func TestCUPEDOfGrowthBook(t *testing.T) {
	t.Parallel()
	const digits = 0.5e-5
	adjusted := experiment.Metric{Key: "revenue", Kind: experiment.KindMean, Covariates: 1}
	r := experiment.Compare(adjusted,
		experiment.FromSums(3000, []float64{1396.87, 16.87}, []float64{52377.9767, 1, 527.9767}),
		experiment.FromSums(3461, []float64{2422.7, 22.7}, []float64{134698.29, 1, 1348.29}), experiment.Options{})
	require.InDelta(t, 0.50338, r.Relative.Value, digits)
	require.InDelta(t, 0.33341, r.Relative.SE, digits)
	require.InDelta(t, -0.50969, r.Relative.Anytime.Low, 2e-5, "their gradient is not quite the exact one")
	require.InDelta(t, 1.51646, r.Relative.Anytime.High, 2e-5)

	control := ratioArm{
		n: 485.112236689623, nn: 2715.484666118136, d: 679.9093275844917, dd: 4939.424001640236,
		pn: 192.59138069991536, pnn: 460.076026390857, pd: 290.1398399750233, pdd: 920.9461385038898,
		nPn: 1113.6215759318352, dPd: 2130.9404074446747, pnPd: 634.239482353647, nd: 3602.146836776702, nPd: 1559.2878434944676, dPn: 1460.3181079276983,
	}
	treatment := ratioArm{
		n: 514.7757826608777, nn: 2994.897482705013, d: 705.4090874383759, dd: 5291.36604146392,
		pn: 206.94157227402536, pnn: 514.2903702246757, pd: 302.54389139107326, pdd: 994.4506208125663,
		nPn: 1237.0953021125997, dPd: 2292.081739775257, pnPd: 698.4173425817908, nd: 3918.1561431600717, nPd: 1701.0287270040265, dPn: 1604.0759503266522,
	}
	before := (control.pn + treatment.pn) / (control.pd + treatment.pd)
	metric := experiment.Metric{Key: "per_session", Kind: experiment.KindRatio, Covariates: 1}
	got := experiment.Compare(metric, control.moments(before), treatment.moments(before), experiment.Options{}).Relative
	require.InDelta(t, -0.0007, got.Value, 1e-4)
	require.InDelta(t, 0.00391, got.SE, 1e-4)
}

// ratioArm holds the sums of 100 users: of numerator and denominator, now and before (p).
type ratioArm struct{ n, nn, d, dd, pn, pnn, pd, pdd, nPn, dPd, pnPd, nd, nPd, dPn float64 }

// moments are those of numerator, denominator and z = pn − r·pd.
func (a ratioArm) moments(r float64) experiment.Moments {
	return experiment.FromSums(100, []float64{a.n, a.d, a.pn - r*a.pd},
		[]float64{a.nn, a.nd, a.nPn - r*a.nPd, a.dd, a.dPn - r*a.dPd, a.pnn - 2*r*a.pnPd + r*r*a.pdd})
}

// gbBefore are the covariates of the strata of GrowthBook's test: sum, sum of squares, sum of products with the outcome.
var gbBefore = [][2][3]float64{
	{{104.90748970535698, 544.8528083123211, 1709.8485612477339}, {205.17072061676208, 1040.6742753852225, 3561.161673449451}},
	{{315.83926510817054, 1578.8689285910423, 6938.770455871619}, {377.29540367369503, 1981.0803020754106, 9428.146405105292}},
	{{523.2717238353379, 2797.158898626946, 15535.162216800189}, {501.0447878972627, 2596.899156698453, 15962.754636573465}},
	{{758.3911049329452, 3955.922281372593, 26846.415701194885}, {603.9456523430367, 3144.0820997706583, 23789.82730157116}},
	{{823.2824168385916, 4389.893995072177, 34727.84795433773}, {832.356528363269, 4439.253146704266, 39332.667494781235}},
}

// Strata and a covariate at once. GrowthBook weighs the arms of a stratum by users for its slope, we by what serves best: the
// same to a percent. (Relative effects are not comparable: it adjusts the baseline here, and nowhere else.)
func TestStrataWithCovariateOfGrowthBook(t *testing.T) {
	t.Parallel()
	var strata []experiment.Segment
	for i, s := range gbStrata {
		of := func(a [6]float64, b [3]float64) experiment.Moments {
			return experiment.FromSums(int64(a[0]), []float64{a[1], b[0]}, []float64{a[2], b[2], b[1]})
		}
		strata = append(strata, experiment.Segment{Control: of(s[0], gbBefore[i][0]), Treatment: of(s[1], gbBefore[i][1])})
	}
	r := experiment.PostStratify(experiment.Metric{Kind: experiment.KindMean, Covariates: 1}, strata, experiment.Options{})
	require.InDelta(t, 3.7116918650826394, r.Absolute.Value, 0.001)
	require.InEpsilon(t, 0.07390409644392272, r.Absolute.SE, 0.01)
	require.Greater(t, r.Reduction, 0.9)
}

// Motor Trend's cars of 1974, the data set mtcars of R: transmission, miles per gallon, weight, horsepower. Coefficients and
// standard errors are those that R 4.2.2 prints for lm(mpg ~ am + wt) and lm(mpg ~ am + wt + hp).
func TestRegressTheCarsOfR(t *testing.T) {
	t.Parallel()
	cars := [][4]float64{
		{1, 21, 2.62, 110},
		{1, 21, 2.875, 110},
		{1, 22.8, 2.32, 93},
		{0, 21.4, 3.215, 110},
		{0, 18.7, 3.44, 175},
		{0, 18.1, 3.46, 105},
		{0, 14.3, 3.57, 245},
		{0, 24.4, 3.19, 62},
		{0, 22.8, 3.15, 95},
		{0, 19.2, 3.44, 123},
		{0, 17.8, 3.44, 123},
		{0, 16.4, 4.07, 180},
		{0, 17.3, 3.73, 180},
		{0, 15.2, 3.78, 180},
		{0, 10.4, 5.25, 205},
		{0, 10.4, 5.424, 215},
		{0, 14.7, 5.345, 230},
		{1, 32.4, 2.2, 66},
		{1, 30.4, 1.615, 52},
		{1, 33.9, 1.835, 65},
		{0, 21.5, 2.465, 97},
		{0, 15.5, 3.52, 150},
		{0, 15.2, 3.435, 150},
		{0, 13.3, 3.84, 245},
		{0, 19.2, 3.845, 175},
		{1, 27.3, 1.935, 66},
		{1, 26, 2.14, 91},
		{1, 30.4, 1.513, 113},
		{1, 15.8, 3.17, 264},
		{1, 19.7, 2.77, 175},
		{1, 15, 3.57, 335},
		{1, 21.4, 2.78, 109},
	}
	arm := func(am float64, columns int) experiment.Moments {
		return experiment.FromRows(columns, func(yield func([]float64) bool) {
			for _, car := range cars {
				if car[0] == am && !yield(car[1:1+columns]) {
					return
				}
			}
		})
	}
	for _, c := range []struct {
		columns      int
		value, se, p float64
	}{
		{2, -0.0236152196627, 1.545645332435, 0.987914585548},
		{3, 2.0837101303233, 1.3764201523049, 0.141268236737},
	} {
		metric := experiment.Metric{Key: "mpg", Kind: experiment.KindMean, Covariates: c.columns - 1}
		e := experiment.Regress(metric, arm(0, c.columns), arm(1, c.columns), experiment.Options{NStar: 30})
		require.Equal(t, experiment.StateFewUsers, e.State)
		require.InDelta(t, c.value, e.Value, 1e-10)
		require.InDelta(t, c.se, e.SE, 1e-10)
		require.InDelta(t, c.p, e.Fixed.PValue, 1e-10)
		require.Less(t, e.Anytime.Low, e.Fixed.Low)
		require.Zero(t, experiment.Compare(metric, arm(0, c.columns), arm(1, c.columns), experiment.Options{}).Reduction, "too few to adjust on an approximation")
	}
}

// The table in the README of avlm, the authors' package: estimate, standard error, always-valid p and interval for four of its
// coefficients, from 100 observations with residual error 1.065. Its degrees of freedom are one fewer than n − 8.
func TestAnytimeRegressionOfItsAuthors(t *testing.T) {
	t.Parallel()
	const df, sigma, scale = 91, 1.065, 1
	for _, c := range []struct{ value, se, p, low, high float64 }{
		{0.9163, 0.1586, 5.632e-06, 0.4021, 1.430},
		{1.8723, 0.1809, 7.565e-15, 1.2921, 2.453},
		{2.3224, 0.2157, 1.842e-15, 1.6393, 3.006},
		{0.4801, 0.2112, 4.471e-01, -0.1899, 1.150},
	} {
		e := experiment.TSequence(c.value, c.se, df, sigma*sigma/c.se/c.se, scale, 0.05)
		require.InDelta(t, c.low, e.Low, 0.0006)
		require.InDelta(t, c.high, e.High, 0.0006)
		require.InEpsilon(t, math.Log(c.p), math.Log(e.PValue), 0.002, "the table is rounded")
	}
}

// userRows yields so many users with an outcome that two covariates explain in part; the last column repeats the second.
func userRows(random *rand.Rand, n int, effect float64) iter.Seq[[]float64] {
	return func(yield func([]float64) bool) {
		for range n {
			x, z := random.NormFloat64(), float64(random.IntN(3))
			if !yield([]float64{10 + effect + 2*x + z + random.NormFloat64(), x, z, 3 - 2*z}) {
				return
			}
		}
	}
}

func TestCovariatesTakeVarianceAway(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	control, treatment := experiment.FromRows(4, userRows(random, 4000, 0)), experiment.FromRows(4, userRows(random, 6000, 0.2))
	metric := experiment.Metric{Kind: experiment.KindMean, Covariates: 3}
	r := experiment.Compare(metric, control, treatment, experiment.Options{})
	// Var(2x + z + e) = 4 + 2/3 + 1, of which 1 is left.
	require.InDelta(t, 1-1/5.6667, r.Reduction, 0.02)
	require.True(t, r.Absolute.Anytime.Contains(0.2) && r.Absolute.Anytime.Low > 0, "%+v", r.Absolute)
	e := experiment.Regress(metric, control, treatment, experiment.Options{})
	require.InDelta(t, r.Absolute.Value, e.Value, 0.002, "regression agrees")
	require.InEpsilon(t, r.Absolute.SE, e.SE, 0.01)
	require.InEpsilon(t, r.Absolute.Anytime.High-r.Absolute.Anytime.Low, e.Anytime.High-e.Anytime.Low, 0.03, "and so do the sequences")
}

func TestAdjustmentProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.IntRange(1, 3).Draw(t, "covariates")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		loads := rapid.SliceOfN(rapid.SampledFrom([]float64{0, 1, -3, 100}), p, p).Draw(t, "loads")
		rows := func(n int) [][]float64 {
			list := make([][]float64, n)
			for i := range list {
				row := make([]float64, p+1)
				row[0] = random.NormFloat64()
				for j := range p {
					row[j+1] = math.Floor(random.NormFloat64() * 2)
					row[0] += loads[j] * row[j+1]
				}
				list[i] = row
			}
			return list
		}
		a, b := rows(rapid.IntRange(2, 300).Draw(t, "a")), rows(rapid.IntRange(2, 300).Draw(t, "b"))
		of := func(list [][]float64) experiment.Moments { return experiment.FromRows(p+1, slices.Values(list)) }
		metric := experiment.Metric{Kind: experiment.KindMean, Covariates: p}
		r, swapped := experiment.Compare(metric, of(a), of(b), experiment.Options{}), experiment.Compare(metric, of(b), of(a), experiment.Options{})
		require.True(t, r.Reduction >= -1e-9 && r.Reduction <= 1, "%v", r.Reduction)
		require.InDelta(t, r.Contrast.Difference, -swapped.Contrast.Difference, 1e-9*(1+math.Abs(r.Contrast.Difference)))
		require.InEpsilon(t, 1+r.Contrast.VarDifference, 1+swapped.Contrast.VarDifference, 1e-9)
		for _, row := range append(slices.Clone(a), b...) { // a covariate may be measured from anywhere
			row[1] += 1000
		}
		moved := experiment.Compare(metric, of(a), of(b), experiment.Options{})
		require.InDelta(t, r.Contrast.Difference, moved.Contrast.Difference, 1e-6*(1+math.Abs(r.Contrast.Difference)))
		e := experiment.Regress(metric, of(a), of(b), experiment.Options{})
		require.False(t, math.IsNaN(e.Value+e.SE+e.Anytime.Low+e.Anytime.High+e.Anytime.PValue))
	})
}

func TestRegressNamesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	of := func(rows ...[]float64) experiment.Moments { return experiment.FromRows(2, slices.Values(rows)) }
	metric := experiment.Metric{Kind: experiment.KindMean, Covariates: 1}
	few := of([]float64{1, 2}, []float64{2, 5})
	require.Equal(t, experiment.StateZeroVariance, experiment.Regress(metric, of([]float64{1, 1}, []float64{2, 2}, []float64{3, 3}), of([]float64{1, 1}, []float64{2, 2}), experiment.Options{}).State)
	require.Equal(t, experiment.StateOneUser, experiment.Regress(metric, few, of([]float64{1, 1}), experiment.Options{}).State)
	require.Equal(t, experiment.StateInvalid, experiment.Regress(ratioMetric, few, few, experiment.Options{}).State)
	e := experiment.Regress(metric, few, of([]float64{1, 3}, []float64{4, 5}), experiment.Options{})
	require.Equal(t, experiment.StateFewUsers, e.State)
	require.True(t, e.Anytime.LowOpen && e.Anytime.HighOpen, "one degree of freedom says nothing yet: %+v", e)
}

// Two hundred A/A experiments that are adjusted and looked at twenty times.
func TestFalseAlarmsOfAdjustedMeans(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(9, 10))
	metric := experiment.Metric{Kind: experiment.KindMean, Covariates: 3}
	var a, regression alarms
	for range 200 {
		var control, treatment experiment.Moments
		effects := make([]experiment.Effect, 0, aaLooks)
		regressed := make([]experiment.Effect, 0, aaLooks)
		for range aaLooks {
			control = experiment.Merge(control, experiment.FromRows(4, userRows(random, 60, 0)))
			treatment = experiment.Merge(treatment, experiment.FromRows(4, userRows(random, 60, 0)))
			effects = append(effects, experiment.Compare(metric, control, treatment, experiment.Options{NStar: 1000}).Absolute)
			regressed = append(regressed, experiment.Regress(metric, control, treatment, experiment.Options{NStar: 1000}))
		}
		a.add(slices.Values(effects))
		regression.add(slices.Values(regressed))
	}
	a.check(t, "adjusted means")
	regression.check(t, "regression")
}

func ExampleRegress() {
	rows := func(shift float64) experiment.Moments {
		return experiment.FromRows(2, func(yield func([]float64) bool) {
			for i := range 400 { // minutes in the first week, invited colleagues at sign-up
				colleagues, luck := float64(i%5), float64(i%7)-3
				if !yield([]float64{20 + shift + 10*colleagues + luck, colleagues}) {
					return
				}
			}
		})
	}
	metric := experiment.Metric{Key: "minutes", Kind: experiment.KindMean, Covariates: 1}
	e := experiment.Regress(metric, rows(0), rows(1), experiment.Options{})
	fmt.Printf("%+.2f minutes, between %+.2f and %+.2f however often you look\n", e.Value, e.Anytime.Low, e.Anytime.High)
	// Output:
	// +1.00 minutes, between +0.50 and +1.50 however often you look
}
