package experiment

import (
	"errors"
	"fmt"
)

// Namespace is a line from 0 to 1 on which experiments share out the users: each takes a range, every user stands at one place,
// and so nobody meets two experiments whose ranges do not overlap. All experiments of a namespace must use one hash version.
type Namespace struct {
	Name        string
	Start, End  float64 // [Start, End) within [0, 1]
	HashVersion int     // HashV1 is GrowthBook's namespace; HashV2 its filter with the seed "__" + name. Defaults to HashV2.
}

// NamespaceSeed is what places a user in the namespace of that name.
func NamespaceSeed(name string) string { return "__" + name }

// Place is where the user stands in the namespace, in [0, 1).
func (n Namespace) Place(unitID string) float64 {
	version := n.HashVersion
	if version == 0 {
		version = HashV2
	}
	place, _ := Hash(NamespaceSeed(n.Name), unitID, version)
	return place
}

// Holds says whether the user stands in the range.
func (n Namespace) Holds(unitID string) bool {
	place := n.Place(unitID)
	return place >= n.Start && place < n.End
}

// Overlaps says whether two ranges of one namespace have a place in common.
func (n Namespace) Overlaps(other Namespace) bool {
	return n.Start < other.End && other.Start < n.End
}

// Validate returns all that is wrong with the namespace, joined.
func (n Namespace) Validate() error {
	var problems []error
	if n.Name == "" {
		problems = append(problems, errors.New("namespace without a name"))
	}
	if !(n.Start >= 0 && n.Start < n.End && n.End <= 1) { // written so that NaN is refused too
		problems = append(problems, fmt.Errorf("range of namespace %q is [%v, %v]; it must lie in [0, 1] and not be empty", n.Name, n.Start, n.End))
	}
	if n.HashVersion < 0 || n.HashVersion > HashV2 {
		problems = append(problems, fmt.Errorf("hash version of namespace %q is %d; it must be 1 or 2", n.Name, n.HashVersion))
	}
	return errors.Join(problems...)
}

// Rules decide before the hash does who enters an experiment, and with which variant. The zero value lets everybody in. They are
// asked in the order of the GrowthBook specification: forced values, then the namespace, then coverage and hash.
type Rules struct {
	Forced    map[string]string // variant by unit id: for those who test the flow; no part of the comparison
	Namespace *Namespace
}

// Entry is an assignment with how it came about.
type Entry struct {
	Assignment
	Forced  bool    // In is true then, and Bucket says where the hash would have put the user
	Outside bool    // stands outside the experiment's range of the namespace
	Place   float64 // in the namespace; zero without one
}

// AssignBy returns the variant of the user under the rules. A forced variant that the experiment does not have is no rule.
func (e Experiment) AssignBy(rules Rules, unitID string) Entry {
	entry := Entry{Assignment: e.Assign(unitID)}
	if rules.Namespace != nil {
		entry.Place = rules.Namespace.Place(unitID)
	}
	if forced, ok := rules.Forced[unitID]; ok && e.has(forced) {
		entry.Variant, entry.In, entry.Forced = forced, true, true
		return entry
	}
	if rules.Namespace != nil && !rules.Namespace.Holds(unitID) {
		entry.Variant, entry.In, entry.Outside = "", false, true
	}
	return entry
}

func (e Experiment) has(variant string) bool {
	for _, v := range e.Variants {
		if v.Key == variant {
			return true
		}
	}
	return false
}

// Factor is one of the things that a factorial flow varies at once: the tutorial, the tone.
type Factor struct {
	Key    string
	Levels []Variant
}

// Cell is a variant that is made of one level of each factor.
type Cell struct {
	Variant
	Levels map[string]string // by factor
}

// Cells returns every combination of levels, named by them: `short_calm`. The levels of the last factor change fastest, and
// a weight is the product of those of the levels, so that factors are independent of each other.
func Cells(factors []Factor) []Cell {
	cells := []Cell{{Variant: Variant{Weight: 1}}}
	for _, f := range factors {
		next := make([]Cell, 0, len(cells)*len(f.Levels))
		for _, c := range cells {
			for _, level := range f.Levels {
				next = append(next, c.with(f.Key, level))
			}
		}
		cells = next
	}
	return cells
}

func (c Cell) with(factor string, level Variant) Cell {
	grown := Cell{Variant: Variant{Key: level.Key, Weight: c.Weight * level.Weight}, Levels: map[string]string{factor: level.Key}}
	if c.Key != "" {
		grown.Key = c.Key + "_" + level.Key
	}
	for f, l := range c.Levels {
		grown.Levels[f] = l
	}
	return grown
}
