package results

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/onramphq/onramp/experiment"
)

// Measures of the drawings, in units of their view box.
const (
	plotWidth  = 860.0
	labelWidth = 210.0 // to the left of a forest
	textWidth  = 250.0 // to its right
	rowHeight  = 40.0
	axisHeight = 40.0

	timeHeight = 280.0
	timeLeft   = 64.0
	timeRight  = 16.0
)

// scale takes values to places.
type scale struct{ low, high, from, to float64 }

func (s scale) at(v float64) float64 {
	if s.high == s.low {
		return s.from
	}
	return round(s.from + (v-s.low)/(s.high-s.low)*(s.to-s.from))
}

// clip is at, kept within the drawing; out says on which side v lies beyond it.
func (s scale) clip(v float64) (place float64, out int) {
	switch {
	case v < s.low:
		return s.from, -1
	case v > s.high:
		return s.to, 1
	default:
		return s.at(v), 0
	}
}

// round keeps a drawing short: a tenth of a unit is less than can be seen.
func round(v float64) float64 { return math.Round(v*10) / 10 }

// tick is a line of an axis.
type tick struct {
	At   float64
	Text string
	Zero bool
}

// ticks returns about n round values on the scale.
func (s scale) ticks(n int, write func(v, step float64) string) []tick {
	span := s.high - s.low
	if !(span > 0) || math.IsInf(span, 0) {
		return nil
	}
	step := math.Pow(10, math.Floor(math.Log10(span/float64(n))))
	for _, factor := range []float64{1, 2, 5, 10} {
		if span/(step*factor) <= float64(n) {
			step *= factor
			break
		}
	}
	var all []tick
	for i := math.Ceil(s.low / step); i*step <= s.high; i++ {
		all = append(all, tick{At: s.at(i * step), Text: write(i*step, step), Zero: i == 0})
	}
	return all
}

// liftTick writes a tick with no more decimals than the step needs.
func liftTick(v, step float64) string {
	decimals := max(0, -int(math.Floor(math.Log10(100*step)+1e-9)))
	return plus(v, fixed(100*v, decimals)) + " %"
}

// forest is intervals, one under the other on one axis.
type forest struct {
	Title  string
	Height float64
	Width  float64
	Left   float64 // where the axis begins
	Right  float64
	Foot   float64 // where its numbers stand
	Text   float64 // where the texts to the right begin
	Ticks  []tick
	Rows   []forestRow
}

// forestRow is one effect.
type forestRow struct {
	Label, Sub string
	Class      string // better, worse, undecided, unread
	Y          float64
	Wide       *bar // at every look, for all questions at once
	Band       *bar // at every look
	Thin       *bar // at one planned look
	Point      float64
	HasPoint   bool
	Margin     *tick // of a guardrail
	Text       string
	SubText    string
}

// bar is an interval; an end beyond the drawing has an arrow.
type bar struct {
	X, W      float64
	Low, High bool // the end lies in the drawing
}

// End is where the bar ends.
func (b *bar) End() float64 { return round(b.X + b.W) }

// row is what a forest is made of.
type row struct {
	label, sub, class string
	effect            experiment.Measure
	band, wide        experiment.Bounds // wide may be missing
	leads             bool              // the axis is chosen for this one
	margin            float64
	text, subText     string
}

func newForest(title string, rows []row) *forest {
	s := forestScale(rows)
	f := &forest{
		Title: title, Width: plotWidth, Left: s.from, Right: s.to, Text: s.to + 16,
		Height: float64(len(rows))*rowHeight + axisHeight, Foot: float64(len(rows))*rowHeight + 20,
		Ticks: s.ticks(6, liftTick),
	}
	for i, r := range rows {
		f.Rows = append(f.Rows, r.place(s, float64(i)*rowHeight+rowHeight/2))
	}
	return f
}

func (r row) place(s scale, y float64) forestRow {
	placed := forestRow{Label: r.label, Sub: r.sub, Class: r.class, Y: y, Text: r.text, SubText: r.subText}
	if r.margin != 0 {
		if at, out := s.clip(r.margin); out == 0 {
			placed.Margin = &tick{At: at, Text: "margin " + lift(r.margin)}
		}
	}
	if !r.effect.State.Readable() {
		return placed
	}
	placed.Band, placed.Thin = s.bar(r.band), s.bar(r.effect.Fixed)
	if r.wide != (experiment.Bounds{}) {
		placed.Wide = s.bar(r.wide)
	}
	at, out := s.clip(r.effect.Value)
	placed.Point, placed.HasPoint = at, out == 0
	return placed
}

func (s scale) bar(b experiment.Bounds) *bar {
	low, outLow := s.from, -1
	if !b.LowOpen {
		low, outLow = s.clip(b.Low)
	}
	high, outHigh := s.to, 1
	if !b.HighOpen {
		high, outHigh = s.clip(b.High)
	}
	return &bar{X: low, W: round(max(high-low, 1)), Low: outLow == 0, High: outHigh == 0}
}

// forestScale holds zero and the leading intervals. Others are cut where they reach three times further, so that one wide
// interval does not make all the rest a dot.
func forestScale(rows []row) scale {
	s := scale{from: labelWidth, to: plotWidth - textWidth}
	reach := func(leading bool) (low, high float64) {
		for _, r := range rows {
			if r.leads != leading || !r.effect.State.Readable() {
				continue
			}
			low, high = min(low, r.effect.Value), max(high, r.effect.Value)
			for _, b := range []experiment.Bounds{r.band, r.wide} {
				if !b.LowOpen {
					low = min(low, b.Low)
				}
				if !b.HighOpen {
					high = max(high, b.High)
				}
			}
		}
		return low, high
	}
	s.low, s.high = reach(true)
	low, high := reach(false)
	if most := 3 * max(-s.low, s.high); most > 0 {
		low, high = max(low, -most), min(high, most)
	}
	s.low, s.high = min(s.low, low), max(s.high, high)
	margin := (s.high - s.low) / 20
	if margin == 0 {
		margin = 0.01
	}
	s.low, s.high = s.low-margin, s.high+margin
	return s
}

// timeline is an effect over time.
type timeline struct {
	Title         string
	ID            string // of its clip path
	Width, Height float64
	Left, Right   float64
	Top, Bottom   float64
	Band          string // points of a polygon
	FixedLow      string // points of lines
	FixedHigh     string
	Line          string
	Dots          []dot
	Ticks         []tick
	Days          []tick
}

// Inner and Depth are the measures of the part that is drawn on.
func (t *timeline) Inner() float64 { return round(t.Right - t.Left) }

// Depth is the height of that part.
func (t *timeline) Depth() float64 { return round(t.Bottom - t.Top) }

type dot struct{ X, Y float64 }

// newTimeline draws the looks of one treatment. It returns nil where fewer than two can be read.
func newTimeline(id, title string, looks []experiment.Look) *timeline {
	read := make([]experiment.Look, 0, len(looks))
	for _, l := range looks {
		if l.State.Readable() {
			read = append(read, l)
		}
	}
	if len(read) < 2 {
		return nil
	}
	x := scale{low: float64(read[0].At), high: float64(read[len(read)-1].At), from: timeLeft, to: plotWidth - timeRight}
	y := timeScale(read)
	t := &timeline{
		Title: title, ID: id, Width: plotWidth, Height: timeHeight, Left: timeLeft, Right: plotWidth - timeRight, Top: y.to, Bottom: y.from,
		Ticks: y.ticks(6, liftTick), Days: dayTicks(x),
	}
	var band, back, low, high, line []string
	for _, l := range read {
		at := x.at(float64(l.At))
		point := func(v float64) string { return fmt.Sprintf("%g,%g", at, y.near(v)) }
		band = append(band, point(end(l.Anytime.LowOpen, l.Anytime.Low, math.Inf(-1))))
		back = append(back, point(end(l.Anytime.HighOpen, l.Anytime.High, math.Inf(1))))
		low = append(low, point(end(l.Fixed.LowOpen, l.Fixed.Low, math.Inf(-1))))
		high = append(high, point(end(l.Fixed.HighOpen, l.Fixed.High, math.Inf(1))))
		line = append(line, point(l.Lift))
		t.Dots = append(t.Dots, dot{at, y.near(l.Lift)})
	}
	for _, p := range slices.Backward(back) {
		band = append(band, p)
	}
	t.Band, t.FixedLow, t.FixedHigh, t.Line = strings.Join(band, " "), strings.Join(low, " "), strings.Join(high, " "), strings.Join(line, " ")
	return t
}

func end(open bool, v, far float64) float64 {
	if open {
		return far
	}
	return v
}

// near is at, not further than one height beyond the drawing, which cuts it.
func (s scale) near(v float64) float64 {
	span := s.high - s.low
	return s.at(min(max(v, s.low-span), s.high+span))
}

// timeScale holds zero, every lift, and the intervals of the later half: the first ones are so wide that they would hide the rest.
func timeScale(looks []experiment.Look) scale {
	s := scale{from: timeHeight - axisHeight, to: 12}
	for i, l := range looks {
		if i < len(looks)/2 {
			continue
		}
		s.low, s.high = min(s.low, l.Lift), max(s.high, l.Lift)
		if !l.Anytime.LowOpen {
			s.low = min(s.low, l.Anytime.Low)
		}
		if !l.Anytime.HighOpen {
			s.high = max(s.high, l.Anytime.High)
		}
	}
	margin := (s.high - s.low) / 20
	if margin == 0 {
		margin = 0.01
	}
	s.low, s.high = s.low-margin, s.high+margin
	return s
}

// dayTicks are about six moments of a time axis, at whole days or hours.
func dayTicks(x scale) []tick {
	const minute, hour, day = 60_000.0, 3_600_000.0, 86_400_000.0
	span := x.high - x.low
	step := span
	for _, s := range []float64{minute, 5 * minute, 15 * minute, hour, 3 * hour, 6 * hour, day, 2 * day, 7 * day, 14 * day, 28 * day, 91 * day, 364 * day} {
		if span/s <= 7 {
			step = s
			break
		}
	}
	if !(step > 0) {
		return nil
	}
	var all []tick
	for at := math.Ceil(x.low/step) * step; at <= x.high; at += step {
		text := shortDay(int64(at))
		if step < day {
			text = shortTime(int64(at))
		}
		all = append(all, tick{At: x.at(at), Text: text})
	}
	return all
}

// columns is users per step and arm, as bars.
type columns struct {
	Title  string
	Width  float64
	Height float64
	Left   float64
	Bars   []columnBar
	Labels []columnLabel
}

type columnLabel struct {
	Y    float64
	Text string
}

type columnBar struct {
	X, Y, W, H float64
	Arm        int // 0 is the first arm
	Text       string
	TextX      float64
	TextY      float64
}

const (
	columnHeight = 16.0
	columnGap    = 14.0
)

// newColumns draws a funnel: bars as shares of the users of the arm, because the arms may differ in size.
func newColumns(title string, all []int64, steps []FunnelStep) *columns {
	c := &columns{Title: title, Width: plotWidth, Left: labelWidth}
	room := plotWidth - labelWidth - 150
	y := 4.0
	for _, step := range steps {
		c.Labels = append(c.Labels, columnLabel{Y: y + float64(len(all))*columnHeight/2 + 4, Text: step.Step})
		for i, users := range step.Users {
			part := 0.0
			if i < len(all) && all[i] > 0 {
				part = min(1, max(0, float64(users)/float64(all[i])))
			}
			w := round(max(part*room, 0.5))
			c.Bars = append(c.Bars, columnBar{
				X: labelWidth, Y: y, W: w, H: columnHeight - 3, Arm: i, TextX: labelWidth + w + 8, TextY: y + columnHeight - 5,
				Text: fmt.Sprintf("%s · %s", percent(part), count(users)),
			})
			y += columnHeight
		}
		y += columnGap
	}
	c.Height = y
	return c
}
