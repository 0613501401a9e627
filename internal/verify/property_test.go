package verify_test

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/internal/truth"
	"github.com/onramphq/onramp/internal/verify"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

type books map[string]*playbook.Playbook

func (b books) Playbook(hash string) *playbook.Playbook { return b[hash] }

// outages are when a part is away, the one after the other: what would happen meanwhile happens at their end.
type outages []outage

type outage struct{ from, to int64 }

func (o outages) shift(at int64) int64 {
	for _, away := range o {
		if at >= away.from && at < away.to {
			at = away.to
		}
	}
	return at
}

// life is a user as ingest, workflow and sink would have it, with ingest and the worker away for some time each.
type life struct {
	books          books
	stored         []*playbook.Playbook // by revision
	ingest, worker outages
	user           verify.User
	state          journey.State
	wake           int64
	profile        schema.Profile
}

type signal struct {
	at    int64
	input journey.Input
}

// live runs a case to its end, or, where soon is set, to so many milliseconds after its last signal.
func live(t *rapid.T, c *truth.Case, ingest, worker outages, soon int64) (*verify.Inputs, *verify.User) {
	l := &life{books: books{}, ingest: ingest, worker: worker, state: journey.State{Token: c.Token}, user: verify.User{Token: c.Token}}
	for _, book := range c.Books {
		p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": book.YAML()}})
		if err != nil {
			t.Skip("no playbook to run: ", err)
		}
		l.books[p.Hash], l.stored = p, append(l.stored, p)
	}
	signals := l.signals(t, c)
	end := worker.shift(ingest.shift(c.End))
	if soon > 0 && len(signals) > 0 {
		end = min(end, worker.shift(signals[len(signals)-1].at+soon))
	}
	l.run(signals, end)
	in := &verify.Inputs{
		Books: l.books, Stored: l.stored, Letters: verify.Letters{}, AsOf: end, FirstEvent: 1, FirstOutcome: 1, Recorded: 1 << 40,
		Settled: verify.Settled{Ingest: 1 << 40, Archive: 1 << 40, Outcomes: 1 << 40},
	}
	l.user.Rows = slices.Clone(l.user.Outcomes)
	if l.state.Playbook != "" {
		l.user.State = &l.state
	}
	if len(l.user.Outcomes) > 0 {
		l.user.Profile = &l.profile
	}
	return in, &l.user
}

// signals is what ingest makes of the log.
func (l *life) signals(t require.TestingT, c *truth.Case) []signal {
	var signals []signal
	ids, places, skipped := map[string]bool{}, map[uint64]bool{}, map[uint64]bool{}
	for _, d := range c.Log {
		in := journey.Input{Playbook: l.stored[d.Revision].Hash, Revision: uint64(d.Revision + 1)}
		if d.Event == nil {
			if len(signals) > 0 { // who has no workflow is not told
				signals = append(signals, signal{l.worker.shift(d.At), in})
			}
			continue
		}
		raw, err := d.Wire()
		require.NoError(t, err)
		received, err := schema.Receive(raw, nil, d.Sequence, time.UnixMilli(d.Received))
		require.NoError(t, err)
		event := received.UserEvent()
		in.Event = &event
		if !places[d.Sequence] {
			l.user.Events = append(l.user.Events, event)
			if !ids[event.EventID] {
				l.user.Archive = append(l.user.Archive, event)
			}
		}
		first := !places[d.Sequence]
		ids[event.EventID], places[d.Sequence] = true, true
		switch {
		case skipped[d.Sequence]: // acknowledged: it does not come again
		case first && !l.stored[d.Revision].Reads(event.EventName, len(event.Traits) > 0):
			skipped[d.Sequence] = true
		default:
			signals = append(signals, signal{l.worker.shift(l.ingest.shift(d.At)), in})
		}
	}
	slices.SortStableFunc(signals, func(a, b signal) int { return int(a.at - b.at) })
	slices.SortFunc(l.user.Events, func(a, b schema.UserEvent) int { return int(a.Sequence) - int(b.Sequence) })
	return signals
}

// run does what the loop of the workflow does: signals first, then what is due.
func (l *life) run(signals []signal, end int64) {
	for {
		timer := l.worker.shift(l.wake)
		switch {
		case len(signals) > 0 && (l.wake == 0 || signals[0].at <= timer):
			now := signals[0].at
			before := len(l.user.Outcomes)
			for len(signals) > 0 && signals[0].at == now {
				l.next(signals[0].input, now)
				signals = signals[1:]
			}
			if l.wake != 0 && l.wake <= now {
				l.next(journey.Input{}, now)
			}
			l.commit(before)
		case l.wake != 0 && timer <= end:
			before := len(l.user.Outcomes)
			l.next(journey.Input{}, timer)
			l.commit(before)
		default:
			return
		}
	}
}

func (l *life) next(in journey.Input, now int64) {
	state, decision := journey.Next(l.books, l.state, in, now)
	l.state, l.wake = state, decision.WakeAt
	for _, o := range decision.Outcomes {
		o.RecordedAt = now + 7
		l.record(o)
	}
	for _, a := range decision.Actions {
		l.record(schema.Outcome{
			OutcomeID: schema.OutcomeID(schema.ActionDelivered, a.ActionID), Kind: schema.ActionDelivered, UserToken: a.UserToken,
			ActionID: a.ActionID, At: a.DecidedAt, RecordedAt: now + 8,
		})
	}
}

func (l *life) record(o schema.Outcome) {
	l.user.Outcomes = append(l.user.Outcomes, verify.Outcome{Outcome: o, Sequence: uint64(len(l.user.Outcomes) + 1)})
}

func (l *life) commit(before int) {
	if len(l.user.Outcomes) > before {
		l.profile = journey.Profile(l.books, &l.state)
	}
}

// drawLife draws a case and the times when ingest and worker are away.
func drawLife(t *rapid.T, cases *rapid.Generator[*truth.Case]) (*truth.Case, *verify.Inputs, *verify.User) {
	c := cases.Draw(t, "case")
	away := func(who string) outages {
		var all outages
		for range rapid.IntRange(0, 4).Draw(t, who+" is away so often") {
			from := rapid.Int64Range(c.Log[0].At, c.End).Draw(t, who+" from")
			all = append(all, outage{from, from + rapid.Int64Range(1, 12*3600_000).Draw(t, who+" for")})
		}
		slices.SortFunc(all, func(a, b outage) int { return cmp.Compare(a.from, b.from) })
		return all
	}
	in, user := live(t, c, away("ingest"), away("worker"), rapid.SampledFrom([]int64{0, 1, 30_000, 70_000}).Draw(t, "asked so soon"))
	user.AsOf = in.AsOf // the last that was asked
	in.AsOf -= rapid.Int64Range(0, 120_000).Draw(t, "asking took so long")
	return c, in, user
}

// TestTheEngineIsFoundInnocent: whatever the playbook, the log, and who was away when, a user whom nothing happened to is judged so.
func TestTheEngineIsFoundInnocent(t *testing.T) {
	t.Parallel()
	for name, cases := range map[string]*rapid.Generator[*truth.Case]{"one playbook": truth.Cases(), "several": truth.Versions()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				c, in, user := drawLife(t, cases)
				verdict := verify.Judge(in, user)
				if len(verdict.Differences) > 0 || verdict.Unjudged != "" && verdict.Unjudged != verify.UnjudgedNoWorkflow {
					raw, err := json.MarshalIndent(verdict.Differences, "", " ")
					require.NoError(t, err)
					t.Fatalf("%s\n%s", c, raw)
				}
			})
		})
	}
}
