package playbook

import (
	"runtime"

	"go.yaml.in/yaml/v3"
)

// TextWidth is how wide a text is at most, in pixels.
func TextWidth(text string, size int) int { return textWidth(text, size, false) }

// CodeWidth is TextWidth of text in a fixed width, at the size it is set in.
func CodeWidth(text string, size int) int { return textWidth(text, size+1, true) }

// Sections lists the top-level keys.
func Sections() []string { return sections() }

// KnownKeys is a mapping whose keys the compiler knows: where it begins, the keys, and the function that asks for them.
type KnownKeys struct {
	Line, Column int
	Keys         []string
	Function     string
}

// CompileRecording compiles a bundle and returns every mapping with known keys that the compiler has come to.
func CompileRecording(b Bundle) ([]KnownKeys, error) {
	var seen []KnownKeys
	c := &compiler{}
	c.known = func(node *yaml.Node, keys []string) {
		pc, _, _, _ := runtime.Caller(2) // this, fields, who asked
		seen = append(seen, KnownKeys{node.Line, node.Column, keys, runtime.FuncForPC(pc).Name()})
	}
	_, err := c.compile(b)
	return seen, err
}

// RuleWords lists the words of rules that hints know.
func RuleWords() []string { return ruleWords() }
