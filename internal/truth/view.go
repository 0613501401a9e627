package truth

import (
	"math"
	"slices"
	"time"
)

// view is what an expression looks at: everything that was taken in of one user up to a moment, and for filters an event.
type view struct {
	at      int64
	seen    []*Event // in order of record
	zone    string   // of users without one
	zones   map[string]*time.Location
	member  func(segment string) (in bool, since int64)
	variant func(experiment string) string

	event, same map[string]any // properties
}

// declared are the events of a case and the properties that each declares; others leave no mark.
func declared() []string { return []string{"a", "b", "c"} }

func propertyTypes() map[string]string {
	return map[string]string{"n": "int", "x": "string", "f": "number"}
}

func traitTypes() map[string]string {
	return map[string]string{"plan": "string", "level": "int", "ok": "bool", "ends": "timestamp", "zone": "string", "score_churn": "number"}
}

// typed returns a value as the declared type, nil where it is of another.
func typed(kind string, raw any) value {
	switch raw := raw.(type) {
	case string:
		if kind == "timestamp" {
			if at, err := time.Parse(time.RFC3339, raw); err == nil {
				return instant(at.UnixMilli())
			}
			return nil
		}
		if kind == "string" {
			return raw
		}
	case bool:
		if kind == "bool" {
			return raw
		}
	case int64:
		switch kind {
		case "int":
			return raw
		case "number":
			return float64(raw)
		}
	case float64:
		switch {
		case kind == "number":
			return raw
		case kind == "int" && raw == math.Trunc(raw):
			return int64(raw)
		}
	}
	return nil
}

// trait is the value a user has: of the latest event that set it, of two of one time the later in the stream.
func (v *view) trait(name string) any {
	var latest *Event
	for _, e := range v.seen {
		if _, sets := e.Traits[name]; sets && (latest == nil || e.At >= latest.At) {
			latest = e
		}
	}
	if latest == nil {
		return nil
	}
	return latest.Traits[name]
}

// place is the zone the user lives in.
func (v *view) place() *time.Location {
	if name, ok := v.trait("zone").(string); ok && v.zones[name] != nil {
		return v.zones[name]
	}
	return v.zones[v.zone]
}

// before is the view of the same user when only the first n events had been taken in.
func (v *view) before(n int) *view {
	then := *v
	then.seen = v.seen[:n]
	return &then
}

func (v *view) firstSeen() (int64, bool) {
	if len(v.seen) == 0 {
		return 0, false
	}
	return slices.MinFunc(v.seen, byTime).At, true
}

func (v *view) lastSeen() (int64, bool) {
	if len(v.seen) == 0 {
		return 0, false
	}
	return slices.MaxFunc(v.seen, byTime).At, true
}

func byTime(a, b *Event) int { return int(a.At - b.At) }
