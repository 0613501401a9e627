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

// deliveryOf also tells how many messages wait behind it.
func deliveryOf(msg jetstream.Msg) (d delivery, waiting uint64, err error) {
	meta, err := msg.Metadata()
	if err != nil {
		return delivery{}, 0, err
	}
	return delivery{msg: msg, sequence: meta.Sequence.Stream, received: meta.Timestamp, attempt: meta.NumDelivered}, meta.NumPending, nil
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
//
// Entries stand in blocks and never move: the decoder makes a row where it will be stored from, without a lock, because nobody
// looks at the row of an entry before it counts as decoded.
type inbox[R any] struct {
	mu       sync.Mutex
	blocks   []*block[R] // all full but for the last
	spare    []*block[R] // empty, to be used again
	settled  int         // so many entries of the first block are gone
	held     int         // entries that are not
	decoded  int         // so many of them, from the front, have their row
	bytes    int
	maxBytes int
	arrived  chan struct{} // one token: something was put
	ready    chan struct{} // one token: something was decoded
	left     chan struct{} // one token: something was settled
}

// blockSize is also how many messages are decoded at most between two looks at the lock.
const blockSize = 256

// spareBlocks is how many emptied blocks are kept: of about two batches.
const spareBlocks = 160

type block[R any] struct {
	entries [blockSize]entry[R]
	used    int // of the entries, from the front
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

// put adds a message, and waits while the inbox is full. Once ctx has ended it adds nothing.
func (in *inbox[R]) put(ctx context.Context, d delivery) {
	for ctx.Err() == nil {
		in.mu.Lock()
		if in.bytes < in.maxBytes && ctx.Err() == nil { // asked under the lock: what is emptied after ctx has ended stays empty
			in.add(d)
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

// add puts a message into the last block. The lock is held.
func (in *inbox[R]) add(d delivery) {
	if n := len(in.blocks); n == 0 || in.blocks[n-1].used == blockSize {
		fresh := new(block[R])
		if last := len(in.spare) - 1; last >= 0 {
			fresh, in.spare = in.spare[last], in.spare[:last]
		}
		in.blocks = append(in.blocks, fresh)
	}
	last := in.blocks[len(in.blocks)-1]
	last.entries[last.used].delivery = d
	last.used++
	in.held++
	in.bytes += size(d)
}

// run returns the entries that follow the first i of those held, as far as their block goes. The lock is held.
func (in *inbox[R]) run(i int) []entry[R] {
	i += in.settled
	if i/blockSize >= len(in.blocks) {
		return nil
	}
	b := in.blocks[i/blockSize]
	return b.entries[i%blockSize : b.used]
}

// decode makes the rows of what waits, oldest first, until ctx ends: while one batch is being stored, the next is made ready.
func (in *inbox[R]) decode(ctx context.Context, rowOf func(delivery) (R, error)) {
	for {
		in.mu.Lock()
		waiting := in.run(in.decoded)
		in.mu.Unlock()
		if len(waiting) == 0 {
			select {
			case <-in.arrived:
				continue
			case <-ctx.Done():
				return
			}
		}
		for i := range waiting {
			waiting[i].row, waiting[i].refused = rowOf(waiting[i].delivery)
		}
		in.mu.Lock()
		in.decoded += len(waiting)
		in.mu.Unlock()
		signal(in.ready)
	}
}

// take waits for the next batch: up to maxRows entries, or what has come by a quarter of maxWait after the first of them was seen, and not before
// maxWait after the last batch was taken. The batch stays in the inbox until settle. Once ctx ends it returns what there is, perhaps nothing.
func (in *inbox[R]) take(ctx context.Context, maxRows int, maxWait time.Duration, last time.Time) []*entry[R] {
	var due <-chan time.Time
	for {
		in.mu.Lock()
		n := in.decoded
		full := n >= maxRows || (in.bytes >= in.maxBytes && n == in.held)
		in.mu.Unlock()
		if full || ctx.Err() != nil {
			return in.first(maxRows)
		}
		if n > 0 && due == nil {
			timer := time.NewTimer(max(maxWait/4, maxWait-time.Since(last)))
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

// first returns the first n entries that have a row, or as many as there are.
func (in *inbox[R]) first(n int) []*entry[R] {
	in.mu.Lock()
	defer in.mu.Unlock()
	n = min(n, in.decoded)
	batch := make([]*entry[R], 0, n)
	for len(batch) < n {
		for entries := in.run(len(batch)); len(entries) > 0 && len(batch) < n; entries = entries[1:] {
			batch = append(batch, &entries[0])
		}
	}
	return batch
}

// settle forgets the first n entries. Nobody may look at them any more: their places are used again.
func (in *inbox[R]) settle(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.held -= n
	in.decoded = max(0, in.decoded-n)
	for n > 0 {
		entries := in.run(0)
		entries = entries[:min(n, len(entries))]
		for i := range entries {
			in.bytes -= size(entries[i].delivery)
		}
		clear(entries) // so that the payloads can be collected
		n -= len(entries)
		in.settled += len(entries)
		if in.settled == blockSize {
			in.drop()
		}
	}
	signal(in.left)
}

// drop takes the first block away, all of which is settled. The lock is held.
func (in *inbox[R]) drop() {
	first := in.blocks[0]
	in.blocks[0] = nil
	in.blocks, in.settled, first.used = in.blocks[1:], 0, 0
	if len(in.spare) < spareBlocks {
		in.spare = append(in.spare, first)
	}
}

// all returns the messages of what is held.
func (in *inbox[R]) all() []delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	messages := make([]delivery, 0, in.held)
	for len(messages) < in.held {
		entries := in.run(len(messages))
		for i := range entries {
			messages = append(messages, entries[i].delivery)
		}
	}
	return messages
}

func (in *inbox[R]) len() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.held
}

// size is what a message and its row hold in memory, about.
func size(d delivery) int { return 2*len(d.msg.Data()) + 512 }
