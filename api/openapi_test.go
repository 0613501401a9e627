package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
)

// described is a server with every route there is, and what it says of itself.
func described(t *testing.T) (http.Handler, map[string]string, *openapi3.T) {
	t.Helper()
	d := openDoor(t)
	events, err := jetstream.New(d.js.Conn(), api.IntakeOptions()...)
	require.NoError(t, err)
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	seed, err := account.Seed()
	require.NoError(t, err)
	browsers, err := api.NewBrowsers(api.BrowsersConfig{Seed: seed})
	require.NoError(t, err)
	keys := ring(t, entry("w", api.RoleWrite, "write"), entry("r", api.RoleRead, "read"), entry("a", api.RoleAdmin, "admin"), entry("s", api.RoleAdmin, "slow", "rate: 0.001"))
	s := api.New(api.Config{WorkspaceKey: key(), Keys: keys, Events: events, Experiments: &shelf{}, Browsers: browsers}, filled(t), nil, quiet())
	handler := s.Handler()
	answer := get(t, handler, "/openapi.json")
	require.Equal(t, http.StatusOK, answer.Code)
	loader := openapi3.NewLoader()
	document, err := loader.LoadFromData(answer.Body.Bytes())
	require.NoError(t, err)
	require.Equal(t, "3.1.0", document.OpenAPI)
	require.NoError(t, document.Validate(t.Context()))
	return handler, s.Routes(), document
}

// TestOpenAPIRoutes: every route is described, with its methods, and nothing else is.
func TestOpenAPIRoutes(t *testing.T) {
	t.Parallel()
	_, routes, document := described(t)
	served, written := make(map[string][]string), make(map[string][]string)
	for pattern, methods := range routes {
		for method := range strings.SplitSeq(methods, ", ") {
			if method != http.MethodHead && method != http.MethodOptions {
				served[pattern] = append(served[pattern], method)
			}
		}
	}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			written[path] = append(written[path], method)
			require.NotEmpty(t, operation.Summary, path)
			require.NotEmpty(t, operation.Tags, path)
		}
		slices.Sort(written[path])
	}
	require.Equal(t, served, written)
}

// TestOpenAPIAnswers: what is asked as described is answered as described, and so is what is wrong.
func TestOpenAPIAnswers(t *testing.T) {
	t.Parallel()
	handler, _, document := described(t)
	router, err := legacy.NewRouter(document)
	require.NoError(t, err)
	seen := make(map[string]bool)
	track := `{"userId":"ann","messageId":"m1","event":"Signed Up","properties":{"plan":"pro"}}`
	evaluation := `{"context":{"targetingKey":"ann","plan":"pro"}}`
	for _, c := range []struct {
		name, method, path, key, body string
		status                        int
		wrong                         bool // against the description too
	}{
		{"track", "POST", "/v1/track", "write", track, 200, false},
		{"track again", "POST", "/v1/track", "write", track, 200, false},
		{"another event", "POST", "/v1/track", "write", strings.Replace(track, "pro", "team", 1), 409, false},
		{"no key", "POST", "/v1/track", "", track, 401, false},
		{"another role", "POST", "/v1/track", "read", track, 403, false},
		{"no user", "POST", "/v1/track", "write", `{"event":"E"}`, 422, false},
		{"no JSON", "POST", "/v1/track", "write", `{`, 400, true},
		{"too large", "POST", "/v1/track", "write", `{"userId":"a","event":"` + strings.Repeat("x", 40<<10) + `"}`, 413, false},
		{"a wait for something else", "POST", "/v1/track?wait=me", "admin", track, 400, true},
		{"identify", "POST", "/v1/identify", "write", `{"userId":"ann","traits":{"plan":"pro"}}`, 200, false},
		{"a short route", "POST", "/v1/t", "write", `{"userId":null,"anonymousId":"v1","event":"E"}`, 200, false},
		{"batch", "POST", "/v1/batch", "write", `{"batch":[{"type":"track","userId":"u","event":"E"},{"type":"track","event":"E"}]}`, 200, false},
		{"an empty batch", "POST", "/v1/batch", "write", `{"batch":[]}`, 400, false},
		{"import", "POST", "/v1/import", "write", `{"batch":[{"type":"track","messageId":"i1","userId":"u","event":"E"}]}`, 200, false},
		{"settings", "GET", "/v1/projects/write/settings", "", "", 200, false},
		{"settings of nobody", "GET", "/v1/projects/none/settings", "", "", 401, false},
		{"source", "GET", "/sourceConfig?writeKey=write", "write", "", 200, false},
		{"user", "GET", "/v1/users/ann", "read", "", 200, false},
		{"a stranger", "GET", "/v1/users/bob", "read", "", 404, false},
		{"no past", "GET", "/v1/users/ann?at=2026-01-01T00:00:00Z", "read", "", 404, false},
		{"a past that is none", "GET", "/v1/users/ann?at=noon", "read", "", 400, true},
		{"page token", "POST", "/v1/users/ann/token?ttl=5m", "read", "", 200, false},
		{"page token for too long", "POST", "/v1/users/ann/token?ttl=50h", "read", "", 400, false},
		{"credentials", "POST", "/v1/users/ann/credentials", "read", "", 200, false},
		{"credentials for a page", "POST", "/v1/users/ann/credentials", "write", "", 403, false},
		{"flags", "POST", "/ofrep/v1/evaluate/flags", "read", evaluation, 200, false},
		{"flags of nobody", "POST", "/ofrep/v1/evaluate/flags", "read", `{"context":{}}`, 400, false},
		{"flag", "POST", "/ofrep/v1/evaluate/flags/segment.at_risk", "read", evaluation, 200, false},
		{"journey", "POST", "/ofrep/v1/evaluate/flags/journey.onboarding", "read", evaluation, 200, false},
		{"no flag", "POST", "/ofrep/v1/evaluate/flags/none", "read", evaluation, 404, false},
		{"no stream", "GET", "/ofrep/v1/stream?token=x", "", "", 401, false},
		{"experiments", "GET", "/v1/experiments", "read", "", 200, false},
		{"results", "GET", "/v1/experiments/flow/results", "read", "", 200, false},
		{"results of no key", "GET", "/v1/experiments/Flow/results", "read", "", 400, false},
		{"page of results", "GET", "/experiments/flow", "read", "", 200, false},
		{"page", "GET", "/", "read", "", 200, false},
		{"alive", "GET", "/livez", "", "", 200, false},
		{"ready", "GET", "/readyz?verbose", "", "", 200, false},
		{"the description", "GET", "/openapi.json", "", "", 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
			request.Host = "localhost"
			if c.body != "" {
				request.Header.Set("Content-Type", "application/json")
			}
			if c.key != "" {
				request.Header.Set("Authorization", basic(c.key))
			}
			route, params, err := router.FindRoute(request)
			require.NoError(t, err)
			seen[route.Path] = true
			input := question(request, route, params)
			err = openapi3filter.ValidateRequest(t.Context(), input)
			require.Equal(t, c.wrong, err != nil, "%v", err)
			request.Body = io.NopCloser(strings.NewReader(c.body))
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			require.Equal(t, c.status, recorder.Code, recorder.Body.String())
			require.NoError(t, answeredAs(t.Context(), input, recorder))
		})
	}
	for path := range document.Paths.Map() { //nolint:paralleltest // nothing runs in it; the linter means what follows
		if kind := strings.TrimPrefix(path, "/v1/"); len(kind) == 1 || slices.Contains([]string{"page", "screen", "group", "alias"}, kind) {
			continue // as track, and described by the same words
		}
		require.True(t, seen[path], "%s is not tried", path)
	}
	t.Run("an answer that is not described is noticed", func(t *testing.T) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/users/ann", nil)
		route, params, err := router.FindRoute(request)
		require.NoError(t, err)
		for _, body := range []string{`{"error":{"code":"x","message":"m"}}`, `{"error":{"code":"x","message":"m","request_id":"r","more":1}}`, `{}`} {
			recorder := httptest.NewRecorder()
			recorder.Header().Set("Content-Type", "application/json")
			recorder.WriteHeader(http.StatusNotFound)
			_, err = recorder.WriteString(body)
			require.NoError(t, err)
			refused, ok := errors.AsType[*openapi3filter.ResponseError](answeredAs(t.Context(), question(request, route, params), recorder))
			require.True(t, ok, body)
			require.NotEmpty(t, refused.Reason)
		}
	})
}

func question(request *http.Request, route *routers.Route, params map[string]string) *openapi3filter.RequestValidationInput {
	return &openapi3filter.RequestValidationInput{
		Request: request, Route: route, PathParams: params,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
}

func answeredAs(ctx context.Context, input *openapi3filter.RequestValidationInput, recorder *httptest.ResponseRecorder) error {
	options := *input.Options
	options.ExcludeResponseBody = strings.HasPrefix(recorder.Header().Get("Content-Type"), "text/html") // a page is no JSON
	return openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: recorder.Code, Header: recorder.Header(), Body: io.NopCloser(bytes.NewReader(recorder.Body.Bytes())), Options: &options,
	})
}
