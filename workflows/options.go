package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/schema"
)

// DefaultMaxHistory is the number of history events after which a run continues as new, where its start says nothing else. Runs that began
// without a number of their own replay with this one: it never changes. Those that begin now have schema.RunLength.
const DefaultMaxHistory = 600

// drainPatience is how long a run waits for deliveries in flight before it continues as new and hands them over.
const drainPatience = 10 * time.Second

// deliverOptions are for one action. Its id is the activity's id, so that a person finds it in the history by the id a
// receiver quotes.
func deliverOptions(request *schema.ActionRequest) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		ActivityID:          request.ActionID,
		Summary:             request.Action + " for " + request.Journey + "/" + request.StepKey,
		StartToCloseTimeout: 30 * time.Second, // a webhook gives up after 20 s
		// Three days of retries outlast a receiver's weekend; after that the action would puzzle more than help.
		ScheduleToCloseTimeout: 72 * time.Hour,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Hour},
	}
}

// publishOptions are for an action over NATS: tried until JetStream has it, because nobody but JetStream can refuse it.
func publishOptions(request *schema.ActionRequest) workflow.LocalActivityOptions {
	options := commitOptions()
	options.Summary = request.Action + " for " + request.Journey + "/" + request.StepKey
	return options
}

// tryOptions are for the first attempt at a webhook within the task: one, which answers after little more than a second whatever the receiver does.
func tryOptions(request *schema.ActionRequest) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		Summary:             "try " + request.Action + " for " + request.Journey + "/" + request.StepKey,
		StartToCloseTimeout: 5 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
	}
}

// takeOverOptions are for taking over the workflow of somebody who becomes one with the user: tried until that workflow has answered, because
// the user's next events are to be told by both logs. The events wait meanwhile.
func takeOverOptions(from string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary:             "take over " + from,
		StartToCloseTimeout: 30 * time.Second, // one attempt waits for 20 s
		HeartbeatTimeout:    5 * activities.HandOverBeat,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second},
	}
}

// enrichOptions are for asking providers: for a day at most, since what they say then still helps, and a dozen times, since it need not be
// had at any price.
func enrichOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary:                "ask providers about the user",
		StartToCloseTimeout:    time.Minute,
		ScheduleToCloseTimeout: 24 * time.Hour,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 5 * time.Second, BackoffCoefficient: 2, MaximumInterval: time.Hour, MaximumAttempts: 12},
	}
}

// forEver bounds the retries of what may never be given up. Left out, the SDK takes the bound of one attempt for that of all of
// them: a workflow would fail, and its user begin anew, where JetStream is away for five seconds.
const forEver = 10 * 365 * 24 * time.Hour

// commitOptions are for recording a decision: retried for ever, because what is decided must be recorded and JetStream
// comes back.
func commitOptions() workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{
		Summary:             "record outcomes and profile",
		StartToCloseTimeout: 5 * time.Second, ScheduleToCloseTimeout: forEver,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second},
	}
}
