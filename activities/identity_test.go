package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/mocks"
	"go.temporal.io/sdk/temporal"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/schema"
)

// TestTakeOver: what a workflow ended with is taken over however often it is asked for, and nobody waits for what will never come.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	gone := serviceerror.NewNotFound("workflow execution already completed")
	ours := schema.HandedOver{Into: "u_ann", Sequence: 7, State: []byte(`{"token":"u_visitor"}`), Undelivered: []schema.DeliverInput{input("hook")}}
	nothing := schema.HandedOver{Into: "u_ann", Sequence: 7}
	for name, test := range map[string]struct {
		signal error
		result *schema.HandedOver
		ended  error
		want   schema.HandedOver
		fails  bool
	}{
		"it hands over":                       {result: &ours, want: ours},
		"it has handed over":                  {signal: gone, result: &ours, want: ours},
		"there was never a workflow":          {signal: gone, ended: gone, want: nothing},
		"an operator ended it":                {signal: gone, ended: &temporal.WorkflowExecutionError{}, want: nothing},
		"it has become another":               {signal: gone, result: &schema.HandedOver{Into: "u_ben", State: ours.State}, want: nothing},
		"Temporal does not take the signal":   {signal: serviceerror.NewUnavailable("away"), fails: true},
		"Temporal does not answer for it now": {ended: errors.New("away"), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, client := &mocks.WorkflowRun{}, &mocks.Client{}
			request := schema.HandOverRequest{From: "u_visitor", Into: "u_ann", Event: schema.UserEvent{Sequence: 7}}
			client.On("SignalWorkflow", mock.Anything, schema.WorkflowID("u_visitor"), "", schema.HandOver.Name, request).Return(test.signal)
			client.On("GetWorkflow", mock.Anything, schema.WorkflowID("u_visitor"), "").Return(run)
			run.On("Get", mock.Anything, mock.Anything).Return(func(_ context.Context, into any) error {
				if test.result != nil {
					*into.(*schema.HandedOver) = *test.result
				}
				return test.ended
			})
			identity := activities.NewIdentity(client)
			value, err := environment(t, identity).ExecuteActivity(identity.TakeOver, request)
			if test.fails {
				failure(t, err, schema.CodeUnavailable, true, 0)
				return
			}
			require.NoError(t, err)
			var over schema.HandedOver
			require.NoError(t, value.Get(&over))
			want, err := json.Marshal(test.want)
			require.NoError(t, err)
			got, err := json.Marshal(over)
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(got))
		})
	}
}
