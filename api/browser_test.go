package api_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
)

// Real SDKs in Chromium, on a page of another origin: A6, A7 and B7 of the project's list of real clients.

type browsed struct {
	Errors []string `json:"errors"`
	Failed int      `json:"failed"`
	Enough bool     `json:"enough"`
	Value  any      `json:"value"`
}

// pages serves a folder from an origin of its own. What a browser needs is asked for here, before a test begins something beside it: a
// test that is skipped leaves nothing running.
func pages(t *testing.T) (url, folder string) {
	t.Helper()
	testenv.Chromium(t)
	testenv.NeedNode(t, nodePackages)
	folder = t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(folder)))
	t.Cleanup(server.Close)
	return server.URL, folder
}

func browse(t *testing.T, what, apiURL, page, folder, key, token string) browsed {
	t.Helper()
	var saw browsed
	node(t, &saw, "browser.mjs", what, apiURL, page, folder, key, token)
	return saw
}

// visit has a page use an SDK, and returns what came to the stream and what was asked.
func visit(t *testing.T, what string) ([]stored, []seen) {
	t.Helper()
	page, folder := pages(t)
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) {
		c.Keys = ringOf(t, "origins: ["+page+"]\nkeys:\n"+entry("web", api.RoleWrite, "right"))
	})
	url, requests := d.open(t, nil)
	saw := browse(t, what, url, page, folder, "right", "")
	require.Empty(t, saw.Errors)
	require.True(t, saw.Enough, "%+v", requests())
	return d.stored(t), requests()
}

// oneVisitor checks the three calls of browser.mjs: a visitor, who then says who they are.
func oneVisitor(t *testing.T, all []stored) {
	t.Helper()
	require.Len(t, all, 3)
	byName := make(map[string]stored)
	for _, e := range all {
		byName[e.EventName] = e
	}
	visitor := byName["signed_up"]
	require.NotEqual(t, "ann", visitor.UserID)
	require.Equal(t, "pro", visitor.properties["plan"])
	known := byName["identify"]
	require.Equal(t, "ann", known.UserID)
	require.Equal(t, "finance", known.traits["industry"])
	require.Equal(t, visitor.UserID, known.properties["tracking"].(map[string]any)["anonymousId"], "who the visitor was")
	require.Equal(t, "ann", byName["trial_started"].UserID)
	require.NotEmpty(t, visitor.properties["tracking"].(map[string]any)["context"].(map[string]any)["page"])
}

func asked(requests []seen, method, path string) int {
	n := 0
	for _, r := range requests {
		if r.method == method && r.path == path && r.status < 300 {
			n++
		}
	}
	return n
}

func TestA6SegmentBrowser(t *testing.T) {
	t.Parallel()
	t.Run("one by one", func(t *testing.T) {
		t.Parallel()
		all, requests := visit(t, "segment")
		oneVisitor(t, all)
		require.Equal(t, 1, asked(requests, http.MethodGet, "/v1/projects/right/settings"))
		require.Equal(t, 2, asked(requests, http.MethodPost, "/v1/t"))
		require.Equal(t, 1, asked(requests, http.MethodPost, "/v1/i"))
	})
	t.Run("batches", func(t *testing.T) {
		t.Parallel()
		all, requests := visit(t, "segment-batching")
		oneVisitor(t, all)
		require.Positive(t, asked(requests, http.MethodPost, "/v1/b"))
	})
	t.Run("a page that is not listed", func(t *testing.T) {
		t.Parallel()
		page, folder := pages(t)
		d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) {
			c.Keys = ringOf(t, "origins: [https://app.example.org]\nkeys:\n"+entry("web", api.RoleWrite, "right"))
		})
		url, requests := d.open(t, nil)
		require.False(t, browse(t, "segment", url, page, folder, "right", "").Enough)
		require.NotEmpty(t, requests())
		require.Empty(t, d.stored(t))
	})
}

func TestA7RudderStackBrowser(t *testing.T) {
	t.Parallel()
	all, requests := visit(t, "rudder")
	oneVisitor(t, all)
	require.Equal(t, 1, asked(requests, http.MethodGet, "/sourceConfig/"))
	require.Positive(t, asked(requests, http.MethodOptions, "/v1/track"), "the browser asked before")
}

// TestB7FlagsInBrowser: a page of another origin reads flags with a write key and a user token, and learns that nothing changed. TestA6SegmentBrowser has a page of an origin that is not listed.
func TestB7FlagsInBrowser(t *testing.T) {
	t.Parallel()
	page, folder := pages(t)
	keys := ringOf(t, "origins: ["+page+"]\nkeys:\n"+entry("web", api.RoleWrite, "right"))
	d := &door{handler: api.New(api.Config{WorkspaceKey: key(), Keys: keys}, filled(t), nil, quiet()).Handler()}
	url, requests := d.open(t, nil)
	saw := browse(t, "flags", url, page, folder, "right", api.PageToken(key(), tokenOf("ann"), time.Now().Add(time.Hour)))
	require.Empty(t, saw.Errors)
	require.Equal(t, "guided", saw.Value)
	require.True(t, saw.Enough, "304: %+v", requests())
}

// TestB3FlagsStreamInBrowser: what changes between the answer and the opening of the stream still arrives in a page of another origin,
// which polls nothing.
func TestB3FlagsStreamInBrowser(t *testing.T) {
	t.Parallel()
	page, folder := pages(t)
	k := newKiosk(t, "origins: ["+page+"]\n")
	k.beforeStream = func(n int) {
		if n == 1 {
			k.change(t, 4, true)
		}
	}
	k.start(t)
	saw := browse(t, "stream", k.url, page, folder, "right", k.pageToken())
	require.Empty(t, saw.Errors)
	require.Equal(t, map[string]any{"before": false, "after": true}, saw.Value)
}

// TestB8FlagsRestartInBrowser: the server dies and comes back; the page hears of it by itself, and of what changed meanwhile.
func TestB8FlagsRestartInBrowser(t *testing.T) {
	t.Parallel()
	page, folder := pages(t)
	k := newKiosk(t, "origins: ["+page+"]\n")
	k.start(t)
	var restart sync.WaitGroup
	defer restart.Wait()
	restart.Go(func() {
		if k.listened(t) {
			k.kill(t)
			k.change(t, 4, true)
			k.start(t)
		}
	})
	saw := browse(t, "stream", k.url, page, folder, "right", k.pageToken())
	require.Empty(t, saw.Errors)
	require.Equal(t, map[string]any{"before": false, "after": true, "stale": true}, saw.Value)
}

// TestB9FlagsAwayInBrowser: a page that loads while NATS is away hears of its flags when NATS comes back.
func TestB9FlagsAwayInBrowser(t *testing.T) {
	t.Parallel()
	page, folder := pages(t)
	k := newKiosk(t, "origins: ["+page+"]\n")
	opened := make(chan struct{})
	k.beforeStream = func(n int) {
		if n == 1 {
			close(opened)
		}
	}
	k.away(t)
	var recovery sync.WaitGroup
	defer recovery.Wait()
	gone := make(chan struct{})
	defer close(gone)
	recovery.Go(func() {
		select {
		case <-opened:
			k.broker.Start(t)
		case <-gone:
		}
	})
	saw := browse(t, "stream", k.url, page, folder, "right", k.pageToken())
	require.Empty(t, saw.Errors)
	require.Equal(t, map[string]any{"before": false, "after": true}, saw.Value)
}
