package playbook

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/segment"
)

// MetricKind is how a metric is made of what users do after their exposure.
type MetricKind string

// The kinds.
const (
	MetricProportion MetricKind = "proportion" // share of users with an event in the window
	MetricMean       MetricKind = "mean"       // events, the sum of a property, or sessions, per user
	MetricRatio      MetricKind = "ratio"      // sum over all users of one measure over that of another
	MetricRetention  MetricKind = "retention"  // share of the users whose whole window has passed with an event in it
	MetricFunnel     MetricKind = "funnel"     // share of users who took all steps in order
	MetricQuantile   MetricKind = "quantile"   // of the time to an event, or of the sum of a property, over all users
)

// MetricKinds lists the kinds, in the order above.
func MetricKinds() []MetricKind {
	return []MetricKind{MetricProportion, MetricMean, MetricRatio, MetricRetention, MetricFunnel, MetricQuantile}
}

// MeasureOf says what a measure takes of the events.
type MeasureOf string

// What a measure takes.
const (
	MeasureCount    MeasureOf = "count"    // how many
	MeasureSum      MeasureOf = "sum"      // the sum of a property
	MeasureSessions MeasureOf = "sessions" // how many sessions they make up
	MeasureSeconds  MeasureOf = "seconds"  // how long these last together
	MeasureTime     MeasureOf = "time"     // seconds from the exposure to the first
)

// Measure is a number of one user, made of the user's events in the window.
type Measure struct {
	Of       MeasureOf
	Events   []string // empty: all
	Where    *segment.Filter
	Property string        // of a sum
	Type     segment.Type  // of the property: int or number
	Gap      time.Duration // of sessions: what ends one
}

// MetricStep is a step of a funnel.
type MetricStep struct {
	Events []string
	Where  *segment.Filter
}

// MaxMetricValue bounds what a value of an event may be, as in rules; beyond it a metric cannot be read.
const MaxMetricValue = 9e12

// Metric is a question to the users of an experiment. It changes nothing in what they meet. The window [From, To] counts from the
// exposure and is closed at both ends.
type Metric struct {
	Key           string
	Description   string
	Kind          MetricKind
	Value         Measure // of a ratio the numerator
	Denominator   Measure // of a ratio
	Steps         []MetricStep
	From, To      time.Duration
	Before        time.Duration // the same measure so long before the exposure adjusts the effect; 0: it does not
	Cap           float64       // a user's value counts as no more; 0: no cap
	CapPercentile float64       // the cap is this percentile of the values that are not zero, of all arms together; 0: it is not
	Quantile      float64       // in (0, 1)
	LowerIsBetter bool
	Margin        float64 // of a guardrail: the relative loss still accepted; 0: no guardrail
}

// Definition says in plain words what the metric is.
func (m *Metric) Definition() string {
	window := "within " + segment.FormatDuration(m.To) + " of the exposure"
	if m.From > 0 {
		window = fmt.Sprintf("from %s to %s after the exposure", segment.FormatDuration(m.From), segment.FormatDuration(m.To))
	}
	text := ""
	switch m.Kind {
	case MetricProportion:
		text = "share of users with " + m.Value.text()
	case MetricRetention:
		text = "share of users with " + m.Value.text() + ", of those who have had that time"
	case MetricMean:
		text = m.Value.text() + " per user"
	case MetricRatio:
		text = m.Value.text() + " per " + m.Denominator.text()
	case MetricFunnel:
		steps := make([]string, len(m.Steps))
		for i, s := range m.Steps {
			steps[i] = strings.Join(s.Events, " or ") + whereText(s.Where)
		}
		text = "share of users who took " + strings.Join(steps, " → ") + " in this order"
	case MetricQuantile:
		text = fmt.Sprintf("%g quantile over all users of %s", m.Quantile, m.Value.text())
	}
	text += ", " + window
	switch {
	case m.CapPercentile > 0:
		text += fmt.Sprintf(", a user's value capped at the percentile %g", m.CapPercentile)
	case m.Cap > 0:
		text += fmt.Sprintf(", a user's value capped at %g", m.Cap)
	}
	return text
}

// Unit names the unit of the value; empty for shares of users.
func (m *Metric) Unit() string {
	switch m.Kind {
	case MetricProportion, MetricRetention, MetricFunnel:
		return ""
	case MetricRatio:
		return m.Value.unit() + " per " + m.Denominator.unit()
	case MetricMean, MetricQuantile:
	}
	return m.Value.unit()
}

func (m *Measure) unit() string {
	switch m.Of {
	case MeasureSum:
		return m.Property
	case MeasureSessions:
		return "sessions"
	case MeasureSeconds, MeasureTime:
		return "seconds"
	case MeasureCount:
	}
	return "events"
}

func (m *Measure) text() string {
	events := strings.Join(m.Events, " or ") + whereText(m.Where)
	if events == "" {
		events = "any event"
	}
	switch m.Of {
	case MeasureSum:
		return "sum of " + m.Property + " over " + events
	case MeasureSessions:
		return "sessions of " + events + " with gaps under " + segment.FormatDuration(m.Gap)
	case MeasureSeconds:
		return "seconds in sessions of " + events + " with gaps under " + segment.FormatDuration(m.Gap)
	case MeasureTime:
		return "seconds from the exposure to the first " + events
	case MeasureCount:
	}
	return events
}

func whereText(where *segment.Filter) string {
	if where == nil {
		return ""
	}
	return " where " + oneLine(where.Source)
}

// metricKeys lists the keys of each kind of metric, besides those that all have.
func metricKeys(kind MetricKind) []string {
	keys := map[MetricKind][]string{
		MetricProportion: {"event", "where", "delay", "within"},
		MetricMean:       {"event", "where", "value", "sessions", "delay", "within", "before", "cap"},
		MetricRatio:      {"event", "where", "numerator", "denominator", "sessions", "delay", "within"},
		MetricRetention:  {"event", "where", "from", "to"},
		MetricFunnel:     {"steps", "delay", "within"},
		MetricQuantile:   {"event", "where", "value", "q", "delay", "within"},
	}
	return append([]string{"description", "kind", "direction", "guardrail"}, keys[kind]...)
}

func (c *compiler) metrics(node *yaml.Node) {
	for _, p := range c.mapping(node, "metrics") {
		key := c.key(p.key, "metric")
		if p.value.Kind != yaml.MappingNode || valueNode(p.value, "kind") == nil {
			c.fail(p.key, "metric %s needs a kind, such as {kind: proportion, event: activated, within: 14d}", key)
			continue
		}
		m := &Metric{Key: key, Kind: MetricKind(valueNode(p.value, "kind").Value)}
		if !slices.Contains(MetricKinds(), m.Kind) {
			kinds := make([]string, 0, len(MetricKinds()))
			for _, k := range MetricKinds() {
				kinds = append(kinds, string(k))
			}
			c.misspelled(valueNode(p.value, "kind"), string(m.Kind), kinds, "kind %q is none; the kinds are: %s", m.Kind, strings.Join(kinds, ", "))
			continue
		}
		f := c.fields(p.value, "a metric of kind "+string(m.Kind), metricKeys(m.Kind)...)
		m.Description = c.text(f["description"], "description")
		c.metricWindow(p, m, f)
		c.metricValue(p.key, m, f)
		c.metricCap(m, f["cap"])
		c.metricJudgement(m, f)
		c.playbook.Metrics[key] = m
	}
}

// valueNode finds the value of a key of a mapping; nil where it is not.
func valueNode(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// metricWindow reads delay and within, or from and to.
func (c *compiler) metricWindow(p pair, m *Metric, f map[string]*yaml.Node) {
	if m.Kind == MetricRetention {
		if f["from"] == nil || f["to"] == nil {
			c.fail(p.key, "metric %s needs from and to, such as {from: 7d, to: 14d}", m.Key)
			return
		}
		m.From, m.To = c.metricDuration(f["from"], "from"), c.duration(f["to"], "to")
		if m.From >= m.To && m.To > 0 {
			c.fail(f["to"], "to must come after from")
		}
		return
	}
	if f["within"] == nil {
		c.fail(p.key, "metric %s needs within: how long after the exposure counts, such as 14d", m.Key)
		return
	}
	m.From = c.metricDuration(f["delay"], "delay")
	m.To = m.From + c.duration(f["within"], "within")
	m.Before = c.duration(f["before"], "before")
}

// metricDuration reads a duration that may be none at all.
func (c *compiler) metricDuration(node *yaml.Node, what string) time.Duration {
	if node != nil && node.Kind == yaml.ScalarNode && (node.Value == "0" || node.Value == "0s") {
		return 0
	}
	return c.duration(node, what)
}

// metricValue reads what the value of a user is made of.
func (c *compiler) metricValue(key *yaml.Node, m *Metric, f map[string]*yaml.Node) {
	switch {
	case m.Kind == MetricFunnel:
		c.metricSteps(key, m, f["steps"])
	case m.Kind == MetricRatio && f["sessions"] == nil:
		if f["event"] != nil || f["where"] != nil || f["numerator"] == nil || f["denominator"] == nil {
			c.fail(key, "metric %s needs a numerator and a denominator, such as {event: order, value: total}; or sessions: 30m", m.Key)
			return
		}
		m.Value, m.Denominator = c.measure(f["numerator"], "numerator"), c.measure(f["denominator"], "denominator")
	case f["sessions"] != nil:
		if f["value"] != nil || f["numerator"] != nil || f["denominator"] != nil {
			c.fail(f["sessions"], "sessions are a value of their own: they stand without value, numerator and denominator")
		}
		gap := c.duration(f["sessions"], "sessions")
		m.Value = Measure{Of: MeasureSessions, Events: c.eventList(f["event"], "event"), Gap: gap}
		m.Value.Where = c.metricWhere(f["where"], m.Value.Events)
		if m.Kind == MetricRatio {
			m.Denominator = m.Value
			m.Value.Of = MeasureSeconds
		}
	default:
		m.Value = c.measureOf(key, f, "metric "+m.Key)
	}
	if m.Kind == MetricQuantile {
		c.quantile(key, m, f["q"])
	}
}

func (c *compiler) quantile(key *yaml.Node, m *Metric, q *yaml.Node) {
	if m.Value.Of == MeasureCount {
		m.Value.Of = MeasureTime
	}
	if q == nil {
		c.fail(key, "metric %s needs q: which quantile, such as 0.5 for the median", m.Key)
		return
	}
	if err := q.Decode(&m.Quantile); err != nil || !(m.Quantile > 0 && m.Quantile < 1) { // written so that NaN is refused too
		c.fail(q, "q must be a number between 0 and 1")
	}
}

func (c *compiler) metricSteps(key *yaml.Node, m *Metric, node *yaml.Node) {
	const least, most = 2, 20
	if node == nil || node.Kind != yaml.SequenceNode || len(node.Content) < least || len(node.Content) > most {
		c.fail(key, "metric %s needs steps: a list of %d to %d events, in order", m.Key, least, most)
		return
	}
	for _, item := range node.Content {
		s := MetricStep{}
		if item.Kind == yaml.MappingNode {
			f := c.fields(item, "a step of a funnel", "event", "where")
			s.Events = c.eventList(f["event"], "event")
			s.Where = c.metricWhere(f["where"], s.Events)
		} else {
			s.Events = c.eventList(item, "step")
		}
		if len(s.Events) == 0 {
			c.fail(item, "a step is an event, or {event: …, where: …}")
		}
		m.Steps = append(m.Steps, s)
	}
}

// measure reads a measure that stands by itself.
func (c *compiler) measure(node *yaml.Node, what string) Measure {
	if node.Kind != yaml.MappingNode {
		c.fail(node, "%s must be a measure such as {event: order, value: total}", what)
		return Measure{}
	}
	return c.measureOf(node, c.fields(node, what, "event", "where", "value"), what)
}

func (c *compiler) measureOf(at *yaml.Node, f map[string]*yaml.Node, what string) Measure {
	m := Measure{Of: MeasureCount, Events: c.eventList(f["event"], "event")}
	if len(m.Events) == 0 {
		c.fail(at, "%s needs an event", what)
		return m
	}
	m.Where = c.metricWhere(f["where"], m.Events)
	if f["value"] == nil {
		return m
	}
	m.Of, m.Property = MeasureSum, c.text(f["value"], "value")
	for _, event := range m.Events {
		declared, ok := c.playbook.Plan.Events[event][m.Property]
		switch {
		case !c.playbook.Set.Declares(event): // reported
		case !ok:
			c.misspelled(f["value"], m.Property, slices.Sorted(maps.Keys(c.playbook.Plan.Events[event])), "event %s has no property %q", event, m.Property)
		case declared != segment.Int && declared != segment.Number || m.Type != "" && m.Type != declared:
			c.fail(f["value"], "%s of %s is a %s; a value is a number or an int, and of all events the same", m.Property, event, declared)
		}
		m.Type = declared
	}
	return m
}

// metricWhere compiles a filter that ClickHouse can answer.
func (c *compiler) metricWhere(node *yaml.Node, events []string) *segment.Filter {
	if node != nil && len(events) == 0 {
		c.fail(node, "where looks at the properties of an event: it needs event beside it")
		return nil
	}
	where := c.filter(node, events, nil)
	if where == nil {
		return nil
	}
	if _, err := where.SQL("properties"); err != nil {
		c.ruleProblems(node, "where", []error{err})
	}
	return where
}

func (c *compiler) metricCap(m *Metric, node *yaml.Node) {
	if node == nil {
		return
	}
	if node.Kind != yaml.MappingNode {
		if err := node.Decode(&m.Cap); err != nil || !(m.Cap > 0 && m.Cap <= MaxMetricValue) { // written so that NaN is refused too
			c.fail(node, "cap must be a number above 0, or a percentile such as {percentile: 99}")
		}
		return
	}
	f := c.fields(node, "cap", "percentile")
	if f["percentile"] == nil {
		c.fail(node, "cap must be a number above 0, or a percentile such as {percentile: 99}")
		return
	}
	if err := f["percentile"].Decode(&m.CapPercentile); err != nil || !(m.CapPercentile >= 50 && m.CapPercentile < 100) {
		c.fail(f["percentile"], "percentile must be a number from 50 up to, not including, 100")
	}
}

// metricJudgement reads what counts as better, and how much worse is still accepted.
func (c *compiler) metricJudgement(m *Metric, f map[string]*yaml.Node) {
	switch direction := c.text(f["direction"], "direction"); direction {
	case "", "up":
	case "down":
		m.LowerIsBetter = true
	default:
		c.fail(f["direction"], "direction must be up or down: which change is better")
	}
	if f["guardrail"] == nil {
		return
	}
	g := c.fields(f["guardrail"], "guardrail", "margin")
	if g["margin"] == nil {
		c.fail(f["guardrail"], "guardrail needs margin: the loss still accepted, such as {margin: 0.05} for 5 %%")
		return
	}
	if err := g["margin"].Decode(&m.Margin); err != nil || !(m.Margin > 0 && m.Margin < 1) {
		c.fail(g["margin"], "margin must be a number between 0 and 1")
	}
}
