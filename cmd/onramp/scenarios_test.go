package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExampleScenarios runs every scenario of every example.
func TestExampleScenarios(t *testing.T) {
	t.Parallel()
	folders, err := filepath.Glob("../../examples/*/scenarios")
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	for _, folder := range folders {
		t.Run(filepath.Base(filepath.Dir(folder)), func(t *testing.T) {
			t.Parallel()
			got := onramp(t.Context(), "test", filepath.Dir(folder))
			require.Equal(t, exitDone, got.code, got.out+got.err)
		})
	}
}

const failing = `
scenario: one that holds
given: [{at: +0h, event: signed_up}]
only: []
---
scenario: one that does not
given: [{at: +0h, event: signed_up}]
expect: [{at: +1h, left: new_user}]
only: []
`

func TestTestCommand(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.scenario.yaml")
	require.NoError(t, os.WriteFile(file, []byte(failing), 0o600))
	const playbook = "../../examples/saas-onboarding"

	got := onramp(t.Context(), "test", playbook, file)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.out, "one that holds")
	require.Contains(t, got.out, "leaves new_user was expected at +1h (Mon 2026-03-02 01:00 UTC); it never came")
	require.Contains(t, got.err, "1 of 2 scenarios failed")

	got = onramp(t.Context(), "test", playbook, file, "--run", "holds$")
	require.Equal(t, exitDone, got.code, got.err)
	require.NotContains(t, got.out, "does not")

	got = onramp(t.Context(), "test", playbook, file, "--json")
	require.Equal(t, exitFailed, got.code)
	var report testReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &report))
	require.Equal(t, []int{1, 1}, []int{report.Passed, report.Failed})
	require.Equal(t, "leaves new_user", report.Scenarios[1].Failures[0].Expected)

	got = onramp(t.Context(), "test", playbook, file, "--run", "nothing")
	require.Equal(t, exitUsage, got.code)
	got = onramp(t.Context(), "test", "../../examples/app-onboarding")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "has no scenarios")

	require.NoError(t, os.WriteFile(file, []byte("scenario: x\ngiven: [{at: 1, event: y}]"), 0o600))
	got = onramp(t.Context(), "test", playbook, file)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "a.scenario.yaml:2:14: ")
}

// TestScenariosAreNoPlaybook: files of scenarios may stand beside those of the playbook.
func TestScenariosAreNoPlaybook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, err := os.ReadFile("../../examples/saas-onboarding/playbook.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "playbook.yaml"), text, 0o600))
	before, err := readBundle(dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.scenario.yaml"), []byte(strings.SplitN(failing, "---", 2)[0]), 0o600))
	after, err := readBundle(dir)
	require.NoError(t, err)
	require.Equal(t, before.Hash(), after.Hash())
	require.Equal(t, exitDone, onramp(t.Context(), "test", dir).code)
	require.Equal(t, exitDone, onramp(t.Context(), "test", filepath.Join(dir, "playbook.yaml")).code)
}
