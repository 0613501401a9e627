package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

func publishEvent(t *testing.T, js jetstream.JetStream, e schema.Event) uint64 {
	t.Helper()
	raw, err := json.Marshal(e)
	require.NoError(t, err)
	return publishRaw(t, js, raw)
}

// links are those that are written, in order.
func links(t *testing.T, js jetstream.JetStream) []identity.Link {
	t.Helper()
	var all []identity.Link
	require.NoError(t, ingest.ReadLinks(t.Context(), js, func(l identity.Link) { all = append(all, l) }))
	return all
}

func tokenOf(id string) string { return schema.UserToken(workspaceKey, id) }

// TestLinkWaitsForBoth: the linking event goes once everything before it of both has gone, and holds up nobody else; what comes for the
// visitor after it goes to the user.
func TestLinkWaitsForBoth(t *testing.T) {
	t.Parallel()
	js := streams(t)
	open := make(chan struct{})
	s := &sender{behave: func(ctx context.Context, _ int, user schema.JourneyStart, _ schema.EventBatch) error {
		if user.UserID != "visitor" {
			return nil
		}
		return opened(ctx, open)
	}}
	in, _ := run(t, js, s, ingest.Config{Concurrency: 2})
	publish(t, js, "visitor", "v1", "feature_used")
	publish(t, js, "ann", "a1", "feature_used")
	sequence := publishEvent(t, js, schema.Event{EventID: "link", EventName: "undeclared", UserID: "ann", AnonymousID: "visitor"})
	publish(t, js, "visitor", "v2", "feature_used")
	for n := range 4 { // more than there are calls at a time
		publish(t, js, fmt.Sprint("other", n), fmt.Sprint("o", n), "feature_used")
	}
	eventually(t, func() bool { return s.count() == 5 && in.Stats().Received == 8 }, "the others wait")
	require.Equal(t, []string{"a1"}, s.ids("ann"), "the linking event must wait for the visitor")
	require.Empty(t, links(t, js))
	close(open)
	settled(t, js)
	require.Equal(t, []string{"v1"}, s.ids("visitor"))
	require.Equal(t, []string{"a1", "link", "v2"}, s.ids("ann"))
	written := links(t, js)
	require.Len(t, written, 1)
	require.NotZero(t, written[0].At)
	require.Equal(t, identity.Link{From: tokenOf("visitor"), Into: tokenOf("ann"), Sequence: sequence, UserID: "ann", At: written[0].At}, written[0])
	require.Equal(t, int64(1), in.Stats().Linked)
	for _, c := range s.taken {
		for _, e := range c.batch.Events {
			require.Equal(t, e.EventID == "link", e.From == tokenOf("visitor"), e.EventID)
			require.Equal(t, c.user.UserToken, tokenOf(c.user.UserID))
		}
	}
}

func TestCycleEndsInTheDeadLetters(t *testing.T) {
	t.Parallel()
	js := streams(t)
	s := &sender{}
	run(t, js, s, ingest.Config{})
	alias := func(id, user, previous string) {
		publishEvent(t, js, schema.Event{EventID: id, EventName: schema.AliasEvent, UserID: user, PreviousID: previous})
	}
	alias("1", "b", "a")
	alias("2", "c", "b")
	alias("3", "a", "c") // round
	alias("4", "a", "a") // oneself
	publish(t, js, "a", "5", "feature_used")
	eventually(t, func() bool { return s.count() == 3 }, "three events pass")
	settled(t, js)
	require.Equal(t, []string{"2", "5"}, s.ids("c"))
	var reasons []string
	for _, letter := range letters(t, js) {
		reasons = append(reasons, letter.Header.Get(schema.HeaderReason))
	}
	require.Equal(t, []string{string(schema.ReasonMergeCycle), string(schema.ReasonMergeCycle)}, reasons)
}

// TestLinksSurviveDeath ends ingest again and again in the midst of people who become known, and wants every user's events to have
// arrived in the order of the stream, each link once, and after it nothing for who was linked.
func TestLinksSurviveDeath(t *testing.T) {
	t.Parallel()
	js := streams(t)
	random := rand.New(rand.NewPCG(3, 14))
	type fate struct {
		user string
		seq  uint64
	}
	var book identity.Book
	want := map[uint64]fate{}
	var mu sync.Mutex
	s := &sender{behave: func(ctx context.Context, nth int, _ schema.JourneyStart, _ schema.EventBatch) error {
		mu.Lock()
		slow := random.IntN(4) == 0
		mu.Unlock()
		if slow { // some calls take until the process ends, and some fail
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(3 * time.Millisecond):
			}
		}
		if nth%17 == 0 {
			return away()
		}
		return nil
	}}
	const rounds, each = 8, 60
	for round := range rounds {
		in, stop := run(t, js, s, ingest.Config{Concurrency: 3, Page: 7, Exclusive: true})
		for n := range each {
			mu.Lock()
			who := random.IntN(12)
			kind := random.IntN(6)
			other, seldom := random.IntN(12), random.IntN(3) == 0
			mu.Unlock()
			e := schema.Event{EventID: fmt.Sprint("e", round*each+n), EventName: "feature_used", UserID: fmt.Sprint("visitor", who)}
			switch kind {
			case 0, 1:
				e.UserID, e.AnonymousID = fmt.Sprint("user", who), fmt.Sprint("visitor", other)
			case 2:
				e.UserID = fmt.Sprint("user", who)
			case 3:
				if who != other && seldom {
					e.EventName, e.UserID, e.PreviousID = schema.AliasEvent, fmt.Sprint("user", who), fmt.Sprint("user", other)
				}
			}
			seq := publishEvent(t, js, e)
			r, err := book.Rule(workspaceKey, &schema.Received{Event: e, Sequence: seq})
			if err == nil {
				want[seq] = fate{r.User, seq}
			}
		}
		eventually(t, func() bool { return in.Stats().Received > 0 }, "it has begun")
		if round < rounds-1 {
			stop()
		}
	}
	settled(t, js)
	got := map[uint64]string{}
	newest := map[string]uint64{}
	linked := map[string]uint64{}
	for _, c := range s.taken {
		for _, e := range c.batch.Events {
			token := c.user.UserToken
			if before, twice := got[e.Sequence]; twice {
				require.Equal(t, before, token, "an event that comes again goes the same way")
				continue
			}
			require.Greater(t, e.Sequence, newest[token], "in order")
			newest[token], got[e.Sequence] = e.Sequence, token
			require.Zero(t, linked[token], "%s was handed over by event %d, and got event %d", token, linked[token], e.Sequence)
			if e.From != "" {
				linked[e.From] = e.Sequence
			}
		}
	}
	for seq, f := range want {
		require.Equal(t, f.user, got[seq], "event %d", seq)
	}
	require.Len(t, got, len(want))
	written := links(t, js)
	require.NotEmpty(t, written)
	for _, l := range written {
		if l.Into == "" {
			continue
		}
		made, known := book.Of(l.From)
		require.True(t, known)
		made.At = l.At // the stream's clock
		require.Equal(t, made, l)
	}
	subjects := map[string]bool{}
	for _, l := range written {
		key := l.From + l.Into
		require.False(t, subjects[key], "written twice")
		subjects[key] = true
	}
	require.False(t, slices.ContainsFunc(written, func(l identity.Link) bool { return strings.Contains(l.From, "visitor") }), "raw ids stand in no subject")
}
