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
		Metrics: []selftest.Metric{
			{Metric: experiment.Metric{Key: "activated", Kind: experiment.KindProportion}},
			{Metric: experiment.Metric{Key: "spend", Kind: experiment.KindMean}},
			{Metric: experiment.Metric{Key: "session_length", Kind: experiment.KindRatio}},
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
		in.Tokens = append(in.Tokens, token)
		for m, values := range [][]float64{{yes}, {math.Exp(r.NormFloat64())}, {sessions * (50 + 10*r.NormFloat64()), sessions}} {
			in.Metrics[m].Units = append(in.Metrics[m].Units, experiment.Unit{ID: token, Values: values})
		}
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
	report := selftest.Run(in)
	require.Equal(t, report, selftest.Run(in))
	other := in
	other.Seed = "another"
	require.NotEqual(t, report.Checks, selftest.Run(other).Checks)
}

func TestSelfTestFinds(t *testing.T) {
	t.Parallel()
	t.Run("rows that are no users", func(t *testing.T) {
		t.Parallel()
		in := population(1500)
		in.Metrics = in.Metrics[:1]
		for range 2 { // every session of a user counted as a user
			in.Metrics[0].Units = append(in.Metrics[0].Units, in.Metrics[0].Units...)
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
		in.Tokens = slices.DeleteFunc(in.Tokens, func(token string) bool {
			bucket, _ := experiment.Hash("flow", token, experiment.HashV2)
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
		in.Tokens = slices.DeleteFunc(in.Tokens, func(token string) bool { return !in.Experiment.Assign(token).In })
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
		for i := range in.Metrics[0].Units {
			in.Metrics[0].Units[i].Values = []float64{0}
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
