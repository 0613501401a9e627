// Package streamread reads a stream of JetStream from some place to where it ends now, in order and without leaving a trace on
// the server: what an operator's command does, not what the engine does.
package streamread

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Options say what to read. The zero value reads everything.
type Options struct {
	Filter string    // subject, with wildcards. Defaults to all.
	From   uint64    // first sequence. Defaults to the first there is.
	Since  time.Time // messages that came at or after this moment; From must be 0. Defaults to all.
	Last   bool      // only the newest message of each subject; Filter must be given
}

// Message is one message of a stream.
type Message struct {
	jetstream.Msg

	Sequence uint64
	At       time.Time // when the stream took it
	Pending  uint64    // how many come after it
}

// silence is how long nothing may come before the server is asked whether there is more.
const silence = 2 * time.Second

// Read calls each for every message until the stream's end, as it is when it gets there, and ends early with the error that each
// returns. Messages that are gone are passed over.
func Read(ctx context.Context, js jetstream.JetStream, stream string, opts Options, each func(Message) error) error {
	consumer, err := js.OrderedConsumer(ctx, stream, opts.config())
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(2000))
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	defer iterator.Stop()
	for {
		message, err := next(ctx, iterator)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			info, infoErr := consumer.Info(ctx)
			if infoErr == nil && info.NumPending == 0 { // what was to come has been deleted meanwhile
				return nil
			}
			err = infoErr
			if err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		if err := each(message); err != nil || message.Pending == 0 {
			return err
		}
	}
}

func next(ctx context.Context, iterator jetstream.MessagesContext) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	message, err := iterator.Next(jetstream.NextContext(ctx))
	if err != nil {
		return Message{}, err
	}
	meta, err := message.Metadata()
	if err != nil {
		return Message{}, err
	}
	return Message{Msg: message, Sequence: meta.Sequence.Stream, At: meta.Timestamp, Pending: meta.NumPending}, nil
}

func (o Options) config() jetstream.OrderedConsumerConfig {
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}
	if o.Filter != "" {
		cfg.FilterSubjects = []string{o.Filter}
	}
	switch {
	case o.Last:
		cfg.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	case o.From > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, o.From
	case !o.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &o.Since
	}
	return cfg
}
