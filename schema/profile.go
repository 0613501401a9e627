package schema

// Profile is what a user is right now, for those who ask: segments with reasons, variants, where each journey stands and
// what comes next. Published whole on every change; Sequence grows with each. Times are Unix milliseconds, UTC.
type Profile struct {
	UserToken  string            `json:"user_token"`
	Sequence   uint64            `json:"sequence"`
	UpdatedAt  int64             `json:"updated_at"` // the moment of record of the change
	Playbook   string            `json:"playbook"`
	Stage      string            `json:"stage"` // where the user is, in one word or two
	Segments   []Membership      `json:"segments"`
	Variants   map[string]string `json:"variants,omitempty"`
	Journeys   []JourneyStatus   `json:"journeys"`
	NextAt     int64             `json:"next_at,omitempty"`       // when time alone changes something; 0: never
	NextChange string            `json:"next_change,omitempty"`   // what changes then
	LastEvent  string            `json:"last_event_id,omitempty"` // the newest event this profile includes
	Unit       string            `json:"unit,omitempty"`          // token by which flags deal variants, where that is of a visitor whom this user was; empty: user_token
	MergedInto string            `json:"merged_into,omitempty"`   // token of the user whom this one became: their profile tells the rest
}

// StageMerged is the stage of a user who has become another.
const StageMerged = "merged"

// Membership is a user's place in a segment. Unknown means that the rule could not be answered (Reason says why); In then
// tells what it was before.
type Membership struct {
	Segment string `json:"segment"`
	In      bool   `json:"in"`
	Unknown bool   `json:"unknown,omitempty"`
	Since   int64  `json:"since,omitempty"` // when it last changed
	Reason  string `json:"reason"`
	Until   int64  `json:"until,omitempty"` // when time alone next lets the rule be asked again; 0: never
}

// JourneyStatus is where one enrollment stands.
type JourneyStatus struct {
	Journey      string `json:"journey"`
	EnrollmentID string `json:"enrollment_id"`
	StartedAt    int64  `json:"started_at"`
	StepKey      string `json:"step_key,omitempty"`
	Waiting      string `json:"waiting,omitempty"` // what it waits for, in words
	Deadline     int64  `json:"deadline,omitempty"`
	Ended        string `json:"ended,omitempty"` // the exit reason
	EndedAt      int64  `json:"ended_at,omitempty"`
	Converted    bool   `json:"converted,omitempty"`
	Paused       bool   `json:"paused,omitempty"` // the playbook pauses the journey: nothing moves
}
