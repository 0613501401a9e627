package experiment_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/onramphq/onramp/experiment"
)

// alarms counts the A/A experiments in which a rule saw an effect at one of the looks at least.
type alarms struct{ anytime, fixed, runs int }

func (a *alarms) add(looks func(yield func(experiment.Effect) bool)) {
	anytime, fixed := false, false
	for e := range looks {
		anytime = anytime || e.Anytime.PValue < 0.05
		fixed = fixed || e.Fixed.PValue < 0.05
	}
	a.runs++
	if anytime {
		a.anytime++
	}
	if fixed {
		a.fixed++
	}
}

// check prints the shares of false alarms and holds the anytime-valid rule to its promise.
func (a *alarms) check(t *testing.T, what string) {
	t.Helper()
	anytime, fixed := 100*float64(a.anytime)/float64(a.runs), 100*float64(a.fixed)/float64(a.runs)
	t.Logf("%s: %d A/A experiments, 20 looks each: false alarms %.2f %% anytime-valid, %.2f %% uncorrected", what, a.runs, anytime, fixed)
	require.LessOrEqual(t, anytime, 5.0)
	require.Greater(t, fixed, 15.0, "the uncorrected rule must fail here: this test would not notice otherwise")
}

const (
	aaRuns  = 2000
	aaLooks = 20
)

// Two thousand experiments without an effect, looked at twenty times. At 30 % the normal approximation carries all; at 2 %
// the first looks have few conversions, so the exact rule hands over to the asymptotic one on the way.
func TestFalseAlarmsOfProportions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		rate    float64
		perLook float64
	}{{"30 %", 0.30, 250}, {"2 %, few conversions at first", 0.02, 150}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			arrivals := distuv.Binomial{N: c.perLook, P: c.rate, Src: rand.NewPCG(20, 26)}
			var a alarms
			few := 0
			for range aaRuns {
				var control, treatment experiment.Moments
				a.add(func(yield func(experiment.Effect) bool) {
					for range aaLooks {
						control = experiment.Merge(control, experiment.FromCounts(int64(c.perLook), int64(arrivals.Rand())))
						treatment = experiment.Merge(treatment, experiment.FromCounts(int64(c.perLook), int64(arrivals.Rand())))
						r := experiment.Compare(proportionMetric, control, treatment, experiment.Options{})
						if r.State == experiment.StateFewConversions {
							few++
						}
						if !yield(r.Absolute) {
							return
						}
					}
				})
			}
			t.Logf("%.0f %% of the looks had few conversions", 100*float64(few)/aaRuns/aaLooks)
			a.check(t, c.name)
		})
	}
}

// Means of a very skewed value, and the same with a handful of users at first.
func TestFalseAlarmsOfMeans(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(27, 28))
	skewed := func(n int) experiment.Moments {
		return experiment.FromValues(func(yield func(float64) bool) {
			for range n {
				if !yield(math.Exp(1.2 * random.NormFloat64())) {
					return
				}
			}
		})
	}
	for name, c := range map[string]struct {
		perLook int
		nstar   float64
	}{"50 a look": {50, 1000}, "5 a look": {5, 100}} {
		var a alarms
		for range aaRuns / 4 {
			var control, treatment experiment.Moments
			effects := make([]experiment.Effect, 0, aaLooks)
			for range aaLooks {
				control, treatment = experiment.Merge(control, skewed(c.perLook)), experiment.Merge(treatment, skewed(c.perLook))
				effects = append(effects, experiment.Compare(meanMetric, control, treatment, experiment.Options{NStar: c.nstar}).Absolute)
			}
			a.add(slices.Values(effects))
		}
		a.check(t, "skewed means, "+name)
	}
}
