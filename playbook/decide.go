package playbook

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/segment"
)

// Decide says what may be decided by the figures of an experiment, which hold however often one looks. The zero value decides
// nothing.
type Decide struct {
	PauseOnGuardrail bool          // an arm whose guardrail is breached is taken out, at any time
	StopForWinner    bool          // the experiment ends once an arm has won
	AtLeast          time.Duration // that it runs before it ends for a winner; a guardrail does not wait
	Allocate         *Allocate     // nil: shares do not move
}

// Allocate moves the shares of the arms towards the one that is probably best.
type Allocate struct {
	Floor      float64 // share that every arm keeps
	Evaluation float64 // share of the users who get every arm alike; the effects are those of these users
	MinUsers   int64   // of every arm, before anything moves
	TopTwo     bool    // half of the weight goes to the arm that is probably second
}

// decide reads what may be decided of an experiment.
func (c *compiler) decide(node *yaml.Node, e *Experiment) {
	if node == nil {
		return
	}
	f := c.fields(node, "decide", "pause_on_guardrail", "stop_for_winner", "at_least", "allocate")
	e.Decide = Decide{
		PauseOnGuardrail: c.boolean(f["pause_on_guardrail"], "pause_on_guardrail"),
		StopForWinner:    c.boolean(f["stop_for_winner"], "stop_for_winner"),
		AtLeast:          c.duration(f["at_least"], "at_least"),
	}
	if e.Decide.PauseOnGuardrail && !c.guarded(e) {
		c.fail(f["pause_on_guardrail"], "experiment %s has no guardrail among its metrics, such as {kind: mean, event: x, within: 14d, guardrail: {margin: 0.1}}", e.Key)
	}
	if e.Decide.StopForWinner && e.Primary == "" {
		c.fail(f["stop_for_winner"], "experiment %s has no metric that decides: name one under primary", e.Key)
	}
	if n := f["allocate"]; n != nil {
		c.allocate(n, e)
	}
}

func (c *compiler) guarded(e *Experiment) bool {
	for _, key := range e.Metrics {
		if m := c.playbook.Metrics[key]; m != nil && m.Margin > 0 {
			return true
		}
	}
	return false
}

func (c *compiler) allocate(node *yaml.Node, e *Experiment) {
	f := c.fields(node, "allocate", "floor", "evaluation", "min_users", "top_two")
	a := &Allocate{Floor: 0.05, Evaluation: 0.2, MinUsers: 100, TopTwo: c.boolean(f["top_two"], "top_two")}
	most := 1 / float64(len(e.Variants))
	if n := f["floor"]; n != nil {
		if err := n.Decode(&a.Floor); err != nil || !(a.Floor > 0 && a.Floor <= most) { // written so that NaN is refused too
			c.fail(n, "floor is the share that every arm keeps: above 0, and at most 1/%d", len(e.Variants))
		}
	}
	if n := f["evaluation"]; n != nil {
		if err := n.Decode(&a.Evaluation); err != nil || !(a.Evaluation > 0 && a.Evaluation <= 1) {
			c.fail(n, "evaluation is the share of users who get every arm alike: above 0, and at most 1")
		}
	}
	if n := f["min_users"]; n != nil {
		a.MinUsers = int64(c.integer(n, "min_users", 1, 1_000_000_000))
	}
	e.Decide.Allocate = a
}

// Text says in a few words what may be decided; empty for nothing.
func (d Decide) Text() string {
	var parts []string
	if d.PauseOnGuardrail {
		parts = append(parts, "pause an arm whose guardrail is breached")
	}
	if d.StopForWinner {
		text := "stop for a winner"
		if d.AtLeast > 0 {
			text += " after " + segment.FormatDuration(d.AtLeast)
		}
		parts = append(parts, text)
	}
	if a := d.Allocate; a != nil {
		parts = append(parts, fmt.Sprintf("move shares, with a floor of %s and an evaluation share of %s", percent(a.Floor), percent(a.Evaluation)))
	}
	return strings.Join(parts, "; ")
}
