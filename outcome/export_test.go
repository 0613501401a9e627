package outcome

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

// BatchToken is the token of a batch with those sequences of a stream that began at created.
func BatchToken(created time.Time, sequences ...uint64) string {
	batch := make([]delivery, len(sequences))
	for i, s := range sequences {
		batch[i] = delivery{sequence: s, received: created.Add(time.Duration(s))}
	}
	return token("archive", batch)
}

// InsertOutcomes writes one batch under a token of the test's choice; the first of them has the given sequence.
func (s *Store) InsertOutcomes(ctx context.Context, token string, sequence uint64, outcomes []schema.Outcome) error {
	rows := make([]*outcomeRow, len(outcomes))
	for i, o := range outcomes {
		rows[i] = &outcomeRow{Outcome: o, sequence: sequence + uint64(i)}
	}
	return s.insertOutcomes(ctx, token, rows)
}

// Translate is how errors of the driver get their code.
func Translate(err error) error { return translate(err, "db.example:9000", "open ClickHouse") }

// HeldEvents is how many events the sink has in hand, with their rows made.
func HeldEvents(s *Sink) int {
	s.archive.inbox.mu.Lock()
	defer s.archive.inbox.mu.Unlock()
	return s.archive.inbox.decoded
}

// Follow hands messages to the reader of the archive, which has all up to one of the stream.
func Follow(ctx context.Context, s *Sink, last uint64, messages ...jetstream.Msg) error {
	for _, m := range messages {
		if err := s.archive.receive(ctx, m, &last); err != nil {
			return err
		}
	}
	return nil
}

// ArchivedEvent is an event as the archive holds it. Times are Unix milliseconds.
type ArchivedEvent struct {
	ID, Name, Token    string
	OccurredAt         int64
	Sequence           uint64
	Properties, Traits string
}

// InsertEvents writes one batch under a token of the test's choice.
func (s *Store) InsertEvents(ctx context.Context, token string, events []ArchivedEvent) error {
	rows := make([]*eventRow, len(events))
	for i, e := range events {
		rows[i] = &eventRow{
			id: e.ID, name: e.Name, token: e.Token, userID: "id of " + e.Token, occurred: e.OccurredAt, received: e.OccurredAt, sequence: e.Sequence,
			lateness: string(schema.OnTime), source: "test", properties: e.Properties, traits: e.Traits,
		}
	}
	return s.insertEvents(ctx, token, rows)
}
