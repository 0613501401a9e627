package outcome

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/internal/lease"
	"github.com/onramphq/onramp/schema"
)

// carrier takes the messages of one consumer to ClickHouse, a batch at a time and in order:
//
//	reader ──▶ inbox ──▶ take ─▶ insert ─▶ ack ─▶ take …
//	            ▲  ▲               │ away: again, later, for ever
//	  heartbeats   decode          │ a row is at fault: halve the batch until it stands alone, write it off
//
// Rows are made while the batch before them is being stored. R is the row it makes of a message.
//
// The inbox holds what follows on the consumer's floor without a gap, and one acknowledgment covers everything before it. So it says something
// of the stream and not of the consumer: all up to here is stored. That is true whoever says it, also a process that slept and lost the
// lease; the server then believes it of the consumer that its successor made anew, and delivers the successor's again after AckWait, which finds
// its place wrong and goes back to the floor.
type carrier[R any] struct {
	js           jetstream.JetStream
	cfg          SinkConfig
	log          *slog.Logger
	stream, name string
	decode       func(delivery) (R, error)
	insert       func(ctx context.Context, token string, rows []*R) error
	rowless      func(*R) bool // it is handed to insert and leaves no row; nil: none is
	inbox        *inbox[R]
	taken        time.Time // when the last batch was; the one that carries reads it alone

	rows, batches, skipped, refused, retries, waiting atomic.Uint64
}

func newCarrier[R any](
	js jetstream.JetStream, cfg SinkConfig, stream, name string,
	decode func(delivery) (R, error), insert func(context.Context, string, []*R) error,
) *carrier[R] {
	return &carrier[R]{
		js: js, cfg: cfg, stream: stream, name: name, decode: decode, insert: insert, inbox: newInbox[R](cfg.MaxBytes),
		log: cfg.Logger.With(slog.String("stream", stream), slog.String("consumer", name)),
	}
}

func (c *carrier[R]) stats() ConsumerStats {
	return ConsumerStats{
		Rows: c.rows.Load(), Batches: c.batches.Load(), Skipped: c.skipped.Load(), Refused: c.refused.Load(),
		Retries: c.retries.Load(), Lag: c.waiting.Load() + uint64(c.inbox.len()), //nolint:gosec // a length is not negative
	}
}

// run carries until ctx ends; what it has begun by then it finishes, for as long as work lasts. It returns an error only where the connection is
// closed for good.
func (c *carrier[R]) run(ctx, work context.Context) error {
	defer c.waiting.Store(0) // from now on it is another's
	for attempt := 0; ; attempt++ {
		delivered, err := c.session(ctx, work)
		if ctx.Err() != nil {
			return nil // told to stop
		}
		if errors.Is(err, jetstream.ErrConnectionClosed) || c.js.Conn().IsClosed() {
			return &schema.Error{Code: schema.CodeUnavailable, Message: "read stream " + c.stream, Err: err}
		}
		if delivered {
			attempt = 0
		}
		wait := growing(attempt, c.cfg.MaxRetryWait)
		c.log.WarnContext(ctx, "delivery interrupted", slog.Duration("retry_in", wait), slog.Any("error", err))
		pause(ctx, wait)
	}
}

// session carries what one reading brings, and reports whether that was anything. What it cannot finish it forgets: the next one begins at
// the first message that is not acknowledged.
func (c *carrier[R]) session(ctx, work context.Context) (delivered bool, err error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var helpers sync.WaitGroup
	helpers.Go(func() { // stops the loop below when there is nothing more to come
		defer stop()
		delivered, err = c.read(reading)
	})
	helpers.Go(func() { c.heartbeat(reading) })
	helpers.Go(func() { c.inbox.decode(reading, c.decode) })
	for reading.Err() == nil {
		if _, err := c.next(reading, work); err != nil {
			stop()
		}
	}
	helpers.Wait()
	c.inbox.settle(c.inbox.len())
	return delivered, err
}

// inHand carries messages of the stream that were read already, and returns when all are settled or ctx has ended.
func (c *carrier[R]) inHand(ctx context.Context, messages []jetstream.Msg) error {
	running, stop := context.WithCancelCause(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop(nil)
	helpers.Go(func() {
		for _, msg := range messages {
			d, _, err := deliveryOf(msg)
			if err != nil {
				stop(err)
				return
			}
			c.inbox.put(running, d)
		}
	})
	helpers.Go(func() { c.inbox.decode(running, c.decode) })
	for left := len(messages); left > 0; {
		n, err := c.next(running, ctx)
		if err = cmp.Or(err, context.Cause(running)); err != nil {
			return fmt.Errorf("carry what is in hand: %w", err)
		}
		left -= n
	}
	return nil
}

// next carries one batch, and returns how many messages that were.
func (c *carrier[R]) next(ctx, work context.Context) (int, error) {
	batch := c.inbox.take(ctx, c.cfg.MaxRows, c.cfg.MaxWait, c.taken)
	c.taken = time.Now()
	if len(batch) == 0 {
		return 0, nil
	}
	if err := c.carry(work, batch); err != nil {
		return 0, err
	}
	if errors.Is(context.Cause(ctx), lease.ErrLost) {
		return 0, lease.ErrLost // true all the same, but the successor has made the consumer anew
	}
	_ = batch[len(batch)-1].msg.Ack() //nolint:errcheck // a lost acknowledgment brings the messages again, and a row is counted once
	c.inbox.settle(len(batch))
	return len(batch), nil
}

// carry stores the rows of a batch, or writes them off. It returns an error only when ctx ends.
func (c *carrier[R]) carry(ctx context.Context, batch []*entry[R]) error {
	entries := make([]*entry[R], 0, len(batch))
	for _, e := range batch {
		switch {
		case e.refused == nil:
			entries = append(entries, e)
		case isRejection(e.refused): // ingest writes it to the dead letters, with this very reason
			c.skipped.Add(1)
		default:
			if err := c.writeOff(ctx, e.delivery, schema.Clean(e.refused.Error())); err != nil {
				return err
			}
		}
	}
	return c.store(ctx, entries)
}

// store inserts entries; where the server blames a row, it halves them until the row stands alone.
func (c *carrier[R]) store(ctx context.Context, entries []*entry[R]) error {
	if len(entries) == 0 {
		return nil
	}
	rows := pick(entries, func(e *entry[R]) *R { return &e.row })
	name := token(c.name, pick(entries, func(e *entry[R]) delivery { return e.delivery }))
	err := c.persist(ctx, "insert", func(ctx context.Context) error {
		began := time.Now()
		err := c.insert(ctx, name, rows)
		if meter := c.cfg.Meters.Insert; meter != nil {
			meter(c.name, time.Since(began).Seconds())
		}
		return err
	})
	if err == nil {
		c.count(rows)
		return nil
	}
	exception, ok := blamesRow(err)
	switch {
	case !ok:
		return err
	case len(entries) == 1:
		// Not the server's words: they quote the row.
		return c.writeOff(ctx, entries[0].delivery, fmt.Sprintf("ClickHouse refuses the row with code %d", exception.Code))
	}
	half := len(entries) / 2
	if err := c.store(ctx, entries[:half]); err != nil {
		return err
	}
	return c.store(ctx, entries[half:])
}

// count counts a batch that was stored.
func (c *carrier[R]) count(rows []*R) {
	stored := 0
	for _, row := range rows {
		if c.rowless == nil || !c.rowless(row) {
			stored++
		}
	}
	c.skipped.Add(uint64(len(rows) - stored))
	if stored == 0 {
		return
	}
	c.rows.Add(uint64(stored))
	c.batches.Add(1)
	if meter := c.cfg.Meters.Batch; meter != nil {
		meter(c.name, stored)
	}
}

// writeOff publishes the message to the dead letters. A dead letter that cannot be stored is logged and stays in its
// stream: publishing it again would go round for ever.
func (c *carrier[R]) writeOff(ctx context.Context, d delivery, cause string) error {
	c.refused.Add(1)
	c.log.ErrorContext(ctx, "write off message", slog.Uint64("sequence", d.sequence), slog.String("cause", cause))
	if c.stream == schema.DeadLettersStream {
		return nil
	}
	return c.persist(ctx, "publish dead letter", func(ctx context.Context) error {
		_, err := c.js.PublishMsg(ctx, deadLetter(c.stream, c.name, d, cause))
		return err
	})
}

// persist calls do until it succeeds, blames a row, or ctx ends, with growing pauses.
func (c *carrier[R]) persist(ctx context.Context, doing string, do func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := do(ctx)
		if err == nil {
			if attempt > 0 {
				c.log.InfoContext(ctx, "recovered", slog.String("doing", doing), slog.Int("attempts", attempt+1))
			}
			return nil
		}
		if _, ok := blamesRow(err); ok { //nolint:errcheck // the exception is err itself
			return err
		}
		c.retries.Add(1)
		wait := growing(attempt, c.cfg.MaxRetryWait)
		c.log.WarnContext(ctx, "wait for server", slog.String("doing", doing), slog.Int("attempt", attempt+1),
			slog.Duration("retry_in", wait), slog.Any("error", err))
		if !pause(ctx, wait) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// heartbeat tells the server that what is held is being worked on, in time before AckWait.
func (c *carrier[R]) heartbeat(ctx context.Context) {
	for pause(ctx, c.cfg.AckWait/3) {
		for _, d := range c.inbox.all() {
			_ = d.msg.InProgress() //nolint:errcheck // settled meanwhile, or no connection: redelivery is harmless
		}
	}
}

func isRejection(err error) bool {
	_, ok := errors.AsType[*schema.Rejection](err)
	return ok
}

// growing returns the pause after a failed attempt: 100 ms, doubled each time, at most limit.
func growing(attempt int, limit time.Duration) time.Duration {
	return min(100*time.Millisecond<<min(attempt, 10), limit)
}

// pause waits, and reports whether it may go on: false once ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
