package outcome

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/onramphq/onramp/internal/lease"
	"github.com/onramphq/onramp/schema"
)

// Sink carries three streams into ClickHouse. Any number of processes may run one: one works, and the others wait for its lease. That lets it
// acknowledge a batch with one message, which says that everything before is stored too.
type Sink struct {
	js          jetstream.JetStream
	cfg         SinkConfig
	archive     *carrier[eventRow]
	outcomes    *carrier[outcomeRow]
	deadLetters *carrier[deadLetterRow]
}

// NewSink returns a sink that writes to store. It touches nothing until Run.
func NewSink(js jetstream.JetStream, store *Store, cfg SinkConfig) *Sink {
	cfg = cfg.withDefaults()
	s := &Sink{
		js: js, cfg: cfg,
		archive: newCarrier(js, cfg, schema.EventsStream, schema.ArchiveConsumer,
			newEventDecoder(cfg.WorkspaceKey).decode, traced(cfg.Tracer, "events", func(r *eventRow) schema.Trace { return r.trace }, newEventWriter(store).write)),
		outcomes: newCarrier(js, cfg, schema.OutcomesStream, schema.OutcomesConsumer,
			decodeOutcome, traced(cfg.Tracer, "outcomes", func(r *outcomeRow) schema.Trace { return r.Trace }, store.insertOutcomes)),
		deadLetters: newCarrier(js, cfg, schema.DeadLettersStream, schema.DeadLettersConsumer, decodeDeadLetter, store.insertDeadLetters),
	}
	s.archive.rowless = func(r *eventRow) bool { return r.canary }
	return s
}

// Run carries until ctx ends, then finishes the batches in hand within the grace and returns nil; while another process does it, it waits. It
// creates its consumers and needs the streams to be there. ClickHouse or NATS being away is not an error: it waits, logs, and goes on. An
// error means that waiting cannot help: a wrong configuration, a missing stream, or a connection that was closed for good.
func (s *Sink) Run(ctx context.Context) error {
	if err := s.cfg.validate(); err != nil {
		return &schema.Error{Code: schema.CodeInvalid, Message: "read sink configuration", Err: err}
	}
	if s.cfg.Exclusive {
		return s.work(ctx)
	}
	var turn *lease.Lease
	err := s.await(ctx, func(ctx context.Context) (err error) {
		turn, err = lease.Open(ctx, s.js, schema.SinkLease, schema.EventsStream, s.cfg.Logger)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop before it began
		}
		return err
	}
	return turn.Work(ctx, s.work)
}

// work carries until ctx ends. Where it ends because another process has the lease, there is no grace: that one begins where this one had come to.
func (s *Sink) work(ctx context.Context) error {
	if err := s.await(ctx, s.EnsureConsumers); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	group, running := errgroup.WithContext(ctx)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(running, func() {
		if errors.Is(context.Cause(running), lease.ErrLost) {
			stop()
			return
		}
		timer := time.NewTimer(s.cfg.Grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			stop()
		case <-work.Done():
		}
	})()
	group.Go(func() error { return s.archive.run(running, work) })
	group.Go(func() error { return s.outcomes.run(running, work) })
	group.Go(func() error { return s.deadLetters.run(running, work) })
	err := group.Wait()
	if flushErr := s.js.Conn().FlushTimeout(s.cfg.Grace); flushErr != nil && err == nil && ctx.Err() == nil {
		err = fmt.Errorf("flush acknowledgements: %w", flushErr)
	}
	return err
}

// ArchiveInHand takes events that the caller has read from their stream to the archive, as Run takes those it reads: decoded, stored,
// acknowledged. It returns when all are, and so shows what storing takes by itself. What Run has stored is stored again, and counted once. Not to
// be called while Run runs.
func (s *Sink) ArchiveInHand(ctx context.Context, events []jetstream.Msg) error {
	if err := s.cfg.validate(); err != nil {
		return &schema.Error{Code: schema.CodeInvalid, Message: "read sink configuration", Err: err}
	}
	c := newCarrier(s.js, s.cfg, schema.EventsStream, "in-hand", s.archive.decode, s.archive.insert)
	c.rowless = s.archive.rowless
	return c.inHand(ctx, events)
}

// EnsureConsumers creates the three durable consumers, or brings them up to date, and asserts that the server has them as
// asked. A missing stream is CodeUnavailable; a consumer of another kind under the same name is CodeConflict.
func (s *Sink) EnsureConsumers(ctx context.Context) error {
	_, errArchive := s.archive.consumer(ctx, false)
	_, errOutcomes := s.outcomes.consumer(ctx, false)
	_, errDeadLetters := s.deadLetters.consumer(ctx, false)
	return errors.Join(errArchive, errOutcomes, errDeadLetters)
}

// openTimeout bounds one attempt to reach NATS: while it is away a request waits for its answer as long as it may.
const openTimeout = 2 * time.Second

// await calls open until it succeeds: the server may not be there yet. It returns an error where waiting cannot help.
func (s *Sink) await(ctx context.Context, open func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		bound, cancel := context.WithTimeout(ctx, openTimeout)
		err := open(bound)
		cancel()
		if err == nil || s.hopeless(err) {
			return err
		}
		wait := growing(attempt, s.cfg.MaxRetryWait)
		s.cfg.Logger.WarnContext(ctx, "wait for NATS", slog.Int("attempt", attempt+1), slog.Duration("retry_in", wait), slog.Any("error", err))
		if !pause(ctx, wait) {
			return err
		}
	}
}

// hopeless reports whether err of what opens the sink stays however long one waits: a server that answered has said so, or none ever will.
func (s *Sink) hopeless(err error) bool {
	if s.js.Conn().IsClosed() {
		return true
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // EnsureConsumers joins them, and each counts
		all = joined.Unwrap()
	}
	return slices.ContainsFunc(all, func(err error) bool {
		return schema.CodeOf(err) != schema.CodeUnavailable || errors.Is(err, jetstream.ErrStreamNotFound)
	})
}

// Stats is what the sink has done since it was made.
type Stats struct {
	Archive, Outcomes, DeadLetters ConsumerStats
}

// ConsumerStats counts for one consumer. Duplicates are not among them: only ClickHouse knows, and collapses them.
type ConsumerStats struct {
	Rows    uint64 `json:"rows"`    // handed to ClickHouse and stored, redelivered ones included
	Batches uint64 `json:"batches"` // inserts that were stored
	Skipped uint64 `json:"skipped"` // messages without a row: canaries, and what is in the dead letters by ingest
	Refused uint64 `json:"refused"` // messages that the sink wrote off as undeliverable
	Retries uint64 `json:"retries"` // attempts that failed because a server was away
	Lag     uint64 `json:"lag"`     // messages not yet settled, as far as known: held, and waiting in the stream
}

// Stats returns the counters. Safe to call at any time.
func (s *Sink) Stats() Stats {
	return Stats{Archive: s.archive.stats(), Outcomes: s.outcomes.stats(), DeadLetters: s.deadLetters.stats()}
}
