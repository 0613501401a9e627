package experiment

import (
	"errors"
	"fmt"
	"strings"
)

// Factor is one question of a factorial flow and its answers: a step of onboarding and the ways to do it. The first level is
// what the others are compared with.
type Factor struct {
	Key    string
	Levels []Variant
}

// Factorial is an experiment in several factors at once: every user gets one level of each. Each factor is compared on all
// users, so that two questions cost no more users than one, and whether they depend on each other can be asked too. Seed,
// HashVersion and Coverage are those of an Experiment.
type Factorial struct {
	Key         string
	Seed        string
	HashVersion int
	Coverage    float64
	Factors     []Factor
}

// Cell is a combination of levels, one of each factor in their order. Its variant is what users are assigned to.
type Cell struct {
	Variant
	Levels []string
}

// Bounds of a factorial: more cells than that have no users.
const (
	maxFactors = 8
	maxCells   = 256
)

// Cells returns the combinations, the last factor's level changing first. The weight of a cell is the product of its levels';
// its key is their keys, joined by "__". A factorial that is not valid has none.
func (f Factorial) Cells() []Cell {
	if f.validateFactors() != nil {
		return nil
	}
	cells := []Cell{{Variant: Variant{Weight: 1}}}
	for _, factor := range f.Factors {
		next := make([]Cell, 0, len(cells)*len(factor.Levels))
		for _, c := range cells {
			for _, level := range factor.Levels {
				levels := append(append(make([]string, 0, len(f.Factors)), c.Levels...), level.Key)
				next = append(next, Cell{Variant: Variant{Key: strings.Join(levels, "__"), Weight: c.Weight * level.Weight}, Levels: levels})
			}
		}
		cells = next
	}
	return cells
}

// Experiment returns the experiment whose variants are the cells: for assignment, sample ratio and everything else that knows
// of no factors.
func (f Factorial) Experiment() Experiment {
	e := Experiment{Key: f.Key, Seed: f.Seed, HashVersion: f.HashVersion, Coverage: f.Coverage}
	for _, c := range f.Cells() {
		e.Variants = append(e.Variants, c.Variant)
	}
	return e
}

// Validate returns all that is wrong with f, joined.
func (f Factorial) Validate() error {
	if err := f.validateFactors(); err != nil {
		return err
	}
	return f.Experiment().Validate()
}

func (f Factorial) validateFactors() error {
	if len(f.Factors) == 0 || len(f.Factors) > maxFactors {
		return fmt.Errorf("%d factors; there must be 1 to %d", len(f.Factors), maxFactors)
	}
	var problems []error
	seen := make(map[string]bool, len(f.Factors))
	cells := 1
	for _, factor := range f.Factors {
		if seen[factor.Key] {
			problems = append(problems, fmt.Errorf("factor %q stands twice", factor.Key))
		}
		seen[factor.Key] = true
		if err := (Experiment{Key: factor.Key, Variants: factor.Levels}).Validate(); err != nil {
			problems = append(problems, fmt.Errorf("factor %q: %w", factor.Key, err))
		}
		if cells *= max(len(factor.Levels), 1); cells > maxCells {
			return errors.Join(append(problems, fmt.Errorf("more than %d cells", maxCells))...)
		}
	}
	return errors.Join(problems...)
}

// Crossed returns the factorial that two experiments make when they run side by side on the same users: its cells are the
// pairs of variants, and its Interactions say whether one experiment changes the other's result. Whether assignment to the
// two was independent, SampleRatioBy says first.
func Crossed(a, b Experiment) Factorial {
	return Factorial{Key: a.Key + "__" + b.Key, Factors: []Factor{{Key: a.Key, Levels: a.Variants}, {Key: b.Key, Levels: b.Variants}}}
}
