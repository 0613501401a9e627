package experiment

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// SRMAlarm is the p-value below which a sample ratio is taken for broken: the usual bound, strict because a mismatch makes
// every other number of the experiment worthless and is therefore tested without end.
const SRMAlarm = 0.001

// SRMConcentration is how firmly the sequential test believes beforehand that a broken ratio is near the configured one: as
// firmly as so many users would make it. Large, because ratios break by a percent or two.
const SRMConcentration = 10_000

// minExpected is how many users a chi-squared test wants to expect in every cell (Cochran 1954).
const minExpected = 5

// SampleRatio is the answer to: did the users arrive in the configured ratio?
type SampleRatio struct {
	ChiSquared float64
	PValue     float64 // 1 where there is nothing to compare
	Mismatch   bool    // PValue below SRMAlarm
}

// SampleRatioMismatch compares the users seen in each arm with the configured weights by a chi-squared test: for one look,
// planned beforehand. The weights need not sum to 1. An arm of weight 0 takes no part, unless it has users: then the
// mismatch is certain.
func SampleRatioMismatch(users []int64, weights []float64) SampleRatio {
	seen, shares, none := arrivals(users, weights)
	switch none {
	case ratioImpossible:
		return SampleRatio{PValue: 0, Mismatch: true}
	case ratioEmpty:
		return SampleRatio{PValue: 1}
	case ratioTestable:
	}
	total := 0.0
	for _, n := range seen {
		total += n
	}
	var chi2 float64
	for i, n := range seen {
		chi2 += square(n-total*shares[i]) / (total * shares[i])
	}
	return chiSquaredRatio(chi2, float64(len(seen)-1))
}

func chiSquaredRatio(chi2, df float64) SampleRatio {
	p := distuv.ChiSquared{K: df}.Survival(chi2)
	return SampleRatio{ChiSquared: chi2, PValue: p, Mismatch: p < SRMAlarm}
}

// SequentialRatio is the same answer, good at every look.
type SequentialRatio struct {
	LogEvidence float64 // ln of how much likelier the users are under a broken ratio than under the configured one
	PValue      float64 // always-valid; over several looks the smallest counts. 1 where there is nothing to compare
	Mismatch    bool    // PValue below SRMAlarm
}

// SampleRatioSequential tests the ratio by a Dirichlet-multinomial Bayes factor (Lindon and Malek, arXiv 2011.03567), with
// the prior centered at the configured weights. Under these, the chance that it ever alarms is SRMAlarm at most, though it be
// looked at after every user. It is exact for any counts, however small. An arm of weight 0 is treated as by
// SampleRatioMismatch.
func SampleRatioSequential(users []int64, weights []float64) SequentialRatio {
	seen, shares, none := arrivals(users, weights)
	switch none {
	case ratioImpossible:
		return SequentialRatio{PValue: 0, Mismatch: true, LogEvidence: math.MaxFloat64}
	case ratioEmpty:
		return SequentialRatio{PValue: 1}
	case ratioTestable:
	}
	evidence := dirichletEvidence(seen, shares, SRMConcentration)
	p := min(1, math.Exp(-evidence))
	return SequentialRatio{LogEvidence: evidence, PValue: p, Mismatch: p < SRMAlarm}
}

// ratioTest says what can be tested about a ratio.
type ratioTest int

const (
	ratioTestable   ratioTest = iota
	ratioEmpty                // nothing to compare
	ratioImpossible           // an arm of weight 0 has users
)

// noShare is the share of all weight below which an arm has none: nobody configures one user in a thousand million.
const noShare = 1e-9

// arrivals returns the users of the arms that have weight, and their shares of it.
func arrivals(users []int64, weights []float64) (seen, shares []float64, test ratioTest) {
	if len(users) != len(weights) {
		return nil, nil, ratioEmpty
	}
	var all, total, weight float64
	for i, w := range weights {
		if users[i] < 0 || math.IsInf(w, 0) {
			return nil, nil, ratioEmpty
		}
		if w > 0 {
			all += w
		}
	}
	for i, w := range weights {
		if !(w > noShare*all) { // written so that NaN counts as no weight
			if users[i] > 0 {
				return nil, nil, ratioImpossible
			}
			continue
		}
		seen, shares = append(seen, float64(users[i])), append(shares, w)
		total, weight = total+float64(users[i]), weight+w
	}
	if len(seen) < 2 || total <= 0 {
		return nil, nil, ratioEmpty
	}
	for i := range shares {
		shares[i] /= weight
	}
	return seen, shares, ratioTestable
}

// Slice is the users of one value of a dimension, per arm: those with Android, those who came from an advertisement.
type Slice struct {
	Value string
	Users []int64
}

// SliceRatio is the sample ratio within one value of a dimension.
type SliceRatio struct {
	Value      string
	Fixed      SampleRatio // nothing to compare where too few users are expected in an arm
	Sequential SequentialRatio
	Mismatch   bool // the sequential p-value is below SRMAlarm / number of values
}

// DimensionRatio is the sample ratio within the values of a dimension, and between them.
type DimensionRatio struct {
	Slices []SliceRatio

	// Independence is the chi-squared test of whether arm and value have to do with each other: totals can balance while two
	// browsers do not. Values and arms without users take no part, nor does a table with too few users expected in a cell.
	Independence SampleRatio
	Mismatch     bool // of any slice, by one error budget, or of Independence
}

// SampleRatioBy tests the ratio within each value of a dimension, with one error budget for them all (Bonferroni), and
// whether the values got different ratios. The Mismatch of a slice may be looked at all the time, that of Independence at
// one planned look.
func SampleRatioBy(slices []Slice, weights []float64) DimensionRatio {
	d := DimensionRatio{Slices: make([]SliceRatio, 0, len(slices)), Independence: independence(slices)}
	d.Mismatch = d.Independence.Mismatch
	for _, s := range slices {
		r := SliceRatio{Value: s.Value, Fixed: SampleRatio{PValue: 1}, Sequential: SampleRatioSequential(s.Users, weights)}
		if expectsEnough(s.Users, weights) {
			r.Fixed = SampleRatioMismatch(s.Users, weights)
		}
		r.Mismatch = r.Sequential.PValue < SRMAlarm/float64(len(slices))
		d.Mismatch = d.Mismatch || r.Mismatch
		d.Slices = append(d.Slices, r)
	}
	return d
}

// expectsEnough says whether the chi-squared distribution describes these counts.
func expectsEnough(users []int64, weights []float64) bool {
	seen, shares, test := arrivals(users, weights)
	if test != ratioTestable {
		return true // nothing to describe
	}
	total, least := 0.0, math.Inf(1)
	for i, n := range seen {
		total, least = total+n, min(least, shares[i])
	}
	return total*least >= minExpected
}

// independence is Pearson's test of the table values × arms.
func independence(slices []Slice) SampleRatio {
	none := SampleRatio{PValue: 1}
	if len(slices) == 0 {
		return none
	}
	arms := make([]float64, len(slices[0].Users))
	values := make([]float64, len(slices))
	var total float64
	for i, s := range slices {
		if len(s.Users) != len(arms) {
			return none
		}
		for j, n := range s.Users {
			if n < 0 {
				return none
			}
			arms[j], values[i], total = arms[j]+float64(n), values[i]+float64(n), total+float64(n)
		}
	}
	var chi2 float64
	for i, s := range slices {
		for j, n := range s.Users {
			expected := values[i] * arms[j] / max(total, 1)
			if expected == 0 {
				continue
			}
			if expected < minExpected {
				return none
			}
			chi2 += square(float64(n)-expected) / expected
		}
	}
	df := float64((positive(values) - 1) * (positive(arms) - 1))
	if df <= 0 {
		return none
	}
	return chiSquaredRatio(chi2, df)
}

func positive(list []float64) int {
	n := 0
	for _, x := range list {
		if x > 0 {
			n++
		}
	}
	return n
}
