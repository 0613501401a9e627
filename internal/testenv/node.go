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

// envNode says what a machine without Node or its packages means: 1 a failure, anything else a skipped test that says so.
const envNode = "ONRAMP_TEST_NODE"

const nodePatience = 2 * time.Minute

// nodeScripts is the folder of the scripts and of the list of their packages, below the root of the module.
const nodeScripts = "api/testdata/node"

// nodeFolder is where the packages are installed, once for all tests and all runs.
var nodeFolder = sync.OnceValues(installNode) //nolint:gochecknoglobals // a cache

// scripts finds nodeScripts from the folder of the test, which is that of its package.
func scripts() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, filepath.FromSlash(nodeScripts)), nil
		}
	}
	return "", errors.New("the test does not run within the module")
}

func installNode() (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", errors.New("there is no " + program + " on PATH")
		}
	}
	from, err := scripts()
	if err != nil {
		return "", err
	}
	lock, err := os.ReadFile(filepath.Join(from, "package-lock.json")) //nolint:gosec // a file of the repository
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "onramp-node", hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh) //nolint:errcheck // a folder in a cache
	if err := os.CopyFS(fresh, os.DirFS(from)); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*nodePatience)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = fresh
	if out, err := npm.CombinedOutput(); err != nil {
		return "", errors.New("npm cannot install the packages: " + string(bytes.TrimSpace(out)))
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, os.ErrExist) {
		if _, other := os.Stat(dir); other != nil { // another test process was faster
			return "", err
		}
	}
	return dir, nil
}

// NodeFolder is where the packages of the scripts are, installed if need be. Where they cannot be, the test is skipped and says why, or
// fails with ONRAMP_TEST_NODE=1.
func NodeFolder(tb testing.TB) string {
	tb.Helper()
	dir, err := nodeFolder()
	if err != nil {
		if os.Getenv(envNode) == "1" { //nolint:forbidigo // a test is told so by its caller
			tb.Fatal(err)
		}
		tb.Skipf("real clients do not run here: %v", err)
	}
	return dir
}

// Node runs a script of api/testdata/node with the packages of its list and reads what it prints as JSON into answer.
func Node(tb testing.TB, answer any, script string, args ...string) {
	tb.Helper()
	dir := NodeFolder(tb)
	from, err := scripts()
	require.NoError(tb, err)
	source, err := os.ReadFile(filepath.Join(from, script)) //nolint:gosec // a file of the repository
	require.NoError(tb, err)
	// Beside the packages, under a name of its own, because modules are looked up from where a script lies.
	file, err := os.CreateTemp(dir, "run-*.mjs")
	require.NoError(tb, err)
	defer os.Remove(file.Name()) //nolint:errcheck // a file in a cache
	_, err = file.Write(source)
	require.NoError(tb, err)
	require.NoError(tb, file.Close())
	ctx, cancel := context.WithTimeout(tb.Context(), nodePatience)
	defer cancel()
	command := exec.CommandContext(ctx, "node", append([]string{file.Name()}, args...)...) //nolint:gosec // of this test
	command.Dir = dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	require.NoError(tb, err, "%s\n%s", out, stderr.String())
	require.NoError(tb, json.Unmarshal(out, answer), "%s\n%s", out, stderr.String())
}
