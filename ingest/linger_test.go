package ingest_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

// bears answers every batch: of these events so many change nothing, until time does.
func bears(until int64, events map[string]int) schema.Patience {
	return schema.Patience{AsOf: 1, Until: until, Events: events}
}

// letIn sends a user's first event and waits until it is taken: from then on it is known what the user bears.
func letIn(t *testing.T, js jetstream.JetStream, s *sender, user, id string) {
	t.Helper()
	publish(t, js, user, id, "signed_up")
	eventually(t, func() bool { return len(s.ids(user)) == 1 }, "the first event is not taken")
	settled(t, js)
}

// TestEventsThatChangeNothingWait: they wait for the next that matters and travel with it, in order.
func TestEventsThatChangeNothingWait(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{patience: bears(0, map[string]int{"feature_used": 3})}
	in, _ := run(t, js, s, ingest.Config{Linger: time.Minute})
	letIn(t, js, s, "a", "a1")
	publishMany(t, js, "a", 2, 4)
	eventually(t, func() bool { return in.Stats().Waited == 3 }, "they do not wait")
	require.Equal(t, int64(3), in.Stats().Queued)
	publish(t, js, "b", "b1", "signed_up")
	eventually(t, func() bool { return len(s.ids("b")) == 1 }, "others do not go on")
	require.Len(t, s.ids("a"), 1)
	publish(t, js, "a", "a5", "account_closed")
	eventually(t, func() bool { return s.count() == 6 }, "they do not travel")
	settled(t, js)
	require.Equal(t, [][]string{{"a1"}, {"a2", "a3", "a4", "a5"}}, s.of("a"))

	publishMany(t, js, "a", 6, 9) // a fourth is one too many
	eventually(t, func() bool { return s.count() == 10 }, "they do not travel")
	settled(t, js)
	require.Equal(t, []string{"a6", "a7", "a8", "a9"}, s.of("a")[2])
	eventually(t, func() bool { return in.Stats().Mailboxes == 0 }, "a mailbox stays")
	require.Equal(t, in.Stats().Received, in.Stats().Signaled)
}

// TestNoEventWaitsForLong: what no other event takes along travels when Linger is over.
func TestNoEventWaitsForLong(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{patience: bears(0, map[string]int{"feature_used": 8})}
	in, _ := run(t, js, s, ingest.Config{Linger: 200 * time.Millisecond})
	letIn(t, js, s, "a", "a1")
	publishMany(t, js, "a", 2, 3)
	eventually(t, func() bool { return s.count() == 3 }, "they do not travel")
	require.Equal(t, []string{"a1", "a2", "a3"}, s.ids("a"))
	require.Equal(t, int64(2), in.Stats().Waited)
}

// TestEventsThatDoNotWait: each of these travels at once, though its user bears such events.
func TestEventsThatDoNotWait(t *testing.T) {
	t.Parallel()
	now := time.Now()
	soon := now.Add(20 * time.Second).UnixMilli()
	for name, c := range map[string]struct {
		patience schema.Patience
		cfg      ingest.Config
		raw      string
		header   string
	}{
		"of another name":         {patience: bears(0, map[string]int{"other": 8})},
		"time is about to change": {patience: bears(soon, map[string]int{"x": 8})},
		"happened before":         {patience: schema.Patience{AsOf: now.Add(time.Hour).UnixMilli(), Events: map[string]int{"x": 8}}},
		"with traits":             {patience: bears(0, map[string]int{"x": 8}), raw: `{"event_id":"a2","event_name":"x","user_id":"a","traits":{"industry":"law"}}`},
		"late":                    {patience: bears(0, map[string]int{"x": 8}), raw: `{"event_id":"a2","event_name":"x","user_id":"a","occurred_at":"` + now.Add(-2*time.Hour).UTC().Format(time.RFC3339) + `"}`},
		"somebody waits for it":   {patience: bears(0, map[string]int{"x": 8}), header: "1"},
		"nothing waits":           {patience: bears(0, map[string]int{"x": 8}), cfg: ingest.Config{Linger: -1}},
		"too much in hand":        {patience: bears(0, map[string]int{"x": 8}), cfg: ingest.Config{Page: 1, InHand: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := streams(t)
			s := &sender{patience: c.patience}
			if c.cfg.Linger == 0 {
				c.cfg.Linger = 30 * time.Second
			}
			in, _ := run(t, js, s, c.cfg)
			letIn(t, js, s, "a", "a1")
			message := nats.NewMsg(schema.EventSubject("test"))
			message.Data = []byte(`{"event_id":"a2","event_name":"x","user_id":"a"}`)
			if c.raw != "" {
				message.Data = []byte(c.raw)
			}
			if c.header != "" {
				message.Header.Set(schema.HeaderPrompt, c.header)
			}
			_, err := js.PublishMsg(t.Context(), message)
			require.NoError(t, err)
			eventually(t, func() bool { return len(s.ids("a")) == 2 }, "it waits")
			require.Equal(t, [][]string{{"a1"}, {"a2"}}, s.of("a"))
			require.Zero(t, in.Stats().Waited)
		})
	}
}

// TestWhatWaitsIsNotLost: a process that ends leaves what waits to the next, which knows nothing of the user's patience.
func TestWhatWaitsIsNotLost(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{patience: bears(0, map[string]int{"feature_used": 8})}
	in, stop := run(t, js, s, ingest.Config{Linger: time.Minute})
	letIn(t, js, s, "a", "a1")
	publishMany(t, js, "a", 2, 5)
	eventually(t, func() bool { return in.Stats().Waited == 4 }, "they do not wait")
	stop()
	require.Equal(t, []string{"a1"}, s.ids("a"))
	// Where they come to it one by one, the answer to the first of them lets the others wait again.
	run(t, js, s, ingest.Config{Linger: time.Second})
	eventually(t, func() bool { return s.count() == 5 }, "the next does not get them")
	require.Equal(t, []string{"a1", "a2", "a3", "a4", "a5"}, s.ids("a"))
}

// TestLinksDoNotWait: who becomes another is not kept waiting by what could wait.
func TestLinksDoNotWait(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{patience: bears(0, map[string]int{"feature_used": 8})}
	in, _ := run(t, js, s, ingest.Config{Linger: time.Minute})
	letIn(t, js, s, "visitor", "v1")
	for i := range 3 {
		publish(t, js, "visitor", "v"+strconv.Itoa(i+2), "feature_used")
	}
	eventually(t, func() bool { return in.Stats().Waited == 3 }, "they do not wait")
	publishRaw(t, js, []byte(`{"event_id":"k1","event_name":"signed_up","user_id":"known","anonymous_id":"visitor"}`))
	eventually(t, func() bool { return len(s.ids("known")) == 1 }, "the link waits")
	require.Equal(t, []string{"v1", "v2", "v3", "v4"}, s.ids("visitor"))
	require.Equal(t, []string{"k1"}, s.ids("known"))
}

// TestWhatWaitedGivesWay: of users whose events waited together few are called at once, so that others are not held up; something that
// may not wait ends that, and so do two seconds.
func TestWhatWaitedGivesWay(t *testing.T) {
	t.Parallel()
	js := streams(t)
	gate := make(chan struct{})
	s := &sender{patience: bears(0, map[string]int{"feature_used": 8})}
	var began sync.Map // by user: their second batch is on its way
	s.behave = func(ctx context.Context, _ int, user schema.JourneyStart, batch schema.EventBatch) error {
		if batch.Events[0].EventName == "signed_up" {
			return nil
		}
		began.Store(user.UserID, true)
		return opened(ctx, gate)
	}
	in, _ := run(t, js, s, ingest.Config{Linger: 50 * time.Millisecond, Concurrency: 8})
	users := []string{"a", "b", "c", "d"}
	for _, user := range users {
		letIn(t, js, s, user, user+"1")
	}
	for _, user := range users {
		publish(t, js, user, user+"2", "feature_used")
	}
	called := func() (n int) {
		began.Range(func(any, any) bool { n++; return true })
		return n
	}
	eventually(t, func() bool { return in.Stats().Waited == 4 && called() == 1 }, "nobody is called whose event waited")
	waits := users[0] // one of those who give way
	if _, calledFirst := began.Load(waits); calledFirst {
		waits = users[1]
	}
	publish(t, js, waits, waits+"3", "account_closed")
	eventually(t, func() bool { _, ok := began.Load(waits); return ok }, "what may not wait gives way")
	require.Equal(t, 2, called(), "somebody did not give way")
	eventually(t, func() bool { return called() == 4 }, "they give way for ever")
	close(gate)
	eventually(t, func() bool { return s.count() == 9 }, "they do not travel")
	settled(t, js)
	require.Equal(t, [][]string{{waits + "1"}, {waits + "2", waits + "3"}}, s.of(waits))
}

// TestWhatWaitedWaitsWhereCallsAreSlow: an event that has waited gives way for two seconds while a call takes longer than others did; one that may not
// wait goes on, and takes along what its user has waiting.
func TestWhatWaitedWaitsWhereCallsAreSlow(t *testing.T) {
	t.Parallel()
	js := streams(t)
	gate := make(chan struct{})
	s := &sender{patience: bears(0, map[string]int{"feature_used": 8})}
	var began sync.Map // by user: when their second batch was on its way
	s.behave = func(ctx context.Context, _ int, user schema.JourneyStart, batch schema.EventBatch) error {
		if batch.Events[0].EventName != "signed_up" {
			began.Store(user.UserID, time.Now())
		}
		if user.UserID != "slow" {
			return nil
		}
		return opened(ctx, gate)
	}
	in, _ := run(t, js, s, ingest.Config{Linger: 50 * time.Millisecond})
	for _, user := range []string{"a", "b"} {
		letIn(t, js, s, user, user+"1")
	}
	publish(t, js, "slow", "s1", "signed_up")
	eventually(t, func() bool { return s.attempts() == 3 }, "the slow call does not begin")
	sent := time.Now()
	publish(t, js, "a", "a2", "feature_used")
	publish(t, js, "b", "b2", "feature_used")
	eventually(t, func() bool { return in.Stats().Waited == 2 }, "nothing waits")
	publish(t, js, "b", "b3", "account_closed")
	eventually(t, func() bool { return len(s.ids("b")) == 3 }, "what may not wait gives way")
	eventually(t, func() bool { return len(s.ids("a")) == 2 }, "it gives way for ever")
	at := func(user string) time.Time {
		when, _ := began.Load(user)
		return when.(time.Time)
	}
	require.GreaterOrEqual(t, at("a").Sub(sent), 2*time.Second, "it does not give way")
	require.True(t, at("b").Before(at("a")), "what may not wait gives way as long")
	close(gate)
	settled(t, js)
}
