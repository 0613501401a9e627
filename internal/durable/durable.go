// Package durable makes durable consumers of JetStream anew.
package durable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// How long a server is asked again to make a consumer that it has just deleted, and how long is waited in between.
const (
	patience  = 10 * time.Second
	firstWait = 10 * time.Millisecond
	lastWait  = 1 * time.Second
)

// errFormerState says that the consumer which the server made has the state of the one it deleted.
var errFormerState = errors.New("the server gave it the state of the one that was deleted")

// Anew deletes the durable consumer cfg.Durable of a stream and makes it again as cfg says, so that it begins behind floor, the stream's last
// message that is settled. Once the consumer is gone the caller alone knows the floor, so a server that refuses the new one is asked again for ten
// seconds. One that was just writing the file of the deleted consumer refuses, or gives the new one the state of the old (nats-server 2.15: such
// a write goes on after the deletion). The error is that of the last attempt.
func Anew(ctx context.Context, js jetstream.JetStream, stream string, floor uint64, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, floor+1
	if err := remove(ctx, js, stream, cfg.Durable); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		consumer, err := create(ctx, js, stream, cfg)
		if err == nil {
			return consumer, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

func create(ctx context.Context, js jetstream.JetStream, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	consumer, err := js.CreateOrUpdateConsumer(ctx, stream, cfg)
	if err != nil {
		return nil, fmt.Errorf("create consumer %s of stream %s: %w", cfg.Durable, stream, err)
	}
	if info := consumer.CachedInfo(); info.Delivered.Consumer > 0 {
		if err := remove(ctx, js, stream, cfg.Durable); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("create consumer %s of stream %s: %w", cfg.Durable, stream, errFormerState)
	}
	return consumer, nil
}

func remove(ctx context.Context, js jetstream.JetStream, stream, name string) error {
	if err := js.DeleteConsumer(ctx, stream, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s of stream %s: %w", name, stream, err)
	}
	return nil
}
