package api_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
)

// OpenFeature's providers from npm against a real server: B1, B2 and B4 to B6 of the project's list of real clients. B3 and B8 are of
// event streams, B7 of browsers.

type details struct {
	Value     any            `json:"value"`
	Reason    string         `json:"reason"`
	Variant   string         `json:"variant"`
	ErrorCode string         `json:"errorCode"`
	Metadata  map[string]any `json:"metadata"`
}

// TestB1WebProvider also holds B2 (a change reaches the client and names what changed), B4 (no change is a 304 and no event) and B5
// (another user gets nothing of the first).
func TestB1WebProvider(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	makeStream(t, js)
	other := profileOf("other", 1)
	other.Variants, other.Stage = nil, "elsewhere"
	publish(t, js, profileOf("ann", 3))
	publish(t, js, other)
	mirror := api.NewMirror(js, quiet())
	run(t, mirror)
	ready(t, mirror)
	handler := serverOf(mirror).Handler()
	var notModified, evaluated atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /test/polled", func(http.ResponseWriter, *http.Request) {
		from := notModified.Load()
		assert.Eventually(t, func() bool { return notModified.Load() >= from+3 }, patience, poll)
	})
	changed := profileOf("ann", 4)
	changed.Segments[1].In = true
	change := func() { publish(t, js, changed) }
	mux.HandleFunc("POST /test/change", func(http.ResponseWriter, *http.Request) { change() })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		recorder := &statusRecorder{ResponseWriter: w}
		handler.ServeHTTP(recorder, r)
		switch recorder.status {
		case http.StatusNotModified:
			notModified.Add(1)
		case http.StatusOK:
			evaluated.Add(1)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	var saw struct {
		Changes                                           [][]string
		Quiet                                             int
		String, Boolean, Object, Missing, Mismatch, Other details
		OtherStage                                        string
	}
	node(t, &saw, "openfeature.mjs", "web", server.URL, "ann", "other")
	require.Equal(t, details{Value: "guided", Reason: "SPLIT", Variant: "guided", Metadata: saw.String.Metadata}, saw.String)
	require.Equal(t, "checklist_style", saw.String.Metadata["experiment"])
	require.Equal(t, true, saw.Boolean.Value)
	require.Equal(t, "TARGETING_MATCH", saw.Boolean.Reason)
	require.Equal(t, "checklist", saw.Object.Value.(map[string]any)["step"])
	require.Equal(t, true, saw.Missing.Value, "the default of the code")
	require.Equal(t, "FLAG_NOT_FOUND", saw.Missing.ErrorCode)
	require.InDelta(t, 7, saw.Mismatch.Value, 0)
	require.Equal(t, "TYPE_MISMATCH", saw.Mismatch.ErrorCode)
	require.Zero(t, saw.Quiet, "polls without a change say nothing")
	require.Equal(t, [][]string{{"segment.at_risk"}}, saw.Changes[:1], "what changed, and nothing else")
	require.Equal(t, "none", saw.Other.Value, "nothing of the first user")
	require.Equal(t, "elsewhere", saw.OtherStage)
	require.LessOrEqual(t, evaluated.Load(), int64(3), "the first, the change, the other user: all else was 304")
}

// TestB6ServerProvider: found, not found, nobody, no targeting key, 429 and the pause after it, recovery.
func TestB6ServerProvider(t *testing.T) {
	t.Parallel()
	handler := serverOf(filled(t)).Handler()
	var limited atomic.Bool
	var during atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /test/limit", func(http.ResponseWriter, *http.Request) { limited.Store(true) })
	mux.HandleFunc("POST /test/unlimit", func(http.ResponseWriter, *http.Request) { limited.Store(false) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if limited.Load() { // as a key answers whose rate is used up; see TestKeysRate
			during.Add(1)
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		handler.ServeHTTP(w, r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	var saw struct{ String, Boolean, Missing, Nobody, Nokey, Limited, Paused, Recovered details }
	node(t, &saw, "openfeature.mjs", "server", server.URL, "ann", "other")
	require.Equal(t, "guided", saw.String.Value)
	require.Equal(t, true, saw.Boolean.Value)
	require.Equal(t, "FLAG_NOT_FOUND", saw.Missing.ErrorCode)
	require.Equal(t, true, saw.Missing.Value)
	require.Equal(t, "FLAG_NOT_FOUND", saw.Nobody.ErrorCode)
	require.Equal(t, "TARGETING_KEY_MISSING", saw.Nokey.ErrorCode)
	require.Equal(t, "default", saw.Limited.Value)
	require.Equal(t, "default", saw.Paused.Value)
	require.Equal(t, int64(1), during.Load(), "it keeps quiet as long as it is told")
	require.Equal(t, "onboarding/checklist", saw.Recovered.Value)
}
