package ingest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/onramphq/onramp/internal/recent"
	"github.com/onramphq/onramp/schema"
)

// workflowTaskTimeout is ten times what the slowest task should take: a few milliseconds of rules and two publishes. A task
// that records for longer is kept alive by the SDK.
const workflowTaskTimeout = 3 * time.Second

// Updates are tried where they pay: while few calls are in flight, since under a backlog signals share workflow tasks; and while workers
// answer. Where one gets no answer within updatePatience, none is tried for updatePause.
//
// A user who comes again is asked by update however many calls are in flight, while there is little to hand over: what the workflow answers
// lets most of what they send wait, and without an answer all of it would travel, which keeps the calls in flight. So it must not take a system
// that keeps up to be asked, nor one call without an answer to be forgotten.
const (
	updatesInFlight = 8
	againWithin     = time.Minute
	littleEvents    = 8

	updatePatience = 3 * time.Second
	updatePause    = 10 * time.Second
)

// Batches hands batches to workflows. By update-with-start, which costs Temporal one write and brings back what the workflow says of events
// to come; by signal-with-start where that does not pay or is not to be had: durable when the call returns, whether a worker is up or not.
type Batches struct {
	client   client.Client
	inFlight atomic.Int64
	resume   atomic.Int64 // Unix milliseconds before which no update is tried
	near     *recent.Map[string, int64]
	calls    *recent.Map[string, time.Time] // the last for each user
}

// NewBatches returns a Sender over c.
func NewBatches(c client.Client) *Batches {
	return &Batches{client: c, near: recent.New[string, int64](patienceKept), calls: recent.New[string, time.Time](patienceKept)}
}

// Send implements Sender. A batch whose update got no answer may have been taken: it is sent again by signal, and recognized.
func (b *Batches) Send(ctx context.Context, user schema.JourneyStart, batch schema.EventBatch) (schema.Patience, error) {
	defer b.inFlight.Add(-1)
	now := time.Now()
	few := b.inFlight.Add(1) <= updatesInFlight
	if again := b.again(user.UserToken, now) && len(batch.Events) <= littleEvents; (few || again) && b.mayUpdate(user.UserToken, now) {
		patience, err := b.update(ctx, user, batch)
		if err == nil {
			b.remember(user.UserToken, patience)
			return patience, nil
		}
		if ctx.Err() != nil {
			return schema.Patience{}, ctx.Err()
		}
	}
	return schema.Patience{}, b.signal(ctx, user, batch)
}

// again notes a call, and reports whether it is one more for a user who has had one lately.
func (b *Batches) again(token string, now time.Time) bool {
	last, known := b.calls.Get(token)
	b.calls.Put(token, now)
	return known && now.Sub(last) <= againWithin
}

// mayUpdate reports whether an update is worth trying. Where the next moment that time changes something is near, the workflow would have to put it on
// record first, which costs more than a signal.
func (b *Batches) mayUpdate(token string, now time.Time) bool {
	if now.UnixMilli() < b.resume.Load() {
		return false
	}
	until, known := b.near.Get(token)
	return !known || until <= now.UnixMilli() || until > now.Add(schema.TimeIsNear).UnixMilli()
}

func (b *Batches) remember(token string, patience schema.Patience) {
	if patience.Until == 0 {
		b.near.Delete(token)
		return
	}
	b.near.Put(token, patience.Until)
}

func (b *Batches) update(ctx context.Context, user schema.JourneyStart, batch schema.EventBatch) (schema.Patience, error) {
	began := time.Now()
	call, cancel := context.WithTimeout(ctx, updatePatience)
	defer cancel()
	options := startOptions(user)
	handle, err := b.client.UpdateWithStartWorkflow(call, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: b.client.NewWithStartWorkflowOperation(options, schema.JourneyWorkflow, user),
		UpdateOptions: client.UpdateWorkflowOptions{
			WorkflowID: options.ID, UpdateName: schema.TakeUpdate.Name, Args: []any{batch}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	var patience schema.Patience
	if err == nil {
		err = handle.Get(call, &patience)
	}
	if err != nil && time.Since(began) > updatePatience/2 { // no worker answers; the server may say so a moment before call ends
		b.resume.Store(time.Now().Add(updatePause).UnixMilli())
	}
	return patience, err
}

func (b *Batches) signal(ctx context.Context, user schema.JourneyStart, batch schema.EventBatch) error {
	options := startOptions(user)
	_, err := b.client.SignalWithStartWorkflow(ctx, options.ID, schema.EventsReceived.Name, batch, options, schema.JourneyWorkflow, user)
	if err == nil {
		return nil
	}
	code := schema.CodeUnavailable
	if _, invalid := errors.AsType[*serviceerror.InvalidArgument](err); invalid {
		code = schema.CodeInvalid
	}
	return &schema.Error{Code: code, Message: "signal " + options.ID, Err: err}
}

// startOptions start a user's workflow where it does not run.
func startOptions(user schema.JourneyStart) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID: schema.WorkflowID(user.UserToken), TaskQueue: schema.TaskQueue, Memo: map[string]any{schema.MemoUserID: user.UserID},
		// A task that a dying worker took comes back after this long; the server's own ten seconds would hold up the user.
		WorkflowTaskTimeout:      workflowTaskTimeout,
		StaticSummary:            "Onboarding of one user",
		StaticDetails:            "Where the user is, why, and what happens next stands under *Current details*; the query `explain` gives the same.",
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}
}
