package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/schema"
)

func entry(name string, role api.Role, secret string, more ...string) string {
	sum := sha256.Sum256([]byte(secret))
	fields := append([]string{"name: " + name, "role: " + string(role), "sha256: " + hex.EncodeToString(sum[:])}, more...)
	return "  - {" + strings.Join(fields, ", ") + "}\n"
}

// TestKeysOnEveryRoute walks all routes with no key, a wrong one, and one of each role.
func TestKeysOnEveryRoute(t *testing.T) {
	t.Parallel()
	keys := ring(t, entry("w", api.RoleWrite, "write"), entry("r", api.RoleRead, "read"), entry("a", api.RoleAdmin, "admin"))
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) { c.Keys, c.Experiments = keys, &shelf{} })
	mirror := filled(t)
	events, err := jetstream.New(d.js.Conn(), api.IntakeOptions()...)
	require.NoError(t, err)
	handler := api.New(api.Config{WorkspaceKey: key(), Keys: keys, Events: events, Experiments: &shelf{}}, mirror, nil, quiet()).Handler()
	const track = `{"userId":"u","event":"E"}`
	routes := []struct {
		method, path, body string
		roles              string
	}{
		{"GET", "/", "", "read admin"},
		{"GET", "/v1/users/ann", "", "read admin"},
		{"POST", "/v1/users/ann/token", "", "read admin"},
		{"GET", "/v1/experiments", "", "read admin"},
		{"GET", "/v1/experiments/flow/results", "", "read admin"},
		{"GET", "/experiments/flow", "", "read admin"},
		{"POST", "/v1/track", track, "write admin"},
		{"POST", "/v1/t", track, "write admin"},
		{"POST", "/v1/batch", `{"batch":[{"type":"track","userId":"u","event":"E"}]}`, "write admin"},
		{"POST", "/v1/import", `{"batch":[{"type":"track","userId":"u","event":"E"}]}`, "write admin"},
		{"GET", "/sourceConfig/", "", "write admin"},
	}
	ask := func(method, path, body string, header ...string) int {
		if method == http.MethodPost {
			return post(t, handler, path, body, header...).Code
		}
		return get(t, handler, path, header...).Code
	}
	for _, route := range routes {
		require.Equal(t, http.StatusUnauthorized, ask(route.method, route.path, route.body), route.path)
		require.Equal(t, http.StatusUnauthorized, ask(route.method, route.path, route.body, "Authorization", "Bearer wrong"), route.path)
		for _, role := range []string{"write", "read", "admin"} {
			want := http.StatusForbidden
			if strings.Contains(route.roles, role) {
				want = http.StatusOK
			}
			for _, header := range [][]string{{"Authorization", basic(role)}, {"Authorization", "Bearer " + role}, {"X-Api-Key", role}} {
				require.Equal(t, want, ask(route.method, route.path, route.body, header...), role+" "+route.path)
			}
		}
	}
	for _, path := range []string{"/livez", "/readyz"} {
		require.NotEqual(t, http.StatusUnauthorized, get(t, handler, path).Code, "health needs no key")
	}
	require.Contains(t, get(t, handler, "/").Header().Get("WWW-Authenticate"), "Basic", "a browser asks the person")
	require.Empty(t, post(t, handler, "/v1/track", track).Header().Get("WWW-Authenticate"), "and no page of somebody's does")
}

func TestKeysRate(t *testing.T) {
	t.Parallel()
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) {
		c.Keys = ring(t, entry("slow", api.RoleWrite, "slow", "rate: 1"), entry("other", api.RoleWrite, "other"))
	})
	items := make([]string, 2500) // the largest batch is what a key may send at once
	for i := range items {
		items[i] = fmt.Sprintf(`{"type":"track","messageId":"%d","userId":"u","event":"E"}`, i)
	}
	require.Equal(t, 2500, batchReplyOf(t, post(t, d.handler, "/v1/batch", `{"batch":[`+strings.Join(items, ",")+`]}`, "Authorization", basic("slow"))).Accepted)
	w := post(t, d.handler, "/v1/batch", `{"batch":[`+strings.Join(items[:5], ",")+`]}`, "Authorization", basic("slow"))
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "rate_limited", refusalOf(t, w).Error.Code)
	require.Regexp(t, `^[2-5]$`, w.Header().Get("Retry-After"), "five events at one a second")
	require.Equal(t, http.StatusOK, post(t, d.handler, "/v1/track", `{"userId":"u","event":"E"}`, "Authorization", basic("other")).Code, "a limit is of one key")
}

func TestKeysGuessing(t *testing.T) {
	t.Parallel()
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) { c.Keys = ring(t, entry("w", api.RoleWrite, "right")) })
	for range 20 {
		require.Equal(t, http.StatusUnauthorized, post(t, d.handler, "/v1/track", `{}`, "X-Api-Key", "wrong").Code)
	}
	w := post(t, d.handler, "/v1/track", `{"userId":"u","event":"E"}`, "X-Api-Key", "right")
	require.Equal(t, http.StatusTooManyRequests, w.Code, "whoever guesses does not learn that this one was right")
	require.NotEmpty(t, w.Header().Get("Retry-After"))
}

// TestKeysRotate changes the file under a running server.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	first, second := entry("web_1", api.RoleWrite, "one"), entry("web_2", api.RoleWrite, "two")
	write("keys:\n" + first)
	keys, err := api.OpenKeyring(path, quiet())
	require.NoError(t, err)
	go keys.Follow(t.Context())
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) { c.Keys = keys })
	ask := func(secret string) int {
		return post(t, d.handler, "/v1/track", `{"userId":"u","event":"E"}`, "Authorization", basic(secret)).Code
	}
	require.Equal(t, http.StatusOK, ask("one"))
	write("keys:\n" + first + second)
	require.Eventually(t, func() bool { return ask("two") == http.StatusOK }, patience, time.Second)
	require.Equal(t, http.StatusOK, ask("one"), "both are live")
	write("keys: [oh no")
	write("keys:\n" + second)
	require.Eventually(t, func() bool { return ask("one") == http.StatusUnauthorized }, patience, time.Second)
	require.Equal(t, http.StatusOK, ask("two"))
}

func TestKeysFile(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"": "not read", "keys: []": "onramp key", "key: []": "not found in type",
		"keys: [{name: A, role: write, sha256: " + good + "}]":                                                         "lower-case letter",
		"keys: [{name: a, role: root, sha256: " + good + "}]":                                                          "role must be write, read or admin",
		"keys: [{name: a, role: write, sha256: 12}]":                                                                   "64 hexadecimal digits",
		"keys: [{name: a, role: write, sha256: " + good + ", rate: -1}]":                                               "rate",
		"keys: [{name: a, role: write, sha256: " + good + "}, {name: b, role: read, sha256: " + good + "}]":            "is the same key as a",
		"keys: [{name: a, role: write, sha256: " + good + "}, {name: a, role: read, sha256: " + good[2:] + "cd" + "}]": "stands twice",
		"origins: [https://example.org/]\nkeys: [{name: a, role: write, sha256: " + good + "}]":                        "scheme://host",
	} {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := api.OpenKeyring(path, quiet())
		require.ErrorContains(t, err, want, text)
		require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
	}
	_, err := api.OpenKeyring(filepath.Join(t.TempDir(), "none"), quiet())
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
}

func TestNewKey(t *testing.T) {
	t.Parallel()
	secret, hash := api.NewKey(api.RoleWrite)
	require.Regexp(t, `^onr_write_[a-z2-7]{26}$`, secret)
	sum := sha256.Sum256([]byte(secret))
	require.Equal(t, hex.EncodeToString(sum[:]), hash)
	other, _ := api.NewKey(api.RoleWrite)
	require.NotEqual(t, secret, other)
}

// TestKeysSecret looks for the key where it must not be: in answers and in the log.
func TestKeysSecret(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	secret, _ := api.NewKey(api.RoleWrite)
	d := openDoor(t)
	keys := ring(t, entry("web", api.RoleWrite, secret))
	events, err := jetstream.New(d.js.Conn(), api.IntakeOptions()...)
	require.NoError(t, err)
	handler := api.New(api.Config{WorkspaceKey: key(), Keys: keys, Events: events}, nil, nil, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))).Handler()
	w := post(t, handler, "/v1/track", `{"userId":"secret-user","event":"E","writeKey":"`+secret+`"}`, "Authorization", basic(secret))
	require.Equal(t, http.StatusOK, w.Code)
	require.NotContains(t, w.Body.String(), secret)
	require.Equal(t, http.StatusOK, get(t, handler, "/v1/projects/"+secret+"/settings").Code)
	post(t, handler, "/v1/batch", `{"writeKey":"`+secret+`","batch":[{"type":"track","event":"E"}]}`)
	require.Contains(t, log.String(), "key=web")
	require.NotContains(t, log.String(), secret)
	require.NotContains(t, log.String(), "secret-user")
	require.NotContains(t, string(d.stored(t)[0].Properties), secret)
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	const body = `{"userId":"u","event":"E"}`
	preflight := func(h http.Handler, origin string) (int, http.Header) {
		w := do(t, h, http.MethodOptions, "/v1/t", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,x-retry-count")
		return w.Code, w.Header()
	}
	withKeys := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) {
		c.Keys = ringOf(t, "origins: [https://app.example.org]\nkeys:\n"+entry("web", api.RoleWrite, "k"))
	}).handler
	status, header := preflight(withKeys, "https://app.example.org")
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, "https://app.example.org", header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "POST, OPTIONS", header.Get("Access-Control-Allow-Methods"))
	for _, name := range []string{"authorization", "content-type", "anonymousid", "sentat", "x-retry-count"} {
		require.Contains(t, header.Get("Access-Control-Allow-Headers"), name)
	}
	require.Equal(t, "Origin", header.Get("Vary"))
	require.Empty(t, header.Get("Access-Control-Allow-Credentials"))
	w := post(t, withKeys, "/v1/t", body, "Origin", "https://app.example.org", "Authorization", basic("k"), "Content-Type", "text/plain")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), "Retry-After")
	require.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), "ETag")
	for _, origin := range []string{"https://evil.example.net", "null", "http://app.example.org", "https://app.example.org.evil.example.net", "http://localhost:3000"} {
		status, header := preflight(withKeys, origin)
		require.Equal(t, http.StatusForbidden, status, origin)
		require.Empty(t, header.Get("Access-Control-Allow-Origin"))
		w := post(t, withKeys, "/v1/t", body, "Origin", origin, "Authorization", basic("k"))
		require.Equal(t, http.StatusForbidden, w.Code, "a simple request is sent without asking, so it is refused itself")
		require.Equal(t, "origin_not_allowed", refusalOf(t, w).Error.Code)
	}
	withoutKeys := openDoor(t).handler
	for _, origin := range []string{"http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]:1"} {
		status, _ := preflight(withoutKeys, origin)
		require.Equal(t, http.StatusNoContent, status, origin)
	}
	status, _ = preflight(withoutKeys, "https://evil.example.net")
	require.Equal(t, http.StatusForbidden, status)
}

// TestLoopback shows that a server without keys does not open itself to a network.
func TestLoopback(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "0.0.0.0:0")
	require.NoError(t, err)
	err = serverOf(empty()).Serve(t.Context(), listener)
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
	require.ErrorContains(t, err, "loopback")
}
