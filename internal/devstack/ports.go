//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// loopback is the only address anything listens on.
const loopback = "127.0.0.1"

const (
	// Free ports are taken below the range from which the system serves outgoing connections (from 32768 on Linux,
	// 49152 on macOS): between our look and the server's bind nobody else is given such a port by chance.
	freePortFirst = 15000
	freePortLast  = 32000
	freePortTries = 200

	// After a crash the old ClickHouse child may hold its ports until it has seen the end of its pipe.
	oldChildGrace = 6 * time.Second
	portPoll      = 100 * time.Millisecond
)

var errNoFreePort = errors.New("find a free port on 127.0.0.1: none in 200 tries")

// checkPorts reports the first port asked for that is taken. After an unclean end it gives the old child a moment.
func checkPorts(ctx context.Context, cfg Config, unclean bool) error {
	asked := []PortInUseError{
		{Service: "NATS", Port: cfg.NATSPort, Flag: "--nats-port"},
		{Service: "Temporal", Port: cfg.TemporalPort, Flag: "--temporal-port"},
		{Service: "the Temporal Web UI", Port: cfg.UIPort, Flag: "--ui-port"},
		{Service: "ClickHouse", Port: cfg.ClickHousePort, Flag: "--clickhouse-port"},
		{Service: "ClickHouse HTTP", Port: cfg.ClickHouseHTTPPort, Flag: "--clickhouse-http-port"},
	}
	if cfg.NATSWebSocketPort > 0 {
		asked = append(asked, PortInUseError{Service: "NATS over WebSocket", Port: cfg.NATSWebSocketPort, Flag: "--nats-websocket-port"})
	}
	if cfg.MQTTPort > 0 {
		asked = append(asked, PortInUseError{Service: "MQTT", Port: cfg.MQTTPort, Flag: "--mqtt-port"})
	}
	if cfg.NoUI {
		asked[2].Port = 0
	}
	wait, cancel := context.WithTimeout(ctx, oldChildGrace)
	defer cancel()
	for i := range asked {
		for asked[i].Port != 0 && !portFree(wait, asked[i].Port) {
			if !unclean || !pause(wait, portPoll) {
				return &asked[i]
			}
		}
	}
	return ctx.Err()
}

// portFree binds the port and lets it go again. A canceled context counts as taken.
func portFree(ctx context.Context, port int) bool {
	listener, err := listen(ctx, port)
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func listen(ctx context.Context, port int) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp4", hostPort(port))
}

// portBook chooses the ports of one stack. Between choosing a port and the server's bind, other stacks of this machine,
// in this process and in others, must not choose it too: the book holds the UDP port of the same number, which none of
// the servers uses, and which the system gives back when we die.
type portBook struct {
	mu   sync.Mutex
	held []net.PacketConn
}

// choose returns the port asked for, or a free one.
func (b *portBook) choose(ctx context.Context, asked int) (int, error) {
	if asked != 0 {
		b.hold(ctx, asked) // somebody else's UDP server on it is no hindrance
		return asked, nil
	}
	for range freePortTries {
		port := freePortFirst + rand.N(freePortLast-freePortFirst) //nolint:gosec // a port, not a secret
		if b.hold(ctx, port) && portFree(ctx, port) {
			return port, nil
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return 0, errNoFreePort
}

func (b *portBook) hold(ctx context.Context, port int) bool {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", hostPort(port))
	if err != nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = append(b.held, conn)
	return true
}

func (b *portBook) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range b.held {
		_ = conn.Close() //nolint:errcheck // nothing was sent
	}
	b.held = nil
}

func hostPort(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// pause waits, and says whether the whole time has passed.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
