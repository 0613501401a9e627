package results

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/onramphq/onramp/experiment"
)

// What the text may take of a terminal.
const (
	textColumns = 100
	nameColumns = 22
	axisColumns = 44
	barColumns  = 40
)

// WriteText writes results for a person at a terminal of 100 columns. With color it uses ANSI sequences. Nothing of a name
// reaches the terminal but printable characters.
func WriteText(w io.Writer, r *Results, color bool) error {
	p := &paper{color: color}
	p.line("%s%s", p.bold("EXPERIMENT "+clean(r.Spec.Experiment)), p.dim(before("  ", clean(r.Spec.Description))))
	p.line("%s", p.dim(facts(r)))
	p.verdict(r)
	p.users(r)
	p.metrics(r)
	p.over(r)
	p.funnels(r)
	p.segments(r)
	if r.AnalysisID != "" {
		p.line("\n%s", p.dim("kept as analysis "+clean(r.AnalysisID)+" in analysis_snapshots; --html FILE shows how each number was computed"))
	}
	if _, err := io.WriteString(w, p.String()); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// WriteOverviews lists experiments, a line each.
func WriteOverviews(w io.Writer, all []Overview, color bool) error {
	p := &paper{color: color}
	if len(all) == 0 {
		p.line("No experiment: the playbook in force has none, and nobody has met any.")
	} else {
		p.line("%s", p.dim(fmt.Sprintf("%s %10s  %s", pad("experiment", nameColumns), "users", "")))
	}
	for _, o := range all {
		p.line("%s %10s  %s", pad(clean(o.Experiment), nameColumns), count(o.Users), p.class(decisionClass(o.Verdict), clean(o.Headline)))
	}
	if _, err := io.WriteString(w, p.String()); err != nil {
		return fmt.Errorf("write overview: %w", err)
	}
	return nil
}

// paper collects lines.
type paper struct {
	strings.Builder

	color bool
}

func (p *paper) line(format string, args ...any) {
	p.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

func (p *paper) paint(code, s string) string {
	if !p.color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *paper) bold(s string) string { return p.paint("1", s) }
func (p *paper) dim(s string) string  { return p.paint("2", s) }

// class paints what is better green and what is worse red.
func (p *paper) class(class, s string) string {
	switch class {
	case "better":
		return p.paint("32", s)
	case "worse":
		return p.paint("31", s)
	case "unread":
		return p.dim(s)
	default:
		return p.paint("34", s)
	}
}

func (p *paper) heading(s string) { p.line("\n%s", p.bold(s)) }

func (p *paper) verdict(r *Results) {
	p.line("\n%s", p.class(decisionClass(r.Verdict.Code), p.bold(clean(r.Verdict.Headline))))
	for _, reason := range r.Verdict.Reasons {
		p.wrap("  · ", clean(reason))
	}
	for _, n := range r.Notices {
		text := clean(n.Message)
		if n.Metric != "" {
			text = clean(n.Metric) + ": " + text
		}
		if n.Users > 0 {
			text += " (" + people(n.Users) + ")"
		}
		p.wrap("  ! ", text)
	}
}

// wrap writes a text over as many lines as it needs.
func (p *paper) wrap(lead, text string) {
	line := lead
	indent := strings.Repeat(" ", utf8.RuneCountInString(lead))
	for word := range strings.FieldsSeq(text) {
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > textColumns && strings.TrimSpace(line) != "" && line != lead {
			p.line("%s", line)
			line = indent
		}
		if line != lead && line != indent {
			line += " "
		}
		line += word
	}
	p.line("%s", line)
}

func (p *paper) users(r *Results) {
	p.heading("USERS")
	p.line("  %s", p.dim(fmt.Sprintf("%s %10s %12s %9s", pad("", nameColumns), "users", "expected", "share")))
	for i := range r.Arms {
		a := &r.Arms[i]
		note := ""
		if a.Control && a.Variant != "control" {
			note = "  control"
		}
		p.line("  %s %10s %12s %9s%s", pad(clean(a.Variant), nameColumns), count(a.Users), fixed(a.Expected, 1), percent(a.Share), p.dim(note))
	}
	paint := p.dim
	if r.Ratio.Mismatch {
		paint = func(s string) string { return p.class("worse", s) }
	}
	p.line("  %s", paint(clean(r.Ratio.Sentence)))
	p.line("  %s", p.dim(fmt.Sprintf("sample ratio: p %s at every look, %s at one planned look, alarm below %s", pvalue(r.Ratio.AnytimeP), pvalue(r.Ratio.FixedP), strconv.FormatFloat(r.Ratio.Alarm, 'g', -1, 64))))
	for _, e := range r.Excluded {
		p.wrap("  left out: ", fmt.Sprintf("%s, %s: %s", people(e.Users), clean(e.Reason), clean(e.Why)))
	}
}

func (p *paper) metrics(r *Results) {
	if len(r.Metrics) == 0 {
		return
	}
	p.heading("METRICS")
	p.line("  %s", p.dim("░ holds at every look for all questions at once   ▒ for this question alone   ▓ at one planned look   █ estimate"))
	for i := range r.Metrics {
		m := &r.Metrics[i]
		p.line("\n  %s %s", p.bold(clean(m.Key)), p.dim(string(m.Role)+before(" · ", clean(m.Definition))))
		if m.Cap != nil {
			p.wrap("  ", clean(strings.TrimSpace(capText(m))))
		}
		if !m.State.Readable() {
			p.wrap("    ", clean(cmp.Or(m.Why, unreadText(m.State))))
			continue
		}
		for j := range m.Arms {
			p.arm(m, &m.Arms[j])
		}
		axis := textAxis(m)
		for j := range m.Effects {
			p.effect(&m.Effects[j], axis)
			p.difference(r, m, &m.Effects[j])
		}
		if slices.ContainsFunc(m.Effects, func(e experiment.EffectReading) bool { return e.Relative.State.Readable() }) {
			p.line("    %s %16s  %s", pad("", nameColumns), "", p.dim(axis.ends()))
		}
	}
}

func (p *paper) arm(m *experiment.MetricReading, a *experiment.ArmMetric) {
	n := armNumber(m, a)
	p.line("    %s %16s  %s", pad(clean(a.Variant), nameColumns), clean(n.Value), p.dim(clean(n.Rest)))
}

func (p *paper) effect(e *experiment.EffectReading, axis scale) {
	name := pad(clean(e.Treatment), nameColumns)
	if !e.Relative.State.Readable() {
		p.line("    %s %s", name, p.dim(clean(cmp.Or(e.Why, unreadText(e.Relative.State)))))
		return
	}
	class := verdictClass(e.Verdict)
	if e.Guard != nil {
		class = verdictClass(e.Guard.Verdict)
	}
	b := cmp.Or(e.Relative.Simultaneous, e.Relative.Anytime)
	p.line("    %s %16s  %s", name, p.bold(lift(e.Relative.Value)), p.class(class, axis.draw(&e.Relative)))
	p.line("    %s %16s  %s", pad("", nameColumns), "", p.dim(fmt.Sprintf("%s, p %s; at one look %s, p %s",
		lifts(b), pvalue(e.AdjustedP), lifts(e.Relative.Fixed), pvalue(e.Absolute.Fixed.PValue))))
	if g := e.Guard; g != nil && g.State.Readable() {
		p.line("    %s %16s  %s", pad("", nameColumns), "", p.class(class, fmt.Sprintf("%s: the worst that the data allow is %s, where %s is accepted", g.Verdict, lift(g.Worst), lift(-g.Margin))))
	}
}

// difference is the effect in the metric's own unit. A share also has the p-value that most tools print.
func (p *paper) difference(r *Results, m *experiment.MetricReading, e *experiment.EffectReading) {
	if !e.Absolute.State.Readable() {
		return
	}
	text := fmt.Sprintf("%s; at one look %s", change(e.Absolute.Value, m.Unit), changes(e.Absolute.Fixed, m.Unit))
	if pooled, tested := r.pooled(m.Key, e.Treatment); tested {
		text += ", p " + significant(pooled) + " by the pooled test"
	}
	p.line("    %s %16s  %s", pad("", nameColumns), "", p.dim(text))
}

// textAxis holds zero and the intervals of a metric.
func textAxis(m *experiment.MetricReading) scale {
	var rows []row
	for i := range m.Effects {
		e := &m.Effects[i]
		rows = append(rows, row{effect: e.Relative, band: e.Relative.Anytime, wide: e.Relative.Simultaneous, leads: true})
	}
	s := forestScale(rows)
	s.from, s.to = 0, axisColumns-1
	return s
}

// ends writes what the two ends of an axis are.
func (s scale) ends() string {
	low, high := lift(s.low), lift(s.high)
	return low + strings.Repeat(" ", max(1, axisColumns-utf8.RuneCountInString(low+high))) + high
}

// draw shows intervals in characters: the widest first, the others over it.
func (s scale) draw(e *experiment.Measure) string {
	cells := []rune(strings.Repeat("─", axisColumns))
	place := func(v float64) int {
		at, _ := s.clip(v)
		return min(max(int(math.Round(at)), 0), axisColumns-1)
	}
	for _, layer := range []struct {
		b    experiment.Bounds
		rune rune
	}{{e.Simultaneous, '░'}, {e.Anytime, '▒'}, {e.Fixed, '▓'}} {
		if layer.b == (experiment.Bounds{}) {
			continue
		}
		low, high := 0, axisColumns-1
		if !layer.b.LowOpen {
			low = place(layer.b.Low)
		}
		if !layer.b.HighOpen {
			high = place(layer.b.High)
		}
		for i := low; i <= high; i++ {
			cells[i] = layer.rune
		}
	}
	cells[place(0)] = '┼'
	cells[place(e.Value)] = '█'
	return string(cells)
}

// over shows the primary metric over time, the newest looks.
func (p *paper) over(r *Results) {
	const most = 14
	looks := map[string][]experiment.Look{}
	var order []string
	for _, l := range r.Looks {
		if l.State.Readable() {
			if looks[l.Treatment] == nil {
				order = append(order, l.Treatment)
			}
			looks[l.Treatment] = append(looks[l.Treatment], l)
		}
	}
	for _, treatment := range order {
		all := looks[treatment]
		if len(all) < 2 {
			continue
		}
		shown := all[max(0, len(all)-most):]
		p.heading(fmt.Sprintf("OVER TIME  %s, %s", clean(r.Spec.Primary), clean(treatment)))
		s := timeScale(shown)
		s.from, s.to = 0, axisColumns-1
		for _, l := range shown {
			m := experiment.Measure{Value: l.Lift, Anytime: l.Anytime, Fixed: l.Fixed}
			p.line("    %s %10s  %10s  %s", moment(l.At), count(l.Users), lift(l.Lift), s.draw(&m))
		}
		p.line("%s%s", strings.Repeat(" ", 50), p.dim(s.ends()))
	}
}

func (p *paper) funnels(r *Results) {
	all := make([]int64, len(r.Arms))
	for i := range r.Arms {
		all[i] = r.Arms[i].Users
	}
	for _, j := range r.Journeys {
		if len(j.Steps) == 0 {
			continue
		}
		p.heading("FUNNEL BY VARIANT  journey " + clean(j.Journey))
		for _, s := range j.Steps {
			for i, users := range s.Users {
				name := ""
				if i == 0 {
					name = s.Step
				}
				part := 0.0
				if i < len(all) && all[i] > 0 {
					part = min(1, float64(users)/float64(all[i]))
				}
				p.line("  %s %s %9s %8s  %s", pad(clean(name), nameColumns), pad(clean(r.Arms[min(i, len(r.Arms)-1)].Variant), 16), count(users), percent(part), p.paint("34", strings.Repeat("█", int(math.Round(part*barColumns/2)))))
			}
		}
	}
}

func (p *paper) segments(r *Results) {
	for i := range r.Metrics {
		for j := range r.Metrics[i].Effects {
			e := &r.Metrics[i].Effects[j]
			if e.Split == nil || len(e.Split.Segments) == 0 || r.Metrics[i].Key != r.Spec.Primary {
				continue
			}
			p.heading(fmt.Sprintf("SEGMENTS  %s, %s", clean(r.Metrics[i].Key), clean(e.Treatment)))
			for _, words := range splitWords(e.Split) {
				p.wrap("  ", words)
			}
			p.line("  %s", p.dim(fmt.Sprintf("%s %9s %12s %12s %10s  %s", pad("", nameColumns), "users", "control", "treatment", "lift", "more than in the rest")))
			for k := range e.Split.Segments {
				s := segmentRow(&r.Metrics[i], &e.Split.Segments[k])
				p.line("  %s %9s %12s %12s %10s  %s, p %s", pad(clean(s.Segment), nameColumns), s.Users, s.Control, s.Treated, s.Lift, s.Rest, s.P)
			}
		}
	}
}

// clean leaves what a terminal only shows.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// pad brings a text to a width; one that is longer is cut.
func pad(text string, width int) string {
	n := utf8.RuneCountInString(text)
	if n > width {
		return string([]rune(text)[:width-1]) + "…"
	}
	return text + strings.Repeat(" ", width-n)
}

func before(lead, text string) string {
	if text == "" {
		return ""
	}
	return lead + text
}
