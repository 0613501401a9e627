package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/playbook"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	const saas = "../../examples/saas-onboarding"
	text, err := os.ReadFile(filepath.Join(saas, "playbook.yaml"))
	require.NoError(t, err)
	changed := filepath.Join(t.TempDir(), "playbook.yaml")
	require.NoError(t, os.WriteFile(changed, []byte(strings.ReplaceAll(string(text), "control: 0.5, personalized: 0.5", "control: 0.4, personalized: 0.6")), 0o600))

	got := onramp(t.Context(), "diff", saas, changed)
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "experiment onboarding_flow: variants or weights changed  [breaking]\n  - control 50 %, personalized 50 %\n  + control 40 %, personalized 60 %\n  → ")
	require.Contains(t, got.out, "1 breaking, 0 warnings, 0 more")

	got = onramp(t.Context(), "diff", "--json", "--exit-code", saas, changed)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "the playbooks differ")
	var document struct {
		Old     string            `json:"old"`
		New     string            `json:"new"`
		Changes []playbook.Change `json:"changes"`
	}
	require.NoError(t, json.Unmarshal([]byte(got.out), &document))
	require.Len(t, document.Changes, 1)
	require.Equal(t, playbook.Breaking, document.Changes[0].Severity)
	require.NotEqual(t, document.Old, document.New)

	got = onramp(t.Context(), "diff", saas, saas+"/playbook.yaml", "--exit-code")
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "no differences")
	got = onramp(t.Context(), "diff", "--json", saas, saas)
	require.JSONEq(t, `[]`, string(field(t, got.out, "changes")))

	require.NoError(t, os.WriteFile(changed, []byte("name: x\n"), 0o600))
	got = onramp(t.Context(), "diff", saas, changed)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "the playbook has no events")
	require.Equal(t, exitUsage, onramp(t.Context(), "diff", saas, "nowhere").code)
	require.Contains(t, onramp(t.Context(), "diff", "--help").out, "Example: onramp diff")
}

func field(t *testing.T, document, name string) json.RawMessage {
	t.Helper()
	fields := make(map[string]json.RawMessage)
	require.NoError(t, json.Unmarshal([]byte(document), &fields))
	return fields[name]
}
