package truth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Book is a version of a playbook. Times are hours; Expire is half an hour more.
type Book struct {
	Segments    []Segment // each after those it asks about
	Journeys    []*Journey
	Actions     []Action
	Consent     map[string]Expr // by category
	Experiments []Experiment
	Limits      []Limit
	Quiet       *Quiet
	Expire      int     // 0: never
	Holdout     float64 // 0: nobody
	Zone        string  // of users without one
}

// Segment is a named set of users.
type Segment struct {
	Key  string
	When Expr
}

// Action says what may be sent. Quiet is hold, drop or ignore; empty is hold.
type Action struct {
	Key, Category string
	Uncapped      bool
	Quiet         string
}

// Experiment has variants of equal weight.
type Experiment struct {
	Key      string
	Variants []string
	Holdout  string // the variant that needs no steps
}

// Limit is a cap; Hours 0 is a calendar day.
type Limit struct {
	Actions  int
	Hours    int
	Category string
}

// Quiet is from one hour of the day to another.
type Quiet struct{ From, To int }

// Journey is the plan for a user.
type Journey struct {
	Key      string
	Priority int
	Paused   bool
	Enter    Trigger
	Reentry  string // never, after_exit; with After, that many hours later
	After    int
	Goal     *Goal
	Exits    []Exit
	Migrate  string // stay, exit, move
	Move     map[string]string
	Steps    []*Step
}

// Trigger lets a user in.
type Trigger struct {
	On            []string
	Where         Expr
	Segment, Left string
	When          Expr
	Per           string
}

// Goal is the event that counts as success.
type Goal struct {
	On    string
	Where Expr
	Hours int
}

// Exit takes a user out.
type Exit struct {
	On            []string
	Where         Expr
	Left, Entered string
	When          Expr
	Reason        string
}

// Step is one node, of the kind that Kind names.
type Step struct {
	ID, Kind string

	Action string
	With   string // a text
	Expire int    // 0: the book's

	Hours int
	Clock int // delay until the clock shows this hour; −1: none
	Days  []string

	On      []string
	Where   Expr
	When    Expr
	Timeout []*Step // nil: on as if it had come

	Branches   []Branch
	Experiment string
	Variants   []Variant
	Reason     string
}

// Branch is a way that is taken when When holds or the user is in Segment; with neither it is else.
type Branch struct {
	When    Expr
	Segment string
	Steps   []*Step
}

// Variant is the way of one variant.
type Variant struct {
	Key   string
	Steps []*Step
}

// YAML writes the book for the engine.
func (b *Book) YAML() string {
	w := &writer{}
	w.line("name: truth")
	w.line("events:")
	for _, name := range declared() {
		w.line("  %s: {properties: {n: int, x: string, f: number}}", name)
	}
	w.line("traits: {plan: string, level: int, ok: bool, ends: timestamp, zone: string}")
	w.line("scores: {churn: {}}")
	b.restraint(w)
	if len(b.Segments) > 0 {
		w.line("segments:")
		for _, s := range b.Segments {
			w.line("  %s: {when: %s}", s.Key, quoted(s.When))
		}
	}
	if len(b.Experiments) > 0 {
		w.line("experiments:")
		for _, x := range b.Experiments {
			weights := make([]string, len(x.Variants))
			for i, v := range x.Variants {
				weights[i] = fmt.Sprintf("%s: %g", v, 1/float64(len(x.Variants)))
			}
			w.line("  %s: {variants: {%s}%s}", x.Key, strings.Join(weights, ", "), given(", holdout: %s", x.Holdout))
		}
	}
	if len(b.Journeys) > 0 {
		w.line("journeys:")
		for _, j := range b.Journeys {
			j.write(w)
		}
	}
	return w.String()
}

func (b *Book) restraint(w *writer) {
	w.line("zone: {trait: zone, default: %s}", b.Zone)
	if len(b.Consent) > 0 {
		w.line("consent:")
		for _, category := range categories() {
			if rule := b.Consent[category]; rule != nil {
				w.line("  %s: %s", category, quoted(rule))
			}
		}
	}
	if len(b.Actions) > 0 {
		w.line("actions:")
	}
	for _, a := range b.Actions {
		f := fields{}
		f.add("category: %s", a.Category)
		f.add("quiet: %s", a.Quiet)
		if a.Uncapped {
			f = append(f, "uncapped: true")
		}
		w.line("  %s: {%s}", a.Key, f)
	}
	mark := "limit: "
	if len(b.Limits) > 1 {
		w.line("limit:")
		mark = "  - "
	}
	for _, l := range b.Limits {
		per := "day"
		if l.Hours > 0 {
			per = hours(l.Hours)
		}
		w.line(mark+"{actions: %d, per: %s%s}", l.Actions, per, given(", category: %s", l.Category))
	}
	if b.Quiet != nil {
		w.line(`quiet: {from: "%02d:00", to: "%02d:00"}`, b.Quiet.From, b.Quiet.To)
	}
	if b.Expire > 0 {
		w.line("expire: %s", half(b.Expire))
	}
	if b.Holdout > 0 {
		w.line("holdout: {share: %g}", b.Holdout)
	}
}

func (j *Journey) write(w *writer) {
	w.line("  %s:", j.Key)
	if j.Priority != 0 {
		w.line("    priority: %d", j.Priority)
	}
	if j.Paused {
		w.line("    paused: true")
	}
	f := fields{}
	f.list(j.Enter.On)
	f.rule("where", j.Enter.Where)
	f.add("segment: %s", j.Enter.Segment)
	f.add("left: %s", j.Enter.Left)
	f.rule("when", j.Enter.When)
	f.add("per: %s", j.Enter.Per)
	w.line("    enter: {%s}", f)
	switch {
	case j.After > 0:
		w.line("    reentry: {after: %s}", hours(j.After))
	case j.Reentry != "":
		w.line("    reentry: %s", j.Reentry)
	}
	if j.Goal != nil {
		f = fields{"on: " + j.Goal.On}
		f.rule("where", j.Goal.Where)
		w.line("    goal: {%s, within: %s}", f, hours(j.Goal.Hours))
	}
	if len(j.Exits) > 0 {
		w.line("    exit:")
	}
	for _, x := range j.Exits {
		f = fields{}
		f.list(x.On)
		f.rule("where", x.Where)
		f.add("left: %s", x.Left)
		f.add("entered: %s", x.Entered)
		f.rule("when", x.When)
		w.line("      - {%s, reason: %s}", f, x.Reason)
	}
	if j.Migrate == "move" && len(j.Move) > 0 {
		f = fields{}
		for _, id := range slices.Sorted(maps.Keys(j.Move)) {
			f.add(id+": %s", j.Move[id])
		}
		w.line("    migrate: {move: {%s}}", f)
	} else if j.Migrate != "" {
		w.line("    migrate: %s", j.Migrate)
	}
	w.line("    steps:")
	writeSteps(w, "      ", j.Steps)
}

// alike reports whether two versions do the same to those inside.
func (j *Journey) alike(other *Journey) bool {
	bare := func(j Journey) string {
		j.Priority, j.Paused, j.Migrate, j.Move = 0, false, "", nil
		return j.text()
	}
	return bare(*j) == bare(*other)
}

func (j *Journey) text() string {
	w := &writer{}
	j.write(w)
	return w.String()
}

func writeSteps(w *writer, indent string, steps []*Step) {
	for _, s := range steps {
		w.line("%s- id: %s", indent, s.ID)
		s.write(w, indent+"  ")
	}
}

func (s *Step) write(w *writer, indent string) {
	line := func(format string, args ...any) { w.line(indent+format, args...) }
	switch s.Kind {
	case "action":
		line("action: %s", s.Action)
		if s.With != "" {
			line("with: {text: %q}", s.With)
		}
		if s.Expire > 0 {
			line("expire: %s", half(s.Expire))
		}
	case "delay":
		s.writeDelay(line)
	case "wait":
		s.writeWait(w, indent)
	case "branch":
		line("branch:")
		for _, b := range s.Branches {
			b.write(w, indent+"  ")
		}
	case "experiment":
		line("experiment: %s", s.Experiment)
		line("variants:")
		for _, v := range s.Variants {
			line("  %s:%s", v.Key, none(v.Steps))
			writeSteps(w, indent+"    ", v.Steps)
		}
	case "exit":
		line("exit: %s", s.Reason)
	}
}

func (s *Step) writeWait(w *writer, indent string) {
	f := fields{}
	f.list(s.On)
	f.rule("where", s.Where)
	f.rule("when", s.When)
	f.add("up_to: %s", hours(s.Hours))
	if s.Timeout == nil {
		w.line("%swait: {%s}", indent, f)
		return
	}
	w.line("%swait:", indent)
	for _, entry := range f {
		w.line("%s  %s", indent, entry)
	}
	w.line("%s  timeout:%s", indent, none(s.Timeout))
	writeSteps(w, indent+"    ", s.Timeout)
}

func (b Branch) write(w *writer, indent string) {
	switch {
	case b.Segment != "":
		w.line("%s- segment: %s", indent, b.Segment)
	case b.When != nil:
		w.line("%s- when: %s", indent, quoted(b.When))
	default:
		w.line("%s- else:%s", indent, none(b.Steps))
		writeSteps(w, indent+"    ", b.Steps)
		return
	}
	w.line("%s  steps:%s", indent, none(b.Steps))
	writeSteps(w, indent+"    ", b.Steps)
}

func (s *Step) writeDelay(line func(string, ...any)) {
	if s.Clock < 0 && len(s.Days) == 0 {
		line("delay: %s", hours(s.Hours))
		return
	}
	f := fields{}
	if s.Hours > 0 {
		f.add("for: %s", hours(s.Hours))
	}
	if s.Clock >= 0 {
		f.add(`at: "%s"`, fmt.Sprintf("%02d:00", s.Clock))
	}
	f.list(s.Days)
	line("delay: {%s}", f)
}

// walk visits every step with the one that follows it, nil at the end.
func (j *Journey) walk(visit func(step, next *Step)) { walk(j.Steps, nil, visit) }

func walk(steps []*Step, after *Step, visit func(step, next *Step)) {
	for i, s := range steps {
		next := first(steps[i+1:], after)
		visit(s, next)
		walk(s.Timeout, next, visit)
		for _, b := range s.Branches {
			walk(b.Steps, next, visit)
		}
		for _, v := range s.Variants {
			walk(v.Steps, next, visit)
		}
	}
}

func first(steps []*Step, after *Step) *Step {
	if len(steps) > 0 {
		return steps[0]
	}
	return after
}

func categories() []string { return []string{"news", "tips"} }

type writer struct{ strings.Builder }

func (w *writer) line(format string, args ...any) {
	w.WriteString(fmt.Sprintf(format+"\n", args...)) //nolint:staticcheck // a builder's write cannot fail, and errcheck knows it
}

// fields are the entries of a mapping on one line.
type fields []string

// String implements fmt.Stringer.
func (f fields) String() string { return strings.Join(f, ", ") }

func (f *fields) add(format, value string) {
	if value != "" {
		*f = append(*f, fmt.Sprintf(format, value))
	}
}

func (f *fields) list(on []string) {
	if len(on) > 0 {
		*f = append(*f, fmt.Sprintf("on: [%s]", strings.Join(on, ", ")))
	}
}

func (f *fields) rule(key string, rule Expr) {
	if rule != nil {
		*f = append(*f, key+": "+quoted(rule))
	}
}

// half writes a time of so many hours and a half: nothing is ever that late, and nothing depends on how long a commit took.
func half(hours int) string { return fmt.Sprintf("%dh30m", hours) }

func quoted(rule Expr) string { return "'" + rule.String() + "'" }

func given(format, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf(format, value)
}

func none(steps []*Step) string {
	if len(steps) == 0 {
		return " []"
	}
	return ""
}
