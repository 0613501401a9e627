package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// enrich asks the providers what they know of the user: at first sight, and again when a service has told more of the user, of which
// another address may be made. Nothing waits for it. What they know comes as an event of the user's, so that the state stays what follows
// from the log. While they are being asked the next question waits, so that ten calls in a second are one more question.
func (r *journeyRun) enrich(ctx workflow.Context) {
	if r.enriching {
		r.askAgain = true
		return
	}
	r.enriching = true
	request := schema.EnrichRequest{UserID: r.in.UserID, UserToken: r.in.UserToken, Traits: journey.TraitValues(&r.state)}
	var enrichment *activities.Enrichment // names the activity; never called through this
	future := call(ctx, enrichment.Enrich, enrichOptions(), request)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var result schema.EnrichResult
		if err := future.Get(ctx, &result); err != nil {
			workflow.GetLogger(ctx).Warn("providers not asked to the end", "user_token", r.in.UserToken, "error", err)
		}
		r.enriching = false
		if r.askAgain {
			r.askAgain = false
			r.enrich(ctx)
		}
	})
}
