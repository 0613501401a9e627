package ingest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

func TestEnsureStreams(t *testing.T) {
	t.Parallel()
	t.Run("makes all, and twice is once", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		for range 2 {
			require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{MaxBytes: 1 << 20, MaxAge: time.Hour}))
		}
		names := js.StreamNames(t.Context())
		var got []string
		for name := range names.Name() {
			got = append(got, name)
		}
		require.NoError(t, names.Err())
		require.ElementsMatch(t, []string{
			schema.EventsStream, schema.OutcomesStream, schema.DeadLettersStream, schema.ActionsStream, schema.ProfilesStream, schema.IdentitiesStream,
		}, got)
		events, err := js.Stream(t.Context(), schema.EventsStream)
		require.NoError(t, err)
		cfg := events.CachedInfo().Config
		require.Equal(t, jetstream.DiscardNew, cfg.Discard) // a full stream refuses publishers, it never drops events
		require.Equal(t, int64(1<<20), cfg.MaxBytes)
		require.Equal(t, time.Hour, cfg.MaxAge)
		profiles, err := js.Stream(t.Context(), schema.ProfilesStream)
		require.NoError(t, err)
		require.Equal(t, int64(1), profiles.CachedInfo().Config.MaxMsgsPerSubject)
		require.Zero(t, profiles.CachedInfo().Config.MaxAge)
	})
	t.Run("a full stream refuses and keeps", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{MaxBytes: 4 << 10}))
		var err error
		n := 0
		for ; err == nil && n < 100; n++ {
			_, err = js.Publish(t.Context(), schema.EventSubject("test"), make([]byte, 512))
		}
		require.Error(t, err)
		events, err := js.Stream(t.Context(), schema.EventsStream)
		require.NoError(t, err)
		require.Equal(t, uint64(1), events.CachedInfo().State.FirstSeq)
		require.Equal(t, uint64(n-1), events.CachedInfo().State.Msgs)
	})
	t.Run("brings a stream that drops the oldest in line", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: schema.EventsStream, Subjects: []string{schema.EventsSubjects}, Discard: jetstream.DiscardOld,
		})
		require.NoError(t, err)
		require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{}))
		events, err := js.Stream(t.Context(), schema.EventsStream)
		require.NoError(t, err)
		require.Equal(t, jetstream.DiscardNew, events.CachedInfo().Config.Discard)
	})
	refused := map[string]jetstream.StreamConfig{
		"another retention": {Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew},
		"another storage":   {Storage: jetstream.MemoryStorage, Discard: jetstream.DiscardNew},
	}
	for name, cfg := range refused {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			js := testenv.NewBroker(t).Connect(t)
			cfg.Name, cfg.Subjects = schema.EventsStream, []string{schema.EventsSubjects}
			_, err := js.CreateStream(t.Context(), cfg)
			require.NoError(t, err)
			err = ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{})
			require.ErrorContains(t, err, schema.EventsStream)
			require.Equal(t, schema.CodeConflict, schema.CodeOf(err), err)
		})
	}
	t.Run("a server that is away is unavailable", func(t *testing.T) {
		t.Parallel()
		b := testenv.NewBroker(t)
		js := b.Connect(t)
		b.Stop()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.Equal(t, schema.CodeUnavailable, schema.CodeOf(ingest.EnsureStreams(ctx, js, ingest.StreamsConfig{})))
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	t.Run("the zero value needs a key alone", func(t *testing.T) {
		t.Parallel()
		_, err := ingest.New(nil, nil, nil, ingest.Config{WorkspaceKey: workspaceKey}, nil)
		require.NoError(t, err)
	})
	t.Run("all problems at once", func(t *testing.T) {
		t.Parallel()
		_, err := ingest.New(nil, nil, nil, ingest.Config{
			Page: -1, Batch: 501, BatchBytes: 1, Concurrency: 2000, AckWait: time.Millisecond, MaxDeliver: 1, WorkspaceKey: []byte("short"),
		}, nil)
		for _, want := range []string{
			"page is -1; it must lie in 1 to 10000", "batch is 501; it must lie in 1 to 500", "batch bytes is 1;", "concurrency is 2000;",
			"ack wait is 1ms; it must be at least 1s", "max deliver is 1;", "the workspace key must have at least 16 bytes",
		} {
			require.ErrorContains(t, err, want)
		}
	})
}

func TestEventReachesTheWorkflow(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{}
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	raw := fmt.Sprintf(`{"event_name":"signed_up","user_id":"Ada@example.org","occurred_at":%q,"properties":{"plan": "pro"},"traits":{"industry":"finance"}}`, at.Format(time.RFC3339Nano))
	sequence := publishRaw(t, js, []byte(raw))
	in, _ := run(t, js, s, ingest.Config{})
	eventually(t, func() bool { return s.count() == 1 }, "the event does not arrive")
	token := schema.UserToken(workspaceKey, "Ada@example.org")
	got := s.taken[0]
	assert.Equal(t, schema.JourneyStart{Version: schema.JourneyVersion, MaxHistory: schema.RunLength, UserID: "Ada@example.org", UserToken: token}, got.user)
	assert.Equal(t, "abc", got.batch.Playbook)
	assert.Equal(t, uint64(7), got.batch.Revision)
	event := got.batch.Events[0]
	assert.Equal(t, "seq-"+strconv.FormatUint(sequence, 10), event.EventID)
	assert.Equal(t, at.UnixMilli(), event.OccurredAt)
	assert.Equal(t, schema.Late, event.Lateness)
	assert.WithinDuration(t, time.Now(), time.UnixMilli(event.ReceivedAt), time.Minute)
	assert.JSONEq(t, `{"plan":"pro"}`, string(event.Properties))
	assert.JSONEq(t, `{"industry":"finance"}`, string(event.Traits))
	settled(t, js)
	counted(t, in, ingest.Stats{Received: 1, Signaled: 1, Signals: 1})
}

// waiting publishes while the sender holds the only call that may be in flight, so that all that follows is there when it
// lets go.
func waiting(t *testing.T, cfg ingest.Config, fill func(js jetstream.JetStream) int) (*sender, *ingest.Ingest, jetstream.JetStream) {
	t.Helper()
	js := streams(t)
	gate := make(chan struct{})
	s := &sender{behave: func(ctx context.Context, _ int, user schema.JourneyStart, _ schema.EventBatch) error {
		if user.UserID == "plug" {
			return opened(ctx, gate)
		}
		return nil
	}}
	cfg.Concurrency = 1
	in, _ := run(t, js, s, cfg)
	publish(t, js, "plug", "plug1", "feature_used")
	eventually(t, func() bool { return s.attempts() == 1 }, "the first page is not taken")
	n := fill(js)
	publish(t, js, "tail", "tail1", "feature_used") // the tail is the proof that all before it stand in the queue
	eventually(t, func() bool { return in.InHand() == n+2 }, "not all messages are taken over")
	eventually(t, func() bool { return in.Stats().Queued == int64(n+1) }, "not all messages are in their mailboxes")
	close(gate)
	eventually(t, func() bool { return s.count() == n+2 }, "not all events arrive")
	settled(t, js)
	require.Zero(t, in.InHand())
	return s, in, js
}

func TestEventsOfAUserTravelInOrder(t *testing.T) {
	t.Parallel()
	t.Run("those that wait share a signal, several users at a time", func(t *testing.T) {
		t.Parallel()
		var ids []string
		s, in, _ := waiting(t, ingest.Config{}, func(js jetstream.JetStream) int {
			for i := 1; i <= 5; i++ {
				ids = append(ids, publishMany(t, js, "a", i, i)...)
				publishMany(t, js, "b", i, i)
			}
			return 10
		})
		require.Equal(t, [][]string{ids}, s.of("a"))
		require.Len(t, s.of("b"), 1)
		counted(t, in, ingest.Stats{Received: 12, Signaled: 12, Signals: int64(len(s.taken))})
	})
	t.Run("a batch has at most Batch events", func(t *testing.T) {
		t.Parallel()
		s, _, _ := waiting(t, ingest.Config{Batch: 3}, func(js jetstream.JetStream) int {
			publishMany(t, js, "a", 1, 8)
			return 8
		})
		require.Equal(t, [][]string{{"a1", "a2", "a3"}, {"a4", "a5", "a6"}, {"a7", "a8"}}, s.of("a"))
	})
	t.Run("a batch has at most BatchBytes, and a larger event goes alone", func(t *testing.T) {
		t.Parallel()
		s, _, _ := waiting(t, ingest.Config{BatchBytes: 1024}, func(js jetstream.JetStream) int {
			for i, size := range []int{400, 400, 400, 3000, 100, 100} {
				publishRaw(t, js, fmt.Appendf(nil, `{"event_id":"a%d","event_name":"x","user_id":"a","properties":{"p":%q}}`, i+1, strings.Repeat("x", size)))
			}
			return 6
		})
		require.Equal(t, [][]string{{"a1", "a2"}, {"a3"}, {"a4"}, {"a5", "a6"}}, s.of("a"))
	})
	t.Run("a slow user holds up nobody else", func(t *testing.T) {
		t.Parallel()
		js := streams(t)
		gate := make(chan struct{})
		s := &sender{behave: func(ctx context.Context, _ int, user schema.JourneyStart, _ schema.EventBatch) error {
			if user.UserID == "slow" {
				return opened(ctx, gate)
			}
			return nil
		}}
		run(t, js, s, ingest.Config{})
		publish(t, js, "slow", "slow1", "feature_used")
		eventually(t, func() bool { return s.attempts() == 1 }, "the slow call has not begun")
		publishMany(t, js, "slow", 2, 4) // before the quick ones, so they are in the mailbox when those arrive
		ids := publishMany(t, js, "quick", 1, 3)
		eventually(t, func() bool { return len(slices.Concat(s.of("quick")...)) == 3 }, "the quick user waits for the slow one")
		require.Equal(t, ids, slices.Concat(s.of("quick")...))
		close(gate)
		eventually(t, func() bool { return s.count() == 7 }, "not all events arrive")
		require.Equal(t, [][]string{{"slow1"}, {"slow2", "slow3", "slow4"}}, s.of("slow"), "what gathered meanwhile shares the next call")
	})
	t.Run("one call a user, many users at once", func(t *testing.T) {
		t.Parallel()
		js := streams(t)
		const users, each = 40, 25
		var together sync.WaitGroup
		together.Add(3)
		s := &sender{behave: func(_ context.Context, nth int, _ schema.JourneyStart, _ schema.EventBatch) error {
			if nth >= 2 && nth <= 4 { // the second, third and fourth call wait for one another
				together.Done()
				together.Wait()
			}
			return nil
		}}
		publish(t, js, "plug", "plug1", "feature_used")
		for i := 1; i <= each; i++ {
			for u := range users {
				publishMany(t, js, fmt.Sprintf("u%dx", u), i, i)
			}
		}
		run(t, js, s, ingest.Config{Batch: 7, Concurrency: 3})
		eventually(t, func() bool { return s.count() == users*each+1 }, "not all events arrive")
		require.False(t, s.overlapped)
		require.Equal(t, 3, s.most)
		for u := range users {
			got := s.ids(fmt.Sprintf("u%dx", u))
			require.True(t, slices.IsSortedFunc(got, func(a, b string) int { return len(a)*100 + strings.Compare(a, b) - len(b)*100 }), got)
			require.Len(t, got, each)
		}
	})
}

func TestUndeclaredEventsAreSkipped(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{}
	publish(t, js, "a", "a1", "undeclared")
	publish(t, js, "a", "a2", "traits_only")
	publishRaw(t, js, []byte(`{"event_id":"a3","event_name":"traits_only","user_id":"a","traits":{"industry":"x"}}`))
	publish(t, js, "a", "a4", "signed_up")
	in, _ := run(t, js, s, ingest.Config{})
	eventually(t, func() bool { return s.count() == 2 }, "the declared events do not arrive")
	settled(t, js)
	require.Equal(t, []string{"a3", "a4"}, s.ids("a"))
	stats := in.Stats()
	require.Equal(t, int64(2), stats.Skipped)
	require.Equal(t, stats.Received, stats.Signaled+stats.Skipped+stats.Rejected)
	require.Empty(t, letters(t, js))
}

// bad is one message for every reason to refuse one.
func bad() map[schema.Reason]string {
	ok := `"event_name":"x","user_id":"a"`
	keys := make([]string, schema.MaxKeys+1)
	for i := range keys {
		keys[i] = fmt.Sprintf(`"k%d":1`, i)
	}
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	return map[schema.Reason]string{ //nolint:exhaustive // undeliverable is no property of the message
		schema.ReasonMalformedJSON: `{"user_id":`,
		schema.ReasonTrailingData:  `{` + ok + `} {}`,
		schema.ReasonNotAnObject:   `[]`,
		schema.ReasonInvalidUTF8:   "{" + ok + ",\"properties\":{\"a\":\"\xff\"}}",
		schema.ReasonDuplicateKey:  `{` + ok + `,"user_id":"b"}`,
		schema.ReasonUnknownField:  `{` + ok + `,"userId":"b"}`,
		schema.ReasonWrongType:     `{"event_name":5,"user_id":"a"}`,
		schema.ReasonTooDeep:       `{` + ok + `,"properties":{"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}}`,
		schema.ReasonTooManyKeys:   `{` + ok + `,"properties":{` + strings.Join(keys, ",") + `}}`,
		schema.ReasonBadKey:        `{` + ok + `,"properties":{"":1}}`,
		schema.ReasonValueTooLong:  `{` + ok + `,"properties":{"a":"` + strings.Repeat("x", schema.MaxStringBytes+1) + `"}}`,
		schema.ReasonNumberRange:   `{` + ok + `,"properties":{"a":1e400}}`,
		schema.ReasonTooLarge:      `{` + ok + `,"properties":{"a":"` + strings.Repeat("x", schema.MaxEventBytes) + `"}}`,
		schema.ReasonMissingUser:   `{"event_name":"x"}`,
		schema.ReasonIllegalID:     `{"event_name":"x","user_id":"undefined"}`,
		schema.ReasonBadID:         `{"event_name":"x","user_id":"a\u0000"}`,
		schema.ReasonIDTooLong:     `{"event_name":"x","user_id":"` + strings.Repeat("u", schema.MaxUserID+1) + `"}`,
		schema.ReasonBadEventID:    `{` + ok + `,"event_id":"` + strings.Repeat("e", schema.MaxEventID+1) + `"}`,
		schema.ReasonBadEventName:  `{"event_name":"","user_id":"a"}`,
		schema.ReasonBadTimestamp:  `{` + ok + `,"occurred_at":"yesterday"}`,
		schema.ReasonFuture:        `{` + ok + `,"occurred_at":"` + in(48*time.Hour) + `"}`,
		schema.ReasonTooOld:        `{` + ok + `,"occurred_at":"` + in(-12*365*24*time.Hour) + `"}`,
	}
}

func TestBadMessagesBecomeOneDeadLetterEach(t *testing.T) {
	t.Parallel()
	js := streams(t)
	messages := bad()
	positions := make(map[schema.Reason]uint64)
	for reason, raw := range messages {
		positions[reason] = publishRaw(t, js, []byte(raw))
	}
	publish(t, js, "a", "good", "x")
	s := &sender{}
	in, stop := run(t, js, s, ingest.Config{})
	eventually(t, func() bool { return s.count() == 1 }, "the good message does not go on")
	settled(t, js)
	require.Equal(t, []string{"good"}, s.ids("a"))
	by := make(map[schema.Reason]int64)
	for reason := range messages {
		by[reason] = 1
	}
	counted(t, in, ingest.Stats{Received: int64(len(messages) + 1), Rejected: int64(len(messages)), RejectedBy: by, Signaled: 1, Signals: 1})

	got := letters(t, js)
	require.Len(t, got, len(messages))
	for _, letter := range got {
		reason := schema.Reason(letter.Header.Get(schema.HeaderReason))
		raw, known := messages[reason]
		require.True(t, known, "%s: %s", reason, letter.Header.Get(schema.HeaderMessage))
		assert.Equal(t, schema.DeadLetterSubject(reason), letter.Subject)
		assert.Equal(t, schema.EventsStream, letter.Header.Get(schema.HeaderStream), reason)
		assert.Equal(t, strconv.FormatUint(positions[reason], 10), letter.Header.Get(schema.HeaderSequence), reason)
		assert.Equal(t, schema.EventSubject("test"), letter.Header.Get(schema.HeaderSubject), reason)
		assert.Equal(t, "1", letter.Header.Get(schema.HeaderAttempts), reason)
		assert.Contains(t, letter.Header.Get(schema.HeaderMessage), string(reason)+": ", reason)
		_, err := time.Parse(time.RFC3339Nano, letter.Header.Get(schema.HeaderReceived))
		require.NoError(t, err, reason)
		sum := sha256.Sum256([]byte(raw))
		assert.Equal(t, hex.EncodeToString(sum[:]), letter.Header.Get(schema.HeaderSHA256), reason)
		assert.Equal(t, raw[:min(len(raw), 64<<10)], string(letter.Data), reason)
	}

	stop() // and all of it again
	require.NoError(t, js.DeleteConsumer(t.Context(), schema.EventsStream, schema.IngestConsumer))
	again := &sender{}
	in, _ = run(t, js, again, ingest.Config{})
	eventually(t, func() bool { return again.count() == 1 }, "the good message does not come again")
	settled(t, js)
	require.Equal(t, int64(len(messages)), in.Stats().Rejected)
	require.Len(t, letters(t, js), len(messages))
}

func TestDeadLettersWithoutRoom(t *testing.T) {
	t.Parallel()
	js := streams(t)
	stream, err := js.Stream(t.Context(), schema.DeadLettersStream)
	require.NoError(t, err)
	roomy := stream.CachedInfo().Config
	full := roomy
	full.MaxMsgs = 1
	_, err = js.UpdateStream(t.Context(), full)
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), schema.DeadLetterSubject("test"), nil)
	require.NoError(t, err)
	publishRaw(t, js, []byte(`[]`))
	publish(t, js, "a", "good", "x")
	s := &sender{}
	in, _ := run(t, js, s, ingest.Config{MaxDeliver: 2})
	eventually(t, func() bool { return s.count() == 1 }, "the good message does not go on")
	eventually(t, func() bool { return in.Stats().Received >= 5 }, "the bad message does not come again and again")
	require.Zero(t, in.Stats().Rejected)
	require.Equal(t, 1, consumer(t, js).NumAckPending)
	_, err = js.UpdateStream(t.Context(), roomy)
	require.NoError(t, err)
	settled(t, js)
	got := letters(t, js)
	require.Len(t, got, 2)
	attempts, err := strconv.Atoi(got[1].Header.Get(schema.HeaderAttempts))
	require.NoError(t, err)
	require.Greater(t, attempts, 3)
	require.Equal(t, string(schema.ReasonNotAnObject), got[1].Header.Get(schema.HeaderReason))
	require.Equal(t, []string{"good"}, s.ids("a"))
}

func TestRefusedBatchBecomesUndeliverable(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{behave: func(_ context.Context, _ int, user schema.JourneyStart, _ schema.EventBatch) error {
		if user.UserID == "refused" {
			return &schema.Error{Code: schema.CodeInvalid, Message: "signal too large", Err: errors.New("line 1\r\nline 2")}
		}
		return nil
	}}
	sequence := publish(t, js, "refused", "r1", "x")
	publish(t, js, "a", "a1", "x")
	in, _ := run(t, js, s, ingest.Config{})
	eventually(t, func() bool { return in.Stats().Received == 2 }, "the messages do not arrive")
	settled(t, js)
	got := letters(t, js)
	require.Len(t, got, 1)
	require.Equal(t, string(schema.ReasonUndeliverable), got[0].Header.Get(schema.HeaderReason))
	require.Equal(t, strconv.FormatUint(sequence, 10), got[0].Header.Get(schema.HeaderSequence))
	require.Contains(t, got[0].Header.Get(schema.HeaderMessage), "signal too large")
	require.Equal(t, []string{"a1"}, s.ids("a"))
	require.Equal(t, 2, s.attempts()) // what can never succeed is not tried again
	by := make(map[schema.Reason]int64)
	by[schema.ReasonUndeliverable] = 1
	counted(t, in, ingest.Stats{Received: 2, Signaled: 1, Signals: 1, Rejected: 1, RejectedBy: by})
}

func TestSenderAway(t *testing.T) {
	t.Parallel()
	t.Run("tried again, in order, nothing lost", func(t *testing.T) {
		t.Parallel()
		js := streams(t)
		s := &sender{behave: func(_ context.Context, nth int, _ schema.JourneyStart, _ schema.EventBatch) error {
			if nth%3 != 0 { // two of three calls fail
				return []error{away(), errors.New("a stranger's error")}[nth%2]
			}
			return nil
		}}
		want := publishMany(t, js, "a", 1, 20)
		in, _ := run(t, js, s, ingest.Config{Batch: 6})
		eventually(t, func() bool { return s.count() == 20 }, "not all events arrive")
		require.Equal(t, want, s.ids("a"))
		settled(t, js)
		require.Empty(t, letters(t, js))
		require.Equal(t, int64(20), in.Stats().Received)
	})
	t.Run("away for three times AckWait, nothing is delivered again", func(t *testing.T) {
		t.Parallel()
		js := streams(t)
		back := time.Now().Add(3 * time.Second)
		s := &sender{behave: func(context.Context, int, schema.JourneyStart, schema.EventBatch) error {
			if time.Now().Before(back) {
				return away()
			}
			return nil
		}}
		in, _ := run(t, js, s, ingest.Config{AckWait: time.Second, MaxDeliver: 2})
		want := publishMany(t, js, "a", 1, 1)
		eventually(t, func() bool { return s.attempts() > 0 }, "the first page is not taken")
		want = append(want, publishMany(t, js, "a", 2, 4)...) // these wait behind the page
		eventually(t, func() bool { return s.count() >= 4 }, "not all events arrive")
		settled(t, js)
		require.Equal(t, want, s.ids("a"))
		require.Equal(t, int64(4), in.Stats().Received)
		require.Zero(t, consumer(t, js).NumRedelivered)
	})
	t.Run("what waited behind the page outlives the process", func(t *testing.T) {
		t.Parallel()
		js := streams(t)
		dead := time.Now().Add(4 * time.Second) // beyond AckWait × MaxDeliver: the server must not have given anything up
		s := &sender{behave: func(context.Context, int, schema.JourneyStart, schema.EventBatch) error { return away() }}
		_, stop := run(t, js, s, ingest.Config{AckWait: time.Second, MaxDeliver: 2})
		want := publishMany(t, js, "a", 1, 1)
		eventually(t, func() bool { return s.attempts() > 0 }, "the first page is not taken")
		want = append(want, publishMany(t, js, "a", 2, 4)...)
		eventually(t, func() bool { return time.Now().After(dead) }, "time stands still")
		stop()
		next := &sender{}
		run(t, js, next, ingest.Config{AckWait: time.Second, MaxDeliver: 2})
		eventually(t, func() bool { return next.count() >= 4 }, "not all events arrive: %v", next.ids("a"))
		require.ElementsMatch(t, want, next.ids("a"))
	})
}

func TestServerAway(t *testing.T) {
	t.Parallel()
	b := testenv.NewBroker(t)
	js := b.Connect(t)
	require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{}))
	s := &sender{}
	run(t, js, s, ingest.Config{AckWait: time.Second})
	publishMany(t, js, "a", 1, 3)
	eventually(t, func() bool { return s.count() == 3 }, "the first events do not arrive")
	b.Stop()
	b.Start(t)
	eventually(t, func() bool {
		_, err := js.Publish(t.Context(), schema.EventSubject("test"), []byte(`{"event_id":"a4","event_name":"x","user_id":"a"}`), jetstream.WithMsgID("a4"))
		return err == nil
	}, "the server does not come back")
	eventually(t, func() bool { return slices.Contains(s.ids("a"), "a4") }, "ingest does not go on")
}

func TestConsumerTakenAway(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{}
	in, err := ingest.New(js, s, inForce, ingest.Config{WorkspaceKey: workspaceKey}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- in.Run(t.Context()) }()
	publish(t, js, "a", "a1", "x")
	eventually(t, func() bool { return s.count() == 1 }, "the event does not arrive")
	require.NoError(t, js.DeleteConsumer(t.Context(), schema.EventsStream, schema.IngestConsumer))
	select {
	case err := <-done:
		require.ErrorContains(t, err, "read ONRAMP_EVENTS")
	case <-time.After(patience):
		require.Fail(t, "ingest goes on without a consumer")
	}
}

// TestMessageLostOnItsWay: the server hands a message out, and it never comes, as when a connection breaks. It must not come behind
// newer events of its user.
func TestMessageLostOnItsWay(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{}
	run(t, js, s, ingest.Config{})
	want := publishMany(t, js, "a", 1, 1)
	eventually(t, func() bool { return s.count() == 1 }, "the first event does not arrive")
	stolen, err := js.Consumer(t.Context(), schema.EventsStream, schema.IngestConsumer)
	require.NoError(t, err)
	batch, err := stolen.Fetch(3, jetstream.FetchMaxWait(patience)) // asks for what ingest asks for too
	require.NoError(t, err)
	want = append(want, publishMany(t, js, "a", 2, 60)...)
	n := 0
	for range batch.Messages() {
		n++
	}
	require.Positive(t, n, "nothing was lost")
	eventually(t, func() bool { return len(slices.Compact(slices.Sorted(slices.Values(s.ids("a"))))) == 60 }, "not all events arrive")
	var first []string
	for _, id := range s.ids("a") {
		if !slices.Contains(first, id) {
			first = append(first, id)
		}
	}
	require.Equal(t, want, first)
}

func TestProcessDies(t *testing.T) {
	t.Parallel()
	js := streams(t)
	publishMany(t, js, "done", 1, 2)
	s := &sender{behave: func(ctx context.Context, _ int, user schema.JourneyStart, _ schema.EventBatch) error {
		if user.UserID == "done" {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	cfg := ingest.Config{Exclusive: true, AckWait: time.Minute, Page: 4}
	_, stop := run(t, js, s, cfg)
	eventually(t, func() bool { return s.count() == 2 }, "the first events do not arrive")
	want := publishMany(t, js, "a", 1, 10)
	wantB := publishMany(t, js, "b", 1, 3)
	eventually(t, func() bool { return s.attempts() > len(s.of("done")) }, "the sender is not asked")
	stop() // while the sender blocks
	require.Positive(t, consumer(t, js).NumAckPending)
	want = append(want, publishMany(t, js, "a", 11, 14)...)

	next := &sender{}
	in, _ := run(t, js, next, cfg)
	eventually(t, func() bool { return next.count() == 17 }, "not all events arrive, though far within AckWait")
	settled(t, js)
	require.Equal(t, want, next.ids("a"))
	require.Equal(t, wantB, next.ids("b"))
	require.Empty(t, next.ids("done")) // what was acknowledged does not come again
	require.Equal(t, int64(17), in.Stats().Received)
}

func TestMessageThatKillsIsPutAside(t *testing.T) {
	t.Parallel()
	js := streams(t)
	publish(t, js, "a", "a1", "x")
	cfg := ingest.Config{AckWait: time.Second, MaxDeliver: 2}
	for range cfg.MaxDeliver {
		s := &sender{behave: func(ctx context.Context, _ int, _ schema.JourneyStart, _ schema.EventBatch) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		_, stop := run(t, js, s, cfg)
		eventually(t, func() bool { return s.attempts() == 1 }, "the message does not come")
		stop()
	}
	s := &sender{}
	run(t, js, s, cfg)
	eventually(t, func() bool { return len(letters(t, js)) == 1 }, "the message is not put aside")
	publish(t, js, "a", "a2", "x")
	eventually(t, func() bool { return s.count() == 1 }, "the next event does not go on")
	require.Equal(t, []string{"a2"}, s.ids("a"))
	letter := letters(t, js)[0]
	require.Equal(t, string(schema.ReasonUndeliverable), letter.Header.Get(schema.HeaderReason))
	require.Equal(t, "3", letter.Header.Get(schema.HeaderAttempts))
}

func TestEventsWaitForThePlaybook(t *testing.T) {
	t.Parallel()
	js := streams(t)
	var published atomic.Bool
	var asked atomic.Int64
	s := &sender{}
	in, _ := runWith(t, js, s, func() (ingest.Playbook, error) {
		asked.Add(1)
		if !published.Load() {
			return ingest.Playbook{}, errors.New("no playbook is published")
		}
		return inForce()
	}, ingest.Config{})
	want := publishMany(t, js, "a", 1, 5)
	eventually(t, func() bool { return asked.Load() >= 3 }, "the playbook is not asked for again")
	require.Zero(t, s.attempts())
	require.Equal(t, 5, consumer(t, js).NumAckPending+int(consumer(t, js).NumPending))
	published.Store(true)
	eventually(t, func() bool { return s.count() == 5 }, "not all events arrive")
	settled(t, js)
	require.Equal(t, want, s.ids("a"))
	require.Equal(t, int64(5), in.Stats().Signaled)
}

// TestNobodyKeepsAPlace: who has much to carry stands behind whoever waits for a place, after every batch.
func TestNobodyKeepsAPlace(t *testing.T) {
	t.Parallel()
	js := streams(t)
	gate := make(chan struct{})
	s := &sender{behave: func(ctx context.Context, _ int, _ schema.JourneyStart, _ schema.EventBatch) error {
		return opened(ctx, gate)
	}}
	in, _ := run(t, js, s, ingest.Config{Concurrency: 1, Batch: 1, Linger: -1})
	publish(t, js, "much", "much0", "feature_used")
	eventually(t, func() bool { return s.attempts() == 1 }, "nobody is called")
	const few = 5
	for k := range few {
		publish(t, js, fmt.Sprintf("few%d", k), "one", "feature_used")
	}
	publishMany(t, js, "much", 1, 50)
	eventually(t, func() bool { return in.Stats().Queued == few+50 }, "they do not wait")
	close(gate)
	settled(t, js)
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(t, s.taken, 1+few+50)
	for at, c := range s.taken {
		if c.user.UserID != "much" {
			require.Less(t, at, 2*few+1, "%s stands behind more than one batch of who has much", c.user.UserID)
		}
	}
}

// TestBacklogGathers: of what waited before there was an ingest, a user's events share a batch or two, however fast batches are taken, and
// keep their order.
func TestBacklogGathers(t *testing.T) {
	t.Parallel()
	js := streams(t)
	const users, each = 20, 100
	for k := range each {
		for u := range users {
			body := fmt.Appendf(nil, `{"event_id":"u%d-%d","event_name":"feature_used","user_id":"u%d"}`, u, k, u)
			_, err := js.PublishAsync(schema.EventSubject("test"), body, jetstream.WithStallWait(patience))
			require.NoError(t, err)
		}
	}
	<-js.PublishAsyncComplete()
	s := &sender{}
	began := time.Now()
	in, _ := run(t, js, s, ingest.Config{Page: 50})
	eventually(t, func() bool { return s.count() == users*each }, "not all events arrive")
	times := 2 + int(time.Since(began)/ingest.GatherFor) // on a machine that is busy, reading takes longer than they may gather
	settled(t, js)
	require.LessOrEqual(t, s.attempts(), times*users)
	require.Zero(t, in.Stats().Mailboxes)
	require.Zero(t, in.Stats().Waited, "none of them may wait for another")
	for u := range users {
		var want []string
		for k := range each {
			want = append(want, fmt.Sprintf("u%d-%d", u, k))
		}
		require.Equal(t, want, s.ids(fmt.Sprintf("u%d", u)))
	}
}
