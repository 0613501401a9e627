package outcome

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/internal/durable"
	"github.com/onramphq/onramp/schema"
)

const (
	pullMessages = 2_000           // of one pull: the inbox is the buffer, this only hides the round trip
	pullBytes    = 16 << 20        // of one pull; a consumer stalls on a message that is larger
	stopTime     = 1 * time.Second // for the client library to let go of a consumer
	// pullHeartbeat is how often the server says that it still has a pull. After two that are missing there is another: a request can be lost, and the
	// client library leaves out the next where all that one brings has come before it has noted that it asked. By default it takes 30 s to notice.
	pullHeartbeat = 1 * time.Second
)

// consumer creates the durable consumer or brings it up to date, and asserts it. Whoever is about to read it alone says so: then one that has
// messages in hand, of a process that died or of our own that went astray, is made anew from its floor. The server would deliver those
// only after AckWait and behind newer ones, which no acknowledgment may cover before.
func (c *carrier[R]) consumer(ctx context.Context, toRead bool) (jetstream.Consumer, error) {
	want := jetstream.ConsumerConfig{
		Durable:       c.name,
		Description:   "Onramp: " + c.stream + " to ClickHouse",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckAllPolicy, // one message for a batch: one each costs as much as the rest of reading
		AckWait:       c.cfg.AckWait,
		MaxDeliver:    -1, // a row is never given up for ClickHouse being away
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		MaxAckPending: 4 * c.cfg.MaxRows,
	}
	fail := func(code schema.Code, doing string, err error) (jetstream.Consumer, error) {
		return nil, &schema.Error{Code: code, Message: doing + " consumer " + c.name + " of stream " + c.stream, Err: err}
	}
	old, err := c.js.Consumer(ctx, c.stream, c.name)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return fail(schema.CodeUnavailable, "look up", err)
	default:
		info := old.CachedInfo()
		want.DeliverPolicy, want.OptStartSeq = info.Config.DeliverPolicy, info.Config.OptStartSeq
		formerKind := info.Config.AckPolicy == jetstream.AckExplicitPolicy // the server changes no policy of a consumer
		if formerKind || toRead && info.NumAckPending > 0 {
			c.log.InfoContext(ctx, "consumer goes back to its floor", slog.Int("in_hand", info.NumAckPending), slog.Uint64("floor", info.AckFloor.Stream))
			anew, err := durable.Anew(ctx, c.js, c.stream, info.AckFloor.Stream, want)
			if err != nil {
				return fail(schema.CodeUnavailable, "make anew", err)
			}
			want.DeliverPolicy, want.OptStartSeq = anew.CachedInfo().Config.DeliverPolicy, anew.CachedInfo().Config.OptStartSeq
		}
	}
	consumer, err := c.js.CreateOrUpdateConsumer(ctx, c.stream, want)
	if err != nil {
		code := schema.CodeUnavailable
		if api, ok := errors.AsType[*jetstream.APIError](err); ok && old != nil && // a new one may be refused for a while: see durable.Anew
			(api.ErrorCode == jetstream.JSErrCodeConsumerCreate || api.ErrorCode == jetstream.JSErrCodeConsumerExists) {
			code = schema.CodeConflict // one of another kind is there
		}
		return fail(code, "create", err)
	}
	got := consumer.CachedInfo().Config
	if got.AckPolicy != want.AckPolicy || got.AckWait != want.AckWait || got.MaxDeliver != want.MaxDeliver ||
		got.MaxAckPending != want.MaxAckPending || got.DeliverPolicy != want.DeliverPolicy || got.FilterSubject != "" || len(got.BackOff) > 0 {
		return fail(schema.CodeConflict, "assert", errors.New("the server has it otherwise"))
	}
	return consumer, nil
}

// errGap says that what came is not what follows in the stream on what is in hand: a message was lost on its way, because a connection broke, or
// was handed to somebody else, or the server delivers again what it believes to be forgotten.
var errGap = errors.New("the messages do not follow on each other")

// read fills the inbox until ctx ends or the server ends the delivery, which is an error as much as errGap, and reports whether anything
// came. It lets the library call it rather than ask for the next message: the iterator that one asks has a channel that holds what one pull
// may bring and not a message more. Where it forgets what it has asked for, as after every reconnection, it asks for as much again, and
// drops what finds the channel full.
func (c *carrier[R]) read(ctx context.Context) (delivered bool, err error) {
	consumer, err := c.consumer(ctx, true)
	if err != nil {
		return false, err
	}
	var came atomic.Bool
	wrong := make(chan error, 1) // what went wrong last
	bytes := max(pullBytes, 2*int(c.js.Conn().MaxPayload()))
	last := consumer.CachedInfo().AckFloor.Stream // all up to there is stored
	gap := make(chan error, 1)
	reading, err := consumer.Consume(
		func(msg jetstream.Msg) {
			came.Store(true)
			if err := c.receive(ctx, msg, &last); err != nil {
				select {
				case gap <- err:
				default: // what follows on a gap does not count
				}
			}
		},
		jetstream.PullMaxMessagesWithBytesLimit(min(pullMessages, 4*c.cfg.MaxRows), bytes), jetstream.PullHeartbeat(pullHeartbeat),
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
	closed := reading.Closed()
	defer func() {
		reading.Stop()
		timer := time.NewTimer(stopTime)
		defer timer.Stop()
		select {
		case <-closed:
		case <-timer.C:
		}
	}()
	select {
	case err = <-gap:
	case <-closed:
		err = jetstream.ErrMsgIteratorClosed
		select {
		case err = <-wrong:
		default:
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	return came.Load(), fmt.Errorf("consume: %w", err)
}

// receive puts a message into the inbox, and waits while that is full. last is the message before it in the stream, stored or in the inbox: only
// what follows without a gap goes in, so that who has stored a message and everything before it in the inbox may say that all there is up to it
// is stored. The consumer's own count of deliveries would not do: one that was made anew under the same name counts anew, and may have come to
// the next number by handing messages to another.
func (c *carrier[R]) receive(ctx context.Context, msg jetstream.Msg, last *uint64) error {
	d, waiting, err := deliveryOf(msg)
	if err != nil { // not a message of a stream: nothing could acknowledge it
		c.log.ErrorContext(ctx, "skip stray message", slog.Any("error", err))
		return nil
	}
	sequence := d.sequence
	if sequence <= *last {
		return fmt.Errorf("message %d after message %d: %w", sequence, *last, errGap)
	}
	if sequence > *last+1 {
		if err := c.nothingBetween(ctx, *last, sequence); err != nil {
			return err
		}
	}
	*last = sequence
	c.waiting.Store(waiting)
	c.inbox.put(ctx, d)
	return nil
}

// nothingBetween checks that the stream has no message between two of them: those that it had were removed.
func (c *carrier[R]) nothingBetween(ctx context.Context, before, after uint64) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	stream, err := c.js.Stream(ctx, c.stream)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", c.stream, err)
	}
	next, err := stream.GetMsg(ctx, before+1, jetstream.WithGetMsgSubject(">"))
	if err != nil { // also where none is found: a replica that answers may lag behind
		return fmt.Errorf("read stream %s from message %d: %w", c.stream, before+1, err)
	}
	if next.Sequence < after {
		return fmt.Errorf("message %d after message %d: %w", after, before, errGap)
	}
	return nil
}
