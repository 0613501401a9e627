//go:build !noembed && (linux || darwin)

package devstack_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/devstack"
)

func TestDirInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, devstack.Config{Dir: dir, NoUI: true})

	_, err := devstack.Start(t.Context(), devstack.Config{Dir: dir, NoUI: true})
	inUse, ok := errors.AsType[*devstack.DirInUseError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, dir, inUse.Dir)
	require.Equal(t, os.Getpid(), inUse.PID)
	require.ErrorContains(t, err, "--ephemeral")
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	port := listener.Addr().(*net.TCPAddr).Port

	for _, test := range []struct {
		flag string
		cfg  devstack.Config
	}{
		{"--nats-port", devstack.Config{NATSPort: port}},
		{"--temporal-port", devstack.Config{TemporalPort: port}},
		{"--ui-port", devstack.Config{UIPort: port}},
		{"--clickhouse-port", devstack.Config{ClickHousePort: port}},
		{"--clickhouse-http-port", devstack.Config{ClickHouseHTTPPort: port}},
	} {
		t.Run(test.flag, func(t *testing.T) {
			t.Parallel()
			test.cfg.Dir = t.TempDir()
			_, err := devstack.Start(t.Context(), test.cfg)
			inUse, ok := errors.AsType[*devstack.PortInUseError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, port, inUse.Port)
			require.Equal(t, test.flag, inUse.Flag)
			require.ErrorContains(t, err, test.flag)
			// Nothing was started: only the lock file is there.
			entries, err := os.ReadDir(test.cfg.Dir)
			require.NoError(t, err)
			require.Len(t, entries, 1)
		})
	}
}

// The tests of the engine set PATH, so they cannot run beside others.

func TestNoEngine(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	requireEngineError(t, devstack.Config{EngineCache: t.TempDir()}, "install npm")
}

func TestNpmWithoutNetwork(t *testing.T) { //nolint:paralleltest // sets PATH
	fakeNpm(t, "echo 'npm error code ENOTFOUND' >&2; exit 1")
	cache := t.TempDir()
	requireEngineError(t, devstack.Config{EngineCache: cache}, "run once with network")
	requireOnlyLock(t, cache)
}

func TestEngineChecksum(t *testing.T) { //nolint:paralleltest // sets PATH
	// npm pack NAME --pack-destination FOLDER
	fakeNpm(t, `echo not the engine > "$4/package.tgz"`)
	cache := t.TempDir()
	requireEngineError(t, devstack.Config{EngineCache: cache}, "it was deleted and not loaded")
	requireOnlyLock(t, cache)
}

func TestEngineCacheUnwritable(t *testing.T) { //nolint:paralleltest // sets PATH
	fakeNpm(t, "exit 1")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	requireEngineError(t, devstack.Config{EngineCache: filepath.Join(file, "cache")}, "cannot be written")
}

func TestEngineBinaryMissing(t *testing.T) {
	t.Parallel()
	requireEngineError(t, devstack.Config{ClickHouseBinary: filepath.Join(t.TempDir(), "none")}, "cannot be run")
}

func requireEngineError(t *testing.T, cfg devstack.Config, text string) {
	t.Helper()
	_, err := devstack.Start(t.Context(), cfg)
	_, ok := errors.AsType[*devstack.EngineError](err)
	require.True(t, ok, "%v", err)
	require.ErrorContains(t, err, text)
}

func requireOnlyLock(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 1, "a failed fetch must leave nothing behind")
}

// fakeNpm puts a script named npm on an otherwise almost empty PATH.
func fakeNpm(t *testing.T, script string) {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "npm"), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	t.Setenv("PATH", folder)
}
