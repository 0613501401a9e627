package experiment_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

// Expected losses of GrowthBook's test of its beta-binomial engine (packages/stats/tests/bayesian/test_tests.py: 49 and 51 of
// 100, flat prior). The chances are from R 4.2.2: integrate(dbeta · pbeta).
func TestBestOf(t *testing.T) {
	t.Parallel()
	two, state := experiment.BestOf([]experiment.Arm{{Users: 100, Converted: 49}, {Users: 100, Converted: 51}}, experiment.BetaPrior{})
	require.Equal(t, experiment.StateOK, state)
	require.InDelta(t, 0.610770522688, two[1].Best, 1e-10)
	require.InDelta(t, 0.03872, two[0].Loss, 0.5e-5)
	require.InDelta(t, 0.01912, two[1].Loss, 0.5e-5)
	require.InDelta(t, 0.03872430434, two[0].Loss, 1e-10)

	lopsided, _ := experiment.BestOf([]experiment.Arm{{Users: 200, Converted: 120}, {Users: 200, Converted: 100}}, experiment.BetaPrior{})
	require.InDelta(t, 0.0224136367278, lopsided[1].Best, 1e-10)

	few, _ := experiment.BestOf([]experiment.Arm{{Users: 10}, {Users: 10, Converted: 2}}, experiment.BetaPrior{})
	require.InDelta(t, 0.89285714285714, few[1].Best, 1e-10)
	require.InDelta(t, 0.17443064182195, few[0].Loss, 1e-10)
	require.InDelta(t, 0.00776397515528, few[1].Loss, 1e-10)

	three, _ := experiment.BestOf([]experiment.Arm{{Users: 100, Converted: 30}, {Users: 100, Converted: 40}, {Users: 100, Converted: 45}}, experiment.BetaPrior{})
	for i, want := range []float64{0.0060844068775, 0.2363141675186, 0.7576014256039} {
		require.InDelta(t, want, three[i].Best, 1e-10)
	}
}

// Miller's closed form (Formulas for Bayesian A/B Testing, 2014), with the flat prior.
func miller(control, treatment experiment.Arm) float64 {
	lbeta := func(a, b float64) float64 {
		x, _ := math.Lgamma(a)
		y, _ := math.Lgamma(b)
		z, _ := math.Lgamma(a + b)
		return x + y - z
	}
	aA, bA := float64(control.Converted+1), float64(control.Users-control.Converted+1)
	bB := float64(treatment.Users - treatment.Converted + 1)
	sum := 0.0
	for i := range treatment.Converted + 1 {
		x := float64(i)
		sum += math.Exp(lbeta(aA+x, bB+bA) - math.Log(bB+x) - lbeta(1+x, bB) - lbeta(aA, bA))
	}
	return sum
}

func TestBestOfProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		arms := make([]experiment.Arm, rapid.IntRange(2, 4).Draw(t, "arms"))
		for i := range arms {
			users := rapid.SampledFrom([]int64{0, 1, 20, 500, 100_000}).Draw(t, "users")
			arms[i] = experiment.Arm{Users: users, Converted: rapid.Int64Range(0, users).Draw(t, "converted")}
		}
		got, state := experiment.BestOf(arms, experiment.BetaPrior{})
		require.Equal(t, experiment.StateOK, state)
		sum := 0.0
		for _, s := range got {
			require.True(t, s.Best >= 0 && s.Best <= 1 && s.Loss >= 0 && s.Loss <= 1, "%+v", got)
			sum += s.Best
		}
		require.InDelta(t, 1, sum, 1e-9)
		if len(arms) == 2 && arms[1].Users <= 500 {
			require.InDelta(t, miller(arms[0], arms[1]), got[1].Best, 1e-7, "%+v", arms)
			// E[B − A] is the difference of the two losses.
			rate := func(a experiment.Arm) float64 { return float64(a.Converted+1) / float64(a.Users+2) }
			require.InDelta(t, rate(arms[1])-rate(arms[0]), got[0].Loss-got[1].Loss, 1e-7)
		}
		slices.Reverse(arms)
		back, _ := experiment.BestOf(arms, experiment.BetaPrior{})
		slices.Reverse(back)
		for i := range got {
			require.InDelta(t, got[i].Best, back[i].Best, 1e-9)
			require.InDelta(t, got[i].Loss, back[i].Loss, 1e-9)
		}
	})
}

func TestBestOfRefuses(t *testing.T) {
	t.Parallel()
	ok := []experiment.Arm{{Users: 10, Converted: 1}, {Users: 10, Converted: 2}}
	for _, prior := range []experiment.BetaPrior{{Converted: -1, Not: 1}, {Converted: 1}, {Converted: math.NaN(), Not: 1}, {Converted: math.Inf(1), Not: 1}} {
		_, state := experiment.BestOf(ok, prior)
		require.Equal(t, experiment.StateInvalid, state)
	}
	for _, arms := range [][]experiment.Arm{nil, ok[:1], {{Users: 1, Converted: 2}, {}}} {
		_, state := experiment.BestOf(arms, experiment.BetaPrior{})
		require.Equal(t, experiment.StateInvalid, state)
	}
}

// GrowthBook's normal engine by hand: without a prior the belief is the estimate; with N(0, 0.3²) on a lift of 0.70732 ± 0.37879
// (its own frequentist test) the precisions add up. The losses agree with the beta-binomial ones where the normal holds.
func TestPosterior(t *testing.T) {
	t.Parallel()
	e := experiment.Effect{State: experiment.StateOK, Value: 0.70732, SE: 0.37879}
	flat := meanMetric.Posterior(e, experiment.Prior{}, experiment.Options{})
	require.InDelta(t, 0.96907, flat.Better, 1e-5) // Φ(1.86731)
	require.InDelta(t, 0.70732-1.959964*0.37879, flat.Interval.Low, 1e-6)
	require.InDelta(t, 0.70732, flat.LossIfKept-flat.LossIfSent, 1e-12, "the losses differ by the effect")

	held := meanMetric.Posterior(e, experiment.Prior{SD: 0.3}, experiment.Options{})
	require.InDelta(t, 0.27265, held.Mean, 1e-5) // 0.70732 · 0.09/(0.09 + 0.143482)
	require.InDelta(t, 0.23518, held.SD, 1e-5)

	lower := experiment.Metric{Kind: experiment.KindMean, LowerIsBetter: true}.Posterior(e, experiment.Prior{}, experiment.Options{})
	require.InDelta(t, 1-flat.Better, lower.Better, 1e-12)
	require.InDelta(t, flat.LossIfKept, lower.LossIfSent, 1e-12)

	c, b := experiment.Arm{Users: 20_000, Converted: 6000}, experiment.Arm{Users: 20_000, Converted: 6100}
	r := experiment.Compare(proportionMetric, experiment.FromCounts(c.Users, c.Converted), experiment.FromCounts(b.Users, b.Converted), experiment.Options{})
	normal := proportionMetric.Posterior(r.Absolute, experiment.Prior{}, experiment.Options{})
	exact, _ := experiment.BestOf([]experiment.Arm{c, b}, experiment.BetaPrior{})
	require.InDelta(t, exact[1].Best, normal.Better, 1e-4)
	require.InDelta(t, exact[1].Loss, normal.LossIfSent, 1e-5)

	require.Equal(t, experiment.StateEmptyArm, meanMetric.Posterior(experiment.Effect{State: experiment.StateEmptyArm}, experiment.Prior{}, experiment.Options{}).State)
	require.Equal(t, experiment.StateInvalid, meanMetric.Posterior(experiment.Effect{State: experiment.StateOK}, experiment.Prior{}, experiment.Options{}).State)
	require.Equal(t, experiment.StateInvalid, meanMetric.Posterior(e, experiment.Prior{SD: math.NaN()}, experiment.Options{}).State)
}

func ExampleBestOf() {
	arms := []experiment.Arm{{Users: 400, Converted: 120}, {Users: 400, Converted: 138}, {Users: 400, Converted: 131}}
	standings, _ := experiment.BestOf(arms, experiment.BetaPrior{})
	for i, s := range standings {
		fmt.Printf("arm %d: best with chance %.2f, expected loss %.3f\n", i, s.Best, s.Loss)
	}
	// Output:
	// arm 0: best with chance 0.05, expected loss 0.052
	// arm 1: best with chance 0.67, expected loss 0.007
	// arm 2: best with chance 0.28, expected loss 0.024
}
