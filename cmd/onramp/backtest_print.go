package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// reportOf puts a backtest's figures into the report that a running engine gives, so that both read alike. Every action that is
// decided counts as delivered.
func reportOf(r *backtest.Result) *outcome.Report {
	report := &outcome.Report{
		Users: r.Users, Events: r.Events, DeadLetters: r.Rejected, EventsByName: r.EventsByName, Journeys: map[string]outcome.JourneySummary{},
	}
	for _, j := range r.Journeys {
		report.Journeys[j.Journey] = outcome.JourneySummary{Enrollments: j.Enrollments, Open: j.Open, Ended: j.Ended}
		report.Funnel = append(report.Funnel, outcome.FunnelStep{Journey: j.Journey, Step: "enrolled", Users: j.Users})
		for _, s := range j.Funnel {
			report.Funnel = append(report.Funnel, outcome.FunnelStep{Journey: j.Journey, Step: s.Step, Users: s.Users})
		}
		report.Funnel = append(report.Funnel, outcome.FunnelStep{Journey: j.Journey, Step: "converted", Users: j.Converted})
	}
	for _, s := range r.Segments {
		report.Segments = append(report.Segments, outcome.SegmentSize{Segment: s.Segment, Members: s.Members, Ever: s.Ever})
	}
	for _, a := range r.Actions {
		report.Actions = append(report.Actions, outcome.ActionCounts{
			Action: a.Action, Decided: a.Decided, Delivered: a.Decided, Suppressed: a.Suppressed, Reasons: a.Reasons,
		})
	}
	return report
}

// paint colors text on a terminal.
type paint bool

func (p paint) code(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) bold(text string) string   { return p.code("1", text) }
func (p paint) dim(text string) string    { return p.code("2", text) }
func (p paint) red(text string) string    { return p.code("31", text) }
func (p paint) green(text string) string  { return p.code("32", text) }
func (p paint) yellow(text string) string { return p.code("33", text) }
func (p paint) blue(text string) string   { return p.code("34", text) }

func writeBacktest(w io.Writer, c *backtest.Comparison, color bool) error {
	if err := reportOf(c.New).WriteText(w, color); err != nil {
		return err
	}
	var b strings.Builder
	p := paint(color)
	writeBroken(&b, p, c.New)
	writeArms(&b, p, c.New)
	if c.Old != nil {
		writeChanges(&b, p, c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeBroken says which events are not as the tracking plan promises.
func writeBroken(b *strings.Builder, p paint, r *backtest.Result) {
	if len(r.Broken) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n  %s\n", p.bold("TRACKING PLAN"), p.dim("taken nonetheless, but no rule sees what is not as declared"))
	for _, broken := range r.Broken {
		fmt.Fprintf(b, "  %-26s %10s events: %s\n", broken.Event, digits(broken.Events), p.yellow(broken.What))
	}
}

// writeArms says who met which variant. Nobody in the log was sent what the playbook would have sent, so there is no lift to tell.
func writeArms(b *strings.Builder, p paint, r *backtest.Result) {
	for _, e := range r.Experiments {
		fmt.Fprintf(b, "\n%s\n  %s\n", p.bold("EXPERIMENT "+e.Experiment), p.dim(fmt.Sprintf("%-26s %10s %10s %10s", "", "weight", "users", "converted")))
		for _, a := range e.Arms {
			fmt.Fprintf(b, "  %-26s %10s %10s %10s\n", a.Variant, share(a.Weight), digits(a.Users), digits(a.Converted))
		}
		fmt.Fprintf(b, "  %s\n", p.dim("conversions are those of the log: nobody in it has met these variants"))
	}
}

func writeChanges(b *strings.Builder, p paint, c *backtest.Comparison) {
	fmt.Fprintf(b, "\n%s\n", p.bold(fmt.Sprintf("CHANGES against %s %s", c.Old.Name, c.Old.Playbook)))
	if len(c.Changes) == 0 {
		b.WriteString("  none: every user meets the same\n")
		return
	}
	fmt.Fprintf(b, "  for %s of %s users\n", digits(c.UsersUnlike), digits(max(c.New.Users, c.Old.Users)))
	fmt.Fprintf(b, "  %s\n", p.dim(fmt.Sprintf("%-36s %10s %10s %8s %8s", "", "old", "new", "gained", "lost")))
	for _, change := range c.Changes {
		fmt.Fprintf(b, "  %-36s %10s %10s %s %s\n", changeText(change), signed(change.Old), signed(change.New),
			p.green(fmt.Sprintf("%8s", digits(change.Gained))), p.red(fmt.Sprintf("%8s", digits(change.Lost))))
		writeExamples(b, p, "gained by", change.GainedExamples, change.Gained)
		writeExamples(b, p, "lost by", change.LostExamples, change.Lost)
	}
}

func changeText(c backtest.Change) string {
	switch c.What {
	case backtest.Enters:
		return "enters journey " + c.Key
	case backtest.Converts:
		return "converts in " + c.Key
	case backtest.Gets:
		return "gets " + c.Key
	case backtest.Suppressed:
		return c.Key + " held back: " + c.Reason
	case backtest.EverIn:
		return "was ever in segment " + c.Key
	default:
		return "is in segment " + c.Key
	}
}

// writeExamples names as many users as two lines of 100 columns take; JSON and HTML name them all.
func writeExamples(b *strings.Builder, p paint, title string, users []string, of uint64) {
	if len(users) == 0 {
		return
	}
	line, shown := "      "+title, uint64(0)
	for _, user := range users {
		word := " " + schema.Clean(user) + ","
		if len(line)+len(word) > 100 && shown > 0 {
			if strings.HasPrefix(line, "        ") {
				break
			}
			b.WriteString(p.dim(line) + "\n")
			line = "        "
		}
		line += word
		shown++
	}
	line = strings.TrimSuffix(line, ",")
	if more := of - shown; more > 0 {
		line += fmt.Sprintf(" and %s more", digits(more))
	}
	b.WriteString(p.dim(line) + "\n")
}

func share(f float64) string { return strconv.FormatFloat(100*f, 'f', 1, 64) + " %" }

func signed(n int64) string {
	if n < 0 {
		return "-" + digits(uint64(-n))
	}
	return digits(uint64(n))
}

// digits writes a number in groups of three digits.
func digits[N int | int64 | uint64](n N) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// writeStory tells a user's story: local time, UTC, and what happened. Without a zone it is the user's, or that of this machine.
func writeStory(w io.Writer, story *backtest.Story, zone *time.Location, color bool) error {
	var b strings.Builder
	p := paint(color)
	zone = cmp.Or(zone, story.Zone, time.Local) //nolint:gosmopolitan // the person at the terminal is where the machine is
	for i := range story.Lines {
		l := &story.Lines[i]
		at := time.UnixMilli(l.At)
		fmt.Fprintf(&b, "%s  %s  %s\n", at.In(zone).Format("Mon 2006-01-02 15:04:05.000 MST"), p.dim(at.UTC().Format("2006-01-02T15:04:05.000Z")), lineText(p, l))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// lineText sets events off from what follows from them. Names come from event publishers: nothing but printable characters
// reaches the terminal.
func lineText(p paint, l *backtest.Line) string {
	text := printable(l.Text)
	switch l.Kind {
	case backtest.LineEvent, backtest.LinePublished:
		return p.bold(text)
	case backtest.LineRepeated, backtest.LineUnread:
		return p.dim(text)
	case string(schema.SegmentEntered), string(schema.SegmentLeft):
		return "  " + p.blue(text)
	case string(schema.ActionDecided), string(schema.GoalConverted):
		return "  " + p.green(text)
	case string(schema.ActionSuppressed):
		return "  " + p.yellow(text)
	case string(schema.StepEntered):
		return "  " + p.dim(text)
	default:
		return "  " + text
	}
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
