package ingest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.LeakOptions()...) }

const (
	poll     = testenv.Poll
	patience = testenv.Patience
)

var workspaceKey = []byte("a key for tests only")

// streams starts a server of the test's own with the streams made.
func streams(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := testenv.NewBroker(t).Connect(t)
	require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{}))
	return js
}

// sender is a Sender that records what it took and does what the test says. It notes when it is called for one user twice
// at a time.
type sender struct {
	mu         sync.Mutex
	taken      []call
	calls      int
	inFlight   map[string]int
	most       int
	overlapped bool
	patience   schema.Patience // the answer to every batch
	behave     func(ctx context.Context, nth int, user schema.JourneyStart, batch schema.EventBatch) error
}

type call struct {
	user  schema.JourneyStart
	batch schema.EventBatch
}

func (s *sender) Send(ctx context.Context, user schema.JourneyStart, batch schema.EventBatch) (schema.Patience, error) {
	s.mu.Lock()
	if s.inFlight == nil {
		s.inFlight = make(map[string]int)
	}
	s.calls++
	nth := s.calls
	s.inFlight[user.UserID]++
	s.overlapped = s.overlapped || s.inFlight[user.UserID] > 1
	s.most = max(s.most, len(s.inFlight))
	s.mu.Unlock()
	var err error
	if s.behave != nil {
		err = s.behave(ctx, nth, user, batch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight[user.UserID]--; s.inFlight[user.UserID] == 0 {
		delete(s.inFlight, user.UserID)
	}
	if err == nil {
		s.taken = append(s.taken, call{user, batch})
	}
	return s.patience, err
}

func (s *sender) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// of returns the ids of a user's events by batch, in the order in which they were taken.
func (s *sender) of(userID string) [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batches [][]string
	for _, c := range s.taken {
		if c.user.UserID != userID {
			continue
		}
		ids := make([]string, len(c.batch.Events))
		for i := range c.batch.Events {
			ids[i] = c.batch.Events[i].EventID
		}
		batches = append(batches, ids)
	}
	return batches
}

// ids is of without the division into batches.
func (s *sender) ids(userID string) []string {
	var all []string
	for _, batch := range s.of(userID) {
		all = append(all, batch...)
	}
	return all
}

func (s *sender) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.taken {
		n += len(c.batch.Events)
	}
	return n
}

// opened waits until a gate is, or ctx ends.
func opened(ctx context.Context, gate <-chan struct{}) error {
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func away() error { return &schema.Error{Code: schema.CodeUnavailable, Message: "temporal is away"} }

// inForce is a playbook that reads every event but `undeclared`, and `traits_only` only for its traits.
func inForce() (ingest.Playbook, error) {
	return ingest.Playbook{Hash: "abc", Revision: 7, Reads: func(event string, hasTraits bool) bool {
		return event != "undeclared" && (event != "traits_only" || hasTraits)
	}}, nil
}

// run starts an Ingest. stop ends it as a dying process would and waits for it.
func run(t *testing.T, js jetstream.JetStream, s ingest.Sender, cfg ingest.Config) (in *ingest.Ingest, stop func()) {
	t.Helper()
	return runWith(t, js, s, inForce, cfg)
}

func runWith(t *testing.T, js jetstream.JetStream, s ingest.Sender, current func() (ingest.Playbook, error), cfg ingest.Config) (in *ingest.Ingest, stop func()) {
	t.Helper()
	cfg.WorkspaceKey = workspaceKey
	in, err := ingest.New(js, s, current, cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(patience):
			require.Fail(t, "ingest does not end")
		}
	})
	t.Cleanup(stop)
	return in, stop
}

// publish writes an event with the id under its name and returns its stream position.
func publish(t *testing.T, js jetstream.JetStream, userID, id, name string) uint64 {
	t.Helper()
	raw, err := json.Marshal(schema.Event{EventID: id, EventName: name, UserID: userID})
	require.NoError(t, err)
	return publishRaw(t, js, raw)
}

func publishRaw(t *testing.T, js jetstream.JetStream, raw []byte) uint64 {
	t.Helper()
	ack, err := js.Publish(t.Context(), schema.EventSubject("test"), raw)
	require.NoError(t, err)
	return ack.Sequence
}

// publishMany writes n events of a user with the ids <user>1, <user>2, … and returns the ids.
func publishMany(t *testing.T, js jetstream.JetStream, userID string, from, to int) []string {
	t.Helper()
	var ids []string
	for i := from; i <= to; i++ {
		id := userID + strconv.Itoa(i)
		publish(t, js, userID, id, "feature_used")
		ids = append(ids, id)
	}
	return ids
}

func eventually(t *testing.T, what func() bool, format string, args ...any) {
	t.Helper()
	require.Eventually(t, what, patience, poll, append([]any{format}, args...)...)
}

// counted waits for the counts: the last mailbox is taken away only after its last message is acknowledged.
func counted(t *testing.T, in *ingest.Ingest, want ingest.Stats) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.Equal(c, want, in.Stats()) }, patience, poll)
}

// letters reads all dead letters, oldest first.
func letters(t *testing.T, js jetstream.JetStream) []*jetstream.RawStreamMsg {
	t.Helper()
	stream, err := js.Stream(t.Context(), schema.DeadLettersStream)
	require.NoError(t, err)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	all := make([]*jetstream.RawStreamMsg, 0, info.State.Msgs)
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		message, err := stream.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		all = append(all, message)
	}
	return all
}

func consumer(t *testing.T, js jetstream.JetStream) *jetstream.ConsumerInfo {
	t.Helper()
	c, err := js.Consumer(t.Context(), schema.EventsStream, schema.IngestConsumer)
	require.NoError(t, err)
	return c.CachedInfo()
}

// settled waits until the server has nothing in hand and nothing waiting.
func settled(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	eventually(t, func() bool {
		info := consumer(t, js)
		return info.NumAckPending == 0 && info.NumPending == 0
	}, "the consumer still has messages")
}
