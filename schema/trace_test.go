package schema_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
)

// The example of W3C Trace Context.
const (
	w3cID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	w3cParent = "00-" + w3cID + "-00f067aa0ba902b7-01"
)

func TestParseTrace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"the specification's own", w3cParent, w3cParent},
		{"not recorded", "00-" + w3cID + "-00f067aa0ba902b7-00", "00-" + w3cID + "-00f067aa0ba902b7-00"},
		{"a random id", "00-" + w3cID + "-00f067aa0ba902b7-03", "00-" + w3cID + "-00f067aa0ba902b7-03"},
		{"flags of the future", "00-" + w3cID + "-00f067aa0ba902b7-fd", w3cParent},
		{"a newer version", "cc" + w3cParent[2:], w3cParent},
		{"a newer version that says more", "cc" + w3cParent[2:] + "-what-the-future-holds", w3cParent},
		{"a newer version with a broken end", "cc" + w3cParent[2:] + ".more", ""},
		{"version 00 that says more", w3cParent + "-more", ""},
		{"no version", "ff" + w3cParent[2:], ""},
		{"no trace", "00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", ""},
		{"no span", "00-" + w3cID + "-0000000000000000-01", ""},
		{"capitals", strings.ToUpper(w3cParent), ""},
		{"short", w3cParent[:54], ""},
		{"no hyphens", strings.ReplaceAll(w3cParent, "-", "_"), ""},
		{"letters", "00-" + strings.Repeat("g", 32) + "-00f067aa0ba902b7-01", ""},
		{"more bytes than letters", "00-" + strings.Repeat("ü", 16) + "-00f067aa0ba902b7-01", ""},
		{"nothing", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := schema.ParseTrace(test.text)
			require.Equal(t, schema.Trace(test.want), got)
			require.Equal(t, got, schema.ParseTrace(string(got)), "it reads what it has written")
		})
	}
	require.Equal(t, w3cID, schema.ParseTrace(w3cParent).ID())
	require.Empty(t, schema.Trace("").ID())
	require.Empty(t, schema.Trace("x").ID())
}

func FuzzParseTrace(f *testing.F) {
	f.Add(w3cParent)
	f.Add("cc" + w3cParent[2:] + "-more")
	f.Fuzz(func(t *testing.T, text string) {
		got := schema.ParseTrace(text)
		require.Equal(t, got, schema.ParseTrace(string(got)))
		if got != "" {
			require.Len(t, got, 55)
			require.Equal(t, text[3:52], string(got[3:52]), "ids are taken as they are")
		}
	})
}

func TestTraceOf(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"traceparent", "Traceparent", "TRACEPARENT"} {
		require.Equal(t, w3cID, schema.TraceOf(map[string][]string{name: {" " + w3cParent + " "}}).ID(), name)
	}
	require.Empty(t, schema.TraceOf(nil))
	require.Empty(t, schema.TraceOf(map[string][]string{"tracestate": {w3cParent}}))
	require.Empty(t, schema.TraceOf(map[string][]string{"traceparent": {w3cParent, w3cParent}}), "twice")
	require.Empty(t, schema.TraceOf(map[string][]string{"traceparent": {w3cParent}, "Traceparent": {w3cParent}}), "twice")
	require.Empty(t, schema.TraceOf(map[string][]string{"traceparent": {}}))
}

// TestReceiveTrace: an event has the trace of its header, else that of its CloudEvent; one that is broken costs nothing.
func TestReceiveTrace(t *testing.T) {
	t.Parallel()
	const (
		plain      = `{"event_id":"1","event_name":"seen","user_id":"u"}`
		structured = `{"specversion":"1.0","id":"1","source":"/s","type":"seen","subject":"u","traceparent":"` + w3cParent + `"}`
		other      = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	)
	binary := map[string][]string{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"seen"}, "Ce-Subject": {"u"}, "Ce-Traceparent": {w3cParent}}
	with := func(header map[string][]string, name, value string) map[string][]string {
		all := map[string][]string{}
		maps.Copy(all, header)
		all[name] = []string{value}
		return all
	}
	kind := map[string][]string{"content-type": {"application/cloudevents+json"}}
	for _, test := range []struct {
		name, body string
		header     map[string][]string
		want       schema.Trace
	}{
		{"none", plain, nil, ""},
		{"header", plain, with(nil, "TraceParent", w3cParent), w3cParent},
		{"broken header", plain, with(nil, "traceparent", "00-xyz"), ""},
		{"binary mode", "", binary, w3cParent},
		{"binary mode, another hop", "", with(binary, "traceparent", other), other},
		{"binary mode, broken", "", with(binary, "Ce-Traceparent", "garbage"), ""},
		{"structured mode", structured, kind, w3cParent},
		{"structured mode, another hop", structured, with(kind, "traceparent", other), other},
		{"structured mode, broken hop", structured, with(kind, "traceparent", "garbage"), w3cParent},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := schema.Receive([]byte(test.body), test.header, 7, time.UnixMilli(1_700_000_000_000))
			require.NoError(t, err)
			require.Equal(t, test.want, got.Trace)
			event := got.UserEvent()
			require.Equal(t, test.want, event.Trace)
		})
	}
}
