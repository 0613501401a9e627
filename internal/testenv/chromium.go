package testenv

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

// Chromium skips a test that needs a browser where none is, and says so, or fails with ONRAMP_TEST_NODE=1. Short runs have no time for one.
func Chromium(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time")
	}
	if slices.ContainsFunc([]string{"chromium", "chromium-browser", "google-chrome"}, func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	}) {
		return
	}
	if os.Getenv(EnvNode) == "1" {
		t.Fatal("there is no chromium on PATH")
	}
	t.Skip("no chromium on PATH: what runs in browsers does not run here")
}
