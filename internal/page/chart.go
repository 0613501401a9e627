package page

import (
	"fmt"
	"html/template"
	"strings"
)

// Measures of a picture, in pixels.
const (
	chartWidth  = 420
	chartHeight = 56
	mostPoints  = chartWidth / 2
)

// colors tell reasons apart, also for those who see few of them; the first is what is sent.
func colors() []string {
	return []string{"#0072b2", "#e69f00", "#999999", "#cc79a7", "#d55e00", "#56b4e9", "#009e73", "#f0e442"}
}

func colorOf(i int) template.CSS {
	return template.CSS(colors()[i%len(colors())]) //nolint:gosec // one of ours
}

// thin brings a series to at most so many points, each the value of the last bucket in it, or the sum of all.
func thin(series []int64, buckets, most int, sum bool) []int64 {
	points := min(buckets, most)
	out := make([]int64, points)
	for i, n := range series {
		at := i * points / buckets
		if sum {
			out[at] += n
		} else {
			out[at] = n
		}
	}
	return out
}

func open(b *strings.Builder, label string) {
	fmt.Fprintf(b, `<svg role="img" aria-label="%s" width="%d" height="%d" viewBox="0 0 %d %d" preserveAspectRatio="none">`,
		template.HTMLEscapeString(label), chartWidth, chartHeight, chartWidth, chartHeight)
}

func highest(series []int64) int64 {
	top := int64(1)
	for _, n := range series {
		top = max(top, n)
	}
	return top
}

// area draws a number over time.
func area(series []int64, buckets int) template.HTML {
	var b strings.Builder
	points := thin(series, max(buckets, 1), mostPoints, false)
	top := highest(points)
	open(&b, fmt.Sprintf("members over time, at most %d", top))
	var line strings.Builder
	step := float64(chartWidth) / float64(max(1, len(points)-1))
	for i, n := range points {
		fmt.Fprintf(&line, "%.1f,%.1f ", float64(i)*step, y(n, top))
	}
	if len(points) == 1 {
		fmt.Fprintf(&line, "%d,%.1f ", chartWidth, y(points[0], top))
	}
	fmt.Fprintf(&b, `<polygon points="0,%d %s%d,%d" fill="#0072b2" fill-opacity=".14"/><polyline points="%s" fill="none" stroke="#0072b2" stroke-width="1.5" vector-effect="non-scaling-stroke"/></svg>`,
		chartHeight, line.String(), chartWidth, chartHeight, strings.TrimSpace(line.String()))
	return template.HTML(b.String()) //nolint:gosec // numbers of ours
}

// columns draws stacked columns: what is sent at the bottom, what is held back above it.
func columns(stack [][]int64, buckets int) template.HTML {
	var b strings.Builder
	layers := make([][]int64, len(stack))
	var total []int64
	for i, series := range stack {
		layers[i] = thin(series, max(buckets, 1), mostPoints/2, true)
		if total == nil {
			total = make([]int64, len(layers[i]))
		}
		for at, n := range layers[i] {
			total[at] += n
		}
	}
	top := highest(total)
	open(&b, fmt.Sprintf("actions over time, at most %d", top))
	width := float64(chartWidth) / float64(len(total))
	base := make([]int64, len(total))
	for i, series := range layers {
		for at, n := range series {
			if n == 0 {
				continue
			}
			upper := y(base[at]+n, top)
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`,
				float64(at)*width, upper, max(1, width-1), y(base[at], top)-upper, colorOf(i))
			base[at] += n
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // numbers of ours
}

// y is where a number stands; two pixels of air above the highest.
func y(n, top int64) float64 {
	return chartHeight - float64(n)/float64(top)*(chartHeight-2)
}
