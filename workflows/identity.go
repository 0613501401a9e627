package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// takeOver brings what is known of somebody who becomes one with the user by an event; nil where that has been done already. What has been
// decided before is carried out first: it is not to wait for another's workflow. Deliveries that were in flight there go on here.
func (r *journeyRun) takeOver(ctx workflow.Context, event *schema.UserEvent, batch *schema.EventBatch, all *journey.Decision) (*journey.State, error) {
	if event.From == "" || r.state.HasMerged(event.From) {
		return nil, nil //nolint:nilnil // nobody to take over
	}
	if len(all.Outcomes) > 0 || len(r.failed) > 0 {
		if err := r.execute(ctx, *all); err != nil {
			return nil, err
		}
		*all = journey.Decision{}
	}
	link := *event
	link.Properties, link.Traits = nil, nil
	var identity *activities.Identity // names the activity; never called through this
	over, err := callNow(ctx, identity.TakeOver, takeOverOptions(event.From), schema.HandOverRequest{
		From: event.From, Into: r.in.UserToken, Playbook: batch.Playbook, Revision: batch.Revision, Event: link,
	})
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", event.From, err) // only where this run is canceled: there is no last attempt
	}
	taken, err := journey.DecodeState(over.State, event.From)
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	if taken.Playbook == "" {
		r.merged = append(r.merged, event.From)
	} else {
		r.need(taken.Versions()...)
	}
	for _, undelivered := range over.Undelivered { // webhooks: their first attempt is over
		r.deliverBeside(ctx, undelivered)
	}
	return &taken, nil
}

// askedToHandOver returns the request of who takes over, if there is one.
func (r *journeyRun) askedToHandOver(ctx workflow.Context) (schema.HandOverRequest, bool) {
	return receive(ctx, schema.HandOver, r.over, func(request *schema.HandOverRequest) error { return request.Check(r.in.UserToken) })
}

// finish ends the run of a user who has become another, with all that the other must know. Every event of the user stands before the signal
// that asks for it.
func (r *journeyRun) finish(ctx workflow.Context, request schema.HandOverRequest) (*schema.HandedOver, error) {
	for r.signal.Len() > 0 || r.posted.waits() {
		if err := r.handle(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.answerPosted(ctx); err != nil {
		return nil, err
	}
	r.need(request.Playbook)
	state, decision := journey.HandOver(r.books, r.state, request, workflow.Now(ctx).UnixMilli())
	r.state = state
	if err := r.execute(ctx, decision); err != nil {
		return nil, err
	}
	over := &schema.HandedOver{Into: request.Into, Sequence: request.Event.Sequence, Undelivered: r.undelivered()}
	var err error
	if over.State, err = journey.EncodeState(&r.state); err != nil {
		return nil, fmt.Errorf("hand over %s: %w", r.in.UserToken, err)
	}
	return over, nil
}

// undelivered are the deliveries in flight, in an order that is always the same.
func (r *journeyRun) undelivered() []schema.DeliverInput {
	var list []schema.DeliverInput
	for _, id := range workflow.DeterministicKeys(r.deliveries) {
		list = append(list, r.deliveries[id])
	}
	return list
}
