package segment

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Set holds the aggregates that the rules of one playbook share. Rules add to it while they are compiled; after that it is
// read only and safe for concurrent use.
type Set struct {
	plan    Plan
	scale   float64
	slots   []Slot
	byKey   map[string]int
	byEvent map[string][]int // event name → slots, in order of their making
	byAny   []int            // the slots that take every declared event
	byTrait map[string][]int // trait → slots that take its changes
}

// Slot is one aggregate: what is kept of the events that pass one filter, or two.
type Slot struct {
	Key      string        // hash of what it selects and keeps: stable between playbooks, so an unchanged rule keeps its numbers
	Event    string        // empty: every declared event, or the changes of Trait
	Trait    string        // whose changes it selects
	Where    string        // the filter's source; empty for all
	Property string        // whose values it keeps; empty where it keeps none
	Window   time.Duration // the widest window a rule looks through; 0 where none does

	fold     fold
	first    pick
	second   *pick // of a pair
	declared Type  // of Property
	gap      int64 // in milliseconds: that ends a session, or within which the second of a pair must follow
}

// NewSet returns an empty set for rules over plan. Every duration in a rule is multiplied by scale (1 in earnest; a demo
// makes days into seconds); calendar days and times of day are not.
func NewSet(plan Plan, scale float64) *Set {
	return &Set{plan: plan, scale: scale, byKey: make(map[string]int), byEvent: make(map[string][]int), byTrait: make(map[string][]int)}
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

// slot returns the index of the aggregate, making it if it is new. Its window reaches back as far as all who ask for it.
func (set *Set) slot(s Slot) int {
	s.Key = s.key()
	if i, ok := set.byKey[s.Key]; ok {
		set.slots[i].Window = max(set.slots[i].Window, s.Window)
		return i
	}
	i := len(set.slots)
	set.slots = append(set.slots, s)
	set.byKey[s.Key] = i
	for _, p := range s.picks() {
		set.index(p, i)
	}
	return i
}

// index makes the events that a pick may take find the slot.
func (set *Set) index(p *pick, i int) {
	with := func(list []int) []int {
		if slices.Contains(list, i) {
			return list
		}
		return append(list, i)
	}
	switch {
	case p.trait != "":
		set.byTrait[p.trait] = with(set.byTrait[p.trait])
	case p.event != "":
		set.byEvent[p.event] = with(set.byEvent[p.event])
	default:
		set.byAny = with(set.byAny)
	}
}

// picks returns what the slot takes: one pick, or the two of a pair.
func (s *Slot) picks() []*pick {
	if s.second != nil {
		return []*pick{&s.first, s.second}
	}
	return []*pick{&s.first}
}

func (s *Slot) key() string {
	content := s.first.identity()
	if s.fold != foldTimes {
		content = fmt.Sprintf("%s:%s:%d:%d:%s", s.fold.name(), s.Property, s.gap, len(content), content)
	}
	if s.second != nil {
		content += s.second.identity()
	}
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:6])
}

// mark is the key under which Done holds that the slot has taken the event. A pair may take an event and a change that it makes.
func (s *Slot) mark(trait string) string {
	if trait == "" {
		return s.Key
	}
	return s.Key + " " + trait
}

// Zone returns the zone in which the user lives: that of the plan's trait, else the plan's default, else UTC.
func (set *Set) Zone(f *Facts) *time.Location {
	if trait, ok := f.Traits[set.plan.Zone.Trait]; ok {
		if name, isText := decodeJSON(trait.Value).(string); isText {
			if zone, known := Location(name); known {
				return zone
			}
		}
	}
	if set.plan.Zone.Default != nil {
		return set.plan.Zone.Default
	}
	return time.UTC
}

// The widths of what a state holds, as JSON: event times lie between 2001 and 2286.
const (
	timeBytes   = 13
	countBytes  = 19
	amountBytes = 20 // with its sign; hashes, too
	dayBytes    = 5
)

// MaxBytes returns what the slot can take up in a user's state, as JSON, however much happens.
func (s *Slot) MaxBytes() int {
	n := len(`"0123456789ab":{"n":,"first":,"last":},`) + countBytes + 2*timeBytes
	list := func(name string, length, width int) {
		n += len(name) + len(`,"":[]`) + length*(width+len(","))
	}
	field := func(name string, width int) { n += len(name) + len(`,"":`) + width }
	if s.Window > 0 {
		field("window", timeBytes)
		field("lost", timeBytes)
		list("recent", KeepRecent, timeBytes)
	}
	switch s.fold {
	case foldTimes:
	case foldAmounts:
		for _, name := range []string{"sum", "high", "min", "max", "beyond"} {
			field(name, amountBytes)
		}
		if s.Window > 0 {
			list("values", KeepRecent, amountBytes)
		}
	case foldDistinct:
		field("lost", timeBytes)
		list("recent", KeepDistinct, timeBytes)
		list("values", KeepDistinct, amountBytes)
	case foldDays:
		field("lost", dayBytes)
		list("days", KeepRecent, dayBytes)
	case foldSessions:
		field("dropped", countBytes)
		field("longest", timeBytes)
		list("sessions", KeepSessions, len("[,]")+2*timeBytes)
	case foldPair:
		list("recent", KeepRecent, timeBytes)
		list("others", KeepRecent, timeBytes)
	case foldOpen:
		field("closed", timeBytes)
		list("recent", KeepRecent, timeBytes)
	}
	return n
}

// MaxBytes returns what all that is counted of a user's events can take up in the user's state, as JSON. The values of traits come on
// top; they are as long as services send them.
func (set *Set) MaxBytes() int {
	n := len(`{"first_seen":,"last_seen":,"series":{}}`) + 2*timeBytes
	for i := range set.slots {
		n += set.slots[i].MaxBytes()
	}
	return n
}
