package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What the columns of a time line may take.
const (
	expectedWidth = 44
	gotWidth      = 60
)

// Text writes a failed scenario for a person at a terminal: the first difference, then everything on one time line, expected
// beside got. With color it uses ANSI sequences.
func (r *Report) Text(color bool) string {
	var b strings.Builder
	paint := func(code, text string) string {
		if !color {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	for i, f := range r.Failures {
		text := fmt.Sprintf("%s:%d: %s", r.File, max(f.Line, r.Line), f.Message)
		if i == 0 {
			text = paint("1", text)
		}
		b.WriteString("  " + printable(text) + "\n")
	}
	if len(r.rows) == 0 {
		return b.String()
	}
	wide, stamp, widest := 0, 0, len("expected")
	for i := range r.rows {
		wide = max(wide, utf8.RuneCountInString(r.scenario.offset(r.rows[i].at)))
		stamp = max(stamp, utf8.RuneCountInString(r.scenario.local(r.rows[i].at)))
		widest = max(widest, min(expectedWidth, utf8.RuneCountInString(r.rows[i].expected)))
	}
	fmt.Fprintf(&b, "\n    %s  %s  %s  %s\n", pad("", wide), pad("", stamp), pad("expected", widest), "got")
	first := slices.IndexFunc(r.rows, func(row row) bool { return row.differs })
	for i := range r.rows {
		row := &r.rows[i]
		mark := "  "
		switch {
		case i == first:
			mark = "▶ "
		case row.differs:
			mark = "✗ "
		}
		text := fmt.Sprintf("  %s%s  %s  ", mark, pad(r.scenario.offset(row.at), wide), pad(r.scenario.local(row.at), stamp))
		if row.event != "" {
			text += cut(row.event, expectedWidth+gotWidth)
		} else {
			text += pad(cut(row.expected, expectedWidth), widest) + "  " + cut(row.got, gotWidth)
		}
		text = strings.TrimRight(printable(text), " ")
		if row.differs {
			text = paint("31", text)
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

func cut(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return text
}

// printable keeps what a publisher wrote from moving the cursor.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
