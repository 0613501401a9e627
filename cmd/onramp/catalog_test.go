package main

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/onramphq/onramp/schema"
)

// counted sums a metric of a process over its labels, where those that labels names are so.
func (p *process) counted(t *testing.T, name, labels string) int {
	t.Helper()
	_, text := get(t, p.addrs["admin"]+"/metrics")
	sum := 0.
	for _, line := range regexp.MustCompile(`(?m)^`+name+`\{(.*)\} (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(line[1], labels) {
			n, err := strconv.ParseFloat(line[2], 64)
			require.NoError(t, err)
			sum += n
		}
	}
	return int(sum)
}

// TestCatalogTemporal is the bad input that comes straight to Temporal, around ingest: what is no message of a user's workflow is counted and
// harms nobody, and who asks for nonsense is told so.
func TestCatalogTemporal(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir())
	js, temporal := p.js(t), p.temporal(t)
	token := schema.UserToken([]byte(embeddedKey), "somebody")
	id := schema.WorkflowID(token)
	n := 0
	// goesOn: the workflow takes its next event, and none of its tasks has failed.
	goesOn := func(t *testing.T) {
		t.Helper()
		n++
		name := "feature_used"
		if n == 1 {
			name = "signed_up"
		}
		message := nats.NewMsg(schema.EventSubject("test"))
		message.Data = []byte(`{"event_id":"e` + strconv.Itoa(n) + `","event_name":"` + name + `","user_id":"somebody"}`)
		message.Header.Set(schema.HeaderPrompt, "1")
		ack, err := js.PublishMsg(t.Context(), message)
		require.NoError(t, err)
		eventually(t, 30*time.Second, "the next event is taken", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			handle, err := temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
				WorkflowID: id, UpdateName: schema.AwaitUpdate.Name, Args: []any{schema.AwaitInput{Sequence: ack.Sequence}}, WaitForStage: client.WorkflowUpdateStageCompleted,
			})
			return err == nil && handle.Get(ctx, nil) == nil
		})
		events := temporal.GetWorkflowHistory(t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			require.NoError(t, err)
			require.NotContains(t, []enumspb.EventType{enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT}, event.GetEventType(), event.String())
		}
	}
	goesOn(t)

	for name, c := range map[string]struct {
		signal  string
		payload any
	}{
		"83 a signal that nobody knows":          {"nonsense", "x"},
		"83 events that are a number":            {schema.EventsReceived.Name, 5},
		"83 events that are a text":              {schema.EventsReceived.Name, "x"},
		"83 events of another shape":             {schema.EventsReceived.Name, map[string]any{"events": "x"}},
		"83 events that are nothing":             {schema.EventsReceived.Name, nil},
		"83 a batch of nothing":                  {schema.EventsReceived.Name, map[string]any{}},
		"83 a hand-over that is a list":          {schema.HandOver.Name, []int{1}},
		"83 a hand-over to nobody":               {schema.HandOver.Name, map[string]any{}},
		"83 a hand-over of somebody else's user": {schema.HandOver.Name, schema.HandOverRequest{From: "u1", Into: "u2", Playbook: "p"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := p.counted(t, "temporal_corrupted_signals_total", "")
			require.NoError(t, temporal.SignalWorkflow(t.Context(), id, "", c.signal, c.payload))
			goesOn(t)
			eventually(t, 10*time.Second, "it is counted", func() bool { return p.counted(t, "temporal_corrupted_signals_total", "") == before+1 })
		})
	}
	t.Run("83 a signal of 2 MiB and 10 bytes", func(t *testing.T) { //nolint:paralleltest // one user, and it counts
		err := temporal.SignalWorkflow(t.Context(), id, "", schema.EventsReceived.Name, strings.Repeat("x", 2<<20+10))
		require.ErrorAs(t, err, new(*serviceerror.InvalidArgument))
		require.ErrorContains(t, err, "Blob data size exceeds limit")
		goesOn(t)
	})

	t.Run("85 a query that nobody knows", func(t *testing.T) { //nolint:paralleltest // one user, and it counts
		_, err := temporal.QueryWorkflow(t.Context(), id, "", "nonsense", 5)
		require.ErrorAs(t, err, new(*serviceerror.QueryFailed))
		require.ErrorContains(t, err, "unknown queryType nonsense")
		goesOn(t)
	})
	for _, query := range []string{schema.ProfileQuery.Name, schema.ExplainQuery.Name, "state"} {
		t.Run("85 a query with what none asks for: "+query, func(t *testing.T) {
			plain, err := temporal.QueryWorkflow(t.Context(), id, "", query)
			require.NoError(t, err)
			garbage, err := temporal.QueryWorkflow(t.Context(), id, "", query, map[string]any{"x": []int{1}}, nil, "y")
			require.NoError(t, err)
			var want, got any
			require.NoError(t, plain.Get(&want))
			require.NoError(t, garbage.Get(&got))
			require.Equal(t, want, got, "it is answered as ever")
			goesOn(t)
		})
	}
	for name, update := range map[string]struct { //nolint:paralleltest // one user, and it counts
		name     string
		payload  any
		refusing string
	}{
		"85 an update that nobody knows":     {"nonsense", 5, "unknown update nonsense"},
		"85 an update with a number":         {schema.TakeUpdate.Name, 5, "unable to decode"},
		"85 an update of another shape":      {schema.TakeUpdate.Name, map[string]any{"events": "x"}, "unable to decode"},
		"85 an update of nothing":            {schema.TakeUpdate.Name, map[string]any{}, "playbook"},
		"85 a wait for what is no number":    {schema.AwaitUpdate.Name, map[string]any{"sequence": "x"}, "unable to decode"},
		"85 a wait for a number below zero":  {schema.AwaitUpdate.Name, map[string]any{"sequence": -1}, "unable to decode"},
		"85 a wait for nothing that is told": {schema.AwaitUpdate.Name, []int{}, "unable to decode"},
	} {
		t.Run(name, func(t *testing.T) {
			handle, err := temporal.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
				WorkflowID: id, UpdateName: update.name, Args: []any{update.payload}, WaitForStage: client.WorkflowUpdateStageCompleted,
			})
			if err == nil {
				err = handle.Get(t.Context(), nil)
			}
			require.ErrorContains(t, err, update.refusing)
			goesOn(t)
		})
	}

	t.Run("86 a workflow that is none of ours on our task queue", func(t *testing.T) { //nolint:paralleltest // one user, and it counts
		for i := range 20 {
			run, err := temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "foreign/" + strconv.Itoa(i), TaskQueue: schema.TaskQueue}, "Foreign", "x")
			require.NoError(t, err)
			t.Cleanup(func() {
				require.NoError(t, temporal.TerminateWorkflow(context.WithoutCancel(t.Context()), run.GetID(), "", "the test is over"))
			})
		}
		eventually(t, 30*time.Second, "it is counted", func() bool {
			return p.counted(t, "temporal_workflow_task_execution_failed_total", `workflow_type="Foreign"`) >= 20
		})
		goesOn(t)
		var why strings.Builder
		events := temporal.GetWorkflowHistory(t.Context(), "foreign/0", "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			require.NoError(t, err)
			why.WriteString(event.GetWorkflowTaskFailedEventAttributes().GetFailure().GetMessage())
		}
		require.Contains(t, why.String(), "unable to find workflow type: Foreign")
	})
}
