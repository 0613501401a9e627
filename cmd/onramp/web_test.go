package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/testenv"
)

// updateScreenshot writes docs/web.png anew: go test ./cmd/onramp -run TestWebExample -screenshot
var updateScreenshot = flag.Bool("screenshot", false, "write docs/web.png")

// TestWebExample clicks through examples/web, as a visitor would, against the program itself: the screen changes by what Onramp decides,
// pushed, and nothing is asked of any other host.
func TestWebExample(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "..", "examples", "web")
	dir, err := testenv.InstallNode(folder)
	if err == nil {
		_, err = exec.LookPath("chromium")
	}
	if err != nil {
		if os.Getenv("ONRAMP_TEST_NODE") == "1" {
			t.Fatal(err)
		}
		t.Skipf("the example does not run here: %v", err)
	}
	page := t.TempDir()
	for _, name := range []string{"index.html", "main.js", "onramp-bridge.js", "package.json"} {
		raw, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(page, name), raw, 0o600))
	}
	require.NoError(t, os.Symlink(filepath.Join(dir, "node_modules"), filepath.Join(page, "node_modules")))
	run := func(name string, args ...string) []byte {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, name, args...)
		command.Dir = page
		var stderr bytes.Buffer
		command.Stderr = &stderr
		out, err := command.Output()
		require.NoError(t, err, "%s\n%s", out, stderr.String())
		return out
	}
	run("npm", "run", "--silent", "build")
	p := startDev(t, t.TempDir(), "--playbook", filepath.Join(folder, "playbook"))
	server := httptest.NewServer(http.FileServer(http.Dir(page)))
	t.Cleanup(server.Close)
	script, err := os.ReadFile(filepath.Join("testdata", "web.mjs"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(page, "web.mjs"), script, 0o600))
	screenshot := filepath.Join(page, "web.png")
	var saw struct {
		Errors   []string  `json:"errors"`
		Foreign  []string  `json:"foreign"`
		Steps    []string  `json:"steps"`
		Took     []float64 `json:"took"`
		Headline string    `json:"headline"`
		Visitor  string    `json:"visitor"`
	}
	require.NoError(t, json.Unmarshal(run("node", "web.mjs", server.URL+"/?api="+url.QueryEscape(p.addrs["api"]), screenshot), &saw))
	require.Empty(t, saw.Errors)
	require.Empty(t, saw.Foreign, "no other host")
	require.Equal(t, []string{"stage=onboarding/profile", "stage=onboarding/project", "stage=onboarding/invite", "stage=onboarding/completed"}, saw.Steps)
	require.Contains(t, []string{"Set up your workspace", "Good to see you! Three small steps."}, saw.Headline)
	require.NotEmpty(t, saw.Visitor)
	t.Logf("from a click to the changed screen: %v ms", saw.Took)
	image, err := os.ReadFile(screenshot)
	require.NoError(t, err)
	require.Greater(t, len(image), 5000)
	if *updateScreenshot {
		require.NoError(t, os.WriteFile(filepath.Join("..", "..", "docs", "web.png"), image, 0o600))
	}
	// What the page has shown is on record, once.
	store := p.store(t)
	eventually(t, 30*time.Second, "the exposure", func() bool {
		return count(t, store, `SELECT count() FROM exposures_first WHERE experiment = 'headline' AND excluded = ''`) == 1
	})
	require.Equal(t, uint64(1), count(t, store, `SELECT count() FROM outcomes_unique WHERE kind = 'exposure_recorded' AND reason = 'flag_evaluated'`))
}
