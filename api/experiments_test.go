package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/schema"
)

// shelf answers with what it was told to.
type shelf struct {
	err   error
	asked []string
}

func (s *shelf) List(context.Context) ([]byte, error) {
	return []byte(`[{"experiment":"flow"}]`), s.err
}

func (s *shelf) Results(_ context.Context, key string) ([]byte, error) {
	s.asked = append(s.asked, key)
	return []byte(`{"spec":{"experiment":"` + key + `"}}`), s.err
}

func (s *shelf) Page(_ context.Context, key string) (page []byte, policy string, err error) {
	s.asked = append(s.asked, key)
	return []byte("<!doctype html><title>" + key + "</title>"), "default-src 'none'; style-src 'sha256-x'", s.err
}

func withExperiments(x api.Experiments) http.Handler {
	return api.New(api.Config{WorkspaceKey: key(), Experiments: x}, empty(), nil, quiet()).Handler()
}

func TestExperiments(t *testing.T) {
	t.Parallel()
	t.Run("json", func(t *testing.T) {
		t.Parallel()
		w := get(t, withExperiments(&shelf{}), "/v1/experiments/onboarding_flow/results")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.JSONEq(t, `{"spec":{"experiment":"onboarding_flow"}}`, w.Body.String())
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
	})
	t.Run("page under its own policy", func(t *testing.T) {
		t.Parallel()
		w := get(t, withExperiments(&shelf{}), "/experiments/onboarding_flow")
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
		require.Equal(t, "default-src 'none'; style-src 'sha256-x'; frame-ancestors 'none'", w.Header().Get("Content-Security-Policy"))
	})
	t.Run("list", func(t *testing.T) {
		t.Parallel()
		require.JSONEq(t, `[{"experiment":"flow"}]`, get(t, withExperiments(&shelf{}), "/v1/experiments").Body.String())
		require.Contains(t, get(t, withExperiments(&shelf{}), "/").Body.String(), "/v1/experiments")
	})
	t.Run("a key that none can have is not asked for", func(t *testing.T) {
		t.Parallel()
		x := &shelf{}
		for _, path := range []string{"/v1/experiments/UPPER/results", "/experiments/%3Cscript%3E", "/experiments/" + strings.Repeat("a", 65), "/v1/experiments/a%20b/results"} {
			w := get(t, withExperiments(x), path)
			require.Equal(t, http.StatusBadRequest, w.Code, path)
			require.Equal(t, "key", refusalOf(t, w).Error.Field)
			require.NotContains(t, w.Body.String(), "script")
		}
		require.Empty(t, x.asked)
	})
	t.Run("errors", func(t *testing.T) {
		t.Parallel()
		for status, err := range map[int]error{
			http.StatusNotFound:            &schema.Error{Code: schema.CodeNotFound, Message: "secret"},
			http.StatusServiceUnavailable:  &schema.Error{Code: schema.CodeUnavailable, Message: "secret"},
			http.StatusInternalServerError: errors.New("secret"),
		} {
			for _, path := range []string{"/v1/experiments", "/v1/experiments/flow/results", "/experiments/flow"} {
				w := get(t, withExperiments(&shelf{err: err}), path)
				require.Equal(t, status, w.Code, path)
				require.NotContains(t, w.Body.String(), "secret", "what went wrong is for the log")
				require.NotEmpty(t, refusalOf(t, w).Error.Message)
			}
		}
	})
	t.Run("not there unless wired", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, http.StatusNotFound, get(t, serverOf(empty()).Handler(), "/v1/experiments").Code)
		require.NotContains(t, get(t, serverOf(empty()).Handler(), "/").Body.String(), "experiments")
	})
	t.Run("only read", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, http.StatusMethodNotAllowed, do(t, withExperiments(&shelf{}), http.MethodPost, "/v1/experiments/flow/results").Code)
	})
}
