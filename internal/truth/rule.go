package truth

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Expr is a part of a rule or filter. String writes it in the language of the playbook; eval says what it means.
type Expr interface {
	fmt.Stringer
	eval(v *view) value
}

// The values that stand in a rule, and those that are looked up.
type (
	// Const is a value written in the rule.
	Const struct{ Value value }
	// Trait is the user's trait.
	Trait struct{ Name string }
	// Property is e.name of the event a filter looks at, with Same same.name of the one that let the user in.
	Property struct {
		Name string
		Same bool
	}
)

// String implements Expr.
func (c Const) String() string {
	switch x := c.Value.(type) {
	case string:
		return fmt.Sprintf("%q", x)
	case float64:
		return fmt.Sprintf("%.6f", x)
	case span:
		return fmt.Sprintf("duration(%q)", hours(int(x/hour)))
	case instant:
		return fmt.Sprintf("timestamp(%q)", time.UnixMilli(int64(x)).UTC().Format(time.RFC3339))
	default:
		return fmt.Sprint(x)
	}
}

func (c Const) eval(*view) value { return c.Value }

// String implements Expr.
func (t Trait) String() string { return "traits." + t.Name }

func (t Trait) eval(v *view) value { return typed(traitTypes()[t.Name], v.trait(t.Name)) }

// String implements Expr.
func (p Property) String() string {
	if p.Same {
		return "same." + p.Name
	}
	return "e." + p.Name
}

func (p Property) eval(v *view) value {
	from := v.event
	if p.Same {
		from = v.same
	}
	kind := propertyTypes()[p.Name]
	if p.Name == "from" || p.Name == "to" {
		return from[p.Name]
	}
	return typed(kind, from[p.Name])
}

// The operators.
type (
	// Compare is A Op B.
	Compare struct {
		Op   string
		A, B Expr
	}
	// Both is A && B.
	Both struct{ A, B Expr }
	// Either is A || B.
	Either struct{ A, B Expr }
	// Not is !A.
	Not struct{ A Expr }
	// If is Cond ? Then : Else.
	If struct{ Cond, Then, Else Expr }
	// Plus is A + B, of whole numbers.
	Plus struct{ A, B Expr }
	// OneOf is A in [Options].
	OneOf struct {
		A       Expr
		Options []string
	}
)

// String implements Expr.
func (x Compare) String() string { return fmt.Sprintf("%s %s %s", x.A, x.Op, x.B) }

func (x Compare) eval(v *view) value { return compare(x.Op, x.A.eval(v), x.B.eval(v)) }

// String implements Expr.
func (x Both) String() string { return fmt.Sprintf("(%s && %s)", x.A, x.B) }

func (x Both) eval(v *view) value { return and(x.A.eval(v), x.B.eval(v)) }

// String implements Expr.
func (x Either) String() string { return fmt.Sprintf("(%s || %s)", x.A, x.B) }

func (x Either) eval(v *view) value { return or(x.A.eval(v), x.B.eval(v)) }

// String implements Expr.
func (x Not) String() string { return fmt.Sprintf("!(%s)", x.A) }

func (x Not) eval(v *view) value { return not(x.A.eval(v)) }

// String implements Expr.
func (x If) String() string { return fmt.Sprintf("(%s ? %s : %s)", x.Cond, x.Then, x.Else) }

func (x If) eval(v *view) value {
	switch x.Cond.eval(v) {
	case true:
		return x.Then.eval(v)
	case false:
		return x.Else.eval(v)
	default:
		return nil
	}
}

// String implements Expr.
func (x Plus) String() string { return fmt.Sprintf("%s + %s", x.A, x.B) }

func (x Plus) eval(v *view) value {
	a, aKnown := x.A.eval(v).(int64)
	b, bKnown := x.B.eval(v).(int64)
	if !aKnown || !bKnown {
		return nil
	}
	return a + b
}

// String implements Expr.
func (x OneOf) String() string {
	return fmt.Sprintf("%s in [%s]", x.A, `"`+strings.Join(x.Options, `", "`)+`"`)
}

func (x OneOf) eval(v *view) value {
	a := x.A.eval(v)
	if a == nil {
		return nil
	}
	for _, option := range x.Options {
		if a == option {
			return true
		}
	}
	return false
}

// Over is a function of a selection and perhaps of a property or a gap in hours.
type Over struct {
	Selection Selection
	Function  string // count, first, last, since_first, since_last, days, distinct, sum, min, max, avg, sessions, …
	Property  string
	Gap       int
}

// String implements Expr.
func (x Over) String() string {
	argument := ""
	switch {
	case x.Property != "":
		argument = "e." + x.Property
	case x.Gap > 0:
		argument = fmt.Sprintf("%q", hours(x.Gap))
	}
	return fmt.Sprintf("%s.%s(%s)", x.Selection, x.Function, argument)
}

func (x Over) eval(v *view) value {
	times := x.Selection.times(v)
	lengths := sessions(times, int64(x.Gap)*hour)
	switch x.Function {
	case "count":
		return int64(len(times))
	case "days":
		return x.Selection.dates(v)
	case "distinct":
		return different(x.Selection.values(v, x.Property))
	case "sum", "min", "max", "avg":
		return fold(x.Function, propertyTypes()[x.Property], x.Selection.values(v, x.Property))
	case "sessions":
		return int64(len(lengths))
	case "longest_session":
		return slices.Max(append(lengths, 0))
	}
	if len(times) == 0 {
		return nil
	}
	first, last := times[0], times[len(times)-1]
	switch x.Function {
	case "first":
		return instant(first)
	case "last":
		return instant(last)
	case "since_first":
		return span(v.at - first)
	case "since_last":
		return span(v.at - last)
	default: // session_length
		return lengths[len(lengths)-1]
	}
}

func different[T comparable](list []T) int64 {
	known := map[T]bool{}
	for _, x := range list {
		known[x] = true
	}
	return int64(len(known))
}

// fold sums, or finds the least, the greatest or the mean; numbers have six decimals.
func fold(function, kind string, values []value) value {
	if len(values) == 0 && function != "sum" {
		return nil
	}
	var sum int64 // millionths
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	for _, x := range values {
		millionths := int64(0)
		switch x := x.(type) {
		case int64:
			millionths = x * 1e6
		case float64:
			millionths = int64(math.Round(x * 1e6))
		}
		sum, low, high = sum+millionths, min(low, millionths), max(high, millionths)
	}
	answer := map[string]int64{"sum": sum, "avg": sum, "min": low, "max": high}[function]
	switch {
	case function == "avg":
		return float64(answer) / float64(len(values)) / 1e6
	case kind == "int":
		return answer / 1e6
	default:
		return float64(answer) / 1e6
	}
}

// sessions returns the lengths of the sessions that times fall into: a gap that long or longer begins a new one.
func sessions(times []int64, gap int64) []span {
	var lengths []span
	for i, at := range times {
		if i == 0 || at-times[i-1] >= gap {
			lengths = append(lengths, 0)
			continue
		}
		lengths[len(lengths)-1] += span(at - times[i-1])
	}
	return lengths
}

// The functions that stand alone.
type (
	// Did is did(Event) or, with Hours, did(Event, Hours); Never makes it did_not.
	Did struct {
		Event string
		Hours int
		Never bool
	}
	// TimeTo is time_to(Event).
	TimeTo struct{ Event string }
	// Inactive is inactive_for, or seen_for.
	Inactive struct {
		Hours int
		Seen  bool
	}
	// Followed is A.followed_by(B, Hours), or not_followed_by.
	Followed struct {
		A, B  Selection
		Hours int
		Not   bool
	}
	// Since is time_since(traits.Name), or time_until.
	Since struct {
		Name  string
		Until bool
	}
	// In is in_segment(Segment), or with Hours in_segment_for.
	In struct {
		Segment string
		Hours   int
	}
	// Met is variant(Experiment).
	Met struct{ Experiment string }
	// Score is score(Name).
	Score struct{ Name string }
	// Clock is local_time(From, To), whole hours of the day.
	Clock struct{ From, To int }
	// Weekday is local_weekday(Days).
	Weekday struct{ Days []string }
)

// String implements Expr.
func (x Did) String() string {
	name := "did"
	if x.Never {
		name = "did_not"
	}
	if x.Hours == 0 {
		return fmt.Sprintf("%s(%q)", name, x.Event)
	}
	return fmt.Sprintf("%s(%q, %q)", name, x.Event, hours(x.Hours))
}

func (x Did) eval(v *view) value {
	did := len(Selection{Event: x.Event, Hours: x.Hours}.in(v)) > 0
	return did != x.Never
}

// String implements Expr.
func (x TimeTo) String() string { return fmt.Sprintf("time_to(%q)", x.Event) }

func (x TimeTo) eval(v *view) value {
	times := Selection{Event: x.Event}.times(v)
	first, ok := v.firstSeen()
	if len(times) == 0 || !ok {
		return nil
	}
	return span(times[0] - first)
}

// String implements Expr.
func (x Inactive) String() string {
	if x.Seen {
		return fmt.Sprintf("seen_for(%q)", hours(x.Hours))
	}
	return fmt.Sprintf("inactive_for(%q)", hours(x.Hours))
}

func (x Inactive) eval(v *view) value {
	from, ok := v.lastSeen()
	if x.Seen {
		from, ok = v.firstSeen()
	}
	if !ok {
		return nil
	}
	return v.at-from >= int64(x.Hours)*hour
}

// String implements Expr.
func (x Followed) String() string {
	name := "followed_by"
	if x.Not {
		name = "not_followed_by"
	}
	return fmt.Sprintf("%s.%s(%s, %q)", x.A, name, x.B, hours(x.Hours))
}

func (x Followed) eval(v *view) value {
	within := int64(x.Hours) * hour
	for _, a := range x.A.in(v) {
		followed, after := false, false
		for _, b := range x.B.in(v) {
			if a.order == b.order && x.A.Changes == x.B.Changes {
				continue // nothing follows itself
			}
			after = after || b.at >= a.at
			followed = followed || b.at >= a.at && b.at < a.at+within
		}
		if !x.Not && followed || x.Not && !after && v.at >= a.at+within {
			return true
		}
	}
	return false
}

// String implements Expr.
func (x Since) String() string {
	if x.Until {
		return fmt.Sprintf("time_until(traits.%s)", x.Name)
	}
	return fmt.Sprintf("time_since(traits.%s)", x.Name)
}

func (x Since) eval(v *view) value {
	at, ok := Trait{x.Name}.eval(v).(instant)
	switch {
	case !ok:
		return nil
	case x.Until:
		return span(int64(at) - v.at)
	default:
		return span(v.at - int64(at))
	}
}

// String implements Expr.
func (x In) String() string {
	if x.Hours == 0 {
		return fmt.Sprintf("in_segment(%q)", x.Segment)
	}
	return fmt.Sprintf("in_segment_for(%q, %q)", x.Segment, hours(x.Hours))
}

func (x In) eval(v *view) value {
	in, since := v.member(x.Segment)
	return in && v.at-since >= int64(x.Hours)*hour
}

// String implements Expr.
func (x Met) String() string { return fmt.Sprintf("variant(%q)", x.Experiment) }

func (x Met) eval(v *view) value { return v.variant(x.Experiment) }

// String implements Expr.
func (x Score) String() string { return fmt.Sprintf("score(%q)", x.Name) }

func (x Score) eval(v *view) value { return typed("number", v.trait("score_"+x.Name)) }

// String implements Expr.
func (x Clock) String() string { return fmt.Sprintf(`local_time("%02d:00", "%02d:00")`, x.From, x.To) }

func (x Clock) eval(v *view) value {
	now := time.UnixMilli(v.at).In(v.place()).Hour()
	if x.From < x.To {
		return x.From <= now && now < x.To
	}
	return x.From <= now || now < x.To
}

// String implements Expr.
func (x Weekday) String() string {
	return fmt.Sprintf("local_weekday(%s)", `"`+strings.Join(x.Days, `", "`)+`"`)
}

func (x Weekday) eval(v *view) value { return among(weekday(v.at, v.place()), x.Days) }
