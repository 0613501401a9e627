package segment

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// builder collects the terms of one rule while the parser expands them.
type builder struct {
	set   *Set
	terms []term
}

// argument is what an ending takes between its parentheses.
type argument int8

const (
	takesNothing  argument = iota
	takesAmount            // a property that is a number
	takesProperty          // a property
	takesGap               // a duration
	takesSecond            // another selection and a duration
)

// windows are those that an ending can look through.
type windows int8

const (
	noWindow  windows = iota
	anyWindow         // within and within_days
	dayWindow         // within_days
)

// ending is a function that ends a selection and makes a value of it.
type ending struct {
	kind    termKind
	fold    fold
	takes   argument
	windows windows
}

func endings() map[string]ending {
	return map[string]ending{
		"count":           {termCount, foldTimes, takesNothing, anyWindow},
		"first":           {termFirst, foldTimes, takesNothing, noWindow},
		"last":            {termLast, foldTimes, takesNothing, noWindow},
		"since_first":     {termSinceFirst, foldTimes, takesNothing, noWindow},
		"since_last":      {termSinceLast, foldTimes, takesNothing, noWindow},
		"sum":             {termSum, foldAmounts, takesAmount, anyWindow},
		"min":             {termMin, foldAmounts, takesAmount, anyWindow},
		"max":             {termMax, foldAmounts, takesAmount, anyWindow},
		"avg":             {termAvg, foldAmounts, takesAmount, anyWindow},
		"distinct":        {termDistinct, foldDistinct, takesProperty, anyWindow},
		"days":            {termDays, foldDays, takesNothing, dayWindow},
		"sessions":        {termSessions, foldSessions, takesGap, noWindow},
		"session_length":  {termSessionLength, foldSessions, takesGap, noWindow},
		"longest_session": {termLongestSession, foldSessions, takesGap, noWindow},
		"followed_by":     {termFollowed, foldPair, takesSecond, noWindow},
		"not_followed_by": {termNotFollowed, foldOpen, takesSecond, noWindow},
	}
}

// function expands a call that stands alone, such as did("a").
type function func(b *builder, name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error)

func globals() map[string]function {
	return map[string]function{
		"did":            (*builder).did,
		"did_not":        (*builder).did,
		"time_to":        (*builder).timeTo,
		"inactive_for":   (*builder).clock,
		"seen_for":       (*builder).clock,
		"time_since":     (*builder).traitTime,
		"time_until":     (*builder).traitTime,
		"score":          (*builder).score,
		"in_segment":     (*builder).named,
		"in_segment_for": (*builder).named,
		"variant":        (*builder).named,
		"local_time":     (*builder).localTime,
		"local_weekday":  (*builder).localWeekday,
		"duration":       (*builder).duration,
	}
}

// Functions lists what the language adds to CEL's own functions, sorted.
func Functions() []string {
	list := []string{"events", "changes", "where", "within", "within_days"}
	list = append(append(list, keysOf(endings())...), keysOf(globals())...)
	slices.Sort(list)
	return list
}

func (b *builder) macros() []cel.Macro {
	var macros []cel.Macro
	for name, n := range endings() {
		macros = append(macros, cel.ReceiverVarArgMacro(name, func(eh cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
			return b.end(name, n, eh, target, args)
		}))
	}
	for name := range globals() {
		macros = append(macros, b.global(name))
	}
	return macros
}

func (b *builder) global(name string) cel.Macro {
	expand := globals()[name]
	return cel.GlobalVarArgMacro(name, func(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		return expand(b, name, eh, args)
	})
}

func (b *builder) environment() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(MaxRuleBytes),
		cel.Macros(b.macros()...),
	}
	for name, t := range b.set.plan.Traits {
		options = append(options, cel.Variable("traits."+name, t.cel()))
	}
	return cel.NewEnv(options...)
}

func (b *builder) variables() []cel.EnvOption {
	options := make([]cel.EnvOption, 0, len(b.terms))
	for i := range b.terms {
		options = append(options, cel.Variable(b.terms[i].variable, b.terms[i].celType()))
	}
	return options
}

// add makes the term one of the rule's, unless it is one already, and returns the variable that stands for it.
func (b *builder) add(eh cel.MacroExprFactory, t term) ast.Expr {
	for i := range b.terms {
		if b.terms[i].text == t.text {
			return eh.NewIdent(b.terms[i].variable)
		}
	}
	t.variable = variable(len(b.terms))
	b.terms = append(b.terms, t)
	return eh.NewIdent(t.variable)
}

// end expands `events("x").where(…).within("7d").count()` and its kin.
func (b *builder) end(name string, n ending, eh cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	s, err := b.selection(eh, target)
	if s == nil || err != nil {
		return nil, err // without an error the call is not ours: the parser goes on with it as it stands
	}
	if problem := n.refuses(name, s); problem != "" {
		return nil, eh.NewError(target.ID(), problem)
	}
	t := term{kind: n.kind, selection: *s, text: s.text() + "." + name + "("}
	slot := Slot{Event: s.event, Trait: s.trait, Where: s.where, fold: n.fold, first: s.pick}
	if n.fold == foldTimes || n.fold == foldAmounts {
		slot.Window = s.retention()
	}
	if err := b.arguments(name, n, &t, &slot, eh, target, args); err != nil {
		return nil, err
	}
	t.text += ")"
	t.slot = b.set.slot(slot)
	return b.add(eh, t), nil
}

// refuses says what is wrong with the selection's window; empty where nothing is.
func (n ending) refuses(name string, s *selection) string {
	switch {
	case n.windows == noWindow && s.windowed():
		return name + "() looks at all events: it has no window"
	case n.windows == dayWindow && s.window > 0:
		return name + "() counts calendar days: its window is within_days()"
	}
	return ""
}

// arguments reads what the ending takes into the term and the slot.
func (b *builder) arguments(name string, n ending, t *term, slot *Slot, eh cel.MacroExprFactory, target ast.Expr, args []ast.Expr) *cel.Error {
	var err *cel.Error
	switch n.takes {
	case takesNothing:
		if len(args) > 0 {
			return eh.NewError(args[0].ID(), name+"() takes nothing")
		}
	case takesAmount, takesProperty:
		if t.property, err = b.propertyName(eh, name, &t.selection, args, target.ID()); err != nil {
			return err
		}
		t.declared = t.carries[t.property]
		if n.takes == takesAmount && t.declared != Int && t.declared != Number || t.declared == List {
			return eh.NewError(args[0].ID(), fmt.Sprintf("%s(e.%s): the property is a %s", name, t.property, t.declared))
		}
		slot.Property, slot.declared = t.property, t.declared
		t.text += "e." + t.property
	case takesGap:
		if len(args) != 1 {
			return eh.NewError(target.ID(), name+"() takes the time without an event that ends a session, as in "+name+"(\"30m\")")
		}
		if t.length, err = b.constantDuration(eh, args[0]); err != nil {
			return err
		}
		slot.gap = t.length.Milliseconds()
		t.text += fmt.Sprintf("%q", FormatDuration(t.length))
	case takesSecond:
		return b.secondOf(name, n, t, slot, eh, target, args)
	}
	return nil
}

// secondOf reads the selection and the time that followed_by and not_followed_by take.
func (b *builder) secondOf(name string, n ending, t *term, slot *Slot, eh cel.MacroExprFactory, target ast.Expr, args []ast.Expr) *cel.Error {
	usage := name + `() takes what follows and within which time, as in ` + name + `(events("order"), "2h")`
	if len(args) != 2 {
		return eh.NewError(target.ID(), usage)
	}
	second, err := b.selection(eh, args[0])
	switch {
	case err != nil:
		return err
	case second == nil && args[0].Kind() == ast.CallKind && !args[0].AsCall().IsMemberFunction():
		return eh.NewError(args[0].ID(), fmt.Sprintf("undeclared reference to '%s': %s", args[0].AsCall().FunctionName(), usage))
	case second == nil:
		return eh.NewError(args[0].ID(), usage)
	case second.windowed():
		return eh.NewError(args[0].ID(), name+"() looks at all events: it has no window")
	}
	if t.length, err = b.constantDuration(eh, args[1]); err != nil {
		return err
	}
	t.second, slot.second = *second, &second.pick
	if n.fold == foldPair {
		slot.gap = t.length.Milliseconds()
	}
	t.text += fmt.Sprintf("%s, %q", second.text(), FormatDuration(t.length))
	return nil
}

// here is an id that stands for the place of the call that is being expanded.
func here(eh cel.MacroExprFactory) int64 { return eh.NewLiteral(celInt(0)).ID() }

func fail(eh cel.MacroExprFactory, message string) *cel.Error { return eh.NewError(here(eh), message) }

// did expands did("x") and did("x", "2h"): the event has happened, ever or within so long. did_not is the opposite.
func (b *builder) did(name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	if len(args) == 0 || len(args) > 2 {
		return nil, fail(eh, name+"() takes an event and, if you like, a duration, as in "+name+"(\"order\", \"7d\")")
	}
	event, err := b.eventName(eh, args[:1], here(eh))
	if err != nil {
		return nil, err
	}
	s := selection{pick: pick{event: event}}
	if len(args) == 2 {
		if s.window, err = b.constantDuration(eh, args[1]); err != nil {
			return nil, err
		}
	}
	t := term{kind: termCount, selection: s, text: s.text() + ".count()"}
	t.slot = b.set.slot(Slot{Event: event, first: s.pick, Window: s.window})
	operator := map[string]string{"did": "_>_", "did_not": "_==_"}[name]
	return eh.NewCall(operator, b.add(eh, t), eh.NewLiteral(celInt(0))), nil
}

func (b *builder) timeTo(name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	event, err := b.eventName(eh, args, here(eh))
	if err != nil {
		return nil, err
	}
	s := selection{pick: pick{event: event}}
	t := term{kind: termTimeTo, selection: s, text: fmt.Sprintf("%s(%q)", name, event)}
	t.slot = b.set.slot(Slot{Event: event, first: s.pick})
	return b.add(eh, t), nil
}

// clock expands inactive_for("3d") and seen_for("3d").
func (b *builder) clock(name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	if len(args) != 1 {
		return nil, fail(eh, name+"() takes a duration, as in "+name+"(\"3d\")")
	}
	length, err := b.constantDuration(eh, args[0])
	if err != nil {
		return nil, err
	}
	t := term{kind: termInactive, length: length, text: fmt.Sprintf("%s(%q)", name, FormatDuration(length))}
	if name == "seen_for" {
		t.kind = termSeen
	}
	return b.add(eh, t), nil
}

// traitTime expands time_since(traits.x) and time_until(traits.x).
func (b *builder) traitTime(name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	trait, declared, err := b.traitName(eh, name, args, here(eh))
	if err != nil {
		return nil, err
	}
	if declared != Timestamp {
		return nil, eh.NewError(args[0].ID(), fmt.Sprintf("%s(traits.%s): the trait is a %s, not a timestamp", name, trait, declared))
	}
	t := term{kind: termTimeSince, name: trait, text: fmt.Sprintf("%s(traits.%s)", name, trait)}
	if name == "time_until" {
		t.kind = termTimeUntil
	}
	return b.add(eh, t), nil
}

func (b *builder) score(name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	if len(args) != 1 {
		return nil, fail(eh, "score() takes the name of a score, as in score(\"churn\")")
	}
	score, ok := literal(args[0])
	if !ok {
		return nil, eh.NewError(args[0].ID(), "the name must stand in the rule, in quotes")
	}
	if _, declared := b.set.plan.Scores[score]; !declared {
		return nil, eh.NewError(args[0].ID(), fmt.Sprintf("score %q is not declared; declared are: %s", score, names(b.set.plan.Scores)))
	}
	return b.add(eh, term{kind: termScore, name: ScoreTrait(score), text: fmt.Sprintf("%s(%q)", name, score)}), nil
}

// named expands in_segment("s"), in_segment_for("s", "2h") and variant("x").
func (b *builder) named(name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	want := 1
	if name == "in_segment_for" {
		want = 2
	}
	if len(args) != want {
		return nil, fail(eh, name+"() takes a name"+map[int]string{2: " and a duration"}[want]+", in quotes")
	}
	of, ok := literal(args[0])
	if !ok {
		return nil, eh.NewError(args[0].ID(), "the name must stand in the rule, in quotes")
	}
	t := term{name: of, text: fmt.Sprintf("%s(%q)", name, of)}
	switch name {
	case "in_segment":
		t.kind = termSegment
	case "variant":
		t.kind = termVariant
	default:
		var err *cel.Error
		if t.length, err = b.constantDuration(eh, args[1]); err != nil {
			return nil, err
		}
		t.kind, t.text = termSegmentFor, fmt.Sprintf("%s(%q, %q)", name, of, FormatDuration(t.length))
	}
	return b.add(eh, t), nil
}

// localTime expands local_time("09:00", "17:00").
func (b *builder) localTime(name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	if len(args) != 2 {
		return nil, fail(eh, "local_time() takes two times of day, as in local_time(\"09:00\", \"17:00\")")
	}
	var clocks [2]Clock
	for i, arg := range args {
		text, ok := literal(arg)
		if !ok {
			return nil, eh.NewError(arg.ID(), "the time of day must stand in the rule, such as \"09:00\"")
		}
		clock, err := ParseClock(text)
		if err != nil {
			return nil, eh.NewError(arg.ID(), err.Error())
		}
		clocks[i] = clock
	}
	if clocks[0] == clocks[1] {
		return nil, eh.NewError(args[1].ID(), "local_time() begins and ends at the same time of day: that is always or never")
	}
	t := term{kind: termLocalTime, span: Span{clocks[0], clocks[1]}, text: fmt.Sprintf("%s(%q, %q)", name, clocks[0], clocks[1])}
	return b.add(eh, t), nil
}

// localWeekday expands local_weekday("sat", "sun").
func (b *builder) localWeekday(name string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	var days []time.Weekday
	var written []string
	for _, arg := range args {
		text, _ := literal(arg)
		day, err := ParseWeekday(text)
		if err != nil {
			return nil, eh.NewError(arg.ID(), err.Error())
		}
		if slices.Contains(days, day) {
			return nil, eh.NewError(arg.ID(), text+" stands twice")
		}
		days = append(days, day)
		written = append(written, fmt.Sprintf("%q", text))
	}
	if len(days) == 0 || len(days) == 7 {
		return nil, fail(eh, "local_weekday() takes one to six weekdays, as in local_weekday(\"sat\", \"sun\")")
	}
	return b.add(eh, term{kind: termLocalWeekday, weekdays: days, text: name + "(" + strings.Join(written, ", ") + ")"}), nil
}

// duration expands duration("3d"), scaled, so that comparisons with it fit scaled windows.
func (b *builder) duration(_ string, eh cel.MacroExprFactory, args []ast.Expr) (ast.Expr, *cel.Error) {
	if len(args) != 1 {
		return nil, fail(eh, "duration() takes one text, as in duration(\"3d\")")
	}
	d, err := b.constantDuration(eh, args[0])
	if err != nil {
		return nil, err
	}
	return eh.NewCall("duration", eh.NewLiteral(celString(d.String()))), nil
}
