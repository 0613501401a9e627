package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
)

// bulkOf is the answer to all flags at once.
type bulkOf struct {
	Flags        []flagOf `json:"flags"`
	EventStreams []struct {
		Type     string `json:"type"`
		Endpoint struct {
			RequestURI string `json:"requestUri"`
		} `json:"endpoint"`
		InactivityDelaySec int `json:"inactivityDelaySec"`
	} `json:"eventStreams"`
}

// house is an API with a stream of profiles, over a real connection.
type house struct {
	js     jetstream.JetStream
	mirror *api.Mirror
	server *api.Server
	url    string
}

func newHouse(t *testing.T, adjust ...func(*api.Config)) *house {
	t.Helper()
	h := &house{js: testenv.NewBroker(t).Connect(t)}
	makeStream(t, h.js)
	publish(t, h.js, profileOf("ann", 3))
	h.mirror = api.NewMirror(h.js, quiet())
	run(t, h.mirror)
	ready(t, h.mirror)
	cfg := api.Config{WorkspaceKey: key(), Heartbeat: 30 * time.Millisecond}
	for _, a := range adjust {
		a(&cfg)
	}
	h.server = api.New(cfg, h.mirror, nil, quiet())
	listening := httptest.NewServer(h.server.Handler())
	t.Cleanup(listening.Close)
	h.url = listening.URL
	return h
}

// change publishes ann's next profile; at risk or not is her answer.
func (h *house) change(t *testing.T, sequence uint64, atRisk bool) {
	t.Helper()
	profile := profileOf("ann", sequence)
	profile.Segments[1].In = atRisk
	publish(t, h.js, profile)
	reaches(t, h.mirror, "ann", sequence)
}

// replied is an answer without its body.
type replied struct {
	StatusCode int
	Header     http.Header
	Close      func() // leaves; of a stream alone
}

// flags asks for all flags of a user.
func (h *house) flags(t *testing.T, targetingKey string, header ...string) (bulkOf, replied) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+flagsPath, strings.NewReader(asking(targetingKey)))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var answer bulkOf
	if response.StatusCode == http.StatusOK {
		require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	}
	return answer, replied{StatusCode: response.StatusCode, Header: response.Header}
}

// stream is where ann's changes are heard.
func (h *house) stream(t *testing.T) string {
	t.Helper()
	answer, _ := h.flags(t, "ann")
	require.Len(t, answer.EventStreams, 1)
	require.Equal(t, "sse", answer.EventStreams[0].Type)
	require.Equal(t, 120, answer.EventStreams[0].InactivityDelaySec)
	return answer.EventStreams[0].Endpoint.RequestURI
}

// heard is one event of a stream, or one heartbeat.
type heard struct {
	ID, Data string
	Beat     bool
}

// listen opens a stream and hands over what comes; closed when the stream ends.
func (h *house) listen(t *testing.T, uri string, header ...string) (replied, <-chan heard) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+uri, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	events := make(chan heard, 1000)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(events)
		lines := bufio.NewScanner(response.Body)
		var e heard
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case lines.Text() == ":":
				e.Beat = true
			case name == "id":
				e.ID = value
			case name == "data":
				e.Data = value
			case lines.Text() == "" && e != (heard{}):
				events <- e
				e = heard{}
			}
		}
	})
	leave := func() { cancel(); response.Body.Close(); reader.Wait() }
	t.Cleanup(leave)
	return replied{response.StatusCode, response.Header, leave}, events
}

// next returns the next event, over heartbeats.
func next(t *testing.T, events <-chan heard) heard {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e, open := <-events:
			require.True(t, open, "the stream ended")
			if !e.Beat {
				return e
			}
		case <-deadline:
			require.Fail(t, "no event came")
		}
	}
}

// beats waits for heartbeats and requires that nothing else comes before.
func beats(t *testing.T, events <-chan heard, n int) {
	t.Helper()
	for range n {
		select {
		case e, open := <-events:
			require.True(t, open, "the stream ended")
			require.True(t, e.Beat, "%+v", e)
		case <-time.After(patience):
			require.Fail(t, "no heartbeat came")
		}
	}
}

// ends waits for the end of a stream.
func ends(t *testing.T, events <-chan heard) {
	t.Helper()
	require.Eventually(t, func() bool {
		for {
			select {
			case _, open := <-events:
				if !open {
					return true
				}
			default:
				return false
			}
		}
	}, patience, poll)
}

func TestStream(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	uri := h.stream(t)
	response, events := h.listen(t, uri)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	require.Equal(t, "no", response.Header.Get("X-Accel-Buffering"))
	require.Empty(t, response.Header.Get("Content-Encoding"))

	first := next(t, events)
	require.Equal(t, "3", first.ID)
	var event struct {
		Type         string `json:"type"`
		Etag         string `json:"etag"`
		LastModified int64  `json:"lastModified"`
	}
	require.NoError(t, json.Unmarshal([]byte(first.Data), &event))
	require.Equal(t, "refetchEvaluation", event.Type)
	require.NotEmpty(t, event.Etag)
	require.InDelta(t, time.Now().Unix(), event.LastModified, 5)
	require.Equal(t, 1, h.server.Streams())

	beats(t, events, 2)
	h.change(t, 4, false) // another profile with the same answers
	beats(t, events, 3)
	h.change(t, 5, true)
	require.Equal(t, "5", next(t, events).ID)
	publish(t, h.js, profileOf("ben", 1)) // of somebody else
	reaches(t, h.mirror, "ben", 1)
	beats(t, events, 3)
	publishRaw(t, h.js, tokenOf("ann"), nil) // erased
	require.Equal(t, "0", next(t, events).ID)

	response.Close()
	require.Eventually(t, func() bool { return h.server.Streams() == 0 }, patience, poll, "a reader that goes leaves nothing behind")
}

// TestStreamBeforeTheUser: the stream of somebody whom nobody has seen tells of the first profile.
func TestStreamBeforeTheUser(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	answer, response := h.flags(t, "newcomer")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Empty(t, answer.Flags)
	_, events := h.listen(t, answer.EventStreams[0].Endpoint.RequestURI)
	require.Equal(t, "0", next(t, events).ID)
	publish(t, h.js, profileOf("newcomer", 1))
	require.Equal(t, "1", next(t, events).ID)
	answer, _ = h.flags(t, "newcomer")
	require.NotEmpty(t, answer.Flags)
}

// TestStreamTag: the address of the stream stays while nothing changes, so that 304 is a right answer.
func TestStreamTag(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, response := h.flags(t, "ann")
	tag := response.Header.Get("ETag")
	_, again := h.flags(t, "ann", "If-None-Match", tag)
	if again.StatusCode != http.StatusNotModified { // the window has turned in between: then it does not a second time
		_, response = h.flags(t, "ann")
		_, again = h.flags(t, "ann", "If-None-Match", response.Header.Get("ETag"))
	}
	require.Equal(t, http.StatusNotModified, again.StatusCode)
	h.change(t, 4, true)
	_, again = h.flags(t, "ann", "If-None-Match", tag)
	require.Equal(t, http.StatusOK, again.StatusCode)
}

// TestStreamBounds: so many for one user, so many in all; where there is no room the answer names no stream.
func TestStreamBounds(t *testing.T) {
	t.Parallel()
	t.Run("of one user", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		uri := h.stream(t)
		var last replied
		for range 16 {
			var events <-chan heard
			last, events = h.listen(t, uri)
			next(t, events)
		}
		refused, _ := h.listen(t, uri)
		require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
		require.NotEmpty(t, refused.Header.Get("Retry-After"))
		answer, _ := h.flags(t, "ann")
		require.NotEmpty(t, answer.Flags)
		require.Empty(t, answer.EventStreams)
		answer, _ = h.flags(t, "ben")
		require.Len(t, answer.EventStreams, 1, "others have room")
		last.Close()
		require.Eventually(t, func() bool { answer, _ := h.flags(t, "ann"); return len(answer.EventStreams) == 1 }, patience, poll)
	})
	t.Run("in all", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, func(c *api.Config) { c.Streams = 1 })
		uri := h.stream(t)
		_, events := h.listen(t, uri)
		next(t, events)
		answer, _ := h.flags(t, "ben")
		require.Empty(t, answer.EventStreams)
	})
}

// TestStreamSlowReader: a reader that takes nothing is dropped, and what changes meanwhile waits for nobody.
func TestStreamSlowReader(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.server.SetStreamPatience(50 * time.Millisecond)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	narrow := httptest.NewUnstartedServer(h.server.Handler())
	narrow.Listener.Close()
	narrow.Listener = narrowed{listener}
	narrow.Start()
	t.Cleanup(narrow.Close)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(1))
	_, err = conn.Write([]byte("GET " + h.stream(t) + " HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return h.server.Streams() == 1 }, patience, poll)
	for sequence := uint64(4); h.server.Streams() > 0; sequence++ {
		require.Less(t, sequence, uint64(5000), "it is not dropped")
		h.change(t, sequence, sequence%2 == 0)
	}
}

// narrowed accepts connections whose buffers hold next to nothing.
type narrowed struct{ net.Listener }

func (l narrowed) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(1)
	}
	return conn, err
}

// TestStreamTickets: who may open a stream, and until when.
//
//nolint:tparallel,paralleltest // the last one takes a key out
func TestStreamTickets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.yaml")
	write := func(entries string) { require.NoError(t, os.WriteFile(file, []byte("keys:\n"+entries), 0o600)) }
	write(entry("page", api.RoleWrite, "page") + entry("service", api.RoleRead, "service"))
	keys, err := api.OpenKeyring(file, quiet())
	require.NoError(t, err)
	go keys.Follow(t.Context())
	h := newHouse(t, func(c *api.Config) { c.Keys = keys })
	bearer := func(key string) []string { return []string{"Authorization", "Bearer " + key} }
	status := func(uri string) int {
		response, _ := h.listen(t, uri)
		return response.StatusCode
	}
	t.Run("forged", func(t *testing.T) {
		answer, _ := h.flags(t, "ann", bearer("service")...)
		uri := answer.EventStreams[0].Endpoint.RequestURI
		require.Equal(t, http.StatusOK, status(uri))
		for _, other := range []string{
			"/ofrep/v1/stream", "/ofrep/v1/stream?token=", uri + "x", strings.Replace(uri, tokenOf("ann"), tokenOf("ben"), 1),
			"/ofrep/v1/stream?token=" + h.pageToken(t, "ann", "service").Token, // signed by us, and for something else
		} {
			require.Equal(t, http.StatusUnauthorized, status(other), other)
		}
	})
	t.Run("a page and its token", func(t *testing.T) {
		page := h.pageToken(t, "ann", "service")
		require.Equal(t, tokenOf("ann"), page.UserToken)
		require.InDelta(t, time.Now().Add(time.Hour).UnixMilli(), page.ExpiresAt, 60e3)
		answer, _ := h.flags(t, page.Token, bearer("page")...)
		_, events := h.listen(t, answer.EventStreams[0].Endpoint.RequestURI)
		next(t, events)
		h.change(t, 10, true)
		require.Equal(t, "10", next(t, events).ID)
	})
	t.Run("a key that is taken out", func(t *testing.T) {
		answer, _ := h.flags(t, h.pageToken(t, "ann", "service").Token, bearer("page")...)
		uri := answer.EventStreams[0].Endpoint.RequestURI
		_, events := h.listen(t, uri)
		next(t, events)
		write(entry("service", api.RoleRead, "service"))
		ends(t, events)
		require.Equal(t, http.StatusUnauthorized, status(uri))
	})
}

// pageToken asks for one as a service does.
func (h *house) pageToken(t *testing.T, id, key string) (token struct {
	Token     string `json:"token"`
	UserToken string `json:"user_token"`
	ExpiresAt int64  `json:"expires_at"`
},
) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/users/"+id+"/token", nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NoError(t, json.NewDecoder(response.Body).Decode(&token))
	return token
}

// TestStreamEndsWithServer: whoever listens does not hold a server back that is told to stop.
func TestStreamEndsWithServer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(ctx, listener) }()
	_, events := h.listen(t, h.stream(t))
	next(t, events)
	began := time.Now()
	cancel()
	require.NoError(t, <-done)
	require.Less(t, time.Since(began), 4*time.Second, "it waits 5 s for requests in hand")
	ends(t, events)
}

// TestStreamOutlastsLimits: the limits of a request are not those of a stream. They are 10 and 15 s, so it takes its time.
func TestStreamOutlastsLimits(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for 16 s to pass")
	}
	h := newHouse(t, func(c *api.Config) { c.Heartbeat = 200 * time.Millisecond })
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(ctx, listener) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-done) })
	_, events := h.listen(t, h.stream(t))
	next(t, events)
	beats(t, events, 80)
	h.change(t, 4, true)
	require.Equal(t, "4", next(t, events).ID)
}

// TestFlagsWaitForReplica: a client that was told of a change by one replica asks another, which is behind.
func TestFlagsWaitForReplica(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	behind := api.NewMirror(h.js, quiet())
	handler := serverOf(behind).Handler()
	h.change(t, 4, true)
	_, events := h.listen(t, h.stream(t))
	var event struct {
		Etag string `json:"etag"`
	}
	require.NoError(t, json.Unmarshal([]byte(next(t, events).Data), &event))
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() { answered <- post(t, handler, flagsPath+"?flagConfigEtag="+event.Etag, asking("ann")) }()
	run(t, behind) // it reads in while the question waits
	require.Contains(t, (<-answered).Body.String(), `"key":"segment.at_risk","value":true`)

	began := time.Now()
	require.Equal(t, http.StatusOK, post(t, serverOf(empty()).Handler(), flagsPath+"?flagConfigEtag="+event.Etag, asking("ann")).Code)
	require.Less(t, time.Since(began), 5*time.Second, "it does not wait for ever")
}

func TestPageToken(t *testing.T) {
	t.Parallel()
	keys := ringOf(t, "keys:\n"+entry("w", api.RoleWrite, "write")+entry("r", api.RoleRead, "read"))
	signed := func(secrets ...string) api.Config {
		c := api.Config{WorkspaceKey: key(), Keys: keys}
		for _, secret := range secrets {
			c.SigningKeys = append(c.SigningKeys, []byte(secret))
		}
		return c
	}
	mirror := filled(t)
	ask := func(c api.Config, token string) int {
		return post(t, api.New(c, mirror, nil, quiet()).Handler(), flagsPath, asking(token), "Authorization", "Bearer write").Code
	}
	issue := func(c api.Config, query string) string {
		w := post(t, api.New(c, mirror, nil, quiet()).Handler(), "/v1/users/ann/token"+query, "", "Authorization", "Bearer read")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		var answer struct {
			Token string `json:"token"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		return answer.Token
	}
	first, second, third := "the first signing key", "the second signing key", "the third signing key"
	token := issue(signed(first), "")
	require.Equal(t, http.StatusOK, ask(signed(first), token))
	require.Equal(t, http.StatusOK, ask(signed(second, first), token), "signed before the change")
	require.Equal(t, http.StatusBadRequest, ask(signed(third, second), token))
	require.Equal(t, http.StatusOK, ask(signed(first, second), issue(signed(second, first), "?ttl=90m")), "signed by a replica that has the new key already")
	require.Equal(t, http.StatusBadRequest, ask(signed(), token))
	require.Equal(t, http.StatusOK, ask(signed(), issue(signed(), "")))
	require.Equal(t, http.StatusBadRequest, ask(signed(), tokenOf("ann")), "a user token alone stands in logs and tables")

	handler := api.New(signed(), mirror, nil, quiet()).Handler()
	for _, ttl := range []string{"1s", "25h", "soon", "-1h"} {
		w := post(t, handler, "/v1/users/ann/token?ttl="+ttl, "", "Authorization", "Bearer read")
		require.Equal(t, http.StatusBadRequest, w.Code, ttl)
		require.Equal(t, "ttl", refusalOf(t, w).Error.Field)
	}
	require.Equal(t, http.StatusForbidden, post(t, handler, "/v1/users/ann/token", "", "Authorization", "Bearer write").Code)

	ended := post(t, handler, flagsPath, asking(api.PageToken(key(), tokenOf("ann"), time.Now().Add(-time.Second))), "Authorization", "Bearer write")
	require.Equal(t, http.StatusBadRequest, ended.Code)
	require.Contains(t, flagIn(t, ended).ErrorDetails, "has ended")
}
