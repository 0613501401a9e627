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

// The thirteen trials of the BCG vaccine (Colditz et al. 1994), logarithms of relative risks, in the fixed-effect analysis of
// R's metafor 3.8-1: rma(yi, vi, data = dat.bcg, method = "FE").
func TestHeterogeneityOfTheBCGTrials(t *testing.T) {
	t.Parallel()
	contrasts := make([]experiment.Contrast, 0, 13)
	for _, trial := range [][4]int64{ // vaccinated: ill, well; not vaccinated: ill, well
		{4, 119, 11, 128},
		{6, 300, 29, 274},
		{3, 228, 11, 209},
		{62, 13536, 248, 12619},
		{33, 5036, 47, 5761},
		{180, 1361, 372, 1079},
		{8, 2537, 10, 619},
		{505, 87886, 499, 87892},
		{29, 7470, 45, 7232},
		{17, 1699, 65, 1600},
		{186, 50448, 141, 27197},
		{5, 2493, 3, 2338},
		{27, 16886, 29, 17825},
	} {
		treated, control := trial[0]+trial[1], trial[2]+trial[3]
		logRisk := func(ill, of int64) experiment.Estimate {
			p := float64(ill) / float64(of)
			return experiment.Estimate{State: experiment.StateOK, Value: math.Log(p), Variance: (1 - p) / p, Users: of}
		}
		contrasts = append(contrasts, experiment.NewContrast(logRisk(trial[2], control), logRisk(trial[0], treated)))
	}
	s := experiment.Heterogeneity(contrasts)
	require.Equal(t, experiment.StateOK, s.State)
	require.InDelta(t, 152.2330081, s.Q, 1e-6)
	require.InDelta(t, 12, s.DF, 0)
	require.InEpsilon(t, 1.996764591e-26, s.PValue, 1e-6)
	require.InDelta(t, 0.9211734685, s.ISquared, 1e-9)
	require.InDelta(t, -0.4302851637, s.Pooled.Difference, 1e-9)
	require.InDelta(t, 0.04049875171*0.04049875171, s.Pooled.VarDifference, 1e-11)

	require.Equal(t, experiment.StateEmptyArm, experiment.Heterogeneity(contrasts[:1]).State)
	require.Equal(t, experiment.StateEmptyArm, experiment.Heterogeneity(make([]experiment.Contrast, 3)).State)
}

// The kidney stones of Charig et al. 1986: open surgery is better for small stones and for large ones, and worse over all.
func TestSegmentsNameSimpsonsParadox(t *testing.T) {
	t.Parallel()
	small := experiment.Segment{Key: "small", Control: experiment.FromCounts(270, 234), Treatment: experiment.FromCounts(87, 81)}
	large := experiment.Segment{Key: "large", Control: experiment.FromCounts(80, 55), Treatment: experiment.FromCounts(263, 192)}
	control, treatment := experiment.Merge(small.Control, large.Control), experiment.Merge(small.Treatment, large.Treatment)
	report := experiment.CompareSegments(proportionMetric, control, treatment, []experiment.Segment{small, large}, experiment.CorrectionHolm, experiment.Options{})
	require.Less(t, report.Overall.Contrast.Difference, 0.0)
	require.Greater(t, report.Segments[0].Contrast.Difference, 0.0)
	require.Greater(t, report.Segments[1].Contrast.Difference, 0.0)
	require.True(t, report.Simpson)
	require.Equal(t, experiment.StateFewConversions, report.Spread.State)
	require.InDelta(t, (55.0/80)/(234.0/270), report.DisparityControl, 1e-12)
	require.True(t, report.Segments[0].AgainstRest.Anytime.LowOpen, "six of 87 did not: too few to set against the rest at every look")
	require.InDelta(t, 1, report.Segments[0].AdjustedRestP, 0)
}

func TestSegmentsAgainstTheRest(t *testing.T) {
	t.Parallel()
	arm := experiment.FromCounts
	phone := experiment.Segment{Key: "phone", Control: arm(20_000, 6000), Treatment: arm(20_000, 7000)}
	desktop := experiment.Segment{Key: "desktop", Control: arm(20_000, 6000), Treatment: arm(20_000, 5600)}
	control, treatment := experiment.Merge(phone.Control, desktop.Control), experiment.Merge(phone.Treatment, desktop.Treatment)
	report := experiment.CompareSegments(proportionMetric, control, treatment, []experiment.Segment{phone, desktop}, experiment.CorrectionHolm, experiment.Options{})
	for i, s := range report.Segments {
		require.Less(t, s.AdjustedP, 0.05)
		require.Less(t, s.AdjustedRestP, 0.05)
		require.True(t, s.OppositeToOthers)
		require.InDelta(t, []float64{0.07, -0.07}[i], s.AgainstRest.Value, 1e-12)
	}
	require.False(t, report.Simpson)
	require.Less(t, report.Spread.PValue, 1e-6)
	require.InDelta(t, 0.28/0.35, report.DisparityTreatment, 1e-12)
	require.InDelta(t, 1, report.DisparityControl, 1e-12)

	// Segments that overlap have no Q, and are still set against the rest.
	twice := experiment.CompareSegments(proportionMetric, control, treatment, []experiment.Segment{phone, phone, desktop}, experiment.CorrectionHolm, experiment.Options{})
	require.Equal(t, experiment.StateInvalid, twice.Spread.State)
	require.InDelta(t, 0.07, twice.Segments[1].AgainstRest.Value, 1e-12)

	// A segment that holds everybody has no rest, and one that holds more has none that is possible.
	all := experiment.CompareSegments(proportionMetric, control, treatment, []experiment.Segment{{Key: "all", Control: control, Treatment: treatment}}, experiment.CorrectionHolm, experiment.Options{})
	require.Equal(t, experiment.StateEmptyArm, all.Segments[0].AgainstRest.State)
	more := experiment.CompareSegments(proportionMetric, phone.Control, phone.Treatment, []experiment.Segment{{Key: "more", Control: control, Treatment: treatment}}, experiment.CorrectionHolm, experiment.Options{})
	require.Equal(t, experiment.StateInvalid, more.Segments[0].AgainstRest.State)
	require.Empty(t, experiment.CompareSegments(proportionMetric, control, treatment, nil, experiment.CorrectionHolm, experiment.Options{}).Segments)
}

func TestWithoutUndoesMerge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 3).Draw(t, "columns")
		a := experiment.FromRows(columns, slices.Values(drawRows(t, columns)))
		b := experiment.FromRows(columns, slices.Values(drawRows(t, columns)))
		require.Equal(t, figures(a), figures(experiment.Merge(a, b).Without(b)))
		nobody := a.Without(a)
		require.Equal(t, experiment.StateOK, nobody.State())
		require.Zero(t, nobody.Users())
		require.Equal(t, figures(b), figures(experiment.Merge(nobody, b)))
	})
	one := experiment.FromCounts(10, 3)
	require.Equal(t, figures(one), figures(one.Without(experiment.Moments{})))
	require.Equal(t, experiment.StateInvalid, one.Without(experiment.FromCounts(11, 3)).State())
	require.Equal(t, experiment.StateInvalid, one.Without(experiment.FromCounts(9, 5)).State())
	require.Equal(t, experiment.StateInvalid, one.Without(experiment.FromRows(2, slices.Values([][]float64{{1, 1}}))).State())
}

func ExampleCompareSegments() {
	phone := experiment.Segment{Key: "phone", Control: experiment.FromCounts(9000, 2700), Treatment: experiment.FromCounts(9100, 3200)}
	desktop := experiment.Segment{Key: "desktop", Control: experiment.FromCounts(4000, 1600), Treatment: experiment.FromCounts(4050, 1625)}
	metric := experiment.Metric{Key: "activated", Kind: experiment.KindProportion}
	report := experiment.CompareSegments(metric, experiment.Merge(phone.Control, desktop.Control), experiment.Merge(phone.Treatment, desktop.Treatment),
		[]experiment.Segment{phone, desktop}, experiment.CorrectionHolm, experiment.Options{})
	for _, s := range report.Segments {
		fmt.Printf("%-8s %+.1f pp (p %.4f), against the rest %+.1f pp (p %.4f)\n",
			s.Segment, 100*s.Absolute.Value, s.AdjustedP, 100*s.AgainstRest.Value, s.AdjustedRestP)
	}
	// Output:
	// phone    +5.2 pp (p 0.0000), against the rest +5.0 pp (p 0.0120)
	// desktop  +0.1 pp (p 1.0000), against the rest -5.0 pp (p 0.0120)
}
