package journey

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/onramphq/onramp/experiment"
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

// matches reports whether an event is one of those named and passes the filter. A filter that cannot be answered does not pass.
func (t *turn) matches(event *schema.UserEvent, names []string, where *segment.Filter, e *Enrollment) bool {
	if event == nil || !slices.Contains(names, event.EventName) {
		return false
	}
	if where == nil {
		return true
	}
	var same map[string]any
	if len(where.Same) > 0 {
		same = decoded(e.Same)
	}
	return where.Match(t.properties(event), same)
}

// properties decodes an event's properties, once a moment.
func (t *turn) properties(event *schema.UserEvent) map[string]any {
	if t.decoded == nil {
		t.decoded = decoded(event.Properties)
	}
	return t.decoded
}

// decoded never returns nil: what cannot be read has no properties.
func decoded(raw json.RawMessage) map[string]any {
	values, err := schema.DecodeProperties(raw)
	if err != nil || values == nil {
		return map[string]any{}
	}
	return values
}

// convert records the goal of an enrollment, open or ended, if the event is it and came within the window.
func (t *turn) convert(e *Enrollment, j *playbook.Journey, event *schema.UserEvent) bool {
	if j.Goal == nil || e.Converted || event == nil || event.OccurredAt > e.GoalUntil || !e.awaits(t.at) ||
		!t.matches(event, []string{j.Goal.Event}, j.Goal.Where, e) {
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
	for i := range j.Exits {
		x := &j.Exits[i]
		switch {
		case t.matches(event, x.Events, x.Where, e),
			t.went(x.Left, false),
			t.went(x.Entered, true),
			x.When != nil && t.holds(e, x.When):
			t.end(e, x.Reason)
			return true
		}
	}
	return false
}

// went reports whether the user entered, or left, the segment at this moment.
func (t *turn) went(key string, in bool) bool {
	if key == "" {
		return false
	}
	entered, changed := t.changed[key]
	return changed && entered == in
}

// holds asks a rule on behalf of an enrollment and notes when to ask again. Unknown is not true: the user waits on.
func (t *turn) holds(e *Enrollment, rule *segment.Rule) bool {
	result := rule.Eval(t.scope())
	if result.Until != 0 && (e.Until == 0 || result.Until < e.Until) {
		e.Until = result.Until
	}
	return result.Truth == segment.True
}

// proceed leaves a wait, a delay or an action held back that is over.
func (t *turn) proceed(e *Enrollment, j *playbook.Journey, event *schema.UserEvent) bool {
	step := j.Steps[e.Step]
	if step == nil {
		return false
	}
	next, why, over := t.over(e, step, event)
	over = over && !e.Paused
	if over {
		t.run(e, j, next, why)
	}
	t.owed = 0
	return over
}

// over reports whether an enrollment leaves its step at this moment, where it goes, and why.
func (t *turn) over(e *Enrollment, step *playbook.Step, event *schema.UserEvent) (next, why string, over bool) {
	due := e.Due != 0 && e.Due <= t.at
	if step.Kind == playbook.StepWait {
		if !due && e.Met == "" && t.matches(event, step.Events, step.Where, e) {
			e.Met, e.Owed = event.EventName, t.at // a paused enrollment goes on by it later
		}
		if e.Met != "" {
			t.owed = e.Owed
			return step.Next, "event " + e.Met, true
		}
		if step.When != nil && t.holds(e, step.When) {
			return step.Next, step.When.Source + " is true: " + step.When.Explain(t.scope()), true
		}
		next, why = step.OnTimeout, "timed out after "+segment.FormatDuration(step.Duration)
	} else {
		next, why = step.Next, "the time has come"
	}
	if due && e.Due < t.at {
		t.owed = e.Due
	}
	if due && step.Kind == playbook.StepAction {
		next, why, t.owed = e.Step, "quiet hours are over", e.Owed
	}
	return next, why, due
}

// entries lets the user into the journeys that this moment opens.
func (t *turn) entries(event *schema.UserEvent) bool {
	moved := false
	for _, j := range t.book.Journeys {
		byEvent := t.matches(event, j.Enter.Events, j.Enter.Where, nil)
		if !byEvent && !t.went(j.Enter.Segment, true) && !t.went(j.Enter.Left, false) {
			continue
		}
		key := ""
		if j.Enter.Per != "" {
			key = keyOf(t.book.Set.Value(event.EventName, j.Enter.Per, t.properties(event)))
		}
		if refused := t.refuses(j, key); refused != "" {
			t.refuse(j, key, refused)
			continue
		}
		t.start(j, event, byEvent, key)
		moved = true
	}
	return moved
}

// keyOf writes a property's value as an enrollment's key; empty where there is none, or one too long to remember.
func keyOf(value any, ok bool) string {
	if !ok {
		return ""
	}
	key := fmt.Sprint(value)
	if len(key) > SameBytes {
		return ""
	}
	return key
}

// refuses says why the user may not enter the journey at this moment; empty: nothing speaks against it.
func (t *turn) refuses(j *playbook.Journey, key string) string {
	open := 0
	for _, e := range t.state.Enrollments {
		if e.Journey != j.Key || (e.Ended != "" && e.EndedAt != t.at) {
			continue
		}
		if e.Key == key || j.Enter.Per == "" {
			return "is inside already"
		}
		open++
	}
	passage, passed := t.state.Passed[j.Key]
	ended := passage.EndedAt
	if j.Enter.Per != "" {
		ended, passed = passage.Keys[shortHash(key)]
	}
	switch {
	case j.Paused:
		return "the journey is paused"
	case j.Enter.Per != "" && key == "":
		return "the event has no " + j.Enter.Per
	case open >= playbook.MaxEnrollments:
		return fmt.Sprintf("is inside %d times already", open)
	case passed && j.Reentry == playbook.ReenterNever:
		return "has been through; reentry: never"
	case passed && ended >= t.at: // once a moment at most: no loop without time between
		return "left at this very moment"
	case passed && t.at < ended+j.Cooldown.Milliseconds():
		return "may enter again " + stamp(ended+j.Cooldown.Milliseconds())
	case j.Enter.When != nil:
		if result := j.Enter.When.Eval(t.scope()); result.Truth != segment.True {
			return fmt.Sprintf("%s is %s: %s", j.Enter.When.Source, result.Truth, j.Enter.When.Explain(t.scope()))
		}
	}
	return ""
}

// refuse remembers why a trigger let nobody in. One that did let the user in is seen again by the later rounds of its moment.
func (t *turn) refuse(j *playbook.Journey, key, why string) {
	if slices.ContainsFunc(t.state.Enrollments, func(e *Enrollment) bool { return e.Journey == j.Key && e.Key == key && e.StartedAt == t.at }) {
		return
	}
	if t.state.Refused == nil {
		t.state.Refused = make(map[string]Refusal)
	}
	t.state.Refused[j.Key] = Refusal{At: t.at, Why: why}
}

// shortHash names a key without keeping it: 8 hex characters, so that one wrong answer takes tens of thousands of keys.
func shortHash(key string) string { return strconv.FormatUint(hashID(key)>>32, 16) }

func (t *turn) start(j *playbook.Journey, event *schema.UserEvent, byEvent bool, key string) {
	cause := cmp.Or(j.Enter.Segment, j.Enter.Left) + "@" + strconv.FormatInt(t.at, 10)
	why := "entered segment " + j.Enter.Segment
	if j.Enter.Left != "" {
		why = "left segment " + j.Enter.Left
	}
	if byEvent {
		cause, why = event.EventID, "event "+event.EventName
	}
	e := &Enrollment{
		ID: schema.EnrollmentID(t.state.Token, j.Key, cause), Journey: j.Key, Version: j.Version, StartedAt: t.at,
		Historic: t.historic(), Key: key,
	}
	if byEvent && len(j.Same) > 0 {
		e.Same = t.remembered(event, j.Same)
	}
	if j.Goal != nil {
		e.GoalUntil = t.at + j.Goal.Within.Milliseconds()
	}
	delete(t.state.Refused, j.Key)
	t.state.Enrollments = append(t.state.Enrollments, e)
	o := t.outcome(schema.EnrollmentStarted, e.ID)
	t.fill(&o, e)
	o.Reason = why
	t.record(o)
	// The event that lets a user in can itself be the goal or an exit; it can never be what a first step waits for.
	if byEvent && (t.convert(e, j, event) || t.exit(e, j, event)) {
		return
	}
	t.run(e, j, j.First, why)
}

// remembered keeps the entry event's properties that the journey looks at; one of another type than declared, or too large, is as good
// as missing.
func (t *turn) remembered(event *schema.UserEvent, names []string) json.RawMessage {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(event.Properties, &all); err != nil {
		return nil // no properties, or none that can be read
	}
	kept := make(map[string]json.RawMessage, len(names))
	for _, name := range names {
		if _, ok := t.book.Set.Value(event.EventName, name, t.properties(event)); ok && len(all[name]) <= SameBytes {
			kept[name] = all[name]
		}
	}
	raw, err := json.Marshal(kept)
	if err != nil {
		return nil // cannot happen: the values came out of JSON
	}
	return raw
}

// historic reports whether this moment belongs to the past: its event does, or time is still catching up with a replayed log.
func (t *turn) historic() bool {
	event := cmp.Or(t.event, t.cause)
	return event != nil && event.Lateness == schema.Historic ||
		t.state.HistoricAt != 0 && t.at < t.state.HistoricAt-schema.HistoricAfter.Milliseconds()
}

func (t *turn) end(e *Enrollment, reason string) {
	e.Ended, e.EndedAt, e.Due, e.Until, e.Owed, e.Met, e.Paused = reason, t.at, 0, 0, 0, "", false
	t.mark(e, e.Step, "ended: "+reason)
	if t.state.Passed == nil {
		t.state.Passed = make(map[string]Passage)
	}
	before := t.state.Passed[e.Journey]
	passage := Passage{
		Times: before.Times + 1, Ended: reason, EndedAt: t.at, Converted: e.Converted, Keys: before.Keys, Trail: e.Trail,
	}
	if e.Key != "" {
		passage.Keys = remember(passage.Keys, shortHash(e.Key), t.at)
	}
	t.state.Passed[e.Journey] = passage
	o := t.outcome(schema.EnrollmentEnded, e.ID)
	t.fill(&o, e)
	o.StepKey, o.Reason = e.Step, reason
	t.record(o)
}

// remember adds a key and forgets the one that ended first where there are too many.
func remember(keys map[string]int64, key string, at int64) map[string]int64 {
	kept := maps.Clone(keys)
	if kept == nil {
		kept = make(map[string]int64)
	}
	kept[key] = at
	if len(kept) > keysKept {
		oldest := key
		for _, k := range sortedKeys(kept) {
			if kept[k] < kept[oldest] {
				oldest = k
			}
		}
		delete(kept, oldest)
	}
	return kept
}

// mark adds to the trail that tells a person what happened on the way.
func (t *turn) mark(e *Enrollment, step, why string) {
	e.Trail = append(e.Trail, Mark{At: t.at, Step: step, Why: shorten(why)})
	if over := len(e.Trail) - MarksKept; over > 0 {
		e.Trail = slices.Delete(e.Trail, 0, over)
	}
	if passage, ok := t.state.Passed[e.Journey]; ok && e.Ended != "" && passage.EndedAt == e.EndedAt {
		passage.Trail = e.Trail // what the last step asked for is decided after the end
		t.state.Passed[e.Journey] = passage
	}
}

// shorten keeps a reason to what fits a line and the state.
func shorten(text string) string {
	const most = 160
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// run takes steps until one waits or the journey ends. Steps only lead on in the file, so it ends.
func (t *turn) run(e *Enrollment, j *playbook.Journey, key, why string) {
	owed := t.owed
	for range playbook.MaxSteps + 1 {
		resumed := e.Owed != 0 && key == e.Step
		e.Due, e.Until, e.Owed, e.Met = 0, 0, 0, ""
		step := j.Steps[key]
		if step == nil {
			t.end(e, EndedCompleted)
			return
		}
		if !resumed {
			t.enterStep(e, key, why)
		}
		switch step.Kind {
		case playbook.StepAction:
			if until := t.heldUntil(e, step); until != 0 {
				e.Due, e.Owed = until, cmp.Or(owed, t.at)
				t.mark(e, key, "held back until "+stamp(until)+": quiet hours")
				return
			}
			t.wanted = append(t.wanted, want{e, step, e.Visits[key], cmp.Or(owed, t.at)})
			key, why = step.Next, "then"
		case playbook.StepBranch:
			key, why = t.choose(step)
		case playbook.StepExperiment:
			key, why = t.expose(e, step)
		case playbook.StepExit:
			t.end(e, step.Reason)
			return
		case playbook.StepWait:
			if step.When != nil && t.holds(e, step.When) {
				key, why = step.Next, step.When.Source+" is true already: "+step.When.Explain(t.scope())
				continue
			}
			e.Due = step.Over(t.at, t.zone())
			return
		case playbook.StepDelay:
			if e.Due = step.Over(t.at, t.zone()); e.Due > t.at {
				return
			}
			key, why = step.Next, "no need to wait"
		}
	}
}

func (t *turn) enterStep(e *Enrollment, key, why string) {
	e.Step, e.StepAt = key, t.at
	if e.Visits == nil {
		e.Visits = make(map[string]int)
	}
	e.Visits[key]++
	t.mark(e, key, why)
	o := t.outcome(schema.StepEntered, e.ID, key, strconv.Itoa(e.Visits[key]))
	t.fill(&o, e)
	o.Reason = shorten(why)
	t.record(o)
}

// choose takes the first branch that holds, and says why, and why not those before it.
func (t *turn) choose(step *playbook.Step) (to, why string) {
	scope := t.scope()
	var not []string
	for _, b := range step.Branches {
		if b.Segment != "" {
			if scope.InSegment(b.Segment) {
				return b.To, "is in segment " + b.Segment
			}
			not = append(not, "not in segment "+b.Segment)
			continue
		}
		result := b.When.Eval(scope)
		reason := fmt.Sprintf("%s is %s: %s", b.When.Source, result.Truth, b.When.Explain(scope))
		if result.Truth == segment.True {
			return b.To, reason
		}
		not = append(not, reason)
	}
	return step.Next, "no branch holds: " + strings.Join(not, "; ")
}

// expose assigns the variant and records the user's first meeting with it. Who is outside the experiment's coverage or its range of a
// namespace, or held out of everything, goes the way of control, unexposed.
func (t *turn) expose(e *Enrollment, step *playbook.Step) (to, why string) {
	x := t.books.Playbook(e.Version).Experiments[step.Experiment]
	known, met := t.state.Assigned[step.Experiment]
	if met { // sticky: re-entry and new weights do not move a user
		return step.Variants[known.Variant], "variant " + known.Variant + ", as before"
	}
	assignment := x.Assign(t.state.Token)
	if assignment.Variant == "" || t.heldOut() {
		return step.Variants[x.Control], "not in the experiment: the way of " + x.Control
	}
	t.assign(e, &x.Experiment, assignment, exposure(x, assignment, t.state.Token))
	return step.Variants[assignment.Variant], "variant " + assignment.Variant
}

// assign records a user's first meeting with a variant.
func (t *turn) assign(e *Enrollment, x *experiment.Experiment, a experiment.Assignment, extra map[string]any) {
	if t.state.Assigned == nil {
		t.state.Assigned = make(map[string]Assignment)
	}
	t.state.Assigned[x.Key] = Assignment{Variant: a.Variant, ExposedAt: t.at}
	t.exposed = true
	o := t.outcome(schema.ExposureRecorded, t.state.Token, x.Key)
	t.fill(&o, e)
	o.Experiment, o.Variant, o.Bucket = x.Key, a.Variant, a.Bucket
	o.Details = details(settings(x, extra, t.state.segments()))
	t.record(o)
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
