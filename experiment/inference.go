package experiment

import "math"

// Arm is what one variant's users did: how many met the variant, and how many of these converted afterwards.
type Arm struct{ Users, Converted int64 }

// Defaults of Options.
const (
	DefaultAlpha = 0.05
	DefaultNStar = 5000
)

// Bounds of Options. The approximations behind the intervals say nothing further out, and the arithmetic ends there: below
// 1e-16, 1−alpha/2 is 1 in a float64, and the interval the whole line.
const (
	MinAlpha = 1e-12
	MaxNStar = 1e15
)

// Options of a comparison. The zero value is valid.
type Options struct {
	Alpha float64 // chance of missing the truth, in (0,1); a smaller one than MinAlpha is taken for it. Defaults to 0.05.

	// Users, both arms together, at which the anytime-valid interval is tightest; fixed before the data. At least 1 and at
	// most MaxNStar; what lies beyond is taken for the bound. Defaults to 5000.
	NStar float64

	// How intervals of relative effects are made; what does not exist is taken for the default. Defaults to RelativeDelta.
	Relative RelativeMethod

	mixture float64 // the alpha that NStar is tuned for. Zero: Alpha.
}

// Comparison of a treatment with a control. Lift is relative: 0.15 says that the treatment's rate is 15 % above the
// control's. [Low, High] holds the true lift with chance 1−alpha at every look, however often one looks; [FixedLow,
// FixedHigh] holds it at one look that was planned beforehand, and so does PValue.
type Comparison struct {
	ControlRate, TreatmentRate float64
	Lift                       float64 // (treatment − control) / control
	Low, High                  float64 // of the lift, anytime-valid
	FixedLow, FixedHigh        float64 // of the lift, at one planned look
	Difference                 float64 // treatment − control
	DiffLow, DiffHigh          float64 // of the difference, at one planned look
	PValue                     float64 // two-sided, of no difference, at one planned look
	AnytimePValue              float64 // two-sided, of no lift, at every look
	State                      State
}

// CompareProportions compares the conversion rates of two arms. It never returns NaN or infinity: where the input is
// degenerate, State says so and what has no meaning is zero (a p-value: one).
func CompareProportions(control, treatment Arm, opts Options) Comparison {
	c := Comparison{PValue: 1, AnytimePValue: 1}
	if !control.valid() || !treatment.valid() {
		c.State = StateInvalid
		return c
	}
	c.ControlRate, c.TreatmentRate = control.rate(), treatment.rate()
	if control.Users == 0 || treatment.Users == 0 {
		c.State = StateEmptyArm
		return c
	}
	opts = opts.withDefaults()
	contrast := NewContrast(control.estimate(), treatment.estimate())
	contrast.DF = 0 // a z-test, as is usual for rates
	z, se := fixedMultiple(opts.Alpha, 0), math.Sqrt(contrast.VarDifference)
	c.Difference = contrast.Difference
	c.DiffLow, c.DiffHigh = c.Difference-z*se, c.Difference+z*se
	switch {
	case control.Converted == 0:
		c.State = StateZeroBaseline
		return c
	case se == 0:
		c.State, c.Lift = StateZeroVariance, c.Difference/c.ControlRate
		return c
	}
	c.PValue = fixedP(c.Difference/se, 0)
	lift, seLift := contrast.relative()
	half := opts.anytimeMultiple(contrast.Users) * seLift
	c.Lift, c.Low, c.High = lift, lift-half, lift+half
	c.FixedLow, c.FixedHigh = lift-z*seLift, lift+z*seLift
	c.AnytimePValue = 1
	if seLift > 0 {
		c.AnytimePValue = opts.anytimeP(lift/seLift, contrast.Users)
	}
	c.State = StateOK
	if min(control.Converted, treatment.Converted) < MinConversions {
		c.State = StateFewConversions
	}
	return c
}

func (a Arm) valid() bool { return a.Converted >= 0 && a.Converted <= a.Users }

func (a Arm) rate() float64 {
	if a.Users == 0 {
		return 0
	}
	return float64(a.Converted) / float64(a.Users)
}

func (a Arm) estimate() Estimate {
	m := a.rate()
	return Estimate{State: StateOK, Value: m, Variance: m * (1 - m), Users: a.Users}
}

func (o Options) withDefaults() Options {
	if !(o.Alpha > 0 && o.Alpha < 1) { // written so that NaN becomes the default
		o.Alpha = DefaultAlpha
	}
	if !(o.NStar > 0) { // written so that NaN becomes the default
		o.NStar = DefaultNStar
	}
	o.Alpha = max(o.Alpha, MinAlpha)
	o.NStar = min(max(o.NStar, 1), MaxNStar)
	return o
}
