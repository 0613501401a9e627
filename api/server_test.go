package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// filled returns a mirror that holds ann and is ready.
func filled(t *testing.T, more ...schema.Profile) *api.Mirror {
	t.Helper()
	js := testenv.NewBroker(t).Connect(t)
	makeStream(t, js)
	for _, profile := range append([]schema.Profile{profileOf("ann", 3)}, more...) {
		publish(t, js, profile)
	}
	m := api.NewMirror(js, quiet())
	run(t, m)
	ready(t, m)
	return m
}

func empty() *api.Mirror { return api.NewMirror(nil, quiet()) }

func serverOf(m *api.Mirror, checks ...api.Check) *api.Server {
	return api.New(api.Config{WorkspaceKey: key()}, m, checks, quiet())
}

func get(t *testing.T, handler http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, handler, http.MethodGet, target, header...)
}

func do(t *testing.T, handler http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	request.Host = "localhost"
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			request.Host = header[i+1]
			continue
		}
		request.Header.Add(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

type refusal struct {
	Error struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Field     string `json:"field"`
		RequestID string `json:"request_id"`
	} `json:"error"`
}

func refusalOf(t *testing.T, w *httptest.ResponseRecorder) refusal {
	t.Helper()
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var r refusal
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &r), w.Body.String())
	require.NotEmpty(t, r.Error.Message)
	require.Equal(t, w.Header().Get("X-Request-Id"), r.Error.RequestID)
	return r
}

func TestUser(t *testing.T) {
	t.Parallel()
	hostile := []string{"a/b", "..", "../../etc/passwd", "a b+c%41", "ü\U0001F600", "*", ">", "a.b", "?x=1#y", "user@example.org", `"><script>`}
	var more []schema.Profile
	for _, id := range hostile {
		more = append(more, profileOf(id, 1))
	}
	mirror := filled(t, more...)
	handler := serverOf(mirror).Handler()
	t.Run("ok", func(t *testing.T) {
		t.Parallel()
		w := get(t, handler, "/v1/users/ann")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Equal(t, "private, no-cache", w.Header().Get("Cache-Control"))
		var got schema.Profile
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		require.Equal(t, profileOf("ann", 3), got)
	})
	t.Run("ids of every shape", func(t *testing.T) {
		t.Parallel()
		for _, id := range hostile {
			escaped := strings.ReplaceAll(url.PathEscape(id), ".", "%2E")
			w := get(t, handler, "/v1/users/"+escaped)
			require.Equal(t, http.StatusOK, w.Code, id)
			require.Contains(t, w.Body.String(), tokenOf(id), id)
		}
	})
	t.Run("not modified", func(t *testing.T) {
		t.Parallel()
		tag := get(t, handler, "/v1/users/ann").Header().Get("ETag")
		require.Regexp(t, `^"[A-Za-z0-9_-]{22}"$`, tag)
		for _, header := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			w := get(t, handler, "/v1/users/ann", "If-None-Match", header)
			require.Equal(t, http.StatusNotModified, w.Code, header)
			require.Empty(t, w.Body.String())
			require.Equal(t, tag, w.Header().Get("ETag"))
		}
		require.Equal(t, http.StatusOK, get(t, handler, "/v1/users/ann", "If-None-Match", `"other"`).Code)
	})
	t.Run("head", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, http.StatusOK, do(t, handler, http.MethodHead, "/v1/users/ann").Code)
	})
	t.Run("nobody, and asking makes nobody", func(t *testing.T) {
		t.Parallel()
		before := mirror.Len()
		for range 3 {
			w := get(t, handler, "/v1/users/nobody")
			require.Equal(t, http.StatusNotFound, w.Code)
			require.Equal(t, "not_found", refusalOf(t, w).Error.Code)
			require.NotContains(t, w.Body.String(), "nobody", "an id is never repeated")
		}
		require.Equal(t, before, mirror.Len())
	})
	t.Run("not an id", func(t *testing.T) {
		t.Parallel()
		for _, id := range []string{"%FF", strings.Repeat("a", schema.MaxUserID+1)} {
			w := get(t, handler, "/v1/users/"+id)
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.Equal(t, "invalid", refusalOf(t, w).Error.Code)
			require.Equal(t, "id", refusalOf(t, w).Error.Field)
		}
	})
	t.Run("not read in yet is not nobody", func(t *testing.T) {
		t.Parallel()
		w := get(t, serverOf(empty()).Handler(), "/v1/users/ann")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "unavailable", refusalOf(t, w).Error.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	handler := serverOf(empty()).Handler()
	t.Run("paths are what they seem", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{
			"/nothing", "/v1", "/v1/users", "/v1/users/", "/v1/users/a/b", "/livez/", "//livez", "/./livez", "/v1/../livez", "/v1/users/..", "/LIVEZ",
			"/index.html", "/%2e%2e/livez",
		} {
			w := get(t, handler, path)
			require.Equal(t, http.StatusNotFound, w.Code, path)
			require.Equal(t, "not_found", refusalOf(t, w).Error.Code)
		}
	})
	t.Run("methods", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/", "/livez", "/readyz", "/v1/users/ann"} {
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "BREW"} {
				w := do(t, handler, method, path)
				require.Equal(t, http.StatusMethodNotAllowed, w.Code, method+" "+path)
				require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
				require.Equal(t, "invalid", refusalOf(t, w).Error.Code)
			}
		}
	})
	t.Run("hosts", func(t *testing.T) {
		t.Parallel()
		server := api.New(api.Config{WorkspaceKey: key(), AllowedHosts: []string{"onramp.example.org"}}, empty(), nil, quiet()).Handler()
		for _, host := range []string{"localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7", "onramp.example.org", "ONRAMP.example.org.:443"} {
			require.Equal(t, http.StatusOK, get(t, server, "/livez", "Host", host).Code, host)
		}
		for _, host := range []string{"evil.example.net", "localhost.example.net", "", "127.0.0.1.example.net:8080"} {
			w := get(t, server, "/livez", "Host", host)
			require.Equal(t, http.StatusMisdirectedRequest, w.Code, host)
			require.Equal(t, "host", refusalOf(t, w).Error.Field)
		}
		all := api.New(api.Config{WorkspaceKey: key(), AllowedHosts: []string{"*"}}, empty(), nil, quiet()).Handler()
		require.Equal(t, http.StatusOK, get(t, all, "/livez", "Host", "any.example.net").Code)
	})
	t.Run("request ids", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "abc-1._X", get(t, handler, "/livez", "X-Request-Id", "abc-1._X").Header().Get("X-Request-Id"))
		for _, id := range []string{"", "with space", "new\nline", strings.Repeat("x", 65), "<b>"} {
			got := get(t, handler, "/livez", "X-Request-Id", id).Header().Get("X-Request-Id")
			require.Regexp(t, `^[A-Z2-7]{26}$`, got)
		}
	})
	t.Run("headers for browsers", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/", "/livez", "/nothing"} {
			header := get(t, handler, path).Header()
			require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
			require.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'")
			require.Equal(t, "no-referrer", header.Get("Referrer-Policy"))
			require.Empty(t, header.Get("Access-Control-Allow-Origin"))
		}
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	ok := api.Check{Name: "nats", Run: func(context.Context) error { return nil }}
	away := api.Check{Name: "temporal", Run: func(context.Context) error { return errors.New("connection refused") }}
	mirror := filled(t)
	t.Run("alive whatever is away", func(t *testing.T) {
		t.Parallel()
		w := get(t, serverOf(empty(), away).Handler(), "/livez")
		require.Equal(t, http.StatusOK, w.Code)
		require.JSONEq(t, `{"status":"alive"}`, w.Body.String())
	})
	t.Run("ready", func(t *testing.T) {
		t.Parallel()
		w := get(t, serverOf(mirror, ok).Handler(), "/readyz")
		require.Equal(t, http.StatusOK, w.Code)
		require.JSONEq(t, `{"status":"ready","failed":[]}`, w.Body.String())
	})
	t.Run("names what is missing", func(t *testing.T) {
		t.Parallel()
		w := get(t, serverOf(empty(), ok, away).Handler(), "/readyz")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.JSONEq(t, `{"status":"not_ready","failed":["profiles","temporal"]}`, w.Body.String())
	})
	t.Run("verbose says what they said", func(t *testing.T) {
		t.Parallel()
		w := get(t, serverOf(mirror, ok, away).Handler(), "/readyz?verbose")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		var body struct {
			Checks []struct {
				Name  string `json:"name"`
				OK    bool   `json:"ok"`
				Error string `json:"error"`
			} `json:"checks"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		require.Len(t, body.Checks, 3)
		require.True(t, body.Checks[0].OK)
		require.Equal(t, "temporal", body.Checks[2].Name)
		require.Equal(t, "connection refused", body.Checks[2].Error)
	})
}

// TestHealthKept: an answer that holds costs its part nothing, whoever asks; a bad one holds for a second.
func TestHealthKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, err := 0, error(nil)
		check := api.Check{Name: "clickhouse", Keep: 3 * time.Second, Timeout: 4 * time.Second, Run: func(context.Context) error {
			asked++
			time.Sleep(250 * time.Millisecond)
			return err
		}}
		handler := serverOf(nil, check).Handler()
		ready := func(path string) string { return get(t, handler, path).Body.String() }
		require.JSONEq(t, `{"status":"ready","failed":[],"checks":[{"name":"clickhouse","ok":true,"ms":250}]}`, ready("/readyz?verbose"))
		time.Sleep(2 * time.Second)
		require.JSONEq(t, `{"status":"ready","failed":[],"checks":[{"name":"clickhouse","ok":true,"ms":250,"age_ms":2000}]}`, ready("/readyz?verbose"))
		require.Equal(t, 1, asked)
		err = errors.New("gone")
		time.Sleep(time.Second)
		require.JSONEq(t, `{"status":"not_ready","failed":["clickhouse"]}`, ready("/readyz"))
		require.JSONEq(t, `{"status":"ready","failed":[]}`, ready("/readyz?exclude=clickhouse&exclude=no_such"))
		require.JSONEq(t, `{"status":"not_ready","failed":["clickhouse"]}`, ready("/readyz?exclude=no_such"))
		require.Equal(t, 2, asked)
		err = nil
		time.Sleep(time.Second)
		require.JSONEq(t, `{"status":"ready","failed":[]}`, ready("/readyz"))
		require.Equal(t, 3, asked)
	})
}

// TestHealthLeft: who goes away before the answer leaves it to the next.
func TestHealthLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		check := api.Check{Name: "temporal", Keep: 3 * time.Second, Run: func(context.Context) error { time.Sleep(1500 * time.Millisecond); return nil }}
		handler := serverOf(nil, check).Handler()
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(hasty, http.MethodGet, "http://localhost/readyz", http.NoBody))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		began := time.Now()
		require.Equal(t, http.StatusOK, get(t, handler, "/readyz").Code)
		require.Equal(t, 500*time.Millisecond, time.Since(began))
	})
}

// TestHealthDeadline runs on a clock of its own.
func TestHealthDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := api.Check{Name: "clickhouse", Run: func(context.Context) error { <-release; return nil }}
		patient := api.Check{Name: "temporal", Run: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }}
		began := time.Now()
		w := get(t, serverOf(empty(), stuck, patient).Handler(), "/readyz?verbose")
		require.Equal(t, 2*time.Second, time.Since(began), "all run at once, none longer than 2 s")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, 2, strings.Count(w.Body.String(), "no answer in 2s"))
		close(release)
	})
}

func TestIndex(t *testing.T) {
	t.Parallel()
	w := get(t, api.New(api.Config{WorkspaceKey: key(), Version: "v0.1.0", Links: map[string]string{
		"Temporal UI": "http://127.0.0.1:8233", "<b>ClickHouse": "http://127.0.0.1:8123/play?a=1&b=<script>", "Bad": "javascript:alert(1)",
	}}, empty(), nil, quiet()).Handler(), "/")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	page := w.Body.String()
	require.Contains(t, page, `<a href="http://127.0.0.1:8233">`)
	require.Contains(t, page, "v0.1.0")
	require.NotContains(t, page, "<b>")
	require.NotContains(t, page, "<script>")
	require.NotContains(t, page, `href="javascript:`)
	_, rest, found := strings.Cut(page, "<style>")
	require.True(t, found)
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'", "the style sheet is the one allowed")
	require.NotContains(t, page, "src=")
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	server := api.New(api.Config{WorkspaceKey: key()}, filled(t), nil, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	get(t, server.Handler(), "/v1/users/ann?q=secret", "X-Request-Id", "r1", "User-Agent", "agent")
	get(t, server.Handler(), "/private-path-of-ann")
	text := log.String()
	for _, want := range []string{`"route":"/v1/users/{id}"`, `"user_token":"` + tokenOf("ann"), `"status":200`, `"request_id":"r1"`, `"status":404`, `"route":"none"`} {
		require.Contains(t, text, want)
	}
	for _, never := range []string{"/ann", "of-ann", "secret", "agent"} {
		require.NotContains(t, text, never)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	w := get(t, serverOf(empty()).Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the cause") })), "/")
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, "internal", refusalOf(t, w).Error.Code)
	require.NotContains(t, w.Body.String(), "the cause")
}

func TestWithoutMirror(t *testing.T) {
	t.Parallel()
	handler := serverOf(nil).Handler()
	require.Equal(t, http.StatusOK, get(t, handler, "/readyz").Code)
	require.Equal(t, http.StatusNotFound, get(t, handler, "/v1/users/ann").Code)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}

func TestServe(t *testing.T) {
	t.Parallel()
	t.Run("a configuration that cannot work", func(t *testing.T) {
		t.Parallel()
		server := api.New(api.Config{Addr: "nowhere", WorkspaceKey: []byte("short"), Links: map[string]string{"x": "javascript:1"}}, empty(), nil, quiet())
		listener := listen(t)
		err := server.Serve(t.Context(), listener)
		require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
		for _, part := range []string{"nowhere", "workspace key", `link "x"`} {
			require.ErrorContains(t, err, part)
		}
		require.ErrorIs(t, listener.Close(), net.ErrClosed)
	})
	t.Run("an address that is taken", func(t *testing.T) {
		t.Parallel()
		taken := listen(t)
		defer func() { require.NoError(t, taken.Close()) }()
		err := api.New(api.Config{Addr: taken.Addr().String(), WorkspaceKey: key()}, empty(), nil, quiet()).Run(t.Context())
		require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	})
	t.Run("headers are bounded", func(t *testing.T) {
		t.Parallel()
		base, stop := serve(t, serverOf(empty()))
		defer stop()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/livez", nil)
		require.NoError(t, err)
		request.Header.Set("X-Big", strings.Repeat("x", 1<<20))
		response, err := client().Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, response.StatusCode)
	})
	t.Run("drains", func(t *testing.T) {
		t.Parallel()
		entered, release := make(chan struct{}), make(chan struct{})
		slow := api.Check{Name: "slow", Run: func(context.Context) error { close(entered); <-release; return nil }}
		base, stop := serve(t, serverOf(empty(), slow))
		answered := make(chan int, 1)
		go func() {
			response, err := client().Get(base + "/readyz") //nolint:noctx // ends with the server
			if !assert.NoError(t, err) {
				return
			}
			_, err = io.Copy(io.Discard, response.Body)
			assert.NoError(t, errors.Join(err, response.Body.Close()))
			answered <- response.StatusCode
		}()
		<-entered
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		require.Eventually(t, func() bool { // no new connection is taken
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
			if err == nil {
				err = errors.Join(nil, conn.Close())
			}
			return err != nil
		}, patience, poll)
		close(release)
		require.Equal(t, http.StatusServiceUnavailable, <-answered, "the request in hand was answered")
		<-stopped
	})
}

func client() *http.Client { return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} }

// serve runs the server and returns its address and a function that ends it.
func serve(t *testing.T, server *api.Server) (base string, stop func()) {
	t.Helper()
	listener := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	return "http://" + listener.Addr().String(), func() {
		cancel()
		assert.NoError(t, <-done)
	}
}

// TestAnswered: every request is told by its pattern, never by its path, which holds a raw user id.
func TestAnswered(t *testing.T) {
	t.Parallel()
	var told []string
	server := api.New(api.Config{WorkspaceKey: key(), Answered: func(route string, status int, took time.Duration) {
		require.GreaterOrEqual(t, took, time.Duration(0))
		told = append(told, fmt.Sprint(route, " ", status))
	}}, api.NewMirror(nil, quiet()), nil, quiet())
	for _, path := range []string{"/livez", "/readyz", "/v1/users/ann%40example.com", "/no/such/route"} {
		get(t, server.Handler(), path)
	}
	require.Equal(t, []string{"/livez 200", "/readyz 503", "/v1/users/{id} 503", "none 404"}, told)
}
