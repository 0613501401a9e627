package experiment

import (
	"cmp"
	"slices"
)

// minStratum is how many users each arm of a stratum needs; smaller ones are pooled.
const minStratum = 10

// PostStratify compares two arms within strata that share out the users among them, and weighs each stratum by its share of
// all users: an arm that happened to get more of the lively ones gains nothing by it. Strata must be known before the exposure.
// Those too small in an arm are pooled. Covariates of the metric are used too.
func PostStratify(metric Metric, strata []Segment, opts Options) Reading {
	var control, treatment Moments
	for _, s := range strata {
		control, treatment = Merge(control, s.Control), Merge(treatment, s.Treatment)
	}
	return compareStrata(metric, pooled(strata), control, treatment, opts.withDefaults())
}

// pooled puts strata that are too small into one, and that one into the smallest of the others where it is too small itself.
func pooled(strata []Segment) []Segment {
	size := func(s Segment) int64 { return min(s.Control.Users(), s.Treatment.Users()) }
	kept, rest := make([]Segment, 0, len(strata)), Segment{}
	for _, s := range strata {
		if size(s) >= minStratum {
			kept = append(kept, s)
			continue
		}
		rest = rest.merge(s)
	}
	switch {
	case rest.Control.Users()+rest.Treatment.Users() == 0:
		return kept
	case size(rest) >= minStratum || len(kept) == 0:
		return append(kept, rest)
	}
	least := slices.MinFunc(kept, func(a, b Segment) int { return cmp.Compare(size(a), size(b)) })
	for i, s := range kept {
		if size(s) == size(least) {
			kept[i] = s.merge(rest)
			break
		}
	}
	return kept
}

func (s Segment) merge(other Segment) Segment {
	return Segment{Key: s.Key, Control: Merge(s.Control, other.Control), Treatment: Merge(s.Treatment, other.Treatment)}
}
