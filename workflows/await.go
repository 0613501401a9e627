package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// awaited lets a caller wait until an event has been taken and what follows is on record: the update completes with the profile that
// includes it. It writes nothing and decides nothing, so a history with such updates differs from one without in these alone. A run
// that continues as new leaves its waiters, who ask the next.
func (r *journeyRun) awaited(ctx workflow.Context) error {
	r.taken = r.state.Seen.Newest()
	err := workflow.SetUpdateHandlerWithOptions(ctx, schema.AwaitUpdate.Name, func(ctx workflow.Context, in schema.AwaitInput) (schema.Profile, error) {
		if err := workflow.Await(ctx, func() bool { return r.taken >= in.Sequence }); err != nil {
			return schema.Profile{}, err
		}
		return journey.Profile(r.books, &r.state), nil
	}, workflow.UpdateHandlerOptions{
		Description: "Waits until the event at a position of ONRAMP_EVENTS has been taken, and answers with the profile", UnfinishedPolicy: workflow.HandlerUnfinishedPolicyAbandon,
	})
	if err != nil {
		return fmt.Errorf("register update %s: %w", schema.AwaitUpdate.Name, err)
	}
	return nil
}
