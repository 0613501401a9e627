package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGuaranteesNameTheirProofs: every command of docs/guarantees.md and docs/security.md runs tests that are there.
func TestGuaranteesNameTheirProofs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"guarantees", "security"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provesWhatItSays(t, "../../docs/"+name+".md")
		})
	}
}

func provesWhatItSays(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	commands := regexp.MustCompile("`[^`]*go test (\\./[a-z/]+)(?: -run '([^']+)')?[^`]*`").FindAllStringSubmatch(string(raw), -1)
	require.Greater(t, len(commands), 12)
	for _, command := range commands {
		// In a table a | has a backslash before it, which who copies the text as it stands copies too: go test then runs nothing, and says ok.
		require.NotContains(t, command[0], `\|`, "one command for each test")
		sources, err := exec.CommandContext(t.Context(), "grep", "-rhoE", "^func Test[A-Za-z0-9_]+", "--include=*_test.go", "../../"+command[1]).Output()
		require.NoError(t, err, command[0])
		names, part, _ := strings.Cut(command[2], "/")
		for name := range strings.SplitSeq(names, "|") {
			if name != "" {
				require.Contains(t, strings.Split(string(sources), "\n"), "func "+strings.TrimSuffix(name, "$"), command[0])
			}
		}
		require.True(t, slices.ContainsFunc(ordeals(), func(one ordeal) bool {
			return regexp.MustCompile(part).MatchString(strings.ReplaceAll(one.name, " ", "_"))
		}), "no scenario is called %s", part)
	}
}
