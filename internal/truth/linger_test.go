package truth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/internal/truth"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// waiting drives Next as ingest does: an event of which the user's Patience says that it changes nothing waits for one that may, for
// linger at most, and never into a moment at which time changes something.
type waiting struct {
	*fold

	c        *truth.Case
	linger   int64
	patience schema.Patience
	revision int
	held     []int // places in the log
	waited   int
}

func (w *waiting) deliver(now int64) {
	w.pass(now)
	for _, i := range w.held {
		w.next(w.engine.inputs[i], now)
		w.revision = w.c.Log[i].Revision // of who sent it, as ingest notes it: a new user may be told of by one who lags behind
	}
	if last := len(w.held) - 1; last >= 0 {
		w.patience = journey.Patience(w.engine.books, &w.state, w.engine.inputs[w.held[last]].Playbook, now)
	}
	w.held = nil
}

func (w *waiting) mayWait(i int) bool {
	d, event := w.c.Log[i], w.engine.inputs[i].Event
	if event == nil || d.Revision != w.revision || len(event.Traits) > 0 || event.Lateness != schema.OnTime || event.OccurredAt < w.patience.AsOf {
		return false
	}
	first := i
	if len(w.held) > 0 {
		first = w.held[0]
	}
	like := w.engine.inputs[first].Event.EventName
	until := w.c.Log[first].At + w.linger
	return event.EventName == like && len(w.held) < w.patience.Events[like] && (w.patience.Until == 0 || until < w.patience.Until)
}

func (w *waiting) run() []schema.Outcome {
	for i, d := range w.c.Log {
		if len(w.held) > 0 {
			if until := w.c.Log[w.held[0]].At + w.linger; until <= d.At {
				w.deliver(until)
			}
		}
		if w.mayWait(i) {
			w.held = append(w.held, i)
			w.waited++
			continue
		}
		if d.Event == nil { // a playbook: in the log it stands after them
			w.deliver(d.At)
		}
		w.held = append(w.held, i)
		w.deliver(d.At)
	}
	if len(w.held) > 0 {
		w.deliver(min(w.c.End, w.c.Log[w.held[0]].At+w.linger))
	}
	w.pass(w.c.End)
	return w.outcomes
}

// TestEventsThatMayWait: what a user's Patience lets wait changes nothing about what is decided, nor when.
func TestEventsThatMayWait(t *testing.T) {
	t.Parallel()
	waited := 0
	for name, cases := range map[string]*rapid.Generator[*truth.Case]{"rules": truth.Rules(), "journeys": truth.Cases(), "versions": truth.Versions()} {
		rapid.Check(t, func(t *rapid.T) {
			c := cases.Draw(t, name)
			linger := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 30 * time.Hour}).Draw(t, "linger")
			e := compile(t, c)
			w := &waiting{fold: newFold(t, c, e, func() bool { return false }), c: c, linger: linger.Milliseconds()}
			outcomes := w.run()
			prompt := newFold(t, c, e, func() bool { return false })
			prompt.run(c)
			require.Equal(t, prompt.decided, w.decided, "decided at other moments")
			waited += w.waited
			agree(t, c, "naive", "events that wait", truth.Tell(truth.Naive(c)), truth.Tell(outcomes))
		})
	}
	require.Positive(t, waited, "no event ever waited: this shows nothing")
	t.Logf("%d events waited", waited)
}
