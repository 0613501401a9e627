package selftest_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/internal/selftest"
)

// population is users of an experiment of two arms with a rate, a mean that has a long tail, and a ratio.
func population(users int) selftest.Input {
	in := selftest.Input{
		Experiment: experiment.Experiment{Key: "flow", Variants: []experiment.Variant{{Key: "control", Weight: 0.5}, {Key: "treatment", Weight: 0.5}}},
		Metrics: []experiment.Metric{
			{Key: "activated", Kind: experiment.KindProportion}, {Key: "spend", Kind: experiment.KindMean}, {Key: "session_length", Kind: experiment.KindRatio},
		},
		Replications: 200, Looks: 5,
	}
	r := rand.New(rand.NewPCG(7, 7))
	for i := range users {
		token := fmt.Sprintf("user-%d", i)
		yes := 0.0
		if r.Float64() < 0.3 {
			yes = 1
		}
		sessions := float64(1 + r.IntN(4))
		arm := 0
		if in.Experiment.Assign(token).Variant == "treatment" {
			arm = 1
		}
		in.Units = append(in.Units, selftest.Unit{Token: token, Arm: arm, Exposed: int64(i), Values: [][]float64{
			{yes}, {math.Exp(r.NormFloat64())}, {sessions * (50 + 10*r.NormFloat64()), sessions},
		}})
	}
	return in
}

func failed(r selftest.Report) []string {
	var names []string
	for _, c := range r.Checks {
		if !c.Passed {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestSelfTestPassesWhereAllIsWell(t *testing.T) {
	t.Parallel()
	report := selftest.Run(population(2000))
	for _, c := range report.Checks {
		t.Logf("%-28s %-16s %8.4g in [%.4g, %.4g] %v %s %s", c.Name, c.Metric, c.Value, c.Low, c.High, c.Passed, c.What, c.Skipped)
		require.True(t, c.Passed, c)
		require.Empty(t, c.Skipped, c)
	}
	require.True(t, report.Passed)
	require.Len(t, report.Checks, 2+3*5)
}

func TestSelfTestIsReproducible(t *testing.T) {
	t.Parallel()
	in := population(500)
	in.Replications = 20
	shuffled := in
	shuffled.Units = slices.Clone(in.Units)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(shuffled.Units), func(i, j int) {
		shuffled.Units[i], shuffled.Units[j] = shuffled.Units[j], shuffled.Units[i]
	})
	require.Equal(t, selftest.Run(in), selftest.Run(shuffled))
}

func TestSelfTestFinds(t *testing.T) {
	t.Parallel()
	t.Run("rows that are no users", func(t *testing.T) {
		t.Parallel()
		in := population(1500)
		in.Metrics = in.Metrics[:1]
		for range 2 { // every session of a user counted as a user
			in.Units = append(in.Units, in.Units...)
		}
		r := selftest.Run(in)
		require.False(t, r.Passed)
		require.Contains(t, failed(r), "a/a at one look")
		require.Contains(t, failed(r), "a/a p-values")
	})
	t.Run("variants that the hash does not give", func(t *testing.T) {
		t.Parallel()
		in := population(300)
		in.Replications, in.Misplaced = 10, 1
		require.Contains(t, failed(selftest.Run(in)), "assignment")
	})
	t.Run("users lost by bucket", func(t *testing.T) {
		t.Parallel()
		in := population(3000)
		in.Replications = 10
		in.Units = slices.DeleteFunc(in.Units, func(u selftest.Unit) bool {
			bucket, _ := experiment.Hash("flow", u.Token, experiment.HashV2)
			return bucket < 0.1
		})
		require.Contains(t, failed(selftest.Run(in)), "buckets")
	})
	t.Run("another experiment that decides this one", func(t *testing.T) {
		t.Parallel()
		in := population(1000)
		in.Replications = 10
		in.Others = []selftest.Other{{Key: "apart", Table: [][]int64{{251, 249}, {248, 252}}}, {Key: "same", Table: [][]int64{{300, 200}, {200, 300}}}}
		r := selftest.Run(in)
		require.Equal(t, []string{"independence"}, failed(r))
	})
	t.Run("coverage leaves its ranges even", func(t *testing.T) {
		t.Parallel()
		in := population(4000)
		in.Replications = 10
		in.Experiment.Coverage = 0.4
		in.Units = slices.DeleteFunc(in.Units, func(u selftest.Unit) bool { return !in.Experiment.Assign(u.Token).In })
		require.NotContains(t, failed(selftest.Run(in)), "buckets")
	})
}

func TestSelfTestSaysWhatItCannot(t *testing.T) {
	t.Parallel()
	t.Run("few users", func(t *testing.T) {
		t.Parallel()
		r := selftest.Run(population(50))
		require.True(t, r.Passed)
		require.NotEmpty(t, r.Checks[len(r.Checks)-1].Skipped)
	})
	t.Run("no spread", func(t *testing.T) {
		t.Parallel()
		in := population(400)
		in.Replications = 10
		in.Metrics = in.Metrics[:1]
		for i := range in.Units {
			in.Units[i].Values = [][]float64{{0}}
		}
		r := selftest.Run(in)
		require.True(t, r.Passed)
		require.Contains(t, r.Checks[len(r.Checks)-1].Skipped, "too little spread")
	})
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		require.True(t, selftest.Run(selftest.Input{}).Passed)
	})
}

func BenchmarkSelfTest(b *testing.B) {
	in := population(10_000)
	in.Replications = 10
	for b.Loop() {
		selftest.Run(in)
	}
}
