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
	Experiments map[string]*Experiment
	Actions     map[string]*Action
	Journeys    []*Journey // by priority, highest first
	Limit       *Limit     // nil: no frequency cap
	Consent     map[string]*segment.Rule

	journeys map[string]*Journey
	reads    map[string]bool
	anyEvent bool
}

// Segment is a named set of users.
type Segment struct {
	Key         string
	Description string
	Rule        *segment.Rule
}

// Experiment is a comparison whose definition does not change while it runs.
type Experiment struct {
	experiment.Experiment
	Description string
}

// Action says how something done for a user reaches the service that does it.
type Action struct {
	Key         string
	Description string
	Webhook     string // the receiver's name in the operator's configuration; empty: NATS
	Category    string // of consent; empty: none needed
	Uncapped    bool   // not counted and not held back by Limit
}

// Limit is the frequency cap over all journeys of a user.
type Limit struct {
	Actions int
	Per     time.Duration
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
	Priority    int
	Enter       Trigger
	Reentry     Reentry
	Goal        *Goal
	Exits       []Exit
	First       string           // key of the first step
	Steps       map[string]*Step // by key
	Order       []string         // keys in the order of the file
}

// Trigger lets a user in: on one of the events, or on entering the segment; where When is set, only if it is true then.
type Trigger struct {
	Events  []string
	Segment string
	When    *segment.Rule
}

// Goal is the event that counts as success within a time from entry.
type Goal struct {
	Event  string
	Within time.Duration
}

// Exit takes a user out wherever the user stands: on one of the events, on leaving the segment, or as soon as When is true.
type Exit struct {
	Events []string
	Left   string
	When   *segment.Rule
	Reason string
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

	Duration time.Duration // delay; wait: up to

	Events    []string      // wait
	When      *segment.Rule // wait
	OnTimeout string        // wait

	Branches []Branch // branch: the first that holds; Next where none does

	Experiment string            // experiment
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
