package experiment

import (
	"math"
	"slices"
)

// question is one comparison of a treatment with control.
type question struct {
	metric         *MetricSpec
	treatment      string
	control, other Row
	base           Reading
	adjusted       float64
	share          Options // of the interval's part of the budget
	simultaneous   Reading
}

// read answers the question with these options.
func (q *question) read(opts Options) Reading { return compareRows(q.metric, q.control, q.other, opts) }

// compareRows is Compare, for a quantile too.
func compareRows(m *MetricSpec, control, treatment Row, opts Options) Reading {
	if m.Shape != ShapeQuantile {
		return Compare(m.metric(), control.Moments, treatment.Moments, opts)
	}
	r := Reading{Metric: m.Key}
	c, t := m.quantile(control, opts), m.quantile(treatment, opts)
	r.Control, r.Treatment = Estimate{State: c.State, Value: c.Value, Users: c.Users}, Estimate{State: t.State, Value: t.Value, Users: t.Users}
	if state := c.State.worse(t.State); !state.Readable() {
		r.Absolute, r.Relative, r.State = unreadable(state), unreadable(state), state
		return r
	}
	r.Absolute = CompareQuantiles(control.Sample, treatment.Sample, m.Quantile, opts)
	r.State = r.Absolute.State
	r.Relative = relativeQuantiles(control.Sample, treatment.Sample, m.Quantile, r.Absolute, opts)
	return r
}

// quantile is that of one arm. One that lies at the end of the window is none: who never did it stands there.
func (m *MetricSpec) quantile(row Row, opts Options) QuantileReading {
	if row.Sample.state == "" {
		return QuantileReading{State: StateEmptyArm}
	}
	r := QuantileOf(row.Sample, m.Quantile, opts)
	if r.State.Readable() && m.Censored > 0 && r.Value >= m.Censored {
		return QuantileReading{State: StateNotReached, Users: r.Users}
	}
	return r
}

// relativeQuantiles sets the ends of the arms' own intervals in relation to each other, each at half of alpha.
func relativeQuantiles(control, treatment Sample, q float64, absolute Effect, opts Options) Effect {
	if !absolute.State.Readable() {
		return unreadable(absolute.State)
	}
	half := opts.share(opts.Alpha / 2)
	c, t := QuantileOf(control, q, half), QuantileOf(treatment, q, half)
	switch {
	case c.Value == 0:
		return unreadable(StateZeroBaseline)
	case c.Anytime.LowOpen || c.Fixed.LowOpen || min(c.Anytime.Low, c.Fixed.Low) <= 0:
		return unreadable(StateUnbounded)
	}
	e := Effect{State: absolute.State, Value: t.Value/c.Value - 1}
	e.Anytime = Evidence{Interval: t.Anytime.over(c.Anytime), PValue: absolute.Anytime.PValue}
	e.Fixed = Evidence{Interval: t.Fixed.over(c.Fixed), PValue: absolute.Fixed.PValue}
	return e.checked()
}

// over returns how far a value of i can stand above or below one of other, which is above zero, as a share of it.
func (i Interval) over(other Interval) Interval {
	r := Interval{LowOpen: i.LowOpen || other.HighOpen, HighOpen: i.HighOpen}
	if !r.LowOpen {
		r.Low = i.Low/other.High - 1
	}
	if !r.HighOpen {
		r.High = i.High/other.Low - 1
	}
	return r
}

// ShapeQuantile is the shape of a metric that has samples in place of moments, and ShapeRetention that of one whose users must
// have had their whole window.
const (
	ShapeQuantile  = "quantile"
	ShapeRetention = "retention"
)

// metrics reads all metrics. Where the whole cannot be read, each effect has its state and no number.
func (a *analyst) metrics(state State, why string) []MetricReading {
	list := make([]MetricReading, len(a.spec.Metrics))
	var questions []*question
	for i := range a.spec.Metrics {
		m := &a.spec.Metrics[i]
		list[i] = MetricReading{MetricSpec: *m, Arms: a.armMetrics(m), Effects: []EffectReading{}}
		if limit, ok := a.data.Caps[m.Key]; ok {
			list[i].Cap = &limit
		}
		for _, t := range a.treatments() {
			q := &question{metric: m, treatment: t, control: a.row(m, a.spec.Control, ""), other: a.row(m, t, "")}
			list[i].Query = q.control.Query
			questions = append(questions, q)
		}
	}
	a.answer(questions)
	for i := range list {
		a.effects(&list[i], questions, state, why)
	}
	return list
}

// row is the row of a metric, of nobody where there is none.
func (a *analyst) row(m *MetricSpec, variant, segment string) Row {
	if r, ok := a.rows[rowKey{m.Key, variant, segment}]; ok {
		return r
	}
	return Row{Metric: m.Key, Variant: variant, Segment: segment}
}

// answer reads every question, and gives those of the goals their share of one error budget. A guardrail asks whether harm
// can be ruled out; all of them must pass, which costs no budget.
func (a *analyst) answer(questions []*question) {
	var goals []*question
	var p []float64
	for _, q := range questions {
		q.base = q.read(a.opts)
		q.adjusted, q.share, q.simultaneous = q.base.Absolute.Anytime.PValue, a.opts, q.base
		if q.metric.Role != RoleGuardrail {
			goals, p = append(goals, q), append(p, q.adjusted)
		}
	}
	share := a.opts.share(a.spec.Correction.IntervalAlpha(p, a.opts.Alpha))
	for i, adjusted := range a.spec.Correction.Adjust(p) {
		goals[i].adjusted, goals[i].share, goals[i].simultaneous = adjusted, share, goals[i].read(share)
	}
}

// effects fills in the effects of one metric.
func (a *analyst) effects(m *MetricReading, questions []*question, state State, why string) {
	m.State = StateMissing
	if event := a.data.Unseen[m.Key]; event != "" && state == StateOK {
		state, why = StateUnseenEvent, "the event "+event+" has never come, from anybody: it may be misspelled, or not be published"
	}
	for _, q := range questions {
		if q.metric.Key != m.Key {
			continue
		}
		e := EffectReading{Treatment: q.treatment, Verdict: VerdictUndecided, AdjustedP: 1}
		e.State, e.Why = a.effectState(q, state, why)
		if !e.State.Readable() {
			e.Absolute, e.Relative = unreadMeasure(e.State), unreadMeasure(e.State)
		} else {
			a.effect(&e, q)
		}
		e.Sentence = effectSentence(m, &e, a.spec.Control)
		m.Effects = append(m.Effects, e)
		if len(m.Effects) == 1 || e.State.Readable() && !m.State.Readable() {
			m.State, m.Why = e.State, e.Why
		}
	}
	if m.State.Readable() {
		m.State, m.Why = StateOK, ""
	}
}

// effectState is that of the whole, else that of the question.
func (a *analyst) effectState(q *question, state State, why string) (State, string) {
	if state != StateOK {
		return state, why
	}
	for _, variant := range []string{a.spec.Control, q.treatment} {
		exposed, row := a.users[rowKey{"", variant, ""}], a.row(q.metric, variant, "")
		if exposed > 0 && row.users() == 0 && row.Moments.State() == StateOK && !row.Sample.degraded() {
			if q.metric.Shape == ShapeRetention {
				return StateNotEligible, "no user of " + variant + " has had the whole time the metric looks at"
			}
			if row.Query == "" {
				return StateMissing, "no moments of " + variant + " were counted"
			}
		}
	}
	return q.base.State, stateWords()[q.base.State]
}

func (s Sample) degraded() bool { return s.state != "" && s.state != StateOK }

func (r Row) users() int64 {
	return r.Moments.Users() + r.Sample.users
}

func (a *analyst) effect(e *EffectReading, q *question) {
	m := q.metric
	e.AdjustedP = q.adjusted
	e.Absolute = measured(q.base.Absolute, q.simultaneous.Absolute, q.adjusted)
	e.Relative = measured(q.base.Relative, q.simultaneous.Relative, q.adjusted)
	if m.Shape == ShapeQuantile {
		e.Absolute.How = quantileSteps(q)
	} else {
		e.Absolute.How, e.Relative.How = absoluteSteps(q, a.opts), relativeSteps(q, a.opts)
	}
	if q.adjusted <= a.opts.Alpha {
		e.Verdict = VerdictWorse
		if (e.Absolute.Value > 0) != m.LowerIsBetter {
			e.Verdict = VerdictBetter
		}
	}
	if m.Role == RoleGuardrail {
		g := m.metric().Guard(q.base, a.opts)
		e.Guard = &GuardReading{State: g.State, Verdict: g.Verdict, Margin: m.Margin, Worst: g.Worst, PValue: g.PValue}
		e.Verdict = g.Verdict
	}
	if m.Covariates > 0 {
		e.Adjustment = &AdjustmentReading{
			Covariates: m.Columns[max(0, len(m.Columns)-m.Covariates):], Reduction: q.base.Reduction,
			Unadjusted: q.base.Treatment.Value - q.base.Control.Value,
		}
	}
	if len(a.spec.Segments) > 0 && m.Shape != ShapeQuantile {
		e.Split = a.split(q)
	}
}

func measured(e, simultaneous Effect, adjusted float64) Measure {
	m := Measure{State: e.State, Value: e.Value, SE: e.SE, Anytime: bounds(e.Anytime), Fixed: bounds(e.Fixed), How: []Step{}}
	m.Simultaneous = bounds(simultaneous.Anytime)
	m.Simultaneous.PValue = adjusted
	if !e.State.Readable() {
		m = unreadMeasure(e.State)
	}
	return m
}

func unreadMeasure(state State) Measure {
	none := Bounds{PValue: 1}
	return Measure{State: state, Anytime: none, Fixed: none, Simultaneous: none, How: []Step{}}
}

func bounds(e Evidence) Bounds {
	return Bounds{Low: e.Low, High: e.High, LowOpen: e.LowOpen, HighOpen: e.HighOpen, PValue: e.PValue}
}

func (a *analyst) armMetrics(m *MetricSpec) []ArmMetric {
	list := make([]ArmMetric, len(a.spec.Arms))
	for i, arm := range a.spec.Arms {
		row := a.row(m, arm.Variant, "")
		r := ArmMetric{Variant: arm.Variant, Exposed: a.users[rowKey{"", arm.Variant, ""}], Moments: momentsReading(row.Moments)}
		r.State, r.Users, r.How = StateOK, row.users(), []Step{}
		if r.Exposed > 0 {
			r.Eligible = float64(r.Users) / float64(r.Exposed)
		}
		if m.Shape == ShapeQuantile {
			quantile := m.quantile(row, a.opts)
			r.State, r.Value, r.Fixed = quantile.State, quantile.Value, bounds(Evidence{Interval: quantile.Fixed, PValue: 1})
		} else {
			a.armValue(&r, m, row)
		}
		for _, s := range a.data.Steps {
			if s.Metric == m.Key && s.Variant == arm.Variant {
				f := FunnelReading{Step: s.Step, Users: s.Users}
				if r.Exposed > 0 {
					f.Share = float64(s.Users) / float64(r.Exposed)
				}
				r.Funnel = append(r.Funnel, f)
			}
		}
		list[i] = r
	}
	return list
}

// armValue reads the value of an arm off its moments.
func (a *analyst) armValue(r *ArmMetric, m *MetricSpec, row Row) {
	e := m.metric().Of(row.Moments)
	r.State, r.Fixed = e.State, Bounds{PValue: 1}
	if !e.State.Readable() {
		return
	}
	r.Value, r.SE = e.Value, math.Sqrt(e.Variance/float64(e.Users))
	reach := fixedMultiple(a.opts.Alpha, 0) * r.SE
	r.Fixed.Low, r.Fixed.High = r.Value-reach, r.Value+reach
	r.How = armSteps(m, row, e)
}

func momentsReading(m Moments) MomentsReading {
	r := MomentsReading{Users: m.Users(), Sums: []float64{}, Products: []float64{}}
	for i := range m.Columns() {
		r.Sums = append(r.Sums, m.Sum(i))
		for j := i; j < m.Columns(); j++ {
			r.Products = append(r.Products, m.Product(i, j))
		}
	}
	return r
}

// split reads the effect within segments. Each split gets its part of the budget: one for every goal and treatment.
func (a *analyst) split(q *question) *SplitReading {
	splits := 0
	for _, m := range a.spec.Metrics {
		if m.Shape != ShapeQuantile {
			splits += len(a.treatments())
		}
	}
	opts := a.opts.share(a.opts.Alpha / float64(max(splits, 1)))
	segments := make([]Segment, 0, len(a.spec.Segments))
	for _, key := range a.spec.Segments {
		s := Segment{Key: key, Control: a.row(q.metric, a.spec.Control, key).Moments, Treatment: a.row(q.metric, q.treatment, key).Moments}
		segments = append(segments, s)
	}
	r := CompareSegments(q.metric.metric(), q.control.Moments, q.other.Moments, segments, a.spec.Correction, opts)
	split := &SplitReading{
		State: r.Spread.State, Alpha: opts.Alpha, Q: r.Spread.Q, SpreadP: r.Spread.PValue, ISquared: r.Spread.ISquared, Simpson: r.Simpson,
		DisparityControl: r.DisparityControl, DisparityTreatment: r.DisparityTreatment, Segments: make([]SegmentEffect, len(r.Segments)),
	}
	for i, s := range r.Segments {
		alone := Compare(q.metric.metric(), segments[i].Control, segments[i].Treatment, a.opts)
		s.AdjustedP, s.AdjustedRestP = min(1, s.AdjustedP*float64(splits)), min(1, s.AdjustedRestP*float64(splits))
		split.Segments[i] = segmentEffect(s, alone)
		part := *q
		part.control.Moments, part.other.Moments, part.base = segments[i].Control, segments[i].Treatment, alone
		if alone.State.Readable() {
			split.Segments[i].Absolute.How = absoluteSteps(&part, a.opts)
		}
	}
	return split
}

func segmentEffect(s SegmentReading, alone Reading) SegmentEffect {
	return SegmentEffect{
		Segment: s.Segment, ControlUsers: s.Control.Users, Users: s.Treatment.Users, ControlValue: s.Control.Value, Value: s.Treatment.Value,
		Absolute: measured(alone.Absolute, s.Absolute, s.AdjustedP), Relative: measured(alone.Relative, s.Relative, s.AdjustedP),
		AdjustedP: s.AdjustedP, AgainstRest: measured(s.AgainstRest, s.AgainstRest, s.AdjustedRestP), AdjustedRestP: s.AdjustedRestP,
		Opposite: s.OppositeToOthers,
	}
}

// looks reads the primary metric at earlier moments.
func (a *analyst) looks(state State) []Look {
	i := slices.IndexFunc(a.spec.Metrics, func(m MetricSpec) bool { return m.Role == RolePrimary })
	if i < 0 || state != StateOK || a.spec.Metrics[i].Shape == ShapeQuantile {
		return nil
	}
	metric := a.spec.Metrics[i].metric()
	rows := make(map[int64]map[string]Moments)
	var moments []int64
	for _, l := range a.data.Looks {
		if rows[l.At] == nil {
			rows[l.At], moments = make(map[string]Moments), append(moments, l.At)
		}
		rows[l.At][l.Variant] = l.Moments
	}
	slices.Sort(moments)
	var list []Look
	for _, t := range a.treatments() {
		running := 1.0
		for _, at := range moments {
			r := Compare(metric, rows[at][a.spec.Control], rows[at][t], a.opts)
			running = min(running, r.Absolute.Anytime.PValue)
			look := Look{At: at, Treatment: t, Users: r.Control.Users + r.Treatment.Users, State: r.Relative.State, RunningP: running}
			look.Lift, look.Anytime, look.Fixed = r.Relative.Value, bounds(r.Relative.Anytime), bounds(r.Relative.Fixed)
			list = append(list, look)
		}
	}
	return list
}
