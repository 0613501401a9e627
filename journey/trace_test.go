package journey_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// TestTraceDecidesNothing: whether its events are traced or not, a user is the same and so is what is decided; what an event causes has its
// trace, what time alone causes has none.
func TestTraceDecidesNothing(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	live := func(traceOf func(n int) schema.Trace) *user {
		u := newUser(t, b, hash)
		for n, name := range []string{"signed_up", "feature_viewed", "feature_used", "onboarding_completed"} {
			at := t0 + int64(n)*30*hour
			u.until(at)
			u.next(journey.Input{Event: &schema.UserEvent{
				EventID: fmt.Sprint("e", n), EventName: name, Sequence: uint64(n + 1), OccurredAt: at, ReceivedAt: at, Lateness: schema.OnTime,
				Traits: json.RawMessage(`{"industry":"finance","marketing_consent":true}`), Trace: traceOf(n),
			}}, at)
		}
		u.until(t0 + 200*day)
		return u
	}
	traceOf := func(n int) schema.Trace { return schema.Trace(fmt.Sprintf("00-%032x-%016x-01", n+1, n+1)) }
	traced, plain := live(traceOf), live(func(int) schema.Trace { return "" })
	require.Equal(t, plain.state, traced.state)
	require.Equal(t, plain.actions, traced.actions)
	require.Len(t, traced.log, len(plain.log))
	byTime := 0
	for i := range traced.log {
		o := traced.log[i]
		var n int
		if _, err := fmt.Sscanf(o.CauseEventID, "e%d", &n); err != nil {
			require.Empty(t, o.Trace, o.Kind)
			byTime++
		} else {
			require.Equal(t, traceOf(n), o.Trace, o.Kind)
		}
		o.Trace = ""
		require.Equal(t, plain.log[i], o)
	}
	require.Positive(t, byTime)
	require.Greater(t, len(traced.log), byTime)
}
