package results_test

import (
	"math/rand/v2"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/internal/results"
)

const day = 86_400_000

// names are those of a fixture, so that a test can make them hostile.
type names struct{ experiment, control, guided, short, metric, segment, reason, token string }

func friendly() names {
	return names{"onboarding_flow", "control", "guided", "short", "activated", "engaged_newcomer", "met_two_variants", "uabcdefghijklmnopqrstuvwxyz"}
}

// sample is an experiment of three arms after twelve days, with everything a page can show.
func sample(n names) *results.Results {
	spec := experiment.AnalysisSpec{
		Experiment: n.experiment, Description: "Two guided ways in, against the one there was.", Playbook: "4f2a9c1e7b6d5830",
		Arms:    []experiment.ArmSpec{{Variant: n.control, Weight: 0.5}, {Variant: n.guided, Weight: 0.25}, {Variant: n.short, Weight: 0.25}},
		Control: n.control, Primary: n.metric, Segments: []string{n.segment, "from_advertisement"}, Planned: 12_000,
		Metrics: []experiment.MetricSpec{
			{Key: n.metric, Shape: "proportion", Kind: experiment.KindProportion, Definition: "Share of users with activated within 14d of the exposure.", Columns: []string{"activated"}},
			{Key: "session_length", Shape: "ratio", Kind: experiment.KindRatio, Unit: "seconds", Definition: "Seconds per session.", Columns: []string{"seconds", "sessions"}},
			{Key: "setup", Shape: "funnel", Kind: experiment.KindProportion, Definition: "Share of users who went all the way to the first project.", Columns: []string{"done"}, Steps: []string{"profile", "team", "project"}},
			{Key: "tickets", Shape: "mean", Kind: experiment.KindMean, Unit: "tickets", Role: experiment.RoleGuardrail, LowerIsBetter: true, Margin: 0.1, Definition: "Support tickets per user.", Columns: []string{"tickets"}},
			{Key: "refunds", Shape: "mean", Kind: experiment.KindMean, Unit: "refunds", Definition: "Refunds per user.", Columns: []string{"refunds"}},
		},
	}
	data := experiment.AnalysisData{
		At: 1_795_000_000_000, Started: 1_795_000_000_000 - 12*day, Queries: []experiment.Query{{Name: "moments", SQL: "SELECT variant, count(), sum(y) FROM unit_metrics\nWHERE y < 3 GROUP BY variant"}},
		Phases:   []experiment.Phase{{Since: 1_795_000_000_000 - 12*day, Until: 1_795_000_000_000, Users: 8000, Seed: n.experiment, HashVersion: 2, Coverage: 1, Weights: map[string]float64{n.control: 0.5, n.guided: 0.25, n.short: 0.25}}},
		Excluded: []experiment.Exclusion{{Reason: n.reason, Why: "Met two variants: the seed was not the same for them all the time.", Users: 3, Sample: []string{n.token}}},
		Unseen:   map[string]string{"refunds": "refunded"},
		Caps:     map[string]experiment.Cap{"tickets": {Value: 9, Percentile: 99.9, Users: 4}},
		Notices:  []experiment.Notice{{Code: "late_events", Message: "Some events came late and are counted by their own time.", Users: 14}},
	}
	fill(&data, n)
	a := new(experiment.Analyze(spec, data))
	return &results.Results{
		AnalysisID: "a1b2c3", Engine: "test", Analysis: a, Pooled: results.PooledOf(a),
		Journeys: []results.JourneyFunnel{{Journey: "onboarding", Steps: []results.FunnelStep{
			{Step: "welcome", Users: []int64{4000, 1990, 2010}}, {Step: "checklist", Users: []int64{2900, 1600, 1500}}, {Step: "converted", Users: []int64{1200, 700, 560}},
		}}},
	}
}

// fill makes up the rows: guided is better, short is not, and the effects grow to it day by day.
func fill(data *experiment.AnalysisData, n names) {
	users := map[string]int64{n.control: 4000, n.guided: 1990, n.short: 2010}
	rates := map[string]float64{n.control: 0.30, n.guided: 0.352, n.short: 0.279}
	r := rand.New(rand.NewPCG(1, 2))
	for variant, all := range users {
		yes := int64(rates[variant] * float64(all))
		data.Users = append(data.Users, experiment.UserCount{Variant: variant, Users: all}, experiment.UserCount{Variant: variant, Segment: n.segment, Users: all / 2}, experiment.UserCount{Variant: variant, Segment: "from_advertisement", Users: all / 5})
		add := func(metric, segment string, m experiment.Moments) {
			data.Table = append(data.Table, experiment.Row{Metric: metric, Variant: variant, Segment: segment, Moments: m, Query: "moments"})
		}
		add(n.metric, "", experiment.FromCounts(all, yes))
		add(n.metric, n.segment, experiment.FromCounts(all/2, yes*6/10))
		add(n.metric, "from_advertisement", experiment.FromCounts(all/5, yes/7))
		add("setup", "", experiment.FromCounts(all, yes/2))
		add("session_length", "", experiment.FromRows(2, func(yield func([]float64) bool) {
			for range all {
				sessions := float64(1 + r.IntN(5))
				if !yield([]float64{sessions * (60 + 20*r.Float64()), sessions}) {
					return
				}
			}
		}))
		add("tickets", "", experiment.FromValues(func(yield func(float64) bool) {
			for range all {
				if !yield(float64(r.IntN(3))) {
					return
				}
			}
		}))
		for i, step := range []string{"profile", "team", "project"} {
			data.Steps = append(data.Steps, experiment.StepRow{Metric: "setup", Variant: variant, Step: step, Users: all * int64(9-2*i) / 10})
		}
		for look := int64(1); look <= 12; look++ {
			data.Looks = append(data.Looks, experiment.LookRow{At: data.Started + look*day, Variant: variant, Moments: experiment.FromCounts(all*look/12, yes*look/12)})
		}
	}
}

// nothing is an experiment that nobody has met.
func nothing() *results.Results {
	return &results.Results{Analysis: new(experiment.Analyze(experiment.AnalysisSpec{
		Experiment: "empty", Arms: []experiment.ArmSpec{{Variant: "control", Weight: 0.5}, {Variant: "b", Weight: 0.5}},
		Metrics: []experiment.MetricSpec{{Key: "activated", Shape: "proportion", Kind: experiment.KindProportion}},
	}, experiment.AnalysisData{}))}
}
