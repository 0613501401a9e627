package experiment_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

// The fifteen p-values of the example of Benjamini and Hochberg 1995 (section 3.2): their procedure claims four, Bonferroni's
// three. The adjusted values are those of R 4.2.2, p.adjust.
func TestCorrectionsOfThePublishedExample(t *testing.T) {
	t.Parallel()
	p := []float64{0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.000}
	for c, want := range map[experiment.Correction][]float64{
		experiment.CorrectionHolm: {0.0015, 0.0056, 0.0247, 0.1140, 0.2211, 0.2780, 0.2780, 0.2780, 0.3213, 1, 1, 1, 1, 1, 1},
		experiment.CorrectionBH: {
			0.001500000, 0.003000000, 0.009500000, 0.035625000, 0.060300000, 0.063857143, 0.063857143, 0.064500000,
			0.076500000, 0.486000000, 0.581181818, 0.714875000, 0.753230769, 0.813214286, 1.000000000,
		},
		experiment.CorrectionBY: {
			0.0049773435, 0.0099546870, 0.0315231754, 0.1182119079, 0.2000892083, 0.2118926229, 0.2118926229, 0.2140257701,
			0.2538445180, 1, 1, 1, 1, 1, 1,
		},
	} {
		require.InDeltaSlice(t, want, c.Adjust(p), 1e-9, c)
	}
	require.InDelta(t, 4*0.05/15, experiment.CorrectionBH.IntervalAlpha(p, 0.05), 1e-15, "four were claimed")
	require.InDelta(t, 0.05/15, experiment.CorrectionHolm.IntervalAlpha(p, 0.05), 1e-15)
	require.InDelta(t, 3*0.05/15/3.318228993, experiment.CorrectionBY.IntervalAlpha(p, 0.05), 1e-11, "three were claimed")
	require.InDelta(t, 0.05, experiment.CorrectionBH.IntervalAlpha(nil, 0.05), 0)
	require.Empty(t, experiment.CorrectionHolm.Adjust(nil))
}

// The expected values of tea-tasting's tests (tests/test_multiplicity.py).
func TestCorrectionsOfTeaTasting(t *testing.T) {
	t.Parallel()
	p := []float64{0.005, 0.06, 0.007, 0.04, 0.01, 0.03}
	require.InDeltaSlice(t, []float64{0.049, 0.147, 0.049, 0.1176, 0.049, 0.11025}, experiment.CorrectionBY.Adjust(p), 1e-12)
	require.InDeltaSlice(t, []float64{0.02, 0.06, 0.02, 0.048, 0.02, 0.045}, experiment.CorrectionBH.Adjust(p), 1e-12)
}

func TestCorrectionsKeepOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOfN(rapid.Float64Range(0, 1), 1, 30).Draw(t, "p")
		c := rapid.SampledFrom([]experiment.Correction{experiment.CorrectionHolm, experiment.CorrectionBH, experiment.CorrectionBY, "other"}).Draw(t, "c")
		adjusted := c.Adjust(p)
		for i := range p {
			require.True(t, adjusted[i] >= p[i] && adjusted[i] <= 1)
			for j := range p {
				if p[i] < p[j] {
					require.LessOrEqual(t, adjusted[i], adjusted[j])
				}
			}
		}
		reversed := slices.Clone(p)
		slices.Reverse(reversed)
		back := c.Adjust(reversed)
		slices.Reverse(back)
		require.Equal(t, adjusted, back)
	})
}

func TestPreferPrimary(t *testing.T) {
	t.Parallel()
	primary, other := experiment.PreferPrimary(0.05, 0.5, 2, 6)
	require.InDelta(t, 0.0125, primary, 1e-15)
	require.InDelta(t, 0.0025, other, 1e-15)
	require.InDelta(t, 0.05, 2*(primary+5*other), 1e-15, "all of alpha is spent")
	primary, other = experiment.PreferPrimary(0.05, 0.5, 0, 1)
	require.InDelta(t, 0.05, primary, 1e-15)
	require.Zero(t, other)
}

func TestSimultaneousIntervalsAreWider(t *testing.T) {
	t.Parallel()
	control := experiment.FromCounts(4000, 1200)
	questions := []experiment.Question{
		{Metric: proportionMetric, Control: control, Treatment: experiment.FromCounts(4000, 1400)},
		{Metric: proportionMetric, Control: control, Treatment: experiment.FromCounts(4000, 1220)},
		{Metric: proportionMetric, Control: control, Treatment: experiment.Moments{}},
	}
	answers := experiment.CompareFamily(questions, experiment.CorrectionHolm, experiment.Options{})
	require.Len(t, answers, 3)
	for i, a := range answers[:2] {
		alone := experiment.Compare(proportionMetric, questions[i].Control, questions[i].Treatment, experiment.Options{})
		require.Less(t, a.Absolute.Anytime.Low, alone.Absolute.Anytime.Low)
		require.Less(t, a.Relative.Fixed.Low, alone.Relative.Fixed.Low)
		require.GreaterOrEqual(t, a.AdjustedP, alone.Absolute.Anytime.PValue)
	}
	require.Less(t, answers[0].AdjustedP, 0.05)
	require.Equal(t, experiment.StateEmptyArm, answers[2].State)
	require.InDelta(t, 1, answers[2].AdjustedP, 0)
}

// One experiment without an effect, five segments, ten looks: how often is anything ever claimed of a segment?
func TestFalseClaimsOfSegments(t *testing.T) {
	t.Parallel()
	const runs, looks, parts = 500, 10, 5
	arrivals := distuv.Binomial{N: 150, P: 0.3, Src: rand.NewPCG(5, 6)}
	claimed, naive := 0, 0
	for range runs {
		segments := make([]experiment.Segment, parts)
		something, uncorrected := false, false
		for range looks {
			var control, treatment experiment.Moments
			for i := range segments {
				s := &segments[i]
				s.Control = experiment.Merge(s.Control, experiment.FromCounts(150, int64(arrivals.Rand())))
				s.Treatment = experiment.Merge(s.Treatment, experiment.FromCounts(150, int64(arrivals.Rand())))
				control, treatment = experiment.Merge(control, s.Control), experiment.Merge(treatment, s.Treatment)
			}
			report := experiment.CompareSegments(proportionMetric, control, treatment, segments, experiment.CorrectionHolm, experiment.Options{})
			for _, s := range report.Segments {
				something = something || s.AdjustedP < 0.05 || s.AdjustedRestP < 0.05
				uncorrected = uncorrected || s.Absolute.Fixed.PValue < 0.05
			}
		}
		if something {
			claimed++
		}
		if uncorrected {
			naive++
		}
	}
	t.Logf("%d A/A experiments, %d segments, %d looks: false claims %.1f %% with one budget, %.1f %% uncorrected",
		runs, parts, looks, 100*float64(claimed)/runs, 100*float64(naive)/runs)
	require.LessOrEqual(t, float64(claimed)/runs, 0.05)
	require.Greater(t, float64(naive)/runs, 0.4)
}

func ExampleCompareFamily() {
	control := experiment.FromCounts(4000, 1200)
	metric := experiment.Metric{Key: "activated", Kind: experiment.KindProportion}
	for _, a := range experiment.CompareFamily([]experiment.Question{
		{Metric: metric, Control: control, Treatment: experiment.FromCounts(4000, 1384)},
		{Metric: metric, Control: control, Treatment: experiment.FromCounts(4000, 1290)},
	}, experiment.CorrectionHolm, experiment.Options{}) {
		fmt.Printf("lift %+.1f %%, adjusted p %.3f\n", 100*a.Relative.Value, a.AdjustedP)
	}
	// Output:
	// lift +15.3 %, adjusted p 0.001
	// lift +7.5 %, adjusted p 0.414
}
