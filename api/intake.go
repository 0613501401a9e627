package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/onramphq/onramp/schema"
)

// Limits of what is on its way to the stream.
const (
	// roomInFlight bounds the events of all requests together that wait for the stream. It is below what the client takes before
	// it blocks, so a caller is told to wait and does not hang.
	roomInFlight = 8192
	storeTimeout = 8 * time.Second
	// comparedAtOnce bounds how many of a batch that was sent again are looked up together.
	comparedAtOnce = 16
)

// errBusy and errAway are why events were not stored: the stream takes no more, or nobody answers.
var (
	errBusy = errors.New("the stream takes no more")
	errAway = errors.New("the stream does not answer")
)

// intake puts events into the stream. Safe for concurrent use.
type intake struct {
	js   jetstream.JetStream
	room *semaphore.Weighted

	events atomic.Pointer[jetstream.Stream] // nil until it is needed
}

// IntakeOptions are how to open JetStream for Config.Events: more events may wait for the stream than the server lets in, so that it
// is the server that says no, and none waits for ever.
func IntakeOptions() []jetstream.JetStreamOpt {
	return []jetstream.JetStreamOpt{jetstream.WithPublishAsyncMaxPending(2 * roomInFlight), jetstream.WithPublishAsyncTimeout(storeTimeout)}
}

func newIntake(js jetstream.JetStream) *intake {
	return &intake{js: js, room: semaphore.NewWeighted(roomInFlight)}
}

// place is where an event stands in the stream.
type place struct {
	sequence  uint64
	duplicate bool // an event of that id was there already, within the stream's window
}

// store returns when JetStream has every event, and where. Otherwise nothing may be acknowledged, though some may be stored:
// whoever sends again sends the same ids, and the stream knows them. Not an atomic batch: one id that is known already would fail
// the whole.
func (i *intake) store(ctx context.Context, source string, events []tracked) ([]place, error) {
	if i.js.Conn().Status() != nats.CONNECTED { // the client would keep it in memory and wait
		return nil, errAway
	}
	if !i.room.TryAcquire(int64(len(events))) {
		return nil, errBusy
	}
	defer i.room.Release(int64(len(events)))
	ctx, cancel := context.WithTimeoutCause(ctx, storeTimeout, errAway)
	defer cancel()
	futures := make([]jetstream.PubAckFuture, 0, len(events))
	for _, event := range events {
		message := nats.NewMsg(schema.EventSubject(source))
		message.Data = event.body
		message.Header.Set(jetstream.MsgIDHeader, cmp.Or(event.messageID, schema.MessageIDOf(event.eventID)))
		if event.prompt {
			message.Header.Set(schema.HeaderPrompt, "1")
		}
		passTrace(ctx, message)
		future, err := i.js.PublishMsgAsync(message, jetstream.WithExpectStream(schema.EventsStream))
		if err != nil {
			return nil, why(err)
		}
		futures = append(futures, future)
	}
	places := make([]place, len(events))
	for k, future := range futures {
		select {
		case ack := <-future.Ok():
			places[k] = place{ack.Sequence, ack.Duplicate}
			events[k].received.Sequence = ack.Sequence // of a duplicate, that of the first
		case err := <-future.Err():
			return nil, why(err)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errAway, context.Cause(ctx))
		}
	}
	return places, nil
}

// conflicts returns which of the events are others than those the stream has under their ids: the first one stays. An event that
// was sent again, by an SDK that got no answer, is none.
func (i *intake) conflicts(ctx context.Context, events []tracked, places []place) ([]int, error) {
	other := make([]bool, len(events))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(comparedAtOnce)
	for k, at := range places {
		if !at.duplicate {
			continue
		}
		group.Go(func() (err error) {
			other[k], err = i.differs(ctx, events[k].body, at.sequence)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var found []int
	for k := range other {
		if other[k] {
			found = append(found, k)
		}
	}
	return found, nil
}

// differs reports whether the stream has another event at that place.
func (i *intake) differs(ctx context.Context, body []byte, sequence uint64) (bool, error) {
	stream, err := i.stream(ctx)
	if err != nil {
		return false, why(err)
	}
	first, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) { // erased meanwhile: there is nothing left to be compared with
		return false, nil
	}
	if err != nil {
		return false, why(err)
	}
	return !sameEvent(first.Data, body), nil
}

// stream is the stream of events, looked up once; twice where two need it at the same moment, since neither should wait for the other.
func (i *intake) stream(ctx context.Context) (jetstream.Stream, error) {
	if known := i.events.Load(); known != nil {
		return *known, nil
	}
	events, err := i.js.Stream(ctx, schema.EventsStream)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", schema.EventsStream, err)
	}
	i.events.Store(&events)
	return events, nil
}

// sameEvent reports whether two messages tell of the same thing. When they were sent, and what an SDK says of itself, may differ.
func sameEvent(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	first, err := schema.DecodeEvent(a)
	if err != nil {
		return false
	}
	second, err := schema.DecodeEvent(b)
	return err == nil && first.EventName == second.EventName && first.UserID == second.UserID && first.OccurredAt.Equal(second.OccurredAt) &&
		sameMembers(first.Properties, second.Properties) && sameMembers(first.Traits, second.Traits)
}

// sameMembers compares two objects, whatever the order of their members.
func sameMembers(a, b json.RawMessage) bool {
	first, err := objectOf("", a)
	if err != nil {
		return false
	}
	second, err := objectOf("", b)
	if err != nil {
		return false
	}
	delete(first, propertyTracking)
	delete(second, propertyTracking)
	return maps.EqualFunc(first, second, func(x, y json.RawMessage) bool {
		one, other := jsontext.Value(x).Clone(), jsontext.Value(y).Clone()
		return one.Canonicalize() == nil && other.Canonicalize() == nil && bytes.Equal(one, other)
	})
}

// The server's words for a stream or a disk that is full.
const (
	codeStoreFailed  jetstream.ErrorCode = 10077
	codeNoResources  jetstream.ErrorCode = 10023
	codeMemoryFull   jetstream.ErrorCode = 10028
	codeStorageFull  jetstream.ErrorCode = 10047
	codeTooManyInbox jetstream.ErrorCode = 10167
)

func why(err error) error {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch refused.ErrorCode {
		case codeStoreFailed, codeNoResources, codeMemoryFull, codeStorageFull, codeTooManyInbox:
			return fmt.Errorf("%w: %w", errBusy, err)
		default: // a stream that is not there, or is another
		}
	}
	if errors.Is(err, jetstream.ErrTooManyStalledMsgs) {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	return fmt.Errorf("%w: %w", errAway, err)
}
