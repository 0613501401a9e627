package journey

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// Exit reasons that no playbook writes.
const (
	EndedCompleted = "completed"
	EndedGoalMet   = "goal_met"
)

// enrollments moves every enrollment on as far as this moment lets it, the journeys of highest priority first, so that they
// reach the user's budget first.
func (t *turn) enrollments(event *schema.UserEvent) bool {
	moved := false
	for _, e := range t.byPriority() {
		j := t.journey(e)
		if j == nil {
			continue
		}
		if t.convert(e, j, event) {
			moved = true
			continue
		}
		if e.Ended != "" {
			continue
		}
		moved = t.exit(e, j, event) || t.proceed(e, j, event) || moved
	}
	return moved
}

func (t *turn) byPriority() []*Enrollment {
	list := slices.Clone(t.state.Enrollments)
	slices.SortStableFunc(list, func(a, b *Enrollment) int { return t.priority(b) - t.priority(a) })
	return list
}

func (t *turn) priority(e *Enrollment) int {
	if j := t.journey(e); j != nil {
		return j.Priority
	}
	return 0
}

func (t *turn) journey(e *Enrollment) *playbook.Journey {
	book := t.books.Playbook(e.Version)
	if book == nil {
		return nil
	}
	return book.Journey(e.Journey)
}

// convert records the goal of an enrollment, open or ended, if the event is it and came within the window.
func (t *turn) convert(e *Enrollment, j *playbook.Journey, event *schema.UserEvent) bool {
	if event == nil || j.Goal == nil || e.Converted || event.EventName != j.Goal.Event || event.OccurredAt > e.GoalUntil || !e.awaits(t.at) {
		return false
	}
	e.Converted = true
	o := t.outcome(schema.GoalConverted, e.ID, j.Goal.Event)
	t.fill(&o, e)
	o.Goal = j.Goal.Event
	t.record(o)
	if e.Ended == "" {
		t.end(e, EndedGoalMet)
		return true
	}
	passage := t.state.Passed[e.Journey]
	passage.Converted = true
	t.state.Passed[e.Journey] = passage
	return true
}

// awaits reports whether a goal event can still come: one within the window may be late.
func (e *Enrollment) awaits(at int64) bool {
	return at <= e.GoalUntil+schema.HistoricAfter.Milliseconds()
}

func (t *turn) exit(e *Enrollment, j *playbook.Journey, event *schema.UserEvent) bool {
	e.Until = 0
	for _, x := range j.Exits {
		entered, left := t.changed[x.Left]
		switch {
		case event != nil && slices.Contains(x.Events, event.EventName),
			x.Left != "" && left && !entered,
			x.When != nil && t.holds(e, x.When):
			t.end(e, x.Reason)
			return true
		}
	}
	return false
}

// holds asks a rule on behalf of an enrollment and notes when to ask again. Unknown is not true: the user waits on.
func (t *turn) holds(e *Enrollment, rule *segment.Rule) bool {
	result := rule.Eval(t.scope())
	if result.Until != 0 && (e.Until == 0 || result.Until < e.Until) {
		e.Until = result.Until
	}
	return result.Truth == segment.True
}

// proceed leaves a wait or delay that is over.
func (t *turn) proceed(e *Enrollment, j *playbook.Journey, event *schema.UserEvent) bool {
	step := j.Steps[e.Step]
	if step == nil {
		return false
	}
	switch {
	case step.Kind == playbook.StepWait && event != nil && slices.Contains(step.Events, event.EventName),
		step.Kind == playbook.StepWait && step.When != nil && t.holds(e, step.When):
		t.run(e, j, step.Next)
	case e.Due != 0 && e.Due <= t.at && step.Kind == playbook.StepWait:
		t.run(e, j, step.OnTimeout)
	case e.Due != 0 && e.Due <= t.at:
		t.run(e, j, step.Next)
	default:
		return false
	}
	return true
}

// entries lets the user into the journeys that this moment opens.
func (t *turn) entries(event *schema.UserEvent) bool {
	moved := false
	for _, j := range t.book.Journeys {
		entered := t.changed[j.Enter.Segment]
		byEvent := event != nil && slices.Contains(j.Enter.Events, event.EventName)
		if !byEvent && (j.Enter.Segment == "" || !entered) {
			continue
		}
		if !t.mayEnter(j) || (j.Enter.When != nil && j.Enter.When.Eval(t.scope()).Truth != segment.True) {
			continue
		}
		t.start(j, event, byEvent)
		moved = true
	}
	return moved
}

func (t *turn) mayEnter(j *playbook.Journey) bool {
	inside := slices.ContainsFunc(t.state.Enrollments, func(e *Enrollment) bool {
		return e.Journey == j.Key && (e.Ended == "" || e.EndedAt == t.at)
	})
	passage, passed := t.state.Passed[j.Key]
	switch {
	case inside:
		return false
	case j.Reentry == playbook.ReenterAfterExit:
		return !passed || passage.EndedAt < t.at // once a moment at most: no loop without time between
	default:
		return !passed
	}
}

func (t *turn) start(j *playbook.Journey, event *schema.UserEvent, byEvent bool) {
	cause := j.Enter.Segment + "@" + strconv.FormatInt(t.at, 10)
	if byEvent {
		cause = event.EventID
	}
	e := &Enrollment{
		ID: schema.EnrollmentID(t.state.Token, j.Key, cause), Journey: j.Key, Version: j.Version, StartedAt: t.at,
		Historic: t.historic(),
	}
	if j.Goal != nil {
		e.GoalUntil = t.at + j.Goal.Within.Milliseconds()
	}
	t.state.Enrollments = append(t.state.Enrollments, e)
	o := t.outcome(schema.EnrollmentStarted, e.ID)
	t.fill(&o, e)
	t.record(o)
	// The event that lets a user in can itself be the goal or an exit; it can never be what a first step waits for.
	if byEvent && (t.convert(e, j, event) || t.exit(e, j, event)) {
		return
	}
	t.run(e, j, j.First)
}

// historic reports whether this moment belongs to the past: its event does, or time is still catching up with a replayed log.
func (t *turn) historic() bool {
	return t.event != nil && t.event.Lateness == schema.Historic ||
		t.state.HistoricAt != 0 && t.at < t.state.HistoricAt-schema.HistoricAfter.Milliseconds()
}

func (t *turn) end(e *Enrollment, reason string) {
	e.Ended, e.EndedAt, e.Due, e.Until = reason, t.at, 0, 0
	if t.state.Passed == nil {
		t.state.Passed = make(map[string]Passage)
	}
	before := t.state.Passed[e.Journey]
	t.state.Passed[e.Journey] = Passage{Times: before.Times + 1, Ended: reason, EndedAt: t.at, Converted: e.Converted}
	o := t.outcome(schema.EnrollmentEnded, e.ID)
	t.fill(&o, e)
	o.StepKey, o.Reason = e.Step, reason
	t.record(o)
}

// run takes steps until one waits or the journey ends. Steps only lead on in the file, so it ends.
func (t *turn) run(e *Enrollment, j *playbook.Journey, key string) {
	for range playbook.MaxSteps + 1 {
		e.Due, e.Until = 0, 0
		step := j.Steps[key]
		if step == nil {
			t.end(e, EndedCompleted)
			return
		}
		t.enterStep(e, key)
		switch step.Kind {
		case playbook.StepAction:
			t.wanted = append(t.wanted, want{e, step, e.Visits[key]})
			key = step.Next
		case playbook.StepBranch:
			key = t.choose(step)
		case playbook.StepExperiment:
			key = t.expose(e, step)
		case playbook.StepExit:
			t.end(e, step.Reason)
			return
		case playbook.StepWait:
			if step.When != nil && t.holds(e, step.When) {
				key = step.Next
				continue
			}
			e.Due = t.at + step.Duration.Milliseconds()
			return
		case playbook.StepDelay:
			e.Due = t.at + step.Duration.Milliseconds()
			return
		}
	}
}

func (t *turn) enterStep(e *Enrollment, key string) {
	e.Step, e.StepAt = key, t.at
	if e.Visits == nil {
		e.Visits = make(map[string]int)
	}
	e.Visits[key]++
	o := t.outcome(schema.StepEntered, e.ID, key, strconv.Itoa(e.Visits[key]))
	t.fill(&o, e)
	t.record(o)
}

// choose takes the first branch that holds.
func (t *turn) choose(step *playbook.Step) string {
	scope := t.scope()
	for _, b := range step.Branches {
		if b.Segment != "" && scope.InSegment(b.Segment) || b.When != nil && b.When.Eval(scope).Truth == segment.True {
			return b.To
		}
	}
	return step.Next
}

// expose assigns the variant and records the user's first meeting with it. Who is outside the experiment's coverage goes the
// way of control, unexposed.
func (t *turn) expose(e *Enrollment, step *playbook.Step) string {
	x := t.books.Playbook(e.Version).Experiments[step.Experiment]
	assignment := x.Assign(t.state.Token)
	if !assignment.In {
		if to, ok := step.Variants["control"]; ok {
			return to
		}
		return step.Variants[x.Variants[0].Key]
	}
	if known, met := t.state.Assigned[step.Experiment]; met {
		return step.Variants[known.Variant] // sticky: re-entry and new weights do not move a user
	}
	if t.state.Assigned == nil {
		t.state.Assigned = make(map[string]Assignment)
	}
	t.state.Assigned[step.Experiment] = Assignment{Variant: assignment.Variant, ExposedAt: t.at}
	o := t.outcome(schema.ExposureRecorded, t.state.Token, step.Experiment)
	t.fill(&o, e)
	o.Experiment, o.Variant, o.Bucket = step.Experiment, assignment.Variant, assignment.Bucket
	o.Details = details(map[string]any{
		"segments": t.state.segments(), "seed": x.Seed, "hash_version": x.HashVersion, "coverage": x.Coverage, "weights": weights(x),
	})
	t.record(o)
	return step.Variants[assignment.Variant]
}

func weights(x *playbook.Experiment) map[string]float64 {
	w := make(map[string]float64, len(x.Variants))
	for _, v := range x.Variants {
		w[v.Key] = v.Weight
	}
	return w
}

// segments lists the segments the user is in, sorted.
func (s *State) segments() []string {
	list := make([]string, 0, len(s.Members))
	for key, m := range s.Members {
		if m.In {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

// variants lists the variants the user met, by experiment.
func (s *State) variants() map[string]string {
	met := make(map[string]string, len(s.Assigned))
	for key, a := range s.Assigned {
		met[key] = a.Variant
	}
	return met
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func stageOf(e *Enrollment) string { return fmt.Sprintf("%s/%s", e.Journey, e.Step) }
