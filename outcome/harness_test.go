package outcome_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

var workspaceKey = []byte("a key for tests only")

// database names a database of the test's own.
func database(tb testing.TB) string {
	tb.Helper()
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, tb.Name())
	return "t_" + name[:min(len(name), 50)]
}

func openStore(tb testing.TB) *outcome.Store {
	tb.Helper()
	var store *outcome.Store
	require.Eventually(tb, func() bool { // another test may just have killed the server
		var err error
		store, err = outcome.Open(tb.Context(), outcome.Config{Addr: clickHouse(tb).ClickHouseAddr, Database: database(tb)})
		require.True(tb, err == nil || schema.CodeOf(err) == schema.CodeUnavailable, "%v", err)
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	tb.Cleanup(func() { require.NoError(tb, store.Close()) })
	return store
}

// jetStream starts a NATS server of the test's own, with the streams as ingest makes them.
func jetStream(tb testing.TB) jetstream.JetStream {
	tb.Helper()
	js, _ := restartableJetStream(tb)
	return js
}

func restartableJetStream(tb testing.TB) (js jetstream.JetStream, restart func()) {
	tb.Helper()
	broker := testenv.NewBroker(tb)
	js = broker.Connect(tb)
	for stream, subjects := range map[string]string{
		schema.EventsStream: schema.EventsSubjects, schema.OutcomesStream: schema.OutcomesSubjects, schema.DeadLettersStream: schema.DeadLettersSubjects,
	} {
		cfg := jetstream.StreamConfig{Name: stream, Subjects: []string{subjects}, Discard: jetstream.DiscardNew}
		if stream == schema.DeadLettersStream {
			cfg.Subjects = append(cfg.Subjects, schema.AdvisorySubjects)
		}
		_, err := js.CreateStream(tb.Context(), cfg)
		require.NoError(tb, err)
	}
	return js, func() {
		broker.Stop()
		broker.Start(tb)
		require.Eventually(tb, js.Conn().IsConnected, 10*time.Second, 10*time.Millisecond)
	}
}

// runSink runs a sink until stop is called, which checks that it ended well.
func runSink(tb testing.TB, js jetstream.JetStream, store *outcome.Store, cfg outcome.SinkConfig) (sink *outcome.Sink, stop func()) {
	tb.Helper()
	cfg.WorkspaceKey = workspaceKey
	if cfg.Logger == nil && testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}
	sink = outcome.NewSink(js, store, cfg)
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- sink.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			require.NoError(tb, err)
		case <-time.After(30 * time.Second):
			require.Fail(tb, "the sink did not stop")
		}
	}
	tb.Cleanup(stop)
	return sink, stop
}

func publishEvent(tb testing.TB, js jetstream.JetStream, source string, e schema.Event, opts ...jetstream.PublishOpt) uint64 {
	tb.Helper()
	raw, err := json.Marshal(e)
	require.NoError(tb, err)
	return publishRaw(tb, js, schema.EventSubject(source), raw, opts...)
}

func publishRaw(tb testing.TB, js jetstream.JetStream, subject string, body []byte, opts ...jetstream.PublishOpt) uint64 {
	tb.Helper()
	ack, err := js.Publish(tb.Context(), subject, body, opts...)
	require.NoError(tb, err)
	return ack.Sequence
}

// fill publishes n events that are alike but for their ids, first and on.
func fill(tb testing.TB, js jetstream.JetStream, first, n int) {
	tb.Helper()
	for i := first; i < first+n; i++ {
		_, err := js.PublishAsync(schema.EventSubject("load"), fmt.Appendf(nil, `{"event_id":"e%d","event_name":"clicked","user_id":"ada"}`, i), jetstream.WithStallWait(time.Minute))
		require.NoError(tb, err)
	}
	<-js.PublishAsyncComplete()
}

func publishOutcome(tb testing.TB, js jetstream.JetStream, o schema.Outcome) {
	tb.Helper()
	raw, err := json.Marshal(o)
	require.NoError(tb, err)
	publishRaw(tb, js, schema.OutcomeSubject(o.Kind), raw)
}

// eventually polls until the query's single value is want.
func eventually[V comparable](tb testing.TB, store *outcome.Store, want V, query string, args ...any) {
	tb.Helper()
	var got V
	var err error
	require.Eventually(tb, func() bool {
		err = store.Conn().QueryRow(tb.Context(), query, args...).Scan(&got)
		return err == nil && got == want
	}, 60*time.Second, 25*time.Millisecond, "%s", lazy(func() string { return fmt.Sprintf("%s: got %v (error %v), want %v", query, got, err, want) }))
}

type lazy func() string

func (l lazy) String() string { return l() }

func value[V any](tb testing.TB, store *outcome.Store, query string, args ...any) V {
	tb.Helper()
	var got V
	require.NoError(tb, store.Conn().QueryRow(tb.Context(), query, args...).Scan(&got), query)
	return got
}

// rowsOf returns the rows of a query as text, in order.
func rowsOf(tb testing.TB, store *outcome.Store, query string) []string {
	tb.Helper()
	rows, err := store.Conn().Query(tb.Context(), "SELECT toString(tuple(*)) FROM ("+query+")")
	require.NoError(tb, err, query)
	defer func() { require.NoError(tb, rows.Close()) }()
	var all []string
	for rows.Next() {
		var text string
		require.NoError(tb, rows.Scan(&text))
		all = append(all, text)
	}
	require.NoError(tb, rows.Err())
	return all
}

// settled waits until the consumers have nothing left to do.
func settled(tb testing.TB, js jetstream.JetStream) {
	tb.Helper()
	for stream, name := range map[string]string{
		schema.EventsStream: schema.ArchiveConsumer, schema.OutcomesStream: schema.OutcomesConsumer, schema.DeadLettersStream: schema.DeadLettersConsumer,
	} {
		require.Eventually(tb, func() bool {
			end, err := js.Stream(tb.Context(), stream)
			if err != nil {
				return false
			}
			consumer, err := js.Consumer(tb.Context(), stream, name)
			if err != nil {
				return false
			}
			// A consumer that is being made anew has nothing pending for a moment, and its floor says that it is not done.
			info := consumer.CachedInfo()
			return info.NumPending == 0 && info.NumAckPending == 0 && info.AckFloor.Stream >= end.CachedInfo().State.LastSeq
		}, 60*time.Second, 25*time.Millisecond, "consumer %s has not settled", name)
	}
}

func natsMsg(subject, body string, header map[string][]string) *nats.Msg {
	return &nats.Msg{Subject: subject, Data: []byte(body), Header: header}
}
