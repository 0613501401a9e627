package outcome

import (
	"cmp"
	"fmt"
	"math"
	"strings"

	"github.com/onramphq/onramp/experiment"
)

// axisWidth is the width of the drawn interval.
const axisWidth = 64

func (e *Experiment) write(p *page) {
	p.heading("EXPERIMENT %s", clean(e.Key))
	metric := "no goal met yet"
	if e.Metric != "" {
		metric = "share of users that reached " + clean(e.Metric)
	}
	p.line("  %s", p.dim(metric))
	most := max(e.ControlRate, e.TreatmentRate)
	for _, a := range []struct {
		name             string
		users, converted int64
		rate             float64
	}{
		{e.Control, e.ControlUsers, e.ControlConverted, e.ControlRate}, {e.Treatment, e.TreatmentUsers, e.TreatmentConverted, e.TreatmentRate},
	} {
		of := fmt.Sprintf("%s of %s", count(uint64(max(a.converted, 0))), count(uint64(max(a.users, 0))))
		filled := 0.0
		if most > 0 {
			filled = a.rate / most
		}
		p.line("  %-16s %18s %8s  %s", clean(cmp.Or(a.name, "no other variant")), of, percent(a.rate), p.blue(bar(uint64(filled*10_000), 10_000)))
	}
	e.writeLift(p)
	e.writeWarnings(p)
}

func (e *Experiment) writeLift(p *page) {
	switch e.State {
	case experiment.StateOK, experiment.StateFewConversions:
	default:
		p.line("\n  no lift to show: %s", stateText(e.State))
		return
	}
	paint, verdict := p.dim, "not decided yet: the interval holds zero"
	switch {
	case e.State == experiment.StateFewConversions:
		verdict = stateText(e.State)
	case e.Low > 0:
		paint, verdict = p.green, "the treatment is better"
	case e.High < 0:
		paint, verdict = p.red, "the treatment is worse"
	}
	p.line("\n  lift %s   interval %s to %s, however often you look", p.bold(signed(e.Lift)), signed(e.Low), signed(e.High))
	axis, labels := e.draw()
	p.line("  %s", paint(axis))
	p.line("  %s", p.dim(labels))
	p.line("  %s", paint(verdict))
	if e.Planted != nil {
		inside := "inside the interval"
		if *e.Planted < e.Low || *e.Planted > e.High {
			inside = p.red("outside the interval")
		}
		p.line("  ◆ the truth, planted beforehand: %s, %s", signed(*e.Planted), inside)
	}
}

func (e *Experiment) writeWarnings(p *page) {
	if e.SRMP < experiment.SRMAlarm {
		p.line("  %s", p.red(fmt.Sprintf("sample ratio mismatch (p = %.2g): an arm lost users, trust nothing above", e.SRMP)))
	} else if e.ControlUsers+e.TreatmentUsers > 0 {
		p.line("  %s", p.dim(fmt.Sprintf("users arrived in the ratio asked for (p = %.2f)", e.SRMP)))
	}
	if e.MixedUsers > 0 {
		p.line("  %s", p.red(fmt.Sprintf("%d users met two variants; each counts under the first", e.MixedUsers)))
	}
}

// draw shows the interval on an axis that holds zero, the interval, and the planted truth, and the numbers beneath it.
func (e *Experiment) draw() (axis, labels string) {
	low, high := min(e.Low, 0), max(e.High, 0)
	if e.Planted != nil {
		low, high = min(low, *e.Planted), max(high, *e.Planted)
	}
	margin := (high - low) / 20
	if margin == 0 {
		margin = 0.01
	}
	low, high = low-margin, high+margin
	place := func(v float64) int {
		return min(axisWidth-1, max(0, int(math.Round((v-low)/(high-low)*(axisWidth-1)))))
	}
	cells := []rune(strings.Repeat("─", axisWidth))
	for i := place(e.Low); i <= place(e.High); i++ {
		cells[i] = '▓'
	}
	cells[place(0)] = '┼'
	cells[place(e.Lift)] = '█'
	if e.Planted != nil {
		cells[place(*e.Planted)] = '◆'
	}
	under := []rune(strings.Repeat(" ", axisWidth+8))
	end := -2
	for _, l := range []struct {
		at   int
		text string
	}{{place(min(e.Low, 0)), signedOrZero(min(e.Low, 0))}, {place(clamp(0, e.Low, e.High)), signedOrZero(clamp(0, e.Low, e.High))}, {place(max(e.High, 0)), signedOrZero(max(e.High, 0))}} {
		from := max(0, l.at-len(l.text)/2)
		if from <= end+1 { // no room: the numbers above say it too
			continue
		}
		copy(under[from:], []rune(l.text))
		end = from + len([]rune(l.text)) - 1
	}
	return string(cells), string(under)
}

// clamp returns the point of [low, high] nearest to v.
func clamp(v, low, high float64) float64 { return min(max(v, low), high) }

func signedOrZero(f float64) string {
	if f == 0 {
		return "0"
	}
	return signed(f)
}

// signed writes a share as a signed percentage.
func signed(f float64) string { return fmt.Sprintf("%+.1f %%", 100*f) }

func stateText(s experiment.State) string {
	switch s {
	case experiment.StateFewConversions:
		return fmt.Sprintf("too early to claim anything: an arm has fewer than %d conversions", experiment.MinConversions)
	case experiment.StateEmptyArm:
		return "nobody has met one of the variants yet"
	case experiment.StateZeroBaseline:
		return "nobody in control has converted yet"
	case experiment.StateZeroVariance:
		return "all users of both arms did the same"
	case experiment.StateOK:
		return "ok"
	case experiment.StateInvalid:
		return "more conversions than users: the rows contradict themselves"
	default:
		return string(s)
	}
}
