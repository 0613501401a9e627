package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/internal/eventlog"
	"github.com/onramphq/onramp/schema"
)

// publishWindow is how many events may be on their way to the stream unacknowledged.
const publishWindow = 2000

// publish sends the records in order and waits until the stream has each. What it does not take is sent once more, with the
// same id, before the replay is given up.
func (c *replayCommand) publish(ctx context.Context, e *engine, records []eventlog.Record, io stdio) error {
	show := newProgress(io.err, "publishing", int64(len(records)))
	start := time.Now()
	for first := 0; first < len(records); first += publishWindow {
		window := records[first:min(first+publishWindow, len(records))]
		futures, err := c.send(ctx, e.js, window, func(at time.Time) time.Time {
			return start.Add(time.Duration(float64(at.Sub(records[0].At)) / c.Speed))
		})
		if err != nil {
			return err
		}
		for i, future := range futures {
			if err := c.settle(ctx, e.js, future, &window[i]); err != nil {
				return err
			}
		}
		show.set(int64(first + len(window)))
	}
	show.done()
	return nil
}

// send publishes a window without waiting for the stream; with a time factor each event at the moment that due gives.
func (c *replayCommand) send(ctx context.Context, js jetstream.JetStream, window []eventlog.Record, due func(time.Time) time.Time) ([]jetstream.PubAckFuture, error) {
	futures := make([]jetstream.PubAckFuture, len(window))
	for i := range window {
		if c.Speed > 0 {
			if err := waitUntil(ctx, due(window[i].At)); err != nil {
				return nil, err
			}
		}
		message, err := c.message(&window[i])
		if err != nil {
			return nil, err
		}
		if futures[i], err = js.PublishMsgAsync(message); err != nil {
			return nil, fmt.Errorf("publish %s:%d: %w", window[i].File, window[i].Line, err)
		}
	}
	return futures, nil
}

func (c *replayCommand) settle(ctx context.Context, js jetstream.JetStream, future jetstream.PubAckFuture, r *eventlog.Record) error {
	select {
	case <-future.Ok():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-future.Err(): //nolint:errcheck // tried again below, and that error counts
	}
	message, err := c.message(r)
	if err != nil {
		return err
	}
	if _, err := js.PublishMsg(ctx, message); err != nil {
		return fmt.Errorf("publish %s:%d: %w: %w", r.File, r.Line, err, errIncomplete)
	}
	return nil
}

func (c *replayCommand) message(r *eventlog.Record) (*nats.Msg, error) {
	message, err := eventMessage(c.Source, r.Event)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", r.File, r.Line, err)
	}
	return message, nil
}

// eventMessage is an event as any service would publish it: its id also as the message id, so that the stream drops what is
// sent twice in a row.
func eventMessage(source string, e schema.Event) (*nats.Msg, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", e.EventID, err)
	}
	message := nats.NewMsg(schema.EventSubject(source))
	message.Data = body
	message.Header.Set(jetstream.MsgIDHeader, e.EventID)
	return message, nil
}

// publishEvent sends an event on its way without waiting for the stream.
func publishEvent(js jetstream.JetStream, source string, e schema.Event) error {
	message, err := eventMessage(source, e)
	if err != nil {
		return err
	}
	if _, err := js.PublishMsgAsync(message); err != nil {
		return fmt.Errorf("publish event %s: %w", e.EventID, err)
	}
	return nil
}

// rejectKeeper writes refused lines to a file that comes into being with the first of them.
type rejectKeeper struct {
	path string
	file io.WriteCloser
}

func openRejects(path string) (*rejectKeeper, error) {
	if path == "-" {
		return &rejectKeeper{}, nil
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("rejects file: %w", err)
	}
	return &rejectKeeper{path: path}, nil
}

func (k *rejectKeeper) keep(r eventlog.Reject) error {
	if k.path == "" {
		return nil
	}
	if k.file == nil {
		file, err := os.OpenFile(k.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("rejects file: %w", err)
		}
		k.file = file
	}
	if err := json.NewEncoder(k.file).Encode(map[string]any{
		"file": r.File, "line": r.Line, "reason": r.Reason, "message": r.Message, "raw": r.Raw,
	}); err != nil {
		return fmt.Errorf("write rejects file %s: %w", k.path, err)
	}
	return nil
}

func (k *rejectKeeper) close() error {
	if k.file == nil {
		return nil
	}
	if err := k.file.Close(); err != nil {
		return fmt.Errorf("close rejects file %s: %w", k.path, err)
	}
	return nil
}
