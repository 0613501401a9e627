package results

import (
	"slices"

	"github.com/onramphq/onramp/experiment"
)

// Results is an analysis as it is published: the JSON document of `onramp results --json` and of the API.
type Results struct {
	AnalysisID string `json:"analysis_id,omitempty"` // of the row that keeps it; empty where none was written
	Engine     string `json:"engine,omitempty"`      // version of the program
	*experiment.Analysis

	Journeys []JourneyFunnel `json:"journeys"` // in which the experiment was met
	Pooled   []Pooled        `json:"pooled"`   // of every share
}

// Pooled is the p-value of the chi-squared test of a table of arms and outcomes, which is that of the pooled z-test: what most tools
// report for a share. That of an effect keeps the arms' own variances, so that it agrees with its interval. For one planned look.
type Pooled struct {
	Metric    string  `json:"metric"`
	Treatment string  `json:"treatment"`
	PValue    float64 `json:"p_value"`
}

// pooled is the pooled p-value of one share; false where there is none.
func (r *Results) pooled(metric, treatment string) (float64, bool) {
	i := slices.IndexFunc(r.Pooled, func(p Pooled) bool { return p.Metric == metric && p.Treatment == treatment })
	if i < 0 {
		return 0, false
	}
	return r.Pooled[i].PValue, true
}

// PooledOf tests every share of an analysis that can be read.
func PooledOf(a *experiment.Analysis) []Pooled {
	list := []Pooled{}
	for i := range a.Metrics {
		m := &a.Metrics[i]
		at := slices.IndexFunc(m.Arms, func(arm experiment.ArmMetric) bool { return arm.Variant == a.Spec.Control })
		if m.Kind != experiment.KindProportion || at < 0 {
			continue
		}
		for j := range m.Arms {
			control, treatment := &m.Arms[at], &m.Arms[j]
			if j == at || !control.State.Readable() || !treatment.State.Readable() || len(control.Moments.Sums) == 0 || len(treatment.Moments.Sums) == 0 {
				continue
			}
			c, t := int64(control.Moments.Sums[0]), int64(treatment.Moments.Sums[0])
			list = append(list, Pooled{Metric: m.Key, Treatment: treatment.Variant, PValue: experiment.SampleRatioBy([]experiment.Slice{
				{Value: "yes", Users: []int64{c, t}}, {Value: "no", Users: []int64{control.Users - c, treatment.Users - t}},
			}, []float64{1, 1}).Independence.PValue})
		}
	}
	return list
}

// JourneyFunnel is how far the users of each variant got in a journey after they had met the variant.
type JourneyFunnel struct {
	Journey string       `json:"journey"`
	Steps   []FunnelStep `json:"steps"`
}

// FunnelStep is a step and the users who reached it, in the order of Analysis.Arms.
type FunnelStep struct {
	Step  string  `json:"step"`
	Users []int64 `json:"users"`
}

// Overview is one line of a list of experiments.
type Overview struct {
	Experiment string                  `json:"experiment"`
	State      experiment.State        `json:"state"`
	Users      int64                   `json:"users"`
	Verdict    experiment.DecisionCode `json:"verdict"`
	Headline   string                  `json:"headline"`
}
