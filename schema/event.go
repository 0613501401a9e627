package schema

import (
	"encoding/json"
	"strconv"
	"time"
)

// Limits of an event. An event beyond one is refused with the reason named.
const (
	MaxEventBytes  = 256 << 10 // too_large
	MaxUserID      = 256       // bytes; id_too_long
	MaxEventID     = 100       // bytes; bad_event_id
	MaxEventName   = 200       // bytes; bad_event_name
	MaxDepth       = 16        // nesting; too_deep
	MaxKeys        = 256       // keys of one object; too_many_keys
	MaxKeyBytes    = 256       // bad_key
	MaxStringBytes = 32 << 10  // value_too_long
)

// Event is a fact about a user as a service publishes it on `onramp.events.<source>`. Immutable.
//
//	{"event_id":"01J…","event_name":"feature_viewed","user_id":"u42",
//	 "occurred_at":"2026-11-24T09:00:00Z","properties":{"feature":"reports"}}
//
// EventID identifies the event however often it is published; a publisher that leaves it out gets one derived from the
// stream position and so no protection from publishing twice. OccurredAt defaults to the time of receipt. SentAt is the
// publisher's clock at the moment of sending, used to correct its skew. Backfill says that the event belongs to the past:
// it changes state but never causes an action.
//
// AnonymousID is the id of the visitor whom the user was until now: from this event on the two are one, as package identity says. PreviousID
// is likewise the id of the user or visitor whom an event named `alias` joins to UserID.
type Event struct {
	EventID    string          `json:"event_id"`
	EventName  string          `json:"event_name"`
	UserID     string          `json:"user_id"`
	OccurredAt time.Time       `json:"occurred_at,omitzero"`
	SentAt     time.Time       `json:"sent_at,omitzero"`
	Properties json.RawMessage `json:"properties,omitempty"`
	Traits     json.RawMessage `json:"traits,omitempty"`
	Backfill   bool            `json:"backfill,omitempty"`

	AnonymousID string `json:"anonymous_id,omitempty"`
	PreviousID  string `json:"previous_id,omitempty"`
}

// AliasEvent is the name of the events that carry a PreviousID.
const AliasEvent = "alias"

// CanaryEvent is the name of the events by which a process finds out whether events come through. They are of no user: nothing reads
// them, they have no row, and they join nobody.
const CanaryEvent = "onramp_canary"

// Canary reports whether the event is one of those.
func (e *Event) Canary() bool { return e.EventName == CanaryEvent }

// UserEvent is an event on its way to its user's workflow: identity and time resolved, the user left out because the
// workflow is the user. Times are Unix milliseconds, UTC.
type UserEvent struct {
	EventID    string          `json:"event_id"`
	EventName  string          `json:"event_name"`
	Sequence   uint64          `json:"seq"` // position in ONRAMP_EVENTS: the order of record
	OccurredAt int64           `json:"occurred_at"`
	ReceivedAt int64           `json:"received_at"`
	Lateness   Lateness        `json:"lateness,omitempty"`
	Properties json.RawMessage `json:"properties,omitempty"`
	Traits     json.RawMessage `json:"traits,omitempty"`

	// From is the token of a user who becomes one with this one by the event: that user's workflow is taken over before the event is
	// applied. Empty in nearly all events.
	From string `json:"from,omitempty"`

	Trace Trace `json:"trace,omitempty"` // what follows from the event is told of there too; it decides nothing
}

// EventBatch is what one signal carries: events of one user in stream order, and the playbook they are to be read with.
// Revision grows with every published playbook, so a workflow never goes back to an older one. A batch without events brings a
// playbook to a user who sends none.
type EventBatch struct {
	Playbook string      `json:"playbook"`
	Revision uint64      `json:"revision"`
	Events   []UserEvent `json:"events"`
}

// Check reports what a batch lacks that every one of ingest's has: without a playbook to read them by, events are none.
func (b *EventBatch) Check() error {
	if b.Playbook == "" {
		return &Error{Code: CodeInvalid, Message: "the batch names no playbook to read its events by"}
	}
	return nil
}

// EventIDOf returns the id of an event: its own, else the publisher's message id, else one made from the stream position,
// which names the message but cannot recognize a second publication.
func EventIDOf(e *Event, messageID string, sequence uint64) string {
	switch {
	case e.EventID != "":
		return e.EventID
	case messageID != "":
		return messageID
	default:
		return "seq-" + strconv.FormatUint(sequence, 10)
	}
}

// Received is an event with what its message adds: the id it goes by, its corrected time, its place in the stream.
type Received struct {
	Event
	Timing

	ID         string
	Sequence   uint64
	ReceivedAt time.Time
	Trace      Trace
}

// Receive reads a message of ONRAMP_EVENTS, an event of ours or a CloudEvent in either mode; header, which NATS calls nats.Header,
// may be nil. Every reader of the stream does it through this, from the same facts, so that journeys and archive cannot disagree
// about an event. An event that is sent in again from the dead letters goes by the id, and is measured by the moment of receipt,
// that it had the first time. Errors are *Rejection.
func Receive(raw []byte, header map[string][]string, sequence uint64, receivedAt time.Time) (Received, error) {
	event, trace, err := decodeMessage(raw, header)
	if err != nil {
		return Received{}, err
	}
	messageID, first := "", receivedAt
	if header != nil {
		messageID = orElse(valueOf(header, HeaderEventID), valueOf(header, headerMessageID))
		if before := timeOf(valueOf(header, HeaderFirstReceived)); !before.IsZero() && before.Before(receivedAt) {
			first = before
		}
	}
	timing, err := timingOf(event, first, receivedAt)
	if err != nil {
		return Received{}, err
	}
	return Received{*event, timing, EventIDOf(event, messageID, sequence), sequence, receivedAt, trace}, nil
}

// UserEvent is the event as its user's workflow receives it.
func (r *Received) UserEvent() UserEvent {
	return UserEvent{
		EventID: r.ID, EventName: r.EventName, Sequence: r.Sequence, OccurredAt: r.Timing.OccurredAt.UnixMilli(),
		ReceivedAt: r.ReceivedAt.UnixMilli(), Lateness: r.Lateness, Properties: r.Properties, Traits: r.Traits,
		Trace: r.Trace,
	}
}
