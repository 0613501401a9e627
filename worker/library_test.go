package worker_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.LeakOptions()...) }

const (
	poll     = testenv.Poll
	patience = testenv.Patience
)

func open(t *testing.T, js jetstream.JetStream) *worker.Library {
	t.Helper()
	library, err := worker.OpenLibrary(t.Context(), js, 1, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return library
}

func bundle(name string) playbook.Bundle {
	return playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": "name: " + name + "\nevents: {signed_up: {}}\n"}}
}

func publish(t *testing.T, library *worker.Library, b playbook.Bundle) worker.Current {
	t.Helper()
	current, err := library.Publish(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, b.Hash(), current.Hash)
	return current
}

func follow(t *testing.T, library *worker.Library) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { assert.NoError(t, library.Follow(ctx)) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

func inForce(library *worker.Library) string {
	current, err := library.Current()
	if err != nil {
		return ""
	}
	return current.Name
}

func TestLibrary(t *testing.T) {
	t.Parallel()
	t.Run("nothing is published", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		library := open(t, js)
		_, err := library.Current()
		require.ErrorIs(t, err, worker.ErrNoPlaybook)
		require.Nil(t, library.Playbook("abcdef012345"))
	})
	t.Run("a revision for every change, none for a repetition", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		library := open(t, js)
		require.Equal(t, uint64(1), publish(t, library, bundle("first")).Revision)
		require.Equal(t, uint64(1), publish(t, library, bundle("first")).Revision)
		require.Equal(t, uint64(2), publish(t, library, bundle("second")).Revision)
		require.Equal(t, "second", inForce(library))
		require.Equal(t, uint64(3), publish(t, library, bundle("first")).Revision) // back again is a change too
		require.Equal(t, "first", inForce(library))
		require.Equal(t, uint64(3), publish(t, open(t, js), bundle("first")).Revision)
	})
	t.Run("another scale is another version", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		library := open(t, js)
		fast := bundle("first")
		fast.Scale = 0.001
		publish(t, library, bundle("first"))
		current := publish(t, library, fast)
		require.Equal(t, uint64(2), current.Revision)
		require.InDelta(t, 0.001, current.Scale, 0)
	})
	t.Run("older versions stay", func(t *testing.T) {
		t.Parallel()
		srv := testenv.NewBroker(t)
		js := srv.Connect(t)
		library := open(t, js)
		first := publish(t, library, bundle("first"))
		publish(t, library, bundle("second"))
		require.Same(t, first.Playbook, library.Playbook(first.Hash))
		fresh := open(t, srv.Connect(t))
		require.Equal(t, "second", inForce(fresh))
		book := fresh.Playbook(first.Hash)
		require.NotNil(t, book)
		require.Equal(t, "first", book.Name)
		require.Equal(t, first.Hash, book.Hash)
		require.Same(t, book, fresh.Playbook(first.Hash)) // compiled once
		require.Nil(t, fresh.Playbook("abcdef012345"))
		require.Nil(t, fresh.Playbook(""))
		require.Nil(t, fresh.Playbook("current"))
	})
	t.Run("what does not compile is refused", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		library := open(t, js)
		publish(t, library, bundle("first"))
		broken := playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": "name: second\nevnts: {}\n"}}
		_, err := library.Publish(t.Context(), broken)
		var problems playbook.Problems
		require.ErrorAs(t, err, &problems)
		require.Len(t, problems, 2)
		require.Equal(t, "first", inForce(library))
		require.Equal(t, "first", inForce(open(t, js)))
		require.Nil(t, library.Playbook(broken.Hash()))
	})
	t.Run("content under a wrong hash is refused", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		library := open(t, js)
		publish(t, library, bundle("first"))
		store, err := js.ObjectStore(t.Context(), schema.PlaybooksBucket)
		require.NoError(t, err)
		forged, err := bundle("forged").Encode()
		require.NoError(t, err)
		_, err = store.PutBytes(t.Context(), bundle("second").Hash(), forged)
		require.NoError(t, err)
		require.Nil(t, library.Playbook(bundle("second").Hash()))
		_, err = store.PutBytes(t.Context(), bundle("third").Hash(), []byte("no JSON"))
		require.NoError(t, err)
		require.Nil(t, library.Playbook(bundle("third").Hash()))

		_, err = store.PutBytes(t.Context(), "current", []byte(`{"hash":"`+bundle("second").Hash()+`","revision":9}`))
		require.NoError(t, err)
		_, err = worker.OpenLibrary(t.Context(), js, 1, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "its content hashes to "+bundle("forged").Hash())
		// Publishing the true content mends it.
		require.Equal(t, uint64(10), publish(t, library, bundle("third")).Revision)
		require.NotNil(t, open(t, js).Playbook(bundle("third").Hash()))
	})
	t.Run("a large playbook", func(t *testing.T) {
		t.Parallel()
		srv := testenv.NewBroker(t)
		js := srv.Connect(t)
		large := bundle("large")
		for _, name := range []string{"a.yaml", "b.yaml", "c.yaml"} {
			large.Files[name] = "# " + strings.Repeat("x", 900<<10) + "\n"
		}
		publish(t, open(t, js), large)
		require.Equal(t, "large", inForce(open(t, srv.Connect(t))))
	})
	t.Run("the server is away", func(t *testing.T) {
		t.Parallel()
		srv := testenv.NewBroker(t)
		js := srv.Connect(t)
		library := open(t, js)
		first := publish(t, library, bundle("first"))
		srv.Stop()
		started := time.Now()
		require.Nil(t, library.Playbook("abcdef012345"))
		require.Less(t, time.Since(started), time.Second) // Temporal takes a silent workflow for a deadlock
		require.NotNil(t, library.Playbook(first.Hash))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := worker.OpenLibrary(ctx, js, 1, slog.New(slog.DiscardHandler))
		require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	})
}

func TestFollow(t *testing.T) {
	t.Parallel()
	t.Run("sees what another process publishes", func(t *testing.T) {
		t.Parallel()
		srv := testenv.NewBroker(t)
		js := srv.Connect(t)
		publisher, follower := open(t, js), open(t, srv.Connect(t))
		follow(t, follower)
		for _, name := range []string{"first", "second", "third"} {
			want := publish(t, publisher, bundle(name))
			require.Eventually(t, func() bool { return inForce(follower) == name }, patience, poll)
			got, err := follower.Current()
			require.NoError(t, err)
			require.Equal(t, want.Revision, got.Revision)
		}
	})
	t.Run("misses nothing between opening and following", func(t *testing.T) {
		t.Parallel()
		srv := testenv.NewBroker(t)
		js := srv.Connect(t)
		publisher, follower := open(t, js), open(t, srv.Connect(t))
		publish(t, publisher, bundle("first"))
		follow(t, follower)
		require.Eventually(t, func() bool { return inForce(follower) == "first" }, 5*time.Second, poll)
	})
	t.Run("stays with the last good one", func(t *testing.T) {
		t.Parallel()
		srv := testenv.NewBroker(t)
		js := srv.Connect(t)
		publisher, follower := open(t, js), open(t, srv.Connect(t))
		publish(t, publisher, bundle("first"))
		follow(t, follower)
		store, err := js.ObjectStore(t.Context(), schema.PlaybooksBucket)
		require.NoError(t, err)
		for _, raw := range []string{"no JSON", `{"hash":"abcdef012345","revision":2}`} {
			_, err = store.PutBytes(t.Context(), "current", []byte(raw))
			require.NoError(t, err)
		}
		_, err = store.PutBytes(t.Context(), "current", []byte(`{"hash":"`+bundle("first").Hash()+`","revision":3}`))
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			current, err := follower.Current()
			return err == nil && current.Revision == 3
		}, patience, poll)
		require.Equal(t, "first", inForce(follower))
	})
}

func TestReadLibrary(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	reader := func() *worker.Library {
		library, err := worker.ReadLibrary(t.Context(), js, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return library
	}
	_, err := reader().Current()
	require.ErrorIs(t, err, worker.ErrNoPlaybook)
	stored, err := reader().Stored(t.Context())
	require.NoError(t, err)
	require.Empty(t, stored)
	require.Nil(t, reader().Playbook("abc"))
	_, err = js.ObjectStore(t.Context(), schema.PlaybooksBucket)
	require.ErrorIs(t, err, jetstream.ErrBucketNotFound, "who only reads makes nothing")

	library := open(t, js)
	publish(t, library, bundle("a"))
	publish(t, library, bundle("b"))
	current, err := reader().Current()
	require.NoError(t, err)
	require.Equal(t, bundle("b").Hash(), current.Hash)
	stored, err = reader().Stored(t.Context())
	require.NoError(t, err)
	var hashes []string
	for _, book := range stored {
		hashes = append(hashes, book.Hash)
	}
	require.ElementsMatch(t, []string{bundle("a").Hash(), bundle("b").Hash()}, hashes)
	require.NotNil(t, reader().Playbook(bundle("a").Hash()))
}

// TestNoPlaybookOfNobody: who is new is under no playbook, and that is no error to log.
func TestNoPlaybookOfNobody(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	js := testenv.NewBroker(t).Connect(t)
	library, err := worker.OpenLibrary(t.Context(), js, 1, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	require.Nil(t, library.Playbook(""))
	require.Empty(t, log.String())
}
