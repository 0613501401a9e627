package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/schema"
)

// jsEvent is a CloudEvent as the npm package prints it.
type jsEvent struct {
	SpecVersion  string         `json:"specversion"`
	ID           string         `json:"id"`
	Source       string         `json:"source"`
	Type         string         `json:"type"`
	Subject      string         `json:"subject"`
	Time         time.Time      `json:"time"`
	ContentType  string         `json:"datacontenttype"`
	PartitionKey string         `json:"partitionkey"`
	Sequence     string         `json:"sequence"`
	Data         map[string]any `json:"data"`
}

// TestC2CloudEventsIn: what the npm package publishes in each mode is read here as it was meant.
func TestC2CloudEventsIn(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	var sent []jsEvent
	node(t, &sent, "cloudevents.mjs", "publish", d.js.Conn().ConnectedUrl())
	require.Len(t, sent, 3)
	all := d.stored(t)
	require.Len(t, all, len(sent))
	for i, e := range all {
		require.Equal(t, sent[i].Subject, e.UserID)
		require.Contains(t, e.UserID, "ü")
		require.Equal(t, sent[i].Source+" "+sent[i].ID, e.ID)
		require.Equal(t, "com_example_report_viewed", e.EventName)
		require.True(t, e.Event.OccurredAt.Equal(sent[i].Time))
		beside, ok := e.properties[schema.PropertyCloudEvent].(map[string]any)
		require.True(t, ok)
		require.Equal(t, sent[i].Type, beside["type"])
		require.Equal(t, sent[i].PartitionKey, beside["partitionkey"])
		require.Equal(t, sent[i].Sequence, beside["sequence"])
		require.Equal(t, sent[i].Data["feature"], e.properties["feature"])
		require.Equal(t, int64(3), e.properties["n"])
	}
}

// TestC2CloudEventsOut: the npm package reads what is published here: an action that was delivered, and an event whose attributes need
// their encoding, in both modes.
func TestC2CloudEventsOut(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	for name, subjects := range map[string]string{schema.ActionsStream: schema.ActionsSubjects, schema.OutcomesStream: schema.OutcomesSubjects} {
		_, err := d.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subjects}})
		require.NoError(t, err)
	}
	env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
	delivery := activities.NewDelivery(d.js, nil, time.Now)
	env.RegisterActivity(delivery)
	decided := time.Date(2026, 11, 24, 9, 0, 0, 250e6, time.UTC)
	request := schema.ActionRequest{
		ActionID: "a123", Action: "send_email", UserID: "Jürgen", UserToken: schema.UserToken(key(), "Jürgen"), DecidedAt: decided.UnixMilli(),
	}
	_, err := env.ExecuteActivity(delivery.DeliverAction, schema.DeliverInput{Request: request, Delivered: schema.Outcome{OutcomeID: "o1", Kind: schema.ActionDelivered}})
	require.NoError(t, err)

	made := schema.CloudEvent{ID: "100% \"7\"", Source: "/go", Type: "com.example.said.v1", Subject: "Jürgen", Time: decided, Data: json.RawMessage(`{"feature":"Übersicht"}`)}
	binary := nats.NewMsg(schema.ActionSubject("said"))
	binary.Data = made.Data
	made.WriteHeader(binary.Header.Set)
	structured := nats.NewMsg(schema.ActionSubject("said"))
	structured.Header.Set("Content-Type", "application/cloudevents+json")
	structured.Data, err = made.Structured()
	require.NoError(t, err)
	for _, message := range []*nats.Msg{binary, structured} {
		_, err = d.js.PublishMsg(t.Context(), message)
		require.NoError(t, err)
	}

	var read []jsEvent
	node(t, &read, "cloudevents.mjs", "read", d.js.Conn().ConnectedUrl(), schema.ActionsStream, "3")
	require.Len(t, read, 3)
	require.Equal(t, "Jürgen", read[0].Data["user_id"])
	read[0].Data = nil
	require.Equal(t, jsEvent{
		SpecVersion: "1.0", ID: "a123", Source: "/onramp", Type: "onramp.action.send_email", Subject: request.UserToken, Time: decided, ContentType: "application/json",
	}, read[0])
	want := jsEvent{
		SpecVersion: "1.0", ID: made.ID, Source: "/go", Type: made.Type, Subject: "Jürgen", Time: decided, ContentType: "application/json",
		Data: map[string]any{"feature": "Übersicht"},
	}
	require.Equal(t, want, read[1])
	require.Equal(t, want, read[2])
}
