package streamread_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/internal/streamread"
	"github.com/onramphq/onramp/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.LeakOptions()...) }

func TestRead(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	read := func(opts streamread.Options) (bodies []string) {
		require.NoError(t, streamread.Read(t.Context(), js, "S", opts, func(m streamread.Message) error {
			bodies = append(bodies, fmt.Sprintf("%d:%s", m.Sequence, m.Data()))
			return nil
		}))
		return bodies
	}
	require.Empty(t, read(streamread.Options{}), "an empty stream ends at once")
	var third time.Time
	for n := 1; n <= 5; n++ {
		_, err := js.Publish(t.Context(), fmt.Sprint("s.", n%2), fmt.Append(nil, "m", n))
		require.NoError(t, err)
	}
	message, err := stream.GetMsg(t.Context(), 3)
	require.NoError(t, err)
	third = message.Time
	require.NoError(t, stream.DeleteMsg(t.Context(), 2))
	for _, c := range []struct { //nolint:paralleltest // they share the stream, which changes below
		name string
		opts streamread.Options
		want []string
	}{
		{"all that is left", streamread.Options{}, []string{"1:m1", "3:m3", "4:m4", "5:m5"}},
		{"from a place", streamread.Options{From: 4}, []string{"4:m4", "5:m5"}},
		{"from beyond the end", streamread.Options{From: 9}, nil},
		{"since a moment", streamread.Options{Since: third}, []string{"3:m3", "4:m4", "5:m5"}},
		{"one subject", streamread.Options{Filter: "s.0"}, []string{"4:m4"}},
		{"a subject nobody uses", streamread.Options{Filter: "s.x"}, nil},
		{"the newest of each subject", streamread.Options{Filter: "s.*", Last: true}, []string{"4:m4", "5:m5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, read(c.opts))
		})
	}
	enough := errors.New("enough")
	require.ErrorIs(t, streamread.Read(t.Context(), js, "S", streamread.Options{}, func(streamread.Message) error { return enough }), enough)
	require.ErrorContains(t, streamread.Read(t.Context(), js, "NONE", streamread.Options{}, nil), "NONE")

	// What was to come may be gone before it is read: the end is found all the same.
	var got []uint64
	require.NoError(t, streamread.Read(t.Context(), js, "S", streamread.Options{Filter: "s.>"}, func(m streamread.Message) error {
		got = append(got, m.Sequence)
		return stream.Purge(t.Context())
	}))
	require.Equal(t, uint64(1), got[0])
}
