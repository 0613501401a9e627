package api_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
)

// TestDocumentedCalls runs the calls of docs/api.md as they stand there, but for the address, and compares the answers it shows.
func TestDocumentedCalls(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl on PATH: the calls in the documentation are not run")
	}
	page, err := os.ReadFile(filepath.Join("..", "docs", "api.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(curl [^`]*)```(?:\n\n```json\n([^`]*)```)?").FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 5, "track, batch, profile, flags, page token")
	d := openDoor(t)
	mirror := filled(t, profileOf("u42", 1))
	events, err := jetstream.New(d.js.Conn(), api.IntakeOptions()...)
	require.NoError(t, err)
	keys := ring(t, entry("web", api.RoleWrite, "write"), entry("backend", api.RoleRead, "read"))
	d.handler = api.New(api.Config{WorkspaceKey: key(), Events: events, Keys: keys}, mirror, nil, quiet()).Handler()
	url, _ := d.open(t, nil)
	for _, block := range blocks {
		call, want := strings.ReplaceAll(block[1], "http://127.0.0.1:8080", url), block[2]
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		command := exec.CommandContext(ctx, "sh", "-c", strings.Replace(call, "curl -sS", "curl -sS --fail-with-body", 1))
		command.Env = append(os.Environ(), "ONRAMP_WRITE_KEY=write", "ONRAMP_READ_KEY=read", "no_proxy=127.0.0.1")
		out, err := command.CombinedOutput()
		cancel()
		require.NoError(t, err, "%s\n%s", call, out)
		require.True(t, json.Valid(out), "%s\n%s", call, out)
		if want != "" {
			require.JSONEq(t, want, string(out), call)
		}
	}
	var names []string
	for _, e := range d.stored(t) {
		names = append(names, e.EventName+" of "+e.UserID)
	}
	require.Equal(t, []string{"signed_up of u42", "report_shared of u42"}, names)
}
