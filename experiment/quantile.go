package experiment

import (
	"iter"
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// Sample is the values of one arm's users in order, or a sketch of them: what quantiles need, since moments cannot give them.
type Sample struct {
	users     int64
	at        func(share float64) float64 // the value below which a share of the users lies
	rankError float64
	state     State
}

// SampleOf returns the sample of one value per user.
func SampleOf(values iter.Seq[float64]) Sample {
	sorted := slices.Sorted(values)
	state := StateOK
	for _, v := range sorted {
		state = state.worse(badValue(v, MaxValue))
	}
	if !state.Readable() {
		return Sample{state: state}
	}
	return Sample{users: int64(len(sorted)), state: state, at: func(share float64) float64 { return interpolated(sorted, share) }}
}

// SampleOfSketch returns the sample that a sketch keeps, such as a t-digest: quantile gives the value at a share, and
// rankError how far the share of that value can be off. Intervals grow by it. A sketch depends on the order of merging: what
// must be computed again to the last digit needs SampleOf.
func SampleOfSketch(users int64, rankError float64, quantile func(share float64) float64) Sample {
	if users < 0 || users > MaxUsers || quantile == nil || !(rankError >= 0 && rankError < 1) { // written so that NaN is refused too
		return Sample{state: StateInvalid}
	}
	return Sample{users: users, at: quantile, rankError: rankError, state: StateOK}
}

// interpolated is the quantile of R's type 7 and ClickHouse's quantileExactInclusive.
func interpolated(sorted []float64, share float64) float64 {
	position := share * float64(len(sorted)-1)
	i := int(math.Floor(position))
	if i >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (position-float64(i))*(sorted[i+1]-sorted[i])
}

// QuantileReading is a quantile of one arm with the intervals of the quantile itself. They come from order statistics, so
// they hold for any distribution; an end is open where the sample is too small to have one.
type QuantileReading struct {
	State          State
	Value          float64
	Users          int64
	Anytime, Fixed Interval
}

// QuantileOf returns the q-quantile of a sample, q in (0,1). Its users' values must be independent: a value per user, not per
// event. The anytime-valid interval counts how many values lie below the true quantile, which is binomial at every look
// (Howard and Ramdas 2022, with the mixture of SampleRatioSequential).
func QuantileOf(s Sample, q float64, opts Options) QuantileReading {
	opts = opts.withDefaults()
	switch {
	case s.state == "", !(q > 0 && q < 1): // written so that NaN is refused too
		return QuantileReading{State: StateInvalid}
	case s.state != StateOK:
		return QuantileReading{State: s.state}
	case s.users == 0:
		return QuantileReading{State: StateEmptyArm}
	}
	r := QuantileReading{State: StateOK, Users: s.users, Value: s.at(q)}
	r.Fixed = s.between(binomialRanks(s.users, q, opts.Alpha))
	r.Anytime = s.anytime(q, opts)
	for _, i := range []*Interval{&r.Fixed, &r.Anytime} { // of a handful of values, the interpolated one may lie between the ranks
		i.Low, i.High = min(i.Low, r.Value), max(i.High, r.Value)
		if i.LowOpen {
			i.Low = 0
		}
		if i.HighOpen {
			i.High = 0
		}
	}
	for _, f := range []float64{r.Value, r.Fixed.Low, r.Fixed.High, r.Anytime.Low, r.Anytime.High} {
		if bad := badValue(f, MaxValue); bad != "" {
			return QuantileReading{State: bad}
		}
	}
	if s.users < MinUsers {
		r.State = StateFewUsers
	}
	return r
}

// between returns the interval from the low-th value to the high-th, counted from 1; one outside the sample is open.
func (s Sample) between(low, high int64) Interval {
	var i Interval
	n := float64(s.users)
	from, to := (float64(low)-1)/max(n-1, 1)-s.rankError, (float64(high)-1)/max(n-1, 1)+s.rankError
	if i.LowOpen = low < 1 || from < 0; !i.LowOpen {
		i.Low = s.at(from)
	}
	if i.HighOpen = high > s.users || to > 1; !i.HighOpen {
		i.High = s.at(to)
	}
	return i
}

// binomialRanks returns the ranks between which the q-quantile lies with chance 1−alpha at least, by the binomial
// distribution of how many values are below it.
func binomialRanks(n int64, q, alpha float64) (low, high int64) {
	// atMost is the chance that k values or fewer lie below.
	atMost := func(k int64) float64 {
		if k >= n {
			return 1
		}
		return mathext.RegIncBeta(float64(n-k), float64(k)+1, 1-q)
	}
	low = lastTrue(0, n, func(l int64) bool { return l == 0 || atMost(l-1) <= alpha/2 })
	high = n + 1 - lastTrue(0, n, func(back int64) bool { return back == 0 || 1-atMost(n-back) <= alpha/2 })
	return low, high
}

// mixtureRanks is the same for every look: the counts below the quantile against which the evidence has not reached 1/alpha.
func mixtureRanks(n int64, q float64, opts Options) (low, high int64) {
	shares := []float64{q, 1 - q}
	excluded := func(below int64) bool {
		seen := []float64{float64(below), float64(n - below)}
		return dirichletEvidence(seen, shares, 1/opts.rho2(2)) >= -math.Log(opts.Alpha)
	}
	middle := int64(math.Round(q * float64(n)))
	if excluded(middle) {
		return middle, middle + 1 // cannot be: the evidence is least there
	}
	// Below low values lie at most low − 1; the count low is the smallest that is not excluded.
	low = middle - lastTrue(0, middle, func(back int64) bool { return !excluded(middle - back) })
	high = middle + lastTrue(0, n-middle, func(on int64) bool { return !excluded(middle + on) })
	return low, high + 1
}

// lastTrue returns the last of from…to for which holds is true: true at from, and never again once it was false.
func lastTrue(from, to int64, holds func(int64) bool) int64 {
	for from < to {
		middle := from + (to-from+1)/2
		if holds(middle) {
			from = middle
		} else {
			to = middle - 1
		}
	}
	return from
}

// CompareQuantiles returns the difference of a quantile of two arms, absolute. The anytime-valid interval sets the ends of the
// arms' own against each other, each at half of alpha; the fixed one takes a standard error from each arm's ends, and is
// empty where one is open.
func CompareQuantiles(control, treatment Sample, q float64, opts Options) Effect {
	opts = opts.withDefaults()
	c, t := QuantileOf(control, q, opts), QuantileOf(treatment, q, opts)
	state := c.State.worse(t.State)
	if !state.Readable() {
		return unreadable(state)
	}
	e := Effect{State: state, Value: t.Value - c.Value, Anytime: Evidence{PValue: 1}, Fixed: Evidence{PValue: 1}}
	apart := func(alpha float64) Interval {
		half := opts.share(alpha / 2)
		return treatment.anytime(q, half).minus(control.anytime(q, half))
	}
	e.Anytime.Interval = apart(opts.Alpha)
	e.Anytime.PValue = smallestAlpha(func(alpha float64) bool { return !apart(alpha).Contains(0) })
	z := fixedMultiple(opts.Alpha, 0)
	if c.Fixed.LowOpen || c.Fixed.HighOpen || t.Fixed.LowOpen || t.Fixed.HighOpen {
		e.Fixed.LowOpen, e.Fixed.HighOpen = true, true
		return e.checked()
	}
	e.SE = math.Hypot(c.Fixed.High-c.Fixed.Low, t.Fixed.High-t.Fixed.Low) / (2 * z)
	if !(e.SE > 0) {
		return unreadable(StateZeroVariance)
	}
	e.Fixed = Evidence{Interval: Interval{Low: e.Value - z*e.SE, High: e.Value + z*e.SE}, PValue: fixedP(e.Value/e.SE, 0)}
	return e.modest().checked()
}

func (s Sample) anytime(q float64, opts Options) Interval {
	return s.between(mixtureRanks(s.users, q, opts))
}

// minus returns the differences of a value of i and one of other.
func (i Interval) minus(other Interval) Interval {
	d := Interval{LowOpen: i.LowOpen || other.HighOpen, HighOpen: i.HighOpen || other.LowOpen}
	if !d.LowOpen {
		d.Low = i.Low - other.High
	}
	if !d.HighOpen {
		d.High = i.High - other.Low
	}
	return d
}

// smallestAlpha returns the smallest alpha at which something is claimed, from MinAlpha to 1.
func smallestAlpha(claimed func(alpha float64) bool) float64 {
	low, high := math.Log(MinAlpha), 0.0
	if !claimed(math.Exp(high) - 1e-9) {
		return 1
	}
	for range 40 {
		middle := low + (high-low)/2
		if claimed(math.Exp(middle)) {
			high = middle
		} else {
			low = middle
		}
	}
	return math.Exp(high)
}
