package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
)

// Losing is a dialer for NATS on whose connections the first request for messages of Stream goes where nobody listens.
type Losing struct {
	net.Conn

	Stream string
	Lost   *atomic.Bool // it has been
}

// Dial implements nats.CustomDialer.
func (l Losing) Dial(network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	l.Conn = conn
	return l, nil
}

// Write implements net.Conn.
func (l Losing) Write(b []byte) (int, error) {
	const asks, none = "$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.CONSUMER.MSG.NONE."
	if request := []byte(asks + l.Stream + "."); bytes.Contains(b, request) && l.Lost.CompareAndSwap(false, true) {
		b = bytes.Replace(b, request, []byte(none+l.Stream+"."), 1)
	}
	return l.Conn.Write(b) //nolint:wrapcheck // it is the connection's
}
