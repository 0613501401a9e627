package outcome_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

var workspaceKey = []byte("a key for tests only")

// database names a database of the test's own.
func database(t testing.TB) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name())
	return "t_" + name[:min(len(name), 50)]
}

func openStore(t testing.TB) *outcome.Store {
	t.Helper()
	var store *outcome.Store
	require.Eventually(t, func() bool { // another test may just have killed the server
		var err error
		store, err = outcome.Open(t.Context(), outcome.Config{Addr: clickHouse(t).ClickHouseAddr, Database: database(t)})
		require.True(t, err == nil || schema.CodeOf(err) == schema.CodeUnavailable, "%v", err)
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// jetStream starts a NATS server of the test's own, with the streams as ingest makes them.
func jetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, _ := restartableJetStream(t)
	return js
}

func restartableJetStream(t testing.TB) (js jetstream.JetStream, restart func()) {
	t.Helper()
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true}
	srv := startNATS(t, options)
	options.Port = srv.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a test
	conn, err := nats.Connect(srv.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	js, err = jetstream.New(conn)
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close()
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	for stream, subjects := range map[string]string{
		schema.EventsStream: schema.EventsSubjects, schema.OutcomesStream: schema.OutcomesSubjects, schema.DeadLettersStream: schema.DeadLettersSubjects,
	} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{subjects}, Discard: jetstream.DiscardNew})
		require.NoError(t, err)
	}
	return js, func() {
		srv.Shutdown()
		srv.WaitForShutdown()
		srv = startNATS(t, options)
		require.Eventually(t, conn.IsConnected, 10*time.Second, 10*time.Millisecond)
	}
}

func startNATS(t testing.TB, options *server.Options) *server.Server {
	t.Helper()
	srv, err := server.NewServer(options)
	require.NoError(t, err)
	srv.Start()
	require.True(t, srv.ReadyForConnections(10*time.Second))
	return srv
}

// runSink runs a sink until stop is called, which checks that it ended well.
func runSink(t testing.TB, js jetstream.JetStream, store *outcome.Store, cfg outcome.SinkConfig) (sink *outcome.Sink, stop func()) {
	t.Helper()
	cfg.WorkspaceKey = workspaceKey
	if cfg.Logger == nil && testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	sink = outcome.NewSink(js, store, cfg)
	ctx, cancel := context.WithCancel(t.Context())
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
			require.NoError(t, err)
		case <-time.After(30 * time.Second):
			require.Fail(t, "the sink did not stop")
		}
	}
	t.Cleanup(stop)
	return sink, stop
}

func publishEvent(t testing.TB, js jetstream.JetStream, source string, e schema.Event, opts ...jetstream.PublishOpt) uint64 {
	t.Helper()
	raw, err := json.Marshal(e)
	require.NoError(t, err)
	return publishRaw(t, js, schema.EventSubject(source), raw, opts...)
}

func publishRaw(t testing.TB, js jetstream.JetStream, subject string, body []byte, opts ...jetstream.PublishOpt) uint64 {
	t.Helper()
	ack, err := js.Publish(t.Context(), subject, body, opts...)
	require.NoError(t, err)
	return ack.Sequence
}

func publishOutcome(t testing.TB, js jetstream.JetStream, o schema.Outcome) {
	t.Helper()
	raw, err := json.Marshal(o)
	require.NoError(t, err)
	publishRaw(t, js, schema.OutcomeSubject(o.Kind), raw)
}

// eventually polls until the query's single value is want.
func eventually[V comparable](t testing.TB, store *outcome.Store, want V, query string, args ...any) {
	t.Helper()
	var got V
	var err error
	require.Eventually(t, func() bool {
		err = store.Conn().QueryRow(t.Context(), query, args...).Scan(&got)
		return err == nil && got == want
	}, 60*time.Second, 25*time.Millisecond, "%s", lazy(func() string { return fmt.Sprintf("%s: got %v (error %v), want %v", query, got, err, want) }))
}

type lazy func() string

func (l lazy) String() string { return l() }

func value[V any](t testing.TB, store *outcome.Store, query string, args ...any) V {
	t.Helper()
	var got V
	require.NoError(t, store.Conn().QueryRow(t.Context(), query, args...).Scan(&got), query)
	return got
}

// rowsOf returns the rows of a query as text, in order.
func rowsOf(t testing.TB, store *outcome.Store, query string) []string {
	t.Helper()
	rows, err := store.Conn().Query(t.Context(), "SELECT toString(tuple(*)) FROM ("+query+")")
	require.NoError(t, err, query)
	defer func() { require.NoError(t, rows.Close()) }()
	var all []string
	for rows.Next() {
		var text string
		require.NoError(t, rows.Scan(&text))
		all = append(all, text)
	}
	require.NoError(t, rows.Err())
	return all
}

// settled waits until the consumers have nothing left to do.
func settled(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	for stream, name := range map[string]string{
		schema.EventsStream: schema.ArchiveConsumer, schema.OutcomesStream: schema.OutcomesConsumer, schema.DeadLettersStream: schema.DeadLettersConsumer,
	} {
		require.Eventually(t, func() bool {
			consumer, err := js.Consumer(t.Context(), stream, name)
			if err != nil {
				return false
			}
			info, err := consumer.Info(t.Context())
			return err == nil && info.NumPending == 0 && info.NumAckPending == 0
		}, 60*time.Second, 25*time.Millisecond, "consumer %s has not settled", name)
	}
}

func natsMsg(subject, body string, header map[string][]string) *nats.Msg {
	return &nats.Msg{Subject: subject, Data: []byte(body), Header: header}
}
