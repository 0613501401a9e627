package experiment

// Verdict is what may be claimed of a metric at this look. It holds however often one looks: each wrong claim has chance
// alpha at most.
type Verdict string

// The verdicts: better and worse of a goal, safe and breached of a guardrail.
const (
	VerdictUndecided Verdict = "undecided"
	VerdictBetter    Verdict = "better"
	VerdictWorse     Verdict = "worse"
	VerdictSafe      Verdict = "safe"     // the loss is smaller than the margin
	VerdictBreached  Verdict = "breached" // the loss is larger than the margin
)

// Verdict returns what may be claimed of a goal: whether the anytime-valid interval of the difference leaves zero, and to
// which side.
func (m Metric) Verdict(r Reading) Verdict {
	i := r.Absolute.Anytime.Interval
	if !r.Absolute.State.Readable() || i.Contains(0) {
		return VerdictUndecided
	}
	if (i.Low > 0) != m.LowerIsBetter {
		return VerdictBetter
	}
	return VerdictWorse
}

// Guard is what may be claimed of a guardrail: a test of non-inferiority.
type Guard struct {
	State   State
	Verdict Verdict
	Worst   float64 // the worst relative effect that the data still allow, anytime-valid and one-sided: −0.01 is a loss of 1 %
	PValue  float64 // always-valid, of a loss as large as the margin or larger
}

// Guard tests whether the treatment loses less than the margin, by a one-sided confidence sequence of the relative effect.
// Where conversions are few it takes the two-sided interval, which is the more careful.
func (m Metric) Guard(r Reading, opts Options) Guard {
	opts = opts.withDefaults()
	g := Guard{State: r.Relative.State, Verdict: VerdictUndecided, PValue: 1}
	if !g.State.Readable() {
		return g
	}
	sign := 1.0
	if m.LowerIsBetter {
		sign = -1
	}
	gain, best := sign*r.Relative.Value, r.Relative.Anytime.High
	if r.Relative.SE > 0 {
		reach := opts.anytimeMultipleOneSided(r.Contrast.Users) * r.Relative.SE
		g.Worst, best = gain-reach, gain+reach
		g.PValue = opts.anytimePOneSided((gain+m.Margin)/r.Relative.SE, r.Contrast.Users)
	} else {
		g.Worst = r.Relative.Anytime.Low
		if m.LowerIsBetter {
			g.Worst, best = -best, -g.Worst
		}
		if g.Worst > -m.Margin {
			g.PValue = opts.Alpha // the likelihood has no one-sided p-value here: what is known is that it is below
		}
	}
	switch {
	case g.Worst > -m.Margin:
		g.Verdict = VerdictSafe
	case best < -m.Margin:
		g.Verdict = VerdictBreached
	}
	return g
}
