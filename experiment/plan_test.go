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

// Chow, Shao, Wang, Sample Size Calculations in Clinical Research (2008): 70 per arm for rates of 65 % and 85 % (4.2), 63 per
// arm for means that differ by half a standard deviation (3.2), 80 % power. The third is the case of an onboarding flow:
// about 1,690 per arm for 15 % on top of 30 %.
func TestPlannedUsers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		plan   experiment.Plan
		perArm float64
	}{
		{"rates", experiment.Plan{Baseline: 0.65, Lift: 0.85/0.65 - 1}, 70},
		{"means", experiment.Plan{Baseline: 1, Lift: 0.05, SD: 0.1}, 63},
		{"activation", experiment.Plan{Baseline: 0.3, Lift: 0.15}, 1690},
	} {
		users, err := c.plan.Users(experiment.Options{})
		require.NoError(t, err)
		require.InDelta(t, c.perArm, float64(users)/2, 1, c.name)
	}
}

// Twenty looks of 500 users at a lift of 15 % on 30 %, and hundred looks of 100: the figures were computed beforehand by
// another program, and simulation agrees.
func TestOutlookOfTheSequentialRule(t *testing.T) {
	t.Parallel()
	plan := experiment.Plan{Baseline: 0.3, Lift: 0.15}
	looks := func(n int, every int64) []int64 {
		list := make([]int64, n)
		for i := range list {
			list[i] = int64(i+1) * every
		}
		return list
	}
	o, err := plan.Outlook(looks(20, 500), experiment.Options{})
	require.NoError(t, err)
	t.Logf("%+v", o)
	require.InDelta(t, 0.973, o.Power, 0.0015)
	require.InDelta(t, 4349, o.MeanUsers, 30)
	require.InDelta(t, 0.014, o.FalseAlarms, 0.0005)
	require.Less(t, o.WrongSign, 1e-3)
	often, err := plan.Outlook(looks(100, 100), experiment.Options{})
	require.NoError(t, err)
	require.InDelta(t, 0.019, often.FalseAlarms, 0.0005)
	require.GreaterOrEqual(t, often.Power, o.Power)
}

func TestSequentialUsers(t *testing.T) {
	t.Parallel()
	plan := experiment.Plan{Baseline: 0.3, Lift: 0.15}
	fixed, err := plan.Users(experiment.Options{})
	require.NoError(t, err)
	most, err := plan.SequentialUsers(250, experiment.Options{})
	require.NoError(t, err)
	t.Logf("fixed %d, sequential at most %d", fixed, most)
	require.Greater(t, most, fixed)
	looks := []int64{}
	for users := int64(250); users <= most; users += 250 {
		looks = append(looks, users)
	}
	o, err := plan.Outlook(looks, experiment.Options{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, o.Power, 0.8)
	require.Less(t, o.Stopped[len(looks)-2], 0.8)
	require.Less(t, o.MeanUsers, float64(most))

	_, err = experiment.Plan{Baseline: 0.3, Lift: 1e-6}.SequentialUsers(1_000_000, experiment.Options{})
	require.ErrorIs(t, err, experiment.ErrUnreachable)
	_, err = plan.SequentialUsers(0, experiment.Options{})
	require.ErrorContains(t, err, "1 or more")
}

func TestPlansRefuse(t *testing.T) {
	t.Parallel()
	err := experiment.Plan{Baseline: 0.9, Lift: 0.5, Share: 2, Power: 1, Comparisons: -1, Reduction: 1, SD: 0}.Validate()
	for _, want := range []string{"share is 2", "power is 1", "-1 comparisons", "reduction is 1", "out of (0,1)"} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, experiment.Plan{SD: math.NaN(), Baseline: math.NaN()}.Validate(), "standard deviation is NaN")
	require.ErrorContains(t, experiment.Plan{SD: 1, Lift: math.Inf(1)}.Validate(), "baseline is 0")
	require.ErrorContains(t, experiment.Plan{Baseline: 1.5, Lift: 0.1}.Validate(), "a rate must lie")
	plan := experiment.Plan{Baseline: 0.3, Lift: 0.15}
	for _, looks := range [][]int64{nil, {0}, {5, 5}, {5, 4}, make([]int64, 1001), {experiment.MaxUsers + 1}} {
		_, err := plan.Outlook(looks, experiment.Options{})
		require.Error(t, err)
	}
	_, err = experiment.Plan{Baseline: 1, Lift: 1e-30, SD: 1e10}.Users(experiment.Options{})
	require.ErrorIs(t, err, experiment.ErrUnreachable)
	for _, perDay := range []float64{0, -1, math.NaN(), math.SmallestNonzeroFloat64} {
		_, err := experiment.Days(100, perDay)
		require.Error(t, err)
	}
	days, err := experiment.Days(3380, 500)
	require.NoError(t, err)
	require.Equal(t, int64(7), days)
}

func TestDetectableUndoesUsers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plan := experiment.Plan{
			Baseline: rapid.Float64Range(0.01, 0.9).Draw(t, "baseline"), SD: rapid.SampledFrom([]float64{0, 0, 1, 30}).Draw(t, "sd"),
			Share: rapid.Float64Range(0.1, 0.9).Draw(t, "share"), Power: rapid.Float64Range(0.5, 0.99).Draw(t, "power"),
			Comparisons: rapid.IntRange(1, 10).Draw(t, "comparisons"), Reduction: rapid.Float64Range(0, 0.9).Draw(t, "reduction"),
		}
		users := rapid.Int64Range(100, 10_000_000).Draw(t, "users")
		lift, err := plan.Detectable(users, experiment.Options{})
		if err != nil {
			require.ErrorIs(t, err, experiment.ErrUnreachable)
			return
		}
		plan.Lift = lift
		need, err := plan.Users(experiment.Options{})
		require.NoError(t, err)
		require.LessOrEqual(t, need, users)
		plan.Lift = lift * 0.99
		more, err := plan.Users(experiment.Options{})
		require.NoError(t, err)
		require.Greater(t, more, users)
	})
}

// What is planned is what happens: two thousand simulated experiments with the effect, stopped by the rule.
func TestOutlookAgreesWithSimulation(t *testing.T) {
	t.Parallel()
	plan := experiment.Plan{Baseline: 0.3, Lift: 0.15}
	looks := []int64{1000, 2000, 3000, 4000, 5000, 6000}
	o, err := plan.Outlook(looks, experiment.Options{})
	require.NoError(t, err)
	source := rand.NewPCG(13, 14)
	controls, treatments := distuv.Binomial{N: 500, P: 0.3, Src: source}, distuv.Binomial{N: 500, P: 0.345, Src: source}
	const runs = 2000
	stopped, users := 0.0, 0.0
	for range runs {
		var control, treatment experiment.Moments
		for i, at := range looks {
			control = experiment.Merge(control, experiment.FromCounts(500, int64(controls.Rand())))
			treatment = experiment.Merge(treatment, experiment.FromCounts(500, int64(treatments.Rand())))
			stop := !experiment.Compare(proportionMetric, control, treatment, experiment.Options{}).Absolute.Anytime.Contains(0)
			if stop {
				stopped++
			}
			if stop || i == len(looks)-1 {
				users += float64(at)
				break
			}
		}
	}
	t.Logf("stopped %.3f (planned %.3f), mean users %.0f (planned %.0f)", stopped/runs, o.Power, users/runs, o.MeanUsers)
	require.InDelta(t, o.Power, stopped/runs, 0.03)
	require.InEpsilon(t, o.MeanUsers, users/runs, 0.02)
}

func ExamplePlan() {
	plan := experiment.Plan{Baseline: 0.30, Lift: 0.15}
	users, _ := plan.Users(experiment.Options{})
	days, _ := experiment.Days(users, 400)
	fmt.Printf("one look at the end: %d users, %d days\n", users, days)
	o, _ := plan.Outlook([]int64{1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000}, experiment.Options{})
	fmt.Printf("stopped by 4,000 users: %.0f %%; by 8,000: %.0f %%; mean %.0f; false alarms %.1f %%\n",
		100*o.Stopped[3], 100*o.Power, o.MeanUsers, 100*o.FalseAlarms)
	// Output:
	// one look at the end: 3380 users, 9 days
	// stopped by 4,000 users: 54 %; by 8,000: 92 %; mean 4562; false alarms 0.9 %
}

func BenchmarkOutlook(b *testing.B) {
	plan := experiment.Plan{Baseline: 0.3, Lift: 0.15}
	looks := make([]int64, 20)
	for i := range looks {
		looks[i] = int64(i+1) * 500
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := plan.Outlook(looks, experiment.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
