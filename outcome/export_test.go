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
	return EventWriter(s, time.Now)(ctx, token, events)
}

// EventWriter returns what the sink stores batches of events by, under tokens of the test's choice.
func EventWriter(s *Store, now func() time.Time) func(ctx context.Context, token string, events []ArchivedEvent) error {
	w := newEventWriter(s)
	w.now = now
	return func(ctx context.Context, token string, events []ArchivedEvent) error {
		rows := make([]*eventRow, len(events))
		for i, e := range events {
			rows[i] = &eventRow{
				id: e.ID, name: e.Name, token: e.Token, userID: "id of " + e.Token, occurred: e.OccurredAt, received: e.OccurredAt, sequence: e.Sequence,
				lateness: string(schema.OnTime), source: "test", properties: e.Properties, traits: e.Traits,
			}
		}
		return w.write(ctx, token, rows)
	}
}

// Carried is a batch that was inserted: when, counted from the beginning, and of how many rows.
type Carried struct {
	At   time.Duration
	Rows int
}

// CarryAt has messages come at these times, in order, and returns the batches they went in.
func CarryAt(ctx context.Context, cfg SinkConfig, arrivals ...time.Duration) (batches []Carried) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	began, left := time.Now(), len(arrivals)
	c := newCarrier(nil, cfg.withDefaults(), "STREAM", "consumer",
		func(delivery) (int, error) { return 0, nil },
		func(_ context.Context, _ string, rows []*int) error {
			batches = append(batches, Carried{time.Since(began), len(rows)})
			left -= len(rows)
			return nil
		})
	go c.inbox.decode(ctx, c.decode)
	go func() {
		for i, at := range arrivals {
			pause(ctx, at-time.Since(began))
			c.inbox.put(ctx, delivery{msg: emptyMsg{}, sequence: uint64(i)})
		}
	}()
	for left > 0 {
		if _, err := c.next(ctx, ctx); err != nil {
			return nil
		}
	}
	return batches
}

// emptyMsg is a message that nobody sent.
type emptyMsg struct{ jetstream.Msg }

func (emptyMsg) Data() []byte { return nil }
func (emptyMsg) Ack() error   { return nil }
