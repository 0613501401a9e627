package experiment

import "math"

// Interval is a set of values that the data allow. An end that is open has no number: Low or High is zero then.
type Interval struct {
	Low, High         float64
	LowOpen, HighOpen bool
}

// Contains says whether the interval holds x.
func (i Interval) Contains(x float64) bool {
	return (i.LowOpen || i.Low <= x) && (i.HighOpen || x <= i.High)
}

// Evidence is an interval and the p-value that belongs to it: of no effect, two-sided, and below alpha just when the interval
// excludes zero.
type Evidence struct {
	Interval
	PValue float64
}

// Effect is what a treatment does to a metric, with the two sorts of evidence. Where State is not readable all is zero, and
// the p-values are one.
type Effect struct {
	State   State
	Value   float64
	SE      float64  // standard error of Value. Zero where it was not needed: few conversions.
	Anytime Evidence // holds at every look, however often one looks; the whole line where few conversions let nothing be said
	Fixed   Evidence // holds at one look that was planned beforehand
}

func unreadable(state State) Effect {
	return Effect{State: state, Anytime: Evidence{PValue: 1}, Fixed: Evidence{PValue: 1}}
}

// Absolute returns the difference treatment − control.
func (c Contrast) Absolute(opts Options) Effect {
	opts = opts.withDefaults()
	if state := c.usable(); state != "" {
		return unreadable(state)
	}
	e := Effect{State: c.State, Value: c.Difference, SE: math.Sqrt(c.VarDifference)}
	around := func(multiple float64) Interval {
		return Interval{Low: e.Value - multiple*e.SE, High: e.Value + multiple*e.SE}
	}
	z := e.Value / e.SE
	e.Anytime = Evidence{Interval: around(opts.anytimeMultiple(c.Users)), PValue: opts.anytimeP(z, c.Users)}
	e.Fixed = Evidence{Interval: around(fixedMultiple(opts.Alpha, c.DF)), PValue: fixedP(z, c.DF)}
	return e.modest().waiting().checked()
}

// Relative returns the difference as a share of the baseline: 0.15 says that treatment is 15 % above control.
func (c Contrast) Relative(opts Options) Effect {
	opts = opts.withDefaults()
	state := c.usable()
	switch {
	case state != "":
		return unreadable(state)
	case c.Baseline == 0:
		return unreadable(StateZeroBaseline)
	case c.Baseline*c.Baseline <= c.VarBaseline*square(fixedMultiple(opts.Alpha, 0)):
		return unreadable(StateUnbounded) // a baseline that may be zero is nothing to be relative to
	}
	e := Effect{State: c.State}
	e.Value, e.SE = c.relative()
	z := e.Value / e.SE
	switch {
	case opts.Relative == RelativeLog && c.Baseline > 0 && c.Baseline+c.Difference > 0:
		z = math.Log1p(c.Difference/c.Baseline) / c.logSE()
	case opts.Relative == RelativeFieller:
		z = c.Difference / math.Sqrt(c.VarDifference)
	}
	e.Anytime.Interval = c.relativeInterval(opts.Relative, opts.anytimeMultiple(c.Users))
	e.Fixed.Interval = c.relativeInterval(opts.Relative, fixedMultiple(opts.Alpha, c.DF))
	e.Anytime.PValue, e.Fixed.PValue = 1, 1
	if !e.Anytime.LowOpen {
		e.Anytime.PValue = opts.anytimeP(z, c.Users)
	}
	if e.Fixed.LowOpen {
		return unreadable(StateUnbounded)
	}
	e.Fixed.PValue = fixedP(z, c.DF)
	return e.modest().waiting().checked()
}

// usable returns the state that keeps the contrast from being read. Empty: none.
func (c Contrast) usable() State {
	switch {
	case !c.State.Readable():
		if c.State == "" {
			return StateInvalid // the zero value
		}
		return c.State
	case !(c.VarDifference > 0): // written so that NaN has none
		return StateZeroVariance
	default:
		return ""
	}
}

// modest keeps what holds at every look from saying more than what holds at one. The asymptotic sequence could, of a handful
// of users and for an NStar as small: it knows nothing of Student's t.
func (e Effect) modest() Effect {
	e.Anytime.PValue = max(e.Anytime.PValue, e.Fixed.PValue)
	if !e.Anytime.LowOpen {
		e.Anytime.Low, e.Anytime.High = min(e.Anytime.Low, e.Fixed.Low), max(e.Anytime.High, e.Fixed.High)
	}
	return e
}

// waiting takes back what the normal approximation would claim at every look of few conversions. Compare has better for two
// arms; a difference of differences waits until every part has MinConversions.
func (e Effect) waiting() Effect {
	if e.State == StateFewConversions {
		e.Anytime = Evidence{Interval: Interval{LowOpen: true, HighOpen: true}, PValue: 1}
	}
	return e
}

// checked refuses an effect whose arithmetic left the finite numbers.
func (e Effect) checked() Effect {
	for _, f := range []float64{
		e.Value, e.SE, e.Anytime.Low, e.Anytime.High, e.Anytime.PValue, e.Fixed.Low, e.Fixed.High, e.Fixed.PValue,
	} {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return unreadable(StateOverflow)
		}
	}
	return e
}

func square(x float64) float64 { return x * x }
