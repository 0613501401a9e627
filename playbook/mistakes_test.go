package playbook_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/playbook"
)

// mistakes are the kinds of mistake, each with a function that makes all the mutants of its kind that an example has room for.
func mistakes() map[string]func(*source) []mutant {
	kinds := map[string]func(*source) []mutant{
		"key misspelled":                    (*source).misspelledKeys,
		"property misspelled, of the entry": func(s *source) []mutant { return s.misspell(s.inRules(`\bsame\.([a-z_]+)`), s.properties()) },
		"property misspelled, in a rule":    func(s *source) []mutant { return s.misspell(s.inRules(`\be\.([a-z_]+)`), s.properties()) },
		"property misspelled, in a text":    misspelledReferences("same"),
		"property misspelled, per":          func(s *source) []mutant { return s.misspell(s.spans(s.values("trigger.per")), s.properties()) },
		"trait misspelled, in a text":       misspelledReferences("traits"),
		"trait misspelled, zone":            named("traits", "zone.trait"),
		"event misspelled":                  named("events", "trigger.on", "goal.on", "exits.on", "wait.on"),
		"segment misspelled":                named("segments", "trigger.segment", "trigger.left", "exits.left", "exits.entered", "branch.segment"),
		"action misspelled":                 named("actions", "step.action"),
		"experiment misspelled":             named("experiments", "step.experiment"),
		"category misspelled":               named("consent", "actions.category", "limit.category"),
		"variant misspelled":                (*source).misspelledVariants,
		"step to move to misspelled":        (*source).misspelledMoves,
		"event misspelled, in a rule":       inRule("events", `\b(?:did|did_not|events|time_to)\("([^"]+)"`),
		"trait misspelled, in a rule":       inRule("traits", `\btraits\.([a-z_]+)`),
		"segment misspelled, in a rule":     inRule("segments", `\bin_segment(?:_for)?\("([^"]+)"`),
		"score misspelled, in a rule":       inRule("scores", `\bscore\("([^"]+)"`),
		"experiment misspelled, in a rule":  inRule("experiments", `\bvariant\("([^"]+)"`),
		"function misspelled":               misspelledFunctions,
		"argument of another type":          argumentOfAnotherType,
		"text compared with a number": func(s *source) []mutant {
			return s.put(s.inRules(`(?:traits|e)\.[a-z_]+ [=!]= ("[^"]*")`), "5", "5.5", "true")
		},
		"number compared with a text": func(s *source) []mutant {
			return s.put(s.inRules(` [<>=]=? ([0-9]+(?:\.[0-9]+)?)\b`), `"x"`, "true", `[1]`)
		},
		"rule that is none":               brokenRules,
		"rule that goes on after its end": rulesWithoutEnd,
		"rule with an assignment":         func(s *source) []mutant { return s.put(s.inRules(` (==) `), "=", "===") },
		"rule with half an operator":      func(s *source) []mutant { return s.put(s.inRules(`(&&|\|\|)`), "&", "and", "|") },
		"duration that is none, in a rule": func(s *source) []mutant {
			return s.put(s.inRules(`\("([0-9]+[a-z])"\)`), "7 days", "7", "soon", "900d", "-1d", "1ms")
		},
		"time of day that is none, in a rule": func(s *source) []mutant {
			return s.put(s.inRules(`local_time\("([^"]+)"`), "25:00", "9:00", "noon", "09:60")
		},
		"weekday that is none, in a rule": func(s *source) []mutant {
			return s.put(s.inRules(`local_weekday\("([^"]+)"`), "saturday", "Sat", "sa", "6")
		},
		"duration that is none": badDurations,
		"time of day that is none": func(s *source) []mutant {
			return s.put(s.spans(s.values("quiet.from", "quiet.to", "delay.at")), "25:00", "9:00", "noon", "12:60", "12h")
		},
		"weekday that is none": func(s *source) []mutant {
			return s.put(s.whole(s.values("delay.on")), "monday", "Mon", "mo", "1", "weekend")
		},
		"value that is not one of those allowed": badValues,
		"mapping instead of a value":             mappingsInstead,
		"value instead of a mapping or a list":   valuesInstead,
		"required key missing":                   (*source).missingKeys,
		"weights that do not sum to 1":           (*source).badWeights,
		"id that stands twice":                   (*source).duplicateIDs,
		"key that stands twice":                  (*source).duplicateKeys,
		"name of a wrong shape":                  (*source).badNames,
		"anchor":                                 func(s *source) []mutant { return s.prefix(s.whole(s.plainValues()), "&a ") },
		"quote not closed":                       (*source).openQuotes,
		"bracket not closed":                     (*source).openBrackets,
		"indentation":                            (*source).badIndentation,
		"tab":                                    (*source).tabs,
		"colon missing":                          (*source).missingColons,
		"segments in a circle":                   (*source).circles,
		"step that is never reached":             (*source).unreachableSteps,
	}
	for _, section := range []string{"events", "traits", "segments", "actions", "experiments", "consent", "scores"} {
		kinds["declaration removed, "+section] = func(s *source) []mutant { return s.removedDeclarations(section) }
	}
	return kinds
}

// named makes mutants of names of declared things that stand under keys.
func named(section string, places ...string) func(*source) []mutant {
	return func(s *source) []mutant { return s.misspell(s.spans(s.values(places...)), s.declared[section]) }
}

// inRule makes mutants of names of declared things that stand in rules.
func inRule(section, pattern string) func(*source) []mutant {
	return func(s *source) []mutant { return s.misspell(s.inRules(pattern), s.declared[section]) }
}

// celFunctions are words that are right although no example has them.
func celFunctions() []string {
	return []string{"int", "uint", "double", "string", "bytes", "bool", "type", "dyn", "has", "map", "filter", "all", "exists", "in", "min", "max", "did", "did_not"}
}

func misspelledFunctions(s *source) []mutant {
	places := s.inRules(`\b([a-zA-Z_]{3,})\(`)
	places = slices.DeleteFunc(places, func(p span) bool { return !slices.Contains(playbook.RuleWords(), s.at(p)) }) // within a text
	return s.misspell(places, celFunctions())
}

func (s *source) properties() []string {
	all := []string{"from", "to"}
	if events := valueOf(s.root, "events"); events != nil {
		for i := 1; i < len(events.Content); i += 2 {
			if declared := valueOf(events.Content[i], "properties"); declared != nil {
				all = append(all, keysOf(declared)...)
			}
		}
	}
	return all
}

func (s *source) keySpan(key *yaml.Node) span {
	from := s.column(key)
	return span{key.Line, from, from + len(key.Value)}
}

func (s *source) misspelledKeys() []mutant {
	known := make(map[string]bool)
	var places []span
	for _, e := range s.entries() {
		known[e.key.Value] = true
		places = append(places, s.keySpan(e.key))
	}
	return s.misspell(places, slices.Collect(maps.Keys(known)))
}

// misspelledReferences makes mutants of ${from.name} in the texts of actions.
func misspelledReferences(from string) func(*source) []mutant {
	expression := regexp.MustCompile(`\$\{` + from + `\.([a-z_]+)\}`)
	return func(s *source) []mutant {
		var places []span
		for number, line := range s.lines {
			for _, m := range expression.FindAllStringSubmatchIndex(line, -1) {
				places = append(places, span{number + 1, m[2], m[3]})
			}
		}
		return s.misspell(places, append(s.properties(), s.declared["traits"]...))
	}
}

func (s *source) misspelledVariants() []mutant {
	var list []mutant
	for _, e := range s.entries() {
		if e.in.function == "step" && e.key.Value == "variants" {
			for i := 0; i < len(e.value.Content); i += 2 {
				list = append(list, s.misspell([]span{s.keySpan(e.value.Content[i])}, keysOf(e.value))...)
			}
		}
		if e.in.function == "experiments" && e.key.Value == "holdout" {
			list = append(list, s.misspell(s.spans([]*yaml.Node{e.value}), nil)...)
		}
	}
	return list
}

func (s *source) misspelledMoves() []mutant {
	var nodes []*yaml.Node
	for _, e := range s.entries() {
		if e.in.function == "migrate" && e.key.Value == "move" {
			for i := 1; i < len(e.value.Content); i += 2 {
				nodes = append(nodes, e.value.Content[i])
			}
		}
	}
	return s.misspell(s.spans(nodes), s.ids())
}

func (s *source) ids() []string {
	var ids []string
	for _, n := range s.values("step.id") {
		ids = append(ids, n.Value)
	}
	return ids
}

func argumentOfAnotherType(s *source) []mutant {
	return slices.Concat(
		s.put(s.inRules(`\b(?:did|did_not|events|time_to|inactive_for|seen_for|in_segment|in_segment_for|variant|score|duration|within|sessions|session_length|longest_session|startsWith|endsWith|contains|matches|local_weekday)\(("[^"]*")`), "5", "true", "[1]"),
		s.put(s.inRules(`within_days\(([0-9]+)\)`), `"7"`, "1.5"),
		s.put(s.inRules(`\b(?:sum|min|max|avg|distinct)\((e\.[a-z_]+)\)`), "5", `"x"`),
	)
}

func badDurations(s *source) []mutant {
	nodes := s.values("sections.expire", "step.expire", "step.delay", "delay.for", "wait.up_to", "goal.within", "reentry.after", "limit.per")
	return s.put(s.whole(nodes), "3 days", "5", "-1d", "1y", "900d", "1ms", "soon", `""`, "1d 2h")
}

func badValues(s *source) []mutant {
	allowed := map[string][]string{
		"allJourneys.reentry":      {"always", "after"},
		"allJourneys.priority":     {"high", "1001", "1.5"},
		"allJourneys.paused":       {"perhaps", "5"},
		"allJourneys.migrate":      {"leave", "go"},
		"actions.quiet":            {"sometimes", "hold_back"},
		"actions.uncapped":         {"often", "5"},
		"actions.deliver":          {"smtp", "webhook", "webhook:No-Name"},
		"experiments.coverage":     {"0", "1.5", "half", ".nan"},
		"experiments.hash_version": {"3", "new"},
		"holdout.share":            {"0", "1", "5%"},
		"limit.actions":            {"0", "many", "2.5"},
		"zone.default":             {"Mars/Base", "GMT+1", "Local"},
		"properties.type":          {"text", "float"},
		"properties.required":      {"perhaps"},
		"step.exit":                {"Given-Up", "1"},
		"exits.reason":             {"Given-Up", "1"},
	}
	var list []mutant
	for _, place := range slices.Sorted(maps.Keys(allowed)) {
		list = append(list, s.put(s.whole(s.values(place)), allowed[place]...)...)
	}
	for _, m := range append([]*yaml.Node{valueOf(s.root, "traits")}, s.declarations("properties")...) {
		for i := 1; m != nil && i < len(m.Content); i += 2 {
			if m.Content[i].Kind == yaml.ScalarNode {
				list = append(list, s.put(s.whole(m.Content[i:i+1]), "text", "integer", "String")...)
			}
		}
	}
	return list
}

// declarations lists the values under a key of events.
func (s *source) declarations(key string) []*yaml.Node {
	var list []*yaml.Node
	for _, e := range s.entries() {
		if e.in.function == "events" && e.key.Value == key {
			list = append(list, e.value)
		}
	}
	return list
}

// plainValues lists the scalars of mappings with known keys.
func (s *source) plainValues() []*yaml.Node {
	var list []*yaml.Node
	for _, e := range s.entries() {
		if e.value.Kind == yaml.ScalarNode && e.value.Tag != "!!null" {
			list = append(list, e.value)
		}
	}
	return list
}

func mappingsInstead(s *source) []mutant {
	return s.put(s.whole(s.plainValues()), "{wrong: 1}", "[[wrong]]")
}

func valuesInstead(s *source) []mutant {
	var nodes []*yaml.Node
	for _, e := range s.entries() {
		if e.value.Kind != yaml.ScalarNode {
			nodes = append(nodes, e.value)
		}
	}
	return s.put(s.whole(nodes), "5", "wrong")
}

func (s *source) prefix(places []span, by string) []mutant {
	var list []mutant
	for _, p := range places {
		list = append(list, mutant{s.replace(span{p.line, p.from, p.from}, by), []int{p.line}, ""})
	}
	return list
}

// brokenRules takes a bracket or a quote out of a rule. What is open is noticed where the rule goes on at the earliest.
func brokenRules(s *source) []mutant {
	var list []mutant
	for _, rule := range s.rules() {
		last := rule[len(rule)-1].line
		for _, piece := range rule {
			for i, r := range s.at(piece) {
				if r != '(' && r != ')' {
					continue
				}
				m := mutant{text: s.replace(span{piece.line, piece.from + i, piece.from + i + 1}, "")}
				for line := piece.line; line <= last; line++ {
					m.lines = append(m.lines, line)
				}
				list = append(list, m)
			}
		}
	}
	return list
}

func rulesWithoutEnd(s *source) []mutant {
	var list []mutant
	for _, rule := range s.rules() {
		end := rule[len(rule)-1]
		for _, more := range []string{" &&", " || )", " && ()", " +"} {
			list = append(list, mutant{s.replace(span{end.line, end.to, end.to}, more), []int{end.line}, ""})
		}
	}
	return list
}

// missingKeys takes keys out that must be there. The place is the mapping that lacks them.
func (s *source) missingKeys() []mutant {
	required := []string{
		"segments.when", "trigger.on", "trigger.segment", "trigger.left", "goal.on", "goal.within", "wait.up_to", "limit.actions", "limit.per",
		"holdout.share", "quiet.from", "quiet.to", "reentry.after", "experiments.variants", "allJourneys.enter", "allJourneys.steps",
		"properties.type", "step.variants", "step.action", "step.wait", "step.delay", "step.branch", "step.exit",
	}
	var list []mutant
	for _, e := range s.entries() {
		if !slices.Contains(required, e.in.function+"."+e.key.Value) {
			continue
		}
		if len(e.in.node.Content) == 2 {
			continue
		}
		if text, ok := s.cutEntry(e.in.node, e.key); ok {
			m := mutant{text: text, lines: []int{e.in.node.Line}}
			for i := 0; i < len(e.in.node.Content); i += 2 {
				if line := e.in.node.Content[i].Line; line < e.key.Line {
					m.lines = append(m.lines, line)
				}
			}
			if owner := s.parents[e.in.node]; owner != nil {
				m.lines = append(m.lines, owner.Line)
			}
			list = append(list, m)
		}
	}
	return list
}

// cutEntry takes an entry out of a mapping; false where it cannot be done by lines or within one.
func (s *source) cutEntry(in, key *yaml.Node) (string, bool) {
	i := slices.Index(in.Content, key)
	if in.Style&yaml.FlowStyle == 0 {
		from, to, ok := s.block(in, i)
		if !ok {
			return "", false
		}
		return s.without(from, to), true
	}
	whole, ok := s.written(in)
	if !ok {
		return "", false
	}
	p := s.keySpan(key)
	if i+2 < len(in.Content) { // up to the next key
		p.to = s.keySpan(in.Content[i+2]).from
		return s.replace(p, ""), true
	}
	p.to = whole.to - 1
	if i > 0 {
		p.from = strings.LastIndex(s.lines[p.line-1][:p.from], ",")
	}
	return s.replace(p, ""), p.from > whole.from
}

// block finds the lines of the entry at a place of a block mapping: up to its next key, or to the first line that lies less deep.
func (s *source) block(in *yaml.Node, i int) (from, to int, ok bool) {
	key := in.Content[i]
	line := s.lines[key.Line-1]
	if strings.TrimSpace(line[:s.column(key)]) != "" { // behind the dash of a list
		return 0, 0, false
	}
	if i+2 < len(in.Content) {
		return key.Line, in.Content[i+2].Line, true
	}
	to = key.Line + 1
	for to <= len(s.lines) {
		next := s.lines[to-1]
		if strings.TrimSpace(next) != "" && len(next)-len(strings.TrimLeft(next, " ")) <= s.column(key) {
			break
		}
		to++
	}
	return key.Line, min(to, len(s.lines)), true
}

func (s *source) badWeights() []mutant {
	var list []mutant
	for _, e := range s.entries() {
		if e.in.function != "experiments" || e.key.Value != "variants" {
			continue
		}
		for i := 1; i < len(e.value.Content); i += 2 {
			weight, err := strconv.ParseFloat(e.value.Content[i].Value, 64)
			if err != nil {
				continue
			}
			for _, wrong := range []float64{weight + 0.1, weight - 0.05, weight * 100, -weight} {
				list = append(list, s.put(s.whole(e.value.Content[i:i+1]), strconv.FormatFloat(wrong, 'f', -1, 64))...)
			}
		}
	}
	return list
}

// duplicateIDs gives a step the id of another one of its journey. Either may be the mistake.
func (s *source) duplicateIDs() []mutant {
	journeys := valueOf(s.root, "journeys")
	if journeys == nil { // a playbook that only reads an experiment
		return nil
	}
	var list []mutant
	ids := s.values("step.id")
	for i := 0; i < len(journeys.Content); i += 2 {
		end := len(s.lines) + 1
		if i+2 < len(journeys.Content) {
			end = journeys.Content[i+2].Line
		}
		var own []*yaml.Node
		for _, id := range ids {
			if id.Line >= journeys.Content[i].Line && id.Line < end {
				own = append(own, id)
			}
		}
		for k := range own {
			other := own[(k+1)%len(own)]
			if other != own[k] {
				list = append(list, mutant{s.replace(s.whole(own[k : k+1])[0], other.Value), []int{own[k].Line, other.Line}, ""})
			}
		}
	}
	return list
}

// duplicateKeys writes a line with a key and a value a second time.
func (s *source) duplicateKeys() []mutant {
	var list []mutant
	for _, e := range s.entries() {
		line := s.lines[e.key.Line-1]
		if _, ok := s.written(e.value); ok && e.value.Line == e.key.Line && e.in.node.Style&yaml.FlowStyle == 0 && strings.TrimSpace(line[:s.column(e.key)]) == "" {
			list = append(list, mutant{s.insert(e.key.Line+1, line), []int{e.key.Line + 1}, ""})
		}
	}
	return list
}

// badNames gives things names of a shape that names do not have.
func (s *source) badNames() []mutant {
	var keys []span
	for _, section := range []string{"traits", "segments", "experiments", "consent", "actions", "journeys", "scores"} {
		if value := valueOf(s.root, section); value != nil {
			for i := 0; i < len(value.Content); i += 2 {
				keys = append(keys, s.keySpan(value.Content[i]))
			}
		}
	}
	keys = append(keys, s.spans(s.values("step.id"))...)
	var list []mutant
	for _, p := range keys {
		name := s.at(p)
		list = append(list, s.put([]span{p}, strings.ToUpper(name), "1"+name, strings.ReplaceAll(name+"_x", "_", "-"), strings.Repeat(name, 64)[:64])...)
	}
	return list
}

// openQuotes takes the closing quote of a text away.
func (s *source) openQuotes() []mutant {
	var list []mutant
	for _, p := range s.quoted() {
		list = append(list, mutant{s.replace(span{p.line, p.to - 1, p.to}, ""), []int{p.line, p.line + 1}, ""})
	}
	return list
}

// quoted lists the texts in quotes that stand on one line.
func (s *source) quoted() []span {
	var list []span
	var visit func(n *yaml.Node)
	visit = func(n *yaml.Node) {
		if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			if p, ok := s.written(n); ok {
				list = append(list, p)
			}
		}
		for _, child := range n.Content {
			visit(child)
		}
	}
	visit(s.root)
	return list
}

// openBrackets takes the last bracket of a flow collection away.
func (s *source) openBrackets() []mutant {
	var list []mutant
	var visit func(n *yaml.Node)
	visit = func(n *yaml.Node) {
		if p, ok := s.written(n); ok && n.Kind != yaml.ScalarNode {
			list = append(list, mutant{s.replace(span{p.line, p.to - 1, p.to}, ""), []int{p.line, p.line + 1}, ""})
		}
		for _, child := range n.Content {
			visit(child)
		}
	}
	visit(s.root)
	return list
}

// followers lists the keys of block mappings that stand on lines of their own, behind another entry that has a value.
func (s *source) followers() []*yaml.Node {
	var list []*yaml.Node
	var visit func(n *yaml.Node)
	visit = func(n *yaml.Node) {
		if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 {
			for i := 2; i+1 < len(n.Content); i += 2 {
				if n.Content[i-1].Tag != "!!null" && s.column(n.Content[i]) > 0 {
					list = append(list, n.Content[i])
				}
			}
		}
		for _, child := range n.Content {
			visit(child)
		}
	}
	visit(s.root)
	return list
}

// badIndentation moves a key by one space, to where no other key stands.
func (s *source) badIndentation() []mutant {
	var list []mutant
	for _, key := range s.followers() {
		line := s.lines[key.Line-1]
		list = append(list,
			mutant{s.replace(span{key.Line, 0, 0}, " "), []int{key.Line, key.Line + 1}, ""},
			mutant{s.replace(span{key.Line, 0, len(line)}, line[1:]), []int{key.Line, key.Line + 1}, ""})
	}
	return list
}

func (s *source) tabs() []mutant {
	var list []mutant
	for _, key := range s.followers() {
		list = append(list, mutant{s.replace(span{key.Line, 0, s.column(key)}, "\t"), []int{key.Line, key.Line + 1}, ""})
	}
	return list
}

// missingColons takes the colon behind a key away.
func (s *source) missingColons() []mutant {
	var list []mutant
	for _, key := range s.followers() {
		at := s.keySpan(key).to
		list = append(list, mutant{s.replace(span{key.Line, at, at + 1}, ""), []int{key.Line, key.Line + 1}, ""})
	}
	return list
}

// circles makes a segment ask about one that asks about it, or about itself.
func (s *source) circles() []mutant {
	segments := valueOf(s.root, "segments")
	ends := make(map[string]span)
	asks := make(map[string][]string)
	expression := regexp.MustCompile(`in_segment(?:_for)?\("([^"]+)"`)
	for _, rule := range s.rules() {
		for i := 0; i < len(segments.Content); i += 2 {
			key, value := segments.Content[i], valueOf(segments.Content[i+1], "when")
			begin := value.Line
			if value.Style&(yaml.FoldedStyle|yaml.LiteralStyle) != 0 {
				begin++
			}
			if rule[0].line != begin {
				continue
			}
			ends[key.Value] = rule[len(rule)-1]
			for _, m := range expression.FindAllStringSubmatch(value.Value, -1) {
				asks[key.Value] = append(asks[key.Value], m[1])
			}
		}
	}
	var list []mutant
	add := func(key, about string) {
		end := ends[key]
		list = append(list, mutant{s.replace(span{end.line, end.to, end.to}, fmt.Sprintf(` && in_segment("%s")`, about)), []int{end.line}, ""})
	}
	for _, key := range slices.Sorted(maps.Keys(ends)) {
		add(key, key)
		for _, other := range asks[key] {
			if _, ok := ends[other]; ok {
				add(other, key)
			}
		}
	}
	return list
}

// unreachableSteps puts an exit before a step of a list. The problem is the step, which is one line further down.
func (s *source) unreachableSteps() []mutant {
	var list []mutant
	for _, m := range s.mappings {
		before := s.lines[m.node.Line-1][:s.column(m.node)]
		if m.function == "step" && strings.TrimSpace(before) == "-" {
			list = append(list, mutant{s.insert(m.node.Line, before+"{exit: over}"), []int{m.node.Line + 1}, ""})
		}
	}
	return list
}

// removedDeclarations takes the declaration of something away that is used. The problem is where it is used.
func (s *source) removedDeclarations(section string) []mutant {
	all := valueOf(s.root, section)
	if all == nil {
		return nil
	}
	var list []mutant
	for i := 0; i < len(all.Content); i += 2 {
		key := all.Content[i]
		text, ok := s.cutEntry(all, key)
		removed := len(s.lines) - len(strings.Split(text, "\n"))
		m := mutant{text: text}
		for _, use := range s.uses(section, key.Value) {
			switch {
			case use < key.Line:
				m.lines = append(m.lines, use)
			case use >= key.Line+removed:
				m.lines = append(m.lines, use-removed)
			}
		}
		if ok && len(m.lines) > 0 {
			list = append(list, m)
		}
	}
	return list
}

// uses lists the lines where a declared thing is named.
func (s *source) uses(section, name string) []int {
	var places []span
	only := func(nodes []*yaml.Node) []*yaml.Node {
		return slices.DeleteFunc(nodes, func(n *yaml.Node) bool { return n.Value != name })
	}
	quoted := `("` + name + `")`
	switch section {
	case "events":
		places = append(s.spans(only(s.values("trigger.on", "goal.on", "exits.on", "wait.on"))), s.inRules(`\b(?:did|did_not|events|time_to)\(`+quoted)...)
	case "traits":
		places = append(s.spans(only(s.values("zone.trait"))), s.inRules(`\btraits\.(`+name+`)\b`)...)
		for number, line := range s.lines {
			if strings.Contains(line, "${traits."+name+"}") {
				places = append(places, span{line: number + 1})
			}
		}
	case "segments":
		places = append(s.spans(only(s.values("trigger.segment", "trigger.left", "exits.left", "exits.entered", "branch.segment"))), s.inRules(`\bin_segment(?:_for)?\(`+quoted)...)
	case "actions":
		places = s.spans(only(s.values("step.action")))
	case "experiments":
		places = append(s.spans(only(s.values("step.experiment"))), s.inRules(`\bvariant\(`+quoted)...)
	case "consent":
		places = s.spans(only(s.values("actions.category", "limit.category")))
	case "scores":
		places = s.inRules(`\bscore\(` + quoted)
	}
	var lines []int
	for _, p := range places {
		lines = append(lines, p.line)
	}
	return lines
}
