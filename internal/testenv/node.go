package testenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// EnvNode says what a machine without Node or its packages means: 1 a failure, anything else a skipped test that says so.
const EnvNode = "ONRAMP_TEST_NODE"

const nodePatience = 2 * time.Minute

//nolint:gochecknoglobals // what one process has installed, it has installed for all of its tests
var installing sync.Mutex

// InstallNode installs the packages of the folder's lock file where they stay for all tests and all runs, with the files of the folder
// beside them, and returns where. Errors say what is missing: Node, npm, or the packages.
func InstallNode(folder string) (string, error) {
	installing.Lock()
	defer installing.Unlock()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", errors.New("there is no " + program + " on PATH")
		}
	}
	lock, err := os.ReadFile(filepath.Join(folder, "package-lock.json")) //nolint:gosec // of this repository
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "onramp-node", hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil { //nolint:gosec // of the user's cache folder
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil { //nolint:gosec // likewise
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh) //nolint:errcheck // it has been moved away, or is of no use
	if err := os.CopyFS(fresh, os.DirFS(folder)); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*nodePatience)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = fresh
	if out, err := npm.CombinedOutput(); err != nil {
		return "", errors.New("npm cannot install the packages: " + string(bytes.TrimSpace(out)))
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // likewise
		if _, other := os.Stat(dir); other != nil { //nolint:gosec // likewise; another test process was faster
			return "", err
		}
	}
	return dir, nil
}

// NeedNode returns where the packages of the folder's lock file are. Where Node or the packages are not to be had, the test is skipped and
// says why, or fails with ONRAMP_TEST_NODE=1.
func NeedNode(t *testing.T, folder string) string {
	t.Helper()
	dir, err := InstallNode(folder)
	if err != nil {
		if os.Getenv(EnvNode) == "1" {
			t.Fatal(err)
		}
		t.Skipf("packages of npm do not run here: %v", err)
	}
	return dir
}

// Node runs a script of the folder, beside the packages that the folder's lock file names, and reads what it prints as JSON into answer.
func Node(t *testing.T, folder string, answer any, script string, args ...string) {
	t.Helper()
	dir := NeedNode(t, folder)
	source, err := os.ReadFile(filepath.Join(folder, script)) //nolint:gosec // of this repository
	require.NoError(t, err)
	// Beside the packages, under a name of its own, because modules are looked up from where a script lies.
	file, err := os.CreateTemp(dir, "run-*.mjs")
	require.NoError(t, err)
	defer os.Remove(file.Name()) //nolint:errcheck // a small file in a cache
	_, err = file.Write(source)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	ctx, cancel := context.WithTimeout(t.Context(), nodePatience)
	defer cancel()
	command := exec.CommandContext(ctx, "node", append([]string{file.Name()}, args...)...) //nolint:gosec // a script of this repository
	command.Dir = dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	require.NoError(t, err, "%s\n%s", out, stderr.String())
	require.NoError(t, json.Unmarshal(out, answer), "%s\n%s", out, stderr.String())
}
