package truth

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// drawer draws the parts of a case. What is simplest stands first, so that a failure shrinks to it.
type drawer struct {
	t        *rapid.T
	book     *Book
	segments []string // that a rule may ask about

	lengths   []int
	patient   bool // journeys that users stay in for a while
	orderless bool // nothing that depends on the order of record
	step      int  // the last of the journey
	added     int  // journeys, by newer versions
}

func one[T any](d *drawer, what string, options ...T) T {
	return options[d.number(what, 0, len(options)-1)]
}

// number draws evenly, where rapid's own integers lean to the small: of those a case has so many that little would happen in it.
func (d *drawer) number(what string, low, high int) int {
	n := 0
	for range bits.Len(uint(high - low)) {
		n *= 2
		if rapid.Bool().Draw(d.t, what) {
			n++
		}
	}
	return low + n%(high-low+1)
}

// chance is true one time in n.
func (d *drawer) chance(what string, n int) bool { return d.number(what, 1, n) == n }

func (d *drawer) event() string { return one(d, "event", "a", "b", "a", "c") }

func (d *drawer) events() []string {
	if d.chance("two events", 4) {
		return []string{"a", one(d, "event", "b", "c")}
	}
	return []string{d.event()}
}

// window is a length of time in hours. A case has three of them, so that things happen when others end.
func (d *drawer) window() int { return one(d, "hours", d.lengths...) }

// Cases draws playbooks with logs.
func Cases() *rapid.Generator[*Case] {
	return rapid.Custom(func(t *rapid.T) *Case {
		d := newDrawer(t)
		d.drawBook()
		return d.draw(d.book)
	})
}

// Rules draws playbooks of segments alone, with logs.
func Rules() *rapid.Generator[*Case] {
	return rapid.Custom(func(t *rapid.T) *Case {
		d := newDrawer(t)
		d.drawSegments(1, 5)
		return d.draw(d.book)
	})
}

// Orderless draws playbooks of segments whose rules do not look at the order of record, with logs.
func Orderless() *rapid.Generator[*Case] {
	return rapid.Custom(func(t *rapid.T) *Case {
		d := newDrawer(t)
		d.orderless = true
		d.drawSegments(1, 5)
		return d.draw(d.book)
	})
}

// Versions draws playbooks that change while users are inside, with logs.
func Versions() *rapid.Generator[*Case] {
	return rapid.Custom(func(t *rapid.T) *Case {
		d := newDrawer(t)
		d.patient = true
		d.drawBook()
		d.book.Segments = append(d.book.Segments, Segment{Key: "extra", When: d.rule(1)})
		return d.draw(d.versions()...)
	})
}

func newDrawer(t *rapid.T) *drawer {
	d := &drawer{t: t}
	d.book = &Book{Zone: one(d, "zone", zoneNames()...)}
	for range 3 {
		d.lengths = append(d.lengths, one(d, "length", 1, 2, 3, 5, 8, 24, 30, 48, 73))
	}
	return d
}

func (d *drawer) draw(books ...*Book) *Case {
	c := &Case{Books: books, Log: d.renewals(d.log(), len(books)), Token: one(d, "token", tokens()...)}
	c.End = c.Log[len(c.Log)-1].At + int64(d.number("afterwards", 1, 120))*hour
	return c
}

func (d *drawer) drawBook() {
	if d.chance("experiment", 3) {
		x := Experiment{Key: "x", Variants: one(d, "variants", []string{"control", "other"}, []string{"other", "control"})}
		if d.chance("held out variant", 3) {
			x.Holdout = one(d, "holdout", x.Variants...)
		}
		d.book.Experiments = []Experiment{x}
	}
	d.drawSegments(0, 3)
	d.drawRestraint()
	for i := range d.number("journeys", 1, 3) {
		d.step = 0
		d.book.Journeys = append(d.book.Journeys, d.journey(fmt.Sprintf("j%d", i+1)))
	}
}

func (d *drawer) drawSegments(low, high int) {
	for i := range d.number("segments", low, high) {
		s := Segment{Key: fmt.Sprintf("s%d", i+1), When: d.rule(2)}
		d.book.Segments = append(d.book.Segments, s)
		d.segments = append(d.segments, s.Key)
	}
}

func (d *drawer) drawRestraint() {
	b := d.book
	b.Actions = []Action{{Key: "plain"}, {Key: "free", Uncapped: true}}
	if d.chance("consent", 3) {
		b.Consent = map[string]Expr{"news": d.rule(1)}
		b.Actions = append(b.Actions, Action{Key: "newsy", Category: "news"})
	}
	for range d.number("limits", 0, 2) {
		l := Limit{Actions: d.number("most", 1, 2), Hours: one(d, "per", d.lengths[0], 24, 0)}
		if b.Consent != nil && d.chance("limit of a category", 3) {
			l.Category = "news"
		}
		b.Limits = append(b.Limits, l)
	}
	if d.chance("quiet", 3) {
		b.Quiet = &Quiet{one(d, "from", 21, 9, 2), one(d, "to", 8, 17, 3)}
		b.Actions = append(b.Actions, Action{Key: "dropped", Quiet: "drop"}, Action{Key: "loud", Quiet: "ignore"})
	}
	if d.chance("expire", 4) {
		b.Expire = d.window()
	}
	if d.chance("holdout", 4) {
		b.Holdout = 0.5
	}
}

func (d *drawer) journey(key string) *Journey {
	j := &Journey{
		Key: key, Priority: d.number("priority", 0, 2), Reentry: one(d, "reentry", "never", "after_exit", "after_exit"),
		Enter: d.trigger(),
	}
	if j.Reentry == "after_exit" && d.chance("cooldown", 3) {
		j.After = d.window()
	}
	byEvent := len(j.Enter.On) > 0
	if d.chance("goal", 3) {
		j.Goal = &Goal{On: d.event(), Hours: d.window(), Where: d.where(byEvent)}
	}
	for range d.number("exits", 0, 3) / 2 {
		if d.patient && d.chance("no exit", 2) {
			continue
		}
		j.Exits = append(j.Exits, d.exit(byEvent))
	}
	j.Steps = d.steps(3, 2, byEvent)
	return j
}

func (d *drawer) trigger() Trigger {
	t := Trigger{}
	if d.patient && d.chance("plainly", 2) {
		t.On = d.events()
		return t
	}
	switch way := d.number("enter", 1, 5); {
	case way == 4 && len(d.segments) > 0:
		t.Segment = one(d, "segment", d.segments...)
	case way == 5 && len(d.segments) > 0:
		t.Left = one(d, "segment", d.segments...)
	default:
		t.On = d.events()
		if d.chance("enter where", 6) {
			t.Where = d.filter(false)
		}
		if d.chance("per", 4) {
			t.Per = "x"
		}
	}
	if d.chance("enter when", 7) {
		t.When = d.rule(1)
	}
	return t
}

// where draws the filter of what comes after the entry; same says that it may look back at the entry's event.
func (d *drawer) where(same bool) Expr {
	if !d.chance("where", 3) {
		return nil
	}
	return d.filter(same)
}

func (d *drawer) exit(byEvent bool) Exit {
	x := Exit{Reason: one(d, "reason", "gone", "off")}
	switch way := d.number("exit", 1, 4); {
	case way == 2:
		x.When = d.rule(1)
	case way == 3 && len(d.segments) > 0:
		x.Left = one(d, "segment", d.segments...)
	case way == 4 && len(d.segments) > 0:
		x.Entered = one(d, "segment", d.segments...)
	default:
		x.On, x.Where = d.events(), d.where(byEvent)
	}
	return x
}

func (d *drawer) steps(most, depth int, byEvent bool) []*Step {
	list := []*Step{}
	for range d.number("steps", 1, most) {
		list = append(list, d.drawStep(depth, byEvent))
		if ends(list) {
			break // what follows is never reached, and a playbook must not say it
		}
	}
	return list
}

// ends reports whether whoever takes these steps goes no further.
func ends(steps []*Step) bool {
	if len(steps) == 0 {
		return false
	}
	last := steps[len(steps)-1]
	switch last.Kind {
	case "exit":
		return true
	case "branch":
		other := last.Branches[len(last.Branches)-1]
		return other.When == nil && other.Segment == "" && !slices.ContainsFunc(last.Branches, func(b Branch) bool { return !ends(b.Steps) })
	case "experiment":
		return !slices.ContainsFunc(last.Variants, func(v Variant) bool { return !ends(v.Steps) }) && len(last.Variants) > 1
	default:
		return false
	}
}

func (d *drawer) some(depth int, byEvent bool) []*Step {
	if depth == 0 || !d.chance("more steps", 2) {
		return []*Step{}
	}
	return d.steps(2, depth-1, byEvent)
}

func (d *drawer) drawStep(depth int, byEvent bool) *Step {
	d.step++
	s := &Step{ID: fmt.Sprintf("t%d", d.step), Clock: -1}
	kinds := []string{"action", "delay", "wait", "action", "wait", "delay", "wait", "exit"}
	if depth > 0 {
		kinds = append(kinds, "branch")
		if len(d.book.Experiments) > 0 {
			kinds = append(kinds, "experiment", "experiment")
		}
	}
	if d.patient && d.step == 1 {
		kinds = []string{"delay", "wait", "wait", "action"}
	}
	s.Kind = one(d, "step", kinds...)
	switch s.Kind {
	case "action":
		d.act(s, byEvent)
	case "delay":
		d.delay(s)
	case "wait":
		d.wait(s, depth, byEvent)
	case "branch":
		d.branch(s, depth, byEvent)
	case "experiment":
		s.Experiment = "x"
		for _, v := range d.book.Experiments[0].Variants {
			if v != d.book.Experiments[0].Holdout {
				s.Variants = append(s.Variants, Variant{v, d.some(depth, byEvent)})
			}
		}
	default:
		s.Reason = one(d, "reason", "done", "over")
	}
	return s
}

func (d *drawer) act(s *Step, byEvent bool) {
	keys := make([]string, len(d.book.Actions))
	for i, a := range d.book.Actions {
		keys[i] = a.Key
	}
	s.Action = one(d, "action", keys...)
	if d.chance("expire", 4) {
		s.Expire = d.window()
	}
	if d.chance("with", 2) {
		s.With = one(d, "text", "hello", "${traits.plan}", "on ${traits.plan}, ${traits.level}", "${traits.level}")
		if byEvent && d.chance("same", 2) {
			s.With = one(d, "text", "${same.x}", "about ${same.x} on ${traits.plan}")
		}
	}
}

func (d *drawer) delay(s *Step) {
	way := d.number("delay", 1, 6)
	if way <= 4 {
		s.Hours = d.window()
	}
	if way == 4 || way == 5 {
		s.Clock = one(d, "at", 9, 0, 2, 23)
	}
	if way == 6 || way >= 4 && d.chance("on", 2) {
		s.Days = one(d, "days", []string{"mon", "tue", "wed", "thu", "fri"}, []string{"sun"}, []string{"tue", "sat"})
	}
}

func (d *drawer) wait(s *Step, depth int, byEvent bool) {
	s.Hours = d.window()
	way := d.number("wait", 1, 3)
	if way != 2 {
		s.On, s.Where = d.events(), d.where(byEvent)
	}
	if way != 1 {
		s.When = d.rule(1)
	}
	if d.chance("timeout", 2) {
		s.Timeout = d.some(depth, byEvent)
	}
}

func (d *drawer) branch(s *Step, depth int, byEvent bool) {
	for range d.number("branches", 1, 2) {
		b := Branch{}
		if len(d.segments) > 0 && d.chance("branch by segment", 2) {
			b.Segment = one(d, "segment", d.segments...)
		} else {
			b.When = d.rule(1)
		}
		b.Steps = d.some(depth, byEvent)
		s.Branches = append(s.Branches, b)
	}
	if d.chance("else", 2) {
		s.Branches = append(s.Branches, Branch{Steps: d.some(depth, byEvent)})
	}
}

// rule draws a rule; depth bounds its nesting.
func (d *drawer) rule(depth int) Expr {
	way := d.number("rule", 1, 7)
	if depth == 0 || way <= 4 {
		return d.leaf()
	}
	a := d.rule(depth - 1)
	switch way {
	case 5:
		return Not{a}
	case 6:
		return If{a, d.rule(depth - 1), d.rule(depth - 1)}
	default:
		if d.chance("or", 2) {
			return Either{a, d.rule(depth - 1)}
		}
		return Both{a, d.rule(depth - 1)}
	}
}

func (d *drawer) operator() string { return one(d, "operator", ">=", "<", "==", ">", "<=", "!=") }

// leaf draws a condition without conditions in it.
func (d *drawer) leaf() Expr {
	ways := []func() Expr{d.behavior, d.amount, d.behavior, d.moving, d.traitRule, d.sequence, d.clock, d.elsewhere}
	return one(d, "leaf", ways...)()
}

// behavior asks how often, or whether at all.
func (d *drawer) behavior() Expr {
	switch d.number("behavior", 1, 6) {
	case 1:
		return Did{Event: d.event()}
	case 2:
		return Did{Event: d.event(), Hours: d.window(), Never: d.chance("never", 2)}
	case 3:
		return Compare{"==", Plus{d.count(), d.count()}, Const{int64(d.number("n", 0, 4))}}
	case 4:
		if d.orderless {
			return Did{Event: d.event(), Never: true}
		}
		s := d.selection(false)
		s.Days = one(d, "days", 0, 1, 2, 3)
		return Compare{d.operator(), Over{Selection: s, Function: "days"}, Const{int64(d.number("n", 0, 3))}}
	default:
		return Compare{d.operator(), d.count(), Const{int64(d.number("n", 0, 3))}}
	}
}

// amount asks about a property of the events.
func (d *drawer) amount() Expr {
	x := Over{Selection: d.picked(true), Function: one(d, "of a property", "distinct", "sum", "min", "max", "avg")}
	if x.Function == "distinct" {
		x.Property = one(d, "property", "x", "n", "f")
		return Compare{d.operator(), x, Const{int64(d.number("n", 0, 3))}}
	}
	x.Property = one(d, "property", "n", "f")
	if x.Property == "n" && x.Function != "avg" {
		return Compare{d.operator(), x, Const{int64(d.number("n", 0, 4))}}
	}
	return Compare{d.operator(), x, Const{one(d, "f", 0.5, 1.5, 2.0, 0.3, 3.5)}}
}

// moving asks how long something is ago, or when it was.
func (d *drawer) moving() Expr {
	length := Const{span(d.window()) * hour}
	switch d.number("moving", 1, 6) {
	case 1:
		return Inactive{Hours: d.window()}
	case 2:
		return Inactive{Hours: d.window(), Seen: true}
	case 3:
		return Compare{d.operator(), TimeTo{d.event()}, length}
	case 4:
		return Compare{d.operator(), Over{Selection: d.selection(false), Function: one(d, "end", "first", "last")}, Const{d.date()}}
	case 5:
		return Compare{d.operator(), Since{"ends", d.chance("until", 2)}, length}
	default:
		return Compare{d.operator(), Over{Selection: d.selection(false), Function: one(d, "since", "since_last", "since_first")}, length}
	}
}

// sequence asks what came after what, and how close together.
func (d *drawer) sequence() Expr {
	switch d.number("sequence", 1, 4) {
	case 1, 4:
		return Followed{A: d.selection(false), B: d.selection(false), Hours: d.window(), Not: d.chance("not", 2)}
	case 2:
		return Compare{d.operator(), d.sessions("sessions"), Const{int64(d.number("n", 0, 3))}}
	default:
		return Compare{d.operator(), d.sessions(one(d, "session", "session_length", "longest_session")), Const{span(d.window()) * hour}}
	}
}

func (d *drawer) sessions(function string) Expr {
	return Over{Selection: d.selection(false), Function: function, Gap: one(d, "gap", d.lengths...)}
}

func (d *drawer) clock() Expr {
	if d.chance("weekday", 3) {
		return Weekday{one(d, "days", []string{"mon", "wed"}, []string{"sun"}, []string{"sat", "sun", "mon"})}
	}
	from := one(d, "from", 9, 22, 2, 0)
	return Clock{from, one(d, "to", 17, 6, 3)}
}

// elsewhere asks about segments, experiments and scores.
func (d *drawer) elsewhere() Expr {
	switch way := d.number("elsewhere", 1, 4); {
	case way <= 2 && len(d.segments) > 0:
		in := In{Segment: one(d, "segment", d.segments...)}
		if way == 2 {
			in.Hours = d.window()
		}
		return in
	case way == 3 && len(d.book.Experiments) > 0:
		return Compare{"==", Met{"x"}, Const{one(d, "variant", "other", "control", "")}}
	default:
		return Compare{one(d, "operator", ">", "<="), Score{"churn"}, Const{0.5}}
	}
}

func (d *drawer) traitRule() Expr {
	switch d.number("trait", 1, 4) {
	case 1:
		return Compare{one(d, "operator", "==", "!="), Trait{"plan"}, Const{one(d, "plan", "pro", "free")}}
	case 2:
		return Trait{"ok"}
	case 3:
		return Compare{d.operator(), Trait{"level"}, Const{int64(d.number("level", 0, 3))}}
	default:
		return OneOf{Trait{"plan"}, []string{"pro", "team"}}
	}
}

func (d *drawer) count() Expr { return Over{Selection: d.selection(true), Function: "count"} }

// selection draws events, or changes of a trait.
func (d *drawer) selection(windows bool) Selection {
	if d.orderless || !d.chance("changes", 6) {
		return d.picked(windows)
	}
	s := Selection{Changes: one(d, "trait", "plan", "level")}
	if s.Changes == "plan" && d.chance("where", 3) {
		s.Where = Compare{"==", Property{Name: one(d, "side", "to", "from")}, Const{one(d, "plan", "pro", "free")}}
	}
	return d.windowed(s, windows)
}

func (d *drawer) picked(windows bool) Selection {
	s := Selection{Event: one(d, "event", "a", "b", "c", "")}
	if d.chance("where", 4) {
		s.Where = d.filter(false)
	}
	return d.windowed(s, windows)
}

func (d *drawer) windowed(s Selection, windows bool) Selection {
	switch way := d.number("window", 1, 4); {
	case !windows:
	case way == 2:
		s.Days = one(d, "days", 1, 2, 3)
	case way > 2:
		s.Hours = d.window()
	}
	return s
}

// filter draws a condition on an event's properties.
func (d *drawer) filter(same bool) Expr {
	a := d.condition(same)
	switch d.number("filter", 1, 4) {
	case 3:
		return Not{a}
	case 4:
		return Both{a, d.condition(same)}
	default:
		return a
	}
}

func (d *drawer) condition(same bool) Expr {
	switch d.number("condition", 1, 3) {
	case 1:
		if same && d.chance("same", 2) {
			return Compare{"==", Property{Name: "x"}, Property{"x", true}}
		}
		return Compare{one(d, "operator", "==", "!="), Property{Name: "x"}, Const{one(d, "x", "u", "v")}}
	case 2:
		return Compare{d.operator(), Property{Name: "n"}, Const{int64(d.number("n", 0, 3))}}
	default:
		return Compare{one(d, "operator", ">", "<="), Property{Name: "f"}, Const{one(d, "f", 0.5, 1.5, 2.25)}}
	}
}

// starts are the days on which a log can begin: plain ones, and such as the clocks change on soon after.
func starts() []string {
	return []string{"2026-06-01", "2026-03-27", "2026-10-23", "2026-03-06", "2026-10-30"}
}

func start(day string) int64 {
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return 0 // cannot be: the days are those above
	}
	return at.UnixMilli()
}

func (d *drawer) date() instant {
	return instant(start(one(d, "date", starts()...)) + int64(d.number("hours after", 0, 200))*hour)
}

// log draws messages in the order of the stream: on time, late, from the past, claimed from the future, and repeated.
func (d *drawer) log() []Delivery {
	at := start(one(d, "start", starts()...)) + 10*hour
	var log []Delivery
	for i := range d.number("events", 1, 12) {
		at += int64(one(d, "gap", append([]int{0, 1, 3, 13, 0}, d.lengths...)...)) * hour
		e := &Event{
			ID: fmt.Sprintf("e%d", i+1), Name: one(d, "name", "a", "b", "c", "a", "b", "undeclared"), Sequence: uint64(i+1) * 10, Received: at,
		}
		e.Claimed = at - int64(one(d, "lag", 0, 0, 0, 0, 0, 1, d.lengths[0], d.lengths[1], 72, -2, 73, 150))*hour
		e.Backfill = d.chance("backfill", 15)
		e.Properties, e.Traits = d.properties(), d.traits()
		if len(log) > 0 && d.chance("again", 6) {
			log = append(log, d.again(log, at, e.Sequence-5))
		}
		e.resolve()
		log = append(log, Delivery{Event: e, At: at})
	}
	return log
}

// again is a message that came before: delivered a second time, or published again under the same id with another body.
func (d *drawer) again(log []Delivery, at int64, sequence uint64) Delivery {
	old := one(d, "which", log...)
	if d.chance("published again", 2) {
		e := *old.Event
		e.Sequence, e.Received, e.Properties = sequence, at, d.properties()
		e.resolve()
		return Delivery{Event: &e, At: at}
	}
	return Delivery{Event: old.Event, At: at}
}

func (d *drawer) properties() map[string]any {
	values := map[string]any{}
	if !d.chance("no x", 4) {
		values["x"] = one[any](d, "x", "u", "v", "w", int64(7))
	}
	if !d.chance("no n", 4) {
		values["n"] = one[any](d, "n", int64(1), int64(2), int64(3), 2.5, "two")
	}
	if !d.chance("no f", 4) {
		values["f"] = one[any](d, "f", 0.5, 1.5, int64(2), 0.1, 0.2, true)
	}
	return values
}

func (d *drawer) traits() map[string]any {
	values := map[string]any{}
	if !d.chance("traits", 2) {
		return values
	}
	options := map[string][]any{
		"plan": {"pro", "free", "team", int64(1)}, "level": {int64(1), int64(2), 2.5}, "ok": {true, false, "yes"},
		"zone": {"Europe/Berlin", "America/New_York", "nowhere", int64(3)},
	}
	names := []string{"plan", "level", "ok", "zone"}
	if d.orderless {
		names = names[:3]
	}
	for _, name := range names {
		if d.chance("has "+name, 3) {
			values[name] = one(d, name, options[name]...)
		}
	}
	if d.chance("has score", 5) {
		values["score_churn"] = one[any](d, "score", 0.2, 0.9, "high")
	}
	if d.chance("has ends", 5) {
		values["ends"] = moment(int64(d.date())).Format(time.RFC3339)
	}
	return values
}

// tokens name users that experiments treat differently.
func tokens() []string { return []string{"u_a", "u_b", "u_c", "u_d", "u_e", "u_f"} }
