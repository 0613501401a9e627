package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/schema"
)

// How readiness is asked. A canary that has come through stands for three seconds, and the next may take four and a half: what breaks is
// seen within ten seconds, with time for who asks once a second.
const (
	canaryLimit  = 4500 * time.Millisecond
	canaryKeep   = 3 * time.Second
	canaryShared = time.Second // so long the consumers are asked about one canary
	serverKeep   = time.Second
)

// canaryWorkflow is asked for and is never there: the answer comes from where the histories are kept all the same.
const canaryWorkflow = "onramp-canary"

// pollerSilence is how long a worker may not have been heard of: it asks for a task, waits for a minute at most, and asks again.
const pollerSilence = 75 * time.Second

// checks ask the servers that this process is connected to, and whether an event comes through.
func (e *engine) checks() []api.Check {
	bird := &canary{js: e.js, logger: e.logger}
	checks := []api.Check{
		{Name: "nats", Keep: serverKeep, Run: func(ctx context.Context) error { _, err := e.js.AccountInfo(ctx); return err }},
		bird.check("ingest", schema.IngestConsumer),
		bird.check("archive", schema.ArchiveConsumer),
	}
	if e.temporal != nil {
		checks = append(checks,
			api.Check{Name: "temporal", Keep: serverKeep, Run: func(ctx context.Context) error { return temporalAnswers(ctx, e.temporal) }},
			api.Check{Name: "workers", Keep: serverKeep, Run: func(ctx context.Context) error { return workersPoll(ctx, e.temporal) }})
	}
	if e.store != nil || e.late != nil {
		checks = append(checks, api.Check{Name: "clickhouse", Keep: serverKeep, Run: func(ctx context.Context) error {
			store, err := e.stored()
			if err != nil {
				return err
			}
			return store.Conn().Ping(ctx)
		}})
	}
	return checks
}

// temporalAnswers passes where Temporal has looked into its store.
func temporalAnswers(ctx context.Context, c client.Client) error {
	_, err := c.DescribeWorkflowExecution(ctx, canaryWorkflow, "")
	if _, none := errors.AsType[*serviceerror.NotFound](err); none {
		return nil
	}
	return err
}

// workersPoll passes where somebody asks for tasks of both kinds.
func workersPoll(ctx context.Context, c client.Client) error {
	for name, kind := range map[string]enumspb.TaskQueueType{"workflows": enumspb.TASK_QUEUE_TYPE_WORKFLOW, "activities": enumspb.TASK_QUEUE_TYPE_ACTIVITY} {
		queue, err := c.DescribeTaskQueue(ctx, schema.TaskQueue, kind)
		if err != nil {
			return err
		}
		var last time.Time
		for _, poller := range queue.GetPollers() {
			if at := poller.GetLastAccessTime().AsTime(); at.After(last) {
				last = at
			}
		}
		if time.Since(last) > pollerSilence {
			return fmt.Errorf("no worker has asked for tasks of %s for %s", name, pollerSilence)
		}
	}
	return nil
}

// canary is an event of nobody that is sent the way of all events, to see whether it arrives.
type canary struct {
	js     jetstream.JetStream
	logger *slog.Logger

	mu       sync.Mutex
	began    time.Time // of sending the newest
	sequence uint64    // of the newest that is in the stream
	err      error     // of sending the newest
}

// check passes where a consumer has settled a canary, and so everything before it, in time.
func (c *canary) check(name, consumer string) api.Check {
	return api.Check{Name: name, Timeout: canaryLimit, Keep: canaryKeep, Run: func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, canaryLimit-100*time.Millisecond) // the answer below says more than that time is up
		defer cancel()
		sequence, err := c.send(ctx)
		if err != nil {
			return fmt.Errorf("no canary could be sent: %w", err)
		}
		return c.passes(ctx, consumer, sequence)
	}}
}

// send publishes a canary, or names the one that another check has just sent.
func (c *canary) send(ctx context.Context) (sequence uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.began) < canaryShared {
		return c.sequence, c.err
	}
	c.began = time.Now()
	former := c.sequence
	if c.sequence, c.err = c.publish(ctx); c.err != nil {
		c.sequence = former
		return 0, c.err
	}
	c.remove(ctx, former)
	return c.sequence, nil
}

func (c *canary) publish(ctx context.Context) (uint64, error) {
	if !c.js.Conn().IsConnected() { // the client would keep it, and send it when nobody waits any more
		return 0, errors.New("NATS is away")
	}
	body, err := json.Marshal(schema.Event{EventID: "canary-" + rand.Text(), EventName: schema.CanaryEvent, UserID: schema.CanaryEvent})
	if err != nil {
		return 0, fmt.Errorf("write canary: %w", err)
	}
	ack, err := c.js.Publish(ctx, schema.CanarySubject, body, jetstream.WithExpectStream(schema.EventsStream))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// remove takes a canary out of the stream, so that a log that is kept for ever does not fill with them. One with which the stream begins
// stays: nobody is to take it for a stream that was cut. Where it cannot be taken out it does no harm.
func (c *canary) remove(ctx context.Context, sequence uint64) {
	if sequence == 0 {
		return
	}
	stream, err := c.js.Stream(ctx, schema.EventsStream)
	if err == nil && stream.CachedInfo().State.FirstSeq < sequence {
		err = stream.DeleteMsg(ctx, sequence)
	}
	if err != nil {
		c.logger.DebugContext(ctx, "canary not taken away", slog.Uint64("sequence", sequence), slog.Any("error", err))
	}
}

// passes waits until a consumer has settled everything up to sequence.
func (c *canary) passes(ctx context.Context, name string, sequence uint64) error {
	said := "NATS does not answer"
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		consumer, err := c.js.Consumer(ctx, schema.EventsStream, name)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound):
			said = "there is no such consumer"
		case err == nil && consumer.CachedInfo().AckFloor.Stream >= sequence:
			return nil
		case err == nil:
			said = fmt.Sprintf("it has settled all up to %d", consumer.CachedInfo().AckFloor.Stream)
		}
		if waitUntil(ctx, time.Now().Add(wait)) != nil {
			return fmt.Errorf("consumer %s has not settled the canary, event %d, in time: %s", name, sequence, said)
		}
	}
}
