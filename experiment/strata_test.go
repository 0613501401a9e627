package experiment_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
)

// gbStrata are the five strata of GrowthBook's test of post-stratification (packages/stats/tests/frequentist/test_post_strat.py):
// users, sum and sum of squares of the outcome, of the denominator, sum of products.
var gbStrata = [][2][6]float64{
	{{21, 330.0696210595999, 5377.811252605509, 890.9766550739607, 38220.95223835553, 14263.937571840695}, {42, 708.1220000911836, 12249.255519049513, 1745.9858250014954, 73194.53424221886, 29826.620793423102}},
	{{65, 1391.96628040659, 30546.63404187155, 2769.8126179473184, 118719.96077578884, 59924.702385890436}, {75, 1807.4703052657744, 45000.287664918586, 3184.8395612061063, 136710.92474497214, 78119.14871556411}},
	{{102, 2916.824124651419, 86396.06886690554, 4445.780384331884, 195387.7733842407, 129041.55268673625}, {101, 3104.5399914554023, 98365.40553530994, 4235.277718489282, 179690.4720421368, 132444.36911739354}},
	{{151, 5172.587929941052, 182453.04528037464, 6510.170220892494, 283094.7243365024, 226127.20135744457}, {121, 4613.696610070716, 180520.64781229294, 5079.943060454901, 215529.32009367683, 196562.8269130501}},
	{{160, 6539.348445231273, 274981.98909352464, 6906.305872710853, 300900.3106781779, 286483.9732935189}, {162, 7431.953259880505, 349244.6690736718, 6899.004661928157, 296839.44355002965, 321057.8410309036}},
}

// The expected values of that test: point estimates and standard errors, relative and absolute.
func TestPostStratificationOfGrowthBook(t *testing.T) {
	t.Parallel()
	var means, ratios []experiment.Segment
	for i, s := range gbStrata {
		of := func(a [6]float64) experiment.Moments { return mean(int64(a[0]), a[1], a[2]) }
		over := func(a [6]float64) experiment.Moments {
			return experiment.FromSums(int64(a[0]), []float64{a[1], a[3]}, []float64{a[2], a[5], a[4]})
		}
		key := fmt.Sprintf("stratum %d", i)
		means = append(means, experiment.Segment{Key: key, Control: of(s[0]), Treatment: of(s[1])})
		ratios = append(ratios, experiment.Segment{Key: key, Control: over(s[0]), Treatment: over(s[1])})
	}
	r := experiment.PostStratify(meanMetric, means, experiment.Options{})
	require.Equal(t, experiment.StateOK, r.State)
	require.InDelta(t, 3.548094377986586, r.Absolute.Value, 1e-11)
	require.InDelta(t, 0.37634374823059685, r.Absolute.SE, 1e-11)
	require.InDelta(t, 0.10994584851937336, r.Relative.Value, 1e-12)
	require.InDelta(t, 0.012225394656480164, r.Relative.SE, 1e-12)
	require.Greater(t, r.Reduction, 0.5)

	r = experiment.PostStratify(ratioMetric, ratios, experiment.Options{})
	require.InDelta(t, 0.10008903417216031, r.Absolute.Value, 1e-12)
	require.InDelta(t, 0.005071004003792392, r.Absolute.SE, 1e-12)
	require.InDelta(t, 0.13371299783026003, r.Relative.Value, 1e-12)
	require.InDelta(t, 0.007131233706378072, r.Relative.SE, 1e-12)
}

func TestPostStratifyPoolsWhatIsTooSmall(t *testing.T) {
	t.Parallel()
	arm := experiment.FromCounts
	big := experiment.Segment{Key: "big", Control: arm(500, 200), Treatment: arm(520, 220)}
	huge := experiment.Segment{Key: "huge", Control: arm(5000, 1000), Treatment: arm(5200, 1100)}
	small := experiment.Segment{Key: "small", Control: arm(3, 1), Treatment: arm(0, 0)}
	read := func(s ...experiment.Segment) experiment.Reading {
		return experiment.PostStratify(proportionMetric, s, experiment.Options{})
	}
	merged := experiment.Segment{Control: experiment.Merge(big.Control, small.Control), Treatment: big.Treatment}
	require.Equal(t, read(merged, huge), read(big, small, huge), "the small one goes to the smallest of the others")
	require.NotEqual(t, read(big, huge), read(big, small, huge))
	require.Equal(t, experiment.StateEmptyArm, read(small).State)
	require.Equal(t, experiment.StateEmptyArm, read().State)
	one := read(huge)
	require.InDelta(t, 1100.0/5200-1000.0/5000, one.Absolute.Value, 1e-15)
	require.Zero(t, one.Reduction)
}

// An arm that got more of the lively users by chance: the plain difference is all chance, the stratified one is none.
func ExamplePostStratify() {
	young := experiment.Segment{Key: "young", Control: experiment.FromCounts(1000, 600), Treatment: experiment.FromCounts(1100, 660)}
	old := experiment.Segment{Key: "old", Control: experiment.FromCounts(1000, 200), Treatment: experiment.FromCounts(900, 180)}
	metric := experiment.Metric{Key: "activated", Kind: experiment.KindProportion}
	plain := experiment.Compare(metric, experiment.Merge(young.Control, old.Control), experiment.Merge(young.Treatment, old.Treatment), experiment.Options{})
	r := experiment.PostStratify(metric, []experiment.Segment{young, old}, experiment.Options{})
	fmt.Printf("plain %+.1f pp, stratified %+.1f pp, %.0f %% of the variance gone\n",
		100*plain.Absolute.Value, 100*r.Absolute.Value, 100*r.Reduction)
	// Output:
	// plain +2.0 pp, stratified +0.0 pp, 16 % of the variance gone
}
