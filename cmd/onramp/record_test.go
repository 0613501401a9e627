package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

var record = flag.Bool("record", false, "record the histories of workflows/testdata/replay anew")

const replayFolder = "../../workflows/testdata/replay"

// TestRecordHistories runs users through the example on the real servers, a day in a second, and writes their histories
// for the replay tests: go test ./cmd/onramp -run 'TestRecordHistories$' -record
func TestRecordHistories(t *testing.T) { //nolint:paralleltest // alone, so that histories come out alike
	bundle, err := example(1.0 / 86400)
	require.NoError(t, err)
	for name, text := range bundle.Files { // one action goes to a receiver that is not configured, and fails for good
		bundle.Files[name] = strings.Replace(text, "reengage: {", "reengage: {deliver: webhook:nobody, ", 1)
	}
	r := startRecorder(t, bundle)
	traits := `{"industry":"finance","marketing_consent":true}`
	for _, name := range []string{"signed_up", "feature_viewed", "profile_completed", "onboarding_completed", "activated"} {
		r.send("straight-through", name, "", traits)
		r.wait(300 * time.Millisecond)
	}
	r.send("dropped", "signed_up", "", traits)
	r.send("dropped", "feature_viewed", "", traits)
	r.send("at-risk", "signed_up", "", traits)
	for range 260 { // enough history to continue as new in the middle of a wait
		r.send("busy", "feature_used", "", traits)
		r.wait(30 * time.Millisecond)
	}
	r.wait(10 * time.Second)
	r.keep("straight-through", "dropped", "at-risk", "busy")
}

// TestRecordVersion1 records runs that put on record that a moment has come: alone, after events, and in the middle of continuing as
// new. Those of version 0 stay as they are: go test ./cmd/onramp -run TestRecordVersion1 -record
func TestRecordVersion1(t *testing.T) { //nolint:paralleltest // as above
	bundle, err := example(1.0 / 86400)
	require.NoError(t, err)
	r := startRecorder(t, bundle)
	traits := `{"industry":"finance","marketing_consent":true}`
	for _, user := range []string{"timed", "timed-busy"} {
		r.send(user, "signed_up", "", traits)
		r.send(user, "feature_viewed", "", traits)
	}
	for range 260 {
		r.send("timed-busy", "feature_used", "", traits)
		r.wait(30 * time.Millisecond)
	}
	r.wait(10 * time.Second)
	r.keep("timed", "timed-busy")
}

// TestRecordUpdates records runs that take batches by update: far from any moment and through continuing as new, and close to one, where they
// are put on record first: go test ./cmd/onramp -run TestRecordUpdates -record
func TestRecordUpdates(t *testing.T) { //nolint:paralleltest // as above
	traits := `{"industry":"finance","marketing_consent":true}`
	t.Run("far", func(t *testing.T) { //nolint:paralleltest // likewise
		bundle, err := example(1)
		require.NoError(t, err)
		r := startRecorder(t, bundle)
		for _, name := range []string{"signed_up", "feature_viewed", "feature_viewed", "profile_completed", "onboarding_completed", "activated"} {
			r.send("posted", name, "", traits)
			r.wait(300 * time.Millisecond)
		}
		for n := range 300 {
			r.send("posted-busy", []string{"signed_up", "feature_used", "feature_viewed"}[min(n, 1+n%2)], "", "")
			r.wait(50 * time.Millisecond)
		}
		r.wait(8 * time.Second) // what waits has come
		r.keep("posted", "posted-busy")
	})
	t.Run("near", func(t *testing.T) { //nolint:paralleltest // likewise
		bundle, err := example(1.0 / 86400)
		require.NoError(t, err)
		r := startRecorder(t, bundle)
		r.send("posted-near", "signed_up", "", traits)
		r.wait(1500 * time.Millisecond) // the reminder is over; the check list comes next
		r.send("posted-near", "feature_viewed", "", "")
		r.wait(10 * time.Second)
		r.send("posted-near", "onboarding_completed", "", "")
		r.wait(2 * time.Second)
		r.keep("posted-near")
	})
}

// TestRecordIdentity records a visitor who hands over, with a delivery that was given up and one in flight, and the user who takes over; and
// a user who takes over somebody of whom nothing is known: go test ./cmd/onramp -run TestRecordIdentity -record
func TestRecordIdentity(t *testing.T) { //nolint:paralleltest // as above
	bundle, err := example(1.0 / 86400)
	require.NoError(t, err)
	for name, text := range bundle.Files {
		bundle.Files[name] = strings.Replace(text, "reengage: {", "reengage: {deliver: webhook:nobody, ", 1)
	}
	r := startRecorder(t, bundle)
	link := func(user, visitor string) {
		r.n++
		require.NoError(t, publishEvent(r.js, "record", schema.Event{
			EventID: fmt.Sprint("record-", r.n), EventName: "identify", UserID: user, AnonymousID: visitor,
		}))
	}
	r.send("visitor", "signed_up", "", `{"industry":"finance","marketing_consent":true}`)
	r.send("visitor", "feature_viewed", "", "")
	r.wait(3 * time.Second) // dropped, and an action that fails
	r.send("known", "feature_used", "", "")
	r.wait(time.Second)
	link("known", "visitor")
	r.send("visitor", "profile_completed", "", "")
	link("alone", "never-seen")
	r.send("alone", "signed_up", "", "")
	r.wait(3 * time.Second)
	r.send("known", "onboarding_completed", "", "")
	r.wait(2 * time.Second)
	r.keep("visitor", "known", "alone")
}

// every is a playbook with every kind of step; its times of day are now, so that recording need not wait for the night. next is the
// version that replaces it: those inside move.
func every(next bool) playbook.Bundle {
	minute := func(ahead time.Duration) string { return time.Now().UTC().Add(ahead).Format("15:04") }
	move := "stay"
	steps := `[{id: old, wait: {on: closed, up_to: 9d}}]`
	if next {
		move = "{move: {old: new}}"
		steps = `[{id: new, wait: {on: closed, up_to: 9d}}, {id: after, action: tip}]`
	}
	return playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": `
name: every
events:
  signed_up: {}
  cart: {properties: {order_id: string}}
  order: {properties: {order_id: string}}
  tick: {}
  closed: {}
traits: {vip: bool}
segments:
  buyer: {when: 'events("order").within("5s").count() > 0'}
experiments:
  flow: {variants: {a: 0.5, b: 0.5}}
limit: [{actions: 1000, per: day}]
quiet: {from: "` + minute(-time.Minute) + `", to: "` + minute(time.Minute) + `"}
actions:
  tip: {}
  now: {quiet: ignore}
  never: {quiet: drop}
  hook: {deliver: webhook:nobody, quiet: ignore}
journeys:
  kinds:
    enter: {on: signed_up}
    steps:
      - {id: arm, experiment: flow, variants: {a: [{id: a, action: now}], b: [{id: b, action: never}]}}
      - id: way
        branch: [{when: traits.vip, steps: [{id: vip, action: hook}]}, {else: [{id: plain, delay: 1s}]}]
      - {id: held, action: tip}
      - {id: morning, delay: {at: "` + minute(2*time.Minute) + `"}}
      - {id: bought, wait: {when: in_segment("buyer"), up_to: 3s, timeout: [{id: late, exit: late}]}}
  checkout:
    enter: {on: cart, per: order_id}
    goal: {on: order, where: e.order_id == same.order_id, within: 9d}
    steps: [{id: pay, wait: {on: order, where: e.order_id == same.order_id, up_to: 4s, timeout: [{id: nudge, action: now}]}}]
  lapsed:
    enter: {left: buyer}
    reentry: {after: 1s}
    exit: [{entered: buyer, reason: back}]
    steps: [{id: lost, action: now}, {id: rest, delay: 2s}]
  moving:
    enter: {on: tick}
    migrate: ` + move + `
    steps: ` + steps + `
`}}
}

// TestRecordEveryKind records every kind of step, continue-as-new in the middle of a wait, and the move to a new version:
// go test ./cmd/onramp -run TestRecordEveryKind -record
func TestRecordEveryKind(t *testing.T) { //nolint:paralleltest // as above
	first, second := every(false), every(true)
	r := startRecorder(t, first)
	r.send("kinds", "signed_up", "", `{"vip":false}`)
	r.send("kinds-vip", "signed_up", "", `{"vip":true}`)
	for _, order := range []string{"x", "y"} {
		r.send("checkout", "cart", `{"order_id":"`+order+`"}`, "")
	}
	r.wait(time.Second)
	r.send("checkout", "order", `{"order_id":"y"}`, "")
	for range 260 {
		r.send("moving", "tick", "", "")
		r.wait(30 * time.Millisecond)
	}
	r.wait(5 * time.Second)
	r.save(second)
	var out bytes.Buffer
	require.NoError(t, (&applyCommand{Yes: true}).apply(t.Context(), stdio{strings.NewReader(""), &out, &out}, r.engine, second))
	r.wait(time.Second)
	r.send("moving", "closed", "", "")
	r.wait(2*time.Minute + 10*time.Second) // until the quiet minutes and the delay to a time of day are over
	r.keep("kinds", "kinds-vip", "checkout", "moving")
}

// TestRecordTries records runs that make the first attempt at a webhook within the task: at a receiver that shows that it is quick and takes
// actions then, at one that is away for a moment, and at one that refuses: go test ./cmd/onramp -run TestRecordTries -record
func TestRecordTries(t *testing.T) { //nolint:paralleltest // as above
	receiver, config := startQuickReceiver(t)
	r := startRecorderWith(t, ringBundle(), config)
	untilQuick(t, r.local, "tried")
	untilQuick(t, r.local, "tried")
	for user, code := range map[string]int{"tried-failed": http.StatusServiceUnavailable, "tried-refused": http.StatusBadRequest} {
		untilQuick(t, r.local, "tried-before")
		receiver.answer(code)
		ring(t, r.local, user)
		ring(t, r.local, user)
	}
	r.wait(time.Second)
	r.keep("tried", "tried-failed", "tried-refused")
}

// TestRecordTogether records a run, of version 3, whose first batch comes by update, and makes a moment near before its second event:
// go test ./cmd/onramp -run 'TestRecordTogether$' -record
func TestRecordTogether(t *testing.T) { //nolint:paralleltest // as above
	r, hash := startRecorderOfExample(t)
	r.post("together", 3, schema.EventBatch{Playbook: hash, Revision: 1, Events: recordedEvents(0, "signed_up", "feature_viewed")})
	r.wait(6 * time.Second)
	r.keep("together")
}

// TestRecordTogetherThenMore records one that takes what comes by signal while it puts that on record. The signal has a few milliseconds to
// come in: users try, one after the other, until one meets them: go test ./cmd/onramp -run TestRecordTogetherThenMore -record
func TestRecordTogetherThenMore(t *testing.T) { //nolint:paralleltest // as above
	r, hash := startRecorderOfExample(t)
	for n := range 200 {
		user := fmt.Sprint("together-more-", n)
		id := schema.WorkflowID(schema.UserToken([]byte(embeddedKey), user))
		var signaling sync.WaitGroup
		signaling.Go(func() {
			more := schema.EventBatch{Playbook: hash, Revision: 1, Events: recordedEvents(2, "profile_completed")}
			r.wait(time.Duration(n%20) * time.Millisecond)
			for r.temporal.SignalWorkflow(t.Context(), id, "", schema.EventsReceived.Name, more) != nil { // until the run is there
				r.wait(time.Millisecond)
			}
		})
		r.post(user, schema.JourneyVersion, schema.EventBatch{Playbook: hash, Revision: 1, Events: recordedEvents(0, "signed_up", "feature_viewed")})
		signaling.Wait()
		var kinds []string
		for _, e := range r.history(id, "").GetEvents() {
			kinds = append(kinds, e.GetEventType().String())
		}
		first := func(kind string) int { return slices.Index(kinds, kind) }
		if signaled := first("WorkflowExecutionSignaled"); signaled > first("TimerStarted") && signaled < first("MarkerRecorded") {
			r.wait(6 * time.Second)
			r.keepAs("together-more", user)
			return
		}
	}
	require.Fail(t, "no signal came in time")
}

// recordedEvents happened a tenth of a second apart, the first a little ago. The first has the place after n.
func recordedEvents(n int, names ...string) []schema.UserEvent {
	var events []schema.UserEvent
	for i, name := range names {
		at := time.Now().Add(time.Duration(i+1-len(names)) * 100 * time.Millisecond).UnixMilli()
		events = append(events, schema.UserEvent{
			EventID: fmt.Sprint("record-", n+i), EventName: name, Sequence: uint64(n + i + 1), OccurredAt: at, ReceivedAt: at, Lateness: schema.OnTime,
		})
	}
	return events
}

// post hands a batch over by update, to a run of that version, and waits until what follows is on record.
func (r *recorder) post(user string, version int, batch schema.EventBatch) {
	start := schema.JourneyStart{Version: version, MaxHistory: schema.RunLength, UserID: user, UserToken: schema.UserToken([]byte(embeddedKey), user)}
	_, err := ingest.NewBatches(r.temporal).Send(r.t.Context(), start, batch)
	require.NoError(r.t, err)
}

// startRecorderOfExample starts one with the example, a day of which takes a second.
func startRecorderOfExample(t *testing.T) (r *recorder, hash string) {
	t.Helper()
	bundle, err := example(1.0 / 86400)
	require.NoError(t, err)
	return startRecorder(t, bundle), bundle.Hash()
}

// recorder is the engine on servers of its own, and the folder that histories go to.
type recorder struct {
	*local

	t *testing.T
	n int
}

func startRecorder(t *testing.T, bundle playbook.Bundle) *recorder {
	t.Helper()
	return startRecorderWith(t, bundle, "")
}

// startRecorderWith starts one with receivers of webhooks.
func startRecorderWith(t *testing.T, bundle playbook.Bundle, webhooks string) *recorder {
	t.Helper()
	if !*record {
		t.Skip("run with -record to write histories")
	}
	flags := freePorts()
	flags.Webhooks = webhooks
	l, err := startLocal(t.Context(), flags, "", os.Stderr, newLogger(os.Stderr, "error", "text"))
	require.NoError(t, err)
	t.Cleanup(l.close)
	_, err = l.library.Publish(t.Context(), bundle)
	require.NoError(t, err)
	go l.run(t.Context())
	r := &recorder{local: l, t: t}
	r.save(bundle)
	return r
}

func (r *recorder) save(bundle playbook.Bundle) {
	raw, err := bundle.Encode()
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(filepath.Join(replayFolder, bundle.Hash()+".playbook.json"), raw, 0o600))
}

func (r *recorder) send(user, name, properties, traits string) {
	r.n++
	e := schema.Event{
		EventID: fmt.Sprint("record-", r.n), EventName: name, UserID: user,
		Properties: json.RawMessage(properties), Traits: json.RawMessage(traits),
	}
	require.NoError(r.t, publishEvent(r.js, "record", e))
}

func (r *recorder) wait(d time.Duration) {
	require.NoError(r.t, waitUntil(r.t.Context(), time.Now().Add(d)))
}

// keep writes the histories of the users' runs, in the order in which each continued as the next.
func (r *recorder) keep(users ...string) {
	for _, user := range users {
		r.keepAs(user, user)
	}
}

// keepAs writes those of one user under another name.
func (r *recorder) keepAs(name, user string) {
	id := schema.WorkflowID(schema.UserToken([]byte(embeddedKey), user))
	var runs []*historypb.History
	for run := ""; ; {
		history := r.history(id, run)
		runs = append(runs, history)
		if run = history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId(); run == "" {
			break
		}
	}
	for i, history := range slices.Backward(runs) {
		writeHistory(r.t, filepath.Join(replayFolder, fmt.Sprintf("%s-%d.json.gz", name, len(runs)-i)), history)
	}
}

// history reads what a run has behind it; the newest where run is empty.
func (r *recorder) history(id, run string) *historypb.History {
	history := &historypb.History{}
	events := r.temporal.GetWorkflowHistory(r.t.Context(), id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		require.NoError(r.t, err)
		history.Events = append(history.Events, e)
	}
	return history
}

func writeHistory(t *testing.T, path string, history *historypb.History) {
	t.Helper()
	raw, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(history)
	require.NoError(t, err)
	file, err := os.Create(path)
	require.NoError(t, err)
	packed := gzip.NewWriter(file)
	_, err = packed.Write(raw)
	require.NoError(t, err)
	require.NoError(t, packed.Close())
	require.NoError(t, file.Close())
}
