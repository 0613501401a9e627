package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGuaranteesNameTheirProofs: every command of docs/guarantees.md runs tests that are there.
func TestGuaranteesNameTheirProofs(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/guarantees.md")
	require.NoError(t, err)
	commands := regexp.MustCompile("`[^`]*go test (\\./[a-z/]+)(?: -run '([^']+)')?[^`]*`").FindAllStringSubmatch(string(raw), -1)
	require.Greater(t, len(commands), 15)
	for _, command := range commands {
		sources, err := exec.CommandContext(t.Context(), "grep", "-rhoE", "^func Test[A-Za-z0-9_]+", "--include=*_test.go", "../../"+command[1]).Output()
		require.NoError(t, err, command[0])
		for name := range strings.SplitSeq(strings.ReplaceAll(command[2], `\|`, "|"), "|") {
			name, part, _ := strings.Cut(strings.TrimSuffix(name, "$"), "/")
			if !strings.HasPrefix(name, "Test") {
				continue // the second half of a subtest's name
			}
			require.Contains(t, strings.Split(string(sources), "\n"), "func "+name, command[0])
			if part != "" {
				require.True(t, ordealMatches(part), "no scenario is called %s", part)
			}
		}
	}
}

func ordealMatches(part string) bool {
	for _, one := range ordeals() {
		if matched, err := regexp.MatchString(strings.TrimSuffix(part, ")"), strings.ReplaceAll(one.name, " ", "_")); err == nil && matched {
			return true
		}
	}
	return false
}
