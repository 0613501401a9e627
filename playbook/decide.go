package playbook

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/experiment"
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

// Allocate moves the weights of another experiment, of the same variants, towards the arm that is probably best by the figures of
// this one. Both stand in one namespace: the users of this one are the evaluation share, whose weights never move, so that what is
// said of the arms does not depend on how the others were drawn.
type Allocate struct {
	To       string  // the experiment that gets the shares
	Floor    float64 // share that every arm keeps
	MinUsers int64   // of every arm, before anything moves
	TopTwo   bool    // half of the weight goes to the arm that is probably second
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
	f := c.fields(node, "allocate", "to", "floor", "min_users", "top_two")
	a := &Allocate{
		To: c.text(f["to"], "to"), Floor: min(0.05, 1/float64(len(e.Variants))), MinUsers: experiment.DefaultMinUsers, TopTwo: c.boolean(f["top_two"], "top_two"),
	}
	if a.To == "" {
		c.fail(node, "allocate needs to, the experiment whose weights move, such as {to: %s_rest}", e.Key)
	}
	if n := f["floor"]; n != nil {
		if err := n.Decode(&a.Floor); err != nil || !(a.Floor > 0 && a.Floor <= 1/float64(len(e.Variants))) { // written so that NaN is refused too
			c.fail(n, "floor is the share that every arm keeps: above 0, and at most 1/%d", len(e.Variants))
		}
	}
	if n := f["min_users"]; n != nil {
		a.MinUsers = int64(c.integer(n, "min_users", 1, 1_000_000_000))
	}
	e.Decide.Allocate = a
}

// allocations checks that the experiments whose weights move have the same variants, and none of the users they are moved by.
func (c *compiler) allocations(pairs []pair) {
	for _, p := range pairs {
		e := c.playbook.Experiments[p.key.Value]
		if e == nil || e.Decide.Allocate == nil || e.Decide.Allocate.To == "" {
			continue
		}
		to := c.playbook.Experiments[e.Decide.Allocate.To]
		same := func(a, b experiment.Variant) bool { return a.Key == b.Key }
		switch {
		case to == nil || to == e:
			c.fail(p.key, "experiment %s: there is no other experiment %q whose weights could move", e.Key, e.Decide.Allocate.To)
		case !slices.EqualFunc(e.Variants, to.Variants, same):
			c.fail(p.key, "experiments %s and %s must have the same variants in the same order, for the weights of one to move by the figures of the other", e.Key, to.Key)
		case e.Namespace == nil || to.Namespace == nil || e.Namespace.Name != to.Namespace.Name:
			c.fail(p.key, "experiments %s and %s must stand in one namespace, so that nobody is in both", e.Key, to.Key)
		}
	}
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
		parts = append(parts, fmt.Sprintf("move the weights of %s, with a floor of %s", a.To, percent(a.Floor)))
	}
	return strings.Join(parts, "; ")
}
