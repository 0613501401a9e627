package outcome

import (
	"context"
	"slices"
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

// entry is a message and the row that was made of it, or why none could be made.
type entry[R any] struct {
	delivery

	row     R
	refused error
}

// inbox holds what one consumer was handed and has not settled, oldest first. The reader fills it so eagerly that nearly
// nothing waits in the client library, where no heartbeat could reach it: what is held is kept alive, so an outage of
// ClickHouse causes neither redelivery nor reordering. It is bounded by the consumer's MaxAckPending, which the server
// enforces, and by bytes, which put does. One reader, one decoder, one writer, any number of others for all and len.
type inbox[R any] struct {
	mu       sync.Mutex
	held     []entry[R]
	decoded  int // so many of held, from the front, have their row
	bytes    int
	maxBytes int
	arrived  chan struct{} // one token: something was put
	ready    chan struct{} // one token: something was decoded
	left     chan struct{} // one token: something was settled
}

func newInbox[R any](maxBytes int) *inbox[R] {
	return &inbox[R]{maxBytes: maxBytes, arrived: make(chan struct{}, 1), ready: make(chan struct{}, 1), left: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // a token is there already
	}
}

// put adds a message. It waits while the inbox is full, and no longer than ctx.
func (in *inbox[R]) put(ctx context.Context, d delivery) {
	for {
		in.mu.Lock()
		if in.bytes < in.maxBytes || ctx.Err() != nil {
			in.held = append(in.held, entry[R]{delivery: d})
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

// decodeChunk is how many messages are decoded between two looks at the lock.
const decodeChunk = 256

// decode makes the rows of what waits, oldest first, until ctx ends: while one batch is being stored, the next is made ready.
func (in *inbox[R]) decode(ctx context.Context, rowOf func(delivery) (R, error)) {
	for {
		in.mu.Lock()
		chunk := slices.Clone(in.held[in.decoded:min(len(in.held), in.decoded+decodeChunk)])
		in.mu.Unlock()
		if len(chunk) == 0 {
			select {
			case <-in.arrived:
				continue
			case <-ctx.Done():
				return
			}
		}
		for i := range chunk {
			chunk[i].row, chunk[i].refused = rowOf(chunk[i].delivery)
		}
		in.mu.Lock()
		copy(in.held[in.decoded:], chunk) // what was settled meanwhile came off the front of both
		in.decoded += len(chunk)
		in.mu.Unlock()
		signal(in.ready)
	}
}

// take waits for the next batch: up to maxRows entries, or what has come in maxWait after the first of them was seen.
// The batch stays in the inbox until settle. Once ctx ends it returns what there is, perhaps nothing.
func (in *inbox[R]) take(ctx context.Context, maxRows int, maxWait time.Duration) []entry[R] {
	var due <-chan time.Time
	for {
		in.mu.Lock()
		n := in.decoded
		batch := in.held[:min(n, maxRows):min(n, maxRows)]
		full := n >= maxRows || (in.bytes >= in.maxBytes && n == len(in.held))
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
		case <-in.ready:
		case <-due:
			return in.first(maxRows)
		case <-ctx.Done():
		}
	}
}

func (in *inbox[R]) first(n int) []entry[R] {
	in.mu.Lock()
	defer in.mu.Unlock()
	n = min(n, in.decoded)
	return in.held[:n:n]
}

// settle forgets the first n deliveries.
func (in *inbox[R]) settle(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range in.held[:n] {
		in.bytes -= size(in.held[i].delivery)
	}
	in.decoded = max(0, in.decoded-n)
	clear(in.held[:n]) // so that the payloads can be collected
	in.held = in.held[n:]
	signal(in.left)
}

// all returns the messages of what is held.
func (in *inbox[R]) all() []delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	return pick(in.held, func(e entry[R]) delivery { return e.delivery })
}

func (in *inbox[R]) len() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.held)
}

// size is what a message and its row hold in memory, about.
func size(d delivery) int { return 2*len(d.msg.Data()) + 512 }
