package playbook

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// place finds the character of a scalar's text in the file it was read from: line and column, from 1, in characters. YAML
// folds, unescapes and takes indentation away, but every character that is no space stands in the file in the same order;
// place walks both side by side. It returns false where they part, which is where a form of YAML is used that it cannot read.
func place(source string, node *yaml.Node, line, column int) (placedLine, placedColumn int, ok bool) {
	offset, ok := offsetOf(node.Value, line, column)
	if !ok {
		return 0, 0, false
	}
	at, ok := startOf(source, node)
	if !ok {
		return 0, 0, false
	}
	for _, want := range node.Value[:offset] {
		if isSpace(want) {
			continue
		}
		at.skipSpace()
		if at.take() != want {
			return 0, 0, false
		}
	}
	if next, _ := first(node.Value[offset:]); offset < len(node.Value) && !isSpace(next) {
		at.skipSpace()
	}
	return at.line, at.column, true
}

// first returns the first character of s and its size.
func first(s string) (r rune, size int) {
	for i, c := range s {
		if i > 0 {
			return r, i
		}
		r = c
	}
	return r, len(s)
}

func isSpace(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r\u0085\u00a0\u2028\u2029", r) }

// offsetOf turns line and column within text into an offset; a column behind the line's end is its end.
func offsetOf(text string, line, column int) (int, bool) {
	offset := 0
	for ; line > 1; line-- {
		length := strings.IndexByte(text[offset:], '\n')
		if length < 0 {
			return 0, false
		}
		offset += length + 1
	}
	for ; column > 1 && offset < len(text) && text[offset] != '\n'; column-- {
		_, size := first(text[offset:])
		offset += size
	}
	return offset, line == 1 && column >= 1
}

// cursor is a place in a file, within a scalar that is quoted by quote (0: by nothing).
type cursor struct {
	rest         string
	line, column int
	quote        rune
}

// startOf goes to the first character of the scalar's text: behind tag, anchor, quote or the header of a block.
func startOf(source string, node *yaml.Node) (*cursor, bool) {
	at := &cursor{rest: source, line: 1, column: 1}
	for at.line < node.Line || at.column < node.Column {
		if at.rest == "" || at.line > node.Line {
			return nil, false
		}
		at.step()
	}
	for at.peek() == '&' || at.peek() == '!' {
		at.skip(func(r rune) bool { return !isSpace(r) })
		at.skip(isSpace)
	}
	switch r := at.peek(); {
	case node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		at.skip(func(r rune) bool { return r != '\n' })
	case r == '"' || r == '\'':
		at.quote = r
		at.step()
	}
	return at, true
}

func (c *cursor) peek() rune {
	r, _ := first(c.rest)
	return r
}

func (c *cursor) step() {
	r, size := first(c.rest)
	c.rest = c.rest[size:]
	c.column++
	if r == '\n' {
		c.line, c.column = c.line+1, 1
	}
}

func (c *cursor) skip(while func(r rune) bool) {
	for c.rest != "" && while(c.peek()) {
		c.step()
	}
}

// skipSpace skips white space, that which is written as an escape included.
func (c *cursor) skipSpace() {
	c.skip(isSpace)
	for c.quote == '"' && len(c.rest) > 1 && c.rest[0] == '\\' && strings.IndexByte("nrtvfNLP_ \t\r\n", c.rest[1]) >= 0 {
		c.step()
		c.step()
		c.skip(isSpace)
	}
}

// take reads one character of the text, however it is written.
func (c *cursor) take() rune {
	r := c.peek()
	c.step()
	switch {
	case c.quote == '\'' && r == '\'':
		c.step() // written twice
	case c.quote == '"' && r == '\\':
		r = c.peek()
		c.step()
		if digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[r]; digits > 0 && digits <= len(c.rest) {
			n, err := strconv.ParseUint(c.rest[:digits], 16, 32)
			if err != nil {
				return -1
			}
			for range digits {
				c.step()
			}
			r = rune(n) //nolint:gosec // compared, never used
		}
	}
	return r
}
