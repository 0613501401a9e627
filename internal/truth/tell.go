package truth

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/onramphq/onramp/schema"
)

// Tell writes outcomes as lines that can be compared, whoever decided them: enrollments are numbered in the order in which they
// started. Deliveries, which nobody decides, are left out. The reason of a decided action is the text it carries.
func Tell(outcomes []schema.Outcome) []string {
	numbers := map[string]int{}
	var lines []string
	for i := range outcomes {
		o := &outcomes[i]
		if o.Kind == schema.ActionDelivered || o.Kind == schema.ActionFailed {
			continue
		}
		if o.Kind == schema.EnrollmentStarted {
			numbers[o.EnrollmentID] = len(numbers) + 1
		}
		what := o.Segment
		if o.Journey != "" {
			what = fmt.Sprintf("%s#%d/%s", o.Journey, numbers[o.EnrollmentID], o.StepKey)
		}
		detail := cmp.Or(o.Action, o.Goal, given(o.Experiment+"=%s", o.Variant))
		if o.Kind == schema.ActionDecided || o.Kind == schema.ActionSuppressed || o.Kind == schema.EnrollmentEnded {
			detail = strings.TrimSpace(detail + " " + o.Reason)
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%s %s %s %s", clock(o.At), o.Kind, what, detail), " "))
	}
	return lines
}

func moment(at int64) time.Time { return time.UnixMilli(at).UTC() }

// clock writes a time: days are those of a month, hours are UTC.
func clock(at int64) string {
	text := moment(at).Format("Jan 02 15:04")
	if rest := at % 60_000; rest != 0 {
		text += fmt.Sprintf(":%06.3f", float64(rest)/1000)
	}
	return text
}

// String is the case as a person reads it in a failed test: playbooks, then the log.
func (c *Case) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "── user %s ──\n", c.Token)
	for i, book := range c.Books {
		fmt.Fprintf(&b, "── playbook, revision %d ──\n%s", i+1, book.YAML())
	}
	b.WriteString("── log ──\n")
	for _, d := range c.Log {
		if d.Event == nil {
			fmt.Fprintf(&b, "%s  revision %d\n", clock(d.At), d.Revision+1)
			continue
		}
		fmt.Fprintf(&b, "%s  %s", clock(d.At), d.Event)
		if d.Event.At != d.Received {
			fmt.Fprintf(&b, ", of %s", clock(d.Event.At))
		}
		if d.Historic {
			b.WriteString(", historic")
		}
		if len(c.Books) > 1 {
			fmt.Fprintf(&b, ", revision %d", d.Revision+1)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s  the end\n", clock(c.End))
	return b.String()
}

// GoString keeps rapid from printing what String prints better.
func (*Case) GoString() string { return "the case above" }

// Difference puts two lists of lines side by side and marks the first line in which they differ; empty where they do not.
func Difference(left, right string, a, b []string) string {
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	if at == len(a) && at == len(b) {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "  %-70s %s\n", left, right)
	for i := range max(len(a), len(b)) {
		mark := "  "
		if i == at {
			mark = "→ "
		}
		fmt.Fprintf(&out, "%s%-70s %s\n", mark, line(a, i), line(b, i))
	}
	return out.String()
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "—"
}
