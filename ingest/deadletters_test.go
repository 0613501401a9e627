package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

func deadLetters(js jetstream.JetStream) *ingest.DeadLetters {
	return ingest.NewDeadLetters(js, workspaceKey, slog.New(slog.DiscardHandler))
}

func list(t *testing.T, js jetstream.JetStream, since time.Time) []ingest.Letter {
	t.Helper()
	var all []ingest.Letter
	require.NoError(t, deadLetters(js).Each(t.Context(), since, func(l ingest.Letter) error {
		all = append(all, l)
		return nil
	}))
	return all
}

// refusing runs ingest against a Temporal that refuses every event, until those published are dead letters.
func refusing(t *testing.T, js jetstream.JetStream, want int) {
	t.Helper()
	_, stop := run(t, js, &sender{behave: func(context.Context, int, schema.JourneyStart, schema.EventBatch) error {
		return &schema.Error{Code: schema.CodeInvalid, Message: "the server refuses it"}
	}}, ingest.Config{})
	eventually(t, func() bool { return len(letters(t, js)) >= want }, "the dead letters do not come")
	stop()
}

func publishMsg(t *testing.T, js jetstream.JetStream, subject, id, body string) uint64 {
	t.Helper()
	message := nats.NewMsg(subject)
	message.Data = []byte(body)
	if id != "" {
		message.Header.Set(jetstream.MsgIDHeader, id)
	}
	ack, err := js.PublishMsg(t.Context(), message)
	require.NoError(t, err)
	return ack.Sequence
}

func rawMessage(t *testing.T, js jetstream.JetStream, stream string, sequence uint64) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	raw, err := s.GetMsg(t.Context(), sequence)
	require.NoError(t, err)
	return raw
}

func TestDeadLettersAreListed(t *testing.T) {
	t.Parallel()
	js := streams(t)
	publishMsg(t, js, schema.EventSubject("crm"), "m1", `{"event_name":"signed_up","user_id":5}`)
	publishMsg(t, js, schema.EventSubject("crm"), "", `{"event_name":"signed_up","user_id":"ann@example.com","secret":"x"}`)
	publishMsg(t, js, schema.EventSubject("crm"), "", `no JSON, and personal: bob@example.com`)
	refusing(t, js, 3)

	all := list(t, js, time.Time{})
	require.Len(t, all, 3)
	token := schema.UserToken(workspaceKey, "ann@example.com")
	for i, want := range []struct {
		reason    schema.Reason
		messageID string
		token     string
	}{{schema.ReasonWrongType, "m1", ""}, {schema.ReasonUnknownField, "", token}, {schema.ReasonMalformedJSON, "", ""}} {
		l := all[i]
		require.Equal(t, uint64(i+1), l.Sequence)
		require.Equal(t, want.reason, l.Reason)
		require.Equal(t, want.messageID, l.MessageID)
		require.Equal(t, want.token, l.UserToken)
		require.Equal(t, schema.EventsStream, l.Stream)
		require.Equal(t, uint64(i+1), l.Original.Sequence)
		require.Equal(t, schema.IngestConsumer, l.Consumer)
		require.Equal(t, schema.EventSubject("crm"), l.Subject)
		require.Equal(t, uint64(1), l.Attempts)
		require.False(t, l.Cut())
	}
	encoded, err := json.Marshal(all)
	require.NoError(t, err)
	require.NotContains(t, string(encoded), "example.com", "the list holds nothing of the payload")

	require.Len(t, list(t, js, all[1].At), 2)
	one, err := deadLetters(js).Get(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, all[1], one)
	for _, sequence := range []uint64{0, 4} {
		_, err = deadLetters(js).Get(t.Context(), sequence)
		require.Equal(t, schema.CodeNotFound, schema.CodeOf(err), "%v", err)
	}
}

// TestRetryCountsOnce: whatever identity the event had, it has it again, and it happened when it happened.
func TestRetryCountsOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, messageID, body, eventID string }{
		{"an id of its own", "m1", `{"event_id":"e1","event_name":"used","user_id":"ann"}`, "e1"},
		{"the message's id", "m1", `{"event_name":"used","user_id":"ann"}`, "m1"},
		{"only its place", "", `{"event_name":"used","user_id":"ann"}`, "seq-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			js := streams(t)
			publishMsg(t, js, schema.EventSubject("crm"), c.messageID, c.body)
			refusing(t, js, 1)
			again, err := deadLetters(js).Retry(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, uint64(2), again)
			require.Empty(t, list(t, js, time.Time{}), "a letter that is sent in again is settled")
			_, err = deadLetters(js).Retry(t.Context(), 1)
			require.Equal(t, schema.CodeNotFound, schema.CodeOf(err), "%v", err)

			s := &sender{}
			_, stop := run(t, js, s, ingest.Config{})
			settled(t, js)
			stop()
			require.Equal(t, []string{c.eventID}, s.ids("ann"))
			event := s.taken[0].batch.Events[0]
			first := rawMessage(t, js, schema.EventsStream, 1)
			require.Equal(t, uint64(2), event.Sequence)
			require.Equal(t, first.Time.UnixMilli(), event.OccurredAt, "an event without a time of its own happened when it first came")
			raw := rawMessage(t, js, schema.EventsStream, 2)
			require.Equal(t, c.body, string(raw.Data))
			require.Equal(t, first.Subject, raw.Subject)
			require.Contains(t, raw.Header.Get(jetstream.MsgIDHeader), "#retry-1")
			require.Equal(t, raw.Time.UnixMilli(), event.ReceivedAt)
		})
	}
}

// TestRetryInVain: a message that is still refused becomes a new letter that says so, and keeps its first identity.
func TestRetryInVain(t *testing.T) {
	t.Parallel()
	js := streams(t)
	publishMsg(t, js, schema.EventSubject("crm"), "", `{"event_name":"used","user_id":"ann"}`)
	refusing(t, js, 1)
	first := list(t, js, time.Time{})[0]
	for n := uint64(1); n <= 2; n++ {
		_, err := deadLetters(js).Retry(t.Context(), n)
		require.NoError(t, err)
		_, stop := run(t, js, &sender{behave: func(context.Context, int, schema.JourneyStart, schema.EventBatch) error {
			return &schema.Error{Code: schema.CodeInvalid, Message: "the server refuses it"}
		}}, ingest.Config{})
		eventually(t, func() bool { _, err := deadLetters(js).Get(t.Context(), n+1); return err == nil }, "no new letter")
		stop()
		all := list(t, js, time.Time{})
		require.Len(t, all, 1)
		require.Equal(t, n, all[0].RetryOf)
		require.Equal(t, "seq-1", all[0].EventID)
		require.Equal(t, first.ReceivedAt, all[0].FirstReceived)
		require.Equal(t, n+1, all[0].Original.Sequence)
	}
}

func TestRetryOfWhatIsGone(t *testing.T) {
	t.Parallel()
	js := streams(t)
	whole := `{"event_id":"small","event_name":"used","user_id":"ann"}`
	large := func(id string) string {
		x := strings.Repeat("x", 30<<10)
		return fmt.Sprintf(`{"event_id":%q,"event_name":"used","user_id":"ann","properties":{"a":%q,"b":%q,"c":%q}}`, id, x, x, x)
	}
	publishMsg(t, js, schema.EventSubject("crm"), "", whole)
	publishMsg(t, js, schema.EventSubject("crm"), "", large("kept"))
	publishMsg(t, js, schema.EventSubject("crm"), "", large("gone"))
	refusing(t, js, 3)
	all := list(t, js, time.Time{})
	require.False(t, all[0].Cut())
	require.True(t, all[1].Cut())
	events, err := js.Stream(t.Context(), schema.EventsStream)
	require.NoError(t, err)
	require.NoError(t, events.DeleteMsg(t.Context(), 1))
	require.NoError(t, events.DeleteMsg(t.Context(), 3))

	for sequence, body := range map[uint64]string{1: whole, 2: large("kept")} {
		again, err := deadLetters(js).Retry(t.Context(), sequence)
		require.NoError(t, err)
		require.Equal(t, body, string(rawMessage(t, js, schema.EventsStream, again).Data))
	}
	_, err = deadLetters(js).Retry(t.Context(), 3)
	require.Equal(t, schema.CodeNotFound, schema.CodeOf(err), "%v", err)
	require.Len(t, list(t, js, time.Time{}), 1, "what cannot be sent in again stays on the list")
}

// TestSettledAfterTheRow: a letter leaves the list only when ClickHouse has it.
func TestSettledAfterTheRow(t *testing.T) {
	t.Parallel()
	js := streams(t)
	publishMsg(t, js, schema.EventSubject("crm"), "", `no JSON`)
	publishMsg(t, js, schema.EventSubject("crm"), "", `no JSON either`)
	refusing(t, js, 2)
	sink, err := js.CreateConsumer(t.Context(), schema.DeadLettersStream, jetstream.ConsumerConfig{
		Durable: schema.DeadLettersConsumer, AckPolicy: jetstream.AckExplicitPolicy,
	})
	require.NoError(t, err)
	var log bytes.Buffer
	d := ingest.NewDeadLetters(js, workspaceKey, slog.New(slog.NewJSONHandler(&log, nil)))
	require.Equal(t, schema.CodeConflict, schema.CodeOf(d.Drop(t.Context(), 1, "spam")))
	_, err = d.Retry(t.Context(), 1)
	require.Equal(t, schema.CodeConflict, schema.CodeOf(err), "%v", err)
	message, err := sink.Next()
	require.NoError(t, err)
	require.NoError(t, message.DoubleAck(t.Context()))

	require.NoError(t, d.Drop(t.Context(), 1, "spam"))
	var line map[string]any
	require.NoError(t, json.Unmarshal(log.Bytes(), &line))
	require.Equal(t, "spam", line["why"])
	require.Equal(t, "malformed_json", line["reason"])
	require.InDelta(t, 1, line["sequence"], 0)
	require.NotContains(t, log.String(), "no JSON")
	require.Equal(t, schema.CodeConflict, schema.CodeOf(d.Drop(t.Context(), 2, "spam")), "the other has no row yet")
	require.Len(t, list(t, js, time.Time{}), 1)
	require.Equal(t, schema.CodeNotFound, schema.CodeOf(d.Drop(t.Context(), 1, "spam")))
}

// TestMessagesGivenUpAreDeadLetters: the server says once that a consumer has been handed a message as often as it may, and
// nobody would know.
func TestMessagesGivenUpAreDeadLetters(t *testing.T) {
	t.Parallel()
	js := streams(t)
	body := `{"action_id":"a1","user_token":"` + schema.UserToken(workspaceKey, "ann") + `"}`
	publishMsg(t, js, schema.ActionSubject("send_mail"), "a1", body)
	receiver, err := js.CreateConsumer(t.Context(), schema.ActionsStream, jetstream.ConsumerConfig{
		Durable: "mailer", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 2, AckWait: time.Minute,
	})
	require.NoError(t, err)
	for range 2 {
		message, err := receiver.Next()
		require.NoError(t, err)
		require.NoError(t, message.Nak())
	}
	asked, err := receiver.Fetch(1, jetstream.FetchMaxWait(100*time.Millisecond)) // the server looks when somebody asks
	require.NoError(t, err)
	for range asked.Messages() {
		require.Fail(t, "handed out once too often")
	}
	eventually(t, func() bool { return len(list(t, js, time.Time{})) == 1 }, "no dead letter")
	letter := list(t, js, time.Time{})[0]
	require.Equal(t, schema.ReasonMaxDeliveries, letter.Reason)
	require.Equal(t, "mailer", letter.Consumer)
	require.Equal(t, uint64(2), letter.Attempts)
	require.Equal(t, schema.ActionsStream, letter.Stream)
	require.Equal(t, uint64(1), letter.Original.Sequence)
	require.Contains(t, letter.Message, "mailer")

	again, err := deadLetters(js).Retry(t.Context(), letter.Sequence)
	require.NoError(t, err)
	raw := rawMessage(t, js, schema.ActionsStream, again)
	require.Equal(t, body, string(raw.Data))
	require.Equal(t, schema.ActionSubject("send_mail"), raw.Subject)
	message, err := receiver.Next()
	require.NoError(t, err)
	require.Equal(t, body, string(message.Data()))
}

// TestRetryOnlyWhereAPlaceDoesNotMatter: an old profile sent in again would hide the newer one.
func TestRetryOnlyWhereAPlaceDoesNotMatter(t *testing.T) {
	t.Parallel()
	js := streams(t)
	dead := schema.DeadLetter{Stream: schema.ProfilesStream, Sequence: 1, Subject: schema.ProfileSubject("x"), Reason: schema.ReasonUndeliverable}
	message := nats.NewMsg(schema.DeadLetterSubject(dead.Reason))
	dead.WriteHeader(message.Header.Set)
	_, err := js.PublishMsg(t.Context(), message)
	require.NoError(t, err)
	_, err = deadLetters(js).Retry(t.Context(), 1)
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err), "%v", err)
}
