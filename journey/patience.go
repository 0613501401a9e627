package journey

import (
	"slices"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// MaxPatience is the most events of a user that may wait for the next one that matters.
const MaxPatience = 8

// Patience says which events would change nothing about a user, were they to come from now on, and until when: ingest may let them wait
// for the user's next batch. readWith is the playbook that they are read with: a user whom only events have reached that were known already may be under an
// older one still, and the next event changes more than it says. now is the caller's clock in Unix milliseconds. It is left out wherever there is
// doubt: an event that an open journey waits for, one whose properties or exact time a rule looks at, a user whose past is being replayed.
//
// What it says stays true while only such events come, each name by itself, that carry no traits and happened after it was asked. They move
// deadlines, but only to later than Until; so whoever lets them wait must let them go before that.
func Patience(books Books, state *State, readWith string, now int64) schema.Patience {
	book := books.Playbook(state.Playbook)
	if book == nil || state.Playbook != readWith || state.HandedOver != nil || state.HistoricAt != 0 || state.Facts.FirstSeen == 0 {
		return schema.Patience{}
	}
	a := &asking{state: state, book: book, now: now, until: WakeAt(state), truths: make(map[*segment.Rule]segment.Truth)}
	a.triggers = make(map[string]bool)
	for _, hash := range state.Versions() {
		version := books.Playbook(hash)
		if version == nil {
			return schema.Patience{}
		}
		a.sets = append(a.sets, version.Set)
	}
	for _, j := range book.Journeys {
		a.trigger(j.Enter.Events...)
	}
	for _, e := range state.Enrollments {
		if !a.enrolled(books, e) {
			return schema.Patience{}
		}
	}
	p := schema.Patience{AsOf: now, Events: make(map[string]int)}
	for _, name := range book.EventNames() {
		if n := a.bears(name); n > 0 {
			p.Events[name] = n
		}
	}
	p.Until = a.until
	return p
}

// asking is one call of Patience.
type asking struct {
	state    *State
	book     *playbook.Playbook
	sets     []*segment.Set
	now      int64
	until    int64 // the first moment at which time alone changes an answer, whichever of the events have come
	triggers map[string]bool
	rules    []enrolledRule
	truths   map[*segment.Rule]segment.Truth
}

// enrolledRule is a rule that an enrollment goes by, and the playbook that it was written in.
type enrolledRule struct {
	rule *segment.Rule
	book *playbook.Playbook
}

func (a *asking) trigger(names ...string) {
	for _, name := range names {
		a.triggers[name] = true
	}
}

// enrolled notes what an enrollment goes by at the step where it stands: steps to come are reached when something happens.
func (a *asking) enrolled(books Books, e *Enrollment) bool {
	version := books.Playbook(e.Version)
	j := version.Journey(e.Journey)
	if j == nil {
		return false
	}
	if j.Goal != nil && !e.Converted {
		a.trigger(j.Goal.Event)
	}
	if e.Ended != "" {
		return true
	}
	for i := range j.Exits {
		a.trigger(j.Exits[i].Events...)
		a.goesBy(j.Exits[i].When, version)
	}
	if step := j.Steps[e.Step]; step != nil && step.Kind == playbook.StepWait {
		a.trigger(step.Events...)
		a.goesBy(step.When, version)
	}
	return true
}

func (a *asking) goesBy(rule *segment.Rule, version *playbook.Playbook) {
	if rule != nil {
		a.rules = append(a.rules, enrolledRule{rule, version})
	}
}

// bears returns how many events of that name change nothing.
func (a *asking) bears(name string) int {
	if a.triggers[name] {
		return 0
	}
	most := MaxPatience
	for _, i := range a.book.AskedBy(name, false) {
		if most = min(most, a.holds(a.book.Segments[i].Rule, a.book, name, most)); most == 0 {
			return 0
		}
	}
	for _, r := range a.rules {
		if r.rule.AnyEvent || slices.Contains(r.rule.Events, name) {
			most = min(most, a.holds(r.rule, r.book, name, most))
		}
	}
	return most
}

// holds returns how many events of that name leave a rule's answer as it is, up to most.
func (a *asking) holds(rule *segment.Rule, book *playbook.Playbook, name string, most int) int {
	if !rule.Steady(name) {
		return 0
	}
	before, asked := a.truths[rule]
	if !asked {
		before = a.answer(rule, book, &a.state.Facts)
		a.truths[rule] = before
	}
	if !rule.Counts(name) { // as many as come, they are as good as one
		if a.differs(rule, book, name, 1, before) {
			return 0
		}
		return most
	}
	for n := range most {
		if a.differs(rule, book, name, n+1, before) {
			return n
		}
	}
	return most
}

func (a *asking) differs(rule *segment.Rule, book *playbook.Playbook, name string, n int, before segment.Truth) bool {
	until := a.until
	more := segment.More(&a.state.Facts, name, n, a.now, a.sets...)
	if a.answer(rule, book, &more) == before {
		return false
	}
	a.until = until // they are not to come
	return true
}

// answer asks a rule, and notes when time alone may change the answer.
func (a *asking) answer(rule *segment.Rule, book *playbook.Playbook, facts *segment.Facts) segment.Truth {
	scope := a.state.scope(book, a.now)
	scope.Facts = facts
	result := rule.Eval(scope)
	if result.Until != 0 && (a.until == 0 || result.Until < a.until) {
		a.until = result.Until
	}
	return result.Truth
}
