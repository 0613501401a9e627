package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/lease"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// TestOneWorks: of two that want the lease one works. When it is told to stop it keeps the lease until its work has returned, and then the other
// begins at once; whoever finds another's name in its place stops with ErrLost, and waits again.
func TestOneWorks(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	open := func() *lease.Lease {
		l, err := lease.Open(t.Context(), js, "work", "S", slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return l
	}
	began, causes := make(chan string, 10), make(chan error, 10)
	run := func(l *lease.Lease, name string, last time.Duration) (stop func(), done chan error) {
		ctx, cancel := context.WithCancel(t.Context())
		done = make(chan error, 1)
		go func() {
			done <- l.Work(ctx, func(ctx context.Context) error {
				began <- name
				<-ctx.Done()
				causes <- context.Cause(ctx)
				<-time.After(last)
				return ctx.Err()
			})
		}()
		return cancel, done
	}
	stopOne, oneDone := run(open(), "one", 6*time.Second) // longer than a lease lasts that nobody renews
	require.Equal(t, "one", <-began)
	stopTwo, twoDone := run(open(), "two", 0)
	stopOne()
	require.ErrorIs(t, <-causes, context.Canceled)
	select {
	case name := <-began:
		require.Fail(t, "began while the other was at it", name)
	case err := <-oneDone:
		require.ErrorIs(t, err, context.Canceled)
	}
	require.Equal(t, "two", <-began)

	bucket, err := js.KeyValue(t.Context(), schema.LeasesBucket)
	require.NoError(t, err)
	_, err = bucket.Put(t.Context(), "work", []byte("a third"))
	require.NoError(t, err)
	require.ErrorIs(t, <-causes, lease.ErrLost)
	require.Equal(t, "two", <-began, "the third has died meanwhile")
	stopTwo()
	if err := <-twoDone; err != nil && !errors.Is(err, context.Canceled) {
		require.NoError(t, err)
	}
}

// TestServerForgetsWhoWorks: a server that was away has forgotten the leases with their bucket. Who worked goes on, and who waits still comes
// after it; where nobody did, the first that waits begins.
func TestServerForgetsWhoWorks(t *testing.T) {
	t.Parallel()
	srv := testenv.NewBroker(t)
	js := srv.Connect(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	began := make(chan string, 10)
	run := func(name string) (stop func()) {
		l, err := lease.Open(t.Context(), js, "work", "S", slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- l.Work(ctx, func(ctx context.Context) error {
				began <- name
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		return func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				require.NoError(t, err)
			}
		}
	}
	holder := func() (id string) {
		bucket, err := js.KeyValue(t.Context(), schema.LeasesBucket)
		if err != nil {
			return ""
		}
		entry, err := bucket.Get(t.Context(), "work")
		if err != nil {
			return ""
		}
		return string(entry.Value())
	}
	stopOne := run("one")
	require.Equal(t, "one", <-began)
	one := holder()
	stopTwo := run("two")
	defer stopTwo()
	srv.Stop()
	srv.Start(t)
	require.Empty(t, holder(), "it has forgotten")
	require.Eventually(t, func() bool { return holder() == one }, testenv.Patience, testenv.Poll)

	srv.Stop()
	stopOne()
	srv.Start(t)
	select {
	case name := <-began:
		require.Equal(t, "two", name)
	case <-time.After(testenv.Patience):
		require.Fail(t, "nobody works")
	}
}

func TestOpenWithoutItsStream(t *testing.T) {
	t.Parallel()
	_, err := lease.Open(t.Context(), testenv.NewBroker(t).Connect(t), "work", "S", slog.New(slog.DiscardHandler))
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
}
