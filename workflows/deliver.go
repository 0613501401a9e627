package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/schema"
)

// delivery prepares an action for its way out.
func (r *journeyRun) delivery(request schema.ActionRequest) schema.DeliverInput {
	in := schema.DeliverInput{Request: request, Delivered: schema.Outcome{
		OutcomeID: schema.OutcomeID(schema.ActionDelivered, request.ActionID), Kind: schema.ActionDelivered,
		UserToken: request.UserToken, At: request.DecidedAt, Playbook: r.state.Playbook, Journey: request.Journey,
		JourneyVersion: request.JourneyVersion, EnrollmentID: request.EnrollmentID, StepKey: request.StepKey,
		Action: request.Action, ActionID: request.ActionID,
	}}
	if action := r.books.Playbook(request.JourneyVersion).Actions[request.Action]; action != nil {
		in.Webhook = action.Webhook
	}
	return in
}

// deliver sends an action on its way and goes on: a receiver that is away holds up nobody. What is given up becomes an
// outcome.
func (r *journeyRun) deliver(ctx workflow.Context, in schema.DeliverInput) {
	var delivery *activities.Delivery // names the activity; never called through this
	id := in.Request.ActionID
	r.deliveries[id] = in
	future := call(ctx, delivery.DeliverAction, deliverOptions(&in.Request), in)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var result schema.DeliverResult
		err := future.Get(ctx, &result)
		delete(r.deliveries, id)
		if err == nil {
			return
		}
		failed := in.Delivered
		failed.Kind, failed.OutcomeID = schema.ActionFailed, schema.OutcomeID(schema.ActionFailed, id)
		failed.At, failed.Reason = workflow.Now(ctx).UnixMilli(), activities.Reason(err)
		r.failed = append(r.failed, failed)
		workflow.GetLogger(ctx).Warn("action given up", "action_id", id, "user_token", in.Request.UserToken, "error", err)
	})
}
