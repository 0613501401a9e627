package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/schema"
)

const flagsPath = "/ofrep/v1/evaluate/flags"

func asking(id string) string { return `{"context":{"targetingKey":"` + id + `","plan":"pro"}}` }

// flagOf is a flag on the wire, or why it is none.
type flagOf struct {
	Key          string         `json:"key"`
	Value        any            `json:"value"`
	Reason       string         `json:"reason"`
	Variant      string         `json:"variant"`
	Metadata     map[string]any `json:"metadata"`
	ErrorCode    string         `json:"errorCode"`
	ErrorDetails string         `json:"errorDetails"`
}

func flagIn(t *testing.T, w *httptest.ResponseRecorder) flagOf {
	t.Helper()
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var f flagOf
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f), w.Body.String())
	return f
}

func TestFlags(t *testing.T) {
	t.Parallel()
	bob := profileOf("bob", 1)
	bob.Segments[0].Unknown = true
	bob.Journeys = append(bob.Journeys, schema.JourneyStatus{Journey: "onboarding", StartedAt: bob.Journeys[0].StartedAt + 1, Ended: "completed", Converted: true})
	mirror := filled(t, bob)
	handler := serverOf(mirror).Handler()
	t.Run("one by one", func(t *testing.T) {
		t.Parallel()
		for name, want := range map[string]flagOf{
			"segment.engaged_newcomer": {Value: true, Reason: "TARGETING_MATCH", Variant: "in"},
			"segment.at_risk":          {Value: false, Reason: "TARGETING_MATCH", Variant: "out"},
			"variant.checklist_style":  {Value: "guided", Reason: "SPLIT", Variant: "guided"},
			"stage":                    {Value: "onboarding/checklist", Reason: "STATIC"},
			"journey.onboarding": {Reason: "TARGETING_MATCH", Variant: "checklist", Value: map[string]any{
				"step": "checklist", "waiting": "project_created, or segments.engaged_newcomer", "started_at": 1.7899e12, "deadline": 1.7903e12,
				"ended": "", "converted": false, "paused": false,
			}},
		} {
			w := post(t, handler, flagsPath+"/"+name, asking("ann"))
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			got := flagIn(t, w)
			require.Equal(t, name, got.Key)
			require.Equal(t, tokenOf("ann"), got.Metadata["contextId"])
			require.Equal(t, "onramp", got.Metadata["flagSetId"])
			require.Equal(t, profileOf("ann", 3).Playbook, got.Metadata["version"])
			want.Key, want.Metadata = name, got.Metadata
			require.Equal(t, want, got)
		}
	})
	t.Run("a rule without an answer, and the newest enrollment", func(t *testing.T) {
		t.Parallel()
		got := flagIn(t, post(t, handler, flagsPath+"/segment.engaged_newcomer", asking("bob")))
		require.Equal(t, "UNKNOWN", got.Reason)
		require.Equal(t, true, got.Value, "what it was before")
		got = flagIn(t, post(t, handler, flagsPath+"/journey.onboarding", asking("bob")))
		require.Equal(t, "completed", got.Variant)
	})
	t.Run("all, and not again while nothing changes", func(t *testing.T) {
		t.Parallel()
		w := post(t, handler, flagsPath, asking("ann"))
		require.Equal(t, http.StatusOK, w.Code)
		var all struct {
			Flags    []flagOf       `json:"flags"`
			Metadata map[string]any `json:"metadata"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &all))
		var keys []string
		for _, f := range all.Flags {
			keys = append(keys, f.Key)
		}
		require.Equal(t, []string{"journey.onboarding", "segment.at_risk", "segment.engaged_newcomer", "segment.power_user", "stage", "variant.checklist_style"}, keys)
		tag := w.Header().Get("ETag")
		require.NotEmpty(t, tag)
		for _, header := range []string{tag, "W/" + tag} {
			w := post(t, handler, flagsPath, asking("ann"), "If-None-Match", header)
			require.Equal(t, http.StatusNotModified, w.Code)
			require.Empty(t, w.Body.String())
			require.Equal(t, tag, w.Header().Get("ETag"))
		}
		require.Equal(t, http.StatusOK, post(t, handler, flagsPath, asking("bob"), "If-None-Match", tag).Code, "a tag is of one user's flags")
	})
	t.Run("nobody has no flags, and asking makes nobody", func(t *testing.T) {
		t.Parallel()
		before := mirror.Len()
		w := post(t, handler, flagsPath, asking("nobody"))
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Body.String(), `"flags":[]`)
		w = post(t, handler, flagsPath+"/segment.at_risk", asking("nobody"))
		require.Equal(t, http.StatusNotFound, w.Code)
		require.Equal(t, "FLAG_NOT_FOUND", flagIn(t, w).ErrorCode)
		require.Equal(t, before, mirror.Len())
	})
	t.Run("not read in yet", func(t *testing.T) {
		t.Parallel()
		h := serverOf(empty()).Handler()
		require.Equal(t, http.StatusOK, post(t, h, flagsPath, asking("ann")).Code, "the web provider would give up")
		w := post(t, h, flagsPath+"/stage", asking("ann"))
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Equal(t, "GENERAL", flagIn(t, w).ErrorCode)
	})
}

func TestFlagsBadInput(t *testing.T) {
	t.Parallel()
	handler := serverOf(filled(t)).Handler()
	for body, code := range map[string]string{
		"":                                  "PARSE_ERROR",
		"{":                                 "PARSE_ERROR",
		"[]":                                "PARSE_ERROR",
		"{}":                                "TARGETING_KEY_MISSING",
		`{"context":{}}`:                    "TARGETING_KEY_MISSING",
		`{"context":{"targetingKey":null}}`: "TARGETING_KEY_MISSING",
		`{"context":{"targetingKey":" "}}`:  "TARGETING_KEY_MISSING",
		`{"context":5}`:                     "INVALID_CONTEXT",
		`{"context":{"targetingKey":5}}`:    "INVALID_CONTEXT",
		asking(strings.Repeat("a", 257)):    "INVALID_CONTEXT",
		`{"context":{"targetingKey":"a","a":1,"a":2}}`:            "PARSE_ERROR",
		`{"context":{"x":"` + strings.Repeat("x", 64<<10) + `"}}`: "PARSE_ERROR",
	} {
		for _, path := range []string{flagsPath, flagsPath + "/stage"} {
			w := post(t, handler, path, body)
			require.Equal(t, http.StatusBadRequest, w.Code, body)
			got := flagIn(t, w)
			require.Equal(t, code, got.ErrorCode, body)
			require.NotEmpty(t, got.ErrorDetails)
			require.NotContains(t, w.Body.String(), `"error":`, "OFREP's own shape")
		}
	}
	w := post(t, handler, flagsPath+"/no.such", asking("ann"))
	require.Equal(t, http.StatusNotFound, w.Code)
	require.JSONEq(t, `{"key":"no.such","errorCode":"FLAG_NOT_FOUND","errorDetails":"this user has no such flag"}`, w.Body.String())
	require.Equal(t, http.StatusMethodNotAllowed, get(t, handler, flagsPath).Code)
}

// TestFlagsKeys: a key that stands in a page reads the flags of the user for whom the page has a token, and of nobody else.
func TestFlagsKeys(t *testing.T) {
	t.Parallel()
	keys := ringOf(t, "origins: [https://app.example.org]\nkeys:\n"+entry("w", api.RoleWrite, "write")+entry("r", api.RoleRead, "read"))
	handler := api.New(api.Config{WorkspaceKey: key(), Keys: keys}, filled(t), nil, quiet()).Handler()
	require.Equal(t, http.StatusUnauthorized, post(t, handler, flagsPath, asking("ann")).Code)
	w := post(t, handler, flagsPath, asking("ann"), "Authorization", "Bearer read")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "onboarding_completed", "a service sees why")
	require.Contains(t, post(t, handler, flagsPath, asking(tokenOf("ann")), "X-Api-Key", "read").Body.String(), "guided", "or asks by token")
	w = post(t, handler, flagsPath, asking("ann"), "Authorization", "Bearer write")
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Equal(t, "INVALID_CONTEXT", flagIn(t, w).ErrorCode)
	require.Equal(t, http.StatusBadRequest, post(t, handler, flagsPath, asking(tokenOf("ann")), "Authorization", "Bearer write").Code)
	page := api.PageToken(key(), tokenOf("ann"), time.Now().Add(time.Hour))
	w = post(t, handler, flagsPath, asking(page), "Authorization", "Bearer write", "Origin", "https://app.example.org")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "guided")
	require.NotContains(t, w.Body.String(), "explanation", "a page does not see rules")
	require.Equal(t, "https://app.example.org", w.Header().Get("Access-Control-Allow-Origin"))
	require.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), "ETag")
	pre := do(t, handler, http.MethodOptions, flagsPath, "Origin", "https://app.example.org", "Access-Control-Request-Headers", "authorization,content-type,if-none-match")
	require.Equal(t, http.StatusNoContent, pre.Code)
	require.Contains(t, pre.Header().Get("Access-Control-Allow-Headers"), "if-none-match")
}
