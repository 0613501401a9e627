package segment

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// KeepRecent bounds the event times a windowed slot remembers. A windowed count therefore never exceeds it; comparing with
// a larger number is refused when the rule is compiled.
const KeepRecent = 128

// Set holds the aggregates that the rules of one playbook share. Rules add to it while they are compiled; after that it is
// read only and safe for concurrent use.
type Set struct {
	plan    Plan
	scale   float64
	slots   []Slot
	byKey   map[string]int
	byEvent map[string][]int // event name → slots, in order of their making
}

// Slot is one aggregate: the events of one name that pass one filter.
type Slot struct {
	Key    string // hash of what it selects: stable between playbooks, so an unchanged rule keeps its numbers
	Event  string
	Where  string        // the filter's source; empty for all
	Window time.Duration // the widest window a rule looks through; 0 where none does
	Keep   int
	filter *Filter
}

// NewSet returns an empty set for rules over plan. Every duration in a rule is multiplied by scale (1 in earnest; a demo
// makes days into seconds).
func NewSet(plan Plan, scale float64) *Set {
	return &Set{plan: plan, scale: scale, byKey: make(map[string]int), byEvent: make(map[string][]int)}
}

// Slots returns the aggregates in order of their making.
func (set *Set) Slots() []Slot { return slices.Clone(set.slots) }

// Declares reports whether the tracking plan has an event of that name.
func (set *Set) Declares(event string) bool {
	_, ok := set.plan.Events[event]
	return ok
}

// Duration reads a duration of the playbook and scales it.
func (set *Set) Duration(text string) (time.Duration, error) {
	d, err := ParseDuration(text)
	if err != nil {
		return 0, err
	}
	return set.scaled(d), nil
}

func (set *Set) scaled(d time.Duration) time.Duration {
	return max(time.Millisecond, time.Duration(float64(d)*set.scale).Round(time.Millisecond))
}

// slot returns the index of the aggregate for event and where, making it if it is new.
func (set *Set) slot(event, where string, filter *Filter) int {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(event), event, where))
	key := hex.EncodeToString(sum[:6])
	if i, ok := set.byKey[key]; ok {
		return i
	}
	i := len(set.slots)
	set.slots = append(set.slots, Slot{Key: key, Event: event, Where: where, filter: filter})
	set.byKey[key] = i
	set.byEvent[event] = append(set.byEvent[event], i)
	return i
}

func (set *Set) widen(i int, window time.Duration) {
	slot := &set.slots[i]
	slot.Window = max(slot.Window, window)
	slot.Keep = KeepRecent
}

// selects reports whether the slot counts an event with these properties. A filter that cannot be answered does not select.
func (s *Slot) selects(properties map[string]any) bool {
	return s.filter == nil || s.filter.Match(properties, nil)
}

// Zone returns the zone in which the user lives: that of the plan's trait, else the plan's default, else UTC.
func (set *Set) Zone(f *Facts) *time.Location {
	if trait, ok := f.Traits[set.plan.Zone.Trait]; ok {
		if name, isText := String.coerceJSON(trait.Value); isText {
			if zone, known := Location(name.(string)); known { //nolint:forcetypeassert // what String coerces is a string
				return zone
			}
		}
	}
	if set.plan.Zone.Default != nil {
		return set.plan.Zone.Default
	}
	return time.UTC
}
