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

// deliver sends an action on its way. Over NATS that is one durable publish, done at once in a local activity, which costs no
// further transaction. To a webhook it is an activity beside the loop: a receiver that is away holds up nobody.
func (r *journeyRun) deliver(ctx workflow.Context, in schema.DeliverInput) {
	var delivery *activities.Delivery // names the activity; never called through this
	if in.Webhook == "" {
		if _, err := callLocal(ctx, delivery.DeliverAction, publishOptions(&in.Request), in); err != nil {
			r.giveUp(ctx, in, err)
		}
		return
	}
	id := in.Request.ActionID
	r.deliveries[id] = in
	future := call(ctx, delivery.DeliverAction, deliverOptions(&in.Request), in)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var result schema.DeliverResult
		err := future.Get(ctx, &result)
		delete(r.deliveries, id)
		if err != nil {
			r.giveUp(ctx, in, err)
		}
	})
}

// giveUp turns a delivery that failed for good into an outcome, recorded with the next commit.
func (r *journeyRun) giveUp(ctx workflow.Context, in schema.DeliverInput, err error) {
	failed := in.Delivered
	failed.Kind, failed.OutcomeID = schema.ActionFailed, schema.OutcomeID(schema.ActionFailed, in.Request.ActionID)
	failed.At, failed.Reason = workflow.Now(ctx).UnixMilli(), activities.Reason(err)
	r.failed = append(r.failed, failed)
	workflow.GetLogger(ctx).Warn("action given up", append(logged(in.Delivered.Trace), "action_id", in.Request.ActionID, "user_token", in.Request.UserToken, "error", err)...)
}
