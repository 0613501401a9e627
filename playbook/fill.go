package playbook

import (
	"fmt"
	"regexp"
	"slices"
)

// reference is what texts of an action may hold: ${traits.name}, or ${same.property} of the event that let the user in.
var reference = regexp.MustCompile(`\$\{(traits|same)\.([a-z][a-z0-9_]*)\}`)

// References returns what the texts of with name, sorted: from is traits or same.
func References(with map[string]any, from string) []string {
	var found []string
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case string:
			for _, m := range reference.FindAllStringSubmatch(v, -1) {
				if m[1] == from {
					found = append(found, m[2])
				}
			}
		case []any:
			for _, item := range v {
				visit(item)
			}
		case map[string]any:
			for _, item := range v {
				visit(item)
			}
		}
	}
	visit(with)
	slices.Sort(found)
	return slices.Compact(found)
}

// Fill returns with, its references replaced by the user's traits and the entry event's properties. A text that is one
// reference keeps the value's type; one without a value is null alone and empty within a text.
func Fill(with, traits, same map[string]any) map[string]any {
	filled := make(map[string]any, len(with))
	for k, v := range with {
		filled[k] = fill(v, traits, same)
	}
	return filled
}

func fill(v any, traits, same map[string]any) any {
	switch v := v.(type) {
	case string:
		lookUp := func(text string) any {
			m := reference.FindStringSubmatch(text)
			if m[1] == "same" {
				return same[m[2]]
			}
			return traits[m[2]]
		}
		if m := reference.FindString(v); m != "" && m == v {
			return lookUp(v)
		}
		return reference.ReplaceAllStringFunc(v, func(match string) string {
			if value := lookUp(match); value != nil {
				return fmt.Sprint(value)
			}
			return ""
		})
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = fill(v[i], traits, same)
		}
		return list
	case map[string]any:
		return Fill(v, traits, same)
	default:
		return v
	}
}
