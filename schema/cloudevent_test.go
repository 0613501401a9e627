package schema_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/schema"
)

// cloudHeader is the headers of a CloudEvent in binary mode that is in order.
func cloudHeader() header {
	return header{
		"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/billing", "ce-type": "com.example.invoice.paid.v2", "ce-subject": "J%C3%BCrgen",
		"ce-time": "2026-11-24T09:00:00.25Z", "ce-datacontenttype": "application/json",
	}
}

func structuredHeader() header {
	return header{"Content-Type": "application/cloudevents+json; charset=utf-8"}
}

// TestReceiveCloudEvent: both modes are the same event, whatever the case of the headers.
func TestReceiveCloudEvent(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 9, 0, 1, 0, time.UTC)
	base := `"specversion":"1.0","id":"7","source":"/billing","type":"com.example.invoice.paid.v2","subject":"Jürgen","time":"2026-11-24T09:00:00.25Z"`
	kept := `"id":"7","source":"/billing","specversion":"1.0","type":"com.example.invoice.paid.v2"`
	for _, c := range []struct {
		name       string
		header     header
		data       string
		want       schema.Event
		id         string
		properties string
	}{
		{name: "binary", header: cloudHeader(), data: ` {"amount":12} `, properties: `{"amount":12,"cloudevent":{` + kept + `}}`},
		{name: "structured", header: structuredHeader(), data: `{` + base + `,"datacontenttype":"application/json","data":{"amount":12}}`, properties: `{"amount":12,"cloudevent":{` + kept + `}}`},
		{
			name: "structured, headers beside it count for nothing", header: structuredHeader().with("ce-subject", "bob"),
			data: `{` + base + `,"data":{}}`, properties: `{"cloudevent":{` + kept + `}}`,
		},
		{name: "structured, base64", header: structuredHeader(), data: `{` + base + `,"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(`{"amount":12}`)) + `"}`, properties: `{"amount":12,"cloudevent":{` + kept + `}}`},
		{name: "structured, null is absent", header: structuredHeader(), data: `{` + base + `,"data":null,"partitionkey":null}`, properties: `{"cloudevent":{` + kept + `}}`},
		{name: "no data", header: cloudHeader(), properties: `{"cloudevent":{` + kept + `}}`},
		{
			name: "other case", header: header{
				"CE-SpecVersion": "1.0", "Ce-Id": "7", "cE-source": "/billing", "CE-TYPE": "com.example.invoice.paid.v2", "Ce-Subject": "J%c3%bcrgen",
				"Ce-Time": "2026-11-24T10:00:00.25+01:00", "content-TYPE": "application/vnd.invoice+json",
			}, data: `{}`, properties: `{"cloudevent":{` + kept + `}}`,
		},
		{name: "a value that was not encoded", header: cloudHeader().with("ce-subject", "Jürgen"), properties: `{"cloudevent":{` + kept + `}}`},
		{
			name: "decoded once", header: cloudHeader().with("ce-subject", "J%25C3%25BCrgen"), want: schema.Event{UserID: "J%C3%BCrgen"},
			properties: `{"cloudevent":{` + kept + `}}`,
		},
		{
			name: "extensions are kept", header: cloudHeader().with("ce-partitionkey", "a%20b").with("ce-traceparent", "00-1").with("ce-sequence", "5"),
			properties: `{"cloudevent":{"id":"7","partitionkey":"a b","sequence":"5","source":"/billing","specversion":"1.0","traceparent":"00-1","type":"com.example.invoice.paid.v2"}}`,
		},
		{
			name: "extensions of other types", header: structuredHeader(), data: `{` + base + `,"sequence":5,"urgent":true}`,
			properties: `{"cloudevent":{"id":"7","sequence":5,"source":"/billing","specversion":"1.0","type":"com.example.invoice.paid.v2","urgent":true}}`,
		},
		{name: "a property of that name stays", header: cloudHeader(), data: `{"cloudevent":1}`, properties: `{"cloudevent":1}`},
		{
			name: "eventname", header: cloudHeader().with("ce-eventname", "invoice_paid"), want: schema.Event{EventName: "invoice_paid"},
			properties: `{"cloudevent":{` + kept + `}}`,
		},
		{
			name: "traits and backfill", header: cloudHeader().with("ce-traits", "true").with("ce-backfill", "true"), data: `{"plan":"pro"}`,
			want: schema.Event{Traits: json.RawMessage(`{"plan":"pro"}`), Backfill: true}, properties: `{"cloudevent":{` + kept + `}}`,
		},
		{
			name: "traits and backfill, structured", header: structuredHeader(), data: `{` + base + `,"traits":true,"backfill":false,"data":{"plan":"pro"}}`,
			want: schema.Event{Traits: json.RawMessage(`{"plan":"pro"}`)}, properties: `{"cloudevent":{` + kept + `}}`,
		},
		{
			name: "type without dots", header: cloudHeader().with("ce-type", "invoicePaid"), want: schema.Event{EventName: "invoice_paid"},
			properties: `{"cloudevent":{` + strings.Replace(kept, "com.example.invoice.paid.v2", "invoicePaid", 1) + `}}`,
		},
		{
			name: "a long pair has a hash for an id", header: cloudHeader().with("ce-id", strings.Repeat("7", 99)), id: schema.CloudEventID("/billing", strings.Repeat("7", 99)),
			properties: `{"cloudevent":{` + strings.Replace(kept, `"7"`, `"`+strings.Repeat("7", 99)+`"`, 1) + `}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := schema.Receive([]byte(c.data), c.header.many(), 5, at)
			require.NoError(t, err)
			want := c.want
			if want.UserID == "" {
				want.UserID = "Jürgen"
			}
			if want.EventName == "" {
				want.EventName = "com_example_invoice_paid"
			}
			if want.EventID = c.id; c.id == "" {
				want.EventID = "/billing 7"
			}
			want.Properties, want.OccurredAt = json.RawMessage(c.properties), got.Event.OccurredAt
			require.Equal(t, want, got.Event)
			require.Equal(t, want.EventID, got.ID)
			require.LessOrEqual(t, len(got.ID), schema.MaxEventID)
			require.Equal(t, at.Add(-750*time.Millisecond), got.Timing.OccurredAt)
		})
	}
}

// TestReceiveCloudEventRefuses: what is no CloudEvent becomes a dead letter with a reason, and the field as its publisher knows it.
func TestReceiveCloudEventRefuses(t *testing.T) {
	t.Parallel()
	base := `"specversion":"1.0","id":"7","source":"/billing","type":"paid","subject":"ann"`
	with := func(name, value string) header { return cloudHeader().with(name, value) }
	without := func(name string) header { h := cloudHeader(); delete(h, name); return h }
	for _, c := range []struct {
		name   string
		header header
		data   string
		reason schema.Reason
		field  string
	}{
		{"no version", without("ce-specversion"), `{}`, schema.ReasonBadCloudEvent, "specversion"},
		{"an older version", with("ce-specversion", "0.3"), `{}`, schema.ReasonBadCloudEvent, "specversion"},
		{"no id", without("ce-id"), `{}`, schema.ReasonBadCloudEvent, "id"},
		{"empty id", with("ce-id", ""), `{}`, schema.ReasonBadCloudEvent, "id"},
		{"no source", without("ce-source"), `{}`, schema.ReasonBadCloudEvent, "source"},
		{"no type", without("ce-type"), `{}`, schema.ReasonBadCloudEvent, "type"},
		{"no subject", without("ce-subject"), `{}`, schema.ReasonMissingUser, "subject"},
		{"nobody", with("ce-subject", "undefined"), `{}`, schema.ReasonIllegalID, "subject"},
		{"long subject", with("ce-subject", strings.Repeat("u", 257)), `{}`, schema.ReasonIDTooLong, "subject"},
		{"NUL in subject", with("ce-subject", "a%00b"), `{}`, schema.ReasonBadID, "subject"},
		{"NUL in id", with("ce-id", "a%00b"), `{}`, schema.ReasonBadEventID, "id"},
		{"invalid UTF-8", with("ce-subject", "J%FCrgen"), `{}`, schema.ReasonInvalidUTF8, "ce-subject"},
		{"invalid UTF-8, raw", with("ce-subject", "J\xfcrgen"), `{}`, schema.ReasonInvalidUTF8, "ce-subject"},
		{"overlong slash", with("ce-subject", "%C0%AF"), `{}`, schema.ReasonInvalidUTF8, "ce-subject"},
		{"lone percent sign", with("ce-subject", "100%"), `{}`, schema.ReasonBadCloudEvent, "ce-subject"},
		{"percent and no digits", with("ce-subject", "%zz"), `{}`, schema.ReasonBadCloudEvent, "ce-subject"},
		{"percent and a sign", with("ce-subject", "%+1"), `{}`, schema.ReasonBadCloudEvent, "ce-subject"},
		{"twice in two cases", with("CE-ID", "8"), `{}`, schema.ReasonDuplicateKey, "ce-id"},
		{"no time", with("ce-time", "noon"), `{}`, schema.ReasonBadTimestamp, "ce-time"},
		{"far future", with("ce-time", "2031-01-01T00:00:00Z"), `{}`, schema.ReasonFuture, "occurred_at"},
		{"bad sentat", with("ce-sentat", "1700000000"), `{}`, schema.ReasonBadTimestamp, "ce-sentat"},
		{"bad backfill", with("ce-backfill", "yes"), `{}`, schema.ReasonWrongType, "ce-backfill"},
		{"name of an extension", with("ce-my_ext", "x"), `{}`, schema.ReasonBadCloudEvent, "ce-my_ext"},
		{"no name", with("ce-", "x"), `{}`, schema.ReasonBadCloudEvent, "ce-"},
		{"data as a header", with("ce-data", "x"), `{}`, schema.ReasonBadCloudEvent, "ce-data"},
		{"text", with("ce-datacontenttype", "text/plain"), `hello`, schema.ReasonBadCloudEvent, "datacontenttype"},
		{"no JSON", cloudHeader(), `{`, schema.ReasonMalformedJSON, ""},
		{"an array", cloudHeader(), `[1]`, schema.ReasonWrongType, "data"},
		{"something after", cloudHeader(), `{}{}`, schema.ReasonTrailingData, ""},
		{"a name twice", cloudHeader(), `{"a":1,"a":2}`, schema.ReasonDuplicateKey, ""},
		{"broken bytes", cloudHeader(), "{\"a\":\"\xff\"}", schema.ReasonInvalidUTF8, ""},
		{"deep", cloudHeader(), `{"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, schema.ReasonTooDeep, "data"},
		{"long attributes", with("ce-a", strings.Repeat("x", schema.MaxHeaderBytes)), `{}`, schema.ReasonTooLarge, ""},
		{"large", cloudHeader(), `{"a":"` + strings.Repeat("x", schema.MaxEventBytes) + `"}`, schema.ReasonTooLarge, ""},
		{"long type", with("ce-type", strings.Repeat("t", 201)), `{}`, schema.ReasonBadEventName, "type"},
		{"a batch", header{"content-type": "application/cloudevents-batch+json"}, `[]`, schema.ReasonBadCloudEvent, "content-type"},
		{"structured: an array", structuredHeader(), `[]`, schema.ReasonNotAnObject, ""},
		{"structured: twice", structuredHeader(), `{` + base + `,"id":"8"}`, schema.ReasonDuplicateKey, ""},
		{"structured: numeric id", structuredHeader(), `{"specversion":"1.0","id":7,"source":"/b","type":"t","subject":"ann"}`, schema.ReasonWrongType, "id"},
		{"structured: an object as extension", structuredHeader(), `{` + base + `,"ext":{}}`, schema.ReasonWrongType, "ext"},
		{"structured: a fraction", structuredHeader(), `{` + base + `,"ext":1.5}`, schema.ReasonNumberRange, "ext"},
		{"structured: upper case", structuredHeader(), `{` + base + `,"Ext":1}`, schema.ReasonBadCloudEvent, "Ext"},
		{"structured: both data", structuredHeader(), `{` + base + `,"data":{},"data_base64":"e30="}`, schema.ReasonBadCloudEvent, "data_base64"},
		{"structured: no base64", structuredHeader(), `{` + base + `,"data_base64":"!"}`, schema.ReasonBadCloudEvent, "data_base64"},
		{"structured: base64 of broken bytes", structuredHeader(), `{` + base + `,"data_base64":"/w=="}`, schema.ReasonInvalidUTF8, "data_base64"},
		{"structured: a string", structuredHeader(), `{` + base + `,"data":"x"}`, schema.ReasonWrongType, "data"},
		{"structured: traits as text", structuredHeader(), `{` + base + `,"traits":"maybe"}`, schema.ReasonWrongType, "traits"},
		{"structured, without saying so", nil, `{` + base + `}`, schema.ReasonUnknownField, "specversion"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := schema.Receive([]byte(c.data), c.header.many(), 5, time.Date(2026, 11, 24, 9, 0, 1, 0, time.UTC))
			rejection, ok := errors.AsType[*schema.Rejection](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.reason, rejection.Reason, rejection.Message)
			require.Equal(t, c.field, rejection.Field)
		})
	}
}

// TestCloudEventModes: an event of ours says the same in both modes, whatever text it holds.
func TestCloudEventModes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 9, 0, 1, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[^\x00-\x1f\x7f]{1,30}`)
		event := schema.CloudEvent{
			ID: text.Draw(t, "id"), Source: text.Draw(t, "source"), Type: text.Draw(t, "type"), Subject: "u" + text.Draw(t, "subject"),
			Time: now.Add(-time.Duration(rapid.IntRange(0, 1e9).Draw(t, "before"))), Extensions: map[string]string{"partitionkey": text.Draw(t, "key")},
		}
		if rapid.Bool().Draw(t, "data") {
			event.Data = json.RawMessage(`{"a":"b"}`)
		}
		binary := header{}
		event.WriteHeader(binary.Set)
		for name, value := range binary {
			require.Equal(t, -1, strings.IndexFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }), "%s: %q", name, value)
		}
		one, err := schema.Receive(event.Data, binary.many(), 1, now)
		require.NoError(t, err)
		structured, err := event.Structured()
		require.NoError(t, err)
		two, err := schema.Receive(structured, structuredHeader().many(), 1, now)
		require.NoError(t, err)
		require.Equal(t, one, two)
		require.Equal(t, event.Subject, one.UserID)
	})
}

func TestCloudEventID(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, schema.CloudEventID("a", "bc"), schema.CloudEventID("ab", "c"), "the pair identifies an event, not what stands in a row")
	long := strings.Repeat("x", 200)
	require.NotEqual(t, schema.CloudEventID(long, "1"), schema.CloudEventID(long, "2"))
}

// FuzzReceiveCloudEvent: whatever headers and data are, the message is refused with a reason there is, or becomes an event that the
// strict reader of events takes as it is.
func FuzzReceiveCloudEvent(f *testing.F) {
	f.Add("1.0", "7", "/billing", "com.example.paid.v1", "J%C3%BCrgen", "2026-11-24T09:00:00Z", "application/json", "partitionkey", "a", "", []byte(`{"a":1}`))
	f.Add("1.0", "7", "/b", "t", "%FF", "", "", "traits", "true", "", []byte(`{"a":{"b":[1]}}`))
	f.Add("1.0", "7", "/b", "t", "%", "x", "text/plain", "backfill", "true", "", []byte(``))
	f.Add("", "", "", "", "", "", "", "", "", "application/cloudevents+json", []byte(`{"specversion":"1.0","id":"7","source":"/b","type":"t","subject":"ann","data_base64":"e30="}`))
	f.Add("", "", "", "", "", "", "", "", "", "application/cloudevents+json", []byte(`{"specversion":"1.0","id":"7","source":"/b","type":"t","subject":"ann","data":{"a":1},"x":1}`))
	reasons := make(map[schema.Reason]bool)
	for _, r := range schema.Reasons() {
		reasons[r] = true
	}
	f.Fuzz(func(t *testing.T, version, id, source, kind, subject, at, contentType, name, value, mode string, raw []byte) {
		headers := header{"Content-Type": mode, "ce-" + name: value}
		maps.Copy(headers, header{
			"ce-specversion": version, "ce-id": id, "ce-source": source, "ce-type": kind, "ce-subject": subject, "ce-datacontenttype": contentType,
		})
		if at != "" {
			headers["ce-time"] = at
		}
		got, err := schema.Receive(raw, headers.many(), 5, time.Date(2026, 11, 24, 9, 0, 1, 0, time.UTC))
		if err != nil {
			rejection, ok := errors.AsType[*schema.Rejection](err)
			require.True(t, ok, "%v", err)
			require.True(t, reasons[rejection.Reason], "%s", rejection.Reason)
			return
		}
		written, err := json.Marshal(got.Event)
		require.NoError(t, err)
		if len(written) > schema.MaxEventBytes {
			return // an attribute weighs more in JSON than as a header
		}
		again, err := schema.DecodeEvent(written)
		require.NoError(t, err, "%s", written)
		require.Equal(t, got.UserID, again.UserID)
		require.Equal(t, got.EventName, again.EventName)
		require.JSONEq(t, string(got.Properties), string(again.Properties))
	})
}
