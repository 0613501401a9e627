package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/internal/streamread"
	"github.com/onramphq/onramp/schema"
)

// DeadLetters is an operator's hand on ONRAMP_DEADLETTERS: the list of what nobody has settled yet. A letter that is sent in
// again or dropped leaves the stream, its bytes overwritten; its row in ClickHouse stays, so no letter is settled before it has
// one.
type DeadLetters struct {
	js     jetstream.JetStream
	key    []byte
	logger *slog.Logger
}

// NewDeadLetters returns the dead letters of js. The workspace key turns the user of a letter into a token.
func NewDeadLetters(js jetstream.JetStream, workspaceKey []byte, logger *slog.Logger) *DeadLetters {
	return &DeadLetters{js: js, key: workspaceKey, logger: logger}
}

// Letter is a dead letter with its own place.
type Letter struct {
	Sequence  uint64    `json:"sequence"` // in ONRAMP_DEADLETTERS
	At        time.Time `json:"at"`       // when it was written off
	UserToken string    `json:"user_token,omitempty"`
	Original  `json:"original"`
}

// Original is what was refused.
type Original = schema.DeadLetter

// Each hands out the letters written off since a moment, oldest first; the zero time means all. It ends with the error that each
// returns. Errors: unavailable where NATS is away.
func (d *DeadLetters) Each(ctx context.Context, since time.Time, each func(Letter) error) error {
	var refused error
	err := streamread.Read(ctx, d.js, schema.DeadLettersStream, streamread.Options{Since: since}, func(m streamread.Message) error {
		refused = each(d.letter(m.Subject(), m.Headers(), m.Data(), m.Sequence, m.At))
		return refused
	})
	if err != nil && refused == nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "list dead letters", Err: err}
	}
	return err
}

// Get returns one letter. Errors: not_found where it never was, or is settled.
func (d *DeadLetters) Get(ctx context.Context, sequence uint64) (Letter, error) {
	raw, err := d.message(ctx, schema.DeadLettersStream, sequence)
	if err != nil {
		return Letter{}, err
	}
	if raw == nil {
		return Letter{}, &schema.Error{Code: schema.CodeNotFound, Message: fmt.Sprintf("there is no dead letter %d: it never was, or it is settled", sequence)}
	}
	return d.letter(raw.Subject, raw.Header, raw.Data, raw.Sequence, raw.Time), nil
}

func (d *DeadLetters) letter(subject string, header nats.Header, data []byte, sequence uint64, at time.Time) Letter {
	letter := Letter{Sequence: sequence, At: at.UTC(), Original: schema.ReadDeadLetter(subject, header, data)}
	letter.UserToken = d.userToken(&letter.Original)
	return letter
}

// userToken finds out whose message it was, as far as its payload can be read at all.
func (d *DeadLetters) userToken(letter *Original) string {
	var user struct {
		Token string `json:"user_token"` // of an outcome or an action
	}
	if err := json.Unmarshal(letter.Payload, &user); err == nil && schema.CheckToken(user.Token) == nil {
		return user.Token
	}
	if id := letter.UserID(); id != "" {
		return schema.UserToken(d.key, id)
	}
	return ""
}

// Retry sends the message in again on its subject and settles the letter. The message takes a new place at the end of its stream
// and keeps what makes it count once: an event goes by the id it had, an outcome and an action carry their own. It returns the new
// place. Done twice, because the first time broke off, it still counts once.
//
// Errors: not_found for a letter that is settled, or a message that is neither in its stream nor whole in the letter; invalid for a
// stream whose messages mean something only where they stood; conflict for a letter that has no row in ClickHouse yet;
// unavailable where NATS is away.
func (d *DeadLetters) Retry(ctx context.Context, sequence uint64) (uint64, error) {
	letter, err := d.open(ctx, sequence)
	if err != nil {
		return 0, err
	}
	message, err := d.again(ctx, &letter)
	if err != nil {
		return 0, err
	}
	ack, err := d.js.PublishMsg(ctx, message, jetstream.WithExpectStream(letter.Stream))
	if err != nil {
		return 0, &schema.Error{Code: schema.CodeUnavailable, Message: fmt.Sprintf("send dead letter %d in again", sequence), Err: err}
	}
	if err := d.settle(ctx, sequence); err != nil {
		return 0, err
	}
	d.logger.InfoContext(ctx, "dead letter sent in again", append(letter.attrs(), slog.Uint64("new_sequence", ack.Sequence))...)
	return ack.Sequence, nil
}

// Drop settles the letter without more; why stands in the log. Errors: as of Retry.
func (d *DeadLetters) Drop(ctx context.Context, sequence uint64, why string) error {
	letter, err := d.open(ctx, sequence)
	if err != nil {
		return err
	}
	if err := d.settle(ctx, sequence); err != nil {
		return err
	}
	d.logger.WarnContext(ctx, "dead letter dropped", append(letter.attrs(), slog.String("why", why))...)
	return nil
}

// attrs name a letter in the log, without anything personal.
func (l *Letter) attrs() []any {
	return []any{
		slog.Uint64("dead_letter", l.Sequence), slog.String("reason", string(l.Reason)), slog.String("stream", l.Stream),
		slog.Uint64("sequence", l.Original.Sequence), slog.String("user_token", l.UserToken),
	}
}

// open returns a letter that may be settled.
func (d *DeadLetters) open(ctx context.Context, sequence uint64) (Letter, error) {
	letter, err := d.Get(ctx, sequence)
	if err != nil {
		return Letter{}, err
	}
	consumer, err := d.js.Consumer(ctx, schema.DeadLettersStream, schema.DeadLettersConsumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound): // nobody writes dead letters to ClickHouse here
		return letter, nil
	case err != nil:
		return Letter{}, &schema.Error{Code: schema.CodeUnavailable, Message: "look up consumer " + schema.DeadLettersConsumer, Err: err}
	case consumer.CachedInfo().AckFloor.Stream < sequence:
		return Letter{}, &schema.Error{Code: schema.CodeConflict, Message: fmt.Sprintf(
			"dead letter %d has no row in ClickHouse yet, and settled now it would never have one: wait for the sink", sequence)}
	}
	return letter, nil
}

// settle takes a letter off the list and overwrites it, because it may hold personal data.
func (d *DeadLetters) settle(ctx context.Context, sequence uint64) error {
	stream, err := d.js.Stream(ctx, schema.DeadLettersStream)
	if err == nil {
		err = stream.SecureDeleteMsg(ctx, sequence)
	}
	if err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: fmt.Sprintf("settle dead letter %d", sequence), Err: err}
	}
	return nil
}

// again makes the message that is sent in again: from its stream where it still stands there, whole, else from the letter.
func (d *DeadLetters) again(ctx context.Context, letter *Letter) (*nats.Msg, error) {
	refuse := func(code schema.Code, why string) (*nats.Msg, error) {
		return nil, &schema.Error{Code: code, Message: fmt.Sprintf("dead letter %d cannot be sent in again: %s", letter.Sequence, why)}
	}
	switch letter.Stream {
	case schema.EventsStream, schema.OutcomesStream, schema.ActionsStream:
	default:
		return refuse(schema.CodeInvalid, "a message of stream "+schema.Clean(letter.Stream)+" means nothing in another place")
	}
	message := &nats.Msg{Subject: letter.Subject, Data: letter.Payload, Header: nats.Header{}}
	raw, err := d.message(ctx, letter.Stream, letter.Original.Sequence)
	switch {
	case err != nil:
		return nil, err
	case raw != nil && (letter.ReceivedAt.IsZero() || raw.Time.Equal(letter.ReceivedAt)): // else the stream was made anew
		message.Subject, message.Data = raw.Subject, raw.Data
		letter.Fill(raw.Data, raw.Header)
		letter.ReceivedAt = raw.Time
	case letter.Reason == schema.ReasonMaxDeliveries:
		return refuse(schema.CodeNotFound, "the message is no longer in its stream")
	case letter.Cut(), letter.Subject == "", strings.ContainsAny(letter.Subject, "…?"): // what Clean leaves of a strange one
		return refuse(schema.CodeNotFound, "the letter does not hold it whole, and it is no longer in its stream")
	}
	for name, value := range letter.Headers {
		message.Header[name] = []string{value} // as it was spelled
	}
	letter.stamp(message.Header)
	return message, nil
}

// stamp sets the headers by which the message keeps what its new place would change.
func (l *Letter) stamp(header nats.Header) {
	original := &l.Original
	id := original.MessageID
	if id == "" {
		id = fmt.Sprintf("%s-%d", original.Stream, original.Sequence)
	}
	header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s#retry-%d", id, l.Sequence)) // let through, once
	header.Set(schema.HeaderRetryOf, strconv.FormatUint(l.Sequence, 10))
	if original.Stream != schema.EventsStream {
		return
	}
	eventID := original.EventID
	if eventID == "" {
		eventID = schema.EventIDOf(&schema.Event{}, original.MessageID, original.Sequence)
	}
	header.Set(schema.HeaderEventID, eventID)
	first := original.FirstReceived
	if first.IsZero() {
		first = original.ReceivedAt
	}
	header.Set(schema.HeaderFirstReceived, first.UTC().Format(time.RFC3339Nano))
}

// message reads one message of a stream, nil where it is gone.
func (d *DeadLetters) message(ctx context.Context, name string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	stream, err := d.js.Stream(ctx, name)
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open stream " + schema.Clean(name), Err: err}
	}
	raw, err := stream.GetMsg(ctx, max(sequence, 1)) // 0 is no place; where 1 is one, it is not asked for
	if errors.Is(err, jetstream.ErrMsgNotFound) || sequence == 0 {
		return nil, nil //nolint:nilnil // gone is an answer
	}
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: fmt.Sprintf("read message %d of %s", sequence, name), Err: err}
	}
	return raw, nil
}
