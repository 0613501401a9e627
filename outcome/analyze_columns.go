package outcome

import (
	"fmt"
	"math"
	"strings"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/segment"
)

// An analysis is one query in layers, each a common table expression:
//
//	exposed  one row per user: variant, moment and segments of the first exposure
//	events   one row per user: the times, and the values, of the events that the metrics look at, as arrays
//	users    the two joined: the value of each metric
//	cells    one row per variant and set of segments: sums of values and of products of values
//
// and at last one row per variant and segment. Values are integers, counts or millionths, so that nothing is rounded.

// outOfRange stands in an array of values for one beyond playbook.MaxMetricValue.
const outOfRange = "toInt64(-9223372036854775808)"

// never is later than everything.
const never = "toInt64(9223372036854775807)"

// choice is events of some names that pass a filter: the array of their times, and where a property is wanted that of its values.
type choice struct {
	name      string
	condition string // on a row of events
	value     string // expression of Nullable(Float64); empty: none
}

// valueColumn is a value of a user and how many decimals the integer has. Names are a word, an underscore and a key: no key of
// a playbook makes two of them alike.
type valueColumn struct {
	name     string
	decimals int
	label    string // for people
}

// metricColumns is where the parts of one metric stand.
type metricColumns struct {
	metric     *playbook.Metric
	outcome    []valueColumn
	covariates []valueColumn
	eligible   string // condition on a user; empty: all
	sample     string // of a quantile: the array of values
	beyond     string // how many values were out of range; empty: none can be
	stepTimes  []string
}

// builder writes the query of an analysis.
type builder struct {
	exposed    exposedSQL
	variants   []string
	covariates []string
	plan       segment.Plan
	caps       map[string]experiment.Cap
	looks      []int64
	everyone   bool

	picks    []choice
	anyEvent bool
	events   map[string]bool
	users    []string // expressions of the users layer: … AS name
	sums     []string // aggregates of the cells layer
	arrays   []string // aggregates that gather samples
	metrics  []metricColumns
}

func millis(d interface{ Milliseconds() int64 }) int64 { return d.Milliseconds() }

// pick returns the name of the array of a measure's events.
func (b *builder) pick(events []string, where *segment.Filter, property string, declared segment.Type) string {
	condition := "true"
	if len(events) > 0 {
		condition = "has(" + quoteList(events) + ", event_name)"
		if len(events) == 1 {
			condition = "event_name = " + segment.QuoteSQL(events[0])
		}
		for _, event := range events {
			b.events[event] = true
		}
	} else {
		b.anyEvent = true
	}
	p := choice{condition: condition}
	if where != nil {
		text, err := where.SQL("properties")
		if err != nil {
			text = "false" // cannot be: the playbook is compiled with the same check
		}
		p.condition = "if(" + condition + ", " + text + ", false)"
	}
	if property != "" {
		p.value, _ = segment.PropertySQL("properties", property, declared)
	}
	for _, other := range b.picks {
		if other.condition == p.condition && other.value == p.value {
			return other.name
		}
	}
	p.name = fmt.Sprintf("p%d", len(b.picks)+1)
	b.picks = append(b.picks, p)
	return p.name
}

func (b *builder) measure(m *playbook.Measure) string {
	return b.pick(m.Events, m.Where, m.Property, m.Type)
}

// user adds an expression to the users layer.
func (b *builder) user(name, expression string) {
	b.users = append(b.users, expression+" AS "+name)
}

// add puts a metric into the query.
func (b *builder) add(m *playbook.Metric) {
	c := metricColumns{metric: m}
	name, at := "m_"+m.Key, "at_"+m.Key
	low, high := fmt.Sprintf("t0 + %d", millis(m.From)), fmt.Sprintf("t0 + %d", millis(m.To))
	switch m.Kind {
	case playbook.MetricProportion, playbook.MetricRetention:
		b.user(at, firstIn(b.measure(&m.Value), low, high))
		b.user(name, "toUInt8("+at+" < "+never+")")
		c.outcome = []valueColumn{{name, 0, m.Key}}
	case playbook.MetricFunnel:
		c.stepTimes = b.funnel(m, low, high)
		b.user(name, "toUInt8("+c.stepTimes[len(c.stepTimes)-1]+" < "+never+")")
		c.outcome = []valueColumn{{name, 0, m.Key}}
	case playbook.MetricMean:
		c.outcome = []valueColumn{b.value(name, m.Key, m, &m.Value, low, high)}
		c.beyond = b.beyond("beyond_"+m.Key, &m.Value, low, high)
		if m.Before > 0 {
			before := fmt.Sprintf("t0 - %d", millis(m.Before))
			c.covariates = []valueColumn{b.value("before_"+m.Key, m.Key+" before the exposure", m, &m.Value, before, "t0 - 1")}
		}
	case playbook.MetricRatio:
		c.outcome = []valueColumn{
			b.value(name, m.Key+" numerator", m, &m.Value, low, high), b.value("per_"+m.Key, m.Key+" denominator", m, &m.Denominator, low, high),
		}
		c.beyond = b.beyond("beyond_"+m.Key, &m.Value, low, high)
		if m.Denominator.Of == playbook.MeasureSum && c.beyond == "" {
			c.beyond = b.beyond("beyondper_"+m.Key, &m.Denominator, low, high)
		}
	case playbook.MetricQuantile:
		b.quantile(&c, low, high)
	}
	if m.Kind == playbook.MetricRetention {
		c.eligible = fmt.Sprintf("t0 + %d <= %d", millis(m.To), b.exposed.until)
	}
	if m.Kind != playbook.MetricQuantile {
		for _, trait := range b.covariates {
			c.covariates = append(c.covariates, valueColumn{"x_" + trait, 6, trait}, valueColumn{"unknown_" + trait, 0, trait + " unknown"})
		}
	}
	b.metrics = append(b.metrics, c)
}

// firstIn is the time of the first event within two moments, both included; never where there is none.
func firstIn(times, low, high string) string {
	return fmt.Sprintf("arrayMin(arrayPushBack(arrayFilter(t -> t >= %s AND t <= %s, %s_t), %s))", low, high, times, never)
}

// funnel takes the first event of each step at or after that of the step before: after it where both steps take the same event,
// for one event is one step. Nothing comes at or after never.
func (b *builder) funnel(m *playbook.Metric, low, high string) []string {
	names := make([]string, len(m.Steps))
	after, last := "t >= "+low, ""
	for i, s := range m.Steps {
		names[i] = fmt.Sprintf("step%d_%s", i+1, m.Key)
		times := b.pick(s.Events, s.Where, "", "")
		if times == last {
			after = "t > " + names[i-1]
		}
		b.user(names[i], fmt.Sprintf("arrayMin(arrayPushBack(arrayFilter(t -> %s AND t <= %s, %s_t), %s))", after, high, times, never))
		after, last = "t >= "+names[i], times
	}
	return names
}

// value adds the value of a measure within two moments to the users layer.
func (b *builder) value(name, label string, m *playbook.Metric, measure *playbook.Measure, low, high string) valueColumn {
	times := b.measure(measure)
	in := fmt.Sprintf("t >= %s AND t <= %s", low, high)
	text, decimals := "", 0
	switch measure.Of {
	case playbook.MeasureSum:
		text = fmt.Sprintf("arraySum((t, v) -> if(%s AND v != %s, toInt128(v), toInt128(0)), %s_t, %[3]s_v)", in, outOfRange, times)
		decimals = 6
	case playbook.MeasureSessions:
		gaps := fmt.Sprintf("arrayDifference(arraySort(arrayFilter(t -> %s, %s_t)))", in, times)
		text = fmt.Sprintf("toInt64(notEmpty(%s)) + toInt64(arrayCount(d -> d >= %d, %[1]s))", gaps, millis(measure.Gap))
	case playbook.MeasureSeconds:
		text = fmt.Sprintf("arraySum(d -> if(d < %d, d, 0), arrayDifference(arraySort(arrayFilter(t -> %s, %s_t))))", millis(measure.Gap), in, times)
		decimals = 3
	case playbook.MeasureCount, playbook.MeasureTime:
		text = fmt.Sprintf("toInt64(arrayCount(t -> %s, %s_t))", in, times)
	}
	if limit, ok := b.limit(m, decimals); ok {
		text = fmt.Sprintf("least(%s, %s)", text, limit)
	}
	b.user(name, text)
	return valueColumn{name, decimals, label}
}

// limit is the cap of a metric as an integer of so many decimals.
func (b *builder) limit(m *playbook.Metric, decimals int) (string, bool) {
	limit := m.Cap
	if found, ok := b.caps[m.Key]; ok {
		limit = found.Value
	}
	if limit == 0 {
		return "", false
	}
	kind := "toInt64"
	if decimals == 6 {
		kind = "toInt128"
	}
	return fmt.Sprintf("%s('%.0f')", kind, math.Round(limit*math.Pow10(decimals))), true
}

// beyond counts the values within two moments that are out of range.
func (b *builder) beyond(name string, measure *playbook.Measure, low, high string) string {
	if measure.Of != playbook.MeasureSum {
		return ""
	}
	b.user(name, fmt.Sprintf("arrayCount((t, v) -> t >= %s AND t <= %s AND v = %s, %s_t, %[4]s_v)", low, high, outOfRange, b.measure(measure)))
	return "sum(" + name + ")"
}

// quantile gathers the values of an arm: times of those who did it, or sums that are not zero. Who is not among them stands at the
// end of the window, or at zero.
func (b *builder) quantile(c *metricColumns, low, high string) {
	m := c.metric
	name, at := "m_"+m.Key, "at_"+m.Key
	if m.Value.Of == playbook.MeasureTime {
		b.user(at, firstIn(b.measure(&m.Value), low, high))
		b.user(name, fmt.Sprintf("if(%[1]s = %[2]s, %[2]s, %[1]s - t0)", at, never))
		c.sample = fmt.Sprintf("groupArrayIf(toInt128(%s), %[1]s < %s)", name, never)
		c.outcome = []valueColumn{{name, 3, m.Key}}
		return
	}
	c.outcome = []valueColumn{b.value(name, m.Key, m, &m.Value, low, high)}
	c.beyond = b.beyond("beyond_"+m.Key, &m.Value, low, high)
	c.sample = fmt.Sprintf("groupArrayIf(toInt128(%s), %[1]s != 0)", name)
}

// sum adds an aggregate to the cells layer and returns where it stands.
func (b *builder) sum(text string) int {
	for i, other := range b.sums {
		if other == text {
			return i
		}
	}
	b.sums = append(b.sums, text)
	return len(b.sums) - 1
}

// list joins texts, one a line.
func list(items []string, indent string) string { return strings.Join(items, ",\n"+indent) }
