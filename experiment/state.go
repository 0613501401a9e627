package experiment

import "math"

// State says whether the numbers that stand beside it mean anything. Where they mean nothing they are zero, and a p-value is
// one: no caller can take a degenerate case for a result without passing over its name.
type State string

// The states. Only in StateOK, StateFewConversions and StateFewUsers is there something to read.
const (
	StateOK             State = "ok"
	StateFewConversions State = "few_conversions" // an arm has fewer than MinConversions: the normal approximation is weak
	StateFewUsers       State = "few_users"       // an arm has fewer than MinUsers: the normal approximation is weak
	StateEmptyArm       State = "empty_arm"       // nobody met one of the variants
	StateOneUser        State = "one_user"        // an arm has one user: a mean, but no spread
	StateZeroBaseline   State = "zero_baseline"   // control is at zero: there is nothing to be relative to
	StateZeroVariance   State = "zero_variance"   // all users of both arms did the same: no spread, so no interval
	StateZeroTotal      State = "zero_total"      // the denominators of a ratio sum to zero or less
	StateUnbounded      State = "unbounded"       // the interval has no end: control may be at zero
	StateNotFinite      State = "not_finite"      // a value was NaN or infinite
	StateOverflow       State = "overflow"        // a value beyond MaxValue, or more users than a float64 counts
	StateInvalid        State = "invalid"         // the input contradicts itself: more conversions than users, a negative count …
)

// MinConversions is how many conversions each arm needs before the normal approximation carries a claim, and MinUsers how
// many users where a mean is compared. Rules of thumb.
const (
	MinConversions = 30
	MinUsers       = 30
)

// Readable says whether there are numbers to read.
func (s State) Readable() bool {
	return s == StateOK || s == StateFewConversions || s == StateFewUsers
}

// worse returns the one of two states that explains more. It is commutative and associative, so that merged moments do not
// depend on the order of merging.
func (s State) worse(other State) State {
	if s.rank() >= other.rank() {
		return s
	}
	return other
}

// rank orders the states from the one that explains least.
func (s State) rank() int {
	for i, state := range [...]State{
		"", StateOK, StateFewUsers, StateFewConversions, StateUnbounded, StateZeroBaseline, StateZeroVariance, StateOneUser,
		StateZeroTotal, StateEmptyArm, StateOverflow, StateNotFinite, StateInvalid,
	} {
		if s == state {
			return i
		}
	}
	return math.MaxInt
}
