package workflows_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// post hands an event over by update at an offset from the start; answers gets what the workflow says.
func (r *run) post(offset time.Duration, seq uint64, name string, answers map[uint64]schema.Patience) {
	r.postAll(offset, answers, r.received(offset, seq, name))
}

// received is an event that came at an offset from the start.
func (r *run) received(offset time.Duration, seq uint64, name string) schema.UserEvent {
	at := r.start.Add(offset).UnixMilli()
	return schema.UserEvent{EventID: fmt.Sprint("e", seq), EventName: name, Sequence: seq, OccurredAt: at, ReceivedAt: at, Lateness: schema.OnTime}
}

// postAll hands events over in one batch; answers gets what the workflow says, under the place of the last.
func (r *run) postAll(offset time.Duration, answers map[uint64]schema.Patience, events ...schema.UserEvent) {
	batch, seq := schema.EventBatch{Playbook: r.hash, Revision: 1, Events: events}, events[len(events)-1].Sequence
	r.env.RegisterDelayedCallback(func() {
		r.env.UpdateWorkflow(schema.TakeUpdate.Name, fmt.Sprint("post-", seq), &testsuite.TestUpdateCallback{
			OnAccept: func() {},
			OnReject: func(err error) { r.t.Errorf("post of %d refused: %v", seq, err) },
			OnComplete: func(answer any, err error) {
				if err == nil { // else the run was canceled first
					answers[seq] = answer.(schema.Patience)
					require.Zero(r.t, r.world.away, "what follows is on record")
				}
			},
		}, batch)
	}, offset)
}

// TestTake: a batch by update does what the same batch by signal does, is answered when what follows is on record, and the answer says what
// may wait.
func TestTake(t *testing.T) {
	t.Parallel()
	story := []schema.OutcomeKind{schema.SegmentEntered, schema.SegmentLeft, schema.StepEntered, schema.ActionDecided, schema.GoalConverted, schema.EnrollmentEnded}
	names := []string{"signed_up", "feature_used", "profile_completed", "feature_used", "onboarding_completed", "activated"}
	by := func(post bool) (*world, map[uint64]schema.Patience) {
		w := &world{away: 1}
		r := newRun(t, w)
		answers := make(map[uint64]schema.Patience)
		for i, name := range names {
			if at, seq := time.Second+time.Duration(i)*3*time.Hour, uint64(i+1); post {
				r.post(at, seq, name, answers)
			} else {
				r.event(at, seq, name)
			}
		}
		r.stop(100 * time.Hour)
		r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
		return w, answers
	}
	signaled, _ := by(false)
	updated, answers := by(true)
	start := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	require.NotEmpty(t, signaled.moments(start, story...))
	require.Equal(t, signaled.moments(start, story...), updated.moments(start, story...))
	require.Len(t, answers, len(names))
	first := answers[1]
	require.InDelta(t, start.Add(time.Second).UnixMilli(), first.AsOf, 500, "recording was tried twice")
	require.Equal(t, start.Add(24*time.Hour+time.Second).UnixMilli(), first.Until, "when the reminder is due")
	require.NotContains(t, first.Events, "profile_completed", "it is waited for")
	require.Equal(t, 8, first.Events["feature_used"])
	require.Equal(t, 8, answers[3].Events["profile_completed"], "it was waited for; once more changes nothing")
	require.NotContains(t, answers[5].Events, "activated", "the goal")
}

// TestTakeTwice: a batch whose update got no answer comes again by signal, in front of what is newer, and is taken once.
func TestTakeTwice(t *testing.T) {
	t.Parallel()
	w := &world{}
	r := newRun(t, w)
	answers := make(map[uint64]schema.Patience)
	r.event(time.Second, 1, "signed_up")
	r.event(2*time.Second, 2, "profile_completed")
	r.post(2*time.Second, 1, "signed_up", answers)
	r.event(3*time.Second, 2, "profile_completed")
	r.stop(time.Hour)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	require.Len(t, answers, 1)
	require.Len(t, w.moments(r.start, schema.EnrollmentStarted), 1)
	require.Len(t, w.moments(r.start, schema.ActionDecided), 1)
}

// TestTakeNearAMoment: where time is about to change something, what came by update is put on record before it is acted on; else it is
// acted on at once.
func TestTakeNearAMoment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ offset, later time.Duration }{{2 * time.Hour, 0}, {23*time.Hour + 30*time.Minute, time.Millisecond}} {
		w := &world{}
		r := newRun(t, w)
		answers := make(map[uint64]schema.Patience)
		r.event(0, 1, "signed_up") // the reminder is due after a day
		r.post(c.offset, 2, "profile_completed", answers)
		var recorded time.Time
		r.env.SetOnLocalActivityCompletedListener(func(*activity.Info, converter.EncodedValue, error) { recorded = r.env.Now() })
		r.stop(c.offset + time.Minute)
		r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
		require.Len(t, answers, 1)
		require.Equal(t, r.start.Add(c.offset+c.later), recorded.UTC(), "after %s", c.offset)
	}
}

// TestTakeTogether: events that come together by update are put on record before they are acted on where the first of them makes a moment near:
// were they lost and sent again one by one, it could come between them. A run of an older version goes on as it did.
func TestTakeTogether(t *testing.T) {
	t.Parallel()
	const now = 23*time.Hour + 30*time.Minute // the reminder is due a day after signing up
	for name, c := range map[string]struct {
		signedUp time.Duration
		alone    bool
		version  int
		later    time.Duration
	}{
		"near":                 {signedUp: 0, version: schema.JourneyVersion, later: time.Millisecond},
		"far":                  {signedUp: now, version: schema.JourneyVersion},
		"nothing comes behind": {signedUp: 0, alone: true, version: schema.JourneyVersion},
		"an older run":         {signedUp: 0, version: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{}
			r := newRun(t, w)
			answers := make(map[uint64]schema.Patience)
			events := []schema.UserEvent{r.received(c.signedUp, 1, "signed_up"), r.received(now, 2, "profile_completed")}
			if c.alone {
				events = events[:1]
			}
			r.postAll(now, answers, events...)
			var recorded []time.Time
			r.env.SetOnLocalActivityCompletedListener(func(*activity.Info, converter.EncodedValue, error) { recorded = append(recorded, r.env.Now()) })
			r.stop(now + time.Minute)
			r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: c.version}})
			require.Len(t, answers, 1)
			require.NotEmpty(t, recorded)
			require.Equal(t, r.start.Add(now+c.later), recorded[0].UTC())
		})
	}
}

// TestTakeTogetherThenMore: what comes while events are put on record is taken before a moment that has come meanwhile, since it is in the history
// before it. A task that found the moment still ahead has taken it, and published what follows; one that is begun again later, because worker and server
// died, must come to the same. A run of an older version goes on as it did.
func TestTakeTogetherThenMore(t *testing.T) {
	t.Parallel()
	const now = 24*time.Hour - time.Millisecond // the reminder is due a day after signing up, when it stands in the history what came together
	for name, c := range map[string]struct {
		version int
		byPost  bool
		then    string
	}{
		"by signal":    {version: schema.JourneyVersion, then: "23h59m59.999s step_entered  event profile_completed"},
		"by update":    {version: schema.JourneyVersion, byPost: true, then: "23h59m59.999s step_entered  event profile_completed"},
		"an older run": {version: 3, then: "24h0m0s step_entered  timed out after 1d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{}
			r := newRun(t, w)
			answers, further := make(map[uint64]schema.Patience), make(map[uint64]schema.Patience)
			r.postAll(now, answers, r.received(0, 1, "signed_up"), r.received(now, 2, "feature_viewed"))
			if meanwhile := now + time.Millisecond/2; c.byPost {
				r.post(meanwhile, 3, "profile_completed", further)
			} else {
				r.event(meanwhile, 3, "profile_completed")
			}
			r.stop(now + time.Minute)
			r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: c.version}})
			require.Len(t, answers, 1)
			require.Equal(t, c.byPost, len(further) == 1)
			entered := w.moments(r.start, schema.StepEntered)
			require.Greater(t, len(entered), 3)
			require.Equal(t, c.then, entered[3], "after %s", entered[:3])
		})
	}
}

// TestSignalAfterUpdate: what comes by signal is on record, whatever came by update before it, and near as a moment may be.
func TestSignalAfterUpdate(t *testing.T) {
	t.Parallel()
	const now = 23*time.Hour + 30*time.Minute
	w := &world{}
	r := newRun(t, w)
	answers := make(map[uint64]schema.Patience)
	r.post(0, 1, "signed_up", answers)
	r.event(now, 2, "profile_completed")
	var recorded time.Time
	r.env.SetOnLocalActivityCompletedListener(func(*activity.Info, converter.EncodedValue, error) { recorded = r.env.Now() })
	r.stop(now + time.Minute)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	require.Len(t, answers, 1)
	require.Equal(t, r.start.Add(now), recorded.UTC())
}

// TestTakeBeforeContinuingAsNew: nobody whose batch was taken goes without an answer when the run is full.
func TestTakeBeforeContinuingAsNew(t *testing.T) {
	t.Parallel()
	w := &world{}
	r := newRun(t, w)
	answers := make(map[uint64]schema.Patience)
	r.event(0, 1, "signed_up")
	r.env.RegisterDelayedCallback(func() { r.env.SetCurrentHistoryLength(10_000) }, time.Second)
	r.post(time.Second, 2, "profile_completed", answers)
	r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: schema.JourneyVersion}})
	require.ErrorContains(t, r.env.GetWorkflowError(), "continue as new")
	require.Contains(t, answers, uint64(2))
}
