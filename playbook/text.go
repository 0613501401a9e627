package playbook

import "strings"

// Fonts every viewer has one of, and the sizes in use.
const (
	fontText   = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
	fontCode   = "Menlo, Consolas, 'DejaVu Sans Mono', monospace"
	headerSize = 19
	titleSize  = 13
	bodySize   = 12
	labelSize  = 12
)

// textWidth is how wide a text is at most, in pixels, whichever of the fonts the viewer has. Text in a fixed width is set
// one size smaller.
func textWidth(text string, size int, fixed bool) int {
	hundredths := 0
	for _, r := range text {
		switch {
		case r > 0x2e7f: // Chinese, Japanese, Korean, emoji
			hundredths += 110
		case fixed:
			hundredths += 56 // 0.61 of the smaller size
		case strings.ContainsRune(" .,:;'|!iljtfrI()[]{}·", r):
			hundredths += 40
		case strings.ContainsRune("mwMW@%→…", r) || r > 0x24f:
			hundredths += 100
		case r >= 'A' && r <= 'Z':
			hundredths += 76
		default:
			hundredths += 62
		}
	}
	return (hundredths*size + 99) / 100
}

// cut shortens a text to a width.
func cut(text string, width, size int, fixed bool) string {
	if textWidth(text, size, fixed) <= width {
		return text
	}
	runes := []rune(text)
	for len(runes) > 0 && textWidth(string(runes)+"…", size, fixed) > width {
		runes = runes[:len(runes)-1]
	}
	return strings.TrimRight(string(runes), " ") + "…"
}

// wrap breaks a text into lines of a width, at spaces where there are any, and cuts what is more than most lines.
func wrap(c caption, width, size, most int) []string {
	var lines []string
	line := ""
	words := strings.Fields(visible(c.text))
	for i, word := range words {
		longer := strings.TrimLeft(line+" "+word, " ")
		if textWidth(longer, size, c.code) <= width {
			line = longer
			continue
		}
		if len(lines)+1 == most { // the last line takes the rest, cut
			return append(lines, cut(strings.TrimLeft(line+" "+strings.Join(words[i:], " "), " "), width, size, c.code))
		}
		if line != "" {
			lines = append(lines, line)
		}
		line = word
		for textWidth(line, size, c.code) > width && len(lines)+1 < most {
			head := cut(line, width, size, c.code)
			kept := strings.TrimSuffix(head, "…")
			lines, line = append(lines, kept), strings.TrimPrefix(line, kept)
		}
	}
	return append(lines, cut(line, width, size, c.code))
}

// fit wraps texts into at most so many lines.
func fit(texts []caption, width, most int) []caption {
	var lines []caption
	for i, t := range texts {
		left := most - len(lines) - (len(texts) - i - 1) // every text gets a line
		for _, line := range wrap(t, width, bodySize, max(1, min(3, left))) {
			lines = append(lines, caption{line, t.code})
		}
	}
	if len(lines) > most {
		lines = append(lines[:most-1], caption{text: "…"})
	}
	return lines
}
