package schema

import (
	"encoding/json"
	"time"
)

// Signal describes a workflow signal: its wire name and, by its type argument, what it carries. Only the workflow's
// receiver and ingest's sender use it, so the name is written once.
type Signal[T any] struct{ Name string }

// Query describes a workflow query and the type of its answer.
type Query[T any] struct {
	Name        string
	Description string
}

// Update describes a workflow update: its wire name and, by its type arguments, what it is asked and what it answers.
type Update[I, O any] struct{ Name string }

// Whole is a message that is decoded as a whole or not at all. What cannot be decoded leaves nothing of itself in Value, where the message after
// it is decoded into the same variable.
type Whole[T any] struct{ Value T }

// UnmarshalJSON implements json.Unmarshaler.
func (w *Whole[T]) UnmarshalJSON(raw []byte) error {
	var value T
	if err := json.Unmarshal(raw, &value); err != nil {
		return err //nolint:wrapcheck // names the field already; encoding/json wants it as it is
	}
	w.Value = value
	return nil
}

// AwaitInput asks to wait for the event at a position of ONRAMP_EVENTS.
type AwaitInput struct {
	Sequence uint64 `json:"sequence"`
}

// Patience says which events would change nothing about a user, so that they may wait for the next one that matters. The zero value says
// nothing: none may wait.
type Patience struct {
	AsOf   int64          `json:"as_of,omitempty"`  // Unix milliseconds; it speaks of events that happened from then on
	Until  int64          `json:"until,omitempty"`  // when time alone changes something: what waits must have come by then; 0: never
	Events map[string]int `json:"events,omitempty"` // by event name: how many of them may wait
}

// TimeIsNear is how close the next moment may be at which time alone changes something, for a batch to need a place in the workflow's
// history before it is acted on. It is longer than servers are away.
const TimeIsNear = time.Hour

// The messages a user's workflow understands.
//
//nolint:gochecknoglobals // descriptors: constants but for Go having no generic constants
var (
	EventsReceived = Signal[EventBatch]{Name: "events_received"}
	HandOver       = Signal[HandOverRequest]{Name: "hand_over"}
	ProfileQuery   = Query[Profile]{
		Name: "profile", Description: "Segments with reasons, variants, where each journey stands, and what happens next",
	}
	AwaitUpdate  = Update[AwaitInput, Profile]{Name: "await"}
	TakeUpdate   = Update[EventBatch, Patience]{Name: "take"}
	ExplainQuery = Query[string]{
		Name: "explain", Description: "The same as a page to read: where the user is, why, and what happens next and when",
	}
)

// JourneyWorkflow is the registered name of the workflow that is a user.
const JourneyWorkflow = "Journey"

// JourneyVersion is the newest version of the workflow's code. A run does what its own version does, to its end; those that begin
// now, and those that continue others, are of this one.
const JourneyVersion = 4

// RunLength is the MaxHistory of runs that begin now. It bounds what a user costs who is no longer in a worker's memory: their run's history is
// read and replayed, at a third of a millisecond an event. A run of this length is some 60 batches, to which the next run adds about one.
const RunLength = 300

// JourneyStart is what ingest starts a user's workflow with. MaxHistory is the number of history events after which the run
// continues as new; it travels with the workflow, so another setting never changes a history that has begun.
type JourneyStart struct {
	Version    int    `json:"version,omitempty"`
	UserID     string `json:"user_id"`
	UserToken  string `json:"user_token"`
	MaxHistory int    `json:"max_history,omitempty"` // 0, in runs from before there was RunLength: 600
	Enrich     bool   `json:"enrich,omitempty"`      // providers are asked what they know of the user
}

// EventEnriched is the event as which the answer of a provider comes: its traits are the user's from then on.
const EventEnriched = "enriched"

// EnrichRequest asks the providers what they know of a user. Traits are those of the user, of which addresses are made.
type EnrichRequest struct {
	UserID    string                     `json:"user_id"`
	UserToken string                     `json:"user_token"`
	Traits    map[string]json.RawMessage `json:"traits,omitempty"`
}

// EnrichResult says how many providers were asked, or had been lately, and how many of them knew something.
type EnrichResult struct {
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
}

// DeliverInput asks for one action to be delivered. Webhook names the receiver in the operator's configuration; empty means
// over NATS. Delivered is the outcome to record once the receiver has taken it.
type DeliverInput struct {
	Request   ActionRequest `json:"request"`
	Webhook   string        `json:"webhook,omitempty"`
	Delivered Outcome       `json:"delivered"`
}

// DeliverResult says how a delivery went.
type DeliverResult struct {
	Attempts int32 `json:"attempts"`
}

// Try is what became of the attempt to deliver an action within the workflow task that decided it.
type Try string

// The words of Try.
const (
	TriedDelivered Try = "delivered" // and that it was is on record
	TriedLater     Try = "later"     // none was made, or it goes on: the action goes its regular way
	TriedFailed    Try = "failed"    // likewise, after a pause
	TriedRefused   Try = "refused"   // for good: the action is given up
)

// TryResult says how such an attempt went. A workflow goes on by it alone, so it stands in the history.
type TryResult struct {
	Became  Try    `json:"became"`
	PauseMS int64  `json:"pause_ms,omitempty"` // failed: how long the receiver is to be left alone
	Reason  Code   `json:"reason,omitempty"`   // refused: the code of the error
	Message string `json:"message,omitempty"`  // failed and refused: the error, for a person who reads the history
}

// HandOverRequest asks a user's workflow to end and to answer, as its result, with all that the workflow of user Into must know to go on
// for both. It comes after every event of the user. Playbook and Revision are what Into lives by, At says when the linking event came, and
// how late.
type HandOverRequest struct {
	From     string    `json:"from"` // token of the user asked
	Into     string    `json:"into"`
	Playbook string    `json:"playbook"`
	Revision uint64    `json:"revision"`
	Event    UserEvent `json:"event"` // the linking event, without what it carries
}

// Check reports what a request to the workflow of user token lacks: one that nobody sends who takes over.
func (h *HandOverRequest) Check(token string) error {
	switch {
	case h.From != token:
		return &Error{Code: CodeInvalid, Message: "the hand-over is asked of another user"}
	case h.Into == "":
		return &Error{Code: CodeInvalid, Message: "the hand-over names no user who takes over"}
	case h.Playbook == "":
		return &Error{Code: CodeInvalid, Message: "the hand-over names no playbook"}
	}
	return nil
}

// HandedOver is the result of a workflow that was asked to hand over, and so what stands in the Temporal UI of who was merged. State is a
// journey.State; empty: nothing was known of the user.
type HandedOver struct {
	Into        string          `json:"into"`
	Sequence    uint64          `json:"seq"` // of the linking event
	State       json.RawMessage `json:"state,omitempty"`
	Undelivered []DeliverInput  `json:"undelivered,omitempty"` // deliveries that were in flight
}

// CommitInput is everything one workflow task decided about a user: recorded together, outcomes first.
type CommitInput struct {
	Outcomes []Outcome `json:"outcomes"`
	Profile  Profile   `json:"profile"`
	Merged   []string  `json:"merged,omitempty"` // tokens of those who became one with the user and of whom there was no workflow: their profiles point here from now on
}

// CommitResult says how much was recorded.
type CommitResult struct {
	Outcomes int `json:"outcomes"`
}
