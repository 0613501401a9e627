package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
)

const dayMilli = 86_400_000

// analysisOf is an experiment of two treatments after twenty days: rates of control and treatments among 5,000 users each, and
// how many tickets a user of each wrote.
func analysisOf(rates, tickets [3]float64) *experiment.Analysis {
	spec := experiment.AnalysisSpec{
		Experiment: "flow", Control: "control", Arms: []experiment.ArmSpec{{Variant: "control", Weight: 1}, {Variant: "guided", Weight: 1}, {Variant: "short", Weight: 1}},
		Metrics: []experiment.MetricSpec{
			{Key: "activated", Shape: "proportion", Kind: experiment.KindProportion},
			{Key: "tickets", Role: experiment.RoleGuardrail, Shape: "mean", Kind: experiment.KindMean, Unit: "tickets", LowerIsBetter: true, Margin: 0.1},
		},
	}
	data := experiment.AnalysisData{At: 20 * dayMilli, Started: 0}
	const users = 5000
	for i, arm := range spec.Arms {
		data.Users = append(data.Users, experiment.UserCount{Variant: arm.Variant, Users: users})
		sum := tickets[i] * users
		data.Table = append(data.Table,
			experiment.Row{Metric: "activated", Variant: arm.Variant, Moments: experiment.FromCounts(users, int64(rates[i]*users))},
			experiment.Row{Metric: "tickets", Variant: arm.Variant, Moments: experiment.FromSums(users, []float64{sum}, []float64{2 * sum})})
	}
	return new(experiment.Analyze(spec, data))
}

func TestDecideOn(t *testing.T) {
	t.Parallel()
	even := [3]float64{1, 1, 1}
	both := playbook.Decide{PauseOnGuardrail: true, StopForWinner: true, AtLeast: 14 * 24 * time.Hour}
	for name, test := range map[string]struct {
		analysis *experiment.Analysis
		rule     playbook.Decide
		want     map[string][]string // action → variants
		waiting  string
	}{
		"nothing may be decided":      {analysisOf([3]float64{.3, .4, .3}, even), playbook.Decide{}, nil, "says nothing under decide"},
		"no difference":               {analysisOf([3]float64{.3, .3, .3}, even), both, nil, "No arm has won"},
		"a winner":                    {analysisOf([3]float64{.3, .4, .3}, even), both, map[string][]string{actionStop: {"guided"}}, "No guardrail is breached"},
		"a winner too early":          {analysisOf([3]float64{.3, .4, .3}, even), playbook.Decide{StopForWinner: true, AtLeast: 30 * 24 * time.Hour}, nil, "runs 30.0 days at least"},
		"all worse":                   {analysisOf([3]float64{.4, .3, .3}, even), both, map[string][]string{actionStop: {"control"}}, ""},
		"a guardrail":                 {analysisOf([3]float64{.3, .3, .3}, [3]float64{1, 1, 1.5}), both, map[string][]string{actionPause: {"short"}}, "No arm has won"},
		"a winner that does harm":     {analysisOf([3]float64{.3, .4, .3}, [3]float64{1, 1.5, 1}), both, map[string][]string{actionPause: {"guided"}}, "No arm has won"},
		"a guardrail nobody asked of": {analysisOf([3]float64{.3, .3, .3}, [3]float64{1, 1, 1.5}), playbook.Decide{StopForWinner: true}, nil, "No arm has won"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, waiting := decideOn(test.analysis, test.rule)
			got := map[string][]string{}
			for _, d := range all {
				got[d.Action] = d.Variants
				require.NotEmpty(t, d.Because)
				require.Contains(t, d.Change, "experiment: flow")
			}
			if len(test.want) == 0 {
				require.Empty(t, got)
			} else {
				require.Equal(t, test.want, got)
			}
			if test.waiting != "" {
				require.Contains(t, waiting[len(waiting)-1]+waiting[0], test.waiting)
			}
		})
	}
}

// A broken ratio decides nothing, whatever the figures are.
func TestDecideOnBrokenRatio(t *testing.T) {
	t.Parallel()
	a := analysisOf([3]float64{.3, .5, .3}, [3]float64{1, 1, 2})
	a.Ratio.Mismatch = true
	all, waiting := decideOn(a, playbook.Decide{PauseOnGuardrail: true, StopForWinner: true})
	require.Empty(t, all)
	require.Contains(t, waiting[0], "cannot be trusted")
}

func TestDecideOnShares(t *testing.T) {
	t.Parallel()
	rule := playbook.Decide{Allocate: &playbook.Allocate{To: "rest", Floor: 0.05, MinUsers: 100}}
	all, waiting := decideOn(analysisOf([3]float64{.3, .33, .3}, [3]float64{1, 1, 1}), rule)
	require.Empty(t, waiting)
	require.Len(t, all, 1)
	require.Equal(t, actionShares, all[0].Action)
	sum := 0.0
	for _, s := range all[0].Shares {
		require.GreaterOrEqual(t, s, 0.05)
		sum += s
	}
	require.InDelta(t, 1, sum, 1e-9)
	require.Greater(t, all[0].Shares["guided"], 0.85)
	require.Contains(t, all[0].Change, "Give experiment rest")
	rule.Allocate.MinUsers = 6000
	all, waiting = decideOn(analysisOf([3]float64{.3, .33, .3}, [3]float64{1, 1, 1}), rule)
	require.Empty(t, all)
	require.Contains(t, waiting[0], "needs 6000 users")
}
