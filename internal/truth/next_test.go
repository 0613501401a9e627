package truth_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/internal/truth"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

type books map[string]*playbook.Playbook

func (b books) Playbook(hash string) *playbook.Playbook { return b[hash] }

// failer is a *testing.T or a *rapid.T.
type failer interface {
	require.TestingT
	Fatalf(format string, args ...any)
	Helper()
}

// engine is a case as the engine reads it: playbooks compiled, messages read as from the stream.
type engine struct {
	books  books
	hashes []string // by revision
	inputs []journey.Input
}

func compile(t failer, c *truth.Case) engine {
	t.Helper()
	e := engine{books: books{}}
	for _, book := range c.Books {
		p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": book.YAML()}})
		if err != nil {
			t.Fatalf("%v\n%s", err, book.YAML())
		}
		e.books[p.Hash] = p
		e.hashes = append(e.hashes, p.Hash)
	}
	for _, d := range c.Log {
		if d.Event == nil {
			e.inputs = append(e.inputs, journey.Input{Playbook: e.hashes[d.Revision], Revision: uint64(d.Revision + 1)})
			continue
		}
		raw, err := d.Wire()
		require.NoError(t, err)
		received, err := schema.Receive(raw, nil, d.Sequence, time.UnixMilli(d.Received))
		require.NoError(t, err)
		event := received.UserEvent()
		e.inputs = append(e.inputs, journey.Input{Event: &event, Playbook: e.hashes[d.Revision], Revision: uint64(d.Revision + 1)})
	}
	c.Assign = func(book *truth.Book, key string) string {
		p := e.books[e.hashes[slices.Index(c.Books, book)]]
		if key == playbook.HoldoutKey {
			return p.Holdout.Assign(c.Token).Variant
		}
		return p.Experiments[key].Assign(c.Token).Variant
	}
	return e
}

// fold drives Next as a backtest does: the log in stream order, and time whenever the engine asked to be woken.
type fold struct {
	t        failer
	engine   engine
	through  func() bool // whether the state goes through JSON now, as it does when a run continues as new
	state    journey.State
	wake     int64
	outcomes []schema.Outcome
	decided  []int64 // when each was, by the caller's clock
}

func newFold(t failer, c *truth.Case, e engine, through func() bool) *fold {
	return &fold{t: t, engine: e, through: through, state: journey.State{Token: c.Token}}
}

func (f *fold) next(in journey.Input, now int64) {
	if f.through() {
		raw, err := json.Marshal(f.state)
		require.NoError(f.t, err)
		f.state = journey.State{}
		require.NoError(f.t, json.Unmarshal(raw, &f.state))
	}
	state, decision := journey.Next(f.engine.books, f.state, in, now)
	f.state, f.wake = state, decision.WakeAt
	f.outcomes = append(f.outcomes, lettered(decision.Outcomes, decision.Actions)...)
	for range decision.Outcomes {
		f.decided = append(f.decided, now)
	}
}

// lettered puts the text that an action carries where Tell looks for it.
func lettered(outcomes []schema.Outcome, actions []schema.ActionRequest) []schema.Outcome {
	for i := range outcomes {
		for _, a := range actions {
			if text, ok := a.Properties["text"]; ok && outcomes[i].Kind == schema.ActionDecided && outcomes[i].ActionID == a.ActionID {
				outcomes[i].Reason = fmt.Sprint(text)
			}
		}
	}
	return outcomes
}

func (f *fold) pass(wall int64) {
	for f.wake != 0 && f.wake <= wall {
		f.next(journey.Input{}, f.wake)
	}
}

func (f *fold) run(c *truth.Case) []schema.Outcome {
	for i, d := range c.Log {
		f.pass(d.At)
		f.next(f.engine.inputs[i], d.At)
	}
	f.pass(c.End)
	return f.outcomes
}

func agree(t failer, c *truth.Case, left, right string, a, b []string) {
	t.Helper()
	if difference := truth.Difference(left, right, a, b); difference != "" {
		t.Fatalf("%s\n%s", c, difference)
	}
}

func TestRulesAreTrueWhenTheyShouldBe(t *testing.T) {
	t.Parallel()
	follows(t, truth.Rules())
}

func TestJourneysGoAsTheyShould(t *testing.T) {
	t.Parallel()
	follows(t, truth.Cases())
}

func TestNewVersionsDoAsTheyShould(t *testing.T) {
	t.Parallel()
	follows(t, truth.Versions())
}

// follows checks that the engine does what the naive evaluator says, though its state goes through JSON now and then.
func follows(t *testing.T, cases *rapid.Generator[*truth.Case]) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		c := cases.Draw(t, "case")
		continued := rapid.SliceOfN(rapid.Bool(), 5, 5).Draw(t, "through JSON")
		e, turns := compile(t, c), 0
		outcomes := newFold(t, c, e, func() bool { turns++; return continued[turns%len(continued)] }).run(c)
		agree(t, c, "naive", "journey.Next", truth.Tell(truth.Naive(c)), truth.Tell(outcomes))
	})
}
