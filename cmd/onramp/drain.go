package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

// The engine is at rest when for so many looks in a row every consumer is empty and no outcome came: for longer than a workflow task may take
// before another worker gets it.
const (
	quietRounds   = 14
	quietInterval = 250 * time.Millisecond
	drainTimeout  = 10 * time.Minute
)

// drain waits until everything published so far has been read by every consumer, and until what the workflows made of it has
// come to rest and stands in ClickHouse.
func drain(ctx context.Context, js jetstream.JetStream) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return fmt.Errorf("publish events: %w", context.Cause(ctx))
	}
	var last uint64
	for quiet := 0; quiet < quietRounds; {
		idle, outcomes, err := atRest(ctx, js)
		if err != nil {
			return fmt.Errorf("wait for the engine to come to rest: %w", err)
		}
		if idle && outcomes == last {
			quiet++
		} else {
			quiet = 0
		}
		last = outcomes
		if err := waitUntil(ctx, time.Now().Add(quietInterval)); err != nil {
			return fmt.Errorf("wait for the engine to come to rest: %w", err)
		}
	}
	return nil
}

func atRest(ctx context.Context, js jetstream.JetStream) (idle bool, outcomes uint64, err error) {
	idle = true
	for _, c := range [][2]string{
		{schema.EventsStream, schema.IngestConsumer},
		{schema.EventsStream, schema.ArchiveConsumer},
		{schema.OutcomesStream, schema.OutcomesConsumer},
		{schema.DeadLettersStream, schema.DeadLettersConsumer},
	} {
		consumer, err := js.Consumer(ctx, c[0], c[1])
		if errors.Is(err, jetstream.ErrConsumerNotFound) { // the engine has just been started and has not made it yet
			idle = false
			continue
		}
		if err != nil {
			return false, 0, fmt.Errorf("look at consumer %s: %w", c[1], err)
		}
		info := consumer.CachedInfo()
		idle = idle && info.NumPending == 0 && info.NumAckPending == 0
		if c[0] == schema.OutcomesStream {
			outcomes = info.Delivered.Stream
		}
	}
	return idle, outcomes, nil
}
