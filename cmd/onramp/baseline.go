package main

import (
	"context"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/onramphq/onramp/schema"
)

const baselineQueue = "onramp-baseline"

// countSignals is the baseline's workflow: it takes so many signals and ends.
func countSignals(ctx workflow.Context, want int) error {
	channel := workflow.GetSignalChannel(ctx, schema.EventsReceived.Name)
	for range want {
		var batch schema.EventBatch
		channel.Receive(ctx, &batch)
	}
	return nil
}

// inFlight is how many calls are under way at a time where Temporal is measured alone.
const inFlight = 32

// counting is workflows, one a user, that count what they are sent and end when they have it all.
type counting struct {
	temporal client.Client
	writes   func() int64 // nil: Temporal's writes cannot be counted
	workflow any
	label    string
	users    int
}

func (c *counting) id(user int) string { return fmt.Sprintf("%s-%d", c.label, user) }

// options start a user's workflow where it does not run yet.
func (c *counting) options(user int) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{ID: c.id(user), TaskQueue: baselineQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING}
}

// measure lets prepare send what is not measured, and send the rest, which is so many events, until every workflow has ended.
func (c *counting) measure(ctx context.Context, events int, prepare, send func() error) (measured, error) {
	w := sdkworker.New(c.temporal, baselineQueue, sdkworker.Options{MaxConcurrentWorkflowTaskPollers: 4})
	w.RegisterWorkflow(c.workflow)
	if err := w.Start(); err != nil {
		return measured{}, fmt.Errorf("start worker of %s: %w", c.label, err)
	}
	defer w.Stop()
	if err := prepare(); err != nil {
		return measured{}, fmt.Errorf("prepare %s: %w", c.label, err)
	}
	written := func() int64 { return 0 }
	if c.writes != nil {
		written = c.writes
	}
	before := written()
	start, cpu := time.Now(), cpuTime()
	if err := send(); err != nil {
		return measured{}, fmt.Errorf("send %s: %w", c.label, err)
	}
	for u := range c.users {
		if err := c.temporal.GetWorkflow(ctx, c.id(u), "").Get(ctx, nil); err != nil {
			return measured{}, fmt.Errorf("wait for workflow %s: %w", c.id(u), err)
		}
	}
	n := float64(events)
	return measured{
		perSecond: n / time.Since(start).Seconds(), writes: float64(written()-before) / n,
		cpu: float64((cpuTime() - cpu).Microseconds()) / n,
	}, nil
}

// rawSignals sends one signal an event, as a service would that spoke to Temporal itself, and waits until the workflows have taken
// all. writes is nil where Temporal's cannot be counted.
func rawSignals(ctx context.Context, temporal client.Client, writes func() int64, users, prepare, each int) (measured, error) {
	c := &counting{temporal: temporal, writes: writes, workflow: countSignals, label: fmt.Sprint("baseline-", time.Now().UnixNano()), users: users}
	send := func(first, n int) error {
		var group errgroup.Group
		group.SetLimit(inFlight)
		for k := range n {
			for u := range users {
				group.Go(func() error {
					event := schema.UserEvent{EventID: fmt.Sprintf("%s-%d", c.id(u), first+k), EventName: "signed_up", Sequence: 1, OccurredAt: 1, ReceivedAt: 1}
					_, err := temporal.SignalWithStartWorkflow(ctx, c.id(u), schema.EventsReceived.Name, schema.EventBatch{Events: []schema.UserEvent{event}},
						c.options(u), countSignals, prepare+each)
					return err
				})
			}
		}
		return group.Wait()
	}
	return c.measure(ctx, users*each, func() error { return send(0, prepare) }, func() error { return send(prepare, each) })
}
