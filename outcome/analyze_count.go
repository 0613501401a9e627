package outcome

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
)

// builder returns a builder of the analysis without metrics.
func (a *analysis) builder() *builder {
	return &builder{
		exposed: a.exposed, variants: a.variants(), plan: a.book.Plan, caps: a.caps, everyone: a.everyone, events: make(map[string]bool),
		covariates: a.spec.Covariates,
	}
}

// findCaps finds the caps that are percentiles: of the values that are not zero, of all arms together.
func (a *analysis) findCaps(ctx context.Context) error {
	b := a.builder()
	b.covariates = nil
	var columns []string
	var capped []*playbook.Metric
	for _, m := range a.metrics {
		if m.CapPercentile == 0 || len(a.spec.Arms) == 0 {
			continue
		}
		plain := *m
		plain.Before = 0
		b.add(&plain)
		c := b.metrics[len(b.metrics)-1].outcome[0]
		columns = append(columns, fmt.Sprintf("toFloat64(quantileExactIf(%g)(%s, %[2]s != 0)) / 1e%d", m.CapPercentile/100, c.name, c.decimals))
		capped = append(capped, m)
	}
	if len(capped) == 0 {
		return nil
	}
	sql := b.layers() + "\nSELECT [" + list(columns, "    ") + "] AS caps\nFROM users"
	a.asked("caps", sql)
	var caps []float64
	if err := a.one(ctx, sql+"\n"+a.settings(), &caps); err != nil {
		return err
	}
	for i, m := range capped {
		if caps[i] > 0 && !math.IsInf(caps[i], 0) { // nobody has any: nothing to cap
			a.caps[m.Key] = experiment.Cap{Value: caps[i], Percentile: m.CapPercentile}
		}
	}
	return nil
}

// counted is where the aggregates of one analysis stand.
type counted struct {
	moments []momentsAt // of each metric
	samples []int       // of each metric; −1: none
	beyond  []int       // of each metric; −1: none
	cut     []int       // of each metric: users at the cap; −1: none
	steps   [][]int     // of each metric
	looks   []momentsAt
	users   int
	before  int // users with the primary event before their exposure alone; −1: not counted
}

// count runs the one pass over the events, and hands over what it counted.
func (a *analysis) count(ctx context.Context) error {
	if len(a.spec.Arms) == 0 {
		return nil
	}
	b := a.builder()
	for _, m := range a.metrics {
		b.add(m)
	}
	b.traitColumns()
	at := a.layout(b)
	sql := b.query()
	a.asked("moments", sql)
	a.asked("users", b.perUser())
	a.describe(b)
	return a.each(ctx, sql+"\n"+a.settings(), func(rows driver.Rows) error {
		var variant, segment string
		var texts []string
		var samples [][]float64
		if err := rows.Scan(&variant, &segment, &texts, &samples); err != nil {
			return err
		}
		sums := make([]*big.Int, len(texts))
		for i, text := range texts {
			var ok bool
			if sums[i], ok = new(big.Int).SetString(text, 10); !ok {
				return fmt.Errorf("read a sum: %q is no integer", text)
			}
		}
		a.take(b, at, variant, segment, sums, samples)
		return nil
	})
}

// layout asks for the aggregates of all metrics.
func (a *analysis) layout(b *builder) counted {
	at := counted{users: b.sum("count()"), before: -1}
	for _, m := range b.metrics {
		var moments momentsAt
		sample, beyond, cut := -1, -1, -1
		switch {
		case m.sample != "":
			sample = len(b.arrays)
			b.arrays = append(b.arrays, m.sample)
		default:
			moments = b.moments(slices.Concat(m.outcome, m.covariates), m.eligible)
		}
		if m.beyond != "" {
			beyond = b.sum(m.beyond)
		}
		if limit, ok := b.limit(m.metric, m.outcome[0].decimals); ok {
			cut = b.sum(fmt.Sprintf("countIf(%s >= %s)", m.outcome[0].name, limit))
		}
		var steps []int
		for _, step := range m.stepTimes {
			steps = append(steps, b.sum("countIf("+step+" < "+never+")"))
		}
		at.moments, at.samples, at.beyond = append(at.moments, moments), append(at.samples, sample), append(at.beyond, beyond)
		at.cut, at.steps = append(at.cut, cut), append(at.steps, steps)
	}
	if len(b.metrics) > 0 && b.metrics[0].metric.Kind == playbook.MetricProportion {
		first := b.metrics[0].metric
		early := "early_" + first.Key
		b.user(early, fmt.Sprintf("arrayExists(t -> t < t0, %s_t)", b.measure(&first.Value)))
		at.before = b.sum(fmt.Sprintf("countIf(NOT m_%s AND %s)", first.Key, early))
	}
	at.looks = a.lookColumns(b)
	return at
}

// lookColumns asks for the primary metric as it stood at earlier moments: users exposed by then, and what they had done by then.
func (a *analysis) lookColumns(b *builder) []momentsAt {
	if a.opts.Looks == 0 || len(b.metrics) == 0 || a.data.Started == 0 || a.until <= a.data.Started {
		return nil
	}
	m := b.metrics[0]
	var list []momentsAt
	for i := range a.opts.Looks {
		at := a.data.Started + (a.until-a.data.Started)*int64(i+1)/int64(a.opts.Looks)
		b.looks = append(b.looks, at)
		name, eligible := fmt.Sprintf("look%d_%s", i+1, m.metric.Key), fmt.Sprintf("t0 <= %d", at)
		var outcome []valueColumn
		low, high := fmt.Sprintf("t0 + %d", millis(m.metric.From)), fmt.Sprintf("least(t0 + %d, %d)", millis(m.metric.To), at)
		switch m.metric.Kind {
		case playbook.MetricRetention:
			eligible = fmt.Sprintf("t0 + %d <= %d", millis(m.metric.To), at)
			fallthrough
		case playbook.MetricProportion:
			b.user(name, fmt.Sprintf("toUInt8(at_%s <= %d)", m.metric.Key, at))
			outcome = []valueColumn{{name, 0, ""}}
		case playbook.MetricFunnel:
			b.user(name, fmt.Sprintf("toUInt8(%s <= %d)", m.stepTimes[len(m.stepTimes)-1], at))
			outcome = []valueColumn{{name, 0, ""}}
		case playbook.MetricMean:
			outcome = []valueColumn{b.value(name, "", m.metric, &m.metric.Value, low, high)}
		case playbook.MetricRatio:
			outcome = []valueColumn{b.value(name, "", m.metric, &m.metric.Value, low, high), b.value(fmt.Sprintf("lookper%d_%s", i+1, m.metric.Key), "", m.metric, &m.metric.Denominator, low, high)}
		case playbook.MetricQuantile:
			return nil
		}
		list = append(list, b.moments(slices.Concat(outcome, m.covariates), eligible))
	}
	return list
}

// describe tells the specification what the columns hold.
func (a *analysis) describe(b *builder) {
	for i, m := range b.metrics {
		s := &a.spec.Metrics[i]
		for _, c := range m.outcome {
			s.Columns = append(s.Columns, c.label)
		}
		if m.sample != "" {
			continue
		}
		s.Covariates = len(m.covariates)
		for _, c := range m.covariates {
			s.Columns = append(s.Columns, c.label)
		}
	}
}

// take hands over one row: a variant and a segment.
func (a *analysis) take(b *builder, at counted, variant, segment string, sums []*big.Int, samples [][]float64) {
	users := sums[at.users].Int64()
	a.data.Users = append(a.data.Users, experiment.UserCount{Variant: variant, Segment: segment, Users: users})
	for i, m := range b.metrics {
		row := experiment.Row{Metric: m.metric.Key, Variant: variant, Segment: segment, Query: "moments"}
		outOfRange := at.beyond[i] >= 0 && sums[at.beyond[i]].Sign() > 0
		switch {
		case at.samples[i] >= 0 && segment != "":
			continue
		case at.samples[i] >= 0:
			row.Sample = sampleOf(m, samples[at.samples[i]], users, outOfRange)
		case outOfRange:
			row.Moments = experiment.Degraded(len(at.moments[i].sums), experiment.StateOverflow)
		default:
			row.Moments = at.moments[i].of(sums)
		}
		a.data.Table = append(a.data.Table, row)
		if segment == "" {
			a.takeSteps(m, at.steps[i], variant, sums)
			a.takeCap(m, at.cut[i], sums)
		}
	}
	if segment != "" {
		return
	}
	for i, look := range at.looks {
		a.data.Looks = append(a.data.Looks, experiment.LookRow{At: b.looks[i], Variant: variant, Moments: look.of(sums)})
	}
	if at.before >= 0 && sums[at.before].Sign() > 0 {
		a.notice("converted_before", b.metrics[0].metric.Key, sums[at.before].Int64(),
			"users did what the metric counts before their exposure and not after it: they do not count as converted")
	}
}

// notice adds to the users of a notice, or begins one.
func (a *analysis) notice(code, metric string, users int64, message string) {
	for i := range a.data.Notices {
		if n := &a.data.Notices[i]; n.Code == code && n.Metric == metric {
			n.Users += users
			return
		}
	}
	a.data.Notices = append(a.data.Notices, experiment.Notice{Code: code, Metric: metric, Users: users, Message: message})
}

func (a *analysis) takeSteps(m metricColumns, at []int, variant string, sums []*big.Int) {
	for i, step := range at {
		a.data.Steps = append(a.data.Steps, experiment.StepRow{
			Metric: m.metric.Key, Variant: variant, Step: stepName(m.metric.Steps[i]), Users: sums[step].Int64(),
		})
	}
}

func (a *analysis) takeCap(m metricColumns, at int, sums []*big.Int) {
	if at < 0 {
		return
	}
	limit := a.caps[m.metric.Key]
	if limit.Value == 0 {
		limit.Value = m.metric.Cap
	}
	limit.Users += sums[at].Int64()
	a.caps[m.metric.Key] = limit
}

// of makes moments of the aggregates.
func (at momentsAt) of(sums []*big.Int) experiment.Moments {
	pick := func(places []int) []*big.Int {
		list := make([]*big.Int, len(places))
		for i, place := range places {
			list[i] = sums[place]
		}
		return list
	}
	return experiment.FromIntegers(sums[at.users].Int64(), at.decimals, pick(at.sums), pick(at.products))
}

// sampleOf puts the values of an arm in order: those that were gathered, and those of everybody else.
func sampleOf(m metricColumns, gathered []float64, users int64, outOfRange bool) experiment.Sample {
	if outOfRange {
		return experiment.SampleOf(slices.Values([]float64{math.MaxFloat64}))
	}
	scale, rest := math.Pow10(m.outcome[0].decimals), 0.0
	if m.metric.Value.Of == playbook.MeasureTime {
		rest = m.metric.To.Seconds()
	}
	return experiment.SampleOf(func(yield func(float64) bool) {
		for _, v := range gathered {
			if !yield(v / scale) {
				return
			}
		}
		for range users - int64(len(gathered)) {
			if !yield(rest) {
				return
			}
		}
	})
}
