package schema

import "encoding/json"

// OutcomeKind names what happened. It is the last token of the outcome's subject.
type OutcomeKind string

// The kinds of outcome.
const (
	SegmentEntered    OutcomeKind = "segment_entered"
	SegmentLeft       OutcomeKind = "segment_left"
	EnrollmentStarted OutcomeKind = "enrollment_started"
	EnrollmentEnded   OutcomeKind = "enrollment_ended" // Reason: completed, goal_met, exited, or the exit step's own word
	StepEntered       OutcomeKind = "step_entered"
	ActionDecided     OutcomeKind = "action_decided"
	ActionDelivered   OutcomeKind = "action_delivered"
	ActionFailed      OutcomeKind = "action_failed"     // Reason: why the receiver did not take it
	ActionSuppressed  OutcomeKind = "action_suppressed" // Reason: frequency_cap, quiet_hours, no_consent, holdout, historic, expired
	ExposureRecorded  OutcomeKind = "exposure_recorded"
	GoalConverted     OutcomeKind = "goal_converted"
	UserMerged        OutcomeKind = "user_merged" // Details: `from`, the token of who became one with the user, and `tokens`, with all merged into that one before
)

// OutcomeKinds lists every kind, in the order above.
func OutcomeKinds() []OutcomeKind {
	return []OutcomeKind{
		SegmentEntered, SegmentLeft, EnrollmentStarted, EnrollmentEnded, StepEntered, ActionDecided, ActionDelivered,
		ActionFailed, ActionSuppressed, ExposureRecorded, GoalConverted, UserMerged,
	}
}

// Outcome is the record of one thing that happened to a user. OutcomeID is derived from what makes it the same outcome,
// so that a decision taken again after a crash writes the same row. Times are Unix milliseconds, UTC.
//
// At is the moment of record: the time of the event or the due time of the timer that caused it. RecordedAt is the wall
// clock when the outcome was published; RecordedAt − CauseReceivedAt is the latency from event to decision.
//
// LogSequence and DecidedAt say between which events of the user it was decided, and at what time of the workflow. Whoever folds the log
// with them comes to what the workflow came to, however late it was. Outcomes that no workflow decided have neither.
type Outcome struct {
	OutcomeID       string          `json:"outcome_id"`
	Kind            OutcomeKind     `json:"kind"`
	UserToken       string          `json:"user_token"`
	At              int64           `json:"at"`
	RecordedAt      int64           `json:"recorded_at"`
	CauseEventID    string          `json:"cause_event_id,omitempty"` // empty: time alone caused it
	CauseReceivedAt int64           `json:"cause_received_at,omitempty"`
	LogSequence     uint64          `json:"log_sequence,omitempty"` // of the newest event that was taken by then, the cause included, in ONRAMP_EVENTS
	DecidedAt       int64           `json:"decided_at,omitempty"`
	Playbook        string          `json:"playbook"`
	Journey         string          `json:"journey,omitempty"`
	JourneyVersion  string          `json:"journey_version,omitempty"`
	EnrollmentID    string          `json:"enrollment_id,omitempty"`
	StepKey         string          `json:"step_key,omitempty"`
	Action          string          `json:"action,omitempty"`
	ActionID        string          `json:"action_id,omitempty"`
	Segment         string          `json:"segment,omitempty"`
	Experiment      string          `json:"experiment,omitempty"`
	Variant         string          `json:"variant,omitempty"`
	Bucket          float64         `json:"bucket,omitempty"` // in [0,1): where the user's hash fell
	Goal            string          `json:"goal,omitempty"`
	Reason          string          `json:"reason,omitempty"`
	Details         json.RawMessage `json:"details,omitempty"` // an object; what belongs to the kind alone
	Trace           Trace           `json:"trace,omitempty"`   // of the event that caused it
}
