package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/testenv"
)

// envNode says what a machine without Node or its packages means: 1 a failure, anything else a skipped test that says so.
const envNode = "ONRAMP_TEST_NODE"

const nodePatience = 2 * time.Minute

// nodeFolder is where the packages of testdata/node are installed, once for all tests and all runs.
var nodeFolder = sync.OnceValues(func() (string, error) { return testenv.InstallNode(filepath.Join("testdata", "node")) })

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
