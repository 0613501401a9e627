package experiment

import (
	"cmp"
	"slices"
)

// Correction is how the p-values and intervals of one family of questions share one error budget. A family is all that one
// decision looks at: metrics × treatments × segments.
type Correction string

// The corrections. With always-valid p-values, Holm and Benjamini-Yekutieli keep their promise whenever one stops;
// Benjamini-Hochberg does for independent questions.
const (
	CorrectionHolm Correction = "holm"                // no wrong claim at all, with chance 1−alpha (Holm 1979)
	CorrectionBH   Correction = "benjamini_hochberg"  // a share alpha of the claims is wrong, on average (Benjamini, Hochberg 1995)
	CorrectionBY   Correction = "benjamini_yekutieli" // the same under any dependence (Benjamini, Yekutieli 2001)
)

// Adjust returns the p-values as they are to be compared with alpha, in the order given. A correction that does not exist is
// taken for Holm's.
func (c Correction) Adjust(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	adjusted := make([]float64, len(p))
	m := float64(len(p))
	if c != CorrectionBH && c != CorrectionBY {
		most := 0.0
		for rank, i := range order {
			most = max(most, min(1, p[i]*(m-float64(rank))))
			adjusted[i] = most
		}
		return adjusted
	}
	least, penalty := 1.0, c.penalty(len(p))
	for rank, i := range slices.Backward(order) {
		least = min(least, p[i]*(penalty*(m/float64(rank+1))))
		adjusted[i] = least
	}
	return adjusted
}

// IntervalAlpha returns the alpha at which each interval of the family is to be made, so that together they keep alpha: for
// Holm all intervals hold at once (Bonferroni); for the others the intervals of what was claimed miss the truth in a share
// alpha of cases (false coverage rate, Benjamini and Yekutieli 2005).
func (c Correction) IntervalAlpha(p []float64, alpha float64) float64 {
	m := float64(max(len(p), 1))
	if c != CorrectionBH && c != CorrectionBY {
		return alpha / m
	}
	claims := 0
	for _, q := range c.Adjust(p) {
		if q <= alpha {
			claims++
		}
	}
	return alpha * float64(max(claims, 1)) / m / c.penalty(len(p))
}

// penalty is what Benjamini and Yekutieli pay for dependence: 1 + 1/2 + … + 1/m.
func (c Correction) penalty(m int) float64 {
	if c != CorrectionBY {
		return 1
	}
	sum := 0.0
	for i := range m {
		sum += 1 / float64(i+1)
	}
	return max(sum, 1)
}

// Question is one comparison of a family.
type Question struct {
	Metric             Metric
	Control, Treatment Moments
}

// Answer is a reading with its share of the error budget: the intervals of Reading are simultaneous ones.
type Answer struct {
	Reading
	AdjustedP float64 // of the absolute effect, always-valid; compare it with the alpha of the family
}

// CompareFamily answers all questions of a family with one error budget of opts.Alpha.
func CompareFamily(questions []Question, correction Correction, opts Options) []Answer {
	opts = opts.withDefaults()
	p := make([]float64, len(questions))
	for i, q := range questions {
		p[i] = Compare(q.Metric, q.Control, q.Treatment, opts).Absolute.Anytime.PValue
	}
	each := opts.share(correction.IntervalAlpha(p, opts.Alpha))
	answers := make([]Answer, len(questions))
	for i, adjusted := range correction.Adjust(p) {
		q := questions[i]
		answers[i] = Answer{Reading: Compare(q.Metric, q.Control, q.Treatment, each), AdjustedP: adjusted}
	}
	return answers
}

// share returns the options of an interval that gets so much of the budget. The mixture stays that of the whole budget: it
// was fixed before the data, and the share was not.
func (o Options) share(alpha float64) Options {
	o = o.withDefaults()
	o.mixture = o.Alpha
	o.Alpha = alpha
	return o.withDefaults()
}

// PreferPrimary splits alpha over the metrics of several treatments so that the primary metric keeps most of its power:
// gamma of it goes to the primary, the rest to the others, each evenly over the treatments (the rule of Eppo). Metrics
// counts the primary. The second is zero where there is no other metric, and the primary then gets all.
func PreferPrimary(alpha, gamma float64, treatments, metrics int) (primary, other float64) {
	k := float64(max(treatments, 1))
	if metrics < 2 {
		return alpha / k, 0
	}
	return alpha * gamma / k, alpha * (1 - gamma) / (k * float64(metrics-1))
}
