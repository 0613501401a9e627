package workflows

import (
	"time"

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

// versionTriesAtOnce is the first version of runs that make the first attempt at a webhook within the task that decides the action.
const versionTriesAtOnce = 2

// deliver sends an action on its way. Over NATS that is one durable publish, done at once in a local activity, which costs no
// further transaction. So is a webhook whose receiver is known to be quick; else, and where it failed, that is an activity beside the
// loop: a receiver that is away holds up nobody.
func (r *journeyRun) deliver(ctx workflow.Context, in schema.DeliverInput) {
	var delivery *activities.Delivery // names the activity; never called through this
	if in.Webhook == "" {
		if _, err := callLocal(ctx, delivery.DeliverAction, publishOptions(&in.Request), in); err != nil {
			r.giveUp(ctx, in, activities.Reason(err), err.Error())
		}
		return
	}
	if r.in.Version < versionTriesAtOnce {
		r.deliverBeside(ctx, in)
		return
	}
	tried, err := callLocal(ctx, delivery.TryAction, tryOptions(&in.Request), in)
	if err != nil { // it took too long, or its worker is at fault: nothing is known of the receiver
		tried = schema.TryResult{Became: schema.TriedLater}
	}
	switch tried.Became {
	case schema.TriedDelivered:
	case schema.TriedRefused:
		r.giveUp(ctx, in, string(tried.Reason), tried.Message)
	case schema.TriedFailed:
		r.deliverAfter(ctx, in, time.Duration(tried.PauseMS)*time.Millisecond)
	case schema.TriedLater:
		r.deliverBeside(ctx, in)
	default: // the word of a newer worker
		r.deliverBeside(ctx, in)
	}
}

// deliverAfter delivers beside the loop once the receiver has been left alone for so long. A run that ends before hands the action over.
func (r *journeyRun) deliverAfter(ctx workflow.Context, in schema.DeliverInput, pause time.Duration) {
	r.deliveries[in.Request.ActionID] = in
	workflow.Go(ctx, func(ctx workflow.Context) {
		err := workflow.NewTimerWithOptions(ctx, pause, workflow.TimerOptions{Summary: "leave the receiver of " + in.Request.Action + " alone"}).Get(ctx, nil)
		if err != nil {
			return // the run is canceled
		}
		r.deliverBeside(ctx, in)
	})
}

// deliverBeside delivers in an activity beside the loop, retried for days.
func (r *journeyRun) deliverBeside(ctx workflow.Context, in schema.DeliverInput) {
	var delivery *activities.Delivery // as above
	id := in.Request.ActionID
	r.deliveries[id] = in
	future := call(ctx, delivery.DeliverAction, deliverOptions(&in.Request), in)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var result schema.DeliverResult
		err := future.Get(ctx, &result)
		delete(r.deliveries, id)
		if err != nil {
			r.giveUp(ctx, in, activities.Reason(err), err.Error())
		}
	})
}

// giveUp turns a delivery that failed for good into an outcome, recorded with the next commit. reason is the code of the error, and why what
// it says.
func (r *journeyRun) giveUp(ctx workflow.Context, in schema.DeliverInput, reason, why string) {
	failed := in.Delivered
	failed.Kind, failed.OutcomeID = schema.ActionFailed, schema.OutcomeID(schema.ActionFailed, in.Request.ActionID)
	failed.At, failed.Reason = workflow.Now(ctx).UnixMilli(), reason
	r.failed = append(r.failed, failed)
	workflow.GetLogger(ctx).Warn("action given up", append(logged(in.Delivered.Trace), "action_id", in.Request.ActionID, "user_token", in.Request.UserToken, "error", why)...)
}
