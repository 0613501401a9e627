package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/schema"
)

// The catalog of bad input over HTTP. TestTrackingBadInput and TestTrackingStrange hold what is bad in a body; here is what is bad
// about how a call comes, about calls that come again, and what looks bad and is taken. Numbers are those of the catalog.

// raw writes bytes on a connection of its own and returns the status of the answer, and what the answer says.
func raw(t *testing.T, addr, text string) (int, string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	go io.WriteString(conn, text) // what is refused early is not read to its end
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

// exposed serves a door as Serve does, with all of its limits, and returns its address.
func exposed(t *testing.T, d *door) string {
	t.Helper()
	server := api.New(api.Config{Addr: "127.0.0.1:0", WorkspaceKey: key(), Events: d.js}, nil, nil, quiet())
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(t.Context(), listener) }()
	t.Cleanup(func() { require.NoError(t, <-ended) }) // the context ends before the cleanup
	return listener.Addr().String()
}

func TestCatalogTransport(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	addr := exposed(t, d)
	const body = `{"userId":"u","event":"E"}`
	head := "POST /v1/track HTTP/1.1\r\nHost: localhost\r\n"
	t.Run("calls", func(t *testing.T) { badTransport(t, addr, head, body) }) // what it did is looked at when it is over
	require.Empty(t, d.stored(t), "nothing of it reached the stream")
}

func badTransport(t *testing.T, addr, head, body string) {
	t.Helper()
	for _, c := range []struct {
		name, text string
		status     int
	}{
		{"6 a length beyond the body", head + "Content-Length: 27\r\nConnection: close\r\n\r\n" + body[:10] + "\r\n0\r\n\r\n!!!!!!!!!!", http.StatusBadRequest},
		{"6 a negative length", head + "Content-Length: -1\r\n\r\n" + body, http.StatusBadRequest},
		{"6 two lengths", head + "Content-Length: 26\r\nContent-Length: 27\r\n\r\n" + body, http.StatusBadRequest},
		{"10 large headers", head + "X-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge},
		{"10 many headers", head + strings.Repeat("X-A: aaaaaaaaaa\r\n", 5000) + "\r\n", http.StatusRequestHeaderFieldsTooLarge},
		{"12 TRACE", "TRACE /v1/track HTTP/1.1\r\nHost: localhost\r\n\r\n", http.StatusMethodNotAllowed},
		{"13 a path that climbs", "POST /v1/x/../track HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", http.StatusNotFound},
		{"13 an absolute path", "POST http://localhost//v1/track HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", http.StatusNotFound},
		{"no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status, text := raw(t, addr, c.text)
			require.Equal(t, c.status, status, text)
		})
	}
	t.Run("7 a length and chunks", func(t *testing.T) { // the length does not count, and the connection is not used again
		t.Parallel()
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		smuggled := "POST /v1/track HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
		_, err = io.WriteString(conn, head+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+smuggled)
		require.NoError(t, err)
		all, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(all), "HTTP/1.1 "), string(all))
		require.Contains(t, string(all), "HTTP/1.1 400")
	})
	t.Run("11 idle connections", func(t *testing.T) {
		t.Parallel()
		for range 500 {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
		}
		began := time.Now()
		status, text := raw(t, addr, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		require.Equal(t, http.StatusOK, status, text)
		t.Logf("beside 500 idle connections: %s", time.Since(began))
	})
}

// TestCatalogRepeats sends calls again, the same and others under the same id.
func TestCatalogRepeats(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	track := func(body string, header ...string) (int, refusal, string) {
		w := post(t, d.handler, "/v1/track", body, header...)
		if w.Code == http.StatusOK {
			return w.Code, refusal{}, w.Body.String()
		}
		return w.Code, refusalOf(t, w), w.Body.String()
	}
	const first = `{"messageId":"m1","userId":"u","event":"E","properties":{"a":1,"b":[1.0,{"c":"x"}]},"timestamp":"2026-11-24T09:00:00Z","sentAt":"2026-11-24T09:00:01Z"}`
	status, _, text := track(first)
	require.Equal(t, http.StatusOK, status, text)
	for name, again := range map[string]string{
		"48 the same":                     first,
		"48 sent later":                   strings.Replace(first, "09:00:01Z", "09:07:01Z", 1),
		"48 members in another order":     `{"messageId":"m1","event":"E","userId":"u","properties":{"b":[1,{"c":"\u0078"}],"a":1.0},"timestamp":"2026-11-24T10:00:00+01:00"}`,
		"48 an SDK says more of itself":   strings.Replace(first, `"userId"`, `"_metadata":{"retry":2},"context":{"library":{"name":"x"}},"userId"`, 1),
		"48 a write key in the body":      strings.Replace(first, `"userId"`, `"writeKey":"k","userId"`, 1),
		"48 its id in the header as well": first,
	} {
		var header []string
		if strings.Contains(name, "header") {
			header = []string{"Idempotency-Key", "m1"}
		}
		status, _, text := track(again, header...)
		require.Equal(t, http.StatusOK, status, "%s: %s", name, text)
		require.Contains(t, text, `"duplicate":true`, name)
	}
	for name, other := range map[string]string{
		"49 other properties": strings.Replace(first, `"a":1`, `"a":2`, 1),
		"49 more properties":  strings.Replace(first, `"a":1`, `"a":1,"z":0`, 1),
		"49 another event":    strings.Replace(first, `"E"`, `"F"`, 1),
		"49 another time":     strings.Replace(first, "09:00:00Z", "09:00:02Z", 1),
		"51 another user":     strings.Replace(first, `"u"`, `"v"`, 1),
	} {
		status, got, text := track(other)
		require.Equal(t, http.StatusConflict, status, "%s: %s", name, text)
		require.Equal(t, "event_conflict", got.Error.Code, name)
		require.Equal(t, "messageId", got.Error.Field, name)
	}
	require.Len(t, d.stored(t), 1, "the first one stays")

	reply := batchReplyOf(t, post(t, d.handler, "/v1/batch", `{"batch":[
		{"type":"track","messageId":"b1","userId":"u","event":"E"},
		{"type":"track","messageId":"b1","userId":"u","event":"E"},
		{"type":"track","messageId":"b1","userId":"u","event":"F"},
		{"type":"track","messageId":"b2"},
		{"type":"track","messageId":"b3","userId":"u","event":"E"}]}`))
	require.Equal(t, 3, reply.Accepted, "70, 71: each item has a verdict of its own")
	require.Equal(t, 1, reply.Duplicates)
	require.Len(t, reply.Rejected, 2)
	got := make(map[int]string)
	for _, r := range reply.Rejected {
		got[r.Index] = r.Code
	}
	require.Equal(t, map[int]string{2: "event_conflict", 3: "missing_user"}, got)
	require.Len(t, d.stored(t), 3)

	var together sync.WaitGroup
	duplicates := make(chan bool, 100)
	for range 100 {
		together.Go(func() {
			w := post(t, d.handler, "/v1/track", `{"messageId":"at-once","userId":"u","event":"E"}`)
			duplicates <- w.Code == http.StatusOK && strings.Contains(w.Body.String(), `"duplicate":true`)
		})
	}
	together.Wait()
	close(duplicates)
	n := 0
	for is := range duplicates {
		if is {
			n++
		}
	}
	require.Equal(t, 99, n, "48: 100 at once")
	require.Len(t, d.stored(t), 4)
	require.Equal(t, 4, d.count(api.VerdictStored))
	require.Equal(t, 6+1+99, d.count(api.VerdictDuplicate))
	require.Equal(t, 5+2, d.count(api.VerdictRefused))
}

// TestCatalogIdempotencyKey: the header gives an id to a call that has none.
func TestCatalogIdempotencyKey(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	const body = `{"userId":"u","event":"E"}`
	for _, bad := range []string{"", strings.Repeat("k", 1000), "a b", "ü"} {
		w := post(t, d.handler, "/v1/track", body, "Idempotency-Key", bad)
		require.Equal(t, http.StatusBadRequest, w.Code, "14: %q", bad)
		require.Equal(t, "bad_idempotency_key", refusalOf(t, w).Error.Code)
		require.Equal(t, "idempotency-key", refusalOf(t, w).Error.Field)
	}
	w := post(t, d.handler, "/v1/track", `{"messageId":"m","userId":"u","event":"E"}`, "Idempotency-Key", "other")
	require.Equal(t, http.StatusBadRequest, w.Code, "two ids")
	require.Empty(t, d.stored(t))
	require.Equal(t, http.StatusOK, post(t, d.handler, "/v1/track", body, "Idempotency-Key", "k1").Code)
	w = post(t, d.handler, "/v1/track", body, "Idempotency-Key", "k1")
	require.JSONEq(t, `{"success":true,"message_id":"k1","duplicate":true}`, w.Body.String(), "16")
	w = post(t, d.handler, "/v1/track", `{"userId":"u","event":"F"}`, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusConflict, w.Code, "15")
	all := d.stored(t)
	require.Len(t, all, 1)
	require.Equal(t, "k1", all[0].ID)
}

// placeholders stand for times: {{+4m}} is four minutes from now.
var placeholders = regexp.MustCompile(`\{\{[+-][0-9a-z]+\}\}`)

// TestCatalogTaken sends what looks bad and is taken, and looks at what is stored.
func TestCatalogTaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fields string
		check  func(*testing.T, stored)
	}{
		"29 minus zero": {`"properties":{"a":-0}`, func(t *testing.T, s stored) { t.Helper(); require.Contains(t, string(s.Properties), `"a":-0`) }},
		"30 a number beyond 2^53": {`"properties":{"a":9007199254740993}`, func(t *testing.T, s stored) {
			t.Helper()
			require.Contains(t, string(s.Properties), "9007199254740993")
		}},
		"46 no id": {``, func(t *testing.T, s stored) { t.Helper(); require.Regexp(t, `^api-[a-z2-7]{26}$`, s.ID) }},
		"53 no time": {``, func(t *testing.T, s stored) {
			t.Helper()
			require.WithinDuration(t, s.ReceivedAt, s.Timing.OccurredAt, time.Millisecond)
		}},
		"59 four minutes ahead": {`"timestamp":"{{+4m}}"`, func(t *testing.T, s stored) { t.Helper(); require.True(t, s.Timing.OccurredAt.After(s.ReceivedAt)) }},
		"59 six minutes ahead": {`"timestamp":"{{+6m}}"`, func(t *testing.T, s stored) {
			t.Helper()
			require.WithinDuration(t, s.ReceivedAt, s.Timing.OccurredAt, time.Second)
		}},
		"60 73 hours ago": {`"timestamp":"{{-73h}}"`, func(t *testing.T, s stored) { t.Helper(); require.Equal(t, schema.Lateness("historic"), s.Lateness) }},
		"61 a clock 3 h off": {`"timestamp":"{{-3h}}","sentAt":"{{-3h}}"`, func(t *testing.T, s stored) {
			t.Helper()
			require.WithinDuration(t, s.ReceivedAt, s.Timing.OccurredAt, 2*time.Second)
		}},
		"62 sent in 1970": {`"timestamp":"{{+0s}}","sentAt":"1970-01-01T00:00:00Z"`, func(t *testing.T, s stored) {
			t.Helper()
			require.WithinDuration(t, s.ReceivedAt, s.Timing.OccurredAt, 5*time.Second)
		}},
		"64 nanoseconds": {`"timestamp":"2026-11-24T09:00:00.123456789Z"`, func(t *testing.T, s stored) {
			t.Helper()
			u := s.UserEvent()
			require.Equal(t, int64(123), u.OccurredAt%1000)
		}},
		"65 a list in a property": {`"properties":{"plan":["pro",null]}`, func(t *testing.T, s stored) { t.Helper(); require.Equal(t, []any{"pro", nil}, s.properties["plan"]) }},
		"66 names of columns":     {`"properties":{"sequence":1,"user_token":"u"}`, func(t *testing.T, s stored) { t.Helper(); require.Equal(t, "u", s.properties["user_token"]) }},
		"74 an unknown field": {`"tenant":"t2"`, func(t *testing.T, s stored) {
			t.Helper()
			require.Equal(t, "t2", s.properties["tracking"].(map[string]any)["tenant"])
		}},
		"2 text as it is declared": {`"properties":{"a":1}`, func(t *testing.T, s stored) { t.Helper(); require.NotNil(t, s.properties["a"]) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t)
			body := `{"userId":"u","event":"E"}`
			if c.fields != "" {
				body = `{"userId":"u","event":"E",` + c.fields + `}`
			}
			body = placeholders.ReplaceAllStringFunc(body, func(text string) string { // at the moment it is sent, however busy the machine is
				d, err := time.ParseDuration(strings.Trim(text, "{}"))
				require.NoError(t, err)
				return time.Now().Add(d).UTC().Format(time.RFC3339)
			})
			require.True(t, json.Valid([]byte(body)), body)
			w := post(t, d.handler, "/v1/track", body, "Content-Type", "text/plain")
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			all := d.stored(t)
			require.Len(t, all, 1)
			c.check(t, all[0])
		})
	}
}

// TestCatalogReads: a flag or a profile of nobody is no reason to make one, and ids reach their user however they are escaped.
func TestCatalogReads(t *testing.T) {
	t.Parallel()
	handler := serverOf(filled(t)).Handler()
	for _, id := range []string{"nobody", "a.b.c", ">", "*", "%2e%2e%2fetc", "x'%20OR%201=1%20--", strings.Repeat("u", 256)} {
		w := get(t, handler, "/v1/users/"+id)
		require.Equal(t, http.StatusNotFound, w.Code, id)
		require.Equal(t, "not_found", refusalOf(t, w).Error.Code)
	}
	asked := make([]string, 10000)
	for i := range asked {
		asked[i] = fmt.Sprintf("%q:1", fmt.Sprint("flag", i))
	}
	w := post(t, handler, flagsPath, `{"context":{"targetingKey":"ann",`+strings.Join(asked, ",")+`}}`)
	require.Equal(t, http.StatusBadRequest, w.Code, "110: 10,000 of anything")
	require.Equal(t, http.StatusNotFound, post(t, handler, flagsPath+"/"+strings.Repeat("f", 4000), asking("ann")).Code)
}
