package scenario

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/onramphq/onramp/backtest"
)

// Report is what came of a scenario.
type Report struct {
	Scenario string    `json:"scenario"`
	File     string    `json:"file"`
	Line     int       `json:"line"`
	Passed   bool      `json:"passed"`
	Failures []Failure `json:"failures"` // in order of time

	scenario *Scenario
	rows     []row
}

// Failure is one difference between what is expected and what happened.
type Failure struct {
	At       int64  `json:"at"`   // Unix milliseconds
	Line     int    `json:"line"` // of the expectation in the file; 0 where there is none
	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
	Message  string `json:"message"`
}

// row is a line of the time line: an event, or what was expected beside what came.
type row struct {
	at            int64
	event         string
	expected, got string
	differs       bool
}

// Run runs a scenario.
func Run(s *Scenario) *Report {
	report := &Report{Scenario: s.Name, File: s.File, Line: s.Line, Failures: []Failure{}, scenario: s}
	lines, err := s.live()
	if err != nil {
		report.Failures = append(report.Failures, Failure{At: s.Until, Message: err.Error()})
		return report
	}
	c := &comparison{Scenario: s, report: report}
	for i := range lines {
		if f, ok := factOf(&lines[i]); ok {
			c.facts = append(c.facts, &f)
		} else if lines[i].Outcome == nil {
			report.rows = append(report.rows, row{at: lines[i].At, event: lines[i].Text})
		}
	}
	c.match()
	c.forbidden()
	c.missing()
	c.unexpected()
	for _, f := range c.facts {
		if f.matched || f.row {
			continue
		}
		if slices.ContainsFunc(s.Expect, func(e Expectation) bool { return e.Kind == f.Kind && e.Key == f.Key }) {
			report.rows = append(report.rows, row{at: f.At, got: f.String()})
		}
	}
	slices.SortStableFunc(report.rows, func(a, b row) int { return cmp.Compare(a.at, b.at) })
	slices.SortStableFunc(report.Failures, func(a, b Failure) int { return cmp.Compare(a.At, b.At) })
	report.Passed = len(report.Failures) == 0
	return report
}

// live lets the user live through what is given, and tells it line by line.
func (s *Scenario) live() ([]backtest.Line, error) {
	var lines []backtest.Line
	life := backtest.NewLife(Token(s.User), s.Book, func(m backtest.Moment) { lines = append(lines, m.Lines()...) })
	for i := range s.Given {
		g := &s.Given[i]
		var err error
		if g.Playbook != nil {
			err = life.Publish(g.Playbook, g.At)
		} else {
			err = life.Event(g.Event)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := life.Follow(s.Until); err != nil {
		return nil, err
	}
	for i := range lines {
		if lines[i].Kind == backtest.LinePublished {
			lines[i].Text = "playbook " + s.path(lines[i].At) + " is in force"
		}
	}
	return lines, nil
}

// path names the version that comes into force at a moment as the scenario does.
func (s *Scenario) path(at int64) string {
	name := ""
	for _, g := range s.Given {
		if g.Playbook != nil && g.At <= at {
			name = g.Path
		}
	}
	return name
}

// comparison holds what happened against what is expected.
type comparison struct {
	*Scenario

	report *Report
	facts  []*fact
	unmet  []*Expectation
}

func (c *comparison) fail(f Failure, r row) {
	c.report.Failures = append(c.report.Failures, f)
	r.at, r.differs = f.At, true
	c.report.rows = append(c.report.rows, r)
}

// match pairs every expectation with a fact of its moment; who asks for most is served first.
func (c *comparison) match() {
	order := make([]*Expectation, len(c.Expect))
	for i := range c.Expect {
		order[i] = &c.Expect[i]
	}
	slices.SortStableFunc(order, func(a, b *Expectation) int { return b.detail() - a.detail() })
	for _, e := range order {
		if e.Kind == KindState {
			c.state(e)
			continue
		}
		i := slices.IndexFunc(c.facts, func(f *fact) bool { return !f.matched && f.At == e.At && e.matches(f) })
		if i < 0 {
			c.unmet = append(c.unmet, e)
			continue
		}
		c.facts[i].matched = true
		c.report.rows = append(c.report.rows, row{at: e.At, expected: e.String(), got: c.facts[i].String()})
	}
}

// state checks memberships when everything of the moment has happened.
func (c *comparison) state(e *Expectation) {
	in := make(map[string]bool)
	for _, f := range c.facts {
		if f.At <= e.At && (f.Kind == KindSegment || f.Kind == KindLeft) {
			in[f.Key] = f.Kind == KindSegment
		}
	}
	var wrong []string
	for _, key := range e.In {
		if !in[key] {
			wrong = append(wrong, key+" is out")
		}
	}
	for _, key := range e.NotIn {
		if in[key] {
			wrong = append(wrong, key+" is in")
		}
	}
	if len(wrong) == 0 {
		c.report.rows = append(c.report.rows, row{at: e.At, expected: e.String(), got: e.String()})
		return
	}
	got := strings.Join(wrong, ", ")
	c.fail(Failure{At: e.At, Line: e.Line, Expected: e.String(), Got: got, Message: "at " + c.moment(e.At) + ": " + got}, row{expected: e.String(), got: got})
}

// missing reports every expectation that nothing answers, with what came closest.
func (c *comparison) missing() {
	slices.SortStableFunc(c.unmet, func(a, b *Expectation) int { return cmp.Compare(a.Line, b.Line) })
	for _, e := range c.unmet {
		message := fmt.Sprintf("%s was expected at %s", e, c.moment(e.At))
		got, near := "", c.nearest(e)
		switch {
		case near == nil:
			message += "; it never came"
		case near.At == e.At:
			near.row, got = true, near.as(e)
			message += "; what came is " + got
		case e.allows(near):
			near.row = true
			message += fmt.Sprintf("; it came %s, at %s", distance(near.At-e.At), c.moment(near.At))
			c.report.rows = append(c.report.rows, row{at: near.At, got: near.as(e), differs: true})
		default:
			message += fmt.Sprintf("; the nearest is %s %s, at %s", near.as(e), distance(near.At-e.At), c.moment(near.At))
		}
		c.fail(Failure{At: e.At, Line: e.Line, Expected: e.String(), Got: got, Message: message}, row{expected: e.String(), got: got})
	}
}

// nearest finds the fact that is most like what was expected: of the same kind and name, not spoken for, closest in time.
func (c *comparison) nearest(e *Expectation) *fact {
	var best *fact
	for _, f := range c.facts {
		if f.matched || f.row || f.Kind != e.Kind || f.Key != e.Key {
			continue
		}
		if best == nil || abs(f.At-e.At) < abs(best.At-e.At) {
			best = f
		}
	}
	return best
}

// unexpected reports what nobody expects, of the kinds that `only` names.
func (c *comparison) unexpected() {
	var strict []Kind
	for _, g := range c.Only {
		strict = append(strict, groups()[g]...)
	}
	for _, f := range c.facts {
		if f.matched || f.row || !slices.Contains(strict, f.Kind) {
			continue
		}
		f.row = true
		c.fail(Failure{At: f.At, Got: f.String(), Message: fmt.Sprintf("%s came at %s and is not expected", f.String(), c.moment(f.At))}, row{got: f.String()})
	}
}

// forbidden reports what must never happen.
func (c *comparison) forbidden() {
	for i := range c.Never {
		e := &c.Never[i]
		for _, f := range c.facts {
			if f.row || !e.matches(f) {
				continue
			}
			f.row = true
			c.fail(Failure{
				At: f.At, Line: e.Line, Expected: "never " + e.String(), Got: f.String(),
				Message: fmt.Sprintf("%s came at %s and must never come", f.String(), c.moment(f.At)),
			}, row{expected: "never " + e.String(), got: f.String()})
		}
	}
}

func distance(ms int64) string {
	if ms < 0 {
		return span(-ms) + " earlier"
	}
	return span(ms) + " later"
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
