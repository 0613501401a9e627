package selftest

import (
	"cmp"
	"fmt"
	"strconv"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/onramphq/onramp/experiment"
)

// Defaults of Input, and bounds.
const (
	DefaultLooks = 20
	MinUsers     = 200 // fewer say nothing

	// tail is the chance that a check fails where all is well: small, because there are many. It is that of package experiment.
	tail = 0.001
	// bins is how many parts of a variant's range the buckets are counted in.
	bins = 20
	// plannedPower is the chance with which a lift of no given size is found by a fixed sample of this many users.
	plannedPower = 0.8
)

// Metric is a metric with the values of the users who have one, in an order that has nothing to do with them, such as that of their
// tokens.
type Metric struct {
	experiment.Metric

	Units []experiment.Unit
}

// Other is another experiment that users of this one are in.
type Other struct {
	Key   string
	Table [][]int64 // users by arm here and arm there
}

// Input is an experiment's rows and how to test with them.
type Input struct {
	Experiment experiment.Experiment
	Tokens     []string // of the users who count
	Metrics    []Metric
	Others     []Other
	Misplaced  int64  // exposures whose recorded variant the hash does not give
	Elsewhere  string // why the variants cannot be proved again, such as: assigned by something else. Empty: they can
	Options    experiment.Options

	Replications int     // Defaults to 500.
	Looks        int     // at which each replication is read. Defaults to 20.
	Seed         string  // of the labels
	Lift         float64 // that is put in. Defaults to the one that a fixed sample of this size finds with a chance of 80 %.
}

// Check is one question with the limits within which its answer passes.
type Check struct {
	Name    string  `json:"name"`
	Metric  string  `json:"metric,omitempty"`
	What    string  `json:"what"` // what was counted, in words
	Value   float64 `json:"value"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Passed  bool    `json:"passed"`
	Skipped string  `json:"skipped,omitempty"` // why there is no answer; Passed is true then
}

// Report is all checks.
type Report struct {
	Users        int     `json:"users"`
	Replications int     `json:"replications"`
	Looks        int     `json:"looks"`
	Seed         string  `json:"seed"`
	Alpha        float64 `json:"alpha"`
	Checks       []Check `json:"checks"`
	Passed       bool    `json:"passed"`
}

// Run runs all checks.
func Run(in Input) Report {
	in.Replications = cmp.Or(max(0, in.Replications), experiment.DefaultReplications)
	in.Looks = cmp.Or(max(0, in.Looks), DefaultLooks)
	in.Seed = cmp.Or(in.Seed, experiment.DefaultSeed)
	if !(in.Options.Alpha > 0 && in.Options.Alpha < 1) { // written so that NaN becomes the default
		in.Options.Alpha = experiment.DefaultAlpha
	}
	r := Report{Users: len(in.Tokens), Replications: in.Replications, Looks: in.Looks, Seed: in.Seed, Alpha: in.Options.Alpha, Passed: true}
	r.Checks = append(r.Checks, in.placed(), in.uniform())
	r.Checks = append(r.Checks, in.independent()...)
	for i := range in.Metrics {
		r.Checks = append(r.Checks, in.metric(&in.Metrics[i])...)
	}
	for _, c := range r.Checks {
		r.Passed = r.Passed && c.Passed
	}
	return r
}

// placed asks whether every exposure can be proved again.
func (in *Input) placed() Check {
	c := Check{Name: "assignment", What: "exposures whose variant the recorded bucket, weights and coverage do not give", Value: float64(in.Misplaced), Skipped: in.Elsewhere}
	c.Passed = in.Misplaced == 0
	return c
}

// uniform asks whether the buckets of the users fill the experiment's ranges evenly.
func (in *Input) uniform() Check {
	c := Check{Name: "buckets", What: fmt.Sprintf("p of the buckets being even, in %d parts of each variant's range", bins), Value: 1, Low: tail, High: 1, Passed: true, Skipped: in.Elsewhere}
	if in.Elsewhere != "" {
		return c
	}
	counts := make([]float64, 0, bins)
	expected := make([]float64, 0, bins)
	coverage := cmp.Or(in.Experiment.Coverage, 1)
	start := 0.0
	for _, v := range in.Experiment.Variants {
		width := v.Weight * coverage
		if width > 0 {
			first := len(counts)
			counts, expected = append(counts, make([]float64, bins)...), append(expected, make([]float64, bins)...)
			users := 0
			for _, token := range in.Tokens {
				bucket, _ := experiment.Hash(cmp.Or(in.Experiment.Seed, in.Experiment.Key), token, cmp.Or(in.Experiment.HashVersion, experiment.HashV2))
				if bucket >= start && bucket < start+width {
					counts[first+min(bins-1, int((bucket-start)/width*bins))]++
					users++
				}
			}
			for i := first; i < len(expected); i++ {
				expected[i] = float64(users) / bins
			}
		}
		start += v.Weight
	}
	c.Value = chiSquared(counts, expected, float64(len(counts)-len(counts)/bins))
	if len(in.Tokens) < MinUsers {
		c.Value, c.Skipped = 1, fmt.Sprintf("%d users, of whom %d are needed", len(in.Tokens), MinUsers)
		return c
	}
	c.Passed = c.Value >= c.Low
	return c
}

// independent asks whether the arms of this and another experiment have to do with each other.
func (in *Input) independent() []Check {
	checks := make([]Check, 0, len(in.Others))
	for _, o := range in.Others {
		c := Check{Name: "independence", Metric: o.Key, What: "p of the arms having nothing to do with those of " + o.Key, Value: 1, Low: tail, High: 1, Passed: true}
		slices := make([]experiment.Slice, 0)
		weights := make([]float64, len(o.Table))
		for i, row := range o.Table {
			for j, n := range row {
				for j >= len(slices) {
					slices = append(slices, experiment.Slice{Value: strconv.Itoa(j), Users: make([]int64, len(o.Table))})
				}
				slices[j].Users[i] = n
			}
			weights[i] = 1
		}
		c.Value = experiment.SampleRatioBy(slices, weights).Independence.PValue
		c.Passed = c.Value >= c.Low
		checks = append(checks, c)
	}
	return checks
}

// chiSquared is the p-value of counts against what is expected of them.
func chiSquared(counts, expected []float64, df float64) float64 {
	sum := 0.0
	for i := range counts {
		if expected[i] > 0 {
			sum += (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i]
		}
	}
	if df <= 0 {
		return 1
	}
	return distuv.ChiSquared{K: df}.Survival(sum)
}
