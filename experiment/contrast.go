package experiment

import "math"

// Contrast is the difference between two arms and the baseline it can be set against: two estimates that may be correlated.
// Every rule of inference starts from one, whatever the metric and however it was adjusted.
type Contrast struct {
	State         State
	Difference    float64 // treatment − control
	Baseline      float64 // of control, unadjusted
	VarDifference float64 // of the estimate, not of one user
	VarBaseline   float64
	Covariance    float64 // of the two estimates
	Users         float64 // of both arms: what anytime-valid rules count in
	DF            float64 // degrees of freedom of VarDifference; zero: infinitely many
}

// NewContrast returns the contrast of two independent arms.
func NewContrast(control, treatment Estimate) Contrast {
	state := control.State.worse(treatment.State)
	if state.Readable() && min(control.Users, treatment.Users) < 1 {
		state = StateEmptyArm
	}
	if !state.Readable() {
		return Contrast{State: state}
	}
	nc, nt := float64(control.Users), float64(treatment.Users)
	vc, vt := control.Variance/nc, treatment.Variance/nt
	return Contrast{
		State: state, Users: nc + nt,
		Difference: treatment.Value - control.Value, Baseline: control.Value,
		VarDifference: vc + vt, VarBaseline: vc, Covariance: -vc,
		DF: welch(vc, nc, vt, nt),
	}
}

// welch returns the degrees of freedom of the sum of two variances (Welch 1947, Satterthwaite 1946).
func welch(va, na, vb, nb float64) float64 {
	if na < 2 || nb < 2 || !(va+vb > 0) {
		return 0
	}
	share := va / (va + vb) // of shares, so that tiny variances do not underflow
	return 1 / (share*share/(na-1) + (1-share)*(1-share)/(nb-1))
}

// RelativeMethod is how an interval of a relative effect is made.
type RelativeMethod string

// The methods. All agree where the baseline is known well.
const (
	RelativeDelta   RelativeMethod = "delta"   // symmetric; may reach below −100 %
	RelativeLog     RelativeMethod = "log"     // of the logarithm of the ratio; never below −100 %; both arms must be above zero
	RelativeFieller RelativeMethod = "fieller" // exact for normal estimates; no end where the baseline may be zero
)

// relative returns the effect as a share of the baseline, and its standard error by the delta method.
func (c Contrast) relative() (value, se float64) {
	d, b := c.Difference, c.Baseline
	value = d / b
	variance := (c.VarDifference - 2*value*c.Covariance + value*value*c.VarBaseline) / (b * b)
	return d / math.Abs(b), math.Sqrt(max(0, variance))
}

// relativeInterval returns the interval of the relative effect that reaches multiple standard errors. Both ends are open
// where the method finds none.
func (c Contrast) relativeInterval(method RelativeMethod, multiple float64) Interval {
	value, se := c.relative()
	switch method {
	case RelativeLog:
		treatment := c.Baseline + c.Difference
		if c.Baseline <= 0 || treatment <= 0 {
			return Interval{LowOpen: true, HighOpen: true}
		}
		reach := multiple * c.logSE()
		ratio := treatment / c.Baseline
		return Interval{Low: ratio*math.Exp(-reach) - 1, High: ratio*math.Exp(reach) - 1}
	case RelativeFieller:
		return c.fieller(multiple)
	default:
		return Interval{Low: value - multiple*se, High: value + multiple*se}
	}
}

// logSE is the standard error of ln(treatment/control), by the delta method.
func (c Contrast) logSE() float64 {
	treatment := c.Baseline + c.Difference
	varT := c.VarDifference + 2*c.Covariance + c.VarBaseline
	covBT := c.Covariance + c.VarBaseline
	return math.Sqrt(max(0, varT/(treatment*treatment)+c.VarBaseline/(c.Baseline*c.Baseline)-2*covBT/(treatment*c.Baseline)))
}

// fieller solves (d − r·b)² = multiple²·Var(d − r·b) for r (Fieller 1954). There is no solution where b may be zero.
func (c Contrast) fieller(multiple float64) Interval {
	b, cov := math.Abs(c.Baseline), c.Covariance
	if c.Baseline < 0 {
		cov = -cov
	}
	q2 := multiple * multiple
	lead := b*b - q2*c.VarBaseline
	if lead <= 0 {
		return Interval{LowOpen: true, HighOpen: true}
	}
	half := c.Difference*b - q2*cov
	root := math.Sqrt(max(0, half*half-lead*(c.Difference*c.Difference-q2*c.VarDifference)))
	return Interval{Low: (half - root) / lead, High: (half + root) / lead}
}
