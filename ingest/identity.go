package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/internal/streamread"
	"github.com/onramphq/onramp/schema"
)

// Who has become whom stands in ONRAMP_IDENTITIES, a message a link, under the token of who became another. It is a stream and no bucket
// because a message of a stream can be erased for good. The process that ingests holds all of it in memory, and is the only one that writes.
//
// A link is written once every event that came before it, of both, has reached their workflows, and before the event that makes it does.
// So whoever finds a link knows that what came for the one before it is there already; and what comes for them after it is the other's.

// readLinks reads every link that was ever written.
func (i *Ingest) readLinks(ctx context.Context) (*identity.Book, error) {
	book := new(identity.Book)
	err := ReadLinks(ctx, i.js, func(l identity.Link) { book.Add(l) })
	if err != nil {
		return nil, err
	}
	if n := book.Len(); n > 0 {
		i.logger.InfoContext(ctx, "links of users read", slog.Int("links", n))
	}
	return book, nil
}

// ReadLinks hands every link in ONRAMP_IDENTITIES to take, in the order in which they were written. What cannot be read is an error: without
// it a visitor would get a second journey.
func ReadLinks(ctx context.Context, js jetstream.JetStream, take func(identity.Link)) error {
	err := streamread.Read(ctx, js, schema.IdentitiesStream, streamread.Options{}, func(m streamread.Message) error {
		var l identity.Link
		if err := json.Unmarshal(m.Data(), &l); err != nil {
			return fmt.Errorf("message %d is no link: %w", m.Sequence, err)
		}
		take(l)
		return nil
	})
	if err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "read " + schema.IdentitiesStream, Err: err}
	}
	return nil
}

// writeLink makes a link durable, trying until it is or ctx ends.
func (i *Ingest) writeLink(ctx context.Context, l identity.Link) error {
	body, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode link: %w", err)
	}
	message := nats.NewMsg(schema.IdentitySubject(l.From))
	message.Data = body
	message.Header.Set(jetstream.MsgIDHeader, "link-"+strconv.FormatUint(l.Sequence, 10)+"-"+l.Into)
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		_, err := i.js.PublishMsg(ctx, message)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		i.logger.WarnContext(ctx, "link not written, trying again", slog.String("user_token", l.From), slog.Uint64("sequence", l.Sequence),
			slog.Duration("delay", delay), slog.Any("error", err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
}

// whose says whose event a message is, and who becomes one with them by it. Errors are *schema.Rejection.
func (i *Ingest) whose(message jetstream.Msg, book *identity.Book) (identity.Ruling, schema.UserEvent, error) {
	meta, err := message.Metadata()
	if err != nil {
		return identity.Ruling{}, schema.UserEvent{}, fmt.Errorf("read message metadata: %w", err)
	}
	event, err := schema.Receive(message.Data(), message.Headers(), meta.Sequence.Stream, meta.Timestamp)
	if err != nil {
		return identity.Ruling{}, schema.UserEvent{}, err
	}
	if err := i.exhausted(message); err != nil {
		return identity.Ruling{}, schema.UserEvent{}, err
	}
	ruling, err := book.Rule(i.cfg.WorkspaceKey, &event)
	if err != nil {
		return identity.Ruling{}, schema.UserEvent{}, err
	}
	user := event.UserEvent()
	if ruling.Link != nil {
		user.From = ruling.Link.From
	}
	return ruling, user, nil
}

var errStopped = errors.New("told to stop")

// link makes the links of a batch durable, once all that was in hand of those who are linked is on its way.
func (m *mailboxes) link(ctx context.Context, events []queued) error {
	for _, q := range events {
		if q.emptied != nil {
			select {
			case <-q.emptied:
			case <-ctx.Done():
				return errStopped
			}
		}
		if err := m.ingest.writeLinks(ctx, q.links); err != nil {
			return err
		}
	}
	return nil
}

func (i *Ingest) writeLinks(ctx context.Context, links []*identity.Link) error {
	for _, l := range links {
		if err := i.writeLink(ctx, *l); err != nil {
			return err
		}
		i.stats.linked.Add(1)
	}
	return nil
}
