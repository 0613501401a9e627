package ingest_test

import (
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// TestD3MQTT: what a device publishes by MQTT 3.1.1, of either quality of service, is an event like any other.
func TestD3MQTT(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	js := testenv.NewBrokerWith(t, func(o *server.Options) {
		o.ServerName, o.MQTT = "mqtt", server.MQTTOpts{Host: "127.0.0.1", Port: port}
	}).Connect(t)
	require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{}))
	var got sender
	run(t, js, &got, ingest.Config{})
	var seen struct {
		Five string `json:"five"`
	}
	for qos := range 2 {
		testenv.Node(t, "../api/testdata/node", &seen, "mqtt.mjs", fmt.Sprintf("mqtt://127.0.0.1:%d", port), "onramp/events/device", strconv.Itoa(qos),
			fmt.Sprintf(`{"event_id":"qos-%d","event_name":"signed_up","user_id":"Jürgen"}`, qos), `broken`)
		require.NotEqual(t, "connected", seen.Five, "NATS speaks 3.1.1")
	}
	eventually(t, func() bool { return got.count() == 2 }, "the events do not come")
	require.ElementsMatch(t, []string{"qos-0", "qos-1"}, got.ids("Jürgen"))
	eventually(t, func() bool { return len(letters(t, js)) == 2 }, "what is none is no dead letter")
}

// TestD4PublishedTwice: two publications under one Nats-Msg-Id are one event of the journey.
func TestD4PublishedTwice(t *testing.T) {
	t.Parallel()
	js := streams(t)
	for i := range 2 {
		message := nats.NewMsg(schema.EventSubject("crm"))
		message.Data = []byte(`{"event_name":"signed_up","user_id":"ann"}`)
		message.Header.Set(jetstream.MsgIDHeader, "x")
		ack, err := js.PublishMsg(t.Context(), message)
		require.NoError(t, err)
		require.Equal(t, i == 1, ack.Duplicate)
		require.Equal(t, uint64(1), ack.Sequence)
	}
	var got sender
	run(t, js, &got, ingest.Config{})
	eventually(t, func() bool { return got.count() > 0 }, "the event does not come")
	settled(t, js)
	require.Equal(t, []string{"x"}, got.ids("ann"))
}
