package backtest

import (
	"cmp"
	"slices"
	"time"

	"github.com/onramphq/onramp/schema"
)

// Live puts a user's events in order of time and takes each as received when it occurred, as if the engine had been running.
// Events of one moment stay in the order given. It changes events in place.
func Live(events []schema.UserEvent) {
	inOrder(events)
	for i := range events {
		events[i].ReceivedAt, events[i].Lateness = events[i].OccurredAt, schema.OnTime
	}
}

// Historic puts a user's events in order of time and takes all as received long after they occurred, as `onramp replay` does:
// they change state and cause no action, and neither does what follows from them up to until. It changes events in place.
func Historic(events []schema.UserEvent, until int64) {
	inOrder(events)
	for i := range events {
		events[i].ReceivedAt, events[i].Lateness = until+schema.HistoricAfter.Milliseconds()+1, schema.Historic
	}
}

func inOrder(events []schema.UserEvent) {
	slices.SortStableFunc(events, func(a, b schema.UserEvent) int { return cmp.Compare(a.OccurredAt, b.OccurredAt) })
	for i := range events {
		events[i].Sequence = uint64(i) + 1
	}
}

func msDuration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
