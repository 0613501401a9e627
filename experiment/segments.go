package experiment

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Segment is the users of a comparison who were in one segment when they met their variant. Segments may overlap; a segment
// that a user entered because of the variant is no segment for this purpose.
type Segment struct {
	Key                string
	Control, Treatment Moments
}

// SegmentReading is what one look says about a segment. Its intervals and adjusted p-values share one error budget with all
// others of the report.
type SegmentReading struct {
	Segment string
	Reading
	AdjustedP float64 // of an effect in the segment, always-valid

	// AgainstRest is how much more the treatment does in the segment than in everybody else: the only figure that says that a
	// segment is different. "Significant here and not there" does not.
	AgainstRest      Effect
	AdjustedRestP    float64 // of a difference from the rest, always-valid
	OppositeToOthers bool    // the segment and the rest have effects of opposite sign, and both may be claimed
}

// SegmentReport is a comparison within segments.
type SegmentReport struct {
	Overall  Reading
	Segments []SegmentReading
	Spread   Spread // StateInvalid where the segments do not share out the users among them

	// Simpson says that the overall effect has the sign that no segment has: the segments' shares differ between the arms, and
	// the overall effect should not be believed.
	Simpson bool

	// Disparity is how the segment with the lowest value stands to that with the highest: 1 is parity, below 0.8 is the usual
	// alarm of a bias audit. Zero where a segment cannot be read or is not above zero.
	DisparityControl, DisparityTreatment float64
}

// CompareSegments reads a metric overall and within segments, with one error budget of opts.Alpha for all that is claimed of
// segments: that there is an effect in one, and that one differs from the rest.
func CompareSegments(metric Metric, control, treatment Moments, segments []Segment, correction Correction, opts Options) SegmentReport {
	opts = opts.withDefaults()
	report := SegmentReport{Overall: Compare(metric, control, treatment, opts)}
	p := make([]float64, 0, 2*len(segments))
	rests := make([]Contrast, len(segments))
	for i, s := range segments {
		r := Compare(metric, s.Control, s.Treatment, opts)
		rest := Compare(metric, control.Without(s.Control), treatment.Without(s.Treatment), opts)
		rests[i] = rest.Contrast
		p = append(p, r.Absolute.Anytime.PValue, r.Contrast.Minus(rest.Contrast).Absolute(opts).Anytime.PValue)
	}
	each, adjusted := opts.share(correction.IntervalAlpha(p, opts.Alpha)), correction.Adjust(p)
	for i, s := range segments {
		r := SegmentReading{Segment: s.Key, Reading: Compare(metric, s.Control, s.Treatment, each), AdjustedP: adjusted[2*i], AdjustedRestP: adjusted[2*i+1]}
		r.AgainstRest = r.Contrast.Minus(rests[i]).Absolute(each)
		rest := rests[i].Absolute(each)
		r.OppositeToOthers = r.Absolute.claimed() && rest.claimed() && r.Absolute.Value*rest.Value < 0
		report.Segments = append(report.Segments, r)
	}
	report.summarize(control, treatment)
	return report
}

func (r *SegmentReport) summarize(control, treatment Moments) {
	contrasts := make([]Contrast, 0, len(r.Segments))
	var users int64
	same, readable := 0, 0
	for _, s := range r.Segments {
		contrasts = append(contrasts, s.Contrast)
		users += s.Control.Users + s.Treatment.Users
		if s.State.Readable() {
			readable++
		}
		if s.Contrast.Difference*r.Overall.Contrast.Difference > 0 {
			same++
		}
	}
	r.Spread = Spread{State: StateInvalid, PValue: 1}
	if users == control.Users()+treatment.Users() {
		r.Spread = Heterogeneity(contrasts)
		r.Simpson = len(r.Segments) > 1 && readable == len(r.Segments) && r.Overall.State.Readable() && r.Overall.Contrast.Difference != 0 && same == 0
	}
	r.DisparityControl = disparity(r.Segments, func(s SegmentReading) Estimate { return s.Control })
	r.DisparityTreatment = disparity(r.Segments, func(s SegmentReading) Estimate { return s.Treatment })
}

// claimed says whether the evidence at every look excludes zero.
func (e Effect) claimed() bool { return e.State.Readable() && !e.Anytime.Contains(0) }

func disparity(segments []SegmentReading, arm func(SegmentReading) Estimate) float64 {
	least, most := math.Inf(1), 0.0
	for _, s := range segments {
		e := arm(s)
		if !e.State.Readable() || e.Value <= 0 {
			return 0
		}
		least, most = min(least, e.Value), max(most, e.Value)
	}
	if most == 0 {
		return 0
	}
	return least / most
}

// Minus returns the difference of two effects on users that are not the same: of a segment and the rest, of two cells. It is
// relative to nothing.
func (c Contrast) Minus(other Contrast) Contrast {
	state := c.State.worse(other.State)
	if !state.Readable() {
		return Contrast{State: state}
	}
	return Contrast{
		State: state, Users: c.Users + other.Users,
		Difference: c.Difference - other.Difference, VarDifference: c.VarDifference + other.VarDifference,
		DF: sumDF(c.VarDifference, c.DF, other.VarDifference, other.DF),
	}
}

// sumDF is Welch's for the sum of two variances with degrees of freedom of their own, zero standing for infinitely many.
func sumDF(va, dfa, vb, dfb float64) float64 {
	if !(va+vb > 0) {
		return 0
	}
	share, slack := va/(va+vb), 0.0
	if dfa > 0 {
		slack += share * share / dfa
	}
	if dfb > 0 {
		slack += (1 - share) * (1 - share) / dfb
	}
	if slack == 0 {
		return 0
	}
	return 1 / slack
}

// Spread says whether effects differ more than chance makes them.
type Spread struct {
	State    State
	Q        float64 // Cochran's (1954)
	DF       float64
	PValue   float64 // of all effects being the same, at one planned look
	ISquared float64 // the share of the spread that is not chance (Higgins and Thompson 2002), in [0,1)
	Pooled   Contrast
}

// Heterogeneity compares the effects of contrasts without common users. Contrasts that cannot be read are left out; at
// least two must be left. Pooled weighs each by its precision.
func Heterogeneity(contrasts []Contrast) Spread {
	var weights, sum, users float64
	n, state := 0, StateOK
	for _, c := range contrasts {
		if c.usable() == "" {
			w := 1 / c.VarDifference
			weights, sum, users, n = weights+w, sum+w*c.Difference, users+c.Users, n+1
			state = state.worse(c.State)
		}
	}
	if n < 2 || math.IsInf(weights, 0) || math.IsNaN(sum) {
		return Spread{State: StateEmptyArm, PValue: 1}
	}
	pooled := Contrast{State: state, Difference: sum / weights, VarDifference: 1 / weights, Users: users}
	s := Spread{State: state, Pooled: pooled, DF: float64(n - 1)}
	for _, c := range contrasts {
		if c.usable() == "" {
			s.Q += square(c.Difference-pooled.Difference) / c.VarDifference
		}
	}
	if math.IsInf(s.Q, 0) || math.IsNaN(s.Q) {
		return Spread{State: StateOverflow, PValue: 1}
	}
	s.PValue = distuv.ChiSquared{K: s.DF}.Survival(s.Q)
	if s.Q > s.DF {
		s.ISquared = 1 - s.DF/s.Q
	}
	return s
}
