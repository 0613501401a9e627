package results

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // for the shape of the page
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/onramphq/onramp/experiment"
)

//go:embed page.html
var shape string

//go:embed page.css
var style string

// Policy is the Content-Security-Policy under which the page works: its one style sheet and nothing else.
func Policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}

// WriteHTML writes results as one page that works offline.
func WriteHTML(w io.Writer, r *Results) error {
	parsed, err := template.New("page").Funcs(template.FuncMap{
		"people": people, "count": count, "percent": percent, "digits": digits, "pvalue": pvalue, "moment": moment, "exact": exact, "plain": plain,
		"armClass": func(i int) int { return i % 5 },
	}).Parse(shape)
	if err != nil {
		return fmt.Errorf("read page: %w", err)
	}
	var b bytes.Buffer // whole or not at all
	if err := parsed.Execute(&b, newView(r)); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// view is results with what the page draws of them.
type view struct {
	*Results

	Style       template.CSS
	Policy      string
	Class       string // of the verdict
	Facts       string
	PrimaryKey  string
	Confidence  float64
	Effects     *forest
	Timelines   []*timeline
	MetricViews []metricView
	Funnels     []*columns
	Splits      []splitView
	FactorRows  []splitRow
	WordList    []wordView
}

type wordView struct{ Word, Meaning string }

// metricView is a metric as a list of numbers that open.
type metricView struct {
	ID, Key, Role, Definition, Why string
	Sentences                      []string
	Numbers                        []number
}

// number is one figure, and how it was computed.
type number struct {
	Name, Value, Rest, Class string
	Words                    []string
	Moments                  string
	Steps                    []experiment.Step
	Query                    string // name
}

// splitView is an effect within segments.
type splitView struct {
	Title, Control, Treatment string
	Words                     []string
	Forest                    *forest
	Rows                      []splitRow
}

type splitRow struct{ Segment, Users, Control, Treated, Lift, Rest, P string }

func newView(r *Results) *view {
	v := &view{
		Results: r, Style: template.CSS(style), Policy: Policy(), Class: decisionClass(r.Verdict.Code), Facts: facts(r), //nolint:gosec // our own style sheet
		Confidence: 1 - r.Spec.Alpha, PrimaryKey: r.Spec.Primary,
	}
	for _, word := range slices.Sorted(maps.Keys(r.Words)) {
		v.WordList = append(v.WordList, wordView{word, r.Words[word]})
	}
	v.effects()
	v.timelines()
	v.funnels()
	for i := range r.Metrics {
		v.MetricViews = append(v.MetricViews, v.metric(i))
		v.splits(&r.Metrics[i])
	}
	for _, f := range r.Factors {
		v.FactorRows = append(v.FactorRows, factorRow(r, f))
	}
	return v
}

func decisionClass(code experiment.DecisionCode) string {
	switch code {
	case experiment.DecideWinner:
		return "better"
	case experiment.DecideLoser, experiment.DecideStop, experiment.DecideDistrust:
		return "worse"
	case experiment.DecideNothing:
		return "unread"
	case experiment.DecideWait, experiment.DecideNoGain:
		return "undecided"
	default:
		return "undecided"
	}
}

func verdictClass(v experiment.Verdict) string {
	switch v {
	case experiment.VerdictBetter, experiment.VerdictSafe:
		return "better"
	case experiment.VerdictWorse, experiment.VerdictBreached:
		return "worse"
	case experiment.VerdictUndecided:
		return "undecided"
	default:
		return "undecided"
	}
}

// facts are what a reader wants to know first: how many, since when, up to when.
func facts(r *Results) string {
	parts := []string{people(r.Size.Users)}
	if r.Size.Planned > 0 {
		parts[0] += " of " + count(r.Size.Planned) + " planned"
	}
	if r.Started > 0 {
		parts = append(parts, fmt.Sprintf("since %s (%s)", date(r.Started), lasted(r.At-r.Started)))
	}
	if r.At > 0 {
		parts = append(parts, "counted up to "+moment(r.At))
	}
	if r.Since > 0 {
		parts = append(parts, "who met it before "+moment(r.Since)+" are left out")
	}
	return strings.Join(parts, " · ")
}

// effects draws every metric of every treatment.
func (v *view) effects() {
	var rows []row
	for i := range v.Metrics {
		m := &v.Metrics[i]
		for j := range m.Effects {
			e := &m.Effects[j]
			rows = append(rows, effectRow(m, e, len(m.Effects) > 1, m.Key == v.Spec.Primary || v.Spec.Primary == "" && i == 0))
		}
	}
	if len(rows) > 0 {
		v.Effects = newForest("Relative effects with their intervals", rows)
	}
}

func effectRow(m *experiment.MetricReading, e *experiment.EffectReading, several, leads bool) row {
	r := row{
		label: m.Key, sub: string(m.Role), class: verdictClass(e.Verdict), effect: e.Relative, band: e.Relative.Anytime, wide: e.Relative.Simultaneous, leads: leads,
	}
	if several {
		r.sub = e.Treatment
	}
	if e.Guard != nil && e.Guard.Margin > 0 {
		r.margin = -e.Guard.Margin
		if m.LowerIsBetter {
			r.margin = e.Guard.Margin
		}
		r.class = verdictClass(e.Guard.Verdict)
	}
	if !e.Relative.State.Readable() {
		r.class = "unread"
		r.text, r.subText = unreadText(e.Relative.State), ""
		return r
	}
	r.text = lift(e.Relative.Value)
	r.subText = lifts(cmp.Or(e.Relative.Simultaneous, e.Relative.Anytime))
	return r
}

func unreadText(s experiment.State) string {
	return "nothing to read: " + strings.ReplaceAll(string(s), "_", " ")
}

// timelines draws the primary metric over time, a drawing per treatment.
func (v *view) timelines() {
	byTreatment := map[string][]experiment.Look{}
	var order []string
	for _, l := range v.Looks {
		if _, known := byTreatment[l.Treatment]; !known {
			order = append(order, l.Treatment)
		}
		byTreatment[l.Treatment] = append(byTreatment[l.Treatment], l)
	}
	for i, treatment := range order {
		if t := newTimeline(fmt.Sprintf("time%d", i), treatment, byTreatment[treatment]); t != nil {
			v.Timelines = append(v.Timelines, t)
		}
	}
}

// funnels draws the funnels among the metrics, and the journeys.
func (v *view) funnels() {
	all := make([]int64, len(v.Arms))
	for i := range v.Arms {
		all[i] = v.Arms[i].Users
	}
	for i := range v.Metrics {
		if steps := metricFunnel(&v.Metrics[i], v.Arms); len(steps) > 0 {
			v.Funnels = append(v.Funnels, newColumns(v.Metrics[i].Key, all, steps))
		}
	}
	for _, j := range v.Journeys {
		if len(j.Steps) > 0 {
			v.Funnels = append(v.Funnels, newColumns("Journey "+j.Journey, all, j.Steps))
		}
	}
}

// metricFunnel turns the funnels of the arms into steps.
func metricFunnel(m *experiment.MetricReading, arms []experiment.ArmReading) []FunnelStep {
	var steps []FunnelStep
	for i := range arms {
		at := slices.IndexFunc(m.Arms, func(a experiment.ArmMetric) bool { return a.Variant == arms[i].Variant })
		if at < 0 {
			continue
		}
		for j, s := range m.Arms[at].Funnel {
			if j >= len(steps) {
				steps = append(steps, FunnelStep{Step: s.Step, Users: make([]int64, len(arms))})
			}
			steps[j].Users[i] = s.Users
		}
	}
	return steps
}

func (v *view) metric(i int) metricView {
	m := &v.Metrics[i]
	mv := metricView{ID: fmt.Sprintf("metric-%d", i), Key: m.Key, Role: string(m.Role), Definition: m.Definition, Why: m.Why}
	if m.Cap != nil {
		mv.Definition += capText(m)
	}
	if !m.State.Readable() {
		return mv // Why says it once for all
	}
	for j := range m.Arms {
		mv.Numbers = append(mv.Numbers, armNumber(m, &m.Arms[j]))
	}
	for j := range m.Effects {
		e := &m.Effects[j]
		if e.Sentence != "" {
			mv.Sentences = append(mv.Sentences, e.Sentence)
		}
		mv.Numbers = append(mv.Numbers, v.effectNumbers(m, e)...)
	}
	return mv
}

func capText(m *experiment.MetricReading) string {
	text := fmt.Sprintf(" Values above %s count as that, in every variant", amount(m.Cap.Value, m.Unit))
	if m.Cap.Percentile > 0 {
		text += fmt.Sprintf(" (the percentile %g of the values other than zero)", m.Cap.Percentile)
	}
	return text + fmt.Sprintf("; so do those of %s.", people(m.Cap.Users))
}

func armNumber(m *experiment.MetricReading, a *experiment.ArmMetric) number {
	n := number{Name: a.Variant, Steps: a.How, Query: m.Query, Moments: momentsText(m, a), Value: unreadText(a.State)}
	if a.State.Readable() || a.State == experiment.StateOneUser {
		n.Value = amount(a.Value, m.Unit)
	}
	n.Rest = "of " + people(a.Users)
	if m.Kind == experiment.KindProportion && len(a.Moments.Sums) > 0 {
		n.Rest = count(int64(a.Moments.Sums[0])) + " of " + people(a.Users)
	}
	if a.Exposed > a.Users {
		n.Rest += fmt.Sprintf(" whose time has come (%s exposed)", count(a.Exposed))
	}
	if a.State.Readable() {
		n.Rest += "; " + amounts(a.Fixed, m.Unit) + " at one look"
	}
	return n
}

// momentsText lists the sums behind a number.
func momentsText(m *experiment.MetricReading, a *experiment.ArmMetric) string {
	if len(a.Moments.Sums) == 0 {
		return ""
	}
	parts := []string{"users " + count(a.Moments.Users)}
	name := func(i int) string {
		if i < len(m.Columns) {
			return m.Columns[i]
		}
		return fmt.Sprintf("column %d", i)
	}
	for i, s := range a.Moments.Sums {
		parts = append(parts, fmt.Sprintf("Σ %s = %s", name(i), exact(s)))
	}
	k := 0
	for i := range a.Moments.Sums {
		for j := i; j < len(a.Moments.Sums) && k < len(a.Moments.Products); j, k = j+1, k+1 {
			of := name(i) + "²"
			if i != j {
				of = name(i) + " · " + name(j)
			}
			parts = append(parts, fmt.Sprintf("Σ %s = %s", of, exact(a.Moments.Products[k])))
		}
	}
	return strings.Join(parts, ", ")
}

// effectNumbers are the figures of one treatment.
func (v *view) effectNumbers(m *experiment.MetricReading, e *experiment.EffectReading) []number {
	if !e.State.Readable() {
		return []number{{Name: e.Treatment, Value: unreadText(e.State), Rest: e.Why, Class: "unread"}}
	}
	class := verdictClass(e.Verdict)
	all := []number{
		measureNumber("Difference, "+e.Treatment, class, &e.Absolute, change(e.Absolute.Value, m.Unit), func(b experiment.Bounds) string { return changes(b, m.Unit) }),
		measureNumber("Lift, "+e.Treatment, class, &e.Relative, lift(e.Relative.Value), lifts),
	}
	if p, tested := v.pooled(m.Key, e.Treatment); tested {
		all[0].Words = append(all[0].Words, fmt.Sprintf("By the pooled test that most tools report, at one planned look: p %s. Ours keeps the variance of each arm, so that it agrees with its interval.", significant(p)))
	}
	if a := e.Adjustment; a != nil {
		all = append(all, number{
			Name: "Adjusted on covariates", Value: percent(a.Reduction), Rest: "of the variance taken away",
			Words: []string{fmt.Sprintf("Covariates: %s. Without them the difference is %s.", strings.Join(a.Covariates, ", "), change(a.Unadjusted, m.Unit))},
		})
	}
	if g := e.Guard; g != nil {
		n := number{Name: "Guardrail, " + e.Treatment, Value: string(g.Verdict), Class: verdictClass(g.Verdict)}
		if g.State.Readable() {
			n.Rest = fmt.Sprintf("the worst that the data still allow is %s, where %s is accepted; p %s", lift(g.Worst), lift(-g.Margin), pvalue(g.PValue))
		} else {
			n.Rest = unreadText(g.State)
		}
		n.Words = []string{"One-sided and always-valid: the guardrail is safe once the worst that the data still allow is better than the margin, and breached once even the best is worse."}
		all = append(all, n)
	}
	return all
}

func measureNumber(name, class string, e *experiment.Measure, value string, write func(experiment.Bounds) string) number {
	if !e.State.Readable() {
		return number{Name: name, Value: unreadText(e.State), Class: "unread", Steps: e.How}
	}
	n := number{
		Name: name, Value: value, Class: class, Steps: e.How,
		Rest: fmt.Sprintf("%s at every look, p %s", write(e.Anytime), pvalue(e.Anytime.PValue)),
		Words: []string{
			fmt.Sprintf("At one planned look: %s, p %s.", write(e.Fixed), pvalue(e.Fixed.PValue)),
		},
	}
	if e.Simultaneous != (experiment.Bounds{}) {
		n.Words = append(n.Words, fmt.Sprintf("At every look and for all questions of the experiment at once: %s, p %s.", write(e.Simultaneous), pvalue(e.Simultaneous.PValue)))
	}
	return n
}

// splits draws the effects of a metric within segments.
func (v *view) splits(m *experiment.MetricReading) {
	for i := range m.Effects {
		e := &m.Effects[i]
		if e.Split == nil || len(e.Split.Segments) == 0 {
			continue
		}
		s := splitView{Title: m.Key, Control: v.Spec.Control, Treatment: e.Treatment, Words: splitWords(e.Split)}
		if len(m.Effects) > 1 {
			s.Title += ", " + e.Treatment
		}
		rows := []row{{label: "everybody", effect: e.Relative, band: e.Relative.Anytime, class: verdictClass(e.Verdict), leads: true, text: liftText(&e.Relative), subText: rangeText(&e.Relative, e.Relative.Anytime)}}
		for j := range e.Split.Segments {
			g := &e.Split.Segments[j]
			rows = append(rows, row{
				label: g.Segment, sub: people(g.ControlUsers + g.Users), effect: g.Relative, band: g.Relative.Simultaneous, class: "undecided",
				text: liftText(&g.Relative), subText: rangeText(&g.Relative, g.Relative.Simultaneous),
			})
			s.Rows = append(s.Rows, segmentRow(m, g))
		}
		s.Forest = newForest("The effect within segments, with intervals that hold for all segments at once", rows)
		v.Splits = append(v.Splits, s)
	}
}

func liftText(e *experiment.Measure) string {
	if !e.State.Readable() {
		return unreadText(e.State)
	}
	return lift(e.Value)
}

func rangeText(e *experiment.Measure, b experiment.Bounds) string {
	if !e.State.Readable() {
		return ""
	}
	return lifts(b)
}

func segmentRow(m *experiment.MetricReading, g *experiment.SegmentEffect) splitRow {
	r := splitRow{
		Segment: g.Segment, Users: count(g.ControlUsers + g.Users), Control: amount(g.ControlValue, m.Unit), Treated: amount(g.Value, m.Unit),
		Lift: liftText(&g.Relative), Rest: "–", P: "–",
	}
	if g.AgainstRest.State.Readable() {
		r.Rest, r.P = change(g.AgainstRest.Value, m.Unit), pvalue(g.AdjustedRestP)
	}
	if g.Opposite {
		r.P += " opposite"
	}
	return r
}

// splitWords say what may be said of segments, and what may not.
func splitWords(s *experiment.SplitReading) []string {
	different := 0
	for i := range s.Segments {
		if s.Segments[i].AgainstRest.State.Readable() && s.Segments[i].AdjustedRestP <= cmp.Or(s.Alpha, experiment.DefaultAlpha) {
			different++
		}
	}
	var words []string
	switch {
	case different > 0:
		words = append(words, fmt.Sprintf("%d of %d segments differ from the rest.", different, len(s.Segments)))
	default:
		words = append(words, "No segment is shown to differ from the rest: read the overall effect for all of them.")
	}
	if s.State.Readable() && s.Q > 0 {
		words = append(words, fmt.Sprintf("Heterogeneity: Q = %s, p %s at one planned look; %s of the spread is more than chance.", digits(s.Q), pvalue(s.SpreadP), percent(s.ISquared)))
	}
	if s.Simpson {
		words = append(words, "The overall effect has a sign that no segment has: the segments are not shared alike between the variants. Do not believe the overall effect.")
	}
	if s.DisparityControl > 0 && s.DisparityTreatment > 0 {
		words = append(words, fmt.Sprintf("The lowest segment stands at %s of the highest in control, and at %s in the treatment; 100 %% is parity.", percent(s.DisparityControl), percent(s.DisparityTreatment)))
	}
	return words
}

func factorRow(r *Results, f experiment.FactorReading) splitRow {
	unit := ""
	if len(r.Metrics) > 0 {
		unit = r.Metrics[0].Unit
	}
	parts := make([]string, 0, len(f.Factors))
	for i, factor := range f.Factors {
		if i < len(f.Levels) {
			factor += " = " + f.Levels[i]
		}
		parts = append(parts, factor)
	}
	row := splitRow{Segment: strings.Join(parts, " × "), Lift: unreadText(f.Effect.State), Rest: "–", P: "–"}
	if f.Effect.State.Readable() {
		row.Lift, row.Rest, row.P = change(f.Effect.Value, unit), changes(f.Effect.Anytime, unit), pvalue(f.AdjustedP)
	}
	return row
}
