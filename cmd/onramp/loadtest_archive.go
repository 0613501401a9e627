package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// archiveSpeed compares the archive with an insert of the same rows, and with what nobody who archives a stream can spare.
type archiveSpeed struct {
	Rows      int     `json:"rows"`
	PerSecond float64 `json:"rows_per_second"`      // read, decoded, stored, acknowledged
	Bare      float64 `json:"bare_rows_per_second"` // by clickhouse-go alone, column by column
	Read      float64 `json:"read_per_second"`      // by nats.go alone: read from the stream, acknowledged as the sink does, and dropped
	Ratio     float64 `json:"ratio"`                // to the bare insert
	Bound     float64 `json:"bound"`                // the same ratio of one who only reads and then inserts bare
}

const (
	archiveUsers = 1000
	bareBatch    = 20_000 // rows of one insert, as the sink has at most
)

// archiveEvent is read by no playbook: nothing but the archive has work with it.
const archiveEvent = "archive_probe_viewed"

// archive lets events wait in the stream and measures how fast a sink takes them to ClickHouse, and how fast the driver alone
// inserts the same rows.
func (s *suite) archive(ctx context.Context) error {
	say(s.io.err, "archive: %d events …\n", s.sizes.archive)
	source := "archive-" + s.id
	stream, err := s.js.Stream(ctx, schema.EventsStream)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", schema.EventsStream, err)
	}
	first := stream.CachedInfo().State.LastSeq + 1
	for n := range s.sizes.archive {
		event := schema.Event{
			EventID: source + strconv.Itoa(n), EventName: archiveEvent, UserID: source + strconv.Itoa(n%archiveUsers), Properties: []byte(`{"feature":"reports"}`),
		}
		if err := publishEvent(s.js, source, event); err != nil {
			return err
		}
	}
	select {
	case <-s.js.PublishAsyncComplete():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	took, err := s.sinkAlone(ctx)
	if err != nil {
		return err
	}
	bare, err := s.insertBare(ctx, source)
	if err != nil {
		return err
	}
	read, err := s.readBare(ctx, first)
	if err != nil {
		return err
	}
	rows := float64(s.sizes.archive)
	s.found.Archive = archiveSpeed{
		Rows: s.sizes.archive, PerSecond: rows / took.Seconds(), Bare: rows / bare.Seconds(), Read: rows / read.Seconds(),
		Ratio: float64(bare) / float64(took), Bound: float64(bare) / float64(bare+read),
	}
	return nil
}

// readBare reads the same events once more by the client library alone, with an acknowledgment for as many as the sink stores at once. The
// first is the place of the first of them in the stream, which holds nothing after them yet.
func (s *suite) readBare(ctx context.Context, first uint64) (time.Duration, error) {
	consumer, err := s.js.CreateConsumer(ctx, schema.EventsStream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first, AckPolicy: jetstream.AckAllPolicy,
		MaxAckPending: 4 * bareBatch, InactiveThreshold: loadPatience,
	})
	if err != nil {
		return 0, fmt.Errorf("make a consumer of stream %s: %w", schema.EventsStream, err)
	}
	done := make(chan error, 1)
	began, got := time.Now(), 0
	reading, err := consumer.Consume(func(msg jetstream.Msg) {
		if got++; got%bareBatch == 0 || got == s.sizes.archive {
			if err := msg.Ack(); err != nil || got == s.sizes.archive {
				select {
				case done <- err:
				default: // an error is told already
				}
			}
		}
	}, jetstream.PullMaxMessages(2000)) // what the sink asks for at once
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", schema.EventsStream, err)
	}
	defer reading.Stop()
	timer := time.NewTimer(loadPatience)
	defer timer.Stop()
	select {
	case err := <-done:
		return time.Since(began), err
	case <-timer.C:
		return 0, fmt.Errorf("read stream %s: %w", schema.EventsStream, errStuck)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// sinkAlone runs a sink until the archive has everything, and returns how long that took.
func (s *suite) sinkAlone(ctx context.Context) (time.Duration, error) {
	stream, err := s.js.Stream(ctx, schema.EventsStream)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", schema.EventsStream, err)
	}
	last := stream.CachedInfo().State.LastSeq
	sink := outcome.NewSink(s.js, s.store, outcome.SinkConfig{WorkspaceKey: []byte(s.servers.WorkspaceKey), Exclusive: true, Logger: s.logger})
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

// insertBare reads the rows back and has the driver insert them into an empty table of the same shape, which is dropped again.
func (s *suite) insertBare(ctx context.Context, source string) (took time.Duration, err error) {
	const table = "loadtest_bare"
	db := s.store.Conn()
	if err := db.Exec(ctx, "CREATE OR REPLACE TABLE "+table+" AS events"); err != nil {
		return 0, fmt.Errorf("make table %s: %w", table, err)
	}
	defer func() {
		if dropErr := db.Exec(context.WithoutCancel(ctx), "DROP TABLE "+table); dropErr != nil {
			err = errors.Join(err, fmt.Errorf("drop table %s: %w", table, dropErr))
		}
	}()
	rows, err := db.Query(ctx, "SELECT "+strings.Join(bareColumns(), ", ")+" FROM events WHERE source = ? ORDER BY sequence", source)
	if err != nil {
		return 0, fmt.Errorf("read the archive: %w", err)
	}
	defer rows.Close() //nolint:errcheck // read to its end
	for {
		block, err := readBlock(rows)
		if err != nil {
			return 0, err
		}
		if len(block.ids) == 0 {
			break
		}
		began := time.Now()
		if err := block.insert(ctx, db, table); err != nil {
			return 0, fmt.Errorf("insert into %s: %w", table, err)
		}
		took += time.Since(began)
	}
	var stored uint64
	if err := db.QueryRow(ctx, "SELECT count() FROM "+table).Scan(&stored); err != nil {
		return 0, fmt.Errorf("count rows of %s: %w", table, err)
	}
	if int(stored) != s.sizes.archive {
		return 0, fmt.Errorf("%s has %d rows, and the archive was given %d events", table, stored, s.sizes.archive)
	}
	return took, nil
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

// columns are in the order of bareColumns.
func (b *bareRows) columns() []any {
	return []any{b.ids, b.names, b.tokens, b.occurred, b.received, b.sequences, b.lateness, b.clamped, b.sources, b.props, b.trait, b.traces}
}
