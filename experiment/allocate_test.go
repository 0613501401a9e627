package experiment_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

func estimates(pairs ...[2]float64) []experiment.Estimate {
	list := make([]experiment.Estimate, len(pairs))
	for i, p := range pairs {
		list[i] = experiment.Estimate{State: experiment.StateOK, Value: p[0], Variance: p[1] * p[1] * 1000, Users: 1000}
	}
	return list
}

// The chances of being best and second best are from R 4.2.2: integrate(dnorm · Π pnorm).
func TestAllocateByQuadrature(t *testing.T) {
	t.Parallel()
	arms := estimates([2]float64{0.30, 0.02}, [2]float64{0.34, 0.015}, [2]float64{0.33, 0.03})
	got, err := experiment.Allocator{Floor: 0.01}.Allocate(arms)
	require.NoError(t, err)
	require.Equal(t, experiment.StateOK, got.State)
	require.InDeltaSlice(t, []float64{0.0289540314457, 0.5952689839041, 0.3757769846502}, got.Best, 1e-10)
	require.InDeltaSlice(t, []float64{0.0381, 0.5874, 0.3745}, got.Shares, 1e-12, "0.01 + 0.97 · best, rounded")
	got, err = experiment.Allocator{Floor: 1e-9, TopTwo: true}.Allocate(arms)
	require.NoError(t, err)
	require.InDeltaSlice(t, []float64{0.114267769242, 0.483567241199, 0.402164989559}, got.Shares, 1e-4)

	// Two arms have a closed form: Φ(d/√(s₁² + s₂²)).
	got, err = experiment.Allocator{LowerIsBetter: true}.Allocate(estimates([2]float64{10, 3}, [2]float64{12, 4}))
	require.NoError(t, err)
	require.InDelta(t, distuv.UnitNormal.CDF(2.0/5), got.Best[0], 1e-12)
}

func TestAllocateDoesNotMoveTooEarly(t *testing.T) {
	t.Parallel()
	arms := estimates([2]float64{0.30, 0.01}, [2]float64{0.34, 0.01}, [2]float64{0.2, 0.01})
	even := []float64{0.3334, 0.3333, 0.3333}
	for name, c := range map[string]struct {
		change func(*experiment.Estimate)
		state  experiment.State
	}{
		"few users":   {func(e *experiment.Estimate) { e.Users = 99 }, experiment.StateFewUsers},
		"nobody":      {func(e *experiment.Estimate) { *e = experiment.Estimate{State: experiment.StateEmptyArm} }, experiment.StateEmptyArm},
		"no spread":   {func(e *experiment.Estimate) { e.Variance = 0 }, experiment.StateZeroVariance},
		"NaN":         {func(e *experiment.Estimate) { e.Variance = math.NaN() }, experiment.StateZeroVariance},
		"unreadable":  {func(e *experiment.Estimate) { e.State = experiment.StateNotFinite }, experiment.StateNotFinite},
		"no estimate": {func(e *experiment.Estimate) { *e = experiment.Estimate{} }, experiment.StateInvalid},
	} {
		changed := append([]experiment.Estimate{}, arms...)
		c.change(&changed[1])
		got, err := experiment.Allocator{}.Allocate(changed)
		require.NoError(t, err)
		require.Equal(t, c.state, got.State, name)
		require.InDeltaSlice(t, even, got.Shares, 1e-12, name)
	}
	for _, floor := range []float64{-0.1, 0.34, math.NaN()} {
		_, err := experiment.Allocator{Floor: floor}.Allocate(arms)
		require.ErrorContains(t, err, "floor", floor)
	}
	_, err := experiment.Allocator{}.Allocate(arms[:1])
	require.ErrorContains(t, err, "at least 2")
}

func TestAllocationProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pairs := make([][2]float64, rapid.IntRange(2, 6).Draw(t, "arms"))
		for i := range pairs {
			pairs[i] = [2]float64{rapid.Float64Range(-1, 1).Draw(t, "value"), rapid.SampledFrom([]float64{1e-6, 0.01, 0.3, 50}).Draw(t, "se")}
		}
		a := experiment.Allocator{Floor: rapid.Float64Range(0.001, 1/float64(len(pairs))).Draw(t, "floor"), TopTwo: rapid.Bool().Draw(t, "top two")}
		got, err := a.Allocate(estimates(pairs...))
		require.NoError(t, err)
		sum, buckets := 0.0, 0.0
		for i, s := range got.Shares {
			require.GreaterOrEqual(t, s, a.Floor-1.0/experiment.Buckets, "%d", i)
			sum += s
			buckets += math.Round(s * experiment.Buckets)
		}
		require.InDelta(t, 1, sum, 1e-12)
		require.InDelta(t, experiment.Buckets, buckets, 0)
		again, err := a.Allocate(estimates(pairs...))
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func TestBanditAssignment(t *testing.T) {
	t.Parallel()
	b := experiment.Bandit{Key: "mail_subject", Arms: []string{"a", "b", "c"}, Evaluation: 0.3}
	require.NoError(t, b.Validate())
	early, late := []float64{0.3334, 0.3333, 0.3333}, []float64{0.05, 0.9, 0.05}
	counts, evaluated := map[string]int{}, map[string]int64{}
	const n = 30_000
	for i := range n {
		id := strconv.Itoa(i)
		d := b.Assign(id, late)
		counts[d.Variant]++
		if d.Evaluation {
			evaluated[d.Variant]++
			require.Equal(t, d, b.Assign(id, early), "who is evaluated never moves")
			require.InDelta(t, 1.0/3, d.Propensity, 1e-12)
		} else {
			require.InDelta(t, map[string]float64{"a": 0.05, "b": 0.9, "c": 0.05}[d.Variant], d.Propensity, 1e-12)
		}
	}
	require.InDelta(t, 0.3*n/3+0.7*n*0.9, counts["b"], 4*math.Sqrt(n*0.25))
	require.False(t, experiment.SampleRatioMismatch([]int64{evaluated["a"], evaluated["b"], evaluated["c"]}, []float64{1, 1, 1}).Mismatch, "%v", evaluated)

	for i := range 10 { // of the evaluated the shares do not matter
		if d := b.Assign(strconv.Itoa(i), []float64{0.5, 0.6, 0.1}); !d.Evaluation {
			require.Equal(t, experiment.Draw{}, d)
		}
	}
	require.ErrorContains(t, experiment.Bandit{Key: "k", Arms: []string{"a", "b"}, Evaluation: 2}.Validate(), "evaluation share is 2")
	require.Equal(t, experiment.Draw{}, experiment.Bandit{Key: "k", Arms: []string{"a"}}.Assign("u", []float64{1}))
}

// A bandit that moves every five hundred users, three hundred times over: the plain means of its arms are biased, those of the
// evaluation are not.
func TestEvaluationShareIsUnbiased(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(19, 20))
	rates := []float64{0.30, 0.30}
	var plain, evaluated, toBest float64
	const runs = 300
	for range runs {
		all, fair := [2]experiment.Arm{}, [2]experiment.Arm{}
		shares := []float64{0.5, 0.5}
		for range 8 {
			for range 250 {
				measured := random.Float64() < 0.2
				arm, share := 0, shares[1]
				if measured {
					share = 0.5
				}
				if random.Float64() < share {
					arm = 1
				}
				converted := int64(0)
				if random.Float64() < rates[arm] {
					converted = 1
				}
				all[arm] = experiment.Arm{Users: all[arm].Users + 1, Converted: all[arm].Converted + converted}
				if measured {
					fair[arm] = experiment.Arm{Users: fair[arm].Users + 1, Converted: fair[arm].Converted + converted}
				}
			}
			metric := proportionMetric
			got, err := experiment.Allocator{}.Allocate([]experiment.Estimate{
				metric.Of(experiment.FromCounts(all[0].Users, all[0].Converted)), metric.Of(experiment.FromCounts(all[1].Users, all[1].Converted)),
			})
			require.NoError(t, err)
			shares = got.Shares
		}
		mean := func(a experiment.Arm) float64 { return float64(a.Converted) / float64(a.Users) }
		plain += (mean(all[0])+mean(all[1]))/2 - 0.3
		evaluated += (mean(fair[0])+mean(fair[1]))/2 - 0.3
		toBest += shares[0]
	}
	t.Logf("mean error of an arm's rate: %+.4f of all users, %+.4f of the evaluated", plain/runs, evaluated/runs)
	require.Less(t, plain/runs, -0.002, "adaptive shares bias a mean downwards")
	require.InDelta(t, 0, evaluated/runs, 0.004)
	require.InDelta(t, 0.5, toBest/runs, 0.1)
}

func ExampleAllocator() {
	metric := experiment.Metric{Key: "opened", Kind: experiment.KindProportion}
	got, err := experiment.Allocator{Floor: 0.05}.Allocate([]experiment.Estimate{
		metric.Of(experiment.FromCounts(1000, 200)), metric.Of(experiment.FromCounts(1000, 235)), metric.Of(experiment.FromCounts(1000, 215)),
	})
	fmt.Println(got.Shares, err)
	// Output:
	// [0.0651 0.7684 0.1665] <nil>
}
