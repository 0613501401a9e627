package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/client"
	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.LeakOptions()...) }

const workspaceKey = "a workspace key for tests"

func open(t *testing.T) (*testenv.Broker, jetstream.JetStream, *client.Client) {
	t.Helper()
	broker := testenv.NewBroker(t)
	js := broker.Connect(t)
	require.NoError(t, ingest.EnsureStreams(t.Context(), js, ingest.StreamsConfig{}))
	c, err := client.New(js.Conn(), "billing")
	require.NoError(t, err)
	return broker, js, c
}

func count(t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	return info.State.Msgs
}

func TestPublish(t *testing.T) {
	t.Parallel()
	broker, js, c := open(t)
	event := schema.Event{EventID: "outbox 17", EventName: "invoice_paid", UserID: "Jürgen", Properties: json.RawMessage(`{"amount":12}`)}
	duplicate, err := c.Publish(t.Context(), event)
	require.NoError(t, err)
	require.False(t, duplicate)
	duplicate, err = c.Publish(t.Context(), event)
	require.NoError(t, err)
	require.True(t, duplicate)
	stream, err := js.Stream(t.Context(), schema.EventsStream)
	require.NoError(t, err)
	message, err := stream.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "onramp.events.billing", message.Subject)
	received, err := schema.Receive(message.Data, message.Header, 1, message.Time)
	require.NoError(t, err)
	require.Equal(t, event.EventID, received.ID)
	require.Equal(t, "Jürgen", received.UserID)

	for field, wrong := range map[string]schema.Event{
		"event_id": {EventName: "x", UserID: "u"}, "user_id": {EventID: "1", EventName: "x"}, "event_name": {EventID: "1", UserID: "u"},
		"properties": {EventID: "1", EventName: "x", UserID: "u", Properties: json.RawMessage(`[]`)},
	} {
		_, err := c.Publish(t.Context(), wrong)
		rejection, ok := errors.AsType[*schema.Rejection](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, field, rejection.Field)
	}
	_, err = c.Publish(t.Context(), schema.Event{EventID: "1", EventName: "x", UserID: "u", Properties: json.RawMessage(`{`)})
	require.Error(t, err)
	require.Equal(t, uint64(1), count(t, js, schema.EventsStream), "what is wrong is not published")

	broker.Stop()
	done := make(chan error, 1)
	event.EventID = "outbox 18"
	go func() { _, err := c.Publish(t.Context(), event); done <- err }()
	require.Eventually(t, func() bool { return !js.Conn().IsConnected() }, testenv.Patience, testenv.Poll)
	ended, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = c.Publish(ended, schema.Event{EventID: "outbox 19", EventName: "x", UserID: "u"})
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	broker.Start(t)
	require.NoError(t, within(t, done), "it tried until NATS was back")
	require.GreaterOrEqual(t, count(t, js, schema.EventsStream), uint64(2))
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"", "a.b", "a b", "*", ">", "ü"} {
		_, err := client.New(nil, source)
		require.Equal(t, schema.CodeInvalid, schema.CodeOf(err), source)
	}
}

// publishAction publishes an action under a message id of its own, so that the stream takes one action twice.
func publishAction(t *testing.T, js jetstream.JetStream, actionID, messageID string) {
	t.Helper()
	body, err := json.Marshal(schema.ActionRequest{ActionID: actionID, Action: "send_email", UserID: "ann"})
	require.NoError(t, err)
	message := nats.NewMsg(schema.ActionSubject("send_email"))
	message.Data = body
	message.Header.Set(jetstream.MsgIDHeader, messageID)
	_, err = js.PublishMsg(t.Context(), message)
	require.NoError(t, err)
}

// within waits for what should come.
func within[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(testenv.Patience):
		require.Fail(t, "nothing came")
	}
	return v
}

// handle runs a handler until stop is called.
func handle(t *testing.T, c *client.Client, cfg client.HandlerConfig) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Handle(ctx, cfg) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, within(t, done))
	})
	t.Cleanup(stop)
	return stop
}

func pending(t *testing.T, js jetstream.JetStream, consumer string) int {
	t.Helper()
	found, err := js.Consumer(t.Context(), schema.ActionsStream, consumer)
	if err != nil {
		return -1
	}
	info, err := found.Info(t.Context())
	require.NoError(t, err)
	return int(info.NumPending) + info.NumAckPending
}

// TestHandleOnce: each action once, though it is in the stream twice, handlers fail at first, and two processes share the work.
func TestHandleOnce(t *testing.T) {
	t.Parallel()
	broker, js, _ := open(t)
	const total = 40
	for i := range total {
		publishAction(t, js, fmt.Sprint("a", i), fmt.Sprint("m", i))
		publishAction(t, js, fmt.Sprint("a", i), fmt.Sprint("again", i))
	}
	var mu sync.Mutex
	tried, done := make(map[string]int), make(map[string]int)
	do := func(_ context.Context, action schema.ActionRequest) error {
		mu.Lock()
		defer mu.Unlock()
		tried[action.ActionID]++
		if tried[action.ActionID] == 1 && action.ActionID == "a7" {
			return errors.New("the mail server is away")
		}
		if action.ActionID == "a9" {
			return fmt.Errorf("no such address: %w", client.ErrRefused)
		}
		done[action.ActionID]++
		return nil
	}
	for range 2 {
		other, err := client.New(broker.Connect(t).Conn(), "mailer")
		require.NoError(t, err)
		memory, err := other.OpenMemory(t.Context(), "mailer", time.Hour, time.Minute)
		require.NoError(t, err)
		handle(t, other, client.HandlerConfig{Consumer: "mailer", Action: "send_email", Memory: memory, Do: do, Concurrency: 4})
	}
	require.Eventually(t, func() bool { return pending(t, js, "mailer") == 0 }, 3*testenv.Patience, testenv.Poll)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, done, total-1)
	for id, n := range done {
		require.Equal(t, 1, n, id)
	}
	require.Equal(t, 2, tried["a7"])
	require.Zero(t, done["a9"])
}

// TestHandleAfterDeath: an action whose process died with it in hand is carried out when its lease is over, and not before.
func TestHandleAfterDeath(t *testing.T) {
	t.Parallel()
	_, js, c := open(t)
	memory, err := c.OpenMemory(t.Context(), "mailer", time.Hour, 1500*time.Millisecond)
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), "mailer")
	require.NoError(t, err)
	_, err = kv.Create(t.Context(), "a1", []byte("begun")) // as the dead one left it
	require.NoError(t, err)
	began := time.Now()
	publishAction(t, js, "a1", "m1")
	done := make(chan time.Duration, 10)
	stop := handle(t, c, client.HandlerConfig{Consumer: "mailer", Action: "*", Memory: memory, Do: func(context.Context, schema.ActionRequest) error {
		done <- time.Since(began)
		return nil
	}})
	require.Greater(t, within(t, done), 1400*time.Millisecond)
	require.Eventually(t, func() bool { return pending(t, js, "mailer") == 0 }, testenv.Patience, testenv.Poll)
	stop()
	require.Empty(t, done)
}

// TestHandleEnds: what is in hand when it is told to stop is ended, and acknowledged.
func TestHandleEnds(t *testing.T) {
	t.Parallel()
	_, js, c := open(t)
	memory, err := c.OpenMemory(t.Context(), "mailer", time.Hour, time.Minute)
	require.NoError(t, err)
	publishAction(t, js, "a1", "m1")
	began, release := make(chan struct{}), make(chan struct{})
	stop := handle(t, c, client.HandlerConfig{Consumer: "mailer", Action: "*", Memory: memory, Do: func(ctx context.Context, _ schema.ActionRequest) error {
		close(began)
		<-release
		return ctx.Err()
	}})
	within(t, began)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	close(release)
	within(t, stopped)
	require.Zero(t, pending(t, js, "mailer"))
	err = c.Handle(t.Context(), client.HandlerConfig{})
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
	require.ErrorContains(t, err, "Memory is missing")
}

// TestHandleAsksAgain: a request for actions that nobody answers is made again, and Handle goes on. One that is never made looks the same: where an
// action comes before the NATS client has noted that it asked for it, it does not ask for the next.
func TestHandleAsksAgain(t *testing.T) {
	t.Parallel()
	broker, js, _ := open(t)
	publishAction(t, js, "a1", "m1")
	lost := new(atomic.Bool)
	other, err := client.New(broker.Connect(t, nats.SetCustomDialer(testenv.Losing{Stream: schema.ActionsStream, Lost: lost})).Conn(), "mailer")
	require.NoError(t, err)
	memory, err := other.OpenMemory(t.Context(), "mailer", time.Hour, time.Minute)
	require.NoError(t, err)
	handle(t, other, client.HandlerConfig{Consumer: "mailer", Action: "*", Memory: memory, Do: func(context.Context, schema.ActionRequest) error { return nil }})
	require.Eventually(t, func() bool { return pending(t, js, "mailer") == 0 }, testenv.Patience, testenv.Poll)
	require.True(t, lost.Load())
}

// serve answers questions with the profile of ann.
func serve(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	token := schema.UserToken([]byte(workspaceKey), "ann")
	body, err := json.Marshal(schema.Profile{UserToken: token, Sequence: 1, Stage: "trial", Segments: []schema.Membership{{Segment: "at_risk", In: true, Reason: "r"}}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), schema.ProfileSubject(token), body)
	require.NoError(t, err)
	mirror := api.NewMirror(js, logger)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = mirror.Run(ctx) })
	server := api.New(api.Config{WorkspaceKey: []byte(workspaceKey)}, mirror, nil, logger)
	require.Eventually(t, mirror.Ready, testenv.Patience, testenv.Poll)
	running.Go(func() { _ = server.ServeNATS(ctx, js.Conn()) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

func TestAsk(t *testing.T) {
	t.Parallel()
	_, js, c := open(t)
	_, err := c.Profile(t.Context(), "ann")
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "no API process runs")
	serve(t, js)
	require.Eventually(t, func() bool { _, err := c.Profile(t.Context(), "ann"); return err == nil }, testenv.Patience, testenv.Poll)
	profile, err := c.Profile(t.Context(), "ann")
	require.NoError(t, err)
	require.Equal(t, "trial", profile.Stage)
	flag, err := c.Flag(t.Context(), "ann", "segment.at_risk")
	require.NoError(t, err)
	require.True(t, flag.Bool())
	require.Equal(t, "in", flag.Variant)
	require.Empty(t, flag.Text())
	flags, err := c.Flags(t.Context(), "ann")
	require.NoError(t, err)
	require.Equal(t, []string{"segment.at_risk", "stage"}, []string{flags[0].Key, flags[1].Key})
	require.Equal(t, "trial", flags[1].Text())
	flags, err = c.Flags(t.Context(), "bob")
	require.NoError(t, err)
	require.Empty(t, flags)
	for _, ask := range []func() error{
		func() error { _, err := c.Profile(t.Context(), "bob"); return err },
		func() error { _, err := c.Flag(t.Context(), "bob", "stage"); return err },
		func() error { _, err := c.Flag(t.Context(), "ann", "none"); return err },
	} {
		require.Equal(t, schema.CodeNotFound, schema.CodeOf(ask()))
	}
	_, err = c.Profile(t.Context(), "")
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
}
