// Package testenv gives tests a real NATS server of their own, and looks for what they leave behind. For tests alone; the
// linter keeps it out of the program.
package testenv

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// How often a test looks, and how long it waits, for something that should come.
const (
	Poll     = 10 * time.Millisecond
	Patience = 20 * time.Second
)

// Broker is a real NATS server on disk. A test can take it away and bring it back on the same port with the same data.
type Broker struct {
	dir    string
	port   int
	change func(*server.Options)
	srv    *server.Server
}

// NewBroker starts a server that ends with the test.
func NewBroker(tb testing.TB) *Broker {
	tb.Helper()
	return NewBrokerWith(tb, func(*server.Options) {})
}

// NewBrokerWith is NewBroker for a server whose options the test changes before each start.
func NewBrokerWith(tb testing.TB, change func(*server.Options)) *Broker {
	tb.Helper()
	b := &Broker{dir: tb.TempDir(), port: server.RANDOM_PORT, change: change}
	b.Start(tb)
	tb.Cleanup(b.Stop)
	return b
}

// Start brings a stopped server back.
func (b *Broker) Start(tb testing.TB) {
	tb.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: b.port, JetStream: true, StoreDir: b.dir, NoSigs: true, NoLog: true}
	b.change(opts)
	srv, err := server.NewServer(opts)
	require.NoError(tb, err)
	go srv.Start()
	require.True(tb, srv.ReadyForConnections(Patience))
	addr, ok := srv.Addr().(*net.TCPAddr)
	require.True(tb, ok)
	b.srv, b.port = srv, addr.Port
}

// Stop takes the server away. Stopping a stopped one does nothing.
func (b *Broker) Stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

// WebSocketURL is where the server takes WebSocket connections, if its options say so.
func (b *Broker) WebSocketURL() string { return b.srv.WebsocketURL() }

// Server is the server itself.
func (b *Broker) Server() *server.Server { return b.srv }

// Connect returns a connection that ends with the test and outlives the server's absence.
func (b *Broker) Connect(tb testing.TB, more ...nats.Option) jetstream.JetStream {
	tb.Helper()
	options := append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(2 * Poll), nats.ReconnectJitter(0, 0)}, more...)
	nc, err := nats.Connect(b.srv.ClientURL(), options...)
	require.NoError(tb, err)
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(tb, err)
	return js
}

// LeakOptions leave out of a search for leaked goroutines what is the NATS client's own. Where a connection ends before the first has asked for its
// changes, it waits for ever; and so does the second, with the first piece of an object in hand, where the reading of the object is
// called off when that has come and the answer to the subscription has not.
func LeakOptions() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats.go/jetstream.(*obs).Get.func2"),
	}
}
