package outcome_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

const (
	minuteMilli = int64(60_000)
	hourMilli   = 60 * minuteMilli
	dayMilli    = 24 * hourMilli
)

// trial is a playbook with a metric of each kind, small windows and many ties.
const trial = `name: trial
events:
  go: {}
  activated: {}
  profiled: {}
  order: {properties: {total: number, items: int, plan: string, gift: bool}}
  ticket: {}
  unheard: {}
traits: {size: int, vip: bool}
segments:
  big: {when: traits.size > 50}
  odd: {when: traits.size > 10}
metrics:
  activated_2d: {kind: proportion, event: activated, within: 2d}
  late_order: {kind: proportion, event: order, where: '!e.gift && e.items >= 2', delay: 1h, within: 2d}
  spent: {kind: mean, event: order, value: total, within: 3d, before: 1d, cap: {percentile: 90}}
  orders: {kind: mean, event: order, within: 3d, cap: 3}
  order_value: {kind: ratio, numerator: {event: order, value: total}, denominator: {event: order}, within: 3d}
  back: {kind: retention, event: [order, activated], from: 1d, to: 2d}
  path: {kind: funnel, steps: [profiled, order, {event: order, where: e.items > 1}, activated], within: 3d}
  sessions: {kind: mean, sessions: 2h, within: 3d}
  session_length: {kind: ratio, sessions: 2h, within: 3d}
  time_to: {kind: quantile, event: activated, q: 0.3, within: 3d, direction: down}
  typical: {kind: quantile, event: order, value: total, q: 0.9, within: 3d}
  tickets: {kind: mean, event: ticket, within: 3d, direction: down, guardrail: {margin: 0.3}}
experiments:
  flow:
    variants: {control: 0.5, treatment: 0.5}
    metrics: [activated_2d, late_order, spent, orders, order_value, back, path, sessions, session_length, time_to, typical, tickets]
    segments: [big, odd]
    covariates: [size, vip]
    planned: 500
actions: {tell: {}}
journeys:
  j: {enter: {on: go}, goal: {on: activated, within: 2d}, steps: [{experiment: flow, variants: {control: [], treatment: [{action: tell}]}}]}
`

func compileBook(tb testing.TB, text string) *playbook.Playbook {
	tb.Helper()
	book, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": text}})
	require.NoError(tb, err)
	return book
}

// past is what a trial left behind: events and exposures in the order of record.
type past struct {
	events    []outcome.ArchivedEvent
	exposures []schema.Outcome
}

func (p *past) event(token, name string, at int64, properties, traits string) {
	n := len(p.events) + 1
	p.events = append(p.events, outcome.ArchivedEvent{
		ID: "e" + strconv.Itoa(n), Name: name, Token: token, OccurredAt: at, Sequence: uint64(n), Properties: properties, Traits: traits,
	})
}

func (p *past) expose(token, key, variant string, at int64, details map[string]any) {
	full := map[string]any{
		"seed": key, "hash_version": 2, "coverage": 1, "weights": map[string]float64{"control": 0.5, "treatment": 0.5},
		"variants": []string{"control", "treatment"}, "segments": []string{},
	}
	maps.Copy(full, details)
	raw, err := json.Marshal(full)
	if err != nil {
		panic(err)
	}
	bucket, _ := experiment.Hash(key, token, 2)
	p.exposures = append(p.exposures, schema.Outcome{
		OutcomeID: schema.OutcomeID(schema.ExposureRecorded, token, key, strconv.Itoa(len(p.exposures))), Kind: schema.ExposureRecorded, UserToken: token,
		At: at, RecordedAt: at + 5, Playbook: "p1", Journey: "j", Experiment: key, Variant: variant, Bucket: bucket, Details: raw,
	})
}

// start is the beginning of every past.
var start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).UnixMilli()

// drawPast makes up a past of so many users. Times fall on whole minutes and often on the ends of windows.
func drawPast(seed uint64, users int) *past {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &past{}
	type planned struct {
		at   int64
		what func()
	}
	var plan []planned
	for i := range users {
		token := schema.UserToken(workspaceKey, fmt.Sprint("user ", i))
		t0 := start + r.Int64N(5*24*60)*minuteMilli
		variant := "control"
		if r.IntN(2) == 1 {
			variant = "treatment"
		}
		size, segments := r.IntN(100), []string{}
		if size > 50 {
			segments = append(segments, "big")
		}
		if size > 10 {
			segments = append(segments, "odd")
		}
		traits := fmt.Sprintf(`{"size":%d}`, size)
		if r.IntN(3) == 0 {
			traits = `{"vip":true}`
		}
		plan = append(plan,
			planned{t0 - r.Int64N(3)*hourMilli, func() { p.event(token, "go", t0-r.Int64N(2)*hourMilli, "", traits) }},
			planned{t0, func() { p.expose(token, "flow", variant, t0, map[string]any{"segments": segments}) }},
			planned{t0 + 1, func() { p.event(token, "go", t0+hourMilli, "", `{"size":99999}`) }}) // after the exposure: no covariate
		for range r.IntN(12) {
			at := t0 - 2*dayMilli + r.Int64N(6*24*60)*minuteMilli
			if r.IntN(4) == 0 { // on an end of a window
				at = t0 + []int64{0, 1, -1, hourMilli, dayMilli, 2 * dayMilli, 2*dayMilli + 1, 3 * dayMilli, 3*dayMilli + 1, 2*dayMilli + hourMilli}[r.IntN(10)]
			}
			name := []string{"activated", "profiled", "order", "order", "order", "ticket"}[r.IntN(6)]
			if variant == "treatment" && name == "ticket" && r.IntN(2) == 0 {
				name = "activated"
			}
			properties := ""
			if name == "order" {
				properties = []string{
					fmt.Sprintf(`{"total":%d.%02d,"items":%d,"gift":false}`, r.IntN(200), r.IntN(100), r.IntN(4)),
					fmt.Sprintf(`{"total":%d,"items":%d,"gift":true}`, r.IntN(200), r.IntN(4)),
					`{"total":"many","items":2,"gift":false}`, `{"items":2.0,"gift":false}`, `{"total":-3.25,"items":1}`,
				}[r.IntN(5)]
			}
			plan = append(plan, planned{at, func() { p.event(token, name, at, properties, "") }})
		}
	}
	slices.SortStableFunc(plan, func(a, b planned) int { return int(a.at - b.at) })
	for _, step := range plan {
		step.what()
	}
	return p
}

// write puts a past into a store.
func (p *past) write(tb testing.TB, store *outcome.Store) {
	tb.Helper()
	require.NoError(tb, store.InsertEvents(tb.Context(), "past", p.events))
	require.NoError(tb, store.InsertOutcomes(tb.Context(), "past", 1, p.exposures))
}

// figures are the numbers of one metric and arm.
type figures struct {
	users    int
	sum, per float64 // of the values; of a ratio's denominators
	quantile float64
}

// account works out the figures of an arm by going through the past user by user: the metrics read again, in Go.
type account struct {
	book   *playbook.Playbook
	events map[string][]outcome.ArchivedEvent // by user
	until  int64
	caps   map[string]float64
}

func newAccount(book *playbook.Playbook, p *past) *account {
	a := &account{book: book, events: make(map[string][]outcome.ArchivedEvent), caps: make(map[string]float64)}
	for _, e := range p.events {
		a.events[e.Token] = append(a.events[e.Token], e)
		a.until = max(a.until, e.OccurredAt)
	}
	for _, o := range p.exposures {
		a.until = max(a.until, o.At)
	}
	for token := range a.events {
		slices.SortStableFunc(a.events[token], func(x, y outcome.ArchivedEvent) int { return int(x.OccurredAt - y.OccurredAt) })
	}
	return a
}

func propertiesOf(e outcome.ArchivedEvent) map[string]any {
	values, err := schema.DecodeProperties(json.RawMessage(e.Properties))
	if err != nil || values == nil {
		return map[string]any{}
	}
	return values
}

// picked lists the events of a measure within two moments, with the value of each.
func (a *account) picked(token string, m *playbook.Measure, low, high int64) (times []int64, values []float64) {
	for _, e := range a.events[token] {
		if e.OccurredAt < low || e.OccurredAt > high || len(m.Events) > 0 && !slices.Contains(m.Events, e.Name) {
			continue
		}
		properties := propertiesOf(e)
		if m.Where != nil && !m.Where.Match(properties, nil) {
			continue
		}
		value := 0.0
		if m.Property != "" {
			number, ok := a.book.Set.Value(e.Name, m.Property, properties)
			if !ok {
				continue
			}
			switch number := number.(type) {
			case int64:
				value = float64(number)
			case float64:
				value = number
			}
		}
		times, values = append(times, e.OccurredAt), append(values, math.Round(value*1e6)/1e6)
	}
	return times, values
}

func (a *account) measure(token string, m *playbook.Measure, t0, low, high int64) float64 {
	times, values := a.picked(token, m, low, high)
	sessions, seconds, sum := 0.0, 0.0, 0.0
	for i, at := range times {
		sum += values[i]
		if i > 0 && at-times[i-1] < m.Gap.Milliseconds() {
			seconds += float64(at-times[i-1]) / 1000
		} else {
			sessions++
		}
	}
	switch m.Of {
	case playbook.MeasureSum:
		return sum
	case playbook.MeasureSessions:
		return sessions
	case playbook.MeasureSeconds:
		return seconds
	case playbook.MeasureTime:
		if len(times) == 0 {
			return math.Inf(1)
		}
		return float64(times[0]-t0) / 1000
	case playbook.MeasureCount:
	}
	return float64(len(times))
}

// funnel goes from step to step.
func (a *account) funnel(token string, m *playbook.Metric, low, high int64) (reached int) {
	at, last := low, ""
	for _, s := range m.Steps {
		measure := &playbook.Measure{Events: s.Events, Where: s.Where}
		if key := fmt.Sprint(s.Events, s.Where); key == last {
			at++
		} else {
			last = key
		}
		times, _ := a.picked(token, measure, at, high)
		if len(times) == 0 {
			return reached
		}
		at = times[0]
		reached++
	}
	return reached
}

// value is that of a user: of a ratio with its denominator. False: the user is not eligible.
func (a *account) value(token string, m *playbook.Metric, t0 int64) (value, per float64, ok bool) {
	low, high := t0+m.From.Milliseconds(), t0+m.To.Milliseconds()
	switch m.Kind {
	case playbook.MetricProportion, playbook.MetricRetention:
		times, _ := a.picked(token, &m.Value, low, high)
		return float64(min(len(times), 1)), 0, m.Kind == playbook.MetricProportion || high <= a.until
	case playbook.MetricFunnel:
		return map[bool]float64{true: 1}[a.funnel(token, m, low, high) == len(m.Steps)], 0, true
	case playbook.MetricRatio:
		return a.measure(token, &m.Value, t0, low, high), a.measure(token, &m.Denominator, t0, low, high), true
	case playbook.MetricMean, playbook.MetricQuantile:
	}
	value = a.measure(token, &m.Value, t0, low, high)
	if limit, capped := a.caps[m.Key]; capped {
		value = min(value, limit)
	}
	return value, 0, true
}

// arm adds up an arm. A quantile's values that never came stand at the end of the window.
func (a *account) arm(m *playbook.Metric, users map[string]int64) figures {
	var f figures
	var values []float64
	for token, t0 := range users {
		value, per, ok := a.value(token, m, t0)
		if !ok {
			continue
		}
		f.users++
		f.sum, f.per = f.sum+value, f.per+per
		values = append(values, min(value, m.To.Seconds()))
	}
	if m.Kind == playbook.MetricQuantile {
		if m.Value.Of == playbook.MeasureSum {
			values = values[:0]
			for token, t0 := range users {
				value, _, _ := a.value(token, m, t0)
				values = append(values, value)
			}
		}
		slices.Sort(values)
		position := m.Quantile * float64(len(values)-1)
		i := int(position)
		f.quantile = values[i] + (position-float64(i))*(values[min(i+1, len(values)-1)]-values[i])
	}
	return f
}

// The whole way, from the playbook to the figures, against the past gone through by hand.
func TestAnalyzeAgainstTheUsersOneByOne(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			checkOneByOne(t, seed)
		})
	}
}

func checkOneByOne(t *testing.T, seed uint64) {
	t.Helper()
	store, book := openStore(t), compileBook(t, trial)
	p := drawPast(seed, 400)
	p.write(t, store)
	got, err := store.Analyze(t.Context(), book, "flow", outcome.AnalyzeOptions{})
	require.NoError(t, err)
	account := newAccount(book, p)
	require.Equal(t, account.until, got.At)
	arms := map[string]map[string]int64{"control": {}, "treatment": {}}
	for _, o := range p.exposures {
		arms[o.Variant][o.UserToken] = o.At
	}
	for key, m := range book.Metrics {
		if m.Cap > 0 {
			account.caps[key] = m.Cap
		}
	}
	require.Len(t, got.Metrics, len(book.Metrics))
	for _, reading := range got.Metrics {
		m := book.Metrics[reading.Key]
		if reading.Cap != nil {
			account.caps[m.Key] = reading.Cap.Value
		}
		for _, arm := range reading.Arms {
			want := account.arm(m, arms[arm.Variant])
			require.Equal(t, int64(want.users), arm.Users, "%s %s", m.Key, arm.Variant)
			require.Equal(t, int64(len(arms[arm.Variant])), arm.Exposed)
			switch m.Kind {
			case playbook.MetricQuantile:
				require.InDelta(t, want.quantile, arm.Value, 1e-6, "%s %s", m.Key, arm.Variant)
			case playbook.MetricRatio:
				require.InEpsilon(t, want.sum/want.per, arm.Value, 1e-12, "%s %s", m.Key, arm.Variant)
			default:
				require.InDelta(t, want.sum, arm.Moments.Sums[0], 1e-6, "%s %s", m.Key, arm.Variant)
			}
			require.NotZero(t, arm.Value, "%s %s: this test would see nothing", m.Key, arm.Variant)
		}
	}
}
