package api_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// OpenFeature's providers from npm against a real server: B1 to B6, B8 and B9 of the project's list of real clients. B7 is of
// browsers, and B3 and B8 are there a second time.

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

// kiosk is an API on an address that stays, which a test can take away and bring back, for one page with a write key and a page token.
type kiosk struct {
	broker       *testenv.Broker
	js           jetstream.JetStream
	cfg          api.Config
	url          string
	beforeStream func(n int) // called before each event stream is opened, with its number from 1
	port         string
	streams      atomic.Int64
	bulks        atomic.Int64
	stop         func()
	mirror       *api.Mirror
	server       *api.Server
}

func newKiosk(t *testing.T, more string) *kiosk {
	t.Helper()
	broker := testenv.NewBroker(t)
	k := &kiosk{broker: broker, js: broker.Connect(t), port: "127.0.0.1:0"}
	makeStream(t, k.js)
	publish(t, k.js, profileOf("ann", 3))
	k.cfg = api.Config{WorkspaceKey: key(), Keys: ringOf(t, more+"keys:\n"+entry("web", api.RoleWrite, "right")+entry("service", api.RoleRead, "service"))}
	return k
}

func (k *kiosk) pageToken() string {
	return api.PageToken(key(), tokenOf("ann"), time.Now().Add(time.Hour))
}

// start listens, as a process does that has just been started: with profiles that are still to be read in.
func (k *kiosk) start(t *testing.T) {
	t.Helper()
	k.mirror = api.NewMirror(k.js, quiet())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	following := make(chan error, 1)
	go func() { following <- k.mirror.Run(ctx) }()
	if k.js.Conn().IsConnected() {
		assert.Eventually(t, k.mirror.Ready, patience, poll)
	}
	k.server = api.New(k.cfg, k.mirror, nil, quiet())
	handler := k.server.Handler()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", k.port)
	if !assert.NoError(t, err) { //nolint:testifylint // also called beside the test, where it must not end it
		cancel()
		return
	}
	k.port = listener.Addr().String()
	k.url = "http://" + k.port
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/ofrep/v1/stream" && k.beforeStream != nil:
			k.beforeStream(int(k.streams.Add(1)))
		case r.URL.Path == flagsPath && r.Method == http.MethodPost:
			k.bulks.Add(1)
		}
		handler.ServeHTTP(w, r)
	})}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()
	var once sync.Once
	k.stop = func() {
		once.Do(func() { // as a process that is killed: no word to anybody
			server.Close()
			cancel()
			<-serving
			<-following
		})
	}
	t.Cleanup(k.stop)
}

func (k *kiosk) kill(t *testing.T) { t.Helper(); k.stop() }

// change publishes ann's next profile, and waits for a server that runs.
func (k *kiosk) change(t *testing.T, sequence uint64, atRisk bool) {
	t.Helper()
	profile := profileOf("ann", sequence)
	profile.Segments[1].In = atRisk
	body, err := json.Marshal(profile)
	assert.NoError(t, err) //nolint:testifylint // as in start
	_, err = k.js.Publish(context.WithoutCancel(t.Context()), schema.ProfileSubject(profile.UserToken), body)
	assert.NoError(t, err)
}

// listened waits until a stream is open and has told its first event: as long as a browser may take to start on a busy machine.
func (k *kiosk) listened(t *testing.T) bool {
	t.Helper()
	return assert.Eventually(t, func() bool { return k.server.Streams() > 0 && k.bulks.Load() > 1 }, 4*patience, poll)
}

type streamed struct {
	Changes [][]string `json:"changes"`
	Stale   int        `json:"stale"`
	Status  string     `json:"status"`
	Before  bool       `json:"before"`
	// Meanwhile is what the client said while nobody answered it.
	Meanwhile bool   `json:"meanwhile"`
	After     bool   `json:"after"`
	String    string `json:"string"`
}

// listen runs stream.mjs; words are what it may ask for.
func (k *kiosk) listen(t *testing.T, what string, words map[string]func()) (saw streamed) {
	t.Helper()
	mux := http.NewServeMux()
	for word, do := range words {
		mux.HandleFunc("POST /"+word, func(http.ResponseWriter, *http.Request) { do() })
	}
	control := httptest.NewServer(mux)
	t.Cleanup(control.Close)
	node(t, &saw, "stream.mjs", what, k.url, k.pageToken(), "right", control.URL)
	return saw
}

// TestB3ChangeBeforeStream: what changes after the answer and before the stream is opened is told by the stream's first event.
func TestB3ChangeBeforeStream(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, "")
	k.beforeStream = func(int) {
		k.change(t, 4, true)
		assert.Eventually(t, func() bool { return sequenceOf(k.mirror, "ann") == 4 }, patience, poll)
	}
	k.start(t)
	saw := k.listen(t, "race", nil)
	require.Equal(t, "READY", saw.Status)
	require.False(t, saw.Before)
	require.Equal(t, "guided", saw.String)
	require.True(t, saw.After)
	require.Equal(t, [][]string{{"segment.at_risk"}}, saw.Changes)
	require.Zero(t, saw.Stale)
	require.Equal(t, int64(2), k.bulks.Load(), "one answer, and one more because the stream said so: nothing polls")
}

// TestB8Restart: the server is killed while a client listens and comes back on its address. The client says that it is stale, keeps
// what it knew, comes back by itself, and has what changed meanwhile.
func TestB8Restart(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, "")
	k.start(t)
	saw := k.listen(t, "restart", map[string]func(){
		"listening": func() { k.listened(t) },
		"kill":      func() { k.kill(t); k.change(t, 4, true) },
		"restart":   func() { k.start(t) },
	})
	require.Equal(t, "READY", saw.Status)
	require.Positive(t, saw.Stale)
	require.False(t, saw.Meanwhile, "what it knew")
	require.Equal(t, [][]string{{"segment.at_risk"}}, saw.Changes)
	require.True(t, saw.After)
}

// away takes NATS away before the API has read anything in.
func (k *kiosk) away(t *testing.T) {
	t.Helper()
	k.change(t, 4, true)
	k.broker.Stop()
	require.Eventually(t, func() bool { return !k.js.Conn().IsConnected() }, patience, poll)
	k.start(t)
}

// TestB9AwayBeforeTheFirstPage: NATS is away when the page loads. It has its defaults, and hears of what is when NATS comes back.
// Temporal is never asked: package api does not know it, which the linter sees to.
func TestB9AwayBeforeTheFirstPage(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, "")
	k.away(t)
	saw := k.listen(t, "away", map[string]func(){"recover": func() { k.broker.Start(t) }})
	require.Equal(t, "READY", saw.Status)
	require.Equal(t, "none", saw.String, "the default of the code")
	require.False(t, saw.Before)
	require.True(t, saw.After)
	require.Contains(t, saw.Changes[0], "segment.at_risk")
	require.Contains(t, saw.Changes[0], "variant.checklist_style")
}
