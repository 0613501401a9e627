package truth

import "cmp"

// A value is what an expression answers: nil where it cannot be answered, else a bool, int64, float64, string, span or instant.
type (
	value   = any
	span    int64 // milliseconds
	instant int64 // Unix milliseconds
)

const (
	hour = 3_600_000 // milliseconds
	day  = 24 * hour
)

func and(a, b value) value {
	switch {
	case a == false || b == false:
		return false
	case a == nil || b == nil:
		return nil
	default:
		return true
	}
}

func not(a value) value {
	if b, ok := a.(bool); ok {
		return !b
	}
	return nil
}

func or(a, b value) value { return not(and(not(a), not(b))) }

// compare answers a op b; both are of one type or unknown.
func compare(op string, a, b value) value {
	if a == nil || b == nil {
		return nil
	}
	c := order(a, b)
	switch op {
	case "==":
		return c == 0
	case "!=":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	default:
		return c >= 0
	}
}

func order(a, b value) int {
	switch a := a.(type) {
	case int64:
		return ordered(a, b)
	case float64:
		return ordered(a, b)
	case string:
		return ordered(a, b)
	case span:
		return ordered(a, b)
	case instant:
		return ordered(a, b)
	default:
		if a == b {
			return 0
		}
		return 1
	}
}

func ordered[T cmp.Ordered](a T, b value) int {
	other, _ := b.(T) //nolint:errcheck // expressions are drawn well typed, and the engine's type checker sees to it
	return cmp.Compare(a, other)
}
