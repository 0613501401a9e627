package playbook_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/playbook"
)

// Bounds of what one compilation of a text that fuzzing makes may take. An example takes some 20 ms and 10 MB.
const (
	fuzzTime  = time.Second
	fuzzBytes = 512 << 20
)

// FuzzCompile: whatever the text, Compile answers soon, with a playbook that everything else can work with, or with problems that lie
// within the text.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("../examples/*/playbook.yaml")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(string(raw))
	}
	for _, text := range []string{
		nested, shop, "", "---\n", "--- a\n...\n", "{}", "[]", "*a", "&a [*a]", "? {a: b}\n: c\n", "name: &x\n  <<: *x\n", "\xff\xfe",
		"events: {a: null}\nname: x\njourneys: {j: {enter: {on: a}, steps: [{wait: null}, {branch: null}, {exit: null}, {action: null}, {delay: null}]}}\n",
		head + "segments: {s: {when: |\n}}", head + "segments:\n  s:\n    when: \"\\U0011ffff && did('c')\"\n",
		strings.Repeat("[", 5000), strings.Repeat("a:\n ", 2000), strings.Repeat("a: 'x\n", 3000), head + journey(strings.Repeat("      - {exit: a}\n", 600)),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := compileWithin(t, text)
		if err == nil {
			for _, j := range p.Journeys {
				checkDrawing(t, j, p.JourneySVG(j, nil))
			}
			require.NotEmpty(t, p.Mermaid(p.Journeys...))
			require.Empty(t, playbook.Diff(p, p))
			playbook.Diff(p, compile(t, shop))
			playbook.Diff(compile(t, shop), p)
			return
		}
		var problems playbook.Problems
		require.ErrorAs(t, err, &problems)
		require.NotEmpty(t, problems)
		lines := strings.Count(text, "\n") + strings.Count(text, "\r") + strings.Count(text, "\u2028") + strings.Count(text, "\u2029") + strings.Count(text, "\u0085") + 1
		for _, p := range problems {
			require.Positive(t, p.Line)
			require.Positive(t, p.Column)
			if utf8.ValidString(text) {
				require.LessOrEqual(t, p.Line, lines+1, p)
			}
		}
	})
}

// compileWithin compiles a text within the bounds. A machine that is busy with something else gets three tries at the time.
func compileWithin(t *testing.T, text string) (p *playbook.Playbook, err error) {
	t.Helper()
	var before, after runtime.MemStats
	took := time.Duration(1 << 62)
	for try := 0; try < 3 && took > fuzzTime; try++ {
		runtime.ReadMemStats(&before)
		began := time.Now()
		p, err = playbook.Compile(bundle(text))
		took = min(took, time.Since(began))
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(fuzzBytes))
	}
	require.Less(t, took, fuzzTime)
	return p, err
}
