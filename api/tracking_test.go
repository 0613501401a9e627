package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// door is a server over a real stream of events.
type door struct {
	broker  *testenv.Broker
	js      jetstream.JetStream
	handler http.Handler
	mu      sync.Mutex
	counts  map[string]int
}

// openDoor makes one; change may alter the configuration and the stream.
func openDoor(t *testing.T, change ...func(*api.Config, *jetstream.StreamConfig)) *door {
	t.Helper()
	d := &door{broker: testenv.NewBroker(t), counts: make(map[string]int)}
	d.js = d.broker.Connect(t)
	events, err := jetstream.New(d.js.Conn(), api.IntakeOptions()...)
	require.NoError(t, err)
	cfg := api.Config{WorkspaceKey: key(), Events: events, Tracked: func(verdict string, n int) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.counts[verdict] += n
	}}
	stream := jetstream.StreamConfig{
		Name: schema.EventsStream, Subjects: []string{schema.EventsSubjects}, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, Duplicates: 2 * time.Minute, AllowDirect: true,
	}
	for _, f := range change {
		f(&cfg, &stream)
	}
	_, err = d.js.CreateStream(t.Context(), stream)
	require.NoError(t, err)
	d.handler = api.New(cfg, nil, nil, quiet()).Handler()
	return d
}

func (d *door) count(verdict string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[verdict]
}

// stored is a message of the stream, read as ingest reads it.
type stored struct {
	schema.Received

	subject    string
	properties map[string]any
	traits     map[string]any
}

func (d *door) stored(t *testing.T) []stored {
	t.Helper()
	stream, err := d.js.Stream(t.Context(), schema.EventsStream)
	require.NoError(t, err)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	var all []stored
	if info.State.Msgs == 0 {
		return nil
	}
	for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		received, err := schema.Receive(message.Data, message.Header, sequence, message.Time)
		require.NoError(t, err, "what the API acknowledged must be what ingest takes: %s", message.Data)
		s := stored{Received: received, subject: message.Subject}
		s.properties, err = schema.DecodeProperties(received.Properties)
		require.NoError(t, err)
		s.traits, err = schema.DecodeProperties(received.Traits)
		require.NoError(t, err)
		all = append(all, s)
	}
	return all
}

func post(t *testing.T, handler http.Handler, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	request.Host = "localhost"
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

func basic(key string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":"))
}

func zipped(t *testing.T, body []byte) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

type batchReply struct {
	Success    bool `json:"success"`
	Accepted   int  `json:"accepted"`
	Duplicates int  `json:"duplicates"`
	Rejected   []struct {
		Index   int    `json:"index"`
		Code    string `json:"code"`
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"rejected"`
	Assigned []struct {
		Index     int    `json:"index"`
		MessageID string `json:"message_id"`
	} `json:"assigned"`
}

func batchReplyOf(t *testing.T, w *httptest.ResponseRecorder) batchReply {
	t.Helper()
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	var reply batchReply
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &reply))
	return reply
}

// TestTrackingKinds sends every kind of call over every route it has, and looks at the event in the stream.
func TestTrackingKinds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		routes []string
		body   string // %s stands for the message id
		event  string
		user   string
		checks map[string]any // properties
		traits map[string]any
	}{
		{
			"track",
			[]string{"/v1/track", "/v1/t", "/v1/track/"},
			`{"type":"track","messageId":"%s","userId":"u1","event":"Trial Started","properties":{"planName":"pro","n":9007199254740993,"keep it":1,"$odd":true}}`,
			"trial_started", "u1",
			map[string]any{"plan_name": "pro", "n": int64(9007199254740993), "keep_it": int64(1), "$odd": true},
			nil,
		},
		{"the kind comes from the path", []string{"/v1/track", "/v1/t/"}, `{"messageId":"%s","userId":"u1","event":"signed_up"}`, "signed_up", "u1", nil, nil},
		{"a visitor", []string{"/v1/track"}, `{"messageId":"%s","userId":null,"anonymousId":"a-1","event":"signedUp"}`, "signed_up", "a-1", nil, nil},
		{
			"identify",
			[]string{"/v1/identify", "/v1/i"},
			`{"messageId":"%s","userId":"u1","anonymousId":"a-1","traits":{"companySize":5},"context":{"traits":{"companySize":4,"email":"x@example.org"},"ip":"192.0.2.1"}}`,
			"identify", "u1",
			map[string]any{"tracking": map[string]any{"type": "identify", "anonymousId": "a-1", "context": map[string]any{"ip": "192.0.2.1"}}},
			map[string]any{"company_size": int64(5), "email": "x@example.org"},
		},
		{"identify with traits in the context alone", []string{"/v1/identify"}, `{"messageId":"%s","userId":"u1","context":{"traits":{"industry":"finance"}}}`, "identify", "u1", nil, map[string]any{"industry": "finance"}},
		{
			"page",
			[]string{"/v1/page", "/v1/p"},
			`{"messageId":"%s","userId":"u1","name":"Pricing","category":"Docs","properties":{"url":"https://example.org/","category":"own"}}`,
			"page", "u1",
			map[string]any{"name": "Pricing", "category": "own", "url": "https://example.org/"},
			nil,
		},
		{"screen", []string{"/v1/screen", "/v1/s"}, `{"messageId":"%s","userId":"u1","name":"Home"}`, "screen", "u1", map[string]any{"name": "Home"}, nil},
		{
			"group",
			[]string{"/v1/group", "/v1/g"},
			`{"messageId":"%s","userId":"u1","groupId":7,"traits":{"plan":"team"}}`, "group", "u1",
			map[string]any{"group_id": "7", "plan": "team"},
			map[string]any{"group_id": "7", "group_plan": "team"},
		},
		{"alias", []string{"/v1/alias", "/v1/a"}, `{"messageId":"%s","userId":"u1","previousId":"a-1"}`, "alias", "u1", map[string]any{"previous_id": "a-1"}, nil},
		{"numeric ids become text", []string{"/v1/track"}, `{"messageId":"%s","userId":42,"event":"Signed Up"}`, "signed_up", "42", nil, nil},
		{
			"what is not known is kept, but for the key",
			[]string{"/v1/track"},
			`{"messageId":"%s","userId":"u1","event":"E","writeKey":"secret","channel":"server","integrations":{"All":true}}`, "e", "u1",
			map[string]any{"tracking": map[string]any{"type": "track", "event": "E", "channel": "server", "integrations": map[string]any{"All": true}}},
			nil,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t)
			for i, route := range test.routes {
				id := fmt.Sprintf("m-%d", i)
				w := post(t, d.handler, route, fmt.Sprintf(test.body, id), "Authorization", basic("any"))
				require.Equal(t, http.StatusOK, w.Code, w.Body.String())
				require.JSONEq(t, `{"success":true,"message_id":"`+id+`"}`, w.Body.String())
				all := d.stored(t)
				require.Len(t, all, i+1, "acknowledged means stored")
				got := all[i]
				require.Equal(t, id, got.ID)
				require.Equal(t, test.event, got.EventName)
				require.Equal(t, test.user, got.UserID)
				require.Equal(t, "onramp.events.tracking", got.subject)
				require.NotContains(t, string(got.Properties), "secret")
				require.False(t, got.Backfill)
				for name, want := range test.checks {
					require.Equal(t, want, got.properties[name], name)
				}
				require.Equal(t, test.traits, got.traits)
			}
		})
	}
}

// TestTrackingWires sends what the SDKs were seen to send: three content types, gzip, the key in three places.
func TestTrackingWires(t *testing.T) {
	t.Parallel()
	const track = `{"type":"track","messageId":"m","userId":"u1","event":"E","writeKey":"k"}`
	const batch = `{"writeKey":"k","sentAt":"2026-11-24T09:00:00Z","batch":[` + track + `]}`
	for name, header := range map[string][]string{
		"Segment Node":       {"Content-Type", "application/json", "Authorization", basic("k"), "User-Agent", "analytics-node-next/latest"},
		"Segment browser":    {"Content-Type", "text/plain", "Authorization", basic("k")},
		"RudderStack Node":   {"Content-Type", "application/x-www-form-urlencoded", "Content-Encoding", "gzip", "Authorization", basic("k")},
		"RudderStack plain":  {"Content-Type", "application/json", "Authorization", basic("k")},
		"key in the body":    {"Content-Type", "text/plain;charset=UTF-8"},
		"bearer and body":    {"Authorization", "Bearer token"},
		"no type":            {},
		"capitals of gzip":   {"Content-Encoding", "GZIP"},
		"basic, no colon":    {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("k"))},
		"x-api-key":          {"X-Api-Key", "k"},
		"retry of an upload": {"X-Retry-Count", "2", "Authorization", basic("k")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := "k"
			d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) { c.Keys = ring(t, entry("web", api.RoleWrite, secret)) })
			for _, route := range []string{"/v1/batch", "/v1/b", "/v1/t"} {
				body := batch
				if route == "/v1/t" {
					body = track
				}
				for i, value := range header {
					if strings.EqualFold(value, "gzip") && header[i-1] == "Content-Encoding" {
						body = zipped(t, []byte(body))
					}
				}
				w := post(t, d.handler, route, body, header...)
				require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			}
			all := d.stored(t)
			require.Len(t, all, 1, "the same message id three times is one event")
			require.Equal(t, "onramp.events.web", all[0].subject, "under the name of its key")
			require.Equal(t, 2, d.count(api.VerdictDuplicate))
			require.Equal(t, 1, d.count(api.VerdictStored))
		})
	}
}

func TestTrackingBatch(t *testing.T) {
	t.Parallel()
	t.Run("each item has a verdict of its own", func(t *testing.T) {
		t.Parallel()
		d := openDoor(t)
		body := `{"context":{"library":{"name":"x"},"ip":"192.0.2.1"},"integrations":{"All":false},"batch":[
			{"type":"track","messageId":"1","userId":"u1","event":"A","context":{"ip":"192.0.2.2"}},
			{"type":"track","messageId":"2","event":"A"},
			{"type":"track","messageId":"3","userId":"u1","userId":"u2","event":"A"},
			{"type":"track","messageId":"4","userId":"u1","event":"B","properties":{"b":"` + "\xff" + `"}},
			{"type":"track","messageId":"5","userId":"u1","event":"C","timestamp":1700000000},
			{"type":"charge","messageId":"6","userId":"u1"},
			{"type":"identify","messageId":"7","userId":"u1","traits":[]},
			{"messageId":"8","userId":"u1"},
			5,
			{"type":"track","messageId":"9","userId":"u1","event":"Big","properties":{"x":"` + strings.Repeat("x", 40<<10) + `"}},
			{"type":"track","userId":"u1","event":"No Id"}]}`
		reply := batchReplyOf(t, post(t, d.handler, "/v1/batch", body))
		require.True(t, reply.Success)
		require.Equal(t, 2, reply.Accepted)
		var verdicts []string
		for _, r := range reply.Rejected {
			require.NotEmpty(t, r.Message)
			verdicts = append(verdicts, fmt.Sprintf("%d %s %s", r.Index, r.Code, r.Field))
		}
		require.Equal(t, []string{
			"1 missing_user userId", "2 duplicate_key ", "3 invalid_utf8 ", "4 bad_timestamp timestamp", "5 wrong_type type",
			"6 wrong_type traits", "7 wrong_type type", "8 not_an_object ", "9 too_large ",
		}, verdicts)
		all := d.stored(t)
		require.Len(t, all, 2)
		require.Equal(t, map[string]any{"library": map[string]any{"name": "x"}, "ip": "192.0.2.2"}, all[0].properties["tracking"].(map[string]any)["context"], "the item wins")
		require.Equal(t, map[string]any{"All": false}, all[0].properties["tracking"].(map[string]any)["integrations"])
		require.Len(t, reply.Assigned, 1)
		require.Equal(t, 10, reply.Assigned[0].Index)
		require.Equal(t, all[1].ID, reply.Assigned[0].MessageID)
		require.Equal(t, 9, d.count(api.VerdictRefused))
	})
	t.Run("one that is known already does not cost the others", func(t *testing.T) {
		t.Parallel()
		d := openDoor(t)
		item := func(id string) string { return `{"type":"track","messageId":"` + id + `","userId":"u1","event":"A"}` }
		require.Equal(t, 1, batchReplyOf(t, post(t, d.handler, "/v1/batch", `{"batch":[`+item("1")+`]}`)).Accepted)
		reply := batchReplyOf(t, post(t, d.handler, "/v1/batch", `{"batch":[`+item("2")+`,`+item("1")+`,`+item("2")+`]}`))
		require.Equal(t, 3, reply.Accepted)
		require.Equal(t, 2, reply.Duplicates)
		require.Len(t, d.stored(t), 2)
	})
	t.Run("ids that a header would change stay apart", func(t *testing.T) {
		t.Parallel()
		d := openDoor(t)
		for _, id := range []string{"a", " a", "a ", "ä", "a\u0308"} {
			require.Equal(t, http.StatusOK, post(t, d.handler, "/v1/track", `{"messageId":"`+id+`","userId":"u1","event":"A"}`).Code)
		}
		require.Len(t, d.stored(t), 5)
	})
	t.Run("2501 events", func(t *testing.T) {
		t.Parallel()
		d := openDoor(t)
		items := make([]string, 2501)
		for i := range items {
			items[i] = fmt.Sprintf(`{"type":"track","messageId":"%d","userId":"u%d","event":"A"}`, i, i%7)
		}
		reply := batchReplyOf(t, post(t, d.handler, "/v1/batch", `{"batch":[`+strings.Join(items, ",")+`]}`))
		require.Equal(t, 2500, reply.Accepted)
		require.Len(t, reply.Rejected, 1)
		require.Equal(t, 2500, reply.Rejected[0].Index)
		require.Equal(t, "too_large", reply.Rejected[0].Code)
	})
	t.Run("an import belongs to the past", func(t *testing.T) {
		t.Parallel()
		d := openDoor(t)
		body := `{"batch":[{"type":"track","messageId":"1","userId":"u1","event":"A","timestamp":"2024-01-02T03:04:05Z"}]}`
		require.Equal(t, 1, batchReplyOf(t, post(t, d.handler, "/v1/import", body)).Accepted)
		got := d.stored(t)[0]
		require.True(t, got.Backfill)
		require.Equal(t, time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), got.Timing.OccurredAt)
	})
}

// TestTrackingClock sends times from clocks that are wrong, and looks at what ingest will make of them.
func TestTrackingClock(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	now := time.Now()
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339Nano) }
	year := 365 * 24 * time.Hour
	tests := []struct {
		name, fields, header string
		want                 time.Duration // from now
		lateness             schema.Lateness
		clamped              bool
	}{
		{name: "no time at all", lateness: schema.OnTime},
		{name: "three hours ahead", fields: fmt.Sprintf(`"timestamp":%q,"sentAt":%q`, at(3*time.Hour-time.Minute), at(3*time.Hour)), want: -time.Minute, lateness: schema.OnTime},
		{name: "three hours behind, RudderStack", fields: fmt.Sprintf(`"originalTimestamp":%q,"sentAt":%q`, at(-3*time.Hour-time.Minute), at(-3*time.Hour)), want: -time.Minute, lateness: schema.OnTime},
		{name: "sentAt in the header", fields: fmt.Sprintf(`"originalTimestamp":%q`, at(-3*time.Hour-time.Minute)), header: at(-3 * time.Hour), want: -time.Minute, lateness: schema.OnTime},
		{name: "the caller's own counts", fields: fmt.Sprintf(`"originalTimestamp":%q,"timestamp":%q`, at(-time.Hour), at(-2*time.Hour)), want: -2 * time.Hour, lateness: schema.Late},
		{name: "a historical one stays old", fields: fmt.Sprintf(`"timestamp":%q,"sentAt":%q`, at(-2*year), at(0)), want: -2 * year, lateness: schema.Historic},
		{name: "sentAt before the event is no clock", fields: fmt.Sprintf(`"timestamp":%q,"sentAt":%q`, at(-time.Minute), at(-time.Hour)), want: -time.Minute, lateness: schema.OnTime},
		{name: "sentAt of 1970 is no clock", fields: fmt.Sprintf(`"timestamp":%q,"sentAt":"1970-01-01T00:00:00Z"`, at(-time.Minute)), want: -time.Minute, lateness: schema.OnTime},
		{name: "six minutes ahead is now", fields: fmt.Sprintf(`"timestamp":%q`, at(6*time.Minute)), lateness: schema.OnTime, clamped: true},
		{name: "null is none", fields: `"timestamp":null,"originalTimestamp":null,"sentAt":null`, lateness: schema.OnTime},
	}
	for i, test := range tests {
		body := fmt.Sprintf(`{"type":"track","messageId":"m%d","userId":"u","event":"E"`, i)
		if test.fields != "" {
			body += "," + test.fields
		}
		w := post(t, d.handler, "/v1/track", body+"}", "sentAt", test.header)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", test.name, w.Body.String())
		got := d.stored(t)[i]
		require.WithinDuration(t, now.Add(test.want), got.Timing.OccurredAt, 30*time.Second, test.name)
		require.Equal(t, test.lateness, got.Lateness, test.name)
		require.Equal(t, test.clamped, got.Clamped, test.name)
	}
}

// TestTrackingBadInput is the catalog of what strangers send, 4.1 to 4.5, as single calls.
func TestTrackingBadInput(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	with := func(fields string) string { return `{"userId":"u","event":"E",` + fields + `}` }
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	keys := make([]string, 300)
	for i := range keys {
		keys[i] = fmt.Sprintf(`"k%d":1`, i)
	}
	tests := []struct {
		name, body string
		status     int
		code       string
		field      string
		header     []string
	}{
		{name: "1 empty", body: "", status: 400, code: "empty_body"},
		{name: "3 limit and one", body: with(`"properties":{"x":"` + strings.Repeat("x", 32<<10) + `"}`), status: 413, code: "too_large"},
		{name: "8 a bomb", body: zipped(t, make([]byte, 64<<20)), header: []string{"Content-Encoding", "gzip"}, status: 413, code: "too_large"},
		{name: "9 cut short", body: zipped(t, []byte(with(`"a":1`)))[:20], header: []string{"Content-Encoding", "gzip"}, status: 400, code: "bad_encoding"},
		{name: "9 not gzip", body: with(`"a":1`), header: []string{"Content-Encoding", "gzip"}, status: 400, code: "bad_encoding"},
		{name: "9 twice", body: zipped(t, []byte(zipped(t, []byte(with(`"a":1`))))), header: []string{"Content-Encoding", "gzip"}, status: 400, code: "malformed_json"},
		{name: "9 unknown encoding", body: "x", header: []string{"Content-Encoding", "br"}, status: 415, code: "bad_encoding"},
		{name: "17 cut", body: `{"userId":"a"`, status: 400, code: "malformed_json"},
		{name: "18 trailing", body: `{"userId":"a"} x`, status: 400, code: "trailing_data"},
		{name: "18 two", body: `{}{}`, status: 400, code: "trailing_data"},
		{name: "19 array", body: `[]`, status: 400, code: "not_an_object"},
		{name: "19 null", body: `null`, status: 400, code: "not_an_object"},
		{name: "19 text", body: `"x"`, status: 400, code: "not_an_object"},
		{name: "20 BOM", body: "\ufeff{}", status: 400, code: "malformed_json"},
		{name: "21 UTF-16", body: "\xff\xfe{\x00}\x00", status: 400, code: "malformed_json"},
		{name: "22 deep", body: with(`"properties":{"a":` + deep(17) + `}`), status: 400, code: "too_deep", field: "properties"},
		{name: "22 very deep", body: with(`"properties":{"a":` + deep(15000) + `}`), status: 400, code: "too_deep"},
		{name: "23 duplicate", body: `{"userId":"a","userId":"b","event":"E"}`, status: 400, code: "duplicate_key", field: "userId"},
		{name: "23 duplicate inside", body: with(`"properties":{"a":1,"a":2}`), status: 400, code: "duplicate_key"},
		{name: "24 other capitals are another field", body: `{"USERID":"evil","event":"E"}`, status: 422, code: "missing_user", field: "userId"},
		{name: "25 long s is another field", body: `{"u` + "\u017f" + `erId":"evil","event":"E"}`, status: 422, code: "missing_user", field: "userId"},
		{name: "26 raw bytes", body: "{\"userId\":\"a\xff\xfe\",\"event\":\"E\"}", status: 400, code: "invalid_utf8"},
		{name: "27 lone surrogate", body: `{"userId":"\ud800","event":"E"}`, status: 400, code: "invalid_utf8"},
		{name: "28 NUL in an id", body: `{"userId":"a\u0000b","event":"E"}`, status: 422, code: "bad_id", field: "userId"},
		{name: "29 NaN", body: with(`"properties":{"a":NaN}`), status: 400, code: "malformed_json"},
		{name: "29 01", body: with(`"properties":{"a":01}`), status: 400, code: "malformed_json"},
		{name: "29 1e400", body: with(`"properties":{"a":1e400}`), status: 422, code: "number_range", field: "properties"},
		{name: "29 Infinity", body: with(`"properties":{"a":Infinity}`), status: 400, code: "malformed_json"},
		{name: "29 0x10", body: with(`"properties":{"a":0x10}`), status: 400, code: "malformed_json"},
		{name: "29 +1", body: with(`"properties":{"a":+1}`), status: 400, code: "malformed_json"},
		{name: "31 1E-999999", body: with(`"properties":{"a":1E-999999}`), status: 422, code: "number_range", field: "properties"},
		{name: "31 400 digits", body: with(`"properties":{"a":` + strings.Repeat("9", 400) + `}`), status: 422, code: "number_range", field: "properties"},
		{name: "32 keys", body: with(`"properties":{` + strings.Join(keys, ",") + `}`), status: 422, code: "too_many_keys", field: "properties"},
		{name: "33 empty key", body: with(`"properties":{"":1}`), status: 422, code: "bad_key", field: "properties"},
		{name: "33 long key", body: with(`"properties":{"` + strings.Repeat("k", 300) + `":1}`), status: 422, code: "bad_key", field: "properties"},
		{name: "35 comment", body: `{"userId":"a"/*x*/}`, status: 400, code: "malformed_json"},
		{name: "35 quotes", body: `{'userId':'a'}`, status: 400, code: "malformed_json"},
		{name: "35 comma", body: `{"userId":"a",}`, status: 400, code: "malformed_json"},
		{name: "36 nobody", body: `{"event":"E"}`, status: 422, code: "missing_user", field: "userId"},
		{name: "36 blank", body: `{"userId":" ","event":"E"}`, status: 422, code: "missing_user", field: "userId"},
		{name: "37 true", body: `{"userId":true,"event":"E"}`, status: 422, code: "wrong_type", field: "userId"},
		{name: "37 object", body: `{"userId":{},"event":"E"}`, status: 422, code: "wrong_type", field: "userId"},
		{name: "37 list", body: `{"userId":[],"event":"E"}`, status: 422, code: "wrong_type", field: "userId"},
		{name: "39 tab", body: `{"userId":"a\tb","event":"E"}`, status: 422, code: "bad_id", field: "userId"},
		{name: "39 a protocol line", body: `{"userId":"a\r\nPUB x 1\r\nx","event":"E"}`, status: 422, code: "bad_id", field: "userId"},
		{name: "40 long", body: `{"userId":"` + strings.Repeat("a", 5000) + `","event":"E"}`, status: 422, code: "id_too_long", field: "userId"},
		{name: "43 null as text", body: `{"userId":"null","event":"E"}`, status: 422, code: "illegal_id", field: "userId"},
		{name: "43 of a visitor", body: `{"anonymousId":"undefined","event":"E"}`, status: 422, code: "illegal_id", field: "anonymousId"},
		{name: "43 zero", body: `{"userId":0,"event":"E"}`, status: 422, code: "illegal_id", field: "userId"},
		{name: "43 NaN", body: `{"userId":"NaN","event":"E"}`, status: 422, code: "illegal_id", field: "userId"},
		{name: "43 anonymous", body: `{"userId":"anonymous","event":"E"}`, status: 422, code: "illegal_id", field: "userId"},
		{name: "43 an object as text", body: `{"userId":"[object Object]","event":"E"}`, status: 422, code: "illegal_id", field: "userId"},
		{name: "43 zeros", body: `{"userId":"00000000-0000-0000-0000-000000000000","event":"E"}`, status: 422, code: "illegal_id", field: "userId"},
		{name: "47 a huge message id", body: with(`"messageId":"` + strings.Repeat("m", 30000) + `"`), status: 422, code: "bad_event_id", field: "messageId"},
		{name: "47 long message id", body: with(`"messageId":"` + strings.Repeat("m", 101) + `"`), status: 422, code: "bad_event_id", field: "messageId"},
		{name: "47 CR LF", body: with(`"messageId":"a\r\nb"`), status: 422, code: "bad_event_id", field: "messageId"},
		{name: "54 seconds", body: with(`"timestamp":1700000000`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "54 milliseconds", body: with(`"timestamp":1700000000000`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "55 zeros", body: with(`"timestamp":"0000-00-00 00:00:00"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "55 year 0", body: with(`"timestamp":"0000-01-01T00:00:00Z"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "56 year 9999", body: with(`"timestamp":"9999-12-31T23:59:59.999999999Z"`), status: 422, code: "future", field: "timestamp"},
		{name: "56 year 10000", body: with(`"timestamp":"10000-01-01T00:00:00Z"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "57 minus one", body: with(`"timestamp":"-1"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "58 hour 24", body: with(`"timestamp":"2026-01-01T24:00:00Z"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "58 30 February", body: with(`"timestamp":"2026-02-30T00:00:00Z"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "58 a zone of 99 hours", body: with(`"timestamp":"2026-01-01T00:00:00+99:99"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "58 lower case", body: with(`"timestamp":"2026-01-01t00:00:00z"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "59 25 hours ahead", body: with(`"timestamp":"` + in(25*time.Hour) + `"`), status: 422, code: "future", field: "timestamp"},
		{name: "60 eleven years ago", body: with(`"timestamp":"` + in(-96360*time.Hour) + `"`), status: 422, code: "too_old", field: "timestamp"},
		{name: "57 1969", body: with(`"originalTimestamp":"1969-12-31T23:59:59Z"`), status: 422, code: "too_old", field: "originalTimestamp"},
		{name: "58 leap second", body: with(`"timestamp":"2016-12-31T23:59:60Z"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "58 comma", body: with(`"timestamp":"2026-11-24T09:00:00,5Z"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "63 no zone", body: with(`"timestamp":"2026-11-24T09:00:00"`), status: 422, code: "bad_timestamp", field: "timestamp"},
		{name: "sentAt", body: with(`"sentAt":"yesterday"`), status: 422, code: "bad_timestamp", field: "sentAt"},
		{name: "67 no name", body: `{"userId":"u"}`, status: 422, code: "bad_event_name", field: "event"},
		{name: "67 empty name", body: `{"userId":"u","event":""}`, status: 422, code: "bad_event_name", field: "event"},
		{name: "67 NUL in the name", body: `{"userId":"u","event":"a\u0000"}`, status: 422, code: "bad_event_name", field: "event"},
		{name: "67 line break in the name", body: `{"userId":"u","event":"a\nb"}`, status: 422, code: "bad_event_name", field: "event"},
		{name: "67 long name", body: `{"userId":"u","event":"` + strings.Repeat("e", 300) + `"}`, status: 422, code: "bad_event_name", field: "event"},
		{name: "67 number", body: `{"userId":"u","event":5}`, status: 422, code: "wrong_type", field: "event"},
		{name: "properties", body: with(`"properties":"x"`), status: 422, code: "wrong_type", field: "properties"},
		{name: "context", body: with(`"context":[]`), status: 422, code: "wrong_type", field: "context"},
		{name: "two spellings", body: with(`"properties":{"aB":1,"a b":2}`), status: 400, code: "duplicate_key", field: "properties"},
		{name: "another kind than the route", body: with(`"type":"identify"`), status: 422, code: "wrong_type", field: "type"},
	}
	for _, test := range tests {
		w := post(t, d.handler, "/v1/track", test.body, test.header...)
		require.Equal(t, test.status, w.Code, "%s: %s", test.name, w.Body.String())
		got := refusalOf(t, w)
		require.Equal(t, test.code, got.Error.Code, "%s: %s", test.name, got.Error.Message)
		require.Equal(t, test.field, got.Error.Field, "%s: %s", test.name, got.Error.Message)
		require.NotContains(t, w.Body.String(), "evil")
		require.LessOrEqual(t, len(got.Error.Message), 160)
	}
	for route, field := range map[string]string{"/v1/group": "groupId", "/v1/alias": "previousId"} {
		w := post(t, d.handler, route, `{"userId":"u"}`)
		require.Equal(t, http.StatusUnprocessableEntity, w.Code)
		require.Equal(t, field, refusalOf(t, w).Error.Field)
	}
	w := post(t, d.handler, "/v1/alias", `{"anonymousId":"a","previousId":"b"}`)
	require.Equal(t, "userId", refusalOf(t, w).Error.Field, "an alias says whom the visitor has become")
	for _, body := range []string{`{}`, `{"batch":[]}`, `{"batch":null}`} {
		w := post(t, d.handler, "/v1/batch", body)
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Equal(t, "empty_batch", refusalOf(t, w).Error.Code)
	}
	w = post(t, d.handler, "/v1/batch", `{"batch":{}}`)
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	w = post(t, d.handler, "/v1/batch", `{"batch":[`+strings.Repeat(" ", 501<<10)+`]}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Empty(t, d.stored(t), "nothing of it reached the stream")
}

// TestTrackingStrange sends what looks dangerous and is data.
func TestTrackingStrange(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	ids := []string{
		"a.b.c", "*", ">", "ev.>", "$JS.API.STREAM.DELETE.X", "a b", "é", "e\u0301", "\U0001F600", "\u202eabc", "../../etc/passwd", "a/b?c#d",
		"'; DROP TABLE events;--", "{{7*7}}", "${jndi:ldap://x}", "=cmd|' /C calc'!A0", "+1", "@SUM(1)",
	}
	for i, id := range ids {
		body, err := json.Marshal(map[string]any{
			"userId": id, "event": "E", "messageId": fmt.Sprint("m", i),
			"properties": map[string]any{"v": id + "\x00", "__proto__": 1, "a.b": 0},
		})
		require.NoError(t, err)
		w := post(t, d.handler, "/v1/track", string(body))
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	}
	all := d.stored(t)
	require.Len(t, all, len(ids))
	for i, got := range all {
		require.Equal(t, ids[i], got.UserID)
		require.Equal(t, ids[i]+"\x00", got.properties["v"])
		require.Equal(t, "onramp.events.tracking", got.subject)
	}
}

func TestTrackingMethods(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	for _, path := range []string{"/v1/track", "/v1/batch", "/v1/b", "/v1/t/"} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodTrace, http.MethodOptions} {
			w := do(t, d.handler, method, path)
			require.Equal(t, http.StatusMethodNotAllowed, w.Code, method)
			require.Equal(t, "POST, OPTIONS", w.Header().Get("Allow"))
		}
	}
	for _, path := range []string{"/v1/events/../track", "/v1//track", "/v1/%2e%2e/track", "/v1/track;x", "/v1/track//", "/v1/x", "/V1/track"} {
		require.Equal(t, http.StatusNotFound, post(t, d.handler, path, `{}`).Code, path)
	}
}

// TestTrackingUnavailable takes the stream away: nothing is acknowledged then, and what is sent again is stored once.
func TestTrackingUnavailable(t *testing.T) {
	t.Parallel()
	const body = `{"messageId":"m","userId":"u","event":"E"}`
	t.Run("NATS is away", func(t *testing.T) {
		t.Parallel()
		d := openDoor(t)
		require.Equal(t, http.StatusOK, post(t, d.handler, "/v1/track", body).Code)
		d.broker.Stop()
		var w *httptest.ResponseRecorder
		require.Eventually(t, func() bool {
			w = post(t, d.handler, "/v1/track", body)
			return w.Code == http.StatusServiceUnavailable
		}, patience, poll)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Equal(t, "unavailable", refusalOf(t, w).Error.Code)
		require.Positive(t, d.count(api.VerdictDeferred))
		d.broker.Start(t)
		require.Eventually(t, func() bool { return post(t, d.handler, "/v1/track", body).Code == http.StatusOK }, patience, poll)
		require.Len(t, d.stored(t), 1)
	})
	t.Run("the stream is full", func(t *testing.T) {
		t.Parallel()
		d := openDoor(t, func(_ *api.Config, s *jetstream.StreamConfig) { s.MaxMsgs = 1 })
		require.Equal(t, http.StatusOK, post(t, d.handler, "/v1/track", body).Code)
		w := post(t, d.handler, "/v1/track", `{"messageId":"other","userId":"u","event":"E"}`)
		require.Equal(t, http.StatusTooManyRequests, w.Code, w.Body.String())
		require.Equal(t, "2", w.Header().Get("Retry-After"))
		require.Equal(t, "2", w.Header().Get("X-RateLimit-Reset"))
		require.Equal(t, "rate_limited", refusalOf(t, w).Error.Code)
		require.Len(t, d.stored(t), 1)
	})
	t.Run("there is no stream", func(t *testing.T) {
		t.Parallel()
		d := openDoor(t)
		require.NoError(t, d.js.DeleteStream(t.Context(), schema.EventsStream))
		require.Equal(t, http.StatusServiceUnavailable, post(t, d.handler, "/v1/batch", `{"batch":[`+`{"type":"track","userId":"u","event":"E"}`+`]}`).Code)
	})
}

// TestTrackingMemory sends a kilobyte that holds a gigabyte.
func TestTrackingMemory(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	d := openDoor(t)
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 1 << 10 {
		_, err := w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 5 {
		require.Equal(t, http.StatusRequestEntityTooLarge, post(t, d.handler, "/v1/batch", bomb.String(), "Content-Encoding", "gzip").Code)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(5*16<<20), "at most 16 MiB a request, counting what was freed")
}

// TestTrackingSlowBody sends a body that does not end.
func TestTrackingSlowBody(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	server := httptest.NewUnstartedServer(d.handler)
	server.Config.ReadTimeout = 300 * time.Millisecond // 10 s in production
	server.Start()
	defer server.Close()
	reader, writer := io.Pipe()
	defer writer.Close()
	go writer.Write([]byte(`{"userId":`))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/track", reader)
	require.NoError(t, err)
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusRequestTimeout, response.StatusCode)
	require.True(t, response.Close)
}

// TestTrackingSettings answers what browser SDKs ask first.
func TestTrackingSettings(t *testing.T) {
	t.Parallel()
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) { c.Keys = ring(t, entry("web", api.RoleWrite, "k1")) })
	require.JSONEq(t, `{"integrations":{"Segment.io":{"apiKey":"k1"}}}`, get(t, d.handler, "/v1/projects/k1/settings").Body.String())
	require.Equal(t, http.StatusUnauthorized, get(t, d.handler, "/v1/projects/other/settings").Code)
	for _, path := range []string{"/sourceConfig/?writeKey=k1&p=npm&v=3", "/sourceConfig?p=npm"} {
		w := get(t, d.handler, path, "Authorization", basic("k1"))
		require.Equal(t, http.StatusOK, w.Code)
		var body struct {
			Source struct {
				WriteKey     string         `json:"writeKey"`
				Enabled      bool           `json:"enabled"`
				Destinations []any          `json:"destinations"`
				Dataplanes   map[string]any `json:"dataplanes"`
				Config       map[string]any `json:"config"`
			} `json:"source"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		require.True(t, body.Source.Enabled)
		require.Equal(t, "k1", body.Source.WriteKey)
		require.NotNil(t, body.Source.Destinations)
		require.NotNil(t, body.Source.Dataplanes)
	}
}

// ring writes a file of keys and opens it.
func ring(t *testing.T, entries ...string) *api.Keyring {
	t.Helper()
	return ringOf(t, "keys:\n"+strings.Join(entries, ""))
}

func ringOf(t *testing.T, text string) *api.Keyring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	k, err := api.OpenKeyring(path, quiet())
	require.NoError(t, err)
	return k
}
