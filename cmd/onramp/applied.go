package main

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/onramphq/onramp/schema"
)

// appliedRetry is how long to leave a workflow alone that is not there yet, or was just continued as new.
const appliedRetry = 10 * time.Millisecond

// applied waits until the workflow of a user has taken an event. An event that no playbook reads is as good as taken: ingest passes it
// on to nobody, and the profile stays as it is. The workflow is not started from here: ingest does that, in the order of the stream.
func (e *engine) applied(ctx context.Context, token string, event *schema.Received) (schema.Profile, error) {
	current, err := e.library.Current()
	if err != nil {
		return schema.Profile{}, &schema.Error{Code: schema.CodeUnavailable, Message: "wait for " + token, Err: err}
	}
	if !current.Reads(event.EventName, len(event.Traits) > 0) {
		profile, _ := e.mirror.Get(token)
		profile.UserToken = token // of somebody of whom nothing is known yet too
		return profile, nil
	}
	for {
		profile, err := e.awaitEvent(ctx, token, event.Sequence)
		if err == nil {
			return profile, nil
		}
		_, absent := errors.AsType[*serviceerror.NotFound](err)
		_, continued := errors.AsType[*serviceerror.WorkflowNotReady](err)
		if ctx.Err() == nil && !absent && !continued {
			e.logger.DebugContext(ctx, "asking again for an event that is on its way")
		}
		select {
		case <-time.After(appliedRetry):
		case <-ctx.Done():
			return schema.Profile{}, &schema.Error{Code: schema.CodeUnavailable, Message: "wait for " + token, Err: errors.Join(ctx.Err(), err)}
		}
	}
}

func (e *engine) awaitEvent(ctx context.Context, token string, sequence uint64) (schema.Profile, error) {
	handle, err := e.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: schema.WorkflowID(token), UpdateName: schema.AwaitUpdate.Name, Args: []any{schema.AwaitInput{Sequence: sequence}},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return schema.Profile{}, err
	}
	var profile schema.Profile
	return profile, handle.Get(ctx, &profile)
}
