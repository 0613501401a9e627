package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/onramphq/onramp/schema"
)

// Sender hands a batch to the user's workflow, starting it if need be. It returns when the batch is durable. Errors with
// schema.CodeInvalid can never succeed; all others are tried again. It is called for one user at a time.
type Sender interface {
	Send(ctx context.Context, user schema.JourneyStart, batch schema.EventBatch) error
}

// Playbook is what ingest must know of the playbook in force: its name, and which events anything reads.
type Playbook struct {
	Hash     string
	Revision uint64
	Reads    func(event string, hasTraits bool) bool
}

// Ingest is the reader of ONRAMP_EVENTS that feeds the workflows.
type Ingest struct {
	js      jetstream.JetStream
	sender  Sender
	current func() (Playbook, error)
	cfg     Config
	logger  *slog.Logger
	stats   stats
}

type stats struct{ received, signaled, signals, skipped, rejected atomic.Int64 }

// Stats counts what became of messages since the start.
type Stats struct {
	Received int64 `json:"received"`
	Signaled int64 `json:"signaled"` // events handed to workflows
	Signals  int64 `json:"signals"`  // calls that took them there
	Skipped  int64 `json:"skipped"`  // events no rule reads
	Rejected int64 `json:"rejected"` // dead letters
}

// New returns an Ingest. current answers with the playbook in force; it is asked once a page.
func New(js jetstream.JetStream, sender Sender, current func() (Playbook, error), cfg Config, logger *slog.Logger) (*Ingest, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Ingest{js: js, sender: sender, current: current, cfg: cfg, logger: logger}, nil
}

// Stats returns the counts so far.
func (i *Ingest) Stats() Stats {
	return Stats{
		Received: i.stats.received.Load(), Signaled: i.stats.signaled.Load(), Signals: i.stats.signals.Load(),
		Skipped: i.stats.skipped.Load(), Rejected: i.stats.rejected.Load(),
	}
}

// Run reads until ctx ends, then settles the page in hand. It returns an error where the consumer cannot be made or is
// taken away.
func (i *Ingest) Run(ctx context.Context) error {
	consumer, err := i.consumer(ctx)
	if err != nil {
		return err
	}
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(2 * i.cfg.Page))
	if err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "read " + schema.EventsStream, Err: err}
	}
	messages := make(chan jetstream.Msg, 2*i.cfg.Page)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		iterator.Stop()
		return nil
	})
	group.Go(func() error {
		defer close(messages)
		return pump(iterator, messages)
	})
	group.Go(func() error {
		for {
			page := gather(messages, i.cfg.Page)
			if len(page) == 0 {
				return nil
			}
			if ctx.Err() != nil {
				continue // left unacknowledged: the next process gets them
			}
			i.settlePage(ctx, page)
		}
	})
	return group.Wait()
}

// consumer makes the durable consumer. An exclusive one that a dead process left with messages in hand is made anew from its
// floor: the server would deliver those only after AckWait and behind newer ones, and so out of order.
func (i *Ingest) consumer(ctx context.Context) (jetstream.Consumer, error) {
	cfg := jetstream.ConsumerConfig{
		Durable: schema.IngestConsumer, Description: "events to workflows", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: i.cfg.AckWait, MaxDeliver: i.cfg.MaxDeliver, MaxAckPending: 4 * i.cfg.Page, DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	old, err := i.js.Consumer(ctx, schema.EventsStream, schema.IngestConsumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "look up consumer " + schema.IngestConsumer, Err: err}
	default:
		info := old.CachedInfo()
		cfg.DeliverPolicy, cfg.OptStartSeq = info.Config.DeliverPolicy, info.Config.OptStartSeq
		if i.cfg.Exclusive && info.NumAckPending > 0 {
			i.logger.Info("consumer goes back to its floor", slog.Int("in_hand", info.NumAckPending), slog.Uint64("floor", info.AckFloor.Stream))
			if err := i.js.DeleteConsumer(ctx, schema.EventsStream, schema.IngestConsumer); err != nil {
				return nil, fmt.Errorf("delete consumer %s: %w", schema.IngestConsumer, err)
			}
			cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, info.AckFloor.Stream+1
		}
	}
	consumer, err := i.js.CreateOrUpdateConsumer(ctx, schema.EventsStream, cfg)
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "create consumer " + schema.IngestConsumer, Err: err}
	}
	return consumer, nil
}

func pump(iterator jetstream.MessagesContext, messages chan<- jetstream.Msg) error {
	for {
		message, err := iterator.Next()
		switch {
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case errors.Is(err, jetstream.ErrNoHeartbeat): // the server is away: the iterator goes on when it is back
			continue
		case err != nil:
			return fmt.Errorf("read %s: %w", schema.EventsStream, err)
		}
		messages <- message
	}
}

// gather waits for one message and takes all that are there already, up to limit.
func gather(messages <-chan jetstream.Msg, limit int) []jetstream.Msg {
	first, open := <-messages
	if !open {
		return nil
	}
	page := []jetstream.Msg{first}
	for len(page) < limit {
		select {
		case message, open := <-messages:
			if !open {
				return page
			}
			page = append(page, message)
		default:
			return page
		}
	}
	return page
}

// retryDelays grow while Temporal is away.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)
