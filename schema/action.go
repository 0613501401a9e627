package schema

// ActionRequest is what a receiver of an action is handed, over NATS as the message body and over a webhook as `data`.
// ActionID is the same on every attempt: a receiver that remembers it acts exactly once.
type ActionRequest struct {
	ActionID       string            `json:"action_id"`
	Action         string            `json:"action"`
	UserID         string            `json:"user_id"`
	UserToken      string            `json:"user_token"`
	Journey        string            `json:"journey"`
	JourneyVersion string            `json:"journey_version"`
	EnrollmentID   string            `json:"enrollment_id"`
	StepKey        string            `json:"step_key"`
	DecidedAt      int64             `json:"decided_at"` // Unix milliseconds
	Segments       []string          `json:"segments"`
	Variants       map[string]string `json:"variants,omitempty"`
	Properties     map[string]any    `json:"properties,omitempty"` // the step's `with`, filled in
	Traits         map[string]any    `json:"traits,omitempty"`     // the traits the playbook declares
}
