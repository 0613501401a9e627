package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/internal/recent"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// Bounds of exposures on their way.
const (
	exposuresWaiting = 4096
	exposuresAtOnce  = 256
	// exposuresKnown is how many exposures a process remembers to have recorded, in each of two halves: a bound on its memory. One
	// that is forgotten is recorded again under the same id, and counts once.
	exposuresKnown = 100_000
	exposureRetry  = time.Second
	exposureFlush  = 2 * time.Second
)

// What became of an exposure, for Exposures.Counted.
const (
	ExposureRecorded = "recorded"
	ExposureDropped  = "dropped" // too many waited; the next evaluation tries again
)

// Exposures puts on record that a flag has treated a user. Safe for concurrent use; Run sends what waits. Whoever evaluates a flag
// never waits for it and never fails because of it: what finds no room is dropped, and tried again when the flag is next evaluated.
type Exposures struct {
	// Counted is told what became of exposures. It must not block. Defaults to nobody.
	Counted func(result string)

	js     jetstream.JetStream
	book   func() *playbook.Playbook
	logger *slog.Logger
	queue  chan schema.Outcome
	byFlag atomic.Pointer[flagBook]
	known  *recent.Map[string, struct{}] // outcome ids
}

// flagBook is what flags need of a playbook.
type flagBook struct {
	*playbook.Playbook

	experiments []*playbook.Experiment // those met by their flag alone
}

// NewExposures publishes over js. book gives the playbook in force, nil while there is none; it is called for every answer.
func NewExposures(js jetstream.JetStream, book func() *playbook.Playbook, logger *slog.Logger) *Exposures {
	return &Exposures{js: js, book: book, logger: logger, queue: make(chan schema.Outcome, exposuresWaiting), known: recent.New[string, struct{}](exposuresKnown)}
}

// current is the playbook in force; nil where there is none, or nobody records exposures.
func (e *Exposures) current() *flagBook {
	if e == nil {
		return nil
	}
	book := e.book()
	if book == nil {
		return nil
	}
	known := e.byFlag.Load()
	if known == nil || known.Playbook != book {
		known = &flagBook{Playbook: book, experiments: book.ByFlag()}
		e.byFlag.Store(known)
	}
	return known
}

// assigned is the variant of a user in one of the experiments that are met by flag.
func (b *flagBook) assigned(user *schema.Profile, key string) (x *playbook.Experiment, a experiment.Assignment, ok bool) {
	if b == nil {
		return nil, experiment.Assignment{}, false
	}
	for _, x = range b.experiments {
		if _, met := user.Variants[x.Key]; x.Key == key && !met { // who met it on a journey has an exposure, and keeps the variant
			a, ok = journey.FlagVariant(b.Playbook, x, user)
			return x, a, ok
		}
	}
	return nil, experiment.Assignment{}, false
}

// has reports whether an experiment is met by its flag alone.
func (b *flagBook) has(key string) bool {
	return slices.ContainsFunc(b.experiments, func(x *playbook.Experiment) bool { return x.Key == key })
}

// flags are those of the experiments that are met by flag, for a user who has not met them on a journey.
func (b *flagBook) flags(user *schema.Profile) []flag {
	if b == nil {
		return nil
	}
	var list []flag
	for _, x := range b.experiments {
		if _, a, ok := b.assigned(user, x.Key); ok {
			list = append(list, flag{
				Key: "variant." + x.Key, Value: a.Variant, Reason: reasonSplit, Variant: a.Variant, Metadata: map[string]any{"experiment": x.Key},
			})
		}
	}
	return list
}

// treated records that the flag of an experiment has treated the user, once. variant is what the caller says was shown; empty where
// the caller does not know. One that is not the user's shows a page that is behind, and is no exposure.
func (e *Exposures) treated(user *schema.Profile, key, variant string, now time.Time) {
	book := e.current() // nil where e is
	x, a, ok := book.assigned(user, key)
	if !ok || variant != "" && variant != a.Variant {
		return
	}
	outcome := journey.FlagExposure(book.Playbook, x, a, user, now.UnixMilli())
	if !e.known.Add(outcome.OutcomeID, struct{}{}) {
		return
	}
	select {
	case e.queue <- outcome:
	default:
		e.known.Delete(outcome.OutcomeID)
		e.count(ExposureDropped, 1)
	}
}

func (e *Exposures) count(result string, n int) {
	for range n {
		if e.Counted != nil {
			e.Counted(result)
		}
	}
}

// Run publishes what waits until ctx ends, and then what is left, for two seconds at most. While the stream does not answer, it
// tries again. It returns nil when ctx ends and has no other end.
func (e *Exposures) Run(ctx context.Context) error {
	for {
		select {
		case first := <-e.queue:
			for batch := e.gather(first); len(batch) > 0; {
				if batch = e.publish(ctx, batch); len(batch) == 0 {
					break
				}
				select {
				case <-ctx.Done():
					e.flush(ctx, batch)
					return nil
				case <-time.After(exposureRetry):
				}
			}
		case <-ctx.Done():
			e.flush(ctx, nil)
			return nil
		}
	}
}

// gather takes what else waits.
func (e *Exposures) gather(first ...schema.Outcome) []schema.Outcome {
	batch := first
	for len(batch) < exposuresAtOnce {
		select {
		case next := <-e.queue:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// flush publishes what is left when the process ends. What it cannot is recorded when the flag is next evaluated.
func (e *Exposures) flush(ctx context.Context, left []schema.Outcome) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exposureFlush)
	defer cancel()
	for left = e.gather(left...); len(left) > 0 && ctx.Err() == nil; left = e.gather() {
		if left = e.publish(ctx, left); len(left) > 0 {
			e.count(ExposureDropped, len(left))
			return
		}
	}
}

// publish returns the outcomes that the stream did not take.
func (e *Exposures) publish(ctx context.Context, batch []schema.Outcome) (left []schema.Outcome) {
	var problem error
	futures := make([]jetstream.PubAckFuture, len(batch))
	for i := range batch {
		batch[i].RecordedAt = time.Now().UnixMilli()
		body, err := json.Marshal(&batch[i])
		if err == nil {
			message := nats.NewMsg(schema.OutcomeSubject(schema.ExposureRecorded))
			message.Data = body
			message.Header.Set(jetstream.MsgIDHeader, batch[i].OutcomeID)
			futures[i], err = e.js.PublishMsgAsync(message)
		}
		if err != nil {
			problem = fmt.Errorf("publish exposure %s: %w", batch[i].OutcomeID, err)
		}
	}
	for i, future := range futures {
		if future == nil {
			left = append(left, batch[i])
			continue
		}
		select {
		case <-future.Ok():
			e.count(ExposureRecorded, 1)
			continue
		case err := <-future.Err():
			problem = err
		case <-ctx.Done():
			problem = ctx.Err()
		}
		left = append(left, batch[i])
	}
	if problem != nil {
		e.logger.WarnContext(ctx, "exposures not recorded yet", slog.Int("exposures", len(left)), slog.Any("error", problem))
	}
	return left
}

// eventViewed is the event by which a page says that it has shown a variant: Segment's "Experiment Viewed", as translate writes it.
const eventViewed = "experiment_viewed"

// viewed records the exposures that tracked events tell of.
func (s *Server) viewed(events []tracked) {
	if s.cfg.Exposures == nil || s.mirror == nil {
		return
	}
	for i := range events {
		received := &events[i].received
		if received.EventName != eventViewed || received.Backfill {
			continue
		}
		var properties struct {
			Experiment string `json:"experiment_id"`
			Variant    string `json:"variation_id"`
		}
		if json.Unmarshal(received.Properties, &properties) != nil || properties.Variant == "" {
			continue // it says something else, and is in the archive as it is
		}
		if user, known := s.mirror.Get(s.tokens.Of(received.UserID)); known {
			s.cfg.Exposures.treated(&user, properties.Experiment, properties.Variant, time.Now())
		}
	}
}
