package segment

import (
	"encoding/json"
	"maps"
	"slices"

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

// Series is the fold of the events one Slot selects. Its fields do not depend on the order in which events arrive.
type Series struct {
	Count  int64   `json:"n"`
	First  int64   `json:"first"`
	Last   int64   `json:"last"`
	Recent []int64 `json:"recent,omitempty"` // ascending event times, the newest Slot.Keep of them within Slot.Window
}

// Trait is the current value of a trait. The latest event time wins, the later stream position where two are equal.
type Trait struct {
	Value json.RawMessage `json:"value"`
	At    int64           `json:"at"`
	Seq   uint64          `json:"seq"`
}

// Apply folds one event into f. Undeclared events and traits leave no mark. done names the series this event has been
// counted in already and takes those that Apply counts it in: a user can live under several sets, which share series.
func (set *Set) Apply(f *Facts, event *schema.UserEvent, done map[string]bool) {
	if !set.Declares(event.EventName) {
		return
	}
	if f.FirstSeen == 0 || event.OccurredAt < f.FirstSeen {
		f.FirstSeen = event.OccurredAt
	}
	f.LastSeen = max(f.LastSeen, event.OccurredAt)
	set.applyTraits(f, event)
	slots := set.byEvent[event.EventName]
	if len(slots) == 0 {
		return
	}
	properties, err := schema.DecodeProperties(event.Properties)
	if err != nil {
		properties = nil // ingest let only objects through; whatever else came counts as an event without properties
	}
	for _, i := range slots {
		slot := &set.slots[i]
		if done[slot.Key] || !slot.selects(properties) {
			continue
		}
		done[slot.Key] = true
		if f.Series == nil {
			f.Series = make(map[string]*Series)
		}
		series := f.Series[slot.Key]
		if series == nil {
			series = &Series{First: event.OccurredAt, Last: event.OccurredAt}
			f.Series[slot.Key] = series
		}
		series.add(event.OccurredAt, slot)
	}
}

func (s *Series) add(at int64, slot *Slot) {
	s.Count++
	s.First = min(s.First, at)
	s.Last = max(s.Last, at)
	if slot.Window == 0 {
		return
	}
	i, _ := slices.BinarySearch(s.Recent, at+1) // after its equals: equal times are two events
	s.Recent = slices.Insert(s.Recent, i, at)
	oldest := s.Last - slot.Window.Milliseconds()
	for len(s.Recent) > 0 && (len(s.Recent) > slot.Keep || s.Recent[0] <= oldest) {
		s.Recent = s.Recent[1:]
	}
}

func (set *Set) applyTraits(f *Facts, event *schema.UserEvent) {
	if len(event.Traits) == 0 {
		return
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(event.Traits, &values); err != nil {
		return // as with properties
	}
	for name, raw := range values {
		if _, declared := set.plan.Traits[name]; !declared {
			continue
		}
		old, had := f.Traits[name]
		if had && (old.At > event.OccurredAt || (old.At == event.OccurredAt && old.Seq > event.Sequence)) {
			continue
		}
		if f.Traits == nil {
			f.Traits = make(map[string]Trait)
		}
		f.Traits[name] = Trait{Value: raw, At: event.OccurredAt, Seq: event.Sequence}
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
	maps.DeleteFunc(f.Series, func(key string, _ *Series) bool {
		return !slices.ContainsFunc(sets, func(set *Set) bool { _, ok := set.byKey[key]; return ok })
	})
	maps.DeleteFunc(f.Traits, func(name string, _ Trait) bool {
		return !slices.ContainsFunc(sets, func(set *Set) bool { _, ok := set.plan.Traits[name]; return ok })
	})
}
