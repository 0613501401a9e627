package durable_test

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/internal/durable"
	"github.com/onramphq/onramp/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.LeakOptions()...) }

// unwilling is a server that does otherwise than asked where a consumer is made, as a real one does once in a long while.
type unwilling struct {
	jetstream.JetStream

	answers []func(context.Context, string, jetstream.ConsumerConfig) (jetstream.Consumer, error)
	asked   int
}

func (u *unwilling) CreateOrUpdateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	if u.asked++; u.asked <= len(u.answers) {
		return u.answers[u.asked-1](ctx, stream, cfg)
	}
	return u.JetStream.CreateOrUpdateConsumer(ctx, stream, cfg)
}

// TestAnew: a consumer that is made anew begins behind the floor, whatever it had handed out, and though the server refuses it first or gives it
// the state of the one before it.
func TestAnew(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	for range 9 {
		_, err = js.Publish(t.Context(), "s", nil)
		require.NoError(t, err)
	}
	cfg := jetstream.ConsumerConfig{Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy, Metadata: map[string]string{"known": "yes"}}
	take := func(c jetstream.Consumer, n int) (sequences []uint64) {
		batch, err := c.Fetch(n)
		require.NoError(t, err)
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			require.NoError(t, err)
			sequences = append(sequences, meta.Sequence.Stream)
		}
		return sequences
	}
	c, err := js.CreateConsumer(t.Context(), "S", cfg)
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 2, 3, 4, 5}, take(c, 5))
	c, err = durable.Anew(t.Context(), js, "S", 2, cfg)
	require.NoError(t, err)
	require.Equal(t, "yes", c.CachedInfo().Config.Metadata["known"])
	require.Equal(t, []uint64{3, 4, 5}, take(c, 3))

	refused := errors.New("rename o.dat.tmp o.dat: no such file or directory")
	server := &unwilling{JetStream: js, answers: []func(context.Context, string, jetstream.ConsumerConfig) (jetstream.Consumer, error){
		func(ctx context.Context, stream string, _ jetstream.ConsumerConfig) (jetstream.Consumer, error) {
			_, err := js.Consumer(ctx, stream, "reader")
			require.ErrorIs(t, err, jetstream.ErrConsumerNotFound, "the former one is gone")
			return nil, refused
		},
		func(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
			former, err := js.CreateConsumer(ctx, stream, cfg)
			require.NoError(t, err)
			require.Equal(t, []uint64{4, 5}, take(former, 2))
			return js.Consumer(ctx, stream, cfg.Durable)
		},
	}}
	c, err = durable.Anew(t.Context(), server, "S", 3, cfg)
	require.NoError(t, err)
	require.Equal(t, 3, server.asked)
	require.Equal(t, []uint64{4, 5, 6, 7, 8, 9}, take(c, 6))

	require.NoError(t, js.DeleteStream(t.Context(), "S"))
	_, err = durable.Anew(t.Context(), js, "S", 3, cfg)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	require.ErrorContains(t, err, "consumer reader of stream S")
}
