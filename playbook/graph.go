package playbook

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/onramphq/onramp/segment"
)

// edgeKind says why a step leads to the next.
type edgeKind string

const (
	edgeNext    edgeKind = "next"
	edgeTimeout edgeKind = "timeout"
	edgeBranch  edgeKind = "branch"
	edgeElse    edgeKind = "else"
	edgeVariant edgeKind = "variant"
)

// edge leads from a step to the one that follows it; to is empty where the journey is completed.
type edge struct {
	from, to string
	kind     edgeKind
	label    caption
}

// caption is a text of a drawing; code is set in a fixed width.
type caption struct {
	text string
	code bool
}

// edges lists where a step leads, in the order of the file. An exit leads nowhere.
func (p *Playbook) edges(s *Step) []edge {
	switch s.Kind {
	case StepExit:
		return nil
	case StepWait:
		after := caption{text: "after " + segment.FormatDuration(s.Duration)}
		return []edge{{s.Key, s.Next, edgeNext, caption{}}, {s.Key, s.OnTimeout, edgeTimeout, after}}
	case StepBranch:
		list := make([]edge, 0, len(s.Branches)+1)
		for _, b := range s.Branches {
			label := caption{text: "in " + b.Segment}
			if b.When != nil {
				label = code(b.When)
			}
			list = append(list, edge{s.Key, b.To, edgeBranch, label})
		}
		return append(list, edge{s.Key, s.Next, edgeElse, caption{text: "else"}})
	case StepExperiment:
		return p.variantEdges(s)
	default:
		return []edge{{s.Key, s.Next, edgeNext, caption{}}}
	}
}

// variantEdges follows the order of the experiment's definition. A variant without steps goes on behind the experiment.
func (p *Playbook) variantEdges(s *Step) []edge {
	var list []edge
	named := func(key, label string) edge {
		to, ok := s.Variants[key]
		if !ok {
			to = s.Next
		}
		return edge{s.Key, to, edgeVariant, caption{text: label}}
	}
	x := p.Experiments[s.Experiment]
	if x == nil {
		for _, key := range slices.Sorted(maps.Keys(s.Variants)) {
			list = append(list, named(key, key))
		}
		return list
	}
	if s.Factor != "" {
		return x.levelEdges(s)
	}
	for _, v := range x.Variants {
		list = append(list, named(v.Key, v.Key+" "+percent(v.Weight)))
	}
	return list
}

// levelEdges leads from a step that looks at one factor: all variants with a level of it go the same way.
func (e *Experiment) levelEdges(s *Step) []edge {
	var list []edge
	for _, factor := range e.Factors {
		if factor.Key != s.Factor {
			continue
		}
		for _, level := range factor.Levels {
			for _, v := range e.Variants {
				if e.Levels[v.Key][s.Factor] == level.Key {
					list = append(list, edge{s.Key, s.Variants[v.Key], edgeVariant, caption{text: level.Key + " " + percent(level.Weight)}})
					break
				}
			}
		}
	}
	return list
}

// meetings finds where the ways from each step meet again: the nearest step that all of them pass. Steps only lead on in
// the file, so one pass from its end suffices. An exit counts as leading to the step behind it.
func (p *Playbook) meetings(j *Journey) map[string]string {
	meets := make(map[string]string)
	depth := map[string]int{"": 0}
	common := func(a, b string) string {
		for a != b {
			if depth[a] < depth[b] {
				a, b = b, a
			}
			a = meets[a]
		}
		return a
	}
	for _, key := range slices.Backward(j.Order) {
		s := j.Steps[key]
		at := s.Next
		for _, e := range p.edges(s) {
			at = common(at, e.to)
		}
		meets[key], depth[key] = at, depth[at]+1
	}
	return meets
}

func percent(share float64) string {
	return strconv.FormatFloat(float64(int(share*1e4+0.5))/100, 'f', -1, 64) + " %"
}

func code(r *segment.Rule) caption {
	return caption{oneLine(r.Source), true}
}

func oneLine(source string) string { return strings.Join(strings.Fields(source), " ") }

// texts say what a step does, one line each.
func (p *Playbook) texts(s *Step) []caption {
	switch s.Kind {
	case StepAction:
		list := []caption{{text: s.Action}}
		for _, name := range slices.Sorted(maps.Keys(s.With)) {
			list = append(list, caption{text: name + ": " + plainJSON(s.With[name])})
		}
		if s.Expire > 0 && s.Expire != p.Expire {
			list = append(list, caption{text: "expires after " + segment.FormatDuration(s.Expire)})
		}
		return list
	case StepDelay:
		return []caption{{text: s.delayed()}}
	case StepWait:
		return conditions("for ", s.Events, s.Where, s.When)
	case StepExperiment:
		return []caption{{text: s.Experiment}}
	case StepExit:
		if s.Reason != s.Key {
			return []caption{{text: s.Reason}}
		}
	default: // the conditions of a branch stand on its edges
	}
	return nil
}

// delayed says how long a delay is: `1d, then until 09:00 on mon, tue`.
func (s *Step) delayed() string {
	var parts []string
	if s.Duration > 0 {
		parts = append(parts, segment.FormatDuration(s.Duration))
	}
	local := ""
	if s.At != nil {
		local = "until " + s.At.String()
	}
	if len(s.Days) > 0 {
		days := make([]string, len(s.Days))
		for i, day := range s.Days {
			days[i] = strings.ToLower(day.String()[:3])
		}
		local = strings.TrimSpace(local + " on " + strings.Join(days, ", "))
	}
	if local != "" {
		parts = append(parts, local)
	}
	return strings.Join(parts, ", then ")
}

// plainJSON writes a value of with as JSON, a text without its quotes.
func plainJSON(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

func conditions(verb string, events []string, where *segment.Filter, when *segment.Rule) []caption {
	var list []caption
	if len(events) > 0 {
		list = append(list, caption{text: verb + strings.Join(events, " or ")})
	}
	if where != nil {
		list = append(list, caption{oneLine(where.Source), true})
	}
	if when != nil {
		list = append(list, code(when))
	}
	return list
}

// texts say who enters.
func (t Trigger) texts() []caption {
	list := conditions("on ", t.Events, t.Where, t.When)
	switch {
	case t.Segment != "":
		list = slices.Insert(list, 0, caption{text: "on entering " + t.Segment})
	case t.Left != "":
		list = slices.Insert(list, 0, caption{text: "on leaving " + t.Left})
	}
	if t.Per != "" {
		list = append(list, caption{text: "once per " + t.Per})
	}
	return list
}

// texts say what takes a user out.
func (e Exit) texts() []caption {
	list := conditions("on ", e.Events, e.Where, e.When)
	if e.Left != "" {
		list = slices.Insert(list, 0, caption{text: "on leaving " + e.Left})
	}
	if e.Entered != "" {
		list = slices.Insert(list, 0, caption{text: "on entering " + e.Entered})
	}
	return append(list, caption{text: "→ " + e.Reason})
}

func (g *Goal) texts() []caption {
	return append(conditions("on ", []string{g.Event}, g.Where, nil), caption{text: "within " + segment.FormatDuration(g.Within)})
}

// rules say how a journey stands to the others and to a user's past.
func (j *Journey) rules() string {
	text := fmt.Sprintf("priority %d · reentry %s", j.Priority, strings.ReplaceAll(string(j.Reentry), "_", " "))
	if j.Cooldown > 0 {
		text = fmt.Sprintf("priority %d · reentry after %s", j.Priority, segment.FormatDuration(j.Cooldown))
	}
	if j.Migrate.Policy != MigrateStay {
		text += " · migrate " + string(j.Migrate.Policy)
	}
	if j.Paused {
		text += " · paused"
	}
	return text
}

// Mermaid draws journeys as one Mermaid flowchart, a subgraph each.
func (p *Playbook) Mermaid(journeys ...*Journey) string {
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	for i, j := range journeys {
		p.mermaid(&b, j, i+1)
	}
	for _, kind := range graphKinds() {
		style := styleOf(kind)
		fmt.Fprintf(&b, "  classDef %s fill:%s,stroke:%s,color:#111827\n", kind, style.fill, style.stroke)
	}
	return b.String()
}

// mermaid draws one journey. Ids carry its number, so that no key is a word of Mermaid's or stands twice.
func (p *Playbook) mermaid(b *strings.Builder, j *Journey, number int) {
	id := func(key string) string {
		if key == "" {
			return fmt.Sprintf("done%d", number)
		}
		return fmt.Sprintf("j%d_%s", number, key)
	}
	node := func(id string, kind StepKind, texts ...caption) {
		open, end := mermaidShape(kind)
		fmt.Fprintf(b, "    %s%s\"%s\"%s:::%s\n", id, open, mermaidText(texts), end, kind)
	}
	fmt.Fprintf(b, "  subgraph journey%d [\"%s\"]\n    direction TB\n", number, mermaidText([]caption{{text: j.Key + ", " + j.rules()}}))
	node(fmt.Sprintf("enter%d", number), kindEnter, append([]caption{{text: "enter"}}, j.Enter.texts()...)...)
	fmt.Fprintf(b, "    enter%d --> %s\n", number, id(j.First))
	completes := j.First == ""
	for _, key := range j.Order {
		s := j.Steps[key]
		node(id(key), s.Kind, append([]caption{{text: key}}, p.texts(s)...)...)
		for _, e := range p.edges(s) {
			completes = completes || e.to == ""
			fmt.Fprintf(b, "    %s %s %s\n", id(key), mermaidArrow(e), id(e.to))
		}
	}
	if completes {
		node(id(""), kindDone, caption{text: "completed"})
	}
	for i, side := range j.aside() {
		node(fmt.Sprintf("aside%d_%d", number, i+1), kindAside, append([]caption{{text: side.title}}, side.texts...)...)
	}
	b.WriteString("  end\n")
}

func mermaidArrow(e edge) string {
	arrow := "-->"
	if e.kind == edgeTimeout {
		arrow = "-.->"
	}
	if e.label.text == "" {
		return arrow
	}
	return arrow + "|\"" + mermaidText([]caption{e.label}) + "\"|"
}

// note is what holds wherever a user stands: the goal and each exit rule.
type note struct {
	title string
	texts []caption
}

func (j *Journey) aside() []note {
	var notes []note
	if j.Goal != nil {
		notes = append(notes, note{"goal", j.Goal.texts()})
	}
	for _, e := range j.Exits {
		notes = append(notes, note{"exit at any step", e.texts()})
	}
	return notes
}

func mermaidShape(kind StepKind) (open, end string) {
	switch kind {
	case StepDelay, StepWait:
		return "{{", "}}"
	case StepBranch:
		return "{", "}"
	case StepExperiment:
		return "[[", "]]"
	case StepExit, kindEnter, kindDone:
		return "([", "])"
	default:
		return "[", "]"
	}
}

// maxMermaid bounds a line of a Mermaid label, in characters.
const maxMermaid = 80

func mermaidText(texts []caption) string {
	escapes := strings.NewReplacer("#", "#35;", `"`, "#quot;", "&", "#amp;", "<", "#lt;", ">", "#gt;", "`", "#96;")
	lines := make([]string, len(texts))
	for i, t := range texts {
		text := []rune(visible(t.text))
		if len(text) > maxMermaid {
			text = append(text[:maxMermaid-1], '…')
		}
		lines[i] = escapes.Replace(string(text))
	}
	return strings.Join(lines, "<br>")
}

// visible replaces what no drawing can show.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < ' ' || r == 0x7f || r == 0xfffe || r == 0xffff:
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
}
