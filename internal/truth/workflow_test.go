package truth_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/internal/truth"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// world is where a workflow's decisions arrive: it writes down what was committed, and what was delivered after it.
type world struct {
	outcomes  []schema.Outcome
	delivered []schema.ActionRequest
	draws     []int // what becomes of attempts within the task, one after the other; none: there are no webhooks
	tried     int
}

func (w *world) CommitDecision(_ context.Context, in schema.CommitInput) (schema.CommitResult, error) {
	w.outcomes = append(w.outcomes, in.Outcomes...)
	return schema.CommitResult{Outcomes: len(in.Outcomes)}, nil
}

func (w *world) DeliverAction(_ context.Context, in schema.DeliverInput) (schema.DeliverResult, error) {
	w.delivered = append(w.delivered, in.Request)
	return schema.DeliverResult{Attempts: 1}, nil
}

// TryAction answers all that it can: it delivers, makes no attempt, fails, refuses for good, or is at fault itself.
func (w *world) TryAction(_ context.Context, in schema.DeliverInput) (schema.TryResult, error) {
	draw := w.draws[w.tried%len(w.draws)]
	w.tried++
	switch draw {
	case 0:
		w.delivered = append(w.delivered, in.Request)
		return schema.TryResult{Became: schema.TriedDelivered}, nil
	case 1:
		return schema.TryResult{Became: schema.TriedLater}, nil
	case 2:
		return schema.TryResult{Became: schema.TriedFailed, PauseMS: 90_000}, nil
	case 3:
		return schema.TryResult{Became: schema.TriedRefused, Reason: schema.CodeInvalid}, nil
	default:
		return schema.TryResult{}, errors.New("at fault")
	}
}

// live runs a case through the workflow: signals when messages are received, timers by the test environment's clock. After a signal
// that cut names, the history counts as full, and the next run goes on with what the last one handed over.
type live struct {
	t      failer
	engine engine
	world  world
	token  string
	end    time.Time
	newest bool // runs are of the newest version, which puts moments on record first
}

// signal is everything that ingest sends at one moment.
type signal struct {
	at      time.Time
	batches []schema.EventBatch
	cut     bool
}

func signals(c *truth.Case, e engine, cut func() bool) []signal {
	var all []signal
	for i, d := range c.Log {
		in := e.inputs[i]
		at := time.UnixMilli(d.At)
		if len(all) == 0 || !all[len(all)-1].at.Equal(at) {
			all = append(all, signal{at: at})
		}
		s := &all[len(all)-1]
		batch := schema.EventBatch{Playbook: in.Playbook, Revision: in.Revision}
		if last := len(s.batches) - 1; last >= 0 && in.Event != nil && s.batches[last].Revision == in.Revision && len(s.batches[last].Events) > 0 {
			s.batches[last].Events = append(s.batches[last].Events, *in.Event)
			continue
		}
		if in.Event != nil {
			batch.Events = append(batch.Events, *in.Event)
		}
		s.batches = append(s.batches, batch)
	}
	for i := range all {
		// Such a signal can be sent twice without harm.
		one := !slices.ContainsFunc(all[i].batches, func(b schema.EventBatch) bool { return b.Revision != all[i].batches[0].Revision })
		all[i].cut = cut() && one
	}
	return all
}

func (l *live) run(signals []signal) []schema.Outcome {
	// Version 0: from 1 on, a moment is put on record first, which takes a millisecond that the other telling knows nothing of.
	in, start := workflows.JourneyInput{JourneyStart: schema.JourneyStart{UserID: "somebody", UserToken: l.token}}, signals[0].at
	if l.newest {
		in.Version = schema.JourneyVersion
	}
	for {
		rest := signals
		if i := slices.IndexFunc(signals, func(s signal) bool { return s.cut }); i >= 0 {
			rest = signals[:i+1]
		}
		env, err := l.once(in, start, rest)
		var again *workflow.ContinueAsNewError
		if !errors.As(err, &again) {
			require.True(l.t, temporal.IsCanceledError(err), "it ends by being stopped and by nothing else: %v", err)
			return slices.DeleteFunc(lettered(l.world.outcomes, l.world.delivered), func(o schema.Outcome) bool { return o.At > l.end.UnixMilli() })
		}
		// A signal that came as the run ended is lost in the test environment; Temporal would not let it end. So it is sent again.
		signals, start, in = slices.Clone(signals[len(rest)-1:]), env.Now(), workflows.JourneyInput{}
		signals[0].cut = false
		require.NoError(l.t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
		if !l.newest {
			in.Version = 0 // likewise
		}
	}
}

// once is one run; it ends by continuing as new, or is stopped at the end.
func (l *live) once(in workflows.JourneyInput, start time.Time, signals []signal) (*testsuite.TestWorkflowEnvironment, error) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartTime(start)
	env.SetTestTimeout(10 * time.Minute)
	env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // of a busy machine, not of the workflow
	env.RegisterWorkflowWithOptions((&workflows.Journeys{Books: l.engine.books}).Journey, workflow.RegisterOptions{Name: schema.JourneyWorkflow})
	env.RegisterActivity(&l.world)
	for _, s := range signals {
		env.RegisterDelayedCallback(func() {
			if s.cut {
				env.SetCurrentHistoryLength(10_000)
			}
			for _, batch := range s.batches {
				env.SignalWorkflow(schema.EventsReceived.Name, batch)
			}
		}, max(0, s.at.Sub(start)))
	}
	env.RegisterDelayedCallback(env.CancelWorkflow, l.end.Add(time.Second).Sub(start))
	env.ExecuteWorkflow(schema.JourneyWorkflow, in)
	require.True(l.t, env.IsWorkflowCompleted())
	return env, env.GetWorkflowError()
}

// TestWorkflowDoesWhatItShould: the durable shell adds nothing to what Next decides and loses nothing of it, however often it
// continues as new in the middle of a wait.
func TestWorkflowDoesWhatItShould(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := truth.Versions().Draw(t, "case")
		continued := rapid.SliceOfN(rapid.Bool(), 3, 3).Draw(t, "continues as new")
		e, turns := compile(t, c), 0
		l := &live{t: t, engine: e, token: c.Token, end: time.UnixMilli(c.End)}
		outcomes := l.run(signals(c, e, func() bool { turns++; return continued[turns%len(continued)] }))
		agree(t, c, "naive", "workflow", truth.Tell(truth.Naive(c)), truth.Tell(outcomes))
		var decided, delivered []string
		for _, o := range l.world.outcomes {
			if o.Kind == schema.ActionDecided {
				decided = append(decided, o.ActionID)
			}
		}
		for _, a := range l.world.delivered {
			delivered = append(delivered, a.ActionID)
		}
		require.Equal(t, decided, delivered, "what is decided is delivered, once and in order")
	})
}

// TestEveryActionHasOneEnd: whatever the first attempts at a webhook come to, and however often the workflow continues as new meanwhile, an
// action that was decided is delivered or given up, and not both.
func TestEveryActionHasOneEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := truth.Versions().Draw(t, "case")
		continued := rapid.SliceOfN(rapid.Bool(), 3, 3).Draw(t, "continues as new")
		draws := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 8).Draw(t, "attempts")
		e, turns := compile(t, c), 0
		for _, book := range e.books {
			for _, action := range book.Actions {
				action.Webhook = "receiver"
			}
		}
		l := &live{t: t, engine: e, token: c.Token, end: time.UnixMilli(c.End).Add(time.Hour), newest: true, world: world{draws: draws}}
		l.run(signals(c, e, func() bool { turns++; return continued[turns%len(continued)] }))
		decided, failed, delivered := make(map[string]bool), make(map[string]bool), make(map[string]bool)
		for _, o := range l.world.outcomes {
			switch o.Kind { //nolint:exhaustive // the others are no ends of actions
			case schema.ActionDecided:
				decided[o.ActionID] = true
			case schema.ActionFailed:
				require.False(t, failed[o.ActionID], "given up twice")
				failed[o.ActionID] = true
			}
		}
		for _, a := range l.world.delivered { // twice where its activity began as the run ended
			require.False(t, failed[a.ActionID], "delivered and given up")
			delivered[a.ActionID] = true
		}
		maps.Copy(delivered, failed)
		require.Equal(t, decided, delivered)
	})
}

// TestMovedToAStepOfTheSameName: a journey is paused while its users wait, what they wait for comes, and the version that ends the pause has an
// action where the wait was, under the same name. It is another step, and so is entered: on record, and with an action of its own.
func TestMovedToAStepOfTheSameName(t *testing.T) {
	t.Parallel()
	const start = 1_780_308_000_000 // a full hour, as all times of a case
	version := func(journey truth.Journey) *truth.Book {
		journey.Key, journey.Enter, journey.Reentry = "j", truth.Trigger{On: []string{"b"}}, "never"
		return &truth.Book{Zone: "UTC", Actions: []truth.Action{{Key: "plain"}}, Journeys: []*truth.Journey{&journey}}
	}
	wait := func() []*truth.Step { return []*truth.Step{{ID: "t1", Kind: "wait", On: []string{"a"}, Hours: 5}} }
	for name, quiet := range map[string]*truth.Quiet{"at once": nil, "held back until quiet hours end": {From: 0, To: 23}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			last := version(truth.Journey{Migrate: "move", Steps: []*truth.Step{{ID: "t1", Kind: "action", Action: "plain"}}})
			last.Quiet = quiet
			c := &truth.Case{
				Token: "u_a", End: start + 24*3_600_000,
				Books: []*truth.Book{version(truth.Journey{Steps: wait()}), version(truth.Journey{Paused: true, Steps: wait()}), last},
			}
			for i, name := range []string{"b", "a", "c"} {
				at := start + int64(i)*3_600_000
				c.Log = append(c.Log, truth.Delivery{At: at, Revision: i, Event: &truth.Event{ID: name, Name: name, Sequence: uint64(i + 1), Claimed: at, Received: at, At: at}})
			}
			e := compile(t, c)
			told := truth.Tell(truth.Naive(c))
			entered := 0
			for _, line := range told {
				if strings.Contains(line, "step_entered j#1/t1") {
					entered++
				}
			}
			require.Equal(t, 2, entered, told)
			agree(t, c, "naive", "journey.Next", told, truth.Tell(newFold(t, c, e, func() bool { return true }).run(c)))
			l := &live{t: t, engine: e, token: c.Token, end: time.UnixMilli(c.End)}
			agree(t, c, "naive", "workflow", told, truth.Tell(l.run(signals(c, e, func() bool { return false }))))
		})
	}
}
