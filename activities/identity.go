package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/onramphq/onramp/schema"
)

// Identity makes two users one. Its zero value only names the activity; NewIdentity makes one that runs.
type Identity struct {
	client client.Client
}

// NewIdentity returns an Identity that asks the workflows behind c.
func NewIdentity(c client.Client) *Identity { return &Identity{client: c} }

// handOverPatience is how long one attempt waits for a workflow to end. It is shorter than the activity's own time, so that an attempt that
// waits in vain says so.
const handOverPatience = 20 * time.Second

// HandOverBeat is how often an attempt that waits says that it is alive, so that the attempt of a worker that died is followed by another
// long before its time is over.
const HandOverBeat = time.Second

// beat records a heartbeat now and again until ctx ends.
func beat(ctx context.Context) {
	ticker := time.NewTicker(HandOverBeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}

// TakeOver asks the workflow of request.From to hand over, and returns what it ended with. However often it is asked the answer is the same:
// a workflow that has ended is not asked, its result is read. Of a user without a workflow, of one whom an operator ended and of one who has
// become somebody else nothing is to be had, and the answer holds no state: nobody waits for ever for what will never come. Errors:
// unavailable, where Temporal or the workflow does not answer in time.
func (i *Identity) TakeOver(ctx context.Context, request schema.HandOverRequest) (schema.HandedOver, error) {
	id := schema.WorkflowID(request.From)
	err := i.client.SignalWorkflow(ctx, id, "", schema.HandOver.Name, request)
	if _, gone := errors.AsType[*serviceerror.NotFound](err); err != nil && !gone {
		return schema.HandedOver{}, translate(&schema.Error{Code: schema.CodeUnavailable, Message: "signal " + id, Err: err}, 0)
	}
	bounded, cancel := context.WithTimeout(ctx, handOverPatience)
	defer cancel()
	go beat(bounded)
	over, nothing := schema.HandedOver{}, schema.HandedOver{Into: request.Into, Sequence: request.Event.Sequence}
	err = i.client.GetWorkflow(ctx, id, "").Get(bounded, &over)
	if _, unknown := errors.AsType[*serviceerror.NotFound](err); unknown {
		return nothing, nil
	}
	if ended, isEnd := errors.AsType[*temporal.WorkflowExecutionError](err); isEnd {
		activity.GetLogger(ctx).Warn("nothing to take over: the workflow was ended", "user_token", request.From, "error", ended)
		return nothing, nil
	}
	switch {
	case bounded.Err() != nil:
		return schema.HandedOver{}, translate(&schema.Error{Code: schema.CodeUnavailable, Message: id + " has not handed over yet", Err: bounded.Err()}, 0)
	case err != nil:
		return schema.HandedOver{}, translate(&schema.Error{Code: schema.CodeUnavailable, Message: "read what " + id + " ended with", Err: err}, 0)
	case over.Into != request.Into:
		activity.GetLogger(ctx).Warn("nothing to take over: the user has become another", "user_token", request.From, "into", over.Into)
		return nothing, nil
	}
	return over, nil
}
