package experiment

// Reading is what one look says about one metric of a treatment and its control.
type Reading struct {
	Metric             string
	State              State // that of Absolute
	Control, Treatment Estimate
	Contrast           Contrast
	Absolute, Relative Effect
	Reduction          float64 // share of the variance of the difference that the covariates took away; zero where none were used
}

// Compare reads one metric off the moments of two arms. Where the metric is a proportion with few conversions the evidence
// comes from the binomials themselves, and elsewhere from the normal approximation. What cannot be read has its reason in
// the states; no number of a reading is NaN or infinite.
func Compare(metric Metric, control, treatment Moments, opts Options) Reading {
	opts = opts.withDefaults()
	r := Reading{Metric: metric.Key, Control: metric.Of(control), Treatment: metric.Of(treatment)}
	r.Contrast, r.Reduction = metric.contrast(control, treatment, r.Control, r.Treatment)
	if metric.Kind == KindProportion && r.Contrast.State == StateFewConversions {
		counts := binomials{yesC: control.Sum(0), yesT: treatment.Sum(0)}
		counts.noC, counts.noT = float64(r.Control.Users)-counts.yesC, float64(r.Treatment.Users)-counts.yesT
		r.Absolute, r.Relative = counts.exactEffects(opts)
		r.Reduction = 0
	} else {
		r.Absolute, r.Relative = r.Contrast.Absolute(opts), r.Contrast.Relative(opts)
	}
	r.State = r.Absolute.State
	return r
}

// contrast returns the contrast of two arms, adjusted where the metric says so.
func (m Metric) contrast(control, treatment Moments, c, t Estimate) (Contrast, float64) {
	plain := NewContrast(c, t)
	if m.Kind == KindProportion {
		plain.DF = 0 // a z-test, as is usual for rates
	}
	return plain, 0
}
