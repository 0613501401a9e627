package experiment_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/onramphq/onramp/experiment"
)

func levels(keys ...string) []experiment.Variant {
	list := make([]experiment.Variant, len(keys))
	for i, key := range keys {
		list[i] = experiment.Variant{Key: key, Weight: 1 / float64(len(keys))}
	}
	return list
}

// The guinea pigs of Crampton 1947, the data set ToothGrowth of R: orange juice or ascorbic acid, three doses, ten animals a
// cell. Expected: lm(len ~ supp * dose) of R 4.2.2 with the HC2 variances of sandwich 3.0-2, which are those of each cell, and
// Wald's chi-squared of both interactions.
func TestInteractionsOfToothGrowth(t *testing.T) {
	t.Parallel()
	f := experiment.Factorial{Key: "teeth", Factors: []experiment.Factor{{Key: "supp", Levels: levels("oj", "vc")}, {Key: "dose", Levels: levels("half", "one", "two")}}}
	require.NoError(t, f.Validate())
	var cells []experiment.Moments
	for _, c := range [][]float64{
		{15.2, 21.5, 17.6, 9.7, 14.5, 10, 8.2, 9.4, 16.5, 9.7},
		{19.7, 23.3, 23.6, 26.4, 20, 25.2, 25.8, 21.2, 14.5, 27.3},
		{25.5, 26.4, 22.4, 24.5, 24.8, 30.9, 26.4, 27.3, 29.4, 23},
		{4.2, 11.5, 7.3, 5.8, 6.4, 10, 11.2, 11.2, 5.2, 7},
		{16.5, 16.5, 15.2, 17.3, 22.5, 17.3, 13.6, 14.5, 18.8, 15.5},
		{23.6, 18.5, 33.9, 25.5, 26.4, 32.5, 26.7, 21.5, 23.3, 29.5},
	} {
		cells = append(cells, experiment.FromValues(slices.Values(c)))
	}
	r := f.Interactions(meanMetric, cells, experiment.CorrectionHolm, experiment.Options{NStar: 100})
	require.Len(t, r.Main, 3)
	require.Equal(t, "vc", r.Main[0].Level)
	require.InDelta(t, -3.7, r.Main[0].Absolute.Value, 1e-12)
	require.InDelta(t, 0.937626370084, r.Main[0].Absolute.SE, 1e-11)
	require.InDelta(t, 15.495, r.Main[2].Absolute.Value, 1e-12)
	require.InDelta(t, 1.19896367288, r.Main[2].Absolute.SE, 1e-11)
	require.Len(t, r.Interactions, 2)
	require.InDelta(t, -0.68, r.Interactions[0].Effect.Value, 1e-12)
	require.InDelta(t, 2.21484386207, r.Interactions[0].Effect.SE, 1e-11)
	require.InDelta(t, 5.33, r.Interactions[1].Effect.Value, 1e-12)
	require.InDelta(t, 2.39792734576, r.Interactions[1].Effect.SE, 1e-11)
	require.Len(t, r.Joint, 1)
	require.InDelta(t, 7.8285468689571, r.Joint[0].Wald, 1e-10)
	require.InDelta(t, 2, r.Joint[0].DF, 0)
	require.InDelta(t, 0.0199550420253, r.Joint[0].PValue, 1e-11)
	require.Equal(t, experiment.StateFewUsers, r.Joint[0].State)
	require.Less(t, r.Main[2].AdjustedP, 0.05)
}

// Two by two by hand: (m11 − m10) − (m01 − m00) with variance Σ v/n, and twice the standard error of a main effect.
func TestInteractionByHand(t *testing.T) {
	t.Parallel()
	f := experiment.Factorial{Key: "flow", Factors: []experiment.Factor{{Key: "checklist", Levels: levels("off", "on")}, {Key: "mail", Levels: levels("off", "on")}}}
	cells := []experiment.Moments{ // off off, off on, on off, on on
		experiment.FromCounts(2500, 750), experiment.FromCounts(2500, 800), experiment.FromCounts(2500, 850), experiment.FromCounts(2500, 1200),
	}
	r := f.Interactions(proportionMetric, cells, experiment.CorrectionHolm, experiment.Options{})
	require.InDelta(t, (0.48-0.34)-(0.32-0.30), r.Interactions[0].Effect.Value, 1e-12)
	require.InDelta(t, (0.48+0.34)/2-(0.32+0.30)/2, r.Main[0].Absolute.Value, 1e-12)
	require.InDelta(t, 2, r.Interactions[0].Effect.SE/r.Main[0].Absolute.SE, 1e-12)
	require.InDelta(t, 0.10/0.31, r.Main[0].Relative.Value, 1e-12)
	require.Less(t, r.Interactions[0].AdjustedP, 0.05)
	require.Less(t, r.Joint[0].PValue, 1e-4)

	cells[3] = experiment.Moments{}
	r = f.Interactions(proportionMetric, cells, experiment.CorrectionHolm, experiment.Options{})
	require.Equal(t, experiment.StateEmptyArm, r.Interactions[0].Effect.State)
	require.Equal(t, experiment.StateEmptyArm, r.Joint[0].State)
	require.InDelta(t, 1, r.Joint[0].PValue, 0)
	require.Empty(t, f.Interactions(proportionMetric, cells[:3], experiment.CorrectionHolm, experiment.Options{}).Main)
}

func TestFactorialCells(t *testing.T) {
	t.Parallel()
	f := experiment.Factorial{Key: "flow", Factors: []experiment.Factor{
		{Key: "checklist", Levels: []experiment.Variant{{"off", 0.4}, {"on", 0.6}}}, {Key: "mail", Levels: []experiment.Variant{{"none", 0.5}, {"one", 0.3}, {"two", 0.2}}},
	}}
	require.NoError(t, f.Validate())
	cells := f.Cells()
	require.Len(t, cells, 6)
	require.Equal(t, "off__none", cells[0].Key)
	require.Equal(t, []string{"on", "two"}, cells[5].Levels)
	require.InDelta(t, 0.12, cells[5].Weight, 1e-15)
	counts := map[string]int{}
	for i := range 20_000 {
		a := f.Experiment().Assign("u" + strconv.Itoa(i))
		require.True(t, a.In)
		counts[a.Variant]++
	}
	users, weights := []int64{}, []float64{}
	for _, c := range cells {
		users, weights = append(users, int64(counts[c.Key])), append(weights, c.Weight)
	}
	require.False(t, experiment.SampleRatioMismatch(users, weights).Mismatch, "%v", counts)

	bad := f
	bad.Factors = append(slices.Clone(f.Factors), f.Factors[0])
	require.ErrorContains(t, bad.Validate(), `factor "checklist" stands twice`)
	require.Empty(t, bad.Cells())
	require.ErrorContains(t, experiment.Factorial{Key: "k"}.Validate(), "0 factors")
	bad.Factors = []experiment.Factor{{Key: "", Levels: levels("a")}}
	require.ErrorContains(t, bad.Validate(), "at least 2")
	bad.Factors = nil
	for i := range 8 {
		bad.Factors = append(bad.Factors, experiment.Factor{Key: strconv.Itoa(i), Levels: levels("a", "b", "c")})
	}
	require.ErrorContains(t, bad.Validate(), "more than 256 cells")
}

// Two experiments on the same users that have nothing to do with each other: no interaction, and independent assignment.
func TestCrossedExperiments(t *testing.T) {
	t.Parallel()
	a := experiment.Experiment{Key: "checklist_first", Variants: levels("control", "treatment")}
	b := experiment.Experiment{Key: "welcome_mail", Variants: levels("control", "treatment")}
	random := rand.New(rand.NewPCG(15, 16))
	users, converted := map[string]int64{}, map[string]int64{}
	for i := range 40_000 {
		id := "u" + strconv.Itoa(i)
		va, vb := a.Assign(id).Variant, b.Assign(id).Variant
		cell, rate := va+"__"+vb, 0.3
		if va == "treatment" {
			rate += 0.05
		}
		users[cell]++
		if random.Float64() < rate {
			converted[cell]++
		}
	}
	f := experiment.Crossed(a, b)
	require.NoError(t, f.Validate())
	cells, slicesOfB := []experiment.Moments{}, make([]experiment.Slice, 2)
	for i, c := range f.Cells() {
		cells = append(cells, experiment.FromCounts(users[c.Key], converted[c.Key]))
		slicesOfB[i%2].Users = append(slicesOfB[i%2].Users, users[c.Key])
	}
	require.False(t, experiment.SampleRatioBy(slicesOfB, []float64{0.5, 0.5}).Mismatch)
	r := f.Interactions(proportionMetric, cells, experiment.CorrectionHolm, experiment.Options{})
	require.Less(t, r.Main[0].AdjustedP, 0.05)
	require.Greater(t, r.Main[1].AdjustedP, 0.05)
	require.Greater(t, r.Interactions[0].AdjustedP, 0.05)
	require.Greater(t, r.Joint[0].PValue, 0.001)
}

// Without effects a factorial of six cells claims anything in 5 % of the cases at most, ten looks each.
func TestFalseClaimsOfFactorials(t *testing.T) {
	t.Parallel()
	f := experiment.Factorial{Key: "flow", Factors: []experiment.Factor{{Key: "a", Levels: levels("x", "y")}, {Key: "b", Levels: levels("x", "y", "z")}}}
	arrivals := distuv.Binomial{N: 200, P: 0.3, Src: rand.NewPCG(17, 18)}
	claims := 0
	const runs = 400
	for range runs {
		cells := make([]experiment.Moments, 6)
		claimed := false
		for range 10 {
			for i := range cells {
				cells[i] = experiment.Merge(cells[i], experiment.FromCounts(200, int64(arrivals.Rand())))
			}
			r := f.Interactions(proportionMetric, cells, experiment.CorrectionHolm, experiment.Options{})
			for _, e := range r.Main {
				claimed = claimed || e.AdjustedP < 0.05
			}
			for _, e := range r.Interactions {
				claimed = claimed || e.AdjustedP < 0.05
			}
		}
		if claimed {
			claims++
		}
	}
	t.Logf("%d factorials without effects, ten looks: false claims %.2f %%", runs, 100*float64(claims)/runs)
	require.LessOrEqual(t, float64(claims)/runs, 0.05)
}

func ExampleFactorial() {
	f := experiment.Factorial{Key: "onboarding", Factors: []experiment.Factor{
		{Key: "checklist", Levels: []experiment.Variant{{Key: "off", Weight: 0.5}, {Key: "on", Weight: 0.5}}},
		{Key: "mail", Levels: []experiment.Variant{{Key: "off", Weight: 0.5}, {Key: "on", Weight: 0.5}}},
	}}
	for _, c := range f.Cells() {
		fmt.Printf("%s %.2f\n", c.Key, c.Weight)
	}
	metric := experiment.Metric{Key: "activated", Kind: experiment.KindProportion}
	r := f.Interactions(metric, []experiment.Moments{
		experiment.FromCounts(2500, 750), experiment.FromCounts(2500, 800), experiment.FromCounts(2500, 850), experiment.FromCounts(2500, 1200),
	}, experiment.CorrectionHolm, experiment.Options{})
	for _, e := range r.Main {
		fmt.Printf("%s %+.0f pp\n", e.Factor, 100*e.Absolute.Value)
	}
	fmt.Printf("together %+.0f pp more than one by one\n", 100*r.Interactions[0].Effect.Value)
	// Output:
	// off__off 0.25
	// off__on 0.25
	// on__off 0.25
	// on__on 0.25
	// checklist +10 pp
	// mail +8 pp
	// together +12 pp more than one by one
}
