package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTrackedUser sends a call of an SDK to the program, and reads what became of it as a profile and as a flag.
func TestTrackedUser(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir())
	ask := func(path, body string) (int, []byte) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.addrs["api"]+path, strings.NewReader(body))
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, answer
	}
	code, body := ask("/v1/track", `{"messageId":"m1","userId":"tracked@example.com","event":"Signed Up","properties":{"plan":"pro"}}`)
	require.Equal(t, 200, code, string(body))
	require.JSONEq(t, `{"success":true,"message_id":"m1"}`, string(body))
	eventually(t, 20*time.Second, "the profile", func() bool {
		code, _ := get(t, p.addrs["api"]+"/v1/users/tracked%40example.com")
		return code == 200
	})
	code, body = ask("/ofrep/v1/evaluate/flags/segment.new_user", `{"context":{"targetingKey":"tracked@example.com"}}`)
	require.Equal(t, 200, code, string(body))
	var flag struct {
		Value bool `json:"value"`
	}
	require.NoError(t, json.Unmarshal(body, &flag))
	require.True(t, flag.Value)
}
