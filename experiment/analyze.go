package experiment

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Analyze reads an experiment off its moments. It never fails: what cannot be read has its reason in a state.
func Analyze(spec AnalysisSpec, data AnalysisData) Analysis {
	spec = spec.withDefaults()
	a := &analyst{
		spec: spec, data: data, rows: make(map[rowKey]Row), users: make(map[rowKey]int64),
		opts: Options{Alpha: spec.Alpha, NStar: spec.NStar}.withDefaults(),
	}
	for _, r := range data.Table {
		a.rows[rowKey{r.Metric, r.Variant, r.Segment}] = r
	}
	for _, u := range data.Users {
		a.users[rowKey{"", u.Variant, u.Segment}] += u.Users
	}
	for _, arm := range spec.Arms {
		a.total += a.users[rowKey{"", arm.Variant, ""}]
	}
	report := Analysis{
		Spec: spec, At: data.At, Since: data.Since, Started: data.Started,
		Phases: orEmpty(data.Phases), Excluded: orEmpty(data.Excluded), Notices: orEmpty(data.Notices), Queries: orEmpty(data.Queries),
	}
	report.State, report.Why = a.state()
	report.Arms, report.Size = a.arms(), a.size()
	report.Ratio = a.ratio()
	report.Metrics = a.metrics(report.State, report.Why)
	report.Factors, report.Joint = a.factors(report.State)
	report.Looks = a.looks(report.State)
	report.Verdict = a.decide(&report)
	report.Words = words(&report)
	return report
}

// analyst holds what the parts of one analysis share.
type analyst struct {
	spec  AnalysisSpec
	data  AnalysisData
	opts  Options
	rows  map[rowKey]Row
	users map[rowKey]int64 // of no metric
	total int64            // users of all arms
}

type rowKey struct{ metric, variant, segment string }

func (s AnalysisSpec) withDefaults() AnalysisSpec {
	o := Options{Alpha: s.Alpha, NStar: s.NStar}.withDefaults()
	s.Alpha, s.NStar = o.Alpha, o.NStar
	s.Correction = cmp.Or(s.Correction, CorrectionHolm)
	if s.Control == "" && len(s.Arms) > 0 {
		s.Control = s.Arms[0].Variant
	}
	if s.Primary == "" {
		for _, m := range s.Metrics {
			if m.Role != RoleGuardrail {
				s.Primary = m.Key
				break
			}
		}
	}
	order := []Role{RolePrimary, RoleSecondary, RoleGuardrail}
	s.Arms, s.Metrics = orEmpty(s.Arms), slices.Clone(orEmpty(s.Metrics))
	for i := range s.Metrics {
		m := &s.Metrics[i]
		switch {
		case m.Key == s.Primary:
			m.Role = RolePrimary
		case m.Role == "" || m.Role == RolePrimary:
			m.Role = RoleSecondary
		}
		m.Columns = orEmpty(m.Columns)
	}
	slices.SortStableFunc(s.Metrics, func(a, b MetricSpec) int { return slices.Index(order, a.Role) - slices.Index(order, b.Role) })
	return s
}

// orEmpty keeps lists from becoming null in JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// treatments lists the arms other than control.
func (a *analyst) treatments() []string {
	list := make([]string, 0, len(a.spec.Arms))
	for _, arm := range a.spec.Arms {
		if arm.Variant != a.spec.Control {
			list = append(list, arm.Variant)
		}
	}
	return list
}

// state says whether anything can be read at all, and in words why not.
func (a *analyst) state() (State, string) {
	switch {
	case a.data.Removed != "":
		return StateRemoved, a.data.Removed
	case a.total == 0:
		return StateNoUsers, "nobody has met the experiment"
	}
	for i := 1; i < len(a.data.Phases); i++ {
		before, now := a.data.Phases[i-1], a.data.Phases[i]
		if before.Seed != now.Seed || before.HashVersion != now.HashVersion {
			return StateSeedChanged, fmt.Sprintf("the seed or hash version changed while the experiment ran, so users changed arms: "+
				"read only those who came since %d (Unix ms)", a.data.Phases[len(a.data.Phases)-1].Since)
		}
		if !sameWeights(before.Weights, now.Weights) {
			return StateWeightsChanged, fmt.Sprintf("the weights changed while the experiment ran, so the arms hold different shares of early "+
				"and late users: read only those who came since %d (Unix ms)", a.data.Phases[len(a.data.Phases)-1].Since)
		}
	}
	return StateOK, ""
}

func sameWeights(a, b map[string]float64) bool {
	for _, pair := range [][2]map[string]float64{{a, b}, {b, a}} {
		for variant, w := range pair[0] {
			if math.Abs(w-pair[1][variant]) > sumTolerance {
				return false
			}
		}
	}
	return true
}

// weights are what the users are compared with: those the exposures recorded, each phase by its users; where none were
// recorded, those of the playbook.
func (a *analyst) weights() []float64 {
	weights := make([]float64, len(a.spec.Arms))
	recorded := 0.0
	for _, p := range a.data.Phases {
		for i, arm := range a.spec.Arms {
			w := p.Weights[arm.Variant] * float64(p.Users)
			weights[i], recorded = weights[i]+w, recorded+w
		}
	}
	if recorded > 0 {
		for i := range weights {
			weights[i] /= recorded
		}
		return weights
	}
	for i, arm := range a.spec.Arms {
		weights[i] = arm.Weight
	}
	return weights
}

func (a *analyst) arms() []ArmReading {
	list := make([]ArmReading, len(a.spec.Arms))
	for i, w := range a.weights() {
		arm := a.spec.Arms[i]
		r := ArmReading{ArmSpec: arm, Control: arm.Variant == a.spec.Control, Holdout: arm.Variant == a.spec.Holdout}
		r.Users = a.users[rowKey{"", arm.Variant, ""}]
		r.Expected = float64(a.total) * w
		if a.total > 0 {
			r.Share = float64(r.Users) / float64(a.total)
		}
		list[i] = r
	}
	return list
}

func (a *analyst) size() SizeReading {
	s := SizeReading{Users: a.total, Planned: a.spec.Planned}
	if s.Planned > 0 {
		s.Share, s.Reached = float64(s.Users)/float64(s.Planned), s.Users >= s.Planned
	}
	for _, e := range a.data.Excluded {
		s.Excluded += e.Users
	}
	return s
}

// counts lists the users of the arms, in a segment or in all.
func (a *analyst) counts(segment string) []int64 {
	list := make([]int64, len(a.spec.Arms))
	for i, arm := range a.spec.Arms {
		list[i] = a.users[rowKey{"", arm.Variant, segment}]
	}
	return list
}

func (a *analyst) ratio() RatioReading {
	counts, weights := a.counts(""), a.weights()
	fixed, sequential := SampleRatioMismatch(counts, weights), SampleRatioSequential(counts, weights)
	r := RatioReading{
		Mismatch: sequential.Mismatch, Alarm: SRMAlarm, ChiSquared: fixed.ChiSquared, FixedP: fixed.PValue, AnytimeP: sequential.PValue,
		Dimensions: []DimensionReading{}, How: ratioSteps(a.spec.Arms, counts, weights, fixed),
	}
	for _, key := range a.spec.Segments {
		in := a.counts(key)
		out := make([]int64, len(in))
		for i := range in {
			out[i] = counts[i] - in[i]
		}
		d := a.dimension(key, []Slice{{Value: "in", Users: in}, {Value: "out", Users: out}}, weights)
		r.Dimensions, r.Mismatch = append(r.Dimensions, d), r.Mismatch || d.Mismatch
	}
	r.Sentence = ratioSentence(&r)
	return r
}

// dimension takes the always-valid alarms of the slices; one error budget for all dimensions, as any of them alarms for all.
func (a *analyst) dimension(key string, slices []Slice, weights []float64) DimensionReading {
	found := SampleRatioBy(slices, weights)
	d := DimensionReading{Dimension: key, IndependenceP: found.Independence.PValue, Slices: make([]SliceReading, len(slices))}
	for i, s := range found.Slices {
		d.Slices[i] = SliceReading{
			Value: s.Value, Users: slices[i].Users, FixedP: s.Fixed.PValue, AnytimeP: s.Sequential.PValue,
			Mismatch: s.Sequential.PValue < SRMAlarm/float64(len(slices)*len(a.spec.Segments)),
		}
		d.Mismatch = d.Mismatch || d.Slices[i].Mismatch
	}
	return d
}

func ratioSentence(r *RatioReading) string {
	switch {
	case r.Mismatch:
		return fmt.Sprintf("The users did not arrive in the configured ratio (always-valid p = %s, chi-squared %s): something keeps users of one arm "+
			"from being counted, and no other number here can be trusted until it is found.", short(r.AnytimeP), short(r.ChiSquared))
	case r.FixedP < 0.01:
		return fmt.Sprintf("The users arrived in a ratio that is unusual but no alarm: p = %s at one look, and the alarm is at %s.", short(r.FixedP), short(r.Alarm))
	default:
		return fmt.Sprintf("The users arrived in the configured ratio (p = %s).", short(r.FixedP))
	}
}
