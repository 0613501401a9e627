package workflows

import (
	"context"

	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/schema"
)

// call starts a remote activity. The SDK takes any argument for any activity and runs it with zero values where they do not
// fit; here a wrong one does not compile.
func call[I, O any](ctx workflow.Context, activity func(context.Context, I) (O, error), options workflow.ActivityOptions, in I) workflow.Future {
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, in)
}

// callLocal runs a local activity to its end.
func callLocal[I, O any](ctx workflow.Context, activity func(context.Context, I) (O, error), options workflow.LocalActivityOptions, in I) (O, error) {
	var out O
	err := workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, options), activity, in).Get(ctx, &out)
	return out, err
}

// callNow runs a remote activity to its end.
func callNow[I, O any](ctx workflow.Context, activity func(context.Context, I) (O, error), options workflow.ActivityOptions, in I) (O, error) {
	var out O
	err := call(ctx, activity, options, in).Get(ctx, &out)
	return out, err
}

// receive takes one waiting signal, if there is one. What is no message of that signal, because it cannot be decoded or check does not let it
// pass, is counted and left out.
func receive[T any](ctx workflow.Context, signal schema.Signal[T], channel workflow.ReceiveChannel, check func(*T) error) (T, bool) {
	for channel.Len() > 0 {
		var message schema.Whole[T]
		if !channel.ReceiveAsync(&message) {
			break // nothing was left but what cannot be decoded, which the SDK has counted
		}
		err := check(&message.Value)
		if err == nil {
			return message.Value, true
		}
		ignore(ctx, signal.Name, err)
	}
	return *new(T), false
}

// ignoreStrangers takes signals out of the way that no workflow of ours listens to.
func ignoreStrangers(ctx workflow.Context) {
	for _, name := range workflow.GetUnhandledSignalNames(ctx) { // in no order: nothing follows but the count
		if name == schema.EventsReceived.Name || name == schema.HandOver.Name {
			continue
		}
		for channel := workflow.GetSignalChannel(ctx, name); channel.ReceiveAsync(nil); {
			ignore(ctx, "another", nil)
		}
	}
}

// corrupted is the SDK's counter of signals that cannot be decoded. Those that can be, and are none of ours, are among them.
const corrupted = "temporal_corrupted_signals"

// ignore counts a signal that is left out. The name of a stranger and what it carries stay out of the log: they are anybody's.
func ignore(ctx workflow.Context, signal string, why error) {
	workflow.GetMetricsHandler(ctx).Counter(corrupted).Inc(1)
	workflow.GetLogger(ctx).Error("signal ignored", "signal", signal, "error", why)
}

// answer registers a query.
func answer[T any](ctx workflow.Context, query schema.Query[T], handler func() (T, error)) error {
	return workflow.SetQueryHandlerWithOptions(ctx, query.Name, handler, workflow.QueryHandlerOptions{Description: query.Description})
}
