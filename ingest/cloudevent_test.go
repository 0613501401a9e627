package ingest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

// cloud publishes a CloudEvent in binary mode.
func cloud(id, subject string) *nats.Msg {
	message := nats.NewMsg(schema.EventSubject("crm"))
	message.Header = nats.Header{
		"Ce-Specversion": {"1.0"}, "ce-id": {id}, "ce-source": {"/crm"}, "ce-type": {"signed_up"}, "ce-subject": {subject},
		"Nats-Msg-Id": {schema.CloudEventID("/crm", id)},
	}
	message.Data = []byte(`{"plan":"pro"}`)
	return message
}

// TestCloudEventReachesItsUser once, though its publisher sent it twice.
func TestCloudEventReachesItsUser(t *testing.T) {
	t.Parallel()
	js := streams(t)
	for range 2 {
		_, err := js.PublishMsg(t.Context(), cloud("7", "J%C3%BCrgen"))
		require.NoError(t, err)
	}
	var got sender
	run(t, js, &got, ingest.Config{})
	eventually(t, func() bool { return got.count() > 0 }, "the event does not come")
	settled(t, js)
	require.Equal(t, []string{"/crm 7"}, got.ids("Jürgen"))
}

// TestCloudEventDeadLetter: what was refused of a CloudEvent can be sent in again from the letter alone, with the headers without which
// nobody knew what it is.
func TestCloudEventDeadLetter(t *testing.T) {
	t.Parallel()
	js := streams(t)
	ack, err := js.PublishMsg(t.Context(), cloud("7", "J%C3%BCrgen"))
	require.NoError(t, err)
	refusing(t, js, 1)
	all := list(t, js, time.Time{})
	require.Len(t, all, 1)
	require.Equal(t, schema.UserToken(workspaceKey, "Jürgen"), all[0].UserToken)
	stream, err := js.Stream(t.Context(), schema.EventsStream)
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), ack.Sequence), "as if its stream had forgotten it")

	again, err := deadLetters(js).Retry(t.Context(), all[0].Sequence)
	require.NoError(t, err)
	raw := rawMessage(t, js, schema.EventsStream, again)
	received, err := schema.Receive(raw.Data, raw.Header, raw.Sequence, raw.Time)
	require.NoError(t, err)
	require.Equal(t, "/crm 7", received.ID)
	require.Equal(t, "Jürgen", received.UserID)
	require.JSONEq(t, `{"plan":"pro","cloudevent":{"id":"7","source":"/crm","specversion":"1.0","type":"signed_up"}}`, string(received.Properties))
}
