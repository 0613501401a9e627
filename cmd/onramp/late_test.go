package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
)

// TestAPIStartsBeforeClickHouse: without ClickHouse the API serves users, refuses what only ClickHouse knows, and says so; when it comes, all
// is answered.
func TestAPIStartsBeforeClickHouse(t *testing.T) { //nolint:paralleltest // alone: it keeps both processors busy
	if testing.Short() {
		t.Skip("starts every server")
	}
	seed := chaosSeed(t)
	r := newRig(t, rigConfig{seed: seed})
	clickhouse := r.part("clickhouse")
	clickhouse.hold()
	clickhouse.signal(syscall.SIGKILL)
	addr := "127.0.0.1:" + r.port(rand.New(rand.NewPCG(seed, 6)))
	r.role("api", 0, "--api-addr", addr)
	publish(t, r.js, schema.Event{EventName: "signed_up", UserID: "ann"})
	answers := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, http.NoBody)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, ""
		}
		defer response.Body.Close()
		var body struct {
			Error struct {
				Code string `json:"code"`
			} `json:"error"`
		}
		_ = json.NewDecoder(response.Body).Decode(&body) // a list has no error, and cannot be read as one
		return response.StatusCode, body.Error.Code
	}
	past := "/v1/users/ann?at=" + time.Now().UTC().Format(time.RFC3339)
	eventually(t, time.Minute, "a user is answered", func() bool {
		code, _ := answers("/v1/users/ann")
		return code == http.StatusOK
	})
	for _, path := range []string{"/v1/experiments", "/v1/experiments/any/results", past} {
		code, said := answers(path)
		require.Equal(t, http.StatusServiceUnavailable, code, path)
		require.Equal(t, "unavailable", said, path)
	}
	ready, err := askReady(t, addr, "&exclude=archive")
	require.NoError(t, err)
	require.Equal(t, []string{"clickhouse"}, ready.Failed)
	code, _ := answers("/readyz?exclude=archive&exclude=clickhouse")
	require.Equal(t, http.StatusOK, code)

	clickhouse.release()
	eventually(t, time.Minute, "experiments are listed", func() bool {
		code, _ := answers("/v1/experiments")
		return code == http.StatusOK
	})
	eventually(t, time.Minute, "the past is answered", func() bool {
		code, _ := answers("/v1/users/ann?at=" + time.Now().UTC().Format(time.RFC3339))
		return code == http.StatusOK
	})
	eventually(t, time.Minute, "ready", func() bool {
		code, _ := answers("/readyz")
		return code == http.StatusOK
	})
	require.Equal(t, 1, r.part("api").starts, "it never ended")
}

// TestLateStore: what passes by itself is waited for, and what does not ends the process, at the start and later.
func TestLateStore(t *testing.T) {
	t.Parallel()
	e := &engine{logger: slog.New(slog.DiscardHandler), servers: servers{ClickHouseAddr: "127.0.0.1:1"}}
	late := &lateStore{engine: e}
	require.NoError(t, late.try(t.Context()))
	_, err := late.get()
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	_, err = late.List(t.Context())
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	stopped, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, late.run(stopped))
	e.servers.ClickHouseDatabase = "no database; at all"
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(late.run(t.Context())))
	require.Equal(t, schema.CodeInvalid, schema.CodeOf((&lateStore{engine: e}).try(t.Context())))
}
