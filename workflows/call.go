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

// receive takes one waiting signal, if there is one.
func receive[T any](_ schema.Signal[T], channel workflow.ReceiveChannel) (T, bool) {
	var message T
	ok := channel.ReceiveAsync(&message)
	return message, ok
}

// answer registers a query.
func answer[T any](ctx workflow.Context, query schema.Query[T], handler func() (T, error)) error {
	return workflow.SetQueryHandlerWithOptions(ctx, query.Name, handler, workflow.QueryHandlerOptions{Description: query.Description})
}
