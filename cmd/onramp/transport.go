package main

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/onramphq/onramp/schema"
)

// transportCalls is how many calls each user gets, one after the other, where the ways to hand a batch over are compared.
const transportCalls = 3

const batchUpdate = "batch"

// countBatches is a workflow that takes batches by signal and by update, counts, and ends when it has so many.
func countBatches(ctx workflow.Context, want int) error {
	got := 0
	if err := workflow.SetUpdateHandler(ctx, batchUpdate, func(_ workflow.Context, _ schema.EventBatch) error {
		got++
		return nil
	}); err != nil {
		return err
	}
	channel := workflow.GetSignalChannel(ctx, schema.EventsReceived.Name)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var batch schema.EventBatch
			channel.Receive(ctx, &batch)
			got++
		}
	})
	return workflow.Await(ctx, func() bool { return got >= want })
}

// transport measures one way to hand batches of so many events over, one call a user at a time, to workflows that run already.
func transport(ctx context.Context, temporal client.Client, writes func() int64, users, events int, byUpdate bool) (measured, error) {
	c := &counting{temporal: temporal, writes: writes, workflow: countBatches, label: fmt.Sprint("transport-", time.Now().UnixNano()), users: users}
	batch := schema.EventBatch{Events: make([]schema.UserEvent, events)}
	for i := range batch.Events {
		batch.Events[i] = schema.UserEvent{EventID: fmt.Sprintf("%s-%d", c.label, i), EventName: "feature_used", Sequence: 1, OccurredAt: 1, ReceivedAt: 1}
	}
	send := func(calls int, byUpdate bool) error {
		var group errgroup.Group
		group.SetLimit(inFlight)
		for u := range users {
			group.Go(func() error {
				for range calls {
					if err := c.handOver(ctx, u, batch, byUpdate); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return group.Wait()
	}
	return c.measure(ctx, users*transportCalls*events, func() error { return send(1, false) }, func() error { return send(transportCalls, byUpdate) })
}

func (c *counting) handOver(ctx context.Context, user int, batch schema.EventBatch, byUpdate bool) error {
	if !byUpdate {
		_, err := c.temporal.SignalWithStartWorkflow(ctx, c.id(user), schema.EventsReceived.Name, batch, c.options(user), countBatches, 1+transportCalls)
		return err
	}
	handle, err := c.temporal.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: c.temporal.NewWithStartWorkflowOperation(c.options(user), countBatches, 1+transportCalls),
		UpdateOptions: client.UpdateWorkflowOptions{
			WorkflowID: c.id(user), UpdateName: batchUpdate, Args: []any{batch}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, nil)
}
