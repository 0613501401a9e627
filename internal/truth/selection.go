package truth

import (
	"fmt"
	"slices"
)

// Selection is a part of what a user did. Hours is within, Days within_days; 0 is no window.
type Selection struct {
	Event   string // empty for all
	Changes string // a trait, instead of an event
	Where   Expr
	Hours   int
	Days    int
}

// String writes the selection as a rule does.
func (s Selection) String() string {
	text := "events()"
	switch {
	case s.Changes != "":
		text = fmt.Sprintf("changes(traits.%s)", s.Changes)
	case s.Event != "":
		text = fmt.Sprintf("events(%q)", s.Event)
	}
	if s.Where != nil {
		text += fmt.Sprintf(".where(%s)", s.Where)
	}
	if s.Hours > 0 {
		text += fmt.Sprintf(".within(%q)", hours(s.Hours))
	}
	if s.Days > 0 {
		text += fmt.Sprintf(".within_days(%d)", s.Days)
	}
	return text
}

func hours(n int) string { return fmt.Sprintf("%dh", n) }

// found is one selected event.
type found struct {
	at         int64
	order      int // of record
	properties map[string]any
}

// in returns what the selection holds at the moment of a view, in order of record.
func (s Selection) in(v *view) []found {
	var list []found
	today := int64(0)
	if s.Days > 0 {
		today = date(v.at, v.place())
	}
	for _, f := range s.all(v) {
		if s.Hours > 0 && f.at+int64(s.Hours)*hour <= v.at {
			continue
		}
		if s.Days > 0 && today-date(f.at, v.place()) >= int64(s.Days) {
			continue
		}
		filter := *v
		filter.event = f.properties
		if s.Where != nil && s.Where.eval(&filter) != true {
			continue
		}
		list = append(list, f)
	}
	return list
}

// all is the selection without filter and window.
func (s Selection) all(v *view) []found {
	var list []found
	for i, e := range v.seen {
		f := found{at: e.At, order: i, properties: e.Properties}
		switch {
		case s.Changes != "":
			kind := traitTypes()[s.Changes]
			from, to := typed(kind, v.before(i).trait(s.Changes)), typed(kind, v.before(i+1).trait(s.Changes))
			if from == nil || to == nil || order(from, to) == 0 {
				continue
			}
			f.properties = map[string]any{"from": from, "to": to}
		case s.Event != "" && e.Name != s.Event:
			continue
		}
		list = append(list, f)
	}
	return list
}

// dates is on how many calendar days the selection has events. An event counts on the day it was, in the zone in force when it was
// taken in, and within_days looks at those days.
func (s Selection) dates(v *view) int64 {
	window := s.Days
	s.Days = 0
	var list []int64
	today := date(v.at, v.place())
	for _, f := range s.in(v) {
		on := date(f.at, v.before(f.order+1).place())
		if window == 0 || today-on < int64(window) {
			list = append(list, on)
		}
	}
	return different(list)
}

// times are the event times of a selection, ascending.
func (s Selection) times(v *view) []int64 {
	var list []int64
	for _, f := range s.in(v) {
		list = append(list, f.at)
	}
	slices.Sort(list)
	return list
}

// values are a property's values; events without one, or with one of another type, have none.
func (s Selection) values(v *view, property string) []value {
	var list []value
	for _, f := range s.in(v) {
		if x := typed(propertyTypes()[property], f.properties[property]); x != nil {
			list = append(list, x)
		}
	}
	return list
}
