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

// rawSignals sends one signal an event, 32 at a time, as a service would that spoke to Temporal itself, and waits until the
// workflows have taken all. writes is nil where Temporal's cannot be counted.
func rawSignals(ctx context.Context, temporal client.Client, writes func() int64, users, prepare, each int) (measured, error) {
	if writes == nil {
		writes = func() int64 { return 0 }
	}
	w := sdkworker.New(temporal, baselineQueue, sdkworker.Options{MaxConcurrentWorkflowTaskPollers: 4})
	w.RegisterWorkflow(countSignals)
	if err := w.Start(); err != nil {
		return measured{}, fmt.Errorf("start baseline worker: %w", err)
	}
	defer w.Stop()
	label := fmt.Sprint("baseline-", time.Now().UnixNano())
	send := func(first, n int) error {
		var group errgroup.Group
		group.SetLimit(32)
		for k := range n {
			for u := range users {
				group.Go(func() error {
					id := fmt.Sprintf("%s-%d", label, u)
					event := schema.UserEvent{EventID: fmt.Sprintf("%s-%d", id, first+k), EventName: "signed_up", Sequence: 1, OccurredAt: 1, ReceivedAt: 1}
					_, err := temporal.SignalWithStartWorkflow(ctx, id, schema.EventsReceived.Name, schema.EventBatch{Events: []schema.UserEvent{event}},
						client.StartWorkflowOptions{ID: id, TaskQueue: baselineQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING},
						countSignals, prepare+each)
					return err
				})
			}
		}
		return group.Wait()
	}
	if err := send(0, prepare); err != nil {
		return measured{}, fmt.Errorf("send baseline signals: %w", err)
	}
	before := writes()
	start, cpu := time.Now(), cpuTime()
	if err := send(prepare, each); err != nil {
		return measured{}, fmt.Errorf("send baseline signals: %w", err)
	}
	for u := range users {
		if err := temporal.GetWorkflow(ctx, fmt.Sprintf("%s-%d", label, u), "").Get(ctx, nil); err != nil {
			return measured{}, fmt.Errorf("wait for baseline workflow: %w", err)
		}
	}
	events := float64(users * each)
	return measured{
		perSecond: events / time.Since(start).Seconds(), writes: float64(writes()-before) / events,
		cpu: float64((cpuTime() - cpu).Microseconds()) / events,
	}, nil
}
