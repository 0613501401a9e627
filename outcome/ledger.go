package outcome

import (
	"context"
	"iter"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/onramphq/onramp/schema"
)

// Archived is one event of the archive.
type Archived struct {
	UserToken string
	schema.UserEvent
}

// Recorded is one outcome with its place in ONRAMP_OUTCOMES. Of its fields it has those that tell what happened when and why; the
// rest is empty.
type Recorded struct {
	schema.Outcome

	Sequence uint64
}

// Written is a message that the dead letters speak of.
type Written struct {
	Stream   string
	Sequence uint64
}

// Archive reads the events of the users whose tokens lie in [from, to), as analysts see them. The sequence ends with an error
// where ClickHouse is away.
func (s *Store) Archive(ctx context.Context, from, to string) iter.Seq2[Archived, error] {
	return stream(ctx, s, "read archive", func(rows driver.Rows) (a Archived, err error) {
		var lateness, properties, traits string
		err = rows.Scan(&a.UserToken, &a.EventID, &a.EventName, &a.Sequence, &a.OccurredAt, &a.ReceivedAt, &lateness, &properties, &traits)
		a.Lateness, a.Properties, a.Traits = schema.Lateness(lateness), object(properties), object(traits)
		return a, err
	}, `SELECT user_token, event_id, event_name, sequence, toUnixTimestamp64Milli(occurred_at), toUnixTimestamp64Milli(received_at),
		lateness, properties, traits FROM events_unique WHERE user_token >= ? AND user_token < ? ORDER BY user_token, sequence`, from, to)
}

// Outcomes likewise reads outcomes.
func (s *Store) Outcomes(ctx context.Context, from, to string) iter.Seq2[Recorded, error] {
	return stream(ctx, s, "read outcomes", func(rows driver.Rows) (r Recorded, err error) {
		var kind string
		err = rows.Scan(&r.UserToken, &r.OutcomeID, &kind, &r.Sequence, &r.At, &r.RecordedAt, &r.CauseEventID, &r.Playbook, &r.Journey,
			&r.StepKey, &r.Action, &r.ActionID, &r.Segment, &r.Experiment, &r.Goal, &r.Reason, &r.LogSequence, &r.DecidedAt)
		r.Kind = schema.OutcomeKind(kind)
		return r, err
	}, `SELECT user_token, outcome_id, kind, sequence, toUnixTimestamp64Milli(at), toUnixTimestamp64Milli(recorded_at), cause_event_id,
		playbook, journey, step_key, action, action_id, segment, experiment, goal, reason, log_sequence, toUnixTimestamp64Milli(decided_at)
		FROM outcomes_unique WHERE user_token >= ? AND user_token < ? ORDER BY user_token, sequence`, from, to)
}

// DeadLetters reads which messages were ever written off, settled or not.
func (s *Store) DeadLetters(ctx context.Context) iter.Seq2[Written, error] {
	return stream(ctx, s, "read dead letters", func(rows driver.Rows) (w Written, err error) {
		err = rows.Scan(&w.Stream, &w.Sequence)
		return w, err
	}, "SELECT stream, sequence FROM dead_letters_unique")
}

// Copies is how many rows are stored more than once and counted once.
type Copies struct {
	Events   int64 `json:"events"`
	Outcomes int64 `json:"outcomes"`
}

// StoredTwice counts the rows that a view leaves out because it has them already. Where a server died between an insert and its
// acknowledgment there are some, until ClickHouse merges them away.
func (s *Store) StoredTwice(ctx context.Context) (c Copies, err error) {
	err = s.conn.QueryRow(ctx, `SELECT (SELECT count() - uniqExact(user_token, event_id) FROM events),
		(SELECT count() - uniqExact(kind, user_token, outcome_id) FROM outcomes)`).Scan(&c.Events, &c.Outcomes)
	return c, translate(err, s.addr, "count copies")
}

// stream reads the rows of a query one by one.
func stream[T any](ctx context.Context, s *Store, doing string, scan func(driver.Rows) (T, error), sql string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx) // whoever stops early stops the query too
		defer cancel()
		enough := false
		err := (&query{store: s}).each(ctx, func(rows driver.Rows) error {
			row, err := scan(rows)
			if err != nil {
				return err
			}
			if !yield(row, nil) {
				enough = true
				return context.Canceled
			}
			return nil
		}, sql, args...)
		if err != nil && !enough {
			var none T
			yield(none, translate(err, s.addr, doing))
		}
	}
}
