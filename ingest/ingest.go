package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/onramphq/onramp/internal/durable"
	"github.com/onramphq/onramp/internal/lease"
	"github.com/onramphq/onramp/schema"
)

// Sender hands a batch to the user's workflow, starting it if need be. It returns when the batch is durable, with what the workflow says of
// events to come, where it said something. Errors with schema.CodeInvalid can never succeed; all others are tried again. It is called
// for one user at a time.
type Sender interface {
	Send(ctx context.Context, user schema.JourneyStart, batch schema.EventBatch) (schema.Patience, error)
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
	held    held
	stuck   stuck // written before anything is read
}

type stats struct {
	received, signaled, signals, waited, retries, skipped, rejected, linked, mailboxes, queued atomic.Int64

	byReason sync.Map // schema.Reason → *atomic.Int64; as many as there are reasons
}

// Stats counts what became of messages since the start, and what is in hand now.
type Stats struct {
	Received int64 `json:"received"`
	Signaled int64 `json:"signaled"` // events handed to workflows
	Signals  int64 `json:"signals"`  // calls that took them there
	Waited   int64 `json:"waited"`   // events that could change nothing at first and waited for their user's next batch
	Retries  int64 `json:"retries"`  // calls that failed and were tried again
	Skipped  int64 `json:"skipped"`  // events no rule reads
	Rejected int64 `json:"rejected"` // dead letters
	Linked   int64 `json:"linked"`   // links of one user to another, and marks of those who are to become nobody else

	RejectedBy map[schema.Reason]int64 `json:"rejected_by,omitempty"`

	Mailboxes int64 `json:"mailboxes"` // users of whom something waits or is on its way, now
	Queued    int64 `json:"queued"`    // events that wait in mailboxes, now
	InHand    int64 `json:"in_hand"`   // messages taken over from the server and not settled, now
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
	stats := Stats{
		Signaled: i.stats.signaled.Load(), Signals: i.stats.signals.Load(),
		Retries: i.stats.retries.Load(), Skipped: i.stats.skipped.Load(), Rejected: i.stats.rejected.Load(), Linked: i.stats.linked.Load(), Waited: i.stats.waited.Load(),
		Mailboxes: i.stats.mailboxes.Load(), Queued: i.stats.queued.Load(),
		InHand: int64(i.held.count()),
	}
	i.stats.byReason.Range(func(reason, n any) bool {
		if stats.RejectedBy == nil {
			stats.RejectedBy = make(map[schema.Reason]int64)
		}
		stats.RejectedBy[reason.(schema.Reason)] = n.(*atomic.Int64).Load() //nolint:forcetypeassert,errcheck // reject stores nothing else
		return true
	})
	stats.Received = i.stats.received.Load() // last: what became of messages is never more than what came
	return stats
}

func (s *stats) reject(reason schema.Reason) {
	s.rejected.Add(1)
	n, _ := s.byReason.LoadOrStore(reason, new(atomic.Int64))
	n.(*atomic.Int64).Add(1) //nolint:forcetypeassert,errcheck // see above
}

// Run reads until ctx ends, then settles the page in hand. It returns an error where the consumer cannot be made or is
// taken away. Where other processes may run too, it waits for its turn.
func (i *Ingest) Run(ctx context.Context) error {
	if i.cfg.Exclusive {
		return i.work(ctx)
	}
	l, err := lease.Open(ctx, i.js, schema.IngestConsumer, schema.EventsStream, i.logger)
	if err != nil {
		return err
	}
	// Two that shared the consumer would overtake each other: the one gets a user's first event and the other the second. Whoever takes over
	// begins at the consumer's floor, so that every process sends a user's events from a place at or before the first that nobody has sent,
	// one after the other: whatever a predecessor that is not dead still sends, it sends after, and the workflow knows it already.
	if err := l.Work(ctx, i.work); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	return nil
}

// work is Run of the one process that may.
func (i *Ingest) work(ctx context.Context) error {
	for {
		err := i.session(ctx)
		if !errors.Is(err, errGap) {
			return err
		}
		i.logger.WarnContext(ctx, "a message was lost on its way here; back to the first that is not settled", slog.Any("error", err))
	}
}

// errGap says that the server handed out a message that did not come, because a connection broke while it was on its way. It would
// come again after AckWait, behind newer events of its user.
var errGap = errors.New("the server handed out a message that never came")

// session reads from the first message that is not settled, until ctx ends or a message is missing.
func (i *Ingest) session(ctx context.Context) error {
	consumer, err := i.consumer(ctx)
	if err != nil {
		return err
	}
	book, err := i.readLinks(ctx) // all of it again: what the session before made and did not write is made anew, in its place
	if err != nil {
		return err
	}
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(2 * i.cfg.Page))
	if err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "read " + schema.EventsStream, Err: err}
	}
	i.held.reset()
	messages := make(chan jetstream.Msg, i.cfg.InHand) // all the server hands out at once: pump never waits here
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		i.renew(ctx)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		iterator.Stop()
		return nil
	})
	group.Go(func() error {
		defer close(messages)
		return i.pump(iterator, messages, consumer.CachedInfo().Delivered.Consumer)
	})
	group.Go(func() error {
		boxes := newMailboxes(i, book)
		defer boxes.close()
		i.settle(ctx, messages, boxes)
		return nil
	})
	return group.Wait()
}

// consumer makes the durable consumer. One that a dead process left with messages in hand is made anew from its floor: the server
// would deliver those only after AckWait and behind newer ones, and so out of order. The server never gives a message up, because it
// would do so in silence; see exhausted.
func (i *Ingest) consumer(ctx context.Context) (jetstream.Consumer, error) {
	cfg := jetstream.ConsumerConfig{
		Durable: schema.IngestConsumer, Description: "events to workflows", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: i.cfg.AckWait, MaxDeliver: -1, MaxAckPending: i.cfg.InHand, DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	i.stuck = stuck{}
	old, err := i.js.Consumer(ctx, schema.EventsStream, schema.IngestConsumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "look up consumer " + schema.IngestConsumer, Err: err}
	default:
		info := old.CachedInfo()
		cfg.DeliverPolicy, cfg.OptStartSeq, cfg.Metadata = info.Config.DeliverPolicy, info.Config.OptStartSeq, info.Config.Metadata
		if info.NumAckPending > 0 {
			i.stuck = stuckAfter(info)
			i.logger.InfoContext(ctx, "consumer goes back to its floor", slog.Int("in_hand", info.NumAckPending),
				slog.Uint64("floor", info.AckFloor.Stream), slog.Uint64("deaths", i.stuck.deaths))
			cfg.Metadata = i.stuck.metadata()
			consumer, err := durable.Anew(ctx, i.js, schema.EventsStream, info.AckFloor.Stream, cfg)
			if err != nil {
				return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "make consumer " + schema.IngestConsumer + " anew", Err: err}
			}
			return consumer, nil
		}
	}
	consumer, err := i.js.CreateOrUpdateConsumer(ctx, schema.EventsStream, cfg)
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "create consumer " + schema.IngestConsumer, Err: err}
	}
	return consumer, nil
}

// stuck is the first message that nobody has settled, and how many processes ended with it in hand. A consumer that is made anew
// forgets how often it delivered a message, so it is written with it.
type stuck struct{ sequence, deaths uint64 }

const (
	metadataStuck  = "onramp-stuck"
	metadataDeaths = "onramp-deaths"
)

func stuckAfter(info *jetstream.ConsumerInfo) stuck {
	s := stuck{sequence: info.AckFloor.Stream + 1, deaths: 1}
	if info.Config.Metadata[metadataStuck] == strconv.FormatUint(s.sequence, 10) {
		if before, err := strconv.ParseUint(info.Config.Metadata[metadataDeaths], 10, 64); err == nil {
			s.deaths += before
		}
	}
	return s
}

func (s stuck) metadata() map[string]string {
	return map[string]string{metadataStuck: strconv.FormatUint(s.sequence, 10), metadataDeaths: strconv.FormatUint(s.deaths, 10)}
}

// attempts is how often a message was handed out: by this consumer, and by those before it.
func (s stuck) attempts(meta *jetstream.MsgMetadata) uint64 {
	if meta.Sequence.Stream == s.sequence {
		return meta.NumDelivered + s.deaths
	}
	return meta.NumDelivered
}

// pump takes messages over as they come. What is in hand already is not taken again: a second delivery would stand behind
// newer events of its user. delivered is how many deliveries the server has counted so far: it counts on by one, and back only where
// it lost its memory and delivers again what came before. It never waits: what the client library cannot hand over it drops.
func (i *Ingest) pump(iterator jetstream.MessagesContext, messages chan<- jetstream.Msg, delivered uint64) error {
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
		if meta, err := message.Metadata(); err == nil {
			if meta.Sequence.Consumer > delivered+1 {
				return fmt.Errorf("delivery %d follows on %d: %w", meta.Sequence.Consumer, delivered, errGap)
			}
			delivered = meta.Sequence.Consumer
		}
		if i.held.take(message) {
			messages <- message
		}
	}
}

// held is what was taken over from the server and is not settled: the page in work and all that waits behind it.
type held struct {
	mu         sync.Mutex
	bySequence map[uint64]jetstream.Msg
}

func (h *held) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bySequence = make(map[uint64]jetstream.Msg)
}

// take adds message, and returns false where it is held already.
func (h *held) take(message jetstream.Msg) bool {
	meta, err := message.Metadata()
	if err != nil {
		return true // refused when the page is sorted
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, twice := h.bySequence[meta.Sequence.Stream]
	h.bySequence[meta.Sequence.Stream] = message // the newest delivery is the one to renew
	return !twice
}

func (h *held) release(message jetstream.Msg) {
	meta, err := message.Metadata()
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.bySequence, meta.Sequence.Stream)
}

func (h *held) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.bySequence)
}

func (h *held) all() []jetstream.Msg {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.bySequence))
}

// gather waits for one message and takes all that are there already, up to limit. It returns none where late comes first, and false when
// there will be none any more.
func gather(messages <-chan jetstream.Msg, limit int, late <-chan time.Time) ([]jetstream.Msg, bool) {
	var page []jetstream.Msg
	select {
	case first, open := <-messages:
		if !open {
			return nil, false
		}
		page = append(page, first)
	case <-late:
		return nil, true
	}
	for len(page) < limit {
		select {
		case message, open := <-messages:
			if !open {
				return page, true
			}
			page = append(page, message)
		default:
			return page, true
		}
	}
	return page, true
}

// retryDelays grow while Temporal is away.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)
