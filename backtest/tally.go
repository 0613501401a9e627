package backtest

import (
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// figure names what is counted.
type figure int8

const (
	users figure = iota
	events
	unread
	duplicates
	eventsNamed  // by event name
	broken       // by event name and what is not as the tracking plan promises
	members      // by segment: now
	ever         // by segment: users who were ever in
	membersDelta // by segment and hour: came minus went
	enrollments  // by journey
	enrolled     // by journey: users
	open         // by journey
	ended        // by journey and reason
	converted    // by journey: users
	reached      // by journey and step: users
	decided      // by action
	suppressed   // by action and reason
	actionsAt    // by action, reason (empty: decided) and hour
	acted        // by action: users
	exposed      // by experiment and variant: users
	exposedGoal  // by experiment and variant: of these, users who converted afterwards in the journey where they were exposed
)

// key is what one number counts. hour is in hours of Unix time, and zero where time does not matter.
type key struct {
	figure figure
	a, b   string
	hour   int64
}

// tally holds numbers that can be added up in any order: the reason why a result does not depend on who counted what.
type tally map[key]int64

func (t tally) add(other tally) {
	for k, n := range other {
		t[k] += n
	}
}

const hour = int64(3_600_000)

// hourOf numbers the hour a moment lies in.
func hourOf(at int64) int64 {
	if at < 0 {
		return (at+1)/hour - 1
	}
	return at / hour
}

// footprint is what one user's life leaves behind.
type footprint struct {
	tally tally
	plan  segment.Plan

	from      int64
	counted   map[string]bool     // enrollments that began since from
	exposures map[string]exposure // by experiment
}

type exposure struct{ variant, journey string }

func newFootprint(plan segment.Plan, from int64) *footprint {
	return &footprint{tally: make(tally), plan: plan, from: from, counted: make(map[string]bool), exposures: make(map[string]exposure)}
}

func (p *footprint) count(f figure, a, b string, at int64) { p.tally[key{f, a, b, at}]++ }

// once counts a user, however often it happens.
func (p *footprint) once(f figure, a, b string) { p.tally[key{f, a, b, 0}] = 1 }

func (p *footprint) moment(m Moment) {
	if m.Event != nil && m.Event.OccurredAt >= p.from {
		p.once(users, "", "")
		p.count(events, "", "", 0)
		p.count(eventsNamed, m.Event.EventName, "", 0)
		if m.Unread {
			p.count(unread, "", "", 0)
		}
		if m.Duplicate {
			p.count(duplicates, "", "", 0)
		}
		p.promises(m.Event)
	}
	for i := range m.Outcomes {
		p.outcome(&m.Outcomes[i])
	}
}

// promises counts what is missing or of another type than the tracking plan says. What it does not name at all is nobody's fault: services
// send more than a playbook reads.
func (p *footprint) promises(e *schema.UserEvent) {
	if _, declared := p.plan.Events[e.EventName]; !declared {
		return // nothing is promised
	}
	properties, err := schema.DecodeProperties(e.Properties)
	if err != nil {
		return // refused long before
	}
	traits, err := schema.DecodeProperties(e.Traits)
	if err != nil {
		return
	}
	for _, v := range p.plan.Violations(e.EventName, properties, traits) {
		switch v.Kind {
		case segment.MissingProperty, segment.MistypedProperty, segment.MistypedTrait:
			p.count(broken, e.EventName, v.String(), 0)
		case segment.UndeclaredEvent, segment.UndeclaredProperty, segment.UndeclaredTrait:
		}
	}
}

func (p *footprint) outcome(o *schema.Outcome) {
	switch o.Kind {
	case schema.SegmentEntered:
		p.once(ever, o.Segment, "")
		p.tally[key{membersDelta, o.Segment, "", hourOf(o.At)}]++
	case schema.SegmentLeft:
		p.tally[key{membersDelta, o.Segment, "", hourOf(o.At)}]--
	case schema.EnrollmentStarted:
		if o.At >= p.from {
			p.counted[o.EnrollmentID] = true
			p.count(enrollments, o.Journey, "", 0)
			p.once(enrolled, o.Journey, "")
			p.count(open, o.Journey, "", 0)
		}
	case schema.ActionDecided, schema.ActionSuppressed:
		p.action(o)
	case schema.ExposureRecorded:
		if o.At >= p.from {
			p.exposures[o.Experiment] = exposure{o.Variant, o.Journey}
			p.once(exposed, o.Experiment, o.Variant)
		}
	default:
		if p.counted[o.EnrollmentID] {
			p.passage(o)
		}
		if o.Kind == schema.GoalConverted {
			p.success(o)
		}
	}
}

// passage counts what happens within an enrollment.
func (p *footprint) passage(o *schema.Outcome) {
	switch o.Kind {
	case schema.EnrollmentEnded:
		p.tally[key{open, o.Journey, "", 0}]--
		p.count(ended, o.Journey, o.Reason, 0)
	case schema.StepEntered:
		p.once(reached, o.Journey, o.StepKey)
	case schema.GoalConverted:
		p.once(converted, o.Journey, "")
	default: // delivered and failed never come: nothing is delivered here
	}
}

func (p *footprint) action(o *schema.Outcome) {
	if o.At < p.from {
		return
	}
	if o.Kind == schema.ActionDecided {
		p.count(decided, o.Action, "", 0)
		p.once(acted, o.Action, "")
	} else {
		p.count(suppressed, o.Action, o.Reason, 0)
	}
	p.count(actionsAt, o.Action, o.Reason, hourOf(o.At))
}

// success is a conversion of the experiments that the user met in that journey.
func (p *footprint) success(o *schema.Outcome) {
	for experiment, e := range p.exposures {
		if e.journey == o.Journey {
			p.once(exposedGoal, experiment, e.variant)
		}
	}
}

// finish adds what the user is in the end.
func (p *footprint) finish(s *journey.State) {
	for segment, m := range s.Members {
		if m.In {
			p.once(members, segment, "")
		}
	}
}
