package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// ringBook calls a receiver the moment a user asks for it, as often as they do.
const ringBook = `name: ring
events: {asked: {properties: {n: string}}}
actions:
  ring: {deliver: "webhook:receiver"}
journeys:
  ring: {enter: {on: asked, per: n}, steps: [{id: ring, action: ring}]}
`

func ringBundle() playbook.Bundle {
	return playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": ringBook}}
}

// quickReceiver answers at once, with what it is told.
type quickReceiver struct {
	mu      sync.Mutex
	answers []int // the next ones; then 200
	ids     []string
}

// startQuickReceiver returns a receiver, and the file that names it.
func startQuickReceiver(t *testing.T) (r *quickReceiver, config string) {
	t.Helper()
	r = &quickReceiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	config = filepath.Join(t.TempDir(), "webhooks.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "receiver: {url: %q, secret: %q, allow_private: true}\n", server.URL, secret), 0o600))
	return r, config
}

func (r *quickReceiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, request.Header.Get("Webhook-Id"))
	if len(r.answers) > 0 {
		w.WriteHeader(r.answers[0])
		r.answers = r.answers[1:]
	}
}

func (r *quickReceiver) answer(codes ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = codes
}

func (r *quickReceiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

// deliveries is what a user's history says of their actions.
type deliveries struct {
	tried             []schema.Try // what attempts within the task came to
	scheduled, ended  int          // activities
	timers, timeFired int
}

func deliveriesOf(t *testing.T, l *local, user string) (d deliveries) {
	t.Helper()
	data := converter.GetDefaultDataConverter()
	history := l.temporal.GetWorkflowHistory(t.Context(), schema.WorkflowID(schema.UserToken([]byte(embeddedKey), user)), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			return deliveries{} // the workflow has not begun
		}
		switch event.GetEventType() { //nolint:exhaustive // the others say nothing of deliveries
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			d.scheduled++
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
			d.ended++
		case enumspb.EVENT_TYPE_TIMER_STARTED:
			d.timers++
		case enumspb.EVENT_TYPE_TIMER_FIRED:
			d.timeFired++
		case enumspb.EVENT_TYPE_MARKER_RECORDED:
			details := event.GetMarkerRecordedEventAttributes().GetDetails()
			var local struct{ ActivityType string }
			require.NoError(t, data.FromPayloads(details["data"], &local))
			if local.ActivityType == "TryAction" {
				var result schema.TryResult
				require.NoError(t, data.FromPayloads(details["result"], &result))
				d.tried = append(d.tried, result.Became)
			}
		}
	}
	return d
}

// ring lets a user ask once more, and waits until what follows has ended.
func ring(t *testing.T, l *local, user string) deliveries {
	t.Helper()
	before := deliveriesOf(t, l, user)
	n := len(before.tried) + 1
	require.NoError(t, publishEvent(l.js, "ring", schema.Event{
		EventID: fmt.Sprint(user, "-", n), EventName: "asked", UserID: user, Properties: json.RawMessage(fmt.Sprintf(`{"n":"%d"}`, n)),
	}))
	var d deliveries
	eventually(t, 30*time.Second, "the action of "+user+" has an end", func() bool {
		d = deliveriesOf(t, l, user)
		return len(d.tried) == n && d.ended == d.scheduled && d.timeFired == d.timers &&
			(d.tried[n-1] == schema.TriedDelivered || d.tried[n-1] == schema.TriedRefused || d.scheduled > before.scheduled)
	})
	return d
}

// untilQuick lets a user ask until an action is taken within the task. On a machine that is not held up that is the fourth.
func untilQuick(t *testing.T, l *local, user string) deliveries {
	t.Helper()
	for range 30 {
		if d := ring(t, l, user); d.tried[len(d.tried)-1] == schema.TriedDelivered {
			return d
		}
	}
	require.Fail(t, "the receiver is never known to be quick")
	return deliveries{}
}

// TestWebhookWithinTheTask: on the real servers, an action for a receiver that is known to be quick costs no activity and no timer; one that it
// does not take waits and has an activity, and one that it refuses is given up at once.
func TestWebhookWithinTheTask(t *testing.T) {
	if testing.Short() {
		t.Skip("starts every server")
	}
	t.Parallel()
	receiver, config := startQuickReceiver(t)
	flags := freePorts()
	flags.Webhooks = config
	l, err := startLocal(t.Context(), flags, "", io.Discard, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(l.close)
	_, err = l.library.Publish(t.Context(), ringBundle())
	require.NoError(t, err)
	go l.run(t.Context())

	first := untilQuick(t, l, "first")
	require.GreaterOrEqual(t, first.scheduled, 3, "it had to show that it is quick")
	require.Equal(t, len(first.tried)-1, first.scheduled)
	before := receiver.requests()
	require.Equal(t, len(first.tried), before, "each action once")
	var d deliveries
	eventually(t, time.Minute, "a user without an activity", func() bool { // at once, where the machine is not held up
		untilQuick(t, l, "first")
		before = receiver.requests()
		d = ring(t, l, fmt.Sprint("known-", before))
		return d.scheduled == 0
	})
	require.Equal(t, deliveries{tried: []schema.Try{schema.TriedDelivered}}, d)
	require.Equal(t, before+1, receiver.requests())

	untilQuick(t, l, "first")
	receiver.answer(http.StatusServiceUnavailable)
	before = receiver.requests()
	d = ring(t, l, "failed")
	require.Equal(t, deliveries{tried: []schema.Try{schema.TriedFailed}, scheduled: 1, ended: 1, timers: 1, timeFired: 1}, d)
	require.Equal(t, before+2, receiver.requests())

	untilQuick(t, l, "first")
	receiver.answer(http.StatusBadRequest)
	before = receiver.requests()
	d = ring(t, l, "refused")
	require.Equal(t, deliveries{tried: []schema.Try{schema.TriedRefused}}, d)
	require.Equal(t, before+1, receiver.requests())
	stream, err := l.js.Stream(t.Context(), schema.OutcomesStream)
	require.NoError(t, err)
	eventually(t, 10*time.Second, "it is on record", func() bool {
		message, err := stream.GetLastMsgForSubject(t.Context(), schema.OutcomeSubject(schema.ActionFailed))
		if err != nil {
			return false
		}
		var o schema.Outcome
		require.NoError(t, json.Unmarshal(message.Data, &o))
		return o.Reason == string(schema.CodeInvalid) && o.Action == "ring"
	})
}
