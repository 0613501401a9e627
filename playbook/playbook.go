package playbook

import (
	"time"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/segment"
)

// Playbook is a compiled version. Immutable and safe for concurrent use.
type Playbook struct {
	Name        string
	Hash        string
	Scale       float64
	Plan        segment.Plan
	Set         *segment.Set
	Segments    []Segment // each after those its rule asks about
	Metrics     map[string]*Metric
	Experiments map[string]*Experiment
	Actions     map[string]*Action
	Journeys    []*Journey // by priority, highest first
	Limits      []Limit    // frequency caps; an action must fit all that are for it
	Consent     map[string]*segment.Rule
	Quiet       *segment.Span          // when nobody is disturbed, in the user's local time; nil: never
	Expire      time.Duration          // of steps that name none; 0: never
	Holdout     *experiment.Experiment // HeldOut against Treated; nil: nobody is held out

	journeys map[string]*Journey
	reads    map[string]bool
	anyEvent bool
	asked    index
}

// The variants of the playbook's own holdout, and the name it goes by where experiments do.
const (
	HoldoutKey = "holdout"
	HeldOut    = "held_out"
	Treated    = "treated"
)

// Segment is a named set of users.
type Segment struct {
	Key         string
	Description string
	Rule        *segment.Rule
}

// Action says how something done for a user reaches the service that does it.
type Action struct {
	Key         string
	Description string
	Webhook     string // the receiver's name in the operator's configuration; empty: NATS
	Category    string // of consent; empty: none needed
	Uncapped    bool   // not counted and not held back by Limits
	Quiet       Quiet
}

// Quiet says what becomes of an action that falls into quiet hours.
type Quiet string

// The answers.
const (
	QuietHold   Quiet = "hold" // the user waits at the step until they are over
	QuietDrop   Quiet = "drop"
	QuietIgnore Quiet = "ignore"
)

// Limit is a frequency cap over all journeys of a user: so many actions in any time of length Per, or where Daily is set on one
// of the user's calendar days. Category narrows it to the actions of one.
type Limit struct {
	Actions  int
	Per      time.Duration
	Daily    bool
	Category string
}

// Reentry says whether a user who has been through a journey may enter it again.
type Reentry string

// The answers.
const (
	ReenterNever     Reentry = "never"
	ReenterAfterExit Reentry = "after_exit"
)

// Journey is the plan for a user.
type Journey struct {
	Key         string
	Description string
	Version     string // hash of the playbook that holds it
	Digest      string // the same for versions that do the same to those inside
	Priority    int
	Paused      bool
	Enter       Trigger
	Reentry     Reentry
	Cooldown    time.Duration // with ReenterAfterExit: that long after the last end
	Same        []string      // properties of the entry event that filters and actions look at; sorted
	Migrate     Migration
	Goal        *Goal
	Exits       []Exit
	First       string           // key of the first step
	Steps       map[string]*Step // by key
	Order       []string         // keys in the order of the file
}

// Trigger lets a user in: on one of the events that passes Where, on entering Segment or on leaving Left; where When is set, only
// if it is true then. Per names a property: every value of it makes an enrollment of its own.
type Trigger struct {
	Events  []string
	Where   *segment.Filter
	Segment string
	Left    string
	When    *segment.Rule
	Per     string
}

// Goal is the event that counts as success within a time from entry.
type Goal struct {
	Event  string
	Where  *segment.Filter
	Within time.Duration
}

// Exit takes a user out wherever the user stands: on one of the events that passes Where, on leaving Left, on entering Entered, or
// as soon as When is true.
type Exit struct {
	Events  []string
	Where   *segment.Filter
	Left    string
	Entered string
	When    *segment.Rule
	Reason  string
}

// Policy says what becomes of the enrollments of older versions when a playbook comes into force.
type Policy string

// The policies.
const (
	MigrateStay Policy = "stay" // they finish by the version they entered
	MigrateMove Policy = "move" // they go on in the new one
	MigrateExit Policy = "exit" // they end
)

// Migration is a policy; with MigrateMove, Steps says where an old step's users stand in the new version, where that is not the
// step of the same key.
type Migration struct {
	Policy Policy
	Steps  map[string]string
}

// Target returns the step of this version that the users of an old one's step move to, if it exists.
func (m Migration) Target(step string) string {
	if to, mapped := m.Steps[step]; mapped {
		return to
	}
	return step
}

// StepKind is what a step does.
type StepKind string

// The kinds of step.
const (
	StepAction     StepKind = "action"
	StepDelay      StepKind = "delay"
	StepWait       StepKind = "wait"
	StepBranch     StepKind = "branch"
	StepExperiment StepKind = "experiment"
	StepExit       StepKind = "exit"
)

// Step is one node of a journey. Next and OnTimeout hold the key of the step that follows; empty means the journey is
// completed.
type Step struct {
	Key  string
	Kind StepKind
	Next string

	Action string         // action
	With   map[string]any // action: strings may hold ${traits.name}
	Expire time.Duration  // action: not sent when decided later than this after it was due; 0: always sent

	Duration time.Duration  // delay: at least; wait: up to
	At       *segment.Clock // delay: then to that local time; nil: none
	Days     []time.Weekday // delay: and to such a day; empty: any

	Events    []string        // wait
	Where     *segment.Filter // wait
	When      *segment.Rule   // wait
	OnTimeout string          // wait

	Branches []Branch // branch: the first that holds; Next where none does

	Experiment string            // experiment
	Factor     string            // experiment: the one factor of it that this step looks at; empty: all
	Variants   map[string]string // experiment: first step by variant
	Reason     string            // exit
}

// Branch leads to a step if its condition holds.
type Branch struct {
	Segment string
	When    *segment.Rule
	To      string
}

// Journey returns the journey of that key, nil where there is none.
func (p *Playbook) Journey(key string) *Journey { return p.journeys[key] }

// Reads reports whether an event of that name can change what any rule, trigger, wait or goal answers. What it does not
// read goes to the archive alone and never costs a workflow task.
func (p *Playbook) Reads(event string, hasTraits bool) bool {
	if !p.Set.Declares(event) {
		return false
	}
	return p.anyEvent || hasTraits || p.reads[event]
}
