package schema_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/schema"
)

// header is a message's headers, with the names as written.
type header map[string]string

func (h header) Get(name string) string     { return h[name] }
func (h header) Set(name, value string)     { h[name] = value }
func (h header) with(name, v string) header { h[name] = v; return h }

// many is the same as NATS has it.
func (h header) many() map[string][]string {
	if h == nil {
		return nil
	}
	all := make(map[string][]string, len(h))
	for name, value := range h {
		all[name] = []string{value}
	}
	return all
}

// TestDeadLetterRoundTrip: what is written down of a refused message is what is read back.
func TestDeadLetterRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z0-9_.-]{0,30}`)
		moment := rapid.Custom(func(t *rapid.T) time.Time { return time.Unix(0, rapid.Int64Range(1, 4e18).Draw(t, "at")).UTC() })
		want := schema.DeadLetter{
			Stream: word.Draw(t, "stream"), Sequence: rapid.Uint64().Draw(t, "sequence"), Consumer: word.Draw(t, "consumer"),
			Subject: word.Draw(t, "subject"), Reason: schema.ReasonWrongType, Message: word.Draw(t, "message"),
			Attempts: rapid.Uint64().Draw(t, "attempts"), ReceivedAt: moment.Draw(t, "received"),
		}
		payload := []byte(strings.Repeat("x", rapid.IntRange(0, 2*schema.MaxDeadLetterBytes).Draw(t, "size")))
		came := header{}
		if rapid.Bool().Draw(t, "sent in again") {
			came.with("Nats-Msg-Id", word.Draw(t, "id")).with(schema.HeaderEventID, word.Draw(t, "event")).
				with(schema.HeaderRetryOf, "7").with(schema.HeaderFirstReceived, moment.Draw(t, "first").Format(time.RFC3339Nano))
		}
		if rapid.Bool().Draw(t, "CloudEvent") {
			came.with("Ce-Subject", rapid.StringMatching(`[^\x00-\x1f]{1,20}`).Draw(t, "user")).with("content-TYPE", "application/json")
		}
		want.Fill(payload, came.many())
		require.Equal(t, len(payload) > schema.MaxDeadLetterBytes, want.Cut())
		require.LessOrEqual(t, len(want.Payload), schema.MaxDeadLetterBytes)
		written := header{}
		want.WriteHeader(written.Set)
		got := schema.ReadDeadLetter(schema.DeadLetterSubject(want.Reason), written, want.Payload)
		require.Equal(t, want, got)
	})
}

func TestReadDeadLetter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, subject, data string
		header              header
		want                schema.DeadLetter
	}{
		{
			"an advisory", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ONRAMP_ACTIONS.mailer",
			`{"type":"io.nats.jetstream.advisory.v1.max_deliver","stream":"ONRAMP_ACTIONS","consumer":"mailer","stream_seq":9,"deliveries":5}`, nil,
			schema.DeadLetter{
				Stream: "ONRAMP_ACTIONS", Sequence: 9, Consumer: "mailer", Attempts: 5, Reason: schema.ReasonMaxDeliveries,
				Message: "consumer mailer was handed it 5 times and never acknowledged it",
			},
		},
		{
			"an advisory that is none", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.a.b", "?", nil,
			schema.DeadLetter{Reason: schema.ReasonMaxDeliveries, Message: "an advisory that cannot be read"},
		},
		{
			"a stranger's message", "onramp.deadletters.future", "x",
			header{schema.HeaderSequence: "-1", schema.HeaderReceived: "noon"},
			schema.DeadLetter{
				Reason: schema.ReasonFuture, Payload: []byte("x"),
				SHA256: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, schema.ReadDeadLetter(c.subject, c.header, []byte(c.data)))
		})
	}
}

// TestReceiveAgain: an event that is sent in again has the id and the time that it had, and is as late as it now is.
func TestReceiveAgain(t *testing.T) {
	t.Parallel()
	first := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return first.Add(d).Format(time.RFC3339Nano) }
	again := func() header {
		return header{"Nats-Msg-Id": "m1#retry-3", schema.HeaderEventID: "m1", schema.HeaderFirstReceived: at(0)}
	}
	for _, c := range []struct {
		name, fields string
		header       header
		after        time.Duration // from first to the receipt that counts
		id           string
		occurred     time.Duration
		lateness     schema.Lateness
		reason       schema.Reason
	}{
		{"the first time", ``, header{"Nats-Msg-Id": "m1"}, 0, "m1", 0, schema.OnTime, ""},
		{"no header at all", ``, nil, 0, "seq-5", 0, schema.OnTime, ""},
		{"without a time of its own", ``, again(), time.Hour, "m1", 0, schema.Late, ""},
		{"days later", ``, again(), 73 * time.Hour, "m1", 0, schema.Historic, ""},
		{"with an id of its own", `,"event_id":"e1"`, again(), time.Hour, "e1", 0, schema.Late, ""},
		{
			"a clock that went wrong is set right by the first receipt", `,"occurred_at":"` + at(-90*time.Minute) + `","sent_at":"` + at(-time.Hour) + `"`,
			again(), 48 * time.Hour, "m1", -30 * time.Minute, schema.Late, "",
		},
		{"what lay in the future may have come", `,"occurred_at":"` + at(30*time.Hour) + `"`, again(), 40 * time.Hour, "m1", 30 * time.Hour, schema.Late, ""},
		{"and may not", `,"occurred_at":"` + at(30*time.Hour) + `"`, again(), time.Hour, "", 0, "", schema.ReasonFuture},
		{"a first receipt after this one is a lie", ``, again().with(schema.HeaderFirstReceived, at(9*time.Hour)), time.Hour, "m1", time.Hour, schema.OnTime, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := schema.Receive([]byte(`{"event_name":"used","user_id":"ann"`+c.fields+`}`), c.header.many(), 5, first.Add(c.after))
			if c.reason != "" {
				var rejection *schema.Rejection
				require.ErrorAs(t, err, &rejection)
				require.Equal(t, c.reason, rejection.Reason)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.id, got.ID)
			require.Equal(t, first.Add(c.occurred), got.Timing.OccurredAt)
			require.Equal(t, c.lateness, got.Lateness)
			require.Equal(t, first.Add(c.after), got.ReceivedAt)
		})
	}
}
