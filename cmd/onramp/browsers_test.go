package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// TestD2BrowserSeesItsSegment: a page gets credentials from a service, publishes an event over WebSocket, and within a second is told what
// segment its user is in now.
func TestD2BrowserSeesItsSegment(t *testing.T) {
	t.Parallel()
	testenv.NeedNode(t, nodePackages) // before the servers are started for nothing
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	seed, err := account.Seed()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "seed")
	require.NoError(t, os.WriteFile(file, append(seed, '\n'), 0o600))
	p := startDev(t, t.TempDir(), "--nats-websocket-port=-1", "--mqtt-port=-1", "--browser-seed-file", file)
	require.Contains(t, p.addrs["mqtt"], "mqtt://127.0.0.1:")

	var best float64
	for i, user := range []string{"first", "second", "third"} { // the first wakes everything
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.addrs["api"]+"/v1/users/"+user+"%40example.com/credentials", nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		credentials, err := io.ReadAll(response.Body)
		require.NoError(t, response.Body.Close())
		require.NoError(t, err)
		require.Equal(t, 200, response.StatusCode, "%s", credentials)
		var seen struct {
			Took   float64 `json:"took"`
			User   string  `json:"user"`
			Answer struct {
				Success bool `json:"success"`
			} `json:"answer"`
		}
		testenv.Node(t, nodePackages, &seen, "segment_nats.mjs", p.addrs["nats_websocket"], string(credentials), "signed_up", "new_user")
		require.True(t, seen.Answer.Success)
		require.Equal(t, schema.UserToken([]byte(embeddedKey), user+"@example.com"), seen.User)
		t.Logf("the segment came after %.0f ms", seen.Took)
		if i == 0 || seen.Took < best {
			best = seen.Took
		}
	}
	require.Less(t, best, 1000.0)
	var status struct {
		Five string `json:"five"`
	}
	testenv.Node(t, nodePackages, &status, "mqtt.mjs", p.addrs["mqtt"], "onramp/events/device", "1", `{"event_id":"d1","event_name":"signed_up","user_id":"device@example.com"}`)
	eventually(t, testenv.Patience, "the profile of a device's user", func() bool {
		code, _ := get(t, p.addrs["api"]+"/v1/users/device%40example.com")
		return code == 200
	})
	raw, err := json.Marshal(status)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "connected")
}
