package outcome

import (
	"cmp"
	"context"
	"strconv"

	"github.com/onramphq/onramp/schema"
)

// ImportEvent is an event that went another way than the stream: it was recorded elsewhere, before. Sequence is its place in the
// order of record; 0 stands for the place in the list.
type ImportEvent struct {
	UserID    string
	UserToken string
	schema.UserEvent
}

// ImportOutcome is an outcome likewise.
type ImportOutcome struct {
	schema.Outcome

	Sequence uint64
}

// importSource is what stands as source of an imported event.
const importSource = "import"

// Import writes events into the archive, as historic ones that cause nothing, and outcomes beside them. token names the content:
// the same rows under the same token are written once, and a row that is written twice is counted once. Where ClickHouse is
// away, the error is CodeUnavailable.
func (s *Store) Import(ctx context.Context, token string, events []ImportEvent, outcomes []ImportOutcome) error {
	const most = 20_000 // rows of one insert
	writer := newEventWriter(s)
	for from := 0; from < len(events); from += most {
		part := events[from:min(from+most, len(events))]
		rows := make([]*eventRow, len(part))
		for i, e := range part {
			rows[i] = &eventRow{
				id: e.EventID, name: e.EventName, token: e.UserToken, userID: e.UserID, occurred: e.OccurredAt, received: e.OccurredAt,
				sequence: cmp.Or(e.Sequence, uint64(from+i+1)), lateness: string(schema.Historic), source: importSource,
				properties: string(e.Properties), traits: string(e.Traits),
			}
		}
		if err := writer.write(ctx, token+":"+strconv.Itoa(from), rows); err != nil {
			return translate(err, s.addr, "import events")
		}
	}
	for from := 0; from < len(outcomes); from += most {
		part := outcomes[from:min(from+most, len(outcomes))]
		rows := make([]*outcomeRow, len(part))
		for i, o := range part {
			rows[i] = &outcomeRow{Outcome: o.Outcome, sequence: cmp.Or(o.Sequence, uint64(from+i+1))}
		}
		if err := s.insertOutcomes(ctx, token+":"+strconv.Itoa(from), rows); err != nil {
			return translate(err, s.addr, "import outcomes")
		}
	}
	return nil
}
