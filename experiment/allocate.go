package experiment

import (
	"cmp"
	"errors"
	"fmt"
	"math"
)

// Allocator moves users towards the arm that is probably best (Thompson 1933), and keeps the comparison measurable while it
// does. The zero value is valid.
type Allocator struct {
	LowerIsBetter bool

	// Floor is the share that every arm keeps, in [0, 1/arms]. Defaults to 0.01.
	Floor float64

	// MinUsers is how many users every arm needs before anything moves. Defaults to 100.
	MinUsers int64

	// TopTwo shares evenly between the chances of being best and of being second best (Russo 2016): slower to concentrate, and
	// surer of the best arm in the end.
	TopTwo bool
}

// Defaults of an Allocator.
const (
	DefaultFloor    = 0.01
	DefaultMinUsers = 100
)

// Buckets is in how many parts shares are given: those of the hash. So rounding makes the last digits of the arithmetic, which
// may differ between machines, disappear.
const Buckets = 10_000

// Allocation is the shares of the arms for the users to come.
type Allocation struct {
	State  State     // that of the worst arm; not readable or StateFewUsers: nothing moved
	Shares []float64 // multiples of 1/Buckets; they sum to 1
	Best   []float64 // chance that the arm is best. Even where nothing moved.
}

// Allocate returns the shares for the users to come. It draws nothing: the chances are integrals, so that the same estimates
// give the same shares wherever and whenever they are computed again. The estimates should come from users whose assignment
// did not depend on the estimates before (see Bandit): means of users who were drawn to the better arm are biased.
func (a Allocator) Allocate(arms []Estimate) (Allocation, error) {
	n := float64(len(arms))
	a.Floor, a.MinUsers = cmp.Or(a.Floor, DefaultFloor), cmp.Or(a.MinUsers, DefaultMinUsers)
	switch {
	case len(arms) < 2:
		return Allocation{}, fmt.Errorf("%d arms; there must be at least 2", len(arms))
	case !(a.Floor >= 0 && a.Floor <= 1/n): // written so that NaN is refused too
		return Allocation{}, fmt.Errorf("floor is %v; it must lie in [0, 1/%d]", a.Floor, len(arms))
	}
	result := Allocation{State: StateOK, Best: make([]float64, len(arms))}
	beliefs := make([]belief, len(arms))
	for i, arm := range arms {
		result.State = result.State.worse(a.state(arm))
		beliefs[i] = a.belief(arm)
		result.Best[i] = 1 / n
	}
	if !result.State.Readable() || result.State == StateFewUsers {
		result.Shares = inBuckets(result.Best)
		return result, nil
	}
	weights := make([]float64, len(arms))
	for i, s := range standings(beliefs) {
		result.Best[i], weights[i] = s.Best, s.Best
	}
	if a.TopTwo {
		for i, second := range secondBest(beliefs) {
			weights[i] = (weights[i] + second) / 2
		}
	}
	for i := range weights {
		weights[i] = a.Floor + (1-n*a.Floor)*weights[i]
	}
	result.Shares = inBuckets(weights)
	return result, nil
}

// state returns what keeps the shares from moving by this arm, or how good its estimate is.
func (a Allocator) state(arm Estimate) State {
	switch {
	case arm.State == "":
		return StateInvalid // the zero value
	case badValue(arm.Value, MaxValue) != "" || badValue(arm.Variance, MaxValue*MaxValue) == StateOverflow:
		return StateOverflow
	case arm.State.Readable() && arm.Users < a.MinUsers:
		return StateFewUsers
	case arm.State.Readable() && !(arm.Variance > 0): // written so that NaN has none
		return StateZeroVariance
	default:
		return arm.State
	}
}

func (a Allocator) belief(arm Estimate) belief {
	value := arm.Value
	if a.LowerIsBetter {
		value = -value
	}
	return normalBelief(value, math.Sqrt(arm.Variance/float64(max(arm.Users, 1))))
}

// secondBest returns the chance of each arm that just one other is above it.
func secondBest(beliefs []belief) []float64 {
	list := make([]float64, len(beliefs))
	for i, b := range beliefs {
		integrate(b.low, b.high, beliefs, func(x, w float64) {
			for j, above := range beliefs {
				if j == i {
					continue
				}
				chance := 1 - above.below(x)
				for k, other := range beliefs {
					if k != i && k != j {
						chance *= other.below(x)
					}
				}
				list[i] += w * b.density(x) * chance
			}
		})
	}
	return list
}

// inBuckets rounds shares to multiples of 1/Buckets that sum to 1: each down, and what is left to those that lost most, the
// first of equals first.
func inBuckets(shares []float64) []float64 {
	const same = 1e-9 // losses that differ by less are equal: they are rounding
	sum := 0.0
	for _, s := range shares {
		sum += s
	}
	counts, lost := make([]int, len(shares)), make([]float64, len(shares))
	left := Buckets
	for i, s := range shares {
		exact := s / sum * Buckets
		counts[i] = int(math.Floor(exact + same))
		lost[i] = exact - float64(counts[i])
		left -= counts[i]
	}
	for ; left > 0; left-- {
		most := 0
		for i := range lost {
			if lost[i] > lost[most]+same {
				most = i
			}
		}
		counts[most]++
		lost[most]--
	}
	rounded := make([]float64, len(shares))
	for i, c := range counts {
		rounded[i] = float64(c) / Buckets
	}
	return rounded
}

// Bandit assigns users by shares that move, except for a part of them, drawn by a hash of its own, who get every arm with the
// same chance for ever. Effects are estimated from these alone, so that what is said of the experiment does not depend on how
// the shares moved.
type Bandit struct {
	Key        string
	Arms       []string
	Evaluation float64 // share of the users who get every arm alike, in (0,1]. Defaults to 0.2.
}

// DefaultEvaluation is the default of Bandit.Evaluation.
const DefaultEvaluation = 0.2

// Draw is the answer for one user: log all of it. Propensity is the chance that this user had of getting this arm.
type Draw struct {
	Variant    string
	Propensity float64
	Evaluation bool // the user counts for the estimates
}

// Validate returns all that is wrong with b, joined.
func (b Bandit) Validate() error {
	var problems []error
	if e := b.evaluation(); !(e > 0 && e <= 1) { // written so that NaN is refused too
		problems = append(problems, fmt.Errorf("evaluation share is %v; it must lie in (0,1]", b.Evaluation))
	}
	return errors.Join(append(problems, b.experiment("", nil).Validate())...)
}

// Assign returns the arm of a user at the given shares, those of Allocate. It is the zero Draw where b is not valid or the
// shares do not fit.
func (b Bandit) Assign(unitID string, shares []float64) Draw {
	part, ok := Hash(b.Key+"/evaluation", unitID, HashV2)
	if !ok || b.Validate() != nil {
		return Draw{}
	}
	evaluation := part < b.evaluation()
	if evaluation {
		shares = nil
	}
	e := b.experiment("/arm", shares)
	if e.Validate() != nil {
		return Draw{}
	}
	a := e.Assign(unitID)
	if !a.In {
		return Draw{}
	}
	d := Draw{Variant: a.Variant, Evaluation: evaluation}
	for _, v := range e.Variants {
		if v.Key == a.Variant {
			d.Propensity = v.Weight
		}
	}
	return d
}

func (b Bandit) evaluation() float64 {
	if b.Evaluation == 0 {
		return DefaultEvaluation
	}
	return b.Evaluation
}

// experiment is the assignment at the given shares; without them every arm is alike.
func (b Bandit) experiment(seed string, shares []float64) Experiment {
	e := Experiment{Key: b.Key, Seed: b.Key + seed}
	for i, arm := range b.Arms {
		share := 1 / float64(len(b.Arms))
		switch {
		case shares != nil && len(shares) != len(b.Arms):
			share = math.NaN() // refused
		case shares != nil:
			share = shares[i]
		}
		e.Variants = append(e.Variants, Variant{Key: arm, Weight: share})
	}
	return e
}
