package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/onramphq/onramp/internal/streamread"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// nodePackages is the folder of the scripts that run packages of npm.
const nodePackages = "../../api/testdata/node"

// TestOneUserThroughFourDoors: somebody comes as a visitor of a page with Segment's SDK and says who they are; their service speaks of
// them through RudderStack's SDK, another over NATS, a third in CloudEvents. It is one user, one journey, one profile, and each event once.
func TestOneUserThroughFourDoors(t *testing.T) {
	t.Parallel()
	testenv.Chromium(t)
	testenv.NeedNode(t, nodePackages)
	p := startDev(t, t.TempDir())
	js := p.js(t)

	folder := t.TempDir()
	page := httptest.NewServer(http.FileServer(http.Dir(folder)))
	t.Cleanup(page.Close)
	var saw struct {
		Errors []string `json:"errors"`
		Enough bool     `json:"enough"`
	}
	testenv.Node(t, nodePackages, &saw, "browser.mjs", "segment", p.addrs["api"], page.URL, folder, "any", "")
	require.Empty(t, saw.Errors)
	require.True(t, saw.Enough)
	var rudder struct {
		Errors []string `json:"errors"`
	}
	testenv.Node(t, nodePackages, &rudder, "sdk.mjs", "rudder", p.addrs["api"], "any")
	require.Empty(t, rudder.Errors)
	publish(t, js, schema.Event{EventID: "n1", EventName: "profile_completed", UserID: "ann"})
	for range 2 { // whoever is not sure publishes again
		message := nats.NewMsg(schema.EventSubject("crm"))
		message.Header.Set("Content-Type", "application/cloudevents+json")
		message.Data = []byte(`{"specversion":"1.0","id":"c1","source":"/crm","type":"com.example.onboarding.completed.v1","eventname":"onboarding_completed","subject":"ann"}`)
		_, err := js.PublishMsg(t.Context(), message)
		require.NoError(t, err)
	}
	require.NoError(t, drain(t.Context(), js))

	visitor := ""
	require.NoError(t, eachEvent(t, js, func(e schema.Event) {
		if e.EventName == "signed_up" && e.UserID != "ann" {
			visitor = e.UserID
		}
	}))
	require.NotEmpty(t, visitor, "the page's visitor was nobody known at first")
	profile := func(id string) schema.Profile {
		code, body := get(t, p.addrs["api"]+"/v1/users/"+url.PathEscape(id))
		require.Equal(t, http.StatusOK, code, string(body))
		var profile schema.Profile
		require.NoError(t, json.Unmarshal(body, &profile))
		return profile
	}
	ann := profile("ann")
	require.Equal(t, schema.UserToken([]byte(embeddedKey), "ann"), ann.UserToken)
	require.Equal(t, ann, profile(visitor), "one profile")
	require.Equal(t, ann, profile("anon-1"), "RudderStack's visitor is the same")
	reasons := map[string]string{}
	for _, s := range ann.Segments {
		reasons[s.Segment] = s.Reason
	}
	require.Equal(t, `events("signed_up").count() = 2; events("onboarding_completed").count() = 1`, reasons["new_user"],
		"signed up as a visitor of the page, long ago by RudderStack's word, completed by a CloudEvent")

	store := p.store(t)
	eventually(t, 20*time.Second, "every event is archived", func() bool { return count(t, store, `SELECT count() FROM events_unique`) == 3+7+1+1 })
	require.Equal(t, uint64(12), count(t, store, `SELECT uniqExact(event_id) FROM events_unique`))
	require.Equal(t, uint64(1), count(t, store, `SELECT uniqExact(enrollment_id) FROM outcomes_unique WHERE journey = 'onboarding'`), "one journey")
	require.Equal(t, uint64(1), count(t, store, `SELECT count() FROM outcomes_unique WHERE kind = 'action_decided' AND action = 'send_congratulations'`))
	open, err := p.temporal(t).ListOpenWorkflow(t.Context(), &workflowservice.ListOpenWorkflowExecutionsRequest{Namespace: "default"})
	require.NoError(t, err)
	var running []string
	for _, w := range open.GetExecutions() {
		running = append(running, w.GetExecution().GetWorkflowId())
	}
	require.Equal(t, []string{schema.WorkflowID(ann.UserToken)}, running, "one workflow")
	p.innocent(t)
}

// eachEvent hands over what the stream of events holds, as it was published.
func eachEvent(t *testing.T, js jetstream.JetStream, each func(schema.Event)) error {
	t.Helper()
	stream, err := js.Stream(t.Context(), schema.EventsStream)
	require.NoError(t, err)
	last := stream.CachedInfo().State.LastSeq
	err = streamread.Read(t.Context(), js, schema.EventsStream, streamread.Options{}, func(m streamread.Message) error {
		received, err := schema.Receive(m.Data(), m.Headers(), m.Sequence, time.Now())
		require.NoError(t, err)
		each(received.Event)
		if m.Sequence >= last {
			return errEnough
		}
		return nil
	})
	if err == errEnough { //nolint:errorlint // it comes back as it was given
		return nil
	}
	return err
}
