package experiment

import "math"

// Where conversions are few, the normal approximation is no more than a habit. Two binomials then speak for themselves: a
// pair of rates is kept while its likelihood is not too far below the evidence against it.
//
// Anytime-valid: the evidence is the likelihood averaged over all pairs of rates (a Beta(½,½) in each arm). Average over
// likelihood is a martingale of mean one under the true pair, and exceeds 1/alpha at any time with chance alpha at most
// (Ville; Robbins 1970 for one arm, Lindon and Malek, arXiv 2011.03567, for counts). Nothing here is asymptotic.
//
// Fixed: the profile likelihood interval, twice the logarithm of the ratio to the largest likelihood against chi-squared.
//
// Differences and ratios are kept when any pair of rates with them is, so the nuisance parameter costs no assumption.

// binomials are the counts of two arms: converted and not.
type binomials struct{ yesC, noC, yesT, noT float64 }

func (b binomials) logLikelihood(c, t float64) float64 {
	return xlogy(b.yesC, c) + xlog1py(b.noC, -c) + xlogy(b.yesT, t) + xlog1py(b.noT, -t)
}

// peak is the largest log-likelihood, and evidence the logarithm of the average one.
func (b binomials) peak() float64 {
	return b.logLikelihood(b.yesC/(b.yesC+b.noC), b.yesT/(b.yesT+b.noT))
}

func (b binomials) evidence() float64 {
	return logBeta(b.yesC+0.5, b.noC+0.5) + logBeta(b.yesT+0.5, b.noT+0.5) - 2*logBeta(0.5, 0.5)
}

// profileDifference is the largest log-likelihood of all pairs of rates with treatment − control = d, and its slope in d.
func (b binomials) profileDifference(d float64) (height, slope float64) {
	c := root(max(0, -d), min(1, 1-d), func(c float64) (value, slope float64) {
		value = over(b.yesC, c) - over(b.noC, 1-c) + over(b.yesT, c+d) - over(b.noT, 1-c-d)
		slope = -over(b.yesC, c*c) - over(b.noC, square(1-c)) - over(b.yesT, square(c+d)) - over(b.noT, square(1-c-d))
		return value, slope
	})
	t := min(max(c+d, 0), 1)
	// At the top the two slopes cancel. Where an arm stands at 0 or 1 they do not: then that arm stays, and the other moves.
	slopeT, slopeC := over(b.yesT, t)-over(b.noT, 1-t), over(b.noC, 1-c)-over(b.yesC, c)
	if math.Abs(slopeC) < math.Abs(slopeT) {
		return b.logLikelihood(c, t), slopeC
	}
	return b.logLikelihood(c, t), slopeT
}

// profileRatio is the same for treatment = r · control.
func (b binomials) profileRatio(r float64) (height, slope float64) {
	yes := b.yesC + b.yesT
	c := root(0, min(1, 1/r), func(c float64) (value, slope float64) {
		value = over(yes, c) - over(b.noC, 1-c) - r*over(b.noT, 1-r*c)
		slope = -over(yes, c*c) - over(b.noC, square(1-c)) - r*r*over(b.noT, square(1-r*c))
		return value, slope
	})
	t := min(r*c, 1)
	return b.logLikelihood(c, t), over(b.yesT, r) - c*over(b.noT, 1-t)
}

// differences and ratios return the interval of values whose profile is at least so high.
func (b binomials) differences(height float64) Interval {
	best := b.yesT/(b.yesT+b.noT) - b.yesC/(b.yesC+b.noC)
	above := func(d float64) (float64, float64) {
		h, slope := b.profileDifference(d)
		return h - height, slope
	}
	return Interval{Low: border(best, -1, above), High: border(best, 1, above)}
}

// ratios needs a conversion in control: without one, no ratio is too large.
func (b binomials) ratios(height float64) Interval {
	best := b.yesT / (b.yesT + b.noT) / (b.yesC / (b.yesC + b.noC))
	above := func(r float64) (float64, float64) {
		h, slope := b.profileRatio(r)
		return h - height, slope
	}
	far := max(2*best, 1)
	for h, _ := above(far); h >= 0 && far < MaxValue; h, _ = above(far) {
		far *= 2
	}
	return Interval{Low: border(best, 0, above), High: border(best, far, above)}
}

// exactEffects returns the absolute and the relative effect of two arms that both have users.
func (b binomials) exactEffects(opts Options) (absolute, relative Effect) {
	opts = opts.withDefaults()
	c, t := b.yesC/(b.yesC+b.noC), b.yesT/(b.yesT+b.noT)
	multiple := fixedMultiple(opts.Alpha, 0)
	heightA := b.evidence() + math.Log(opts.Alpha)
	heightF := b.peak() - multiple*multiple/2
	same, _ := b.profileDifference(0)
	pA := min(1, math.Exp(same-b.evidence()))
	pF := math.Erfc(math.Sqrt(max(0, b.peak()-same)))
	absolute = Effect{
		State: StateFewConversions, Value: t - c,
		Anytime: Evidence{Interval: b.differences(heightA), PValue: pA},
		Fixed:   Evidence{Interval: b.differences(heightF), PValue: pF},
	}
	if b.yesC == 0 {
		return absolute, unreadable(StateZeroBaseline)
	}
	lift := func(r Interval) Interval { return Interval{Low: r.Low - 1, High: r.High - 1} }
	relative = Effect{
		State: StateFewConversions, Value: t/c - 1,
		Anytime: Evidence{Interval: lift(b.ratios(heightA)), PValue: pA},
		Fixed:   Evidence{Interval: lift(b.ratios(heightF)), PValue: pF},
	}
	return absolute, relative.checked()
}

// border returns the last value that is above zero on the way from inside, which is, to outside.
func border(inside, outside float64, above func(float64) (value, slope float64)) float64 {
	if v, _ := above(outside); v >= 0 {
		return outside
	}
	return root(inside, outside, above)
}

// root returns where f falls through zero on the way from a to b: Newton's method, which gives way to halving where it would
// leave the two or does not get on.
func root(a, b float64, f func(float64) (value, slope float64)) float64 {
	x := a + (b-a)/2
	last := math.Abs(b - a)
	for range 200 {
		v, slope := f(x)
		if v > 0 {
			a = x
		} else {
			b = x
		}
		next := x - v/slope
		if !(next >= min(a, b) && next <= max(a, b) && math.Abs(next-x) <= last/2) { // written so that NaN is refused too
			next = a + (b-a)/2
		}
		last = math.Abs(next - x)
		if last <= 1e-15*math.Abs(x) {
			return next
		}
		x = next
	}
	return x
}

// xlogy is x·ln y, and zero where x is.
func xlogy(x, y float64) float64 {
	if x == 0 {
		return 0
	}
	return x * math.Log(y)
}

// xlog1py is x·ln(1+y), and zero where x is.
func xlog1py(x, y float64) float64 {
	if x == 0 {
		return 0
	}
	return x * math.Log1p(y)
}

// over is x/y, and zero where x is.
func over(x, y float64) float64 {
	if x == 0 {
		return 0
	}
	return x / y
}
