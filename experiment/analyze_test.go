package experiment_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
)

// flow is an experiment with two arms, a goal and a guardrail.
func flow() experiment.AnalysisSpec {
	return experiment.AnalysisSpec{
		Experiment: "onboarding_flow", Arms: []experiment.ArmSpec{{Variant: "control", Weight: 0.5}, {Variant: "personalized", Weight: 0.5}},
		Primary: "activated_14d", Segments: []string{"engaged"},
		Metrics: []experiment.MetricSpec{
			{Key: "tickets", Role: experiment.RoleGuardrail, Shape: "mean", Kind: experiment.KindMean, Unit: "events", LowerIsBetter: true, Margin: 0.1},
			{Key: "activated_14d", Shape: "proportion", Kind: experiment.KindProportion, Definition: "share of users with activated within 14d"},
		},
		Planned: 10000,
	}
}

func row(metric, variant, segment string, m experiment.Moments) experiment.Row {
	return experiment.Row{Metric: metric, Variant: variant, Segment: segment, Moments: m, Query: "moments"}
}

// counted is flow after 9,000 users.
func counted() experiment.AnalysisData {
	return experiment.AnalysisData{
		At: 1000, Started: 10,
		Users: []experiment.UserCount{
			{Variant: "control", Users: 4500},
			{Variant: "personalized", Users: 4500},
			{Variant: "control", Segment: "engaged", Users: 2000},
			{Variant: "personalized", Segment: "engaged", Users: 2010},
		},
		Table: []experiment.Row{
			row("activated_14d", "control", "", experiment.FromCounts(4500, 1350)),
			row("activated_14d", "personalized", "", experiment.FromCounts(4500, 1560)),
			row("activated_14d", "control", "engaged", experiment.FromCounts(2000, 800)),
			row("activated_14d", "personalized", "engaged", experiment.FromCounts(2010, 910)),
			row("tickets", "control", "", experiment.FromSums(4500, []float64{900}, []float64{1000})),
			row("tickets", "personalized", "", experiment.FromSums(4500, []float64{850}, []float64{940})),
		},
		Queries: []experiment.Query{{Name: "moments", SQL: "SELECT 1"}},
	}
}

func TestAnalyze(t *testing.T) {
	t.Parallel()
	a := experiment.Analyze(flow(), counted())
	require.Equal(t, experiment.StateOK, a.State)
	require.Equal(t, experiment.DecideWinner, a.Verdict.Code, a.Verdict)
	require.Equal(t, "personalized", a.Verdict.Variant)
	require.Equal(t, "activated_14d", a.Metrics[0].Key, "the metric that decides stands first")
	require.Equal(t, int64(9000), a.Size.Users)
	require.InDelta(t, 0.9, a.Size.Share, 1e-12)

	effect := a.Metrics[0].Effects[0]
	same := experiment.Compare(experiment.Metric{Key: "m", Kind: experiment.KindProportion}, experiment.FromCounts(4500, 1350), experiment.FromCounts(4500, 1560), experiment.Options{})
	require.InDelta(t, same.Relative.Value, effect.Relative.Value, 0)
	require.InDelta(t, same.Relative.Anytime.Low, effect.Relative.Anytime.Low, 0)
	require.InDelta(t, same.Absolute.Fixed.PValue, effect.Absolute.Fixed.PValue, 0)
	require.Equal(t, experiment.VerdictBetter, effect.Verdict)
	require.Equal(t, experiment.VerdictSafe, a.Metrics[1].Effects[0].Verdict, a.Metrics[1].Effects[0].Guard)
	require.Len(t, effect.Split.Segments, 1)
	require.Equal(t, int64(2000), effect.Split.Segments[0].ControlUsers)
	require.Len(t, a.Ratio.Dimensions, 1)
	require.Equal(t, []int64{2500, 2490}, a.Ratio.Dimensions[0].Slices[1].Users)
}

// noNulls reports null, NaN and infinity anywhere: JSON has no word for the latter two, and a list that is null breaks readers.
func noNulls(t *testing.T, a experiment.Analysis) {
	t.Helper()
	raw, err := json.Marshal(a)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "null")
}

func TestAnalyzeNamesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  func(*experiment.AnalysisSpec, *experiment.AnalysisData)
		state   experiment.State // of the whole
		metric  experiment.State // of activated_14d
		verdict experiment.DecisionCode
	}{
		"nobody":  {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) { *d = experiment.AnalysisData{} }, experiment.StateNoUsers, experiment.StateNoUsers, experiment.DecideNothing},
		"removed": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) { d.Removed = "gone since playbook p2" }, experiment.StateRemoved, experiment.StateRemoved, experiment.DecideNothing},
		"weights changed": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			d.Phases = []experiment.Phase{{Users: 4000, Weights: map[string]float64{"control": 0.5, "personalized": 0.5}}, {Users: 5000, Weights: map[string]float64{"control": 0.4, "personalized": 0.6}}}
		}, experiment.StateWeightsChanged, experiment.StateWeightsChanged, experiment.DecideNothing},
		"seed changed": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			d.Phases = []experiment.Phase{{Users: 4000, Seed: "a", Weights: map[string]float64{"control": 1}}, {Users: 5000, Seed: "b", Weights: map[string]float64{"control": 1}}}
		}, experiment.StateSeedChanged, experiment.StateSeedChanged, experiment.DecideNothing},
		"event never seen": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			d.Unseen = map[string]string{"activated_14d": "activated"}
		}, experiment.StateOK, experiment.StateUnseenEvent, experiment.DecideNothing},
		"nobody's window has passed": {func(s *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			s.Metrics[1].Shape = experiment.ShapeRetention
			d.Table[0].Moments = experiment.Moments{}
		}, experiment.StateOK, experiment.StateNotEligible, experiment.DecideNothing},
		"not counted": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) { d.Table = d.Table[2:] }, experiment.StateOK, experiment.StateMissing, experiment.DecideNothing},
		"empty arm": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			d.Users, d.Table = d.Users[:1], d.Table[:1]
		}, experiment.StateOK, experiment.StateEmptyArm, experiment.DecideDistrust},
		"overflow": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			d.Table[0].Moments = experiment.FromSums(4500, []float64{1e200}, []float64{1e200})
		}, experiment.StateOK, experiment.StateOverflow, experiment.DecideNothing},
		"not a number": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			d.Table[0].Moments = experiment.FromSums(4500, []float64{math.NaN()}, []float64{1})
		}, experiment.StateOK, experiment.StateNotFinite, experiment.DecideNothing},
		"zero variance": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			d.Table[0].Moments, d.Table[1].Moments = experiment.FromSums(4500, []float64{4500}, []float64{4500}), experiment.FromSums(4500, []float64{4500}, []float64{4500})
			d.Table = d.Table[:2]
		}, experiment.StateOK, "", ""},
		"broken ratio": {func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) { d.Users[0].Users = 5500 }, experiment.StateOK, experiment.StateOK, experiment.DecideDistrust},
		"no metric":    {func(s *experiment.AnalysisSpec, _ *experiment.AnalysisData) { s.Metrics, s.Primary = nil, "" }, experiment.StateOK, "", experiment.DecideNothing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, data := flow(), counted()
			test.change(&spec, &data)
			a := experiment.Analyze(spec, data)
			noNulls(t, a)
			require.Equal(t, test.state, a.State)
			if test.verdict != "" {
				require.Equal(t, test.verdict, a.Verdict.Code, a.Verdict)
			}
			if test.metric == "" {
				return
			}
			m := a.Metrics[0]
			require.Equal(t, "activated_14d", m.Key)
			require.Equal(t, test.metric, m.State, m.Why)
			if !test.metric.Readable() {
				require.NotEmpty(t, m.Why)
				e := m.Effects[0]
				require.Zero(t, e.Absolute.Value)
				require.Zero(t, e.Relative.Anytime.High)
				require.InDelta(t, 1, e.Absolute.Anytime.PValue, 0)
				require.Equal(t, experiment.VerdictUndecided, e.Verdict)
				require.NotEmpty(t, e.Sentence)
			}
			require.NotEmpty(t, a.Words)
		})
	}
}

// Every name a reader of the JSON meets is in one style, and no field lacks one.
func TestAnalysisSpeaksJSON(t *testing.T) {
	t.Parallel()
	seen := make(map[reflect.Type]bool)
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] {
			return
		}
		seen[typ] = true
		for f := range typ.Fields() {
			if !f.Anonymous {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				require.Regexp(t, "^[a-z][a-z_]*$", name, "%s.%s", typ, f.Name)
			}
			visit(f.Type)
		}
	}
	visit(reflect.TypeFor[experiment.Analysis]())
	require.Greater(t, len(seen), 15)
	noNulls(t, experiment.Analyze(flow(), counted()))
}

// cells is a factorial flow of 2 × 2 whose tone matters and whose length does not.
func cells(rates map[string]int64) (experiment.AnalysisSpec, experiment.AnalysisData) {
	spec := experiment.AnalysisSpec{
		Experiment: "style", Control: "full__calm",
		Factors: []experiment.FactorSpec{{Factor: "length", Levels: []string{"full", "brief"}}, {Factor: "tone", Levels: []string{"calm", "bold"}}},
		Metrics: []experiment.MetricSpec{{Key: "done", Shape: "proportion", Kind: experiment.KindProportion}},
	}
	var data experiment.AnalysisData
	for _, length := range []string{"brief", "full"} { // not in the order of the levels
		for _, tone := range []string{"bold", "calm"} {
			key := length + "__" + tone
			spec.Arms = append(spec.Arms, experiment.ArmSpec{Variant: key, Weight: 0.25, Levels: map[string]string{"length": length, "tone": tone}})
			data.Users = append(data.Users, experiment.UserCount{Variant: key, Users: 2000})
			data.Table = append(data.Table, row("done", key, "", experiment.FromCounts(2000, rates[key])))
		}
	}
	return spec, data
}

func TestAnalyzeFactors(t *testing.T) {
	t.Parallel()
	a := experiment.Analyze(cells(map[string]int64{"full__calm": 600, "full__bold": 800, "brief__calm": 600, "brief__bold": 800}))
	noNulls(t, a)
	require.Len(t, a.Factors, 3)
	for _, f := range a.Factors {
		switch {
		case len(f.Factors) == 2:
			require.Equal(t, []string{"brief", "bold"}, f.Levels)
			require.InDelta(t, 0, f.Effect.Value, 1e-12)
			require.Nil(t, f.Relative)
		case f.Factors[0] == "tone":
			require.Equal(t, []string{"bold"}, f.Levels)
			require.InDelta(t, 0.1, f.Effect.Value, 1e-12)
			require.Less(t, f.AdjustedP, 0.001)
			require.Contains(t, f.Sentence, "however often one looks")
		default:
			require.InDelta(t, 0, f.Effect.Value, 1e-12)
			require.Contains(t, f.Sentence, "no effect")
		}
	}
	require.Len(t, a.Joint, 1)
	require.InDelta(t, 1, a.Joint[0].PValue, 1e-9)
}

// sampled is n users of whom some did it, one a second from some moment on; the others stand at the end of the window.
func sampled(n, did int, from float64) experiment.Sample {
	return experiment.SampleOf(func(yield func(float64) bool) {
		for i := range n {
			v := 10000.0
			if i < did {
				v = from + float64(i)
			}
			if !yield(v) {
				return
			}
		}
	})
}

func TestAnalyzeQuantile(t *testing.T) {
	t.Parallel()
	spec, data := flow(), counted()
	spec.Metrics = []experiment.MetricSpec{{
		Key: "time_to", Shape: experiment.ShapeQuantile, Quantile: 0.5, Censored: 10000, Unit: "seconds", LowerIsBetter: true,
	}}
	spec.Primary = "time_to"
	data.Table = []experiment.Row{
		{Metric: "time_to", Variant: "control", Sample: sampled(4500, 3000, 400), Query: "moments"},
		{Metric: "time_to", Variant: "personalized", Sample: sampled(4500, 3200, 100), Query: "moments"},
	}
	a := experiment.Analyze(spec, data)
	noNulls(t, a)
	e := a.Metrics[0].Effects[0]
	require.Equal(t, experiment.StateOK, e.State)
	require.InDelta(t, -300, e.Absolute.Value, 1e-9)
	require.Less(t, e.Absolute.Anytime.Low, e.Absolute.Fixed.Low)
	require.InDelta(t, a.Metrics[0].Arms[1].Value/a.Metrics[0].Arms[0].Value-1, e.Relative.Value, 1e-12)
	require.Equal(t, experiment.VerdictBetter, e.Verdict, "sooner is better")

	data.Table[1].Sample = sampled(4500, 2000, 100) // fewer than half did it
	a = experiment.Analyze(spec, data)
	require.Equal(t, experiment.StateNotReached, a.Metrics[0].Arms[1].State)
	require.Equal(t, experiment.StateNotReached, a.Metrics[0].State)
	require.Zero(t, a.Metrics[0].Effects[0].Absolute.Value)
}

func TestAnalyzeLooks(t *testing.T) {
	t.Parallel()
	spec, data := flow(), counted()
	for i, at := range []int64{30, 10, 20} { // in no order
		n := at * 100
		data.Looks = append(data.Looks,
			experiment.LookRow{At: at, Variant: "control", Moments: experiment.FromCounts(n, n*3/10)},
			experiment.LookRow{At: at, Variant: "personalized", Moments: experiment.FromCounts(n, n*3/10+int64(100*i))})
	}
	a := experiment.Analyze(spec, data)
	require.Len(t, a.Looks, 3)
	require.Equal(t, []int64{10, 20, 30}, []int64{a.Looks[0].At, a.Looks[1].At, a.Looks[2].At})
	require.GreaterOrEqual(t, a.Looks[0].RunningP, a.Looks[2].RunningP)
	require.InDelta(t, a.Looks[1].RunningP, a.Looks[2].RunningP, 0, "what was claimed once is not taken back")
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	set := func(control, treatment, tickets int64) func(*experiment.AnalysisSpec, *experiment.AnalysisData) {
		return func(_ *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			d.Table[0].Moments, d.Table[1].Moments = experiment.FromCounts(4500, control), experiment.FromCounts(4500, treatment)
			d.Table[5].Moments = experiment.FromSums(4500, []float64{float64(tickets)}, []float64{float64(tickets) * 1.1})
			d.Table = append(d.Table[:2], d.Table[4:]...)
		}
	}
	for name, test := range map[string]struct {
		change  func(*experiment.AnalysisSpec, *experiment.AnalysisData)
		code    experiment.DecisionCode
		variant string
	}{
		"better":           {set(1350, 1560, 900), experiment.DecideWinner, "personalized"},
		"better but harms": {set(1350, 1560, 2400), experiment.DecideStop, ""},
		"worse":            {set(1560, 1350, 900), experiment.DecideLoser, "control"},
		"not yet":          {set(1350, 1360, 900), experiment.DecideWait, ""},
		"never": {func(s *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			set(1350, 1360, 900)(s, d)
			s.Planned = 9000
		}, experiment.DecideNoGain, ""},
		"lower is better": {func(s *experiment.AnalysisSpec, d *experiment.AnalysisData) {
			set(1560, 1350, 900)(s, d)
			s.Metrics[1].LowerIsBetter = true
		}, experiment.DecideWinner, "personalized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, data := flow(), counted()
			spec.Segments = nil
			test.change(&spec, &data)
			a := experiment.Analyze(spec, data)
			require.Equal(t, test.code, a.Verdict.Code, a.Verdict)
			require.Equal(t, test.variant, a.Verdict.Variant)
			require.NotEmpty(t, a.Verdict.Headline)
			require.NotEmpty(t, a.Verdict.Reasons)
		})
	}
}

// One family, one budget: an experiment of many arms and metrics without any effect claims nothing in 95 of 100 cases.
func TestOneBudgetForTheFamily(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	wrong := 0
	const runs = 300
	for range runs {
		spec := experiment.AnalysisSpec{Arms: []experiment.ArmSpec{{Variant: "c", Weight: 1}, {Variant: "x", Weight: 1}, {Variant: "y", Weight: 1}}}
		var data experiment.AnalysisData
		for _, metric := range []string{"m1", "m2", "m3", "m4"} {
			spec.Metrics = append(spec.Metrics, experiment.MetricSpec{Key: metric, Shape: "proportion", Kind: experiment.KindProportion})
			for _, arm := range spec.Arms {
				converted := int64(0)
				for range 2000 {
					if r.Float64() < 0.3 {
						converted++
					}
				}
				data.Table = append(data.Table, row(metric, arm.Variant, "", experiment.FromCounts(2000, converted)))
			}
		}
		for _, arm := range spec.Arms {
			data.Users = append(data.Users, experiment.UserCount{Variant: arm.Variant, Users: 2000})
		}
		claimed := false
		for _, m := range experiment.Analyze(spec, data).Metrics {
			for _, e := range m.Effects {
				claimed = claimed || e.Verdict != experiment.VerdictUndecided
			}
		}
		if claimed {
			wrong++
		}
	}
	require.Less(t, wrong, runs/20)
}
