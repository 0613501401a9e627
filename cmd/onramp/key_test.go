package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
)

// TestKey makes keys, and has the API read the file that they stand in.
func TestKey(t *testing.T) {
	t.Parallel()
	one, two := onramp(t.Context(), "key", "--name", "web"), onramp(t.Context(), "key", "--name", "service", "--role", "read")
	require.Zero(t, one.code, one.err)
	require.Regexp(t, `^  - \{name: web, role: write, sha256: [0-9a-f]{64}\}\n$`, one.out)
	require.Regexp(t, `: onr_write_[a-z2-7]{26}\n`, one.err)
	path := filepath.Join(t.TempDir(), "keys.yaml")
	require.NoError(t, os.WriteFile(path, []byte("keys:\n"+one.out+two.out), 0o600))
	_, err := api.OpenKeyring(path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)

	got := onramp(t.Context(), "key", "--name", "web", "--json")
	var printed map[string]string
	require.NoError(t, json.Unmarshal([]byte(got.out), &printed))
	require.Regexp(t, `^[0-9a-f]{64}$`, printed["sha256"])

	require.Equal(t, exitUsage, onramp(t.Context(), "key", "--name", "Web").code)
	require.Equal(t, exitUsage, onramp(t.Context(), "key", "--name", "web", "--role", "root").code)
}

// TestLoopbackOnly shows that an API without keys does not start on a network, and says what to do.
func TestLoopbackOnly(t *testing.T) {
	t.Parallel()
	got := onramp(t.Context(), "api", "--workspace-key", "a key of enough bytes", "--api-addr", "0.0.0.0:0")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "--api-keys")
	require.Contains(t, got.err, "loopback")
	got = onramp(t.Context(), "api", "--workspace-key", "a key of enough bytes", "--api-addr", "0.0.0.0:0", "--api-keys", filepath.Join(t.TempDir(), "none.yaml"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "read keys")
}
