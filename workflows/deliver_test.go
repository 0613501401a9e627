package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// TestWebhookWithinTheTask: what the first attempt came to decides what follows. One that took the action needs no activity, one that refuses
// it for good ends it, one that failed leaves the receiver alone for as long as it asks, and of all else the activity makes its own. Nobody
// waits for any of it.
func TestWebhookWithinTheTask(t *testing.T) {
	t.Parallel()
	became := func(result schema.TryResult) func(schema.DeliverInput) (schema.TryResult, error) {
		return func(schema.DeliverInput) (schema.TryResult, error) { return result, nil }
	}
	const never = time.Duration(-1)
	for _, c := range []struct {
		name     string
		version  int
		try      func(schema.DeliverInput) (schema.TryResult, error)
		activity time.Duration // when the activity begins
		failed   string        // the reason with which the action is given up
	}{
		{"delivered", 2, became(schema.TryResult{Became: schema.TriedDelivered}), never, ""},
		{"later", 2, became(schema.TryResult{Became: schema.TriedLater}), 0, ""},
		{"failed", 2, became(schema.TryResult{Became: schema.TriedFailed, PauseMS: 90_000}), 90 * time.Second, ""},
		{"refused", 2, became(schema.TryResult{Became: schema.TriedRefused, Reason: schema.CodeInvalid, Message: "the receiver answered 400"}), never, "invalid"},
		{"the word of a newer worker", 2, became(schema.TryResult{Became: "postponed"}), 0, ""},
		{"an error", 2, func(schema.DeliverInput) (schema.TryResult, error) { return schema.TryResult{}, errors.New("at fault") }, 0, ""},
		{"a panic", 2, func(schema.DeliverInput) (schema.TryResult, error) { panic("at fault") }, 0, ""},
		{"a run from before", 1, func(schema.DeliverInput) (schema.TryResult, error) { panic("it makes none") }, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := &world{try: c.try}
			r := newRun(t, w)
			began := []time.Duration{}
			r.env.SetOnActivityStartedListener(func(*activity.Info, context.Context, converter.EncodedValues) {
				began = append(began, r.env.Now().Sub(r.start))
			})
			r.event(0, 1, "signed_up")
			r.event(time.Minute, 2, "profile_completed")
			r.env.RegisterDelayedCallback(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				require.Contains(t, w.profiles[len(w.profiles)-1].Stage, "completion", "the user has gone on")
			}, time.Minute+time.Second)
			r.stop(2 * time.Hour)
			r.execute(workflows.JourneyInput{JourneyStart: schema.JourneyStart{Version: c.version}})
			if c.activity == never {
				require.Empty(t, began)
			} else {
				require.Equal(t, []time.Duration{c.activity}, began)
			}
			if c.version < 2 {
				require.Empty(t, w.tried)
			} else {
				require.Len(t, w.tried, 1)
			}
			if c.failed == "" {
				require.Len(t, w.actions, 1, "delivered once")
				require.Empty(t, w.moments(r.start, schema.ActionFailed))
			} else {
				require.Empty(t, w.actions)
				require.Equal(t, []string{"0s action_failed send_tutorial " + c.failed}, w.moments(r.start, schema.ActionFailed))
			}
		})
	}
}

// TestPausedIsHandedOver: a run that continues as new while a receiver is left alone hands the action over, and the next run delivers it
// without a try of its own.
func TestPausedIsHandedOver(t *testing.T) {
	t.Parallel()
	w := &world{try: func(schema.DeliverInput) (schema.TryResult, error) {
		return schema.TryResult{Became: schema.TriedFailed, PauseMS: time.Hour.Milliseconds()}, nil
	}}
	in := undelivered(t, w)
	require.Empty(t, w.actions)
	w.tried = nil
	second := newRun(t, w)
	second.stop(time.Hour)
	second.execute(in)
	require.Empty(t, w.tried)
	require.Len(t, w.actions, 1)
	require.Equal(t, in.Undelivered[0].Request.ActionID, w.actions[0].ActionID)
}
