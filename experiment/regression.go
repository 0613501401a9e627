package experiment

import "math"

// Regress compares two arms by the least squares of the outcome on treatment and covariates, with the anytime-valid t-test of
// Lindon, Ham, Tingley, Bojinov (arXiv 2210.08589). Its promise is exact for normal errors of one variance, from the first
// user on, where Compare is for any errors and many users. Both agree then. Metrics of one outcome column are taken; a
// covariate that others determine is left out. Value is absolute.
func Regress(metric Metric, control, treatment Moments, opts Options) Effect {
	opts = opts.withDefaults()
	c, t := metric.Of(control), metric.Of(treatment)
	state := c.State.worse(t.State)
	switch {
	case !state.Readable():
		return unreadable(state)
	case metric.outcomes() != 1:
		return unreadable(StateInvalid)
	}
	f := leastSquares(metric.cellArm(control, 0, 1), metric.cellArm(treatment, 0, 1))
	switch {
	case f.df < 1:
		return unreadable(StateFewUsers)
	case !(f.variance > 0): // written so that NaN has none
		return unreadable(StateZeroVariance)
	}
	e := Effect{State: state, Value: f.effect, SE: math.Sqrt(f.variance * f.leverage)}
	reach := fixedMultiple(opts.Alpha, f.df) * e.SE
	e.Fixed = Evidence{Interval: Interval{Low: e.Value - reach, High: e.Value + reach}, PValue: fixedP(e.Value/e.SE, f.df)}
	// The scale of the mixture: an effect of the size that Compare's sequence is tightest for, in two arms of equal size.
	e.Anytime = tSequence(e.Value, e.SE, f.df, 1/f.leverage, 1/(4*opts.rho2(2)), opts.Alpha)
	return e.waiting().checked()
}

// fit is the treatment's coefficient, its variance as a multiple of that of the errors, that one, and its degrees of freedom.
type fit struct{ effect, leverage, variance, df float64 }

// leastSquares fits y = a + effect·treatment + θ·x. Sums within the arms are all it takes.
func leastSquares(control, treatment cellArm) fit {
	p := len(control.means)
	within, with, apart := make([]float64, p*p), make([]float64, p), make([]float64, p)
	squares := 0.0
	for _, arm := range []cellArm{control, treatment} {
		squares += (arm.n - 1) * arm.variance
		for i := range p {
			with[i] += (arm.n - 1) * arm.covariance[i]
			for j := range p {
				within[i*p+j] += (arm.n - 1) * arm.spread[i*p+j]
			}
		}
	}
	for i := range p {
		apart[i] = treatment.means[i] - control.means[i]
	}
	theta, rank := solve(within, with)
	balance, _ := solve(within, apart)
	f := fit{effect: treatment.value - control.value, leverage: 1/control.n + 1/treatment.n, df: control.n + treatment.n - 2 - float64(rank)}
	left := squares
	for i := range p {
		f.effect -= theta[i] * apart[i]
		f.leverage += apart[i] * balance[i]
		left -= theta[i] * with[i]
	}
	if left > collinear*squares { // what is below is rounding
		f.variance = left / f.df
	}
	return f
}

// tSequence is the confidence sequence of a coefficient and its always-valid p-value: df degrees of freedom, so many users'
// worth of information about it, and the scale of the mixture.
func tSequence(value, se, df, information, scale, alpha float64) Evidence {
	r := scale / (scale + information)
	t2 := square(value / se)
	evidence := math.Log(r)/2 + (df+1)/2*(math.Log1p(t2/df)-math.Log1p(r*t2/df))
	e := Evidence{PValue: min(1, math.Exp(-evidence))}
	q := math.Pow(r*alpha*alpha, 1/(df+1))
	if q <= r {
		e.LowOpen, e.HighOpen = true, true
		return e
	}
	reach := se * math.Sqrt(df*(1-q)/(q-r))
	e.Low, e.High = value-reach, value+reach
	return e
}
