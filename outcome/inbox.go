package outcome

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// delivery is one message with its place in the stream.
type delivery struct {
	msg      jetstream.Msg
	sequence uint64
	received time.Time // when the stream took it
	attempt  uint64    // how often it has been delivered, this time included
}

// inbox holds what one consumer was handed and has not settled, oldest first. The reader fills it so eagerly that nearly
// nothing waits in the client library, where no heartbeat could reach it: what is held is kept alive, so an outage of
// ClickHouse causes neither redelivery nor reordering. It is bounded by the consumer's MaxAckPending, which the server
// enforces, and by bytes, which put does. One reader, one writer, any number of others for each and len.
type inbox struct {
	mu       sync.Mutex
	held     []delivery
	bytes    int
	maxBytes int
	arrived  chan struct{} // one token: something was put
	left     chan struct{} // one token: something was settled
}

func newInbox(maxBytes int) *inbox {
	return &inbox{maxBytes: maxBytes, arrived: make(chan struct{}, 1), left: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // a token is there already
	}
}

// put adds a delivery. It waits while the inbox is full, and no longer than ctx.
func (in *inbox) put(ctx context.Context, d delivery) {
	for {
		in.mu.Lock()
		if in.bytes < in.maxBytes || ctx.Err() != nil {
			in.held = append(in.held, d)
			in.bytes += size(d)
			in.mu.Unlock()
			signal(in.arrived)
			return
		}
		in.mu.Unlock()
		select {
		case <-in.left:
		case <-ctx.Done():
		}
	}
}

// take waits for the next batch: up to maxRows deliveries, or what has come in maxWait after the first of them was seen.
// The batch stays in the inbox until settle. Once ctx ends it returns what there is, perhaps nothing.
func (in *inbox) take(ctx context.Context, maxRows int, maxWait time.Duration) []delivery {
	var due <-chan time.Time
	for {
		in.mu.Lock()
		n := len(in.held)
		batch := in.held[:min(n, maxRows):min(n, maxRows)]
		full := n >= maxRows || in.bytes >= in.maxBytes
		in.mu.Unlock()
		if full || ctx.Err() != nil {
			return batch
		}
		if n > 0 && due == nil {
			timer := time.NewTimer(maxWait)
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-in.arrived:
		case <-due:
			return in.first(maxRows)
		case <-ctx.Done():
		}
	}
}

func (in *inbox) first(n int) []delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	n = min(n, len(in.held))
	return in.held[:n:n]
}

// settle forgets the first n deliveries.
func (in *inbox) settle(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, d := range in.held[:n] {
		in.bytes -= size(d)
	}
	clear(in.held[:n]) // so that the payloads can be collected
	in.held = in.held[n:]
	signal(in.left)
}

// all returns a copy of what is held.
func (in *inbox) all() []delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]delivery(nil), in.held...)
}

func (in *inbox) len() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.held)
}

// size is what a delivery holds in memory, about.
func size(d delivery) int { return len(d.msg.Data()) + 256 }
