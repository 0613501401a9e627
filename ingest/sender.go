package ingest

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/onramphq/onramp/schema"
)

// workflowTaskTimeout is ten times what the slowest task should take: a few milliseconds of rules and two publishes. A task
// that records for longer is kept alive by the SDK.
const workflowTaskTimeout = 3 * time.Second

// Signals sends batches by signal-with-start: durable when the call returns, whether a worker is up or not.
type Signals struct {
	client client.Client
}

// NewSignals returns a Sender over c.
func NewSignals(c client.Client) *Signals { return &Signals{client: c} }

// Send implements Sender.
func (s *Signals) Send(ctx context.Context, user schema.JourneyStart, batch schema.EventBatch) error {
	id := schema.WorkflowID(user.UserToken)
	_, err := s.client.SignalWithStartWorkflow(ctx, id, schema.EventsReceived.Name, batch, client.StartWorkflowOptions{
		ID: id, TaskQueue: schema.TaskQueue, Memo: map[string]any{schema.MemoUserID: user.UserID},
		// A task that a dying worker took comes back after this long; the server's own ten seconds would hold up the user.
		WorkflowTaskTimeout:      workflowTaskTimeout,
		StaticSummary:            "Onboarding of one user",
		StaticDetails:            "Where the user is, why, and what happens next stands under *Current details*; the query `explain` gives the same.",
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, schema.JourneyWorkflow, user)
	if err == nil {
		return nil
	}
	code := schema.CodeUnavailable
	if _, invalid := errors.AsType[*serviceerror.InvalidArgument](err); invalid {
		code = schema.CodeInvalid
	}
	return &schema.Error{Code: code, Message: "signal " + id, Err: err}
}
