package playbook

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/segment"
)

// newPlan returns an empty tracking plan.
func newPlan() segment.Plan {
	return segment.Plan{
		Events: make(map[string]segment.Properties), Traits: make(segment.Properties), Scores: make(map[string]string),
		Docs: make(map[string]segment.EventDoc), TraitDocs: make(map[string]string),
	}
}

// planSections are the top-level keys that make up the tracking plan: they are read before everything that has a rule.
func planSections() []string { return []string{"events", "traits", "scores", "zone"} }

func (c *compiler) planSection(name string, node *yaml.Node) {
	switch name {
	case "events":
		c.events(node)
	case "traits":
		for _, p := range c.properties(node, "traits") {
			if p.required {
				c.fail(p.node, "trait %s cannot be required: a trait comes with any event, or with none", p.name)
			}
			c.playbook.Plan.Traits[p.name] = p.declared
			if p.description != "" {
				c.playbook.Plan.TraitDocs[p.name] = p.description
			}
		}
	case "scores":
		c.scores(node)
	case "zone":
		c.zone(node)
	}
}

func (c *compiler) events(node *yaml.Node) {
	for _, p := range c.mapping(node, "events") {
		name := p.key.Value
		if name == "" || len(name) > 200 {
			c.fail(p.key, "an event's name has 1 to 200 bytes")
		}
		f := c.fields(p.value, "event "+name, "description", "properties")
		doc := segment.EventDoc{Description: c.text(f["description"], "description"), Properties: make(map[string]string)}
		declared := make(segment.Properties)
		if f["properties"] != nil {
			for _, property := range c.properties(f["properties"], "properties of "+name) {
				declared[property.name] = property.declared
				if property.required {
					doc.Required = append(doc.Required, property.name)
				}
				if property.description != "" {
					doc.Properties[property.name] = property.description
				}
			}
		}
		slices.Sort(doc.Required)
		c.playbook.Plan.Events[name] = declared
		c.playbook.Plan.Docs[name] = doc
	}
}

// property is a property or trait as it is declared: `total: number`, or `total: {type: number, required: true, description: …}`.
type property struct {
	name        string
	declared    segment.Type
	required    bool
	description string
	node        *yaml.Node
}

func (c *compiler) properties(node *yaml.Node, what string) []property {
	var declared []property
	for _, p := range c.mapping(node, what) {
		d := property{name: c.key(p.key, "name"), node: p.key}
		typeNode := p.value
		if p.value.Kind == yaml.MappingNode {
			f := c.fields(p.value, p.key.Value, "type", "required", "description")
			if typeNode = f["type"]; typeNode == nil {
				c.fail(p.key, "%s needs a type, such as {type: string}", p.key.Value)
				continue
			}
			d.description = c.text(f["description"], "description")
			d.required = c.boolean(f["required"], "required")
		}
		d.declared = segment.Type(c.text(typeNode, "the type of "+p.key.Value))
		if !slices.Contains(segment.Types(), d.declared) {
			c.misspelled(typeNode, string(d.declared), typeNames(), "%q is not a type; the types are: string, int, number, bool, timestamp, list", d.declared)
		}
		declared = append(declared, d)
	}
	return declared
}

// scores declares scores: numbers that a service computes and sends as traits.
func (c *compiler) scores(node *yaml.Node) {
	for _, p := range c.mapping(node, "scores") {
		key := c.key(p.key, "score")
		f := c.fields(p.value, "score "+key, "description")
		trait := segment.ScoreTrait(key)
		if _, twice := c.playbook.Plan.Traits[trait]; twice {
			c.fail(p.key, "score %s lives in the trait %s, which stands under traits already", key, trait)
		}
		c.playbook.Plan.Traits[trait] = segment.Number
		c.playbook.Plan.Scores[key] = c.text(f["description"], "description")
	}
}

func (c *compiler) zone(node *yaml.Node) {
	f := c.fields(node, "zone", "trait", "default")
	zone := &c.playbook.Plan.Zone
	if f["trait"] == nil && f["default"] == nil {
		c.fail(node, "zone needs a trait or a default, such as {trait: timezone, default: Europe/Berlin}")
		return
	}
	zone.Trait = c.text(f["trait"], "trait")
	if declared, ok := c.playbook.Plan.Traits[zone.Trait]; f["trait"] != nil && (!ok || declared != segment.String) {
		c.misspelled(f["trait"], zone.Trait, keysOf(c.playbook.Plan.Traits), "zone: %q is no trait that is declared as string", zone.Trait)
	}
	if f["default"] == nil {
		return
	}
	name := c.text(f["default"], "default")
	location, ok := segment.Location(name)
	if !ok {
		c.fail(f["default"], "%q is not a zone; zones are named like Europe/Berlin%s", name, offsetHint(name))
		return
	}
	zone.Default = location
}

func offsetHint(name string) string {
	if strings.ContainsAny(name, "+-") || strings.HasPrefix(name, "GMT") || strings.HasPrefix(name, "UTC") {
		return ", not by their distance from UTC: that changes twice a year in most of them"
	}
	return ""
}
