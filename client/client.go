package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

// Waits between tries.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
	tryTimeout = 5 * time.Second // of one try
)

// sourceName is one token of a subject.
const sourceName = `^[A-Za-z0-9_-]{1,63}$`

// Client makes the calls. Safe for concurrent use.
type Client struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	source string
}

// New returns a Client over nc, which stays the caller's. source names the service: its events are published on onramp.events.<source>.
// Errors: invalid for a source that is no token of a subject.
func New(nc *nats.Conn, source string) (*Client, error) {
	if !regexp.MustCompile(sourceName).MatchString(source) {
		return nil, &schema.Error{Code: schema.CodeInvalid, Message: fmt.Sprintf("source %q must be 1 to 63 letters, digits, - and _", schema.Clean(source))}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open JetStream", Err: err}
	}
	return &Client{nc: nc, js: js, source: source}, nil
}

// Publish publishes an event and returns when JetStream has it on disk, and whether it had it already. The event's id is the caller's, such as
// that of the row in an outbox, and must be there: published again, after a crash or a lost answer, the event still counts once. While NATS is
// away it tries again until ctx ends, so give ctx a deadline.
//
// Errors: *schema.Rejection, naming the field, for an event that ingest would refuse; unavailable where ctx ended before JetStream had it:
// it may be stored all the same, so publish it again under the same id.
func (c *Client) Publish(ctx context.Context, event schema.Event) (duplicate bool, err error) {
	if event.EventID == "" {
		return false, &schema.Rejection{Reason: schema.ReasonBadEventID, Field: "event_id", Message: "is missing: only an event with an id of its own can be published again"}
	}
	body, err := json.Marshal(event)
	if err != nil {
		return false, &schema.Rejection{Reason: schema.ReasonMalformedJSON, Message: "properties or traits are not JSON"}
	}
	if _, err := schema.Receive(body, nil, 0, time.Now()); err != nil {
		return false, err
	}
	message := nats.NewMsg(schema.EventSubject(c.source))
	message.Data = body
	message.Header.Set(jetstream.MsgIDHeader, schema.MessageIDOf(event.EventID))
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		ack, err := c.try(ctx, message)
		if err == nil {
			return ack.Duplicate, nil
		}
		select {
		case <-ctx.Done():
			return false, &schema.Error{Code: schema.CodeUnavailable, Message: "publish event " + schema.Clean(event.EventID), Err: err}
		case <-time.After(delay):
		}
	}
}

func (c *Client) try(ctx context.Context, message *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return c.js.PublishMsg(ctx, message, jetstream.WithExpectStream(schema.EventsStream))
}

// Flag is one evaluated flag, as OpenFeature has it.
type Flag struct {
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value"` // true or false, a text, or an object: docs/api.md lists the flags there are
	Variant  string          `json:"variant,omitempty"`
	Reason   string          `json:"reason"`
	Metadata map[string]any  `json:"metadata,omitempty"`
}

// Bool is the value of a flag that is true or false; false where it is something else.
func (f *Flag) Bool() bool { return string(f.Value) == "true" }

// Text is the value of a flag that is a text; empty where it is something else.
func (f *Flag) Text() string {
	var text string
	if err := json.Unmarshal(f.Value, &text); err != nil {
		return ""
	}
	return text
}

// Profile returns what a user is right now. userID is the raw id, as in events. Errors: not_found for a user nobody has seen, invalid for an id
// that is none, unavailable where nobody answers before ctx ends.
func (c *Client) Profile(ctx context.Context, userID string) (schema.Profile, error) {
	var profile schema.Profile
	err := c.ask(ctx, schema.SubjectProfile, map[string]any{"user_id": userID}, &profile)
	return profile, err
}

// Flag returns one flag of a user. Errors: as of Profile; not_found also where the user has no such flag, so that the caller takes its default.
func (c *Client) Flag(ctx context.Context, userID, key string) (Flag, error) {
	var flag Flag
	err := c.ask(ctx, schema.SubjectFlag, map[string]any{"key": key, "context": targeting(userID)}, &flag)
	return flag, err
}

// Flags returns all flags of a user, by their keys in order; none for a user nobody has seen. Errors: as of Profile, but for not_found.
func (c *Client) Flags(ctx context.Context, userID string) ([]Flag, error) {
	var all struct {
		Flags []Flag `json:"flags"`
	}
	err := c.ask(ctx, schema.SubjectFlags, map[string]any{"context": targeting(userID)}, &all)
	return all.Flags, err
}

func targeting(userID string) map[string]string { return map[string]string{"targetingKey": userID} }

// Headers of an answer that is an error, after NATS's framework for services.
const (
	headerErrorCode = "Nats-Service-Error-Code"
	headerError     = "Nats-Service-Error"
)

// ask asks once. There is no second try: who asks is in a hurry, and has a default.
func (c *Client) ask(ctx context.Context, subject string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return &schema.Error{Code: schema.CodeInvalid, Message: "ask " + subject, Err: err}
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tryTimeout)
		defer cancel()
	}
	reply, err := c.nc.RequestWithContext(ctx, subject, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return &schema.Error{Code: schema.CodeUnavailable, Message: "ask " + subject + ": no API process runs", Err: err}
	case err != nil:
		return &schema.Error{Code: schema.CodeUnavailable, Message: "ask " + subject, Err: err}
	}
	if status := reply.Header.Get(headerErrorCode); status != "" {
		return &schema.Error{Code: codeOf(status), Message: "ask " + subject + ": " + reply.Header.Get(headerError)}
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return &schema.Error{Code: schema.CodeInternal, Message: "read the answer of " + subject, Err: err}
	}
	return nil
}

func codeOf(status string) schema.Code {
	switch status {
	case "400":
		return schema.CodeInvalid
	case "404":
		return schema.CodeNotFound
	case "429":
		return schema.CodeRateLimited
	case "503":
		return schema.CodeUnavailable
	default:
		return schema.CodeInternal
	}
}
