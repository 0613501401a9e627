package journey

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// Explain writes the user's standing as a page of Markdown: where the user is, which segments and why, and what happens
// next and when. It is what a support person reads in the Temporal UI.
func Explain(books Books, s *State) string { return Page(books, Profile(books, s), s) }

// Page is Explain for a caller that has the profile of s already.
func Page(books Books, p schema.Profile, s *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", p.Stage)
	if s.HandedOver != nil {
		fmt.Fprintf(&b, "Became user `%s` at %s. All that was known went there; see workflow `%s`.\n",
			s.HandedOver.Into, stamp(s.HandedOver.At), schema.WorkflowID(s.HandedOver.Into))
		return b.String()
	}
	if p.NextAt != 0 {
		fmt.Fprintf(&b, "**Next:** %s — %s\n\n", stamp(p.NextAt), p.NextChange)
	} else {
		b.WriteString("**Next:** nothing by time alone; the next event decides\n\n")
	}
	b.WriteString("| Segment | | Why | Since | Asked again |\n|---|---|---|---|---|\n")
	for _, m := range p.Segments {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", m.Segment, mark(m), cell(m.Reason), stamp(m.Since), stamp(m.Until))
	}
	b.WriteString("\n| Journey | Step | Waits for | Until | Ended |\n|---|---|---|---|---|\n")
	for _, j := range p.Journeys {
		ended := j.Ended
		if j.Paused {
			ended = "paused"
		}
		if j.Converted {
			ended = strings.TrimPrefix(ended+", goal met", ", ")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", j.Journey, j.StepKey, cell(j.Waiting), stamp(j.Deadline), ended)
	}
	writeTrails(&b, s)
	if book := books.Playbook(s.Playbook); book != nil {
		writeRules(&b, book, s)
	}
	for _, key := range sortedKeys(p.Variants) {
		fmt.Fprintf(&b, "\nExperiment **%s**: variant **%s**\n", key, p.Variants[key])
	}
	for _, m := range s.Merged {
		fmt.Fprintf(&b, "\nWas `%s` until %s\n", m.Token, stamp(m.At))
	}
	fmt.Fprintf(&b, "\n%d events counted, %d repeated; playbook %s; as of %s\n",
		s.Counts.Applied, s.Counts.Duplicates+s.Counts.Redelivered, s.Playbook, stamp(s.Clock))
	return b.String()
}

// writeTrails tells each journey's steps with their reasons, and why journeys were not entered.
func writeTrails(b *strings.Builder, s *State) {
	write := func(title string, trail []Mark) {
		fmt.Fprintf(b, "\n**%s**\n\n", title)
		for _, m := range trail {
			fmt.Fprintf(b, "- %s %s: %s\n", stamp(m.At), cmp.Or(m.Step, "—"), m.Why)
		}
	}
	for _, e := range s.Enrollments {
		if e.Ended == "" {
			write(strings.TrimSpace("Journey "+e.Journey+" "+e.Key), e.Trail)
		}
	}
	for _, key := range sortedKeys(s.Passed) {
		if trail := s.Passed[key].Trail; len(trail) > 0 {
			write("Journey "+key+", the last time", trail)
		}
	}
	for _, key := range sortedKeys(s.Refused) {
		fmt.Fprintf(b, "\n**Journey %s** was not entered at %s: %s\n", key, stamp(s.Refused[key].At), s.Refused[key].Why)
	}
}

// writeRules takes every segment's rule apart: what each part says and reads, and what would have to happen for the user to enter.
func writeRules(b *strings.Builder, book *playbook.Playbook, s *State) {
	b.WriteString("\n#### The rules, part by part\n\n")
	scope := s.scope(book, s.Clock)
	for i := range book.Segments {
		seg := &book.Segments[i]
		explained := seg.Rule.Explanation(scope)
		fmt.Fprintf(b, "- **%s**\n", seg.Key)
		writePart(b, &explained, 1)
		if m := s.Members[seg.Key]; m != nil && !m.In && len(explained.Needs) > 0 {
			fmt.Fprintf(b, "  - to enter: %s\n", strings.Join(explained.Needs, "; and "))
		}
	}
}

func writePart(b *strings.Builder, x *segment.Explanation, depth int) {
	indent := strings.Repeat("  ", depth)
	if x.Op != "" && len(x.Parts) > 0 {
		fmt.Fprintf(b, "%s- %s %s\n", indent, truthMark(x.Truth), map[string]string{"and": "all of", "or": "one of", "not": "not"}[x.Op])
		for i := range x.Parts {
			writePart(b, &x.Parts[i], depth+1)
		}
		return
	}
	fmt.Fprintf(b, "%s- %s `%s`", indent, truthMark(x.Truth), x.Text)
	for i, v := range x.Reads {
		if i == 0 && len(x.Reads) == 1 && v.Text == x.Text {
			break // said already
		}
		fmt.Fprintf(b, "; %s = %s", v.Text, v.Value)
	}
	if x.Why != "" {
		fmt.Fprintf(b, "; %s", x.Why)
	}
	if x.Until != 0 {
		fmt.Fprintf(b, "; holds until %s", stamp(x.Until))
	}
	b.WriteString("\n")
}

func truthMark(t segment.Truth) string {
	switch t {
	case segment.True:
		return "✓"
	case segment.False:
		return "✗"
	default:
		return "?"
	}
}

func mark(m schema.Membership) string {
	switch {
	case m.Unknown && m.In:
		return "in, now unknown"
	case m.Unknown:
		return "unknown"
	case m.In:
		return "**in**"
	default:
		return "out"
	}
}

func stamp(at int64) string {
	if at == 0 {
		return "—"
	}
	return time.UnixMilli(at).UTC().Format("2006-01-02 15:04:05.000 UTC")
}

// cell keeps a rule's own bars from breaking the table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
