package main

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// pageWidth is how many columns a page takes at most; tables fold their widest column to fit.
const pageWidth = 120

// markdown writes a page of Markdown, as journey.Explain makes it, for a terminal: headings, lists, strong words and tables, nothing
// raw.
func markdown(page string, color bool) string {
	var b strings.Builder
	p := paint(color)
	lines := strings.Split(strings.TrimRight(page, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(line, "|"):
			var rows [][]string
			for ; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
				rows = append(rows, cells(lines[i]))
			}
			i--
			if len(rows) > 2 { // header and rule alone say nothing
				table(&b, p, rows[0], rows[2:])
			}
		case strings.HasPrefix(line, "- "):
			b.WriteString("  " + strongText(p, line[2:]) + "\n")
		case strings.HasPrefix(line, "#"):
			b.WriteString(p.bold(plainText(strings.TrimLeft(line, "# "))) + "\n")
		default:
			b.WriteString(strongText(p, line) + "\n")
		}
	}
	return collapse(b.String())
}

// collapse leaves one blank line where there are several.
func collapse(text string) string {
	for strings.Contains(text, "\n\n\n") {
		text = strings.ReplaceAll(text, "\n\n\n", "\n\n")
	}
	return text
}

var strong = regexp.MustCompile(`\*\*(.+?)\*\*`)

func strongText(p paint, text string) string {
	return strong.ReplaceAllStringFunc(printable(text), func(match string) string { return p.bold(strings.Trim(match, "*")) })
}

func plainText(text string) string { return strong.ReplaceAllString(printable(text), "$1") }

// cells takes a row of a table apart; a bar behind a backslash belongs to the text.
func cells(line string) []string {
	const bar = "\x00"
	line = strings.ReplaceAll(line, `\|`, bar)
	parts := strings.Split(strings.Trim(line, "|"), "|")
	for i := range parts {
		parts[i] = strings.TrimSpace(strings.ReplaceAll(parts[i], bar, "|"))
	}
	return parts
}

// table writes rows in aligned columns. Where they are wider than a page, the widest column is folded.
func table(b *strings.Builder, p paint, header []string, rows [][]string) {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i := range min(len(row), len(widths)) {
			widths[i] = max(widths[i], utf8.RuneCountInString(plainText(row[i])))
		}
	}
	total, widest := 2*(len(widths)-1), 0
	for i, w := range widths {
		total += w
		if w > widths[widest] {
			widest = i
		}
	}
	widths[widest] = max(20, widths[widest]-max(0, total-pageWidth))
	writeRow(b, header, widths, func(_ int, text string) string { return p.dim(text) })
	for _, row := range rows {
		writeRow(b, row, widths, func(i int, text string) string {
			if strings.HasPrefix(row[i], "**") {
				return p.bold(text)
			}
			return text
		})
	}
}

// writeRow writes one row, on as many lines as its longest cell takes.
func writeRow(b *strings.Builder, row []string, widths []int, paint func(int, string) string) {
	folded := make([][]string, len(widths))
	height := 1
	for i := range widths {
		if i < len(row) {
			folded[i] = fold(plainText(row[i]), widths[i])
		}
		height = max(height, len(folded[i]))
	}
	for n := range height {
		var line strings.Builder
		for i, width := range widths {
			text := ""
			if n < len(folded[i]) {
				text = folded[i][n]
			}
			gap := strings.Repeat(" ", width-utf8.RuneCountInString(text)+2)
			if text != "" {
				text = paint(i, text)
			}
			line.WriteString(text + gap)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// fold breaks text at spaces into lines of at most width characters; a longer word is broken where it must be.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		for {
			if line == "" && utf8.RuneCountInString(word) > width {
				head := breakWord(word, width)
				lines, word = append(lines, head), word[len(head):]
				continue
			}
			if line == "" || utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width {
				line = strings.TrimPrefix(line+" "+word, " ")
				break
			}
			lines, line = append(lines, line), ""
		}
	}
	return append(lines, line)
}

// breakWord cuts what fits off a word that is too long: behind a dot, a comma or a bracket if there is one.
func breakWord(word string, width int) string {
	head := string([]rune(word)[:width])
	if at := strings.LastIndexAny(head, ".,)"); at > len(head)/3 {
		if head[at] == '.' {
			return head[:at]
		}
		return head[:at+1]
	}
	return head
}
