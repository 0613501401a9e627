package segment

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/onramphq/onramp/schema"
)

// Facts is what is kept of a user's events: a fold, bounded by the playbook and not by the user's history. Times are Unix
// milliseconds.
type Facts struct {
	FirstSeen int64              `json:"first_seen,omitempty"` // event time of the earliest declared event
	LastSeen  int64              `json:"last_seen,omitempty"`  // event time of the latest declared event
	Series    map[string]*Series `json:"series,omitempty"`     // by Slot.Key
	Traits    map[string]Trait   `json:"traits,omitempty"`
}

// Trait is the current value of a trait. The latest event time wins, the later stream position where two are equal.
type Trait struct {
	Value json.RawMessage `json:"value"`
	At    int64           `json:"at"`
	Seq   uint64          `json:"seq"`
}

// Done is what the sets that a user lives under have done about one event so far: the series that counted it, and the values that
// traits had before it. Make a new one for each event.
type Done map[string]json.RawMessage

// traitMark is the key under which Done holds what a trait was before.
func traitMark(name string) string { return "traits." + name }

// Apply folds one event into f. Undeclared events and traits leave no mark. A user can live under several sets, which share series:
// done keeps them from counting the event twice.
func (set *Set) Apply(f *Facts, event *schema.UserEvent, done Done) {
	if !set.Declares(event.EventName) {
		return
	}
	if f.FirstSeen == 0 || event.OccurredAt < f.FirstSeen {
		f.FirstSeen = event.OccurredAt
	}
	f.LastSeen = max(f.LastSeen, event.OccurredAt)
	in := intake{set: set, facts: f, done: done, name: event.EventName, at: event.OccurredAt, raw: event.Properties}
	set.applyTraits(&in, event)
	for _, i := range set.byEvent[event.EventName] {
		in.fold(&set.slots[i])
	}
	for _, i := range set.byAny {
		in.fold(&set.slots[i])
	}
}

// applyTraits takes over the traits that an event carries, and folds the changes that it makes once all of them are there: a change can
// depend on another, as its day does on the zone.
func (set *Set) applyTraits(in *intake, event *schema.UserEvent) {
	if len(event.Traits) == 0 {
		return
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(event.Traits, &values); err != nil {
		return // ingest let only objects through; whatever else came carries no traits
	}
	f := in.facts
	befores := make(map[string]json.RawMessage, len(values))
	for name, raw := range values {
		if _, declared := set.plan.Traits[name]; !declared {
			continue
		}
		old, had := f.Traits[name]
		if had && (old.At > event.OccurredAt || (old.At == event.OccurredAt && old.Seq > event.Sequence)) {
			continue
		}
		before, replaced := in.done[traitMark(name)]
		if !replaced && had {
			before = old.Value
			in.done[traitMark(name)] = before
		}
		if f.Traits == nil {
			f.Traits = make(map[string]Trait)
		}
		f.Traits[name] = Trait{Value: raw, At: event.OccurredAt, Seq: event.Sequence}
		if len(set.byTrait[name]) > 0 && before != nil {
			befores[name] = before
		}
	}
	for _, name := range slices.Sorted(maps.Keys(befores)) {
		set.applyChange(in, name, befores[name], values[name])
	}
}

// applyChange folds the change of a trait into the slots that take it. A value of another type than declared is none, and neither the
// first value nor the loss of one is a change.
func (set *Set) applyChange(in *intake, trait string, before, after json.RawMessage) {
	declared := set.plan.Traits[trait]
	from, had := declared.coerceJSON(before)
	to, has := declared.coerceJSON(after)
	if !had || !has || equal(from, to) {
		return
	}
	change := intake{
		set: in.set, facts: in.facts, done: in.done, at: in.at, trait: trait,
		scope: filterScope{event: map[string]any{"from": decodeJSON(before), "to": decodeJSON(after)}}, decoded: true,
	}
	for _, i := range set.byTrait[trait] {
		change.fold(&set.slots[i])
	}
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case []string:
		b, ok := b.([]string)
		return ok && slices.Equal(a, b)
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	}
	return a == b
}

// intake is one event, or the change of a trait, on its way into the slots.
type intake struct {
	set   *Set
	facts *Facts
	done  Done
	name  string // of the event; empty for a change
	trait string // whose change it is; empty for an event
	at    int64

	raw     json.RawMessage
	scope   filterScope // whose event is raw decoded, once a slot asks for it
	decoded bool
	zone    *time.Location // the user's, once a slot asks for it
}

// carried returns what the event carries.
func (in *intake) carried() map[string]any {
	if !in.decoded {
		in.decoded = true
		if values, err := schema.DecodeProperties(in.raw); err == nil {
			in.scope.event = values // else as with traits: an event without properties
		}
	}
	return in.scope.event
}

// fold folds the event into a slot, if the slot takes it and has not yet.
func (in *intake) fold(slot *Slot) {
	mark := slot.mark(in.trait)
	series := in.facts.Series[slot.Key]
	_, twice := in.done[mark]
	if twice && slot.Window.Milliseconds() <= series.Window {
		return
	}
	first := slot.first.takes(in)
	second := slot.second != nil && slot.second.takes(in)
	if !first && !second {
		return
	}
	var value any
	if slot.Property != "" {
		var had bool
		if value, had = slot.declared.coerce(in.carried()[slot.Property]); !had {
			return
		}
	}
	if twice {
		in.again(series, slot, value)
		return
	}
	in.done[mark] = nil
	if series == nil {
		if in.facts.Series == nil {
			in.facts.Series = make(map[string]*Series)
		}
		series = &Series{}
		in.facts.Series[slot.Key] = series
	}
	series.widen(slot.Window.Milliseconds())
	series.note(in.at)
	in.add(series, slot, value, first, second)
}

// again lets a set look further back than the one that has counted the event before it.
func (in *intake) again(series *Series, slot *Slot, value any) {
	window, before := slot.Window.Milliseconds(), series.Window
	if series.Count == 1 { // the event itself: nothing is lost
		series.Window = window
	}
	series.widen(window)
	if before > 0 && in.at > series.Last-before {
		return // remembered already
	}
	if slot.fold == foldAmounts {
		series.remember(in.at, millionths(value), true)
	} else {
		series.remember(in.at, 0, false)
	}
}

func (in *intake) add(series *Series, slot *Slot, value any, first, second bool) {
	switch slot.fold {
	case foldTimes:
		if series.Window > 0 {
			series.remember(in.at, 0, false)
		}
	case foldAmounts:
		amount := millionths(value)
		series.amount(amount)
		if series.Window > 0 {
			series.remember(in.at, amount, true)
		}
	case foldDistinct:
		series.value(in.at, hashOf(value))
	case foldDays:
		if in.zone == nil {
			in.zone = in.set.Zone(in.facts)
		}
		series.day(DayOf(in.at, in.zone))
	case foldSessions:
		series.session(in.at, slot.gap)
	case foldPair:
		series.pair(in.at, slot.gap, first, second)
	case foldOpen:
		series.open(in.at, first, second)
	}
}

// TraitValues returns the declared traits that have a value of their declared type.
func (set *Set) TraitValues(f *Facts) map[string]any {
	values := make(map[string]any, len(f.Traits))
	for name, declared := range set.plan.Traits {
		trait, ok := f.Traits[name]
		if !ok {
			continue
		}
		if v, ok := declared.coerceJSON(trait.Value); ok {
			values[name] = v
		}
	}
	return values
}

// Prune drops what none of the sets reads: what an older playbook left behind.
func Prune(f *Facts, sets ...*Set) {
	maps.DeleteFunc(f.Series, func(key string, series *Series) bool {
		window, read := int64(0), false
		for _, set := range sets {
			if i, ok := set.byKey[key]; ok {
				window, read = max(window, set.slots[i].Window.Milliseconds()), true
			}
		}
		series.narrow(window)
		return !read
	})
	maps.DeleteFunc(f.Traits, func(name string, _ Trait) bool {
		return !slices.ContainsFunc(sets, func(set *Set) bool { _, ok := set.plan.Traits[name]; return ok })
	})
}
