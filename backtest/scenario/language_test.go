package scenario_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/backtest/scenario"
	"github.com/onramphq/onramp/playbook"
)

// TestLanguageSteps runs the examples of docs/language.md: every kind of step that its table names has one, and every one passes.
func TestLanguageSteps(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/language.md")
	require.NoError(t, err)
	var shared string
	shown := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n# (playbook|step: \\w+)\n(.*?)```").FindAllStringSubmatch(string(raw), -1) {
		if block[1] == "playbook" {
			shared = block[2]
			continue
		}
		kind := strings.TrimPrefix(block[1], "step: ")
		shown[kind]++
		steps, scenarios, found := strings.Cut(block[2], "\n---\n")
		require.True(t, found, block[0])
		text := strings.Replace(shared, "steps: []", "steps: "+steps, 1)
		require.NotEqual(t, shared, text)
		book, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": text}})
		require.NoError(t, err, block[0])
		uses := slices.ContainsFunc(book.Journey("j").Order, func(key string) bool {
			return string(book.Journey("j").Steps[key].Kind) == kind
		})
		require.True(t, uses, "the example shows no %s", kind)
		parsed, err := scenario.Parse("language.md", scenarios, book, nil)
		require.NoError(t, err, block[0])
		for _, s := range parsed {
			require.Empty(t, scenario.Run(s).Failures, block[0])
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+):[^|]*\\|").FindAllStringSubmatch(string(raw), -1) {
		require.NotZero(t, shown[row[1]], "step %s stands in the table and has no example", row[1])
		delete(shown, row[1]+" ")
	}
	kinds := []string{"action", "delay", "wait", "branch", "experiment", "exit"}
	for _, kind := range kinds {
		require.NotZero(t, shown[kind], kind)
	}
	require.Len(t, shown, len(kinds))
}
