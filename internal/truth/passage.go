package truth

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	key      string // the value it was entered for

	step      *Step
	reached   int64 // when the step began
	due       int64 // when a delay, a wait or an action held back is over
	held      bool  // an action held back by quiet hours
	owed      int64 // since when
	met       int64 // while paused: when the event waited for came
	paused    bool
	converted bool
	ended     string
	endedAt   int64
}

// wanted is an action that a step asked for.
type wanted struct {
	enrollment *enrollment
	step       *Step
	due        int64 // when the user should have reached it
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
	if goal == nil || !u.passes(e, event, []string{goal.On}, goal.Where) || event.At > e.until() || !e.awaits(u.at) {
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

// until is when the time for the goal ends.
func (e *enrollment) until() int64 { return e.started + int64(e.journey.Goal.Hours)*hour }

// awaits reports whether a goal can still come at a moment.
func (e *enrollment) awaits(at int64) bool {
	return e.journey.Goal != nil && !e.converted && at <= e.until()+72*hour
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

// proceed leaves a wait, a delay or an action held back that is over. While the journey is paused nobody moves; what happened in
// the meantime counts when it goes on, by the order in which it happened.
func (u *user) proceed(e *enrollment, event *Event) bool {
	after := e.follower[e.step.ID]
	timeUp := u.at >= e.due
	if e.step.Kind == "wait" {
		if !timeUp && e.met == 0 && u.passes(e, event, e.step.On, e.step.Where) {
			e.met = u.at
		}
		switch {
		case e.paused:
			return false
		case e.met != 0:
			u.run(e, after, e.met)
		case u.holds(e.step.When):
			u.run(e, after, u.at)
		case timeUp:
			u.run(e, first(e.step.Timeout, after), e.due)
		default:
			return false
		}
		return true
	}
	switch {
	case e.paused || !timeUp:
		return false
	case e.held:
		u.run(e, e.step, e.owed)
	default:
		u.run(e, after, e.due)
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
		key := ""
		if j.Enter.Per != "" {
			value := typed(propertyTypes()[j.Enter.Per], event.Properties[j.Enter.Per])
			if value == nil {
				continue
			}
			key = fmt.Sprint(value)
		}
		if !u.may(j, key) || j.Enter.When != nil && !u.holds(j.Enter.When) {
			continue
		}
		u.start(j, event, byEvent, key)
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

// may reports whether a journey can be entered, for a value where it is entered per value: never twice, or not before the last
// passage is over for long enough, and once a moment at most.
func (u *user) may(j *Journey, key string) bool {
	for _, e := range u.enrollments {
		if e.journey.Key != j.Key || j.Enter.Per != "" && e.key != key {
			continue
		}
		if e.ended == "" || j.Reentry == "never" || e.endedAt+int64(j.After)*hour > u.at || e.endedAt == u.at {
			return false
		}
	}
	return !j.Paused
}

func (u *user) start(j *Journey, event *Event, byEvent bool, key string) {
	e := &enrollment{id: strconv.Itoa(len(u.enrollments) + 1), key: key, started: u.at, historic: u.past()}
	e.put(u.book, j)
	if byEvent {
		e.same = map[string]any{}
		for name, value := range event.Properties { // a later version that looks at more finds nothing
			if strings.Contains(j.text(), "same."+name) {
				e.same[name] = value
			}
		}
	}
	u.enrollments = append(u.enrollments, e)
	u.about(e, schema.Outcome{Kind: schema.EnrollmentStarted})
	// The event that lets a user in can be the goal or an exit, but not what a first step waits for.
	if byEvent && (u.convert(e, event) || u.exit(e, event)) {
		return
	}
	u.run(e, first(j.Steps, nil), u.at)
}

// put makes an enrollment one of a version of its journey.
func (e *enrollment) put(b *Book, j *Journey) {
	e.book, e.journey, e.follower = b, j, map[string]*Step{}
	j.walk(func(step, next *Step) { e.follower[step.ID] = next })
}

// migrate does with an open enrollment what the newest version of its journey says; while that is paused, it stays where it is.
func (u *user) migrate(e *enrollment) {
	i := slices.IndexFunc(u.book.Journeys, func(j *Journey) bool { return j.Key == e.journey.Key })
	if i < 0 {
		e.paused = false // gone: whoever is inside finishes
		return
	}
	j := u.book.Journeys[i]
	e.paused = j.Paused
	switch {
	case e.book.YAML() == u.book.YAML(): // the same again, under another revision
	case j.Migrate == "exit":
		if !j.alike(e.journey) {
			u.end(e, "version_ended")
		}
	case j.Migrate == "move" && !e.paused:
		u.relocate(e, j)
	}
}

// relocate moves an enrollment to a step of the newest version. A wait or delay keeps the moment at which it began.
func (u *user) relocate(e *enrollment, j *Journey) {
	id, mapped := j.Move[e.step.ID]
	if !mapped {
		id = e.step.ID
	}
	var step *Step
	j.walk(func(s, _ *Step) {
		if s.ID == id {
			step = s
		}
	})
	if step == nil {
		u.end(e, "step_removed")
		return
	}
	e.put(u.book, j)
	switch {
	case step.Kind == "action" && e.held && id == e.step.ID:
		e.step = step
	case step.Kind == "wait" || step.Kind == "delay":
		began := e.reached
		u.begin(e, step)
		e.reached, e.due = began, u.over(step, began)
	default:
		u.run(e, step, u.at)
	}
}

// past reports whether this moment belongs to a log of the past.
func (u *user) past() bool {
	return u.cause != nil && u.cause.Historic || u.history != 0 && u.at < u.history-72*hour
}

func (u *user) end(e *enrollment, reason string) {
	e.ended, e.endedAt = reason, u.at
	u.about(e, schema.Outcome{Kind: schema.EnrollmentEnded, Reason: reason})
}

// begin brings an enrollment to a step.
func (u *user) begin(e *enrollment, step *Step) {
	e.step, e.reached, e.due, e.held = step, u.at, 0, false
	u.about(e, schema.Outcome{Kind: schema.StepEntered})
}

// run takes steps until one waits or none follows. due is when the user should have got there.
func (u *user) run(e *enrollment, step *Step, due int64) {
	for step != nil {
		if !e.held || step != e.step {
			u.begin(e, step)
		}
		e.met = 0
		after := e.follower[step.ID]
		switch step.Kind {
		case "action":
			if until := u.quiet(); until > u.at && u.holdsBack(e, step) {
				e.held, e.due, e.owed = true, until, due
				return
			}
			e.held = false
			u.wanted = append(u.wanted, wanted{e, step, due})
			step = after
		case "branch":
			step = first(u.choose(step), after)
		case "experiment":
			step = first(u.expose(e, step), after)
		case "exit":
			u.end(e, step.Reason)
			return
		default:
			e.due = u.over(step, u.at)
			if step.Kind == "delay" && e.due > u.at || step.Kind == "wait" && !u.holds(step.When) {
				return
			}
			step = after
		}
	}
	u.end(e, "completed")
}

// over is when a wait times out or a delay ends that began at a moment.
func (u *user) over(step *Step, began int64) int64 {
	at := began + int64(step.Hours)*hour
	zone := u.view().place()
	switch {
	case step.Kind == "delay" && step.Clock >= 0:
		return shows(at, step.Clock, step.Days, zone)
	case !among(weekday(at, zone), step.Days):
		return shows(at, 0, step.Days, zone)
	default:
		return at
	}
}

// quiet is when the quiet hours end that it is now; the past where it is none of them.
func (u *user) quiet() int64 {
	q := u.book.Quiet
	if q == nil || (Clock{q.From, q.To}).eval(u.view()) != true {
		return 0
	}
	return shows(u.at+1, q.To, nil, u.view().place())
}

// holdsBack reports whether an action step keeps the user until quiet hours end. What belongs to the past is not sent anyway.
func (u *user) holdsBack(e *enrollment, step *Step) bool {
	quiet := e.book.action(step.Action).Quiet
	return (quiet == "" || quiet == "hold") && !e.historic && !u.past()
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

// expose returns the steps of the user's variant and records the first meeting with it. Held-out users go the way of control,
// unexposed.
func (u *user) expose(e *enrollment, step *Step) []*Step {
	variant, met := u.met[step.Experiment]
	switch {
	case met:
	case u.heldOut():
		variant = "control"
	default:
		variant = u.Assign(e.book, step.Experiment)
		u.meet(e, step.Experiment, variant)
	}
	for _, v := range step.Variants {
		if v.Key == variant {
			return v.Steps
		}
	}
	return nil
}

func (u *user) meet(e *enrollment, experiment, variant string) {
	u.met[experiment] = variant
	u.about(e, schema.Outcome{Kind: schema.ExposureRecorded, Experiment: experiment, Variant: variant})
}

func (u *user) heldOut() bool {
	return u.book.Holdout > 0 && u.Assign(u.book, "holdout") == "held_out"
}

// act decides the actions that this moment asked for, those of the most important journeys first. It reports whether the user met
// the holdout by that.
func (u *user) act() bool {
	slices.SortStableFunc(u.wanted, func(a, b wanted) int {
		return cmp.Compare(b.enrollment.journey.Priority, a.enrollment.journey.Priority)
	})
	_, before := u.met["holdout"]
	for _, w := range u.wanted {
		u.decide(w)
	}
	u.wanted = nil
	_, after := u.met["holdout"]
	return before != after
}

// decide records an action as decided or suppressed. What a held-out user would have been sent counts as if it had been.
func (u *user) decide(w wanted) {
	e := w.enrollment
	action := e.book.action(w.step.Action)
	o := schema.Outcome{Kind: schema.ActionDecided, StepKey: w.step.ID, Action: action.Key, Reason: u.suppression(w, action)}
	if o.Reason == "" {
		if !action.Uncapped {
			u.sent = append(u.sent, sent{u.at, action.Category})
		}
		if _, met := u.met["holdout"]; !met && u.book.Holdout > 0 {
			u.meet(e, "holdout", u.Assign(u.book, "holdout"))
		}
	}
	if u.heldOut() && o.Reason != "historic" {
		o.Reason = "holdout"
	}
	if o.Reason != "" {
		o.Kind = schema.ActionSuppressed
	} else {
		o.Reason = u.fill(e, w.step.With)
	}
	u.about(e, o)
}

// fill puts traits and the entry's properties into a text, as it is printed: one reference alone keeps its value, which may be none.
func (u *user) fill(e *enrollment, text string) string {
	v := u.view()
	v.same = e.same
	for _, reference := range []Expr{Trait{"plan"}, Trait{"level"}, Property{"x", true}} {
		written := fmt.Sprintf("${%s}", reference)
		value := reference.eval(v)
		if text == written {
			return fmt.Sprint(value)
		}
		if value == nil {
			value = ""
		}
		text = strings.ReplaceAll(text, written, fmt.Sprint(value))
	}
	return text
}

func (b *Book) action(key string) Action {
	i := slices.IndexFunc(b.Actions, func(a Action) bool { return a.Key == key })
	return b.Actions[i]
}

// suppression is the first reason that speaks against an action, the holdout left aside.
func (u *user) suppression(w wanted, action Action) string {
	e := w.enrollment
	expire := cmp.Or(w.step.Expire, e.book.Expire)
	switch {
	case e.historic || u.past():
		return "historic"
	case action.Category != "" && !u.holds(e.book.Consent[action.Category]):
		return "no_consent"
	case action.Quiet == "drop" && u.quiet() > u.at:
		return "quiet_hours"
	case expire != 0 && u.wall-w.due > int64(expire)*hour+hour/2:
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
