package outcome_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

func analyze(tb testing.TB, store *outcome.Store, book *playbook.Playbook, opts outcome.AnalyzeOptions) *experiment.Analysis {
	tb.Helper()
	a, err := store.Analyze(tb.Context(), book, "flow", opts)
	require.NoError(tb, err)
	raw, err := json.Marshal(a)
	require.NoError(tb, err)
	require.NotContains(tb, string(raw), "null")
	return a
}

// The guarantee behind every figure: the same events in another order, delivered again and again, in other batches, merged or
// not, give the same reading to the last bit. Sequences stay: they are the order of record.
func TestShuffledAndRedeliveredReadsTheSame(t *testing.T) {
	t.Parallel()
	store, book := openStore(t), compileBook(t, trial)
	p := drawPast(11, 300)
	p.write(t, store)
	read := func() string {
		raw, err := json.Marshal(analyze(t, store, book, outcome.AnalyzeOptions{Looks: 7}))
		require.NoError(t, err)
		return string(raw)
	}
	before := read()
	same := func(when string) {
		t.Helper()
		if read() != before { // what differs would fill pages
			require.Fail(t, "another reading "+when)
		}
	}
	require.Contains(t, before, `"looks":[{`)

	r := rand.New(rand.NewPCG(5, 5))
	again := func(round int) {
		events := slices.Clone(p.events)
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		for i, batch := range slices.Collect(slices.Chunk(events, 700)) {
			require.NoError(t, store.InsertEvents(t.Context(), fmt.Sprint("again ", round, " ", i), batch))
		}
		late := slices.Clone(events[:50])
		for i := range late { // another body under a known id: the first wins
			late[i].Sequence, late[i].OccurredAt, late[i].Name = 1<<40+uint64(i), late[i].OccurredAt+100*dayMilli, "activated"
		}
		require.NoError(t, store.InsertEvents(t.Context(), fmt.Sprint("late ", round), late))
		for i := range p.exposures {
			j := (i*7 + round) % len(p.exposures)
			require.NoError(t, store.InsertOutcomes(t.Context(), fmt.Sprint("again ", round, " ", i), uint64(j+1), p.exposures[j:j+1]))
			if i > 40 {
				break
			}
		}
		require.NoError(t, store.InsertOutcomes(t.Context(), fmt.Sprint("all ", round), 1, p.exposures))
	}
	again(1)
	same("after delivering all again in another order")
	for _, table := range []string{"events", "outcomes"} {
		require.NoError(t, store.Conn().Exec(t.Context(), "OPTIMIZE TABLE "+table+" FINAL"))
	}
	same("after merging")
	again(2)
	same("after delivering all again beside merged rows")

	other, err := outcome.Open(t.Context(), outcome.Config{Addr: clickHouse(t).ClickHouseAddr, Database: database(t) + "_shuffled"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	store = other
	again(3)
	same("in a database that never saw the proper order")
}

// book returns trial with some lines exchanged.
func changed(tb testing.TB, pairs ...string) *playbook.Playbook {
	tb.Helper()
	text := trial
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(tb, text, pairs[i])
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return compileBook(tb, text)
}

// halved puts users 0…n−1 into the two arms by turns and lets each do something.
func halved(n int, do func(p *past, i int, token string)) *past {
	p := &past{}
	for i := range n {
		token := schema.UserToken(workspaceKey, fmt.Sprint("user ", i))
		p.event(token, "go", start, "", "")
		p.expose(token, "flow", []string{"control", "treatment"}[i%2], start+hourMilli, nil)
		do(p, i, token)
	}
	p.event(schema.UserToken(workspaceKey, "nobody"), "go", start+30*dayMilli, "", "") // so that all windows are over
	return p
}

func metricOf(tb testing.TB, a *experiment.Analysis, key string) *experiment.MetricReading {
	tb.Helper()
	i := slices.IndexFunc(a.Metrics, func(m experiment.MetricReading) bool { return m.Key == key })
	require.GreaterOrEqual(tb, i, 0, key)
	return &a.Metrics[i]
}

// Everything degenerate is a state with an explanation, and no number that looks like a result.
func TestBadInputIsNamed(t *testing.T) {
	t.Parallel()
	everyOther := func(p *past, i int, token string) {
		if i%4 < 2 {
			p.event(token, "activated", start+2*hourMilli, "", "")
		}
	}
	for name, test := range map[string]struct {
		past   *past
		book   []string
		metric string
		state  experiment.State // of the whole
		of     experiment.State // of the metric
		notice string
		reason string // of exclusion
	}{
		"nobody": {past: &past{}, metric: "activated_2d", state: experiment.StateNoUsers, of: experiment.StateNoUsers},
		"one user": {
			past: halved(1, everyOther), metric: "activated_2d", state: experiment.StateOK, of: experiment.StateEmptyArm,
		},
		"a user each": {
			past: halved(2, func(p *past, i int, token string) {
				p.event(token, "order", start+dayMilli, fmt.Sprintf(`{"total":%d}`, i), "")
			}), metric: "spent",
			state: experiment.StateOK, of: experiment.StateOneUser,
		},
		"event never seen": {
			past: halved(200, func(*past, int, string) {}), book: []string{"event: activated, within: 2d", "event: unheard, within: 2d"}, metric: "activated_2d",
			state: experiment.StateOK, of: experiment.StateUnseenEvent,
		},
		"zero variance": {
			past: halved(200, func(p *past, _ int, token string) {
				p.event(token, "order", start+2*hourMilli, `{"total":0.1,"items":1}`, "")
			}), metric: "spent", state: experiment.StateOK, of: experiment.StateZeroVariance,
		},
		"zero baseline": {
			past: halved(200, func(p *past, i int, token string) {
				if i%2 == 1 {
					p.event(token, "order", start+2*hourMilli, fmt.Sprintf(`{"total":%d}`, i), "")
				}
			}), metric: "spent", state: experiment.StateOK, of: experiment.StateOK,
		},
		"zero denominators": {
			past: halved(200, func(*past, int, string) {}), metric: "order_value", state: experiment.StateOK, of: experiment.StateUnseenEvent,
		},
		"overflow": {
			past: halved(200, func(p *past, i int, token string) {
				p.event(token, "order", start+2*hourMilli, `{"total":`+[]string{"5", "1e300"}[i/199]+`}`, "")
			}), metric: "spent", state: experiment.StateOK, of: experiment.StateOverflow,
		},
		"a text for a number": {
			past: halved(200, func(p *past, _ int, token string) {
				p.event(token, "order", start+2*hourMilli, `{"total":"NaN","items":2}`, "")
			}), metric: "spent", state: experiment.StateOK, of: experiment.StateZeroVariance,
		},
		"conversion before exposure": {
			past: halved(200, func(p *past, _ int, token string) { p.event(token, "activated", start+hourMilli-1, "", "") }), metric: "activated_2d",
			state: experiment.StateOK, of: experiment.StateFewConversions, notice: "converted_before",
		},
		"nobody's window has passed": {
			past: halved(200, everyOther),
			book: []string{"from: 1d, to: 2d", "from: 1d, to: 300d"}, metric: "back", state: experiment.StateOK, of: experiment.StateNotEligible,
		},
		"weights changed": {
			past: func() *past {
				p := halved(200, everyOther)
				for i := range p.exposures[100:] {
					o := &p.exposures[100+i]
					o.At += hourMilli
					o.Details = []byte(strings.ReplaceAll(string(o.Details), `"control":0.5,"treatment":0.5`, `"control":0.2,"treatment":0.8`))
				}
				return p
			}(), metric: "activated_2d", state: experiment.StateWeightsChanged, of: experiment.StateWeightsChanged,
		},
		"seed changed": {
			past: func() *past {
				p := halved(200, everyOther)
				p.exposures[150].Details = []byte(strings.ReplaceAll(string(p.exposures[150].Details), `"seed":"flow"`, `"seed":"flood"`))
				return p
			}(), metric: "activated_2d", state: experiment.StateSeedChanged, of: experiment.StateSeedChanged,
		},
		"two variants": {
			past: func() *past {
				p := halved(200, everyOther)
				p.expose(p.exposures[3].UserToken, "flow", "control", start+2*hourMilli, nil)
				return p
			}(), metric: "activated_2d", state: experiment.StateOK, of: experiment.StateOK, reason: "met_two_variants",
		},
		"two variants by new weights": {
			past: func() *past {
				p := halved(200, everyOther)
				p.expose(p.exposures[3].UserToken, "flow", "control", start+2*hourMilli, map[string]any{"weights": map[string]float64{"control": 1}})
				return p
			}(), metric: "activated_2d", state: experiment.StateOK, of: experiment.StateOK, reason: "met_two_settings",
		},
		"forced": {
			past: func() *past {
				p := halved(200, everyOther)
				p.expose(schema.UserToken(workspaceKey, "qa"), "flow", "control", start+2*hourMilli, map[string]any{"forced": true})
				return p
			}(), metric: "activated_2d", state: experiment.StateOK, of: experiment.StateOK, reason: "forced",
		},
		"unknown variant": {
			past: func() *past {
				p := halved(200, everyOther)
				p.expose(schema.UserToken(workspaceKey, "old"), "flow", "blue", start+2*hourMilli, nil)
				return p
			}(), metric: "activated_2d", state: experiment.StateOK, of: experiment.StateOK, reason: "unknown_variant",
		},
		"clock set back": {
			past: func() *past {
				p := halved(200, everyOther)
				p.exposures[7].RecordedAt = p.exposures[7].At - 60_000
				return p
			}(), metric: "activated_2d", state: experiment.StateOK, of: experiment.StateOK, notice: "clock_steps",
		},
		"renamed": {
			past: func() *past {
				p := halved(200, everyOther)
				for i := range p.exposures {
					p.exposures[i].Experiment = "stream"
				}
				return p
			}(), metric: "activated_2d", state: experiment.StateNoUsers, of: experiment.StateNoUsers, notice: "renamed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := openStore(t)
			test.past.write(t, store)
			a := analyze(t, store, changed(t, test.book...), outcome.AnalyzeOptions{})
			require.Equal(t, test.state, a.State, a.Why)
			m := metricOf(t, a, test.metric)
			if test.of == experiment.StateOK && m.State == experiment.StateOK {
				require.True(t, m.Effects[0].State.Readable())
			} else {
				require.Equal(t, test.of, m.Effects[0].State, m.Why)
				if !test.of.Readable() {
					require.NotEmpty(t, m.Effects[0].Why)
					require.Zero(t, m.Effects[0].Absolute.Anytime.High)
				}
			}
			if test.notice != "" {
				require.True(t, slices.ContainsFunc(a.Notices, func(n experiment.Notice) bool { return n.Code == test.notice && n.Message != "" }), a.Notices)
			}
			if test.reason != "" {
				require.Len(t, a.Excluded, 1)
				require.Equal(t, test.reason, a.Excluded[0].Reason)
				require.NotEmpty(t, a.Excluded[0].Why)
				require.Len(t, a.Excluded[0].Sample, 1)
				require.Equal(t, int64(1), a.Size.Excluded)
			} else {
				require.Empty(t, a.Excluded)
			}
		})
	}
}

func TestRemovedExperiment(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	halved(50, func(*past, int, string) {}).write(t, store)
	book := compileBook(t, "name: x\nevents: {go: {}}\n")
	a := analyze(t, store, book, outcome.AnalyzeOptions{})
	require.Equal(t, experiment.StateRemoved, a.State)
	require.Equal(t, []string{"control", "treatment"}, []string{a.Arms[0].Variant, a.Arms[1].Variant})
	require.Equal(t, experiment.DecideNothing, a.Verdict.Code)
	none, err := store.Analyze(t.Context(), book, "never", outcome.AnalyzeOptions{})
	require.NoError(t, err)
	require.Equal(t, experiment.StateRemoved, none.State)
	require.Contains(t, none.Why, "nobody has met it")
}

func TestSinceReadsOnePhase(t *testing.T) {
	t.Parallel()
	store, book := openStore(t), compileBook(t, trial)
	p := halved(200, func(p *past, i int, token string) {
		p.event(token, "order", start+dayMilli, fmt.Sprintf(`{"total":%d}`, i), "")
	})
	for i := range p.exposures[:100] {
		p.exposures[i].At -= dayMilli
		p.exposures[i].Details = []byte(strings.ReplaceAll(string(p.exposures[i].Details), `"control":0.5,"treatment":0.5`, `"control":0.2,"treatment":0.8`))
	}
	p.write(t, store)
	require.Equal(t, experiment.StateWeightsChanged, analyze(t, store, book, outcome.AnalyzeOptions{}).State)
	a := analyze(t, store, book, outcome.AnalyzeOptions{Since: time.UnixMilli(start)})
	require.Equal(t, experiment.StateOK, a.State)
	require.Equal(t, int64(100), a.Size.Users)
	require.Len(t, a.Phases, 1)
	// Until: nobody had ordered yet, and who came later is not there.
	a = analyze(t, store, book, outcome.AnalyzeOptions{Until: time.UnixMilli(start)})
	require.Equal(t, int64(100), a.Size.Users)
	require.Zero(t, metricOf(t, a, "orders").Arms[0].Value)
}

// Each formula with its values in it is a query: ClickHouse must come to the number that stands beside it.
func TestEveryFormulaComputesItsNumber(t *testing.T) {
	t.Parallel()
	store, book := openStore(t), compileBook(t, trial)
	drawPast(3, 400).write(t, store)
	a := analyze(t, store, book, outcome.AnalyzeOptions{})
	steps := slices.Clone(a.Ratio.How)
	for _, m := range a.Metrics {
		for _, arm := range m.Arms {
			steps = append(steps, arm.How...)
		}
		for _, e := range m.Effects {
			steps = append(append(steps, e.Absolute.How...), e.Relative.How...)
			if e.Split != nil {
				for _, s := range e.Split.Segments {
					steps = append(steps, s.Absolute.How...)
				}
			}
		}
	}
	require.Greater(t, len(steps), 150)
	for _, batch := range slices.Collect(slices.Chunk(steps, 40)) {
		texts := make([]string, len(batch))
		for i, s := range batch {
			texts[i] = "toFloat64(" + s.Values + ")"
		}
		got := value[[]float64](t, store, "SELECT ["+strings.Join(texts, ", ")+"]")
		for i, s := range batch {
			require.InDelta(t, s.Result, got[i], 1e-9*max(1, s.Result), "%s = %s = %s", s.Is, s.Formula, s.Values)
		}
	}
}

func TestPublishedReadingsStay(t *testing.T) {
	t.Parallel()
	store, book := openStore(t), compileBook(t, trial)
	drawPast(4, 200).write(t, store)
	a := analyze(t, store, book, outcome.AnalyzeOptions{Looks: 3})
	id, err := store.Publish(t.Context(), a)
	require.NoError(t, err)
	again, err := store.Publish(t.Context(), a)
	require.NoError(t, err)
	require.Equal(t, id, again)
	list, err := store.Published(t.Context(), "flow")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, a.At, list[0].At.UnixMilli())
	require.Equal(t, string(a.Verdict.Code), list[0].Verdict)
	kept, err := store.Snapshot(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, a, kept)
	_, err = store.Snapshot(t.Context(), "none")
	require.ErrorIs(t, err, outcome.ErrNoSnapshot)

	// Dashboards read the newest.
	require.Equal(t, uint64(len(a.Metrics)), value[uint64](t, store, "SELECT count() FROM analysis_results WHERE experiment = 'flow'"))
	require.InDelta(t, metricOf(t, a, "orders").Effects[0].Absolute.Value,
		value[float64](t, store, "SELECT difference FROM analysis_results WHERE metric = 'orders'"), 1e-15)
}

// What the self-test gets user by user adds up to what the analysis says.
func TestUnitsAddUpToTheMoments(t *testing.T) {
	t.Parallel()
	store, book := openStore(t), compileBook(t, trial)
	p := drawPast(6, 300)
	p.write(t, store)
	a := analyze(t, store, book, outcome.AnalyzeOptions{})
	for _, key := range []string{"activated_2d", "spent", "order_value", "back", "session_length"} {
		metric, units, err := store.Units(t.Context(), book, "flow", key, outcome.AnalyzeOptions{})
		require.NoError(t, err)
		reading, sum, users := metricOf(t, a, key), 0.0, int64(0)
		require.Equal(t, reading.Covariates, metric.Covariates)
		for _, u := range units {
			require.Len(t, u.Values, len(reading.Columns))
			sum += u.Values[0]
		}
		want := 0.0
		for _, arm := range reading.Arms {
			want, users = want+arm.Moments.Sums[0], users+arm.Users
		}
		require.Len(t, units, int(users), key)
		require.InDelta(t, want, sum, 1e-6, key)
	}
	_, _, err := store.Units(t.Context(), book, "flow", "time_to", outcome.AnalyzeOptions{})
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
}

// The queries an analysis shows can be asked again, as they stand.
func TestQueriesCanBeAskedAgain(t *testing.T) {
	t.Parallel()
	store, book := openStore(t), compileBook(t, trial)
	drawPast(8, 100).write(t, store)
	a := analyze(t, store, book, outcome.AnalyzeOptions{})
	names := make(map[string]bool)
	for _, q := range a.Queries {
		names[q.Name] = true
		require.NotEmpty(t, rowsOf(t, store, "SELECT 1 FROM ("+q.SQL+") UNION ALL SELECT 2"), q.Name)
	}
	require.Equal(t, []string{"caps", "excluded", "moments", "phases", "users"}, slices.Sorted(maps.Keys(names)))
	for _, q := range a.Queries {
		if q.Name == "users" {
			require.Equal(t, strconv.FormatInt(a.Size.Users, 10), strings.Trim(rowsOf(t, store, "SELECT count() FROM ("+q.SQL+")")[0], "()"))
		}
	}
}

// A filter of the playbook says in SQL what it says in Go, of whatever stands in the properties.
func TestFiltersSayTheSameInSQL(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	set := segment.NewSet(segment.Plan{Events: map[string]segment.Properties{
		"order": {"n": segment.Number, "i": segment.Int, "s": segment.String, "b": segment.Bool},
	}}, 1)
	r := rand.New(rand.NewPCG(9, 9))
	truths, all := 0, 0
	for range 80 {
		source := drawFilter(r, 3)
		f, problems := set.CompileFilter(source, []string{"order"}, nil)
		require.Empty(t, problems, source)
		text, err := f.SQL("properties")
		require.NoError(t, err, source)
		rows := make([]string, 60)
		quoted := make([]string, len(rows))
		for i := range rows {
			rows[i] = drawProperties(r)
			quoted[i] = segment.QuoteSQL(rows[i])
		}
		got := value[[]uint8](t, store, "SELECT arrayMap(properties -> toUInt8("+text+"), ["+strings.Join(quoted, ", ")+"])")
		for i, properties := range rows {
			values, err := schema.DecodeProperties(json.RawMessage(properties))
			require.NoError(t, err)
			require.Equal(t, f.Match(values, nil), got[i] == 1, "%s of %s", properties, source)
			truths, all = truths+int(got[i]), all+1
		}
	}
	require.Greater(t, truths, all/10)
	require.Less(t, truths, all*9/10)
}

// drawFilter makes up a condition that is well typed.
func drawFilter(r *rand.Rand, depth int) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	if depth > 0 && r.IntN(2) == 0 {
		a, b := drawFilter(r, depth-1), drawFilter(r, depth-1)
		return pick("("+a+" && "+b+")", "("+a+" || "+b+")", "!("+a+")", "("+a+" ? "+b+" : "+drawFilter(r, depth-1)+")")
	}
	number := pick("e.n", "1.5", "-2.0", "(e.n + 1.0)", "(e.n * e.n)", "(e.n / 2.0)", "(-e.n)", "(1.0 / e.n)")
	whole := pick("e.i", "3", "0", "(e.i + 2)", "(e.i * e.i)", "(e.i / 2)", "(10 / e.i)", "(e.i % 3)", "(-e.i)", "(e.i - 9223372036854775807)", "size(e.s)")
	text := pick("e.s", `"pro"`, `(e.s + "x")`, `"it's"`, `"ü\\n"`)
	switch r.IntN(8) {
	case 0, 1:
		return number + " " + pick("==", "!=", "<", "<=", ">", ">=") + " " + pick("e.n", "0.0", "1.5")
	case 2, 3:
		return whole + " " + pick("==", "!=", "<", "<=", ">", ">=") + " " + pick("e.i", "2", "-1")
	case 4:
		return text + " " + pick("==", "!=", "<", ">=") + " " + pick("e.s", `"pro"`)
	case 5:
		return pick("e.s", text) + pick(`.startsWith("p")`, `.endsWith("o")`, `.contains("r")`, `.matches("^p.o$")`, `.matches("a.c")`, `.contains("")`)
	case 6:
		return pick(`e.s in ["pro", "team", "it's"]`, `e.i in [1, 2, 3]`, `e.i in []`, `e.n in [1.5, 2.0]`)
	default:
		return pick("e.b", "e.b == true", "true", "false")
	}
}

// drawProperties makes up properties, missing and mistyped ones among them.
func drawProperties(r *rand.Rand) string {
	values := []string{
		"1.5", "0", "-2", "3", "2", "1e3", "2.0", "5.5", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "1e19", "9007199254740993.0",
		`"pro"`, `"team"`, `"it's"`, `""`, `"pxo"`, `"a\nc"`, `"ü\n"`, `"3"`, "true", "false", "null", "[1]", `{"x":1}`,
	}
	proper := map[string][]string{"n": values[:8], "i": {"1", "2", "3", "0", "-4", "2.0"}, "s": values[13:20], "b": {"true", "false"}}
	var parts []string
	for _, name := range []string{"n", "i", "s", "b"} {
		list := proper[name]
		switch r.IntN(6) {
		case 0:
			continue
		case 1:
			list = values
		}
		parts = append(parts, fmt.Sprintf("%q:%s", name, list[r.IntN(len(list))]))
	}
	return "{" + strings.Join(parts, ",") + "}"
}
