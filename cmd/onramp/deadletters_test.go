package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// letterOf writes a dead letter as ingest does, of a message that is still in its stream.
func letterOf(t *testing.T, js jetstream.JetStream, reason schema.Reason, body string) {
	t.Helper()
	ack, err := js.Publish(t.Context(), schema.EventSubject("crm"), []byte(body))
	require.NoError(t, err)
	dead := schema.DeadLetter{
		Stream: schema.EventsStream, Sequence: ack.Sequence, Consumer: schema.IngestConsumer, Subject: schema.EventSubject("crm"),
		Reason: reason, Message: string(reason) + ": mend\nit", Attempts: 1, ReceivedAt: time.Now(),
	}
	dead.Fill([]byte(body), nats.Header{})
	message := nats.NewMsg(schema.DeadLetterSubject(reason))
	message.Data = dead.Payload
	dead.WriteHeader(message.Header.Set)
	_, err = js.PublishMsg(t.Context(), message)
	require.NoError(t, err)
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{}))
	url := js.Conn().ConnectedUrl()
	command := func(args ...string) result {
		return onramp(t.Context(), append(append([]string{"deadletters"}, args...), "--nats-url", url)...)
	}
	got := command("list")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, "no dead letters\n", got.out)

	secret := `{"event_id":"e1","event_name":"used","user_id":"ann@example.com"}`
	letterOf(t, js, schema.ReasonUndeliverable, secret)
	letterOf(t, js, schema.ReasonUndeliverable, `{"event_id":"e2","event_name":"used","user_id":"bob@example.com"}`)
	letterOf(t, js, schema.ReasonInvalidUTF8, "\xff\xfe")
	token := schema.UserToken([]byte(embeddedKey), "ann@example.com")

	got = command("list", "--limit", "1")
	require.Equal(t, exitDone, got.code, got.err)
	for _, text := range []string{token, "ONRAMP_EVENTS 1", "mend it", "1 of 3 shown: 1 invalid_utf8, 2 undeliverable"} {
		require.Contains(t, got.out, text)
	}
	require.NotContains(t, got.out, "example.com")

	var list letterList
	got = command("list", "--json", "--reason", "undeliverable", "--since", "1h")
	require.NoError(t, json.Unmarshal([]byte(got.out), &list))
	require.Equal(t, 2, list.Total)
	require.Len(t, list.Letters, 2)
	require.Equal(t, token, list.Letters[0].UserToken)
	require.NotContains(t, got.out, "example.com")
	got = command("list", "--json", "--since", "2099-01-01")
	require.NoError(t, json.Unmarshal([]byte(got.out), &list))
	require.Zero(t, list.Total)

	got = command("show", "1")
	require.Contains(t, got.out, token)
	require.NotContains(t, got.out, "example.com")
	got = command("show", "1", "--payload")
	require.Contains(t, got.out, secret)
	got = command("show", "1", "--payload", "--json")
	var shown shownLetter
	require.NoError(t, json.Unmarshal([]byte(got.out), &shown))
	require.Equal(t, secret, *shown.Payload)
	require.NoError(t, json.Unmarshal([]byte(command("show", "3", "--payload", "--json").out), &shown))
	require.Equal(t, []byte("\xff\xfe"), shown.Raw)
	got = command("show", "9")
	require.Equal(t, exitFailed, got.code)

	got = command("retry", "--reason", "undeliverable")
	require.Equal(t, exitUsage, got.code, "nobody is asked here")
	require.Contains(t, got.err, "--yes")
	got = command("retry", "--yes")
	require.Equal(t, exitUsage, got.code)
	got = command("retry", "--reason", "undeliverable", "--yes")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, "1 is 4 now\n2 is 5 now\n2 settled, 0 not\n", got.out)
	got = command("retry", "1", "3", "--yes", "--json")
	require.Equal(t, exitFailed, got.code, "one is settled already")
	var done settlement
	require.NoError(t, json.Unmarshal([]byte(got.out), &done))
	require.Equal(t, []settledLetter{{Sequence: 3, NewSequence: 6}}, done.Settled)
	require.Len(t, done.Failed, 1)

	letterOf(t, js, schema.ReasonFuture, secret)
	got = command("drop", "4", "--yes")
	require.Equal(t, exitUsage, got.code, "a reason is required")
	got = command("drop", "4", "--yes", "--why", "test traffic")
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.err, "test traffic")
	require.NotContains(t, got.err, "example.com")
	require.Equal(t, "no dead letters\n", command("list").out)
}

// TestDeadLettersAsk: a person who does not say yes changes nothing.
func TestDeadLettersAsk(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := deadlettersDrop{chosen: chosen{Letters: []uint64{1}}, Why: "x"}
	err := c.Run(t.Context(), stdio{strings.NewReader("y\n"), &out, &out}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "--yes")
}
