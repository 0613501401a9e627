package truth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/onramphq/onramp/schema"
)

// Event is a message of the event stream as a service published it, and what it comes to: At is the event's corrected time.
type Event struct {
	ID         string
	Name       string
	Sequence   uint64
	Claimed    int64 // occurred_at
	Received   int64
	Backfill   bool
	Properties map[string]any
	Traits     map[string]any

	At       int64 // Claimed, or Received where that lay further ahead than a clock may err
	Historic bool
}

// resolve finds out when an event really was: further than five minutes ahead is now, and more than 72 hours behind is history.
func (e *Event) resolve() {
	e.At = e.Claimed
	if e.Claimed > e.Received+5*60_000 {
		e.At = e.Received
	}
	e.Historic = e.Backfill || e.Received-e.At > 72*hour
}

// Delivery hands the user's workflow one message, when it is received or once more at another time; without an Event, the news of
// a playbook.
type Delivery struct {
	*Event

	At       int64 // when, Unix milliseconds
	Revision int   // the newest that the sender knows, from 0
}

// Wire is the message as ingest reads it from the stream.
func (e *Event) Wire() ([]byte, error) {
	raw := schema.Event{EventID: e.ID, EventName: e.Name, UserID: "somebody", OccurredAt: moment(e.Claimed), Backfill: e.Backfill}
	for values, into := range map[*map[string]any]*json.RawMessage{&e.Properties: &raw.Properties, &e.Traits: &raw.Traits} {
		if len(*values) == 0 {
			continue
		}
		text, err := json.Marshal(*values)
		if err != nil {
			return nil, fmt.Errorf("encode event %s: %w", e.ID, err)
		}
		*into = text
	}
	return json.Marshal(raw)
}

// String is the event as a line of a failed test.
func (e *Event) String() string {
	text := fmt.Sprintf("#%d %s %s", e.Sequence, e.ID, e.Name)
	if len(e.Properties) > 0 {
		text += " " + object(e.Properties)
	}
	if len(e.Traits) > 0 {
		text += " traits" + object(e.Traits)
	}
	if e.Backfill {
		text += " backfill"
	}
	return text
}

func object(values map[string]any) string {
	var parts []string
	for key, v := range values {
		parts = append(parts, fmt.Sprintf("%s: %v", key, v))
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, ", ") + "}"
}
