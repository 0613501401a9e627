package experiment

import (
	"iter"
	"slices"
)

// CapAt returns the value at a percentile, such as 0.999, of the values of all arms together: a cap of each arm's own would
// hide a difference in the tails. Where most users have zero, ignoreZeros takes the percentile of the others. Keep the cap with
// the analysis: it is part of the metric.
func CapAt(percentile float64, ignoreZeros bool, arms ...iter.Seq[float64]) (float64, State) {
	if !(percentile > 0 && percentile <= 1) { // written so that NaN is refused too
		return 0, StateInvalid
	}
	var values []float64
	for _, arm := range arms {
		for v := range arm {
			if bad := badValue(v, MaxValue); bad != "" {
				return 0, bad
			}
			if v != 0 || !ignoreZeros {
				values = append(values, v)
			}
		}
	}
	if len(values) == 0 {
		return 0, StateEmptyArm
	}
	slices.Sort(values)
	return interpolated(values, percentile), StateOK
}

// Capped yields the values, those above the cap as the cap: winsorized.
func Capped(values iter.Seq[float64], limit float64) iter.Seq[float64] {
	return func(yield func(float64) bool) {
		for v := range values {
			if v > limit {
				v = limit
			}
			if !yield(v) {
				return
			}
		}
	}
}
