package experiment_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
)

// FuzzReadings feeds sums that no database would give to everything that reads moments: no panic, no NaN, no infinity, and an
// unreadable state beside every number that is missing.
func FuzzReadings(f *testing.F) {
	f.Add(int64(100), 30.0, 30.0, 5.0, 9.0, 12.0, int64(120), 50.0, 50.0, 8.0, 11.0, 17.0, uint8(0), 0.05, 5000.0)
	f.Add(int64(1), 0.0, 0.0, 0.0, 0.0, 0.0, int64(0), 0.0, 0.0, 0.0, 0.0, 0.0, uint8(1), 0.0, 0.0)
	f.Add(int64(1<<53), 1e100, 1e200, 1e-100, 1.0, 1e-200, int64(3), -1e99, 1e198, 1e99, -1e198, 1e198, uint8(2), 1e-12, 1e15)
	f.Add(int64(-1), math.NaN(), math.Inf(1), 0.0, 0.0, 0.0, int64(9), 9.0, 9.0, 9.0, 9.0, 9.0, uint8(3), math.NaN(), math.Inf(1))
	f.Fuzz(func(t *testing.T, n1 int64, s1, q1, x1, c1, v1 float64, n2 int64, s2, q2, x2, c2, v2 float64, kind uint8, alpha, nstar float64) {
		metric := []experiment.Metric{
			{Kind: experiment.KindProportion}, {Kind: experiment.KindMean}, {Kind: experiment.KindRatio}, {Kind: experiment.KindMean, Covariates: 1},
		}[kind%4]
		opts := experiment.Options{Alpha: alpha, NStar: nstar, Relative: []experiment.RelativeMethod{"", experiment.RelativeLog, experiment.RelativeFieller}[kind/4%3]}
		of := func(n int64, s, q, x, c, v float64) experiment.Moments {
			if kind%4 < 2 {
				return experiment.FromSums(n, []float64{s}, []float64{q})
			}
			return experiment.FromSums(n, []float64{s, x}, []float64{q, c, v})
		}
		control, treatment := of(n1, s1, q1, x1, c1, v1), of(n2, s2, q2, x2, c2, v2)
		r := experiment.Compare(metric, control, treatment, opts)
		segment := experiment.Segment{Key: "one", Control: control, Treatment: treatment}
		post := experiment.PostStratify(metric, []experiment.Segment{segment, segment}, opts)
		report := experiment.CompareSegments(metric, control, treatment, []experiment.Segment{segment}, experiment.CorrectionHolm, opts)
		for _, e := range []experiment.Effect{
			r.Absolute, r.Relative, post.Absolute, post.Relative, experiment.Regress(metric, control, treatment, opts), report.Segments[0].AgainstRest,
		} {
			for _, x := range []float64{e.Value, e.SE, e.Anytime.Low, e.Anytime.High, e.Anytime.PValue, e.Fixed.Low, e.Fixed.High, e.Fixed.PValue} {
				require.False(t, math.IsNaN(x) || math.IsInf(x, 0), "%+v", e)
			}
			one := experiment.Evidence{PValue: 1}
			require.True(t, e.State.Readable() || e == experiment.Effect{State: e.State, Anytime: one, Fixed: one}, "%+v", e)
			p := metric.Posterior(e, experiment.Prior{SD: 0.3}, opts)
			require.False(t, math.IsNaN(p.Better+p.LossIfSent+p.LossIfKept+p.Interval.Low+p.Interval.High), "%+v", p)
		}
		g := metric.Guard(r, opts)
		require.False(t, math.IsNaN(g.Worst+g.PValue) || math.IsInf(g.Worst, 0), "%+v", g)
		a, err := experiment.Allocator{}.Allocate([]experiment.Estimate{r.Control, r.Treatment})
		require.NoError(t, err)
		require.InDelta(t, 1, a.Shares[0]+a.Shares[1], 1e-12)
	})
}
