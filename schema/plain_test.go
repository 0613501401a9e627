package schema_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/schema"
)

const plainEvent = `{"event_id":"e1","event_name":"feature_viewed","user_id":"Jürgen 7","occurred_at":"2026-11-24T09:00:00.5+02:00",` +
	`"properties":{"feature":"reports","n":-12.50,"deep":{"a":[1,[true,null],{"b":""}]}},"traits":{"plan":"pro"},"backfill":true}`

// TestPlainEventsAreReadInOnePass: the quick reader takes what programs write, and leaves what is not plain.
func TestPlainEventsAreReadInOnePass(t *testing.T) {
	t.Parallel()
	event, err := json.Marshal(schema.Event{
		EventID: "e1", EventName: "alias", UserID: "u1", AnonymousID: "a1", PreviousID: "p1", OccurredAt: time.Now(), SentAt: time.Now(), Backfill: true,
		Properties: []byte(`{"a":1}`), Traits: []byte(`{}`),
	})
	require.NoError(t, err)
	for _, raw := range []string{plainEvent, string(event), "{\n\t\"user_id\" : \"u1\" ,\r\n \"backfill\" : false } "} {
		got := schema.ReadPlain([]byte(raw))
		require.NotNil(t, got, raw)
		want, err := schema.ReadMembers([]byte(raw))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, raw := range []string{
		``, `{}`, `[]`, `{"user_id":"u1"`, `{"user_id":"u1",}`, `{"user_id":"u1"}x`, `{"user_id":"u1","user_id":"u1"}`, `{"user_id":"\u0041"}`, `{"anonymous_id":null}`,
		`{"properties":{"a":1,"a":2}}`, `{"properties":{"a": 1}}`, `{"properties":{"a":1e3}}`, `{"properties":{"a":01}}`, `{"properties":{"a":1.}}`, `{"properties":{"a":-}}`,
		`{"properties":{"":1}}`, `{"properties":[]}`, `{"properties":{"a":[1,]}}`, `{"properties":{"a":tru}}`, `{"occurred_at":"noon"}`, `{"user":"u1"}`, "{\"user_id\":\"a\nb\"}",
	} {
		require.Nil(t, schema.ReadPlain([]byte(raw)), raw)
	}
}

// agree requires that what the quick reader takes, the other reads alike.
func agree(t require.TestingT, raw []byte) {
	if !utf8.Valid(raw) {
		return
	}
	got := schema.ReadPlain(raw)
	if got == nil {
		return
	}
	want, err := schema.ReadMembers(raw)
	require.NoError(t, err, "%s", raw)
	require.Equal(t, want, got, "%s", raw)
}

// TestBothReadersAgree on events that are nearly right: each is drawn as text, with what goes wrong now and then.
func TestBothReadersAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { agree(t, []byte(nearlyEvent(t))) })
}

func nearlyEvent(t *rapid.T) string {
	odd := func(usual string, odd ...string) string { // one in twenty is odd
		if rapid.IntRange(0, 19).Draw(t, "odd") > 0 {
			return usual
		}
		return rapid.SampledFrom(odd).Draw(t, "which")
	}
	text := func() string {
		return odd(`"`+rapid.StringMatching(`[a-zé ]{1,6}`).Draw(t, "text")+`"`, `""`, `"\n"`, `"\ud800"`, "\"\t\"", `"a`, `"\""`, "\"\x7f\"", `"`+strings.Repeat("x", schema.MaxStringBytes+1)+`"`)
	}
	number := func() string {
		return odd(strconv.Itoa(rapid.IntRange(-1000, 1000).Draw(t, "n")), "0", "-0", "00", "-", "+1", "1.50", "1.", ".5", "1e3", "1E-999999", "0.0", strings.Repeat("9", 39), strings.Repeat("9", 400), "0x1", "NaN")
	}
	var value func(depth int) string
	list := func(open, closing string, item func() string) string {
		items := make([]string, rapid.IntRange(0, 3).Draw(t, "items"))
		for i := range items {
			items[i] = item()
		}
		return open + strings.Join(items, odd(",", ", ", ",,", "")) + odd(closing, "", ",}", "]", "}", " }")
	}
	object := func(depth int) string {
		return list("{", "}", func() string { return text() + odd(":", " :", "", "::") + value(depth) })
	}
	value = func(depth int) string {
		switch rapid.IntRange(0, 5-min(depth, 2)).Draw(t, "kind") {
		case 0:
			return text()
		case 1:
			return number()
		case 2:
			return odd("true", "True", "tru")
		case 3:
			return odd("null", "nul", "false")
		case 4:
			return list("[", "]", func() string { return value(depth + 1) })
		default:
			return object(depth + 1)
		}
	}
	var members []string
	for _, field := range []string{"event_id", "event_name", "user_id", "anonymous_id", "previous_id", "occurred_at", "sent_at", "properties", "traits", "backfill", "user_id", "other"} {
		likely := map[string]int{"event_name": 9, "user_id": 5, "properties": 9, "other": 0}[field]
		if rapid.IntRange(0, 9).Draw(t, field) > max(likely, 1) {
			continue
		}
		var v string
		switch field {
		case "occurred_at", "sent_at":
			v = odd(`"2026-11-24T09:00:00Z"`, `"2026-11-24T09:00:00,5Z"`, `1700000000`, `"2026-11-24T09:00:00.123456789+14:00"`, `"noon"`)
		case "properties", "traits":
			v = odd(object(0), "null", "[]", "{")
		case "backfill":
			v = odd("true", "false", "null", `"yes"`)
		default:
			v = odd(text(), "null", "7")
		}
		members = append(members, `"`+field+`"`+odd(":", " : ", "")+v)
	}
	return odd("", " ", "\n", "x", "\ufeff") + "{" + strings.Join(members, odd(",", " ,\t", ",,")) + odd("}", "", "}}", "} ", "},")
}

// FuzzBothReadersAgree: whatever the quick reader takes, the other reads alike.
func FuzzBothReadersAgree(f *testing.F) {
	f.Add([]byte(plainEvent))
	f.Add([]byte(`{"user_id":"u1","properties":{"a":0.00000000000000000000000000000000000000000001}}`))
	f.Add([]byte(" {\"properties\":{\"a\":[[[[[[1]]]]]]} }\n"))
	f.Fuzz(func(t *testing.T, raw []byte) { agree(t, raw) })
}

// BenchmarkReceive reads an event as the archive's benchmark has them.
func BenchmarkReceive(b *testing.B) {
	raw := []byte(`{"event_id":"e123456","event_name":"feature_viewed","user_id":"user 789","properties":{"feature":"reports"}}`)
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	for name, text := range map[string][]byte{"plain": raw, "not": []byte(strings.Replace(string(raw), "feature_viewed", `feature\u005fviewed`, 1))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := schema.Receive(text, nil, 7, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
