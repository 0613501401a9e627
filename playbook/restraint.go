package playbook

import (
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/segment"
)

// What keeps actions back: limits, quiet hours, the holdout.

func (c *compiler) limits(node *yaml.Node) {
	if node.Kind != yaml.SequenceNode {
		c.limit(node)
		return
	}
	for _, item := range node.Content {
		c.limit(item)
	}
}

func (c *compiler) limit(node *yaml.Node) {
	f := c.fields(node, "limit", "actions", "per", "category")
	if f["actions"] == nil || f["per"] == nil {
		c.fail(node, "limit needs actions and per, such as {actions: 3, per: 7d} or {actions: 1, per: day}")
		return
	}
	l := Limit{Actions: c.integer(f["actions"], "actions", 1, 1000), Category: c.text(f["category"], "category")}
	if f["per"].Value == "day" {
		l.Daily, l.Per = true, 48*time.Hour // no day is longer, whatever the clocks do
	} else {
		l.Per = c.duration(f["per"], "per")
	}
	if l.Category != "" && c.playbook.Consent[l.Category] == nil {
		c.misspelled(f["category"], l.Category, keysOf(c.playbook.Consent), "category %q has no rule under consent", l.Category)
	}
	c.playbook.Limits = append(c.playbook.Limits, l)
}

func (c *compiler) quiet(node *yaml.Node) {
	f := c.fields(node, "quiet", "from", "to")
	if f["from"] == nil || f["to"] == nil {
		c.fail(node, "quiet needs from and to, such as {from: \"21:00\", to: \"08:00\"}")
		return
	}
	span := segment.Span{From: c.clock(f["from"], "from"), To: c.clock(f["to"], "to")}
	if span.From == span.To {
		c.fail(node, "quiet hours from %s to %s are no time at all, or all of it", span.From, span.To)
	}
	c.playbook.Quiet = &span
}

func (c *compiler) holdout(node *yaml.Node) {
	f := c.fields(node, "holdout", "share", "seed")
	var share float64
	if f["share"] == nil {
		c.fail(node, "holdout needs share, such as {share: 0.05}")
		return
	}
	if err := f["share"].Decode(&share); err != nil || !(share > 0 && share < 1) { // written so that NaN is refused too
		c.fail(f["share"], "share must be a number between 0 and 1")
		return
	}
	seed := HoldoutKey
	if f["seed"] != nil {
		seed = c.text(f["seed"], "seed")
	}
	c.playbook.Holdout = &experiment.Experiment{
		Key: HoldoutKey, Seed: seed, HashVersion: experiment.HashV2, Coverage: 1,
		Variants: []experiment.Variant{{Key: HeldOut, Weight: share}, {Key: Treated, Weight: 1 - share}},
	}
}
