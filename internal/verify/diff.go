package verify

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// leavesShown is how many places are named where two values of one field differ.
const leavesShown = 5

// leaf is one place where two documents differ.
type leaf struct{ path, want, got string }

// compare lists where two values differ as JSON, at most leavesShown places. An empty value and none are the same. Texts that come
// from a user's events are left out: only where they stand is told. personal says that all of it may be such.
func compare(want, got any, personal bool) []leaf {
	a, errA := document(want)
	b, errB := document(got)
	if errA != nil || errB != nil {
		return []leaf{{"", fmt.Sprint(errA), fmt.Sprint(errB)}}
	}
	var d differ
	d.walk("", a, b, personal)
	return d.leaves
}

// fromEvents reports whether a field of a state holds what a user's events carried.
func fromEvents(field string) bool {
	switch field {
	case "same", "key", "keys", "why", "trail":
		return true
	}
	return false
}

func document(value any) (any, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	var decoded any
	if err := decoder.Decode(&decoded); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return decoded, nil
}

type differ struct{ leaves []leaf }

func (d *differ) walk(path string, a, b any, personal bool) {
	if empty(a) && empty(b) || len(d.leaves) >= leavesShown {
		return
	}
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			d.objects(path, x, y, personal)
			return
		}
	case []any:
		if y, ok := b.([]any); ok && len(x) == len(y) {
			for i := range x {
				d.walk(path+"."+strconv.Itoa(i), x[i], y[i], personal)
			}
			return
		}
	}
	if !reflect.DeepEqual(a, b) {
		d.leaves = append(d.leaves, leaf{strings.TrimPrefix(path, "."), text(a, personal), text(b, personal)})
	}
}

func (d *differ) objects(path string, a, b map[string]any, personal bool) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if key == "keys" && !reflect.DeepEqual(a[key], b[key]) { // what journeys were entered for: the keys are the values
			d.leaves = append(d.leaves, leaf{strings.TrimPrefix(path+".keys", "."), "others", "others"})
			continue
		}
		d.walk(path+"."+key, a[key], b[key], personal || fromEvents(key))
	}
}

func empty(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(x) == 0
	case []any:
		return len(x) == 0
	}
	return false
}

// textShown bounds one value.
const textShown = 120

func text(v any, personal bool) string {
	switch x := v.(type) {
	case nil:
		return "nothing"
	case json.Number, bool:
	case map[string]any: // not whole: what it holds may be anything
		return fmt.Sprintf("%d fields", len(x))
	case []any:
		return fmt.Sprintf("%d values", len(x))
	default:
		if personal {
			return "a text"
		}
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(raw) > textShown {
		raw = append(raw[:textShown], "…"...)
	}
	return string(raw)
}
