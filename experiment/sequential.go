package experiment

import (
	"math"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// The rules turn a standard error into an interval by a multiple of it, and a z into a p-value. An interval excludes zero
// just when its p-value is below alpha.
//
// anytime is the asymptotic confidence sequence (Waudby-Smith et al., arXiv 2103.06476, on the normal mixture of Robbins,
// 1970): it holds at every look, however often one looks. It is tightest at NStar users.

// rho2 is the precision of the mixture that makes the sequence tightest at NStar users. It is fixed before the data, and so
// depends on the alpha that was, not on the share of it that one of many intervals gets later.
func (o Options) rho2(sides float64) float64 {
	alpha := o.Alpha
	if o.mixture > 0 {
		alpha = o.mixture
	}
	alpha = min(alpha*2/sides, 1-1e-9)
	return (-2*math.Log(alpha) + math.Log(1-2*math.Log(alpha))) / o.NStar
}

// anytimeMultiple is how many standard errors the sequence reaches to either side after n users.
func (o Options) anytimeMultiple(n float64) float64 {
	x := n * o.rho2(2)
	return math.Sqrt(2 * (x + 1) / x * (math.Log(x+1)/2 - math.Log(o.Alpha)))
}

// anytimeMultipleOneSided is the same for one side alone (eq. 134 of the same paper).
func (o Options) anytimeMultipleOneSided(n float64) float64 {
	x := n * o.rho2(1)
	return math.Sqrt(2 * (x + 1) / x * math.Log1p(math.Sqrt(x+1)/(2*o.Alpha)))
}

// anytimePOneSided is the always-valid p-value of an effect that is not above zero, for an estimate z standard errors above.
func (o Options) anytimePOneSided(z, n float64) float64 {
	if z <= 0 {
		return 1
	}
	x := n * o.rho2(1)
	return min(1, math.Sqrt(x+1)/2/math.Expm1(z*z/2*x/(x+1)))
}

// anytimeP is the always-valid p-value of no effect, two-sided, for an estimate z standard errors from it.
func (o Options) anytimeP(z, n float64) float64 {
	x := n * o.rho2(2)
	return min(1, math.Sqrt(x+1)*math.Exp(-z*z/2*x/(x+1)))
}

// fixedMultiple is how many standard errors an interval for one planned look reaches: Student's t with df degrees of
// freedom, normal where df is zero or so large that it makes no difference.
func fixedMultiple(alpha, df float64) float64 {
	if df <= 0 || df > normalDF {
		return distuv.UnitNormal.Quantile(1 - alpha/2)
	}
	if df < expandedDF {
		return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: df}.Quantile(1 - alpha/2)
	}
	return expandedT(distuv.UnitNormal.Quantile(1-alpha/2), alpha, df)
}

// expandedT is the quantile of Student's t from that of the normal distribution: an expansion in 1/df (Abramowitz and Stegun
// 26.7.5), and Newton's step on the logarithm of the tail for what it leaves. It is ten times as fast as inverting the
// incomplete beta function, which a page of readings would spend its time on.
func expandedT(z, alpha, df float64) float64 {
	z2 := z * z
	t := z + z*((z2+1)/(4*df)+((5*z2+16)*z2+3)/(96*df*df)+(((3*z2+19)*z2+17)*z2-15)/(384*df*df*df))
	density := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: df}.Prob(t)
	tail := fixedP(t, df)
	step := math.Log(tail/alpha) * tail / (2 * density)
	if math.IsNaN(step) || math.IsInf(step, 0) {
		return t
	}
	return t + step
}

// expandedDF is from where the expansion and one step leave no error in the tenth digit, down to alpha = 1e-6.
const expandedDF = 100

// fixedP is the two-sided p-value of z for one planned look. It keeps its digits far out in the tail.
func fixedP(z, df float64) float64 {
	if df <= 0 || df > normalDF {
		return math.Erfc(math.Abs(z) / math.Sqrt2)
	}
	return mathext.RegIncBeta(df/2, 0.5, df/(df+z*z))
}

// normalDF is where Student's t is the normal distribution to seven digits.
const normalDF = 1e7
