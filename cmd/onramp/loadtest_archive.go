package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// archiveSpeed compares the archive with those who do a part of its work, or all of it, with the bare libraries. Each is the median of the rounds.
type archiveSpeed struct {
	Rows     int     `json:"rows"`
	Bare     float64 `json:"bare_rows_per_second"` // rows in hand inserted by clickhouse-go alone, column by column
	InHand   float64 `json:"in_hand_per_second"`   // messages in hand, by the sink: decoded, stored, acknowledged
	Ratio    float64 `json:"ratio"`                // of that to the bare insert
	Sink     float64 `json:"rows_per_second"`      // by the sink from the stream: read, decoded, stored, acknowledged
	ByHand   float64 `json:"by_hand_per_second"`   // by nats.go, encoding/json and clickhouse-go from the stream
	OfByHand float64 `json:"ratio_to_by_hand"`     // of the sink
	OfBare   float64 `json:"ratio_of_stream"`      // of the sink, to the bare insert
	Read     float64 `json:"read_per_second"`      // read by nats.go alone, acknowledged, and kept
	Bound    float64 `json:"bound_of_stream"`      // ratio to the bare insert of one who first reads so and then inserts bare
}

const (
	archiveUsers = 1000
	bareBatch    = 20_000 // rows of one insert, as the sink has at most
)

// archiveEvent is read by no playbook: nothing but the archive has work with it.
const archiveEvent = "archive_probe_viewed"

// archive lets events wait in the stream and measures how fast a sink takes them to ClickHouse, from the stream and from its hand, and how fast
// the libraries alone do the same.
func (s *suite) archive(ctx context.Context) error {
	rounds := make([]archiveRound, s.sizes.archived)
	for i := range rounds {
		var err error
		if rounds[i], err = s.archiveRound(ctx, i); err != nil {
			return err
		}
	}
	rate := func(took func(archiveRound) time.Duration) float64 {
		return medianOf(rounds, func(r archiveRound) float64 { return float64(s.sizes.archive) / took(r).Seconds() })
	}
	s.found.Archive = archiveSpeed{
		Rows:     s.sizes.archive,
		Bare:     rate(func(r archiveRound) time.Duration { return r.bare }),
		InHand:   rate(func(r archiveRound) time.Duration { return r.inHand }),
		Sink:     rate(func(r archiveRound) time.Duration { return r.sink }),
		ByHand:   rate(func(r archiveRound) time.Duration { return r.byHand }),
		Read:     rate(func(r archiveRound) time.Duration { return r.read }),
		Ratio:    medianOf(rounds, func(r archiveRound) float64 { return r.bare.Seconds() / r.inHand.Seconds() }),
		OfByHand: medianOf(rounds, func(r archiveRound) float64 { return r.byHand.Seconds() / r.sink.Seconds() }),
		OfBare:   medianOf(rounds, func(r archiveRound) float64 { return r.bare.Seconds() / r.sink.Seconds() }),
		Bound:    medianOf(rounds, func(r archiveRound) float64 { return r.bare.Seconds() / (r.bare + r.read).Seconds() }),
	}
	return nil
}

// archiveRound is what each took for the same events.
type archiveRound struct{ sink, read, inHand, byHand, bare time.Duration }

func (s *suite) archiveRound(ctx context.Context, round int) (r archiveRound, err error) {
	say(s.io.err, "archive: %d events …\n", s.sizes.archive)
	source := fmt.Sprintf("archive-%s-%d", s.id, round)
	stream, err := s.js.Stream(ctx, schema.EventsStream)
	if err != nil {
		return r, fmt.Errorf("look at stream %s: %w", schema.EventsStream, err)
	}
	first := stream.CachedInfo().State.LastSeq + 1
	for n := range s.sizes.archive {
		event := schema.Event{
			EventID: source + strconv.Itoa(n), EventName: archiveEvent, UserID: source + strconv.Itoa(n%archiveUsers), Properties: []byte(`{"feature":"reports"}`),
		}
		if err := publishEvent(s.js, source, event); err != nil {
			return r, err
		}
	}
	select {
	case <-s.js.PublishAsyncComplete():
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
	inHand := make([]jetstream.Msg, 0, s.sizes.archive) // read first: so nobody else finds NATS without the messages in memory
	for _, part := range []struct {
		took *time.Duration
		do   func() (time.Duration, error)
	}{
		{&r.read, func() (time.Duration, error) {
			return s.readBare(ctx, first, func(part []jetstream.Msg) error {
				inHand = append(inHand, part...)
				return nil
			})
		}},
		{&r.inHand, func() (time.Duration, error) { return s.sinkInHand(ctx, inHand) }},
		{&r.bare, func() (time.Duration, error) { return s.insertBare(ctx, source) }},
		{&r.sink, func() (time.Duration, error) { return s.sinkAlone(ctx) }},
		{&r.byHand, func() (time.Duration, error) { return s.byHand(ctx, first) }},
	} {
		if err := s.calm(ctx); err != nil {
			return r, err
		}
		if *part.took, err = part.do(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// calm waits until ClickHouse merges nothing, and tidies up here: nobody pays for what another has left.
func (s *suite) calm(ctx context.Context) error {
	var failed error
	err := awaitProgress(ctx, nil, loadPatience, func() (int, bool) {
		var merges uint64
		failed = s.store.Conn().QueryRow(ctx, "SELECT count() FROM system.merges").Scan(&merges)
		return int(merges), failed != nil || merges == 0
	})
	if err := errors.Join(failed, err); err != nil {
		return fmt.Errorf("wait for the merges of ClickHouse: %w", err)
	}
	runtime.GC()
	return nil
}

// readBare reads the events by the client library alone, hands on as many at once as the sink stores, and acknowledges them. The first is the
// place of the first of them in the stream, which holds nothing after them.
func (s *suite) readBare(ctx context.Context, first uint64, take func([]jetstream.Msg) error) (time.Duration, error) {
	consumer, err := s.js.CreateConsumer(ctx, schema.EventsStream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first, AckPolicy: jetstream.AckAllPolicy,
		MaxAckPending: 4 * bareBatch, InactiveThreshold: loadPatience,
	})
	if err != nil {
		return 0, fmt.Errorf("make a consumer of stream %s: %w", schema.EventsStream, err)
	}
	parts := make(chan []jetstream.Msg, s.sizes.archive/bareBatch+1) // the library never waits
	began, got := time.Now(), 0
	part := make([]jetstream.Msg, 0, bareBatch)
	reading, err := consumer.Consume(func(msg jetstream.Msg) {
		part = append(part, msg)
		if got++; len(part) == bareBatch || got == s.sizes.archive {
			parts <- part
			part = make([]jetstream.Msg, 0, bareBatch)
		}
	}, jetstream.PullMaxMessages(2000)) // what the sink asks for at once
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", schema.EventsStream, err)
	}
	defer reading.Stop()
	for taken := 0; taken < s.sizes.archive; {
		select {
		case part := <-parts:
			if err := errors.Join(take(part), part[len(part)-1].Ack()); err != nil {
				return 0, err
			}
			taken += len(part)
		case <-time.After(loadPatience):
			return 0, fmt.Errorf("read stream %s: %w", schema.EventsStream, errStuck)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return time.Since(began), nil
}

// sinkInHand has a sink store events that were read already.
func (s *suite) sinkInHand(ctx context.Context, events []jetstream.Msg) (time.Duration, error) {
	began := time.Now()
	err := s.newSink().ArchiveInHand(ctx, events)
	return time.Since(began), err
}

func (s *suite) newSink() *outcome.Sink {
	return outcome.NewSink(s.js, s.store, outcome.SinkConfig{WorkspaceKey: []byte(s.servers.WorkspaceKey), Exclusive: true, Logger: s.logger})
}

// byHand archives the events as one does who has the libraries and nothing else: no user is tokenized, nothing is checked, and no retry is safe.
func (s *suite) byHand(ctx context.Context, first uint64) (took time.Duration, err error) {
	err = s.bareTable(ctx, func(table string) error {
		took, err = s.readBare(ctx, first, func(part []jetstream.Msg) error {
			rows := new(bareRows)
			for _, msg := range part {
				if err := rows.decode(msg); err != nil {
					return err
				}
			}
			return rows.insert(ctx, s.store.Conn(), table)
		})
		return err
	})
	return took, err
}

// sinkAlone runs a sink until the archive has everything, and returns how long that took.
func (s *suite) sinkAlone(ctx context.Context) (time.Duration, error) {
	stream, err := s.js.Stream(ctx, schema.EventsStream)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", schema.EventsStream, err)
	}
	last := stream.CachedInfo().State.LastSeq
	sink := s.newSink()
	if err := sink.EnsureConsumers(ctx); err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- sink.Run(running) }()
	deadline := began.Add(loadPatience)
	for {
		consumer, err := s.js.Consumer(ctx, schema.EventsStream, schema.ArchiveConsumer)
		if err == nil && consumer.CachedInfo().AckFloor.Stream >= last {
			break
		}
		if err == nil && time.Now().After(deadline) {
			err = errStuck
		}
		if err == nil {
			err = waitUntil(ctx, time.Now().Add(50*time.Millisecond))
		}
		if err != nil {
			stop()
			return 0, errors.Join(fmt.Errorf("wait for the archive: %w", err), <-done)
		}
	}
	took := time.Since(began)
	stop()
	return took, <-done
}

// bareColumns are those of events that are not made by the server.
func bareColumns() []string {
	return []string{"event_id", "event_name", "user_token", "occurred_at", "received_at", "sequence", "lateness", "clamped", "source", "properties", "traits", "trace_id"}
}

// bareTable lends a table of the shape of events, empty, and checks that it has as many rows in the end.
func (s *suite) bareTable(ctx context.Context, fill func(table string) error) (err error) {
	const table = "loadtest_bare"
	db := s.store.Conn()
	if err := db.Exec(ctx, "CREATE OR REPLACE TABLE "+table+" AS events"); err != nil {
		return fmt.Errorf("make table %s: %w", table, err)
	}
	defer func() {
		if dropErr := db.Exec(context.WithoutCancel(ctx), "DROP TABLE "+table); dropErr != nil {
			err = errors.Join(err, fmt.Errorf("drop table %s: %w", table, dropErr))
		}
	}()
	if err := fill(table); err != nil {
		return err
	}
	var stored uint64
	if err := db.QueryRow(ctx, "SELECT count() FROM "+table).Scan(&stored); err != nil {
		return fmt.Errorf("count rows of %s: %w", table, err)
	}
	if int(stored) != s.sizes.archive {
		return fmt.Errorf("%s has %d rows, and the archive was given %d events", table, stored, s.sizes.archive)
	}
	return nil
}

// insertBare reads the rows back and has the driver insert them.
func (s *suite) insertBare(ctx context.Context, source string) (took time.Duration, err error) {
	err = s.bareTable(ctx, func(table string) error {
		rows, err := s.store.Conn().Query(ctx, "SELECT "+strings.Join(bareColumns(), ", ")+" FROM events_unique WHERE source = ? ORDER BY sequence", source)
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		defer rows.Close() //nolint:errcheck // read to its end
		for {
			block, err := readBlock(rows)
			if err != nil || len(block.ids) == 0 {
				return err
			}
			began := time.Now()
			if err := block.insert(ctx, s.store.Conn(), table); err != nil {
				return fmt.Errorf("insert into %s: %w", table, err)
			}
			took += time.Since(began)
		}
	})
	return took, err
}

// bareRows are columns of events.
type bareRows struct {
	ids, names, tokens    []string
	occurred, received    []time.Time
	sequences             []uint64
	lateness              []string
	clamped               []bool
	sources, props, trait []string
	traces                []string
}

// readBlock reads the rows of one insert; none at the end.
func readBlock(rows driver.Rows) (*bareRows, error) {
	b := new(bareRows)
	for len(b.ids) < bareBatch && rows.Next() {
		if err := b.read(rows); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	return b, nil
}

// insert is all that is measured of the driver.
func (b *bareRows) insert(ctx context.Context, db driver.Conn, table string) (err error) {
	batch, err := db.PrepareBatch(ctx, "INSERT INTO "+table+" ("+strings.Join(bareColumns(), ", ")+")")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, batch.Close()) }()
	for i, values := range b.columns() {
		if err := batch.Column(i).Append(values); err != nil {
			return fmt.Errorf("column %s: %w", bareColumns()[i], err)
		}
	}
	return batch.Send()
}

// read takes one row over.
func (b *bareRows) read(rows driver.Rows) error {
	var id, name, token, lateness, source, properties, traits, trace string
	var occurred, received time.Time
	var sequence uint64
	var clamped bool
	if err := rows.Scan(&id, &name, &token, &occurred, &received, &sequence, &lateness, &clamped, &source, &properties, &traits, &trace); err != nil {
		return fmt.Errorf("read a row of the archive: %w", err)
	}
	b.ids, b.names, b.tokens = append(b.ids, id), append(b.names, name), append(b.tokens, token)
	b.occurred, b.received, b.sequences = append(b.occurred, occurred), append(b.received, received), append(b.sequences, sequence)
	b.lateness, b.clamped, b.sources = append(b.lateness, lateness), append(b.clamped, clamped), append(b.sources, source)
	b.props, b.trait, b.traces = append(b.props, properties), append(b.trait, traits), append(b.traces, trace)
	return nil
}

// decode takes over what a message says, as it says it.
func (b *bareRows) decode(msg jetstream.Msg) error {
	var event struct {
		ID         string          `json:"event_id"`
		Name       string          `json:"event_name"`
		UserID     string          `json:"user_id"`
		Properties json.RawMessage `json:"properties"`
		Traits     json.RawMessage `json:"traits"`
	}
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	if err := json.Unmarshal(msg.Data(), &event); err != nil {
		return fmt.Errorf("read message %d: %w", meta.Sequence.Stream, err)
	}
	b.ids, b.names, b.tokens = append(b.ids, event.ID), append(b.names, event.Name), append(b.tokens, event.UserID)
	b.occurred, b.received, b.sequences = append(b.occurred, meta.Timestamp), append(b.received, meta.Timestamp), append(b.sequences, meta.Sequence.Stream)
	b.lateness, b.clamped, b.sources = append(b.lateness, "on_time"), append(b.clamped, false), append(b.sources, msg.Subject())
	b.props, b.trait, b.traces = append(b.props, string(event.Properties)), append(b.trait, string(event.Traits)), append(b.traces, "")
	return nil
}

// columns are in the order of bareColumns.
func (b *bareRows) columns() []any {
	return []any{b.ids, b.names, b.tokens, b.occurred, b.received, b.sequences, b.lateness, b.clamped, b.sources, b.props, b.trait, b.traces}
}
