package api_test

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

// nodeFolder is where the packages of testdata/node are installed, once for all tests and all runs.
var nodeFolder = sync.OnceValues(installNode)

func installNode() (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", errors.New("there is no " + program + " on PATH")
		}
	}
	lock, err := os.ReadFile(filepath.Join("testdata", "node", "package-lock.json"))
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
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	if err := os.CopyFS(fresh, os.DirFS(filepath.Join("testdata", "node"))); err != nil {
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

// node runs a script of testdata/node and reads what it prints as JSON into answer.
func node(t *testing.T, answer any, script string, args ...string) {
	t.Helper()
	dir, err := nodeFolder()
	if err != nil {
		if os.Getenv(envNode) == "1" {
			t.Fatal(err)
		}
		t.Skipf("real SDKs do not run here: %v", err)
	}
	source, err := os.ReadFile(filepath.Join("testdata", "node", script))
	require.NoError(t, err)
	// Beside the packages, under a name of its own, because modules are looked up from where a script lies.
	file, err := os.CreateTemp(dir, "run-*.mjs")
	require.NoError(t, err)
	defer os.Remove(file.Name())
	_, err = file.Write(source)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	ctx, cancel := context.WithTimeout(t.Context(), nodePatience)
	defer cancel()
	command := exec.CommandContext(ctx, "node", append([]string{file.Name()}, args...)...)
	command.Dir = dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	require.NoError(t, err, "%s\n%s", out, stderr.String())
	require.NoError(t, json.Unmarshal(out, answer), "%s\n%s", out, stderr.String())
}
