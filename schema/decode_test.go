package schema_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
)

func TestDecodeEventRefuses(t *testing.T) {
	t.Parallel()
	ok := `"event_name":"signed_up","user_id":"u1"`
	cases := []struct {
		name, in string
		want     schema.Reason
	}{
		{"empty", ``, schema.ReasonMalformedJSON},
		{"cut", `{"user_id":"a"`, schema.ReasonMalformedJSON},
		{"trailing text", `{` + ok + `} x`, schema.ReasonTrailingData},
		{"two objects", `{` + ok + `}{}`, schema.ReasonTrailingData},
		{"array", `[]`, schema.ReasonNotAnObject},
		{"null", `null`, schema.ReasonNotAnObject},
		{"byte order mark", "\xef\xbb\xbf{" + ok + "}", schema.ReasonMalformedJSON},
		{"UTF-16", "\xff\xfe{\x00}\x00", schema.ReasonInvalidUTF8},
		{"too deep", `{` + ok + `,"properties":{"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}}`, schema.ReasonTooDeep},
		{"far too deep", `{` + ok + `,"properties":{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}}`, schema.ReasonTooDeep},
		{"duplicate user", `{"user_id":"a","user_id":"b","event_name":"x"}`, schema.ReasonDuplicateKey},
		{"duplicate property", `{` + ok + `,"properties":{"a":1,"a":2}}`, schema.ReasonDuplicateKey},
		{"other case", `{` + ok + `,"USER_ID":"evil"}`, schema.ReasonUnknownField},
		{"long s", `{` + ok + `,"uſer_id":"evil"}`, schema.ReasonUnknownField},
		{"broken bytes", "{" + ok + ",\"properties\":{\"a\":\"\xff\xfe\"}}", schema.ReasonInvalidUTF8},
		{"lone surrogate", `{` + ok + `,"properties":{"a":"\ud800"}}`, schema.ReasonInvalidUTF8},
		{"NUL in id", `{"event_name":"x","user_id":"a\u0000b"}`, schema.ReasonBadID},
		{"NaN", `{` + ok + `,"properties":{"a":NaN}}`, schema.ReasonMalformedJSON},
		{"1e400", `{` + ok + `,"properties":{"a":1e400}}`, schema.ReasonNumberRange},
		{"1E-999999", `{` + ok + `,"properties":{"a":1E-999999}}`, schema.ReasonNumberRange},
		{"400 digits", `{` + ok + `,"properties":{"a":` + strings.Repeat("9", 400) + `}}`, schema.ReasonNumberRange},
		{"leading zero", `{` + ok + `,"properties":{"a":01}}`, schema.ReasonMalformedJSON},
		{"long string", `{` + ok + `,"properties":{"a":"` + strings.Repeat("x", schema.MaxStringBytes+1) + `"}}`, schema.ReasonValueTooLong},
		{"empty key", `{` + ok + `,"properties":{"":1}}`, schema.ReasonBadKey},
		{"comment", `{` + ok + `/*x*/}`, schema.ReasonMalformedJSON},
		{"no user", `{"event_name":"x"}`, schema.ReasonMissingUser},
		{"null user", `{"event_name":"x","user_id":null}`, schema.ReasonMissingUser},
		{"blank user", `{"event_name":"x","user_id":" "}`, schema.ReasonMissingUser},
		{"number user", `{"event_name":"x","user_id":5}`, schema.ReasonWrongType},
		{"long user", `{"event_name":"x","user_id":"` + strings.Repeat("u", 5000) + `"}`, schema.ReasonIDTooLong},
		{"nobody", `{"event_name":"x","user_id":"undefined"}`, schema.ReasonIllegalID},
		{"nobody as object", `{"event_name":"x","user_id":"[object Object]"}`, schema.ReasonIllegalID},
		{"long event id", `{` + ok + `,"event_id":"` + strings.Repeat("e", 101) + `"}`, schema.ReasonBadEventID},
		{"line break in event id", `{` + ok + `,"event_id":"a\r\nb"}`, schema.ReasonBadEventID},
		{"no name", `{"user_id":"u1"}`, schema.ReasonBadEventName},
		{"long name", `{"user_id":"u1","event_name":"` + strings.Repeat("n", 300) + `"}`, schema.ReasonBadEventName},
		{"seconds as time", `{` + ok + `,"occurred_at":1700000000}`, schema.ReasonBadTimestamp},
		{"no zone", `{` + ok + `,"occurred_at":"2026-03-29T02:30:00"}`, schema.ReasonBadTimestamp},
		{"leap second", `{` + ok + `,"occurred_at":"2016-12-31T23:59:60Z"}`, schema.ReasonBadTimestamp},
		{"comma fraction", `{` + ok + `,"occurred_at":"2026-01-01T00:00:00,5Z"}`, schema.ReasonBadTimestamp},
		{"lower-case zone", `{` + ok + `,"occurred_at":"2026-01-01T00:00:00z"}`, schema.ReasonBadTimestamp},
		{"year zero", `{` + ok + `,"occurred_at":"0000-01-01T00:00:00Z"}`, schema.ReasonBadTimestamp},
		{"year 10000", `{` + ok + `,"occurred_at":"10000-01-01T00:00:00Z"}`, schema.ReasonBadTimestamp},
		{"properties list", `{` + ok + `,"properties":[]}`, schema.ReasonWrongType},
		{"backfill text", `{` + ok + `,"backfill":"yes"}`, schema.ReasonWrongType},
		{"too large", `{` + ok + `,"properties":{"a":"` + strings.Repeat("x", schema.MaxEventBytes) + `"}}`, schema.ReasonTooLarge},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := schema.DecodeEvent([]byte(c.in))
			rejection, ok := errors.AsType[*schema.Rejection](err)
			require.True(t, ok, "got %v", err)
			require.Equal(t, c.want, rejection.Reason, rejection.Message)
		})
	}
}

func TestDecodeEventTakes(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a.b.c", "*", ">", "ev.>", "a b", "é", "é", "../../etc/passwd", "'; DROP TABLE events;--", "=cmd|' /C calc'!A0"} {
		raw, err := json.Marshal(schema.Event{EventID: "e1", EventName: "signed_up", UserID: id})
		require.NoError(t, err)
		event, err := schema.DecodeEvent(raw)
		require.NoError(t, err, id)
		require.Equal(t, id, event.UserID)
		require.NoError(t, schema.CheckToken(schema.UserToken([]byte("key"), id)))
	}
	event, err := schema.DecodeEvent([]byte(`{"event_name":"x","user_id":"u","properties":{"n":9007199254740993,"z":-0,"s":"a\u0000b","f":1.5}}`))
	require.NoError(t, err)
	values, err := schema.DecodeProperties(event.Properties)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"n": int64(9007199254740993), "z": int64(0), "s": "a\x00b", "f": 1.5}, values)
}

func TestTimingOf(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	cases := []struct {
		name     string
		event    schema.Event
		at       time.Time
		lateness schema.Lateness
		clamped  bool
	}{
		{"no time", schema.Event{}, received, schema.OnTime, false},
		{"4 min ahead", schema.Event{OccurredAt: received.Add(4 * time.Minute)}, received.Add(4 * time.Minute), schema.OnTime, false},
		{"6 min ahead", schema.Event{OccurredAt: received.Add(6 * time.Minute)}, received, schema.OnTime, true},
		{"an hour late", schema.Event{OccurredAt: received.Add(-time.Hour)}, received.Add(-time.Hour), schema.Late, false},
		{"72 h late to the millisecond", schema.Event{OccurredAt: received.Add(-72 * time.Hour)}, received.Add(-72 * time.Hour), schema.Late, false},
		{"older", schema.Event{OccurredAt: received.Add(-72*time.Hour - time.Millisecond)}, received.Add(-72*time.Hour - time.Millisecond), schema.Historic, false},
		{"backfill", schema.Event{Backfill: true}, received, schema.Historic, false},
		{"clock 3 h off", schema.Event{OccurredAt: received.Add(-3 * time.Hour), SentAt: received.Add(-3 * time.Hour)}, received, schema.OnTime, false},
		{"sent before it occurred", schema.Event{OccurredAt: received.Add(-time.Minute), SentAt: received.Add(-time.Hour)}, received.Add(-time.Minute), schema.OnTime, false},
		{"no time, and sent by a clock days behind", schema.Event{SentAt: received.Add(-109 * time.Hour)}, received, schema.OnTime, false},
		{"no time, and sent by a clock ahead", schema.Event{SentAt: received.Add(3 * time.Hour)}, received, schema.OnTime, false},
		{"sent in 1970", schema.Event{OccurredAt: received, SentAt: time.Unix(0, 0)}, received, schema.OnTime, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			timing, err := schema.TimingOf(&c.event, received)
			require.NoError(t, err)
			require.Equal(t, schema.Timing{OccurredAt: c.at, Lateness: c.lateness, Clamped: c.clamped}, timing)
		})
	}
	for name, at := range map[string]time.Time{"25 h ahead": received.Add(25 * time.Hour), "11 years ago": received.AddDate(-11, 0, 0)} {
		_, err := schema.TimingOf(&schema.Event{OccurredAt: at}, received)
		require.Error(t, err, name)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	token := schema.UserToken([]byte("key"), ">")
	require.Len(t, token, 27)
	back, err := schema.TokenFromWorkflowID(schema.WorkflowID(token))
	require.NoError(t, err)
	require.Equal(t, token, back)
	for _, bad := range []string{"", "onboarding/", "onboarding/u*", "x/" + token, "onboarding/" + token + "a"} {
		_, err := schema.TokenFromWorkflowID(bad)
		require.ErrorIs(t, err, schema.ErrNotAToken, bad)
	}
	require.NotEqual(t, schema.UserToken([]byte("key"), "\u00e9"), schema.UserToken([]byte("key"), "e\u0301"), "NFC and NFD are two users")
	require.NotEqual(t, schema.EnrollmentID("a", "bc", "d"), schema.EnrollmentID("ab", "c", "d"), "parts do not run together")
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(`{"event_id":"1","event_name":"signed_up","user_id":"u1","occurred_at":"2026-11-24T09:00:00.5+02:00","properties":{"a":[1,{"b":null}]}}`))
	f.Add([]byte(`{"user_id":"\ud800"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		event, err := schema.DecodeEvent(raw)
		if err != nil {
			_, ok := errors.AsType[*schema.Rejection](err)
			require.True(t, ok, "every refusal carries a reason: %v", err)
			return
		}
		again, err := json.Marshal(event)
		require.NoError(t, err)
		second, err := schema.DecodeEvent(again)
		require.NoError(t, err)
		require.Equal(t, event.UserID, second.UserID)
		require.Equal(t, event.EventID, second.EventID)
		require.True(t, event.OccurredAt.Equal(second.OccurredAt))
	})
}
