package playbook

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parserError matches the errors whose line the YAML package counts from 0.
var parserError = regexp.MustCompile(`did not find expected (<document start>|node content|'-' indicator|',' or|key$)`)

// syntax reports that a text is not YAML, at the line that is to blame. The YAML package names the line where it began to read
// what it could not finish, or where it gave up; both can be far from the mistake.
func (c *compiler) syntax(text string, err error) {
	c.unread = true
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{File: c.file, Line: 1, Column: 1}
	var line int
	if _, scanErr := fmt.Sscanf(message, "line %d:", &line); scanErr == nil {
		p.Line = line
		if parserError.MatchString(message) {
			p.Line++
		}
		_, message, _ = strings.Cut(message, ": ")
	}
	lines := strings.SplitAfter(text, "\n")
	if line, ok := blame(lines); ok {
		p.Line = line
		p.Hint = syntaxHint(lines[line-1])
	}
	p.Message = "is not YAML: " + message
	c.problems = append(c.problems, p)
}

// blameBytes bounds what is read to find the line to blame.
const blameBytes = 8 << 20

// blame finds the line before which all is well and with which nothing is: first by top-level keys, then by lines. It returns
// false where that would take too long.
func blame(lines []string) (line int, ok bool) {
	left := blameBytes
	readable := func(part []string) bool {
		text := strings.Join(part, "")
		left -= len(text)
		return readsAsYAML(text)
	}
	begin, end := 0, len(lines)
	for start := len(lines) - 1; start > 0; start-- {
		if !topLevel(lines[start]) {
			continue
		}
		if left < 0 {
			return 0, false
		}
		if readable(lines[:start]) {
			begin = start
			break
		}
		end = start
	}
	for ; end > begin; end-- {
		if left < 0 {
			return 0, false
		}
		if readable(lines[begin:end]) {
			break
		}
	}
	return min(end+1, len(lines)), true
}

func topLevel(line string) bool {
	return line != "" && !strings.ContainsRune(" \t\r\n#", rune(line[0]))
}

func readsAsYAML(text string) bool {
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var document yaml.Node
		switch err := dec.Decode(&document); {
		case errors.Is(err, io.EOF):
			return true
		case err != nil:
			return false
		}
	}
}

// syntaxHint guesses what is wrong with a line.
func syntaxHint(line string) string {
	code, _, _ := strings.Cut(line, " #")
	indent := code[:len(code)-len(strings.TrimLeft(code, " \t"))]
	switch {
	case strings.Contains(indent, "\t"):
		return "indent with spaces, not with tabs"
	case strings.Count(code, `"`)%2 == 1:
		return `a " is opened or closed here and has no other half`
	case strings.Count(code, "'")%2 == 1:
		return "a ' is opened or closed here and has no other half"
	case strings.Count(code, "{") != strings.Count(code, "}"):
		return "a { or } has no other half here"
	case strings.Count(code, "[") != strings.Count(code, "]"):
		return "a [ or ] has no other half here"
	case strings.Count(code, ": ") > 1:
		return `a text that holds ": " stands in quotes`
	default:
		return "look at the indentation: keys of one mapping stand below each other"
	}
}
