package workflows_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

const token = "uaaaaaaaaaaaaaaaaaaaaaaaaaa"

type books map[string]*playbook.Playbook

func (b books) Playbook(hash string) *playbook.Playbook { return b[hash] }

func load(t *testing.T) (books, string) {
	t.Helper()
	text, err := os.ReadFile("../examples/saas-onboarding/playbook.yaml")
	require.NoError(t, err)
	// One action goes to a webhook, whose receiver the tests can make refuse.
	text = bytes.Replace(text, []byte("send_tutorial: {"), []byte("send_tutorial: {deliver: webhook:tutor, "), 1)
	p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": string(text)}})
	require.NoError(t, err)
	return books{p.Hash: p}, p.Hash
}

// world stands for JetStream and the receivers: it keeps what it is given and can be told to refuse.
type world struct {
	mu       sync.Mutex
	outcomes []schema.Outcome
	profiles []schema.Profile
	actions  []schema.ActionRequest
	refuse   error
	away     int // so many commits find nobody there

	try   func(schema.DeliverInput) (schema.TryResult, error) // what becomes of attempts within the task; nil: none is made
	tried []string                                            // the ids of actions that were to be tried
}

func (w *world) CommitDecision(_ context.Context, in schema.CommitInput) (schema.CommitResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away > 0 {
		w.away--
		return schema.CommitResult{}, temporal.NewApplicationError("nobody there", string(schema.CodeUnavailable))
	}
	w.outcomes = append(w.outcomes, in.Outcomes...)
	w.profiles = append(w.profiles, in.Profile)
	return schema.CommitResult{Outcomes: len(in.Outcomes)}, nil
}

func (w *world) DeliverAction(_ context.Context, in schema.DeliverInput) (schema.DeliverResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return schema.DeliverResult{}, w.refuse
	}
	w.actions = append(w.actions, in.Request)
	w.outcomes = append(w.outcomes, in.Delivered)
	return schema.DeliverResult{Attempts: 1}, nil
}

func (w *world) TryAction(_ context.Context, in schema.DeliverInput) (schema.TryResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tried = append(w.tried, in.Request.ActionID)
	if w.try == nil {
		return schema.TryResult{Became: schema.TriedLater}, nil
	}
	result, err := w.try(in)
	if err == nil && result.Became == schema.TriedDelivered {
		w.actions = append(w.actions, in.Request)
		w.outcomes = append(w.outcomes, in.Delivered)
	}
	return result, err
}

type run struct {
	t     *testing.T
	env   *testsuite.TestWorkflowEnvironment
	world *world
	hash  string
	start time.Time
}

func newRun(t *testing.T, w *world) *run {
	t.Helper()
	b, hash := load(t)
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	start := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	env.SetStartTime(start)
	env.SetTestTimeout(time.Minute)
	env.RegisterWorkflowWithOptions((&workflows.Journeys{Books: b}).Journey, workflow.RegisterOptions{Name: schema.JourneyWorkflow})
	env.RegisterActivity(w)
	return &run{t: t, env: env, world: w, hash: hash, start: start}
}

// event signals an event at an offset from the start.
func (r *run) event(offset time.Duration, seq uint64, name string) {
	batch := schema.EventBatch{Playbook: r.hash, Revision: 1, Events: []schema.UserEvent{r.received(offset, seq, name)}}
	r.env.RegisterDelayedCallback(func() { r.env.SignalWorkflow(schema.EventsReceived.Name, batch) }, offset)
}

// stop ends the run from outside, as nothing inside does.
func (r *run) stop(offset time.Duration) {
	r.env.RegisterDelayedCallback(r.env.CancelWorkflow, offset)
}

func (r *run) execute(in workflows.JourneyInput) {
	in.UserID, in.UserToken = "somebody", token
	r.env.ExecuteWorkflow(schema.JourneyWorkflow, in)
	require.True(r.t, r.env.IsWorkflowCompleted())
}

func (w *world) moments(start time.Time, kinds ...schema.OutcomeKind) []string {
	var lines []string
	for _, o := range w.outcomes {
		if slices.Contains(kinds, o.Kind) {
			lines = append(lines, fmt.Sprintf("%s %s %s%s %s", time.UnixMilli(o.At).UTC().Sub(start), o.Kind, o.Segment, o.Action, o.Reason))
		}
	}
	return lines
}

func TestTimeAloneChangesAtTheMoment(t *testing.T) {
	t.Parallel()
	w := &world{}
	r := newRun(t, w)
	r.event(0, 1, "signed_up")
	r.event(time.Hour, 2, "feature_viewed")
	r.event(60*time.Hour, 3, "profile_completed")
	r.stop(100 * time.Hour)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	require.Equal(t, []string{
		"0s action_decided send_tutorial ", "24h0m0s action_decided send_reminder ", "49h0m0s action_decided reengage ", "96h0m0s action_decided send_checklist ",
	}, w.moments(r.start, schema.ActionDecided))
	require.Len(t, w.actions, 4)
	for _, a := range w.actions {
		require.Equal(t, "somebody", a.UserID)
	}
	last := w.profiles[len(w.profiles)-1]
	require.Equal(t, "onboarding/second_chance", last.Stage)
}

// TestRecordIsTriedForEver: JetStream is away for longer than one attempt may take, and the user goes on where they were.
func TestRecordIsTriedForEver(t *testing.T) {
	t.Parallel()
	w := &world{away: 9} // the pauses between them add up to more than half a minute
	r := newRun(t, w)
	r.event(0, 1, "signed_up")
	r.event(time.Hour, 2, "profile_completed")
	r.stop(2 * time.Hour)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	require.True(t, temporal.IsCanceledError(r.env.GetWorkflowError()), "%v", r.env.GetWorkflowError())
	require.Zero(t, w.away)
	require.Equal(t, "onboarding/completion", w.profiles[len(w.profiles)-1].Stage)
}

func TestRefusedActionIsAnOutcome(t *testing.T) {
	t.Parallel()
	w := &world{refuse: temporal.NewNonRetryableApplicationError("gone", string(schema.CodeInvalid), nil)}
	r := newRun(t, w)
	r.event(0, 1, "signed_up")
	r.stop(time.Hour)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	require.Equal(t, []string{"0s action_failed send_tutorial invalid"}, w.moments(r.start, schema.ActionFailed))
}

func TestReceiverThatIsAwayHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	w := &world{refuse: errors.New("away")}
	r := newRun(t, w)
	r.event(0, 1, "signed_up")
	r.event(time.Minute, 2, "profile_completed")
	r.env.RegisterDelayedCallback(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refuse = nil
	}, 5*time.Minute) // the test environment tries ten times at most, over eight minutes
	r.stop(12 * time.Hour)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	require.Contains(t, w.profiles[len(w.profiles)-1].Stage, "completion")
	require.Len(t, w.actions, 1, "delivered once the receiver is back")
}

// TestSecondRun feeds what the first run hands over to the second, with a signal that arrives just before: nothing is lost,
// nothing counted twice.
func TestSecondRun(t *testing.T) {
	t.Parallel()
	w := &world{}
	first := longRun(t, w, time.Hour)
	in := first.next()
	require.Equal(t, int64(2), in.State.Counts.Applied)
	require.Equal(t, schema.RunLength, in.MaxHistory, "a run from before goes on in shorter ones")

	second := newRun(t, w)
	second.start = first.start
	second.env.SetStartTime(first.start.Add(time.Hour))
	for i, name := range []string{"signed_up", "feature_viewed"} { // both delivered again
		seq := uint64(i + 1)
		batch := schema.EventBatch{Playbook: second.hash, Revision: 1, Events: []schema.UserEvent{{EventID: fmt.Sprint("e", seq), EventName: name, Sequence: seq, OccurredAt: first.start.UnixMilli(), ReceivedAt: first.start.UnixMilli()}}}
		second.env.RegisterDelayedCallback(func() { second.env.SignalWorkflow(schema.EventsReceived.Name, batch) }, time.Minute)
	}
	second.stop(100 * time.Hour)
	second.execute(in)
	require.Equal(t, []string{
		"0s action_decided send_tutorial ", "24h0m0s action_decided send_reminder ", "49h0m0s action_decided reengage ", "96h0m0s action_decided send_checklist ",
	}, w.moments(first.start, schema.ActionDecided), "timers of the first run fire in the second")
}

// longRun is a run of two events whose history is long when the second comes, so long after the first.
func longRun(t *testing.T, w *world, after time.Duration) *run {
	t.Helper()
	r := newRun(t, w)
	r.event(0, 1, "signed_up")
	r.event(after, 2, "feature_viewed")
	r.env.RegisterDelayedCallback(func() { r.env.SetCurrentHistoryLength(10_000) }, after)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	return r
}

// next is what the run, which must have continued as new, hands to the one after it.
func (r *run) next() (in workflows.JourneyInput) {
	r.t.Helper()
	var next *workflow.ContinueAsNewError
	require.ErrorAs(r.t, r.env.GetWorkflowError(), &next)
	require.NoError(r.t, converter.GetDefaultDataConverter().FromPayloads(next.Input, &in))
	return in
}

// undelivered is what a run hands over that continues as new while its action has no end yet.
func undelivered(t *testing.T, w *world) workflows.JourneyInput {
	t.Helper()
	in := longRun(t, w, time.Minute).next()
	require.Len(t, in.Undelivered, 1)
	return in
}

func TestUndeliveredIsHandedOver(t *testing.T) {
	t.Parallel()
	w := &world{refuse: errors.New("away")}
	in := undelivered(t, w)
	w.refuse = nil
	second := newRun(t, w)
	second.stop(time.Hour)
	second.execute(in)
	require.Equal(t, in.Undelivered[0].Request.ActionID, w.actions[0].ActionID)
}

// TestWorkflowEqualsFold: whatever is repeated and however signals are cut, the workflow's state is the fold of the log.
func TestWorkflowEqualsFold(t *testing.T) {
	t.Parallel()
	names := []string{"signed_up", "profile_completed", "feature_viewed", "feature_used", "onboarding_completed", "activated", "account_closed"}
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := &world{}
		r := newRun(t, w)
		b, _ := load(t)
		fold := journey.State{Token: token}
		at := time.Duration(0)
		var sent []schema.UserEvent
		for seq := uint64(1); seq <= 20; seq++ {
			at += time.Duration(rng.Int64N(int64(40 * time.Hour))).Truncate(time.Millisecond)
			moment := r.start.Add(at).UnixMilli()
			e := schema.UserEvent{EventID: fmt.Sprint("e", seq), EventName: names[rng.IntN(len(names))], Sequence: seq, OccurredAt: moment, ReceivedAt: moment}
			sent = append(sent, e)
			batch := schema.EventBatch{Playbook: r.hash, Revision: 1, Events: []schema.UserEvent{e}}
			for range rng.IntN(3) { // some of the past again
				batch.Events = append(batch.Events, sent[rng.IntN(len(sent))])
			}
			r.env.RegisterDelayedCallback(func() { r.env.SignalWorkflow(schema.EventsReceived.Name, batch) }, at)
		}
		var live journey.State
		end := at + time.Hour
		r.env.RegisterDelayedCallback(func() {
			answer, err := r.env.QueryWorkflow(workflows.StateQueryName)
			require.NoError(t, err)
			require.NoError(t, answer.Get(&live))
		}, end)
		r.stop(end + time.Minute)
		r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
		var outcomes []schema.Outcome
		var d journey.Decision
		for i := range sent {
			for d.WakeAt != 0 && d.WakeAt <= sent[i].ReceivedAt {
				fold, d = journey.Next(b, fold, journey.Input{}, d.WakeAt)
				outcomes = append(outcomes, d.Outcomes...)
			}
			fold, d = journey.Next(b, fold, journey.Input{Event: &sent[i], Playbook: r.hash, Revision: 1}, sent[i].ReceivedAt)
			outcomes = append(outcomes, d.Outcomes...)
		}
		for d.WakeAt != 0 && d.WakeAt <= r.start.Add(end).UnixMilli() {
			fold, d = journey.Next(b, fold, journey.Input{}, d.WakeAt)
			outcomes = append(outcomes, d.Outcomes...)
		}
		live.Counts, fold.Counts = journey.Counts{}, journey.Counts{}
		require.JSONEq(t, encode(t, fold), encode(t, live), "seed %d", seed)
		decided := slices.DeleteFunc(w.outcomes, func(o schema.Outcome) bool {
			return o.Kind == schema.ActionDelivered || o.At > r.start.Add(end).UnixMilli()
		})
		require.Equal(t, ids(outcomes), ids(decided), "seed %d", seed)
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return string(raw)
}

func ids(outcomes []schema.Outcome) []string {
	list := make([]string, len(outcomes))
	for i, o := range outcomes {
		list[i] = string(o.Kind) + " " + o.OutcomeID
	}
	return list
}

// TestAwait: a caller who waits for an event is answered when what follows from it is on record, one who waits for an event that was
// taken long ago at once, and one whose event nothing reads all the same.
func TestAwait(t *testing.T) {
	t.Parallel()
	w := &world{away: 2}
	r := newRun(t, w)
	answers := make(map[string]schema.Profile)
	await := func(id string, offset time.Duration, sequence uint64) {
		r.env.RegisterDelayedCallback(func() {
			r.env.UpdateWorkflow(schema.AwaitUpdate.Name, id, &testsuite.TestUpdateCallback{
				OnAccept: func() {},
				OnReject: func(err error) { t.Errorf("%s refused: %v", id, err) },
				OnComplete: func(answer any, err error) {
					if err == nil { // else the run was canceled first
						answers[id] = answer.(schema.Profile)
						require.Zero(t, w.away, "what follows is on record")
					}
				},
			}, schema.AwaitInput{Sequence: sequence})
		}, offset)
	}
	await("early", 0, 1)
	r.event(time.Second, 1, "signed_up")
	await("late", time.Hour, 1)
	r.event(2*time.Hour, 9, "nothing_reads_this")
	await("unread", 2*time.Hour+time.Minute, 9)
	await("never", 3*time.Hour, 10)
	r.stop(4 * time.Hour)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	require.Equal(t, "e1", answers["early"].LastEvent)
	require.NotEmpty(t, answers["early"].Segments)
	require.Equal(t, "e1", answers["late"].LastEvent)
	require.Equal(t, "e1", answers["unread"].LastEvent)
	require.NotContains(t, answers, "never")
}
