package main

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/internal/simulate"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// lived is the demo's people after they have lived through a playbook: the rows a running engine would have written.
type lived struct {
	events   []outcome.ImportEvent
	outcomes []outcome.ImportOutcome
}

// population lets the demo's people live in virtual time, a lift planted in their behavior.
func population(t *testing.T, book *playbook.Playbook, users int, lift float64) lived {
	t.Helper()
	key, x := []byte(embeddedKey), book.Experiments[demoExperiment]
	start := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	var all lived
	own := make(map[string][]schema.UserEvent)
	for _, e := range simulate.Population(simulate.Config{Users: users, Seed: 1, Lift: lift, Personalized: func(id string) bool {
		return x.Assign(schema.UserToken(key, id)).Variant == demoTreatment
	}}) {
		token := schema.UserToken(key, e.UserID)
		event := schema.UserEvent{EventID: e.ID, EventName: e.Name, OccurredAt: start.Add(e.At).UnixMilli(), Properties: e.Properties, Traits: e.Traits}
		own[token] = append(own[token], event)
		all.events = append(all.events, outcome.ImportEvent{UserID: e.UserID, UserToken: token, UserEvent: event})
	}
	until := start.Add(simulate.Horizon).UnixMilli()
	for _, token := range slices.Sorted(maps.Keys(own)) {
		events := own[token]
		life := backtest.NewLife(token, book, func(m backtest.Moment) {
			for _, o := range m.Outcomes {
				o.RecordedAt = cmp.Or(o.RecordedAt, o.At+20)
				all.outcomes = append(all.outcomes, outcome.ImportOutcome{Outcome: o})
			}
		})
		backtest.Live(events)
		for i := range events {
			require.NoError(t, life.Event(&events[i]))
		}
		require.NoError(t, life.Follow(until))
	}
	slices.SortStableFunc(all.outcomes, func(a, b outcome.ImportOutcome) int { return cmp.Compare(a.At, b.At) }) // a user's own stay in their order
	for i := range all.events {
		all.events[i].Sequence = uint64(i + 1)
	}
	for i := range all.outcomes {
		all.outcomes[i].Sequence = uint64(i + 1)
	}
	return all
}
