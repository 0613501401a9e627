package experiment

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The steps say how a number came about. Values is the formula with the numbers in it, every digit kept, in a form that
// ClickHouse computes: SELECT and the text give Result.

// full writes a number so that reading it gives it back; a negative one in brackets, so that it can stand behind an operator.
func full(x float64) string {
	text := strconv.FormatFloat(x, 'g', -1, 64)
	if x < 0 {
		return "(" + text + ")"
	}
	return text
}

// short writes a number for a sentence.
func short(x float64) string {
	if x != 0 && math.Abs(x) < 1e-4 {
		return strconv.FormatFloat(x, 'e', 1, 64)
	}
	text := strconv.FormatFloat(x, 'f', max(0, 3-int(math.Ceil(math.Log10(max(math.Abs(x), 1e-4))))), 64)
	return text
}

// fill puts numbers into a formula: % stands for each.
func fill(pattern string, numbers ...float64) string {
	var b strings.Builder
	for _, part := range strings.SplitAfter(pattern, "%") {
		text, open := strings.CutSuffix(part, "%")
		b.WriteString(text)
		if open && len(numbers) > 0 {
			b.WriteString(full(numbers[0]))
			numbers = numbers[1:]
		}
	}
	return b.String()
}

func step(is, formula string, result float64, pattern string, numbers ...float64) Step {
	return Step{Is: is, Formula: formula, Values: fill(pattern, numbers...), Result: result}
}

// armSteps says how the value of an arm and its standard error came about.
func armSteps(m *MetricSpec, row Row, e Estimate) []Step {
	n, se := float64(e.Users), math.Sqrt(e.Variance/float64(e.Users))
	s0 := row.Moments.Sum(0)
	switch m.Kind {
	case KindProportion:
		return []Step{
			step("value", "converted / users", e.Value, "% / %", s0, n),
			step("variance", "value · (1 − value)", e.Variance, "% * (1 - %)", e.Value, e.Value),
			step("se", "√(variance / users)", se, "sqrt(% / %)", e.Variance, n),
		}
	case KindRatio:
		s1, c00, c01, c11 := row.Moments.Sum(1), row.Moments.Covariance(0, 0), row.Moments.Covariance(0, 1), row.Moments.Covariance(1, 1)
		return []Step{
			step("value", "Σ numerator / Σ denominator", e.Value, "% / %", s0, s1),
			step("variance", "(var(numerator) − 2 · value · cov + value² · var(denominator)) / mean(denominator)²", e.Variance,
				"greatest(0, % - 2 * % * % + % * % * %) / pow(% / %, 2)", c00, e.Value, c01, e.Value, e.Value, c11, s1, n),
			step("se", "√(variance / users)", se, "sqrt(% / %)", e.Variance, n),
		}
	case KindMean:
		return []Step{
			step("value", "Σ x / users", e.Value, "% / %", s0, n),
			step("variance", "(Σ x² − (Σ x)² / users) / (users − 1), before rounding", e.Variance, "%", e.Variance),
			step("se", "√(variance / users)", se, "sqrt(% / %)", e.Variance, n),
		}
	}
	return []Step{}
}

// absoluteSteps says how the difference and its intervals came about.
func absoluteSteps(q *question, opts Options) []Step {
	r := q.base
	e := r.Absolute
	steps := []Step{step("difference", "treatment − control", r.Contrast.Difference, "% - %", r.Treatment.Value, r.Control.Value)}
	if q.metric.Covariates > 0 {
		steps[0] = step("difference", "treatment − control, adjusted on covariates", r.Contrast.Difference, "%", r.Contrast.Difference)
	}
	if e.SE == 0 {
		return append(steps, exactSteps(q, opts)...)
	}
	nc, nt := float64(r.Control.Users), float64(r.Treatment.Users)
	if q.metric.Covariates > 0 {
		steps = append(steps, step("se", "of the regression on the covariates", e.SE, "%", e.SE))
	} else {
		steps = append(steps, step("se", "√(variance of control / users + variance of treatment / users)", e.SE,
			"sqrt(% / % + % / %)", r.Control.Variance, nc, r.Treatment.Variance, nt))
	}
	return append(steps, intervalSteps(e, r.Contrast, opts, e.Value/e.SE)...)
}

// quantileSteps says how the difference of two quantiles came about. The intervals count how many users lie below a value: they
// hold for any distribution, and have no formula to fill in.
func quantileSteps(q *question) []Step {
	r := q.base
	return []Step{step("difference", "quantile of treatment − quantile of control", r.Absolute.Value, "% - %", r.Treatment.Value, r.Control.Value)}
}

// relativeSteps says how the lift and its intervals came about.
func relativeSteps(q *question, opts Options) []Step {
	r := q.base
	e, c := r.Relative, r.Contrast
	if !e.State.Readable() {
		return []Step{}
	}
	steps := []Step{step("lift", "difference / |control|", e.Value, "% / abs(%)", c.Difference, c.Baseline)}
	if e.SE == 0 {
		return append(steps, exactSteps(q, opts)...)
	}
	steps = append(steps, step("se", "√(var(difference) − 2 · lift · cov + lift² · var(control)) / |control|, the delta method", e.SE,
		"sqrt(greatest(0, % - 2 * % * % + % * % * %)) / abs(%)", c.VarDifference, c.Difference/c.Baseline, c.Covariance,
		c.Difference/c.Baseline, c.Difference/c.Baseline, c.VarBaseline, c.Baseline))
	return append(steps, intervalSteps(e, c, opts, e.Value/e.SE)...)
}

// intervalSteps says how an interval came out of a standard error.
func intervalSteps(e Effect, c Contrast, opts Options, z float64) []Step {
	n, rho2 := c.Users, opts.rho2(2)
	multiple, fixed := opts.anytimeMultiple(n), fixedMultiple(opts.Alpha, c.DF)
	steps := []Step{
		step("rho²", "(−2 ln α + ln(1 − 2 ln α)) / N*", rho2, "(-2 * log(%) + log(1 - 2 * log(%))) / %", opts.Alpha, opts.Alpha, opts.NStar),
		step("multiple", "√(2 (n ρ² + 1) / (n ρ²) · ln(√(n ρ² + 1) / α)), n users of both arms", multiple,
			"sqrt(2 * (% * % + 1) / (% * %) * log(sqrt(% * % + 1) / %))", n, rho2, n, rho2, n, rho2, opts.Alpha),
		step("anytime low", "value − multiple · se", e.Value-multiple*e.SE, "% - % * %", e.Value, multiple, e.SE),
		step("anytime high", "value + multiple · se", e.Value+multiple*e.SE, "% + % * %", e.Value, multiple, e.SE),
		step("anytime p", "min(1, √(n ρ² + 1) · exp(−z² / 2 · n ρ² / (n ρ² + 1))), z = value / se", opts.anytimeP(z, n),
			"least(1, sqrt(% * % + 1) * exp(-% * % / 2 * % * % / (% * % + 1)))", n, rho2, math.Abs(z), math.Abs(z), n, rho2, n, rho2),
		step("fixed low", fmt.Sprintf("value − %s · se", short(fixed)), e.Value-fixed*e.SE, "% - % * %", e.Value, fixed, e.SE),
		step("fixed high", fmt.Sprintf("value + %s · se", short(fixed)), e.Value+fixed*e.SE, "% + % * %", e.Value, fixed, e.SE),
	}
	return steps
}

// exactSteps says what the evidence of few conversions is made of: there is no standard error in it.
func exactSteps(q *question, opts Options) []Step {
	yesC, yesT := q.control.Moments.Sum(0), q.other.Moments.Sum(0)
	b := binomials{yesC: yesC, noC: float64(q.base.Control.Users) - yesC, yesT: yesT, noT: float64(q.base.Treatment.Users) - yesT}
	peak, _ := b.profileDifference(0)
	return []Step{
		step("evidence", "ln of the likelihood of both arms, averaged over all pairs of rates (a Beta(½, ½) for each)", b.evidence(),
			"lgamma(% + 0.5) + lgamma(% + 0.5) - lgamma(% + 1) + lgamma(% + 0.5) + lgamma(% + 0.5) - lgamma(% + 1) - 2 * log(pi())",
			b.yesC, b.noC, b.yesC+b.noC, b.yesT, b.noT, b.yesT+b.noT),
		step("same", "ln of the largest likelihood with equal rates", peak, "%", peak),
		step("anytime p", "min(1, exp(same − evidence))", min(1, math.Exp(peak-b.evidence())), "least(1, exp(% - %))", peak, b.evidence()),
		step("threshold", "a pair of rates stays in the interval while ln of its likelihood is at least evidence + ln α", b.evidence()+math.Log(opts.Alpha),
			"% + log(%)", b.evidence(), opts.Alpha),
	}
}

// ratioSteps says how the sample ratio was tested.
func ratioSteps(arms []ArmSpec, users []int64, weights []float64, fixed SampleRatio) []Step {
	total, sum := 0.0, 0.0
	for i, n := range users {
		if weights[i] > 0 {
			total, sum = total+float64(n), sum+weights[i]
		}
	}
	if total == 0 || sum == 0 {
		return []Step{}
	}
	var formula, values []string
	for i, n := range users {
		if weights[i] > 0 {
			expected := total * weights[i] / sum
			formula = append(formula, fmt.Sprintf("(%s − expected)² / expected", arms[i].Variant))
			values = append(values, fill("pow(% - %, 2) / %", float64(n), expected, expected))
		}
	}
	return []Step{{Is: "chi-squared", Formula: strings.Join(formula, " + "), Values: strings.Join(values, " + "), Result: fixed.ChiSquared}}
}
