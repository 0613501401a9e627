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

// transportBatch is how many events one call carries where the ways to hand a batch over are compared; transportCalls how many
// calls each user gets, one after the other.
const (
	transportBatch = 20
	transportCalls = 3
)

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

// transport measures one way to hand batches over, 32 calls in flight and one a user, to workflows that run already.
func transport(ctx context.Context, temporal client.Client, writes func() int64, users int, byUpdate bool) (measured, error) {
	w := sdkworker.New(temporal, baselineQueue, sdkworker.Options{MaxConcurrentWorkflowTaskPollers: 4})
	w.RegisterWorkflow(countBatches)
	if err := w.Start(); err != nil {
		return measured{}, fmt.Errorf("start worker: %w", err)
	}
	defer w.Stop()
	label := fmt.Sprint("transport-", time.Now().UnixNano())
	events := make([]schema.UserEvent, transportBatch)
	for i := range events {
		events[i] = schema.UserEvent{EventID: fmt.Sprintf("%s-%d", label, i), EventName: "feature_used", Sequence: 1, OccurredAt: 1, ReceivedAt: 1}
	}
	send := func(calls int, byUpdate bool) error {
		var group errgroup.Group
		group.SetLimit(32)
		for u := range users {
			group.Go(func() error {
				for range calls {
					if err := handOver(ctx, temporal, fmt.Sprintf("%s-%d", label, u), schema.EventBatch{Events: events}, byUpdate); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return group.Wait()
	}
	if err := send(1, false); err != nil {
		return measured{}, err
	}
	before := writes()
	start, cpu := time.Now(), cpuTime()
	if err := send(transportCalls, byUpdate); err != nil {
		return measured{}, err
	}
	for u := range users {
		if err := temporal.GetWorkflow(ctx, fmt.Sprintf("%s-%d", label, u), "").Get(ctx, nil); err != nil {
			return measured{}, fmt.Errorf("wait for workflow: %w", err)
		}
	}
	sent := float64(users * transportCalls * transportBatch)
	return measured{
		perSecond: sent / time.Since(start).Seconds(), writes: float64(writes()-before) / sent,
		cpu: float64((cpuTime() - cpu).Microseconds()) / sent,
	}, nil
}

func handOver(ctx context.Context, temporal client.Client, id string, batch schema.EventBatch, byUpdate bool) error {
	options := client.StartWorkflowOptions{
		ID: id, TaskQueue: baselineQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}
	if !byUpdate {
		_, err := temporal.SignalWithStartWorkflow(ctx, id, schema.EventsReceived.Name, batch, options, countBatches, 1+transportCalls)
		return err
	}
	handle, err := temporal.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: temporal.NewWithStartWorkflowOperation(options, countBatches, 1+transportCalls),
		UpdateOptions: client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateName: batchUpdate, Args: []any{batch}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, nil)
}
