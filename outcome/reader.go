package outcome

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

const (
	pullMessages = 2_000           // of one pull: the inbox is the buffer, this only hides the round trip
	pullBytes    = 16 << 20        // of one pull; a consumer stalls on a message that is larger
	drainTime    = 1 * time.Second // for what is already in the client library when reading stops
)

// consumer creates the durable consumer or brings it up to date, and asserts it.
func (c *carrier[R]) consumer(ctx context.Context) (jetstream.Consumer, error) {
	want := jetstream.ConsumerConfig{
		Durable:       c.name,
		Description:   "Onramp: " + c.stream + " to ClickHouse",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.cfg.AckWait,
		MaxDeliver:    -1, // a row is never given up for ClickHouse being away
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		MaxAckPending: 4 * c.cfg.MaxRows,
	}
	consumer, err := c.js.CreateOrUpdateConsumer(ctx, c.stream, want)
	if err != nil {
		code := schema.CodeUnavailable
		if api, ok := errors.AsType[*jetstream.APIError](err); ok &&
			(api.ErrorCode == jetstream.JSErrCodeConsumerCreate || api.ErrorCode == jetstream.JSErrCodeConsumerExists) {
			code = schema.CodeConflict // one of another kind is there: the server changes no policy of a consumer
		}
		return nil, &schema.Error{Code: code, Message: "create consumer " + c.name + " of stream " + c.stream, Err: err}
	}
	got := consumer.CachedInfo().Config
	if got.AckPolicy != want.AckPolicy || got.AckWait != want.AckWait || got.MaxDeliver != want.MaxDeliver ||
		got.MaxAckPending != want.MaxAckPending || got.DeliverPolicy != want.DeliverPolicy || got.FilterSubject != "" || len(got.BackOff) > 0 {
		return nil, &schema.Error{Code: schema.CodeConflict, Message: fmt.Sprintf("assert consumer %s of stream %s: the server has it otherwise", c.name, c.stream)}
	}
	return consumer, nil
}

// read fills the inbox until ctx ends. It returns an error only where the connection is closed for good.
func (c *carrier[R]) read(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		delivered, err := c.readOnce(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop
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

// readOnce reads until ctx ends or the server ends the delivery, and reports whether anything came. It lets the library call it rather than
// ask for the next message: the iterator that one asks has a channel that holds what one pull may bring and not a message more. Where
// it forgets what it has asked for, as after every reconnection, it asks for as much again, and drops what finds the channel full:
// those come again only after AckWait.
func (c *carrier[R]) readOnce(ctx context.Context) (delivered bool, err error) {
	consumer, err := c.consumer(ctx)
	if err != nil {
		return false, err
	}
	var came atomic.Bool
	wrong := make(chan error, 1) // what went wrong last
	bytes := max(pullBytes, 2*int(c.js.Conn().MaxPayload()))
	reading, err := consumer.Consume(
		func(msg jetstream.Msg) {
			came.Store(true)
			c.receive(ctx, msg)
		},
		jetstream.PullMaxMessagesWithBytesLimit(min(pullMessages, 4*c.cfg.MaxRows), bytes),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select { // most of it passes, such as a pause of the server: the library goes on by itself
			case <-wrong: //nolint:errcheck // only the newest is told
			default:
			}
			select {
			case wrong <- err:
			default:
			}
		}),
	)
	if err != nil {
		return false, fmt.Errorf("consume: %w", err)
	}
	defer reading.Stop()
	closed := reading.Closed()
	select {
	case <-closed:
		err = jetstream.ErrMsgIteratorClosed
		select {
		case err = <-wrong:
		default:
		}
		return came.Load(), fmt.Errorf("consume: %w", err)
	case <-ctx.Done():
	}
	// What the library already holds is read too, so that it can be handed back at once.
	reading.Drain()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
	return came.Load(), fmt.Errorf("consume: %w", ctx.Err())
}

// receive puts a message into the inbox, and waits while that is full.
func (c *carrier[R]) receive(ctx context.Context, msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil { // not a message of a stream: nothing could acknowledge it
		c.log.ErrorContext(ctx, "skip stray message", slog.Any("error", err))
		return
	}
	c.waiting.Store(meta.NumPending)
	c.inbox.put(ctx, delivery{msg: msg, sequence: meta.Sequence.Stream, received: meta.Timestamp, attempt: meta.NumDelivered})
}
