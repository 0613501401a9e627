package truth

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/onramphq/onramp/schema"
)

// enrollment is one passage through a journey, never forgotten.
type enrollment struct {
	id       string
	book     *Book
	journey  *Journey
	follower map[string]*Step
	started  int64
	historic bool
	same     map[string]any

	step      *Step
	due       int64 // when a delay or wait is over
	converted bool
	ended     string
	endedAt   int64
}

// wanted is an action that a step asked for.
type wanted struct {
	enrollment *enrollment
	step       *Step
}

// byPriority returns the enrollments, those of the most important journeys first.
func (u *user) byPriority() []*enrollment {
	list := slices.Clone(u.enrollments)
	slices.SortStableFunc(list, func(a, b *enrollment) int { return cmp.Compare(b.journey.Priority, a.journey.Priority) })
	return list
}

// move lets every enrollment go as far as this moment lets it.
func (u *user) move(event *Event) bool {
	moved := false
	for _, e := range u.byPriority() {
		switch {
		case u.convert(e, event):
			moved = true
		case e.ended != "":
		case u.exit(e, event), u.proceed(e, event):
			moved = true
		}
	}
	return moved
}

// passes reports whether an event is one of those named and its properties are as the filter asks.
func (u *user) passes(e *enrollment, event *Event, names []string, where Expr) bool {
	if event == nil || !slices.Contains(names, event.Name) {
		return false
	}
	if where == nil {
		return true
	}
	v := u.view()
	v.event = event.Properties
	if e != nil {
		v.same = e.same
	}
	return where.eval(v) == true
}

// convert records the goal. The event must be of a time within the window; it may come up to 72 hours later than that.
func (u *user) convert(e *enrollment, event *Event) bool {
	goal := e.journey.Goal
	if goal == nil || e.converted || !u.passes(e, event, []string{goal.On}, goal.Where) {
		return false
	}
	until := e.started + int64(goal.Hours)*hour
	if event.At > until || u.at > until+72*hour {
		return false
	}
	e.converted = true
	u.about(e, schema.Outcome{Kind: schema.GoalConverted, Goal: goal.On})
	if e.ended == "" {
		u.end(e, "goal_met")
		return true
	}
	return false
}

func (u *user) exit(e *enrollment, event *Event) bool {
	for _, x := range e.journey.Exits {
		if u.passes(e, event, x.On, x.Where) || u.left(x.Left) || u.entered(x.Entered) || u.holds(x.When) {
			u.end(e, x.Reason)
			return true
		}
	}
	return false
}

func (u *user) proceed(e *enrollment, event *Event) bool {
	after := e.follower[e.step.ID]
	waits := e.step.Kind == "wait"
	switch {
	case waits && (u.passes(e, event, e.step.On, e.step.Where) || u.holds(e.step.When)):
		u.run(e, after)
	case u.at < e.due:
		return false
	case waits:
		u.run(e, first(e.step.Timeout, after))
	default:
		u.run(e, after)
	}
	return true
}

// enter lets the user into the journeys that this moment opens.
func (u *user) enter(event *Event) bool {
	moved := false
	for _, j := range u.book.ordered() {
		byEvent := u.passes(nil, event, j.Enter.On, j.Enter.Where)
		if !byEvent && !u.entered(j.Enter.Segment) && !u.left(j.Enter.Left) {
			continue
		}
		if !u.may(j) || j.Enter.When != nil && !u.holds(j.Enter.When) {
			continue
		}
		u.start(j, event, byEvent)
		moved = true
	}
	return moved
}

// ordered are the journeys by priority, then by name.
func (b *Book) ordered() []*Journey {
	list := slices.Clone(b.Journeys)
	slices.SortFunc(list, func(a, b *Journey) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Key, b.Key))
	})
	return list
}

// may reports whether a journey can be entered: never twice, or not before the last passage is over, and once a moment at most.
func (u *user) may(j *Journey) bool {
	for _, e := range u.enrollments {
		if e.journey.Key != j.Key {
			continue
		}
		if e.ended == "" || j.Reentry != "after_exit" || e.endedAt+int64(j.After)*hour > u.at || e.endedAt == u.at {
			return false
		}
	}
	return true
}

func (u *user) start(j *Journey, event *Event, byEvent bool) {
	e := &enrollment{
		id: strconv.Itoa(len(u.enrollments) + 1), book: u.book, journey: j, follower: map[string]*Step{}, started: u.at, historic: u.past(),
	}
	j.walk(func(step, next *Step) { e.follower[step.ID] = next })
	if byEvent {
		e.same = event.Properties
	}
	u.enrollments = append(u.enrollments, e)
	u.about(e, schema.Outcome{Kind: schema.EnrollmentStarted})
	// The event that lets a user in can be the goal or an exit, but not what a first step waits for.
	if byEvent && (u.convert(e, event) || u.exit(e, event)) {
		return
	}
	u.run(e, first(j.Steps, nil))
}

// past reports whether this moment belongs to a log of the past.
func (u *user) past() bool {
	return u.cause != nil && u.cause.Historic || u.history != 0 && u.at < u.history-72*hour
}

func (u *user) end(e *enrollment, reason string) {
	e.ended, e.endedAt = reason, u.at
	u.about(e, schema.Outcome{Kind: schema.EnrollmentEnded, Reason: reason})
}

// run takes steps until one waits or none follows.
func (u *user) run(e *enrollment, step *Step) {
	for step != nil {
		e.step, e.due = step, 0
		u.about(e, schema.Outcome{Kind: schema.StepEntered})
		after := e.follower[step.ID]
		switch step.Kind {
		case "action":
			u.wanted = append(u.wanted, wanted{e, step})
			step = after
		case "branch":
			step = first(u.choose(step), after)
		case "experiment":
			step = first(u.expose(e, step), after)
		case "exit":
			u.end(e, step.Reason)
			return
		case "delay":
			e.due = u.over(step)
			return
		default:
			if !u.holds(step.When) {
				e.due = u.at + int64(step.Hours)*hour
				return
			}
			step = after
		}
	}
	u.end(e, "completed")
}

// over is when a delay that begins now ends.
func (u *user) over(step *Step) int64 {
	at := u.at + int64(step.Hours)*hour
	zone := u.view().place()
	switch {
	case step.Clock >= 0:
		return shows(at, step.Clock, step.Days, zone)
	case !among(weekday(at, zone), step.Days):
		return shows(at, 0, step.Days, zone)
	default:
		return at
	}
}

// choose returns the steps of the first branch that holds.
func (u *user) choose(step *Step) []*Step {
	for _, b := range step.Branches {
		if b.When == nil && b.Segment == "" || u.members[b.Segment].in || u.holds(b.When) {
			return b.Steps
		}
	}
	return nil
}

// expose returns the steps of the user's variant and records the first meeting with it.
func (u *user) expose(e *enrollment, step *Step) []*Step {
	variant, met := u.met[step.Experiment]
	if !met {
		variant, _ = u.Assign(step.Experiment, 0)
		u.met[step.Experiment] = variant
		u.about(e, schema.Outcome{Kind: schema.ExposureRecorded, Experiment: step.Experiment, Variant: variant})
	}
	for _, v := range step.Variants {
		if v.Key == variant {
			return v.Steps
		}
	}
	return nil
}

// act decides the actions that this moment asked for, those of the most important journeys first.
func (u *user) act() {
	slices.SortStableFunc(u.wanted, func(a, b wanted) int {
		return cmp.Compare(b.enrollment.journey.Priority, a.enrollment.journey.Priority)
	})
	for _, w := range u.wanted {
		action := w.enrollment.book.action(w.step.Action)
		o := schema.Outcome{Kind: schema.ActionDecided, StepKey: w.step.ID, Action: action.Key}
		if o.Reason = u.suppression(w, action); o.Reason != "" {
			o.Kind = schema.ActionSuppressed
		} else if !action.Uncapped {
			u.sent = append(u.sent, sent{u.at, action.Category})
		}
		u.about(w.enrollment, o)
	}
	u.wanted = nil
}

func (b *Book) action(key string) Action {
	i := slices.IndexFunc(b.Actions, func(a Action) bool { return a.Key == key })
	return b.Actions[i]
}

func (u *user) suppression(w wanted, action Action) string {
	e := w.enrollment
	expire := cmp.Or(w.step.Expire, e.book.Expire)
	switch {
	case e.historic || u.past():
		return "historic"
	case action.Category != "" && !u.holds(e.book.Consent[action.Category]):
		return "no_consent"
	case expire != 0 && u.wall-u.at > int64(expire)*hour:
		return "expired"
	case !action.Uncapped && u.capped(action):
		return "frequency_cap"
	}
	return ""
}

// capped reports whether the user has had as many actions as a limit allows.
func (u *user) capped(action Action) bool {
	zone := u.view().place()
	for _, l := range u.book.Limits {
		if l.Category != "" && l.Category != action.Category {
			continue
		}
		n := 0
		for _, s := range u.sent {
			if l.Category != "" && l.Category != s.category {
				continue
			}
			if l.Hours > 0 && s.at+int64(l.Hours)*hour > u.at || l.Hours == 0 && date(s.at, zone) == date(u.at, zone) {
				n++
			}
		}
		if n >= l.Actions {
			return true
		}
	}
	return false
}

// about tells an outcome of an enrollment.
func (u *user) about(e *enrollment, o schema.Outcome) {
	o.Journey, o.EnrollmentID = e.journey.Key, e.id
	if e.step != nil {
		o.StepKey = cmp.Or(o.StepKey, e.step.ID)
	}
	u.tell(o)
}
