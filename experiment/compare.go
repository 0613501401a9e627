package experiment

// Reading is what one look says about one metric of a treatment and its control.
type Reading struct {
	Metric             string
	State              State // that of Absolute
	Control, Treatment Estimate
	Contrast           Contrast
	Absolute, Relative Effect
	Reduction          float64 // share of the variance of the difference that covariates and strata took away; zero where none were used
}

// Compare reads one metric off the moments of two arms. Where the metric is a proportion with few conversions the evidence
// comes from the binomials themselves, and elsewhere from the normal approximation. Each keeps alpha; that one hands over to
// the other on the way could cost up to twice alpha in theory, and is far below it in simulation. What cannot be read has its
// reason in the states; no number of a reading is NaN or infinite.
func Compare(metric Metric, control, treatment Moments, opts Options) Reading {
	opts = opts.withDefaults()
	return compareStrata(metric, []Segment{{Control: control, Treatment: treatment}}, control, treatment, opts)
}

// compareStrata reads a metric off strata that share out the users of two arms.
func compareStrata(metric Metric, strata []Segment, control, treatment Moments, opts Options) Reading {
	r := Reading{Metric: metric.Key, Control: metric.Of(control), Treatment: metric.Of(treatment)}
	r.Contrast = NewContrast(r.Control, r.Treatment)
	switch {
	case metric.Kind == KindProportion && r.Contrast.State == StateFewConversions:
		r.Absolute, r.Relative = binomialsOf(control, treatment).exactEffects(opts)
		r.State = r.Absolute.State
		return r
	case metric.Covariates > 0 || len(strata) > 1:
		r.adjust(metric, strata)
	case metric.Kind == KindProportion:
		r.Contrast.DF = 0 // a z-test, as is usual for rates
	}
	r.Absolute, r.Relative = r.Contrast.Absolute(opts), r.Contrast.Relative(opts)
	r.State = r.Absolute.State
	return r
}

func binomialsOf(control, treatment Moments) binomials {
	c, t := control.Sum(0), treatment.Sum(0)
	return binomials{yesC: c, noC: float64(control.Users()) - c, yesT: t, noT: float64(treatment.Users()) - t}
}
