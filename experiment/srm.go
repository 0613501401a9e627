package experiment

import "gonum.org/v1/gonum/stat/distuv"

// SRMAlarm is the p-value below which a sample ratio is taken for broken: the usual bound, strict because a mismatch makes
// every other number of the experiment worthless and is therefore tested without end.
const SRMAlarm = 0.001

// SampleRatio is the answer to: did the users arrive in the configured ratio?
type SampleRatio struct {
	ChiSquared float64
	PValue     float64 // 1 where there is nothing to compare
	Mismatch   bool    // PValue below SRMAlarm
}

// SampleRatioMismatch compares the users seen in each arm with the configured weights by a chi-squared test. The weights
// need not sum to 1. An arm of weight 0 takes no part, unless it has users: then the mismatch is certain.
func SampleRatioMismatch(users []int64, weights []float64) SampleRatio {
	none := SampleRatio{PValue: 1}
	if len(users) != len(weights) {
		return none
	}
	var total, weight float64
	arms := 0
	for i, w := range weights {
		if !(w > 0) { // written so that NaN counts as no weight
			if users[i] > 0 {
				return SampleRatio{PValue: 0, Mismatch: true}
			}
			continue
		}
		arms, total, weight = arms+1, total+float64(users[i]), weight+w
	}
	if arms < 2 || total <= 0 {
		return none
	}
	var chi2 float64
	for i, w := range weights {
		if w > 0 {
			expected := total * w / weight
			chi2 += (float64(users[i]) - expected) * (float64(users[i]) - expected) / expected
		}
	}
	p := distuv.ChiSquared{K: float64(arms - 1)}.Survival(chi2)
	return SampleRatio{ChiSquared: chi2, PValue: p, Mismatch: p < SRMAlarm}
}
