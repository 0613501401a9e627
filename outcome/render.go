package outcome

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// What a report may take of a terminal of 80 columns.
const (
	nameWidth  = 26
	barWidth   = 30
	mostEvents = 12 // the most frequent ones
)

// WriteText writes the report for a person at a terminal of 80 columns. With color it uses ANSI sequences. Names come from
// event publishers: nothing in them reaches the terminal but printable characters.
func (r *Report) WriteText(w io.Writer, color bool) error {
	p := &page{color: color}
	p.line("%s users · %s events · %s dead letters", p.bold(count(r.Users)), p.bold(count(r.Events)), p.bad(r.DeadLetters))
	if r.LatencyMS.Count > 0 {
		p.line("event to decision: p50 %s ms · p99 %s ms", p.bold(number(r.LatencyMS.P50)), p.bold(number(r.LatencyMS.P99)))
	}
	r.writeEvents(p)
	r.writeJourneys(p)
	r.writeSegments(p)
	r.writeActions(p)
	if r.Experiment != nil {
		r.Experiment.write(p)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

func (r *Report) writeEvents(p *page) {
	if len(r.EventsByName) == 0 {
		return
	}
	p.heading("EVENTS")
	names := slices.SortedFunc(maps.Keys(r.EventsByName), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.EventsByName[b], r.EventsByName[a]), strings.Compare(a, b))
	})
	most := r.EventsByName[names[0]]
	for _, name := range names[:min(len(names), mostEvents)] {
		n := r.EventsByName[name]
		p.line("  %s %10s  %s", column26(name), count(n), p.dim(bar(n, most)))
	}
	if more := len(names) - mostEvents; more > 0 {
		p.line("  %s", p.dim(fmt.Sprintf("and %d more", more)))
	}
}

func (r *Report) writeJourneys(p *page) {
	journey, enrolled := "", uint64(0)
	for i, step := range r.Funnel {
		if step.Journey != journey || i == 0 {
			journey, enrolled = step.Journey, step.Users
			summary := r.Journeys[journey]
			p.heading("JOURNEY %s", clean(journey))
			p.line("  %s", p.dim(fmt.Sprintf("%s enrollments, %s open%s", count(summary.Enrollments), count(summary.Open), reasons(" · ended: ", summary.Ended))))
		}
		paint := p.blue
		if step.Step == "converted" {
			paint = p.green
		}
		p.line("  %s %10s %7s  %s", column26(step.Step), count(step.Users), percent(share(step.Users, enrolled)), paint(bar(step.Users, enrolled)))
	}
}

func (r *Report) writeSegments(p *page) {
	if len(r.Segments) == 0 {
		return
	}
	p.heading("SEGMENTS")
	p.line("  %s", p.dim(fmt.Sprintf("%-*s %10s %10s", nameWidth, "", "now", "ever")))
	most := uint64(0)
	for _, s := range r.Segments {
		most = max(most, s.Ever)
	}
	for _, s := range r.Segments {
		p.line("  %s %10s %10s  %s", column26(s.Segment), count(s.Members), count(s.Ever), p.blue(bar(s.Members, most)))
	}
}

func (r *Report) writeActions(p *page) {
	if len(r.Actions) == 0 {
		return
	}
	p.heading("ACTIONS")
	p.line("  %s", p.dim(fmt.Sprintf("%-*s %10s %10s %10s %10s", nameWidth, "", "decided", "delivered", "failed", "suppressed")))
	for _, a := range r.Actions {
		p.line("  %s %10s %10s %s %10s", column26(a.Action), count(a.Decided), count(a.Delivered), p.badIn(10, a.Failed), count(a.Suppressed))
		if len(a.Reasons) > 0 {
			p.line("  %s", p.dim(reasons("  suppressed for: ", a.Reasons)))
		}
	}
}

// page collects lines.
type page struct {
	strings.Builder

	color bool
}

func (p *page) line(format string, args ...any) {
	p.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

func (p *page) heading(format string, args ...any) {
	p.WriteString("\n" + p.bold(fmt.Sprintf(format, args...)) + "\n")
}

func (p *page) paint(code, s string) string {
	if !p.color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *page) bold(s string) string  { return p.paint("1", s) }
func (p *page) dim(s string) string   { return p.paint("2", s) }
func (p *page) red(s string) string   { return p.paint("31", s) }
func (p *page) green(s string) string { return p.paint("32", s) }
func (p *page) blue(s string) string  { return p.paint("34", s) }

// bad is a count that should be zero.
func (p *page) bad(n uint64) string { return p.badIn(0, n) }

func (p *page) badIn(width int, n uint64) string {
	text := fmt.Sprintf("%*s", width, count(n))
	if n == 0 {
		return text
	}
	return p.red(text)
}

// column26 is a name, cleaned, cut and padded to its column.
func column26(name string) string { return fmt.Sprintf("%-*s", nameWidth, clean(name)) }

// clean leaves printable characters of a name, and not too many.
func clean(name string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name))
	if len(runes) > nameWidth {
		return string(runes[:nameWidth-1]) + "…"
	}
	return string(runes)
}

// bar draws n against most in eighths of a column.
func bar(n, most uint64) string {
	eighths := int(share(n, most)*barWidth*8 + 0.5)
	if eighths == 0 && n > 0 {
		eighths = 1 // what exists can be seen
	}
	text := strings.Repeat("█", min(eighths/8, barWidth))
	if rest := eighths % 8; rest > 0 && eighths/8 < barWidth {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}

func share(n, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// count writes a number in groups of three digits.
func count(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func number(f float64) string  { return strconv.FormatFloat(f, 'f', -1, 64) }
func percent(f float64) string { return strconv.FormatFloat(100*f, 'f', 1, 64) + " %" }

// reasons lists counts by reason, the most frequent first.
func reasons(title string, by map[string]uint64) string {
	if len(by) == 0 {
		return ""
	}
	keys := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(by[b], by[a]), strings.Compare(a, b))
	})
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = clean(cmp.Or(k, "no reason")) + " " + count(by[k])
	}
	return title + strings.Join(parts, ", ")
}
