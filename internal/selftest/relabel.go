package selftest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/onramphq/onramp/experiment"
)

// sums are the moments of two arms of one metric, added up user by user. Plain sums: a test of a share of claims needs no
// exact ones.
type sums struct {
	users [2]int64
	sum   [2][]float64
	prod  [2][]float64
}

func newSums(columns int) *sums {
	s := &sums{}
	for arm := range 2 {
		s.sum[arm], s.prod[arm] = make([]float64, columns), make([]float64, columns*(columns+1)/2)
	}
	return s
}

func (s *sums) add(arm int, row []float64) {
	s.users[arm]++
	k := 0
	for i, x := range row {
		s.sum[arm][i] += x
		for _, y := range row[i:] {
			s.prod[arm][k] += x * y
			k++
		}
	}
}

func (s *sums) moments(arm int) experiment.Moments {
	return experiment.FromSums(s.users[arm], s.sum[arm], s.prod[arm])
}

// columnsOf is how many values a user has of a metric.
func columnsOf(m experiment.Metric) int {
	if m.Kind == experiment.KindRatio {
		return 2 + m.Covariates
	}
	return 1 + m.Covariates
}

// trial is what the replications of one metric said.
type trial struct {
	runs    int // that could be read
	fixed   int // claims at the last look, by the rule for one look
	anytime int // claims at any look, by the rule for every look
	ps      []float64

	injected, found, held, heldAnytime int
}

// relabeled deals the users out again and again: once without an effect, once with one.
func (in *Input) relabeled() []Check {
	trials := make([]trial, len(in.Metrics))
	lifts := make([]float64, len(in.Metrics))
	for m := range in.Metrics {
		lifts[m] = in.lift(m)
	}
	alarms := 0
	arms := make([]int8, len(in.Units))
	for s := range in.Replications {
		counts := in.deal(arms, s)
		if experiment.SampleRatioMismatch(counts, in.weights()).Mismatch {
			alarms++
		}
		for m := range in.Metrics {
			in.without(m, arms, &trials[m])
			if lifts[m] > 0 {
				in.with(m, arms, lifts[m], rand.New(rand.NewPCG(in.Seed, uint64(s)<<16+uint64(m))), &trials[m]) //nolint:gosec // reproducible, no secret
			}
		}
	}
	_, most := limits(in.Replications, experiment.SRMAlarm)
	checks := []Check{{
		Name: "a/a sample ratio", What: "alarms over users who were dealt out as configured", Value: float64(alarms), High: most, Passed: float64(alarms) <= most,
	}}
	for m := range in.Metrics {
		checks = append(checks, trials[m].checks(in, in.Metrics[m].Key, lifts[m])...)
	}
	return checks
}

func (in *Input) weights() []float64 {
	weights := make([]float64, len(in.Experiment.Variants))
	for i, v := range in.Experiment.Variants {
		weights[i] = v.Weight
	}
	return weights
}

// deal gives every user an arm by the hash of production under a seed of its own; coverage is full, because all these users
// are in.
func (in *Input) deal(arms []int8, replication int) []int64 {
	x := experiment.Experiment{
		Key: "selftest", Seed: "selftest-" + strconv.FormatUint(in.Seed, 10) + "-" + strconv.Itoa(replication), HashVersion: experiment.HashV2, Variants: in.Experiment.Variants,
	}
	place := make(map[string]int8, len(x.Variants))
	for i, v := range x.Variants {
		place[v.Key] = int8(i) //nolint:gosec // an experiment has few arms
	}
	counts := make([]int64, len(x.Variants))
	for i := range in.Units {
		arms[i] = place[x.Assign(in.Units[i].Token).Variant]
		counts[arms[i]]++
	}
	return counts
}

// without reads a metric at every look, of users to whom nothing was done: the first arm against the second.
func (in *Input) without(m int, arms []int8, t *trial) {
	metric := in.Metrics[m]
	s := newSums(columnsOf(metric))
	claimed, state := false, experiment.StateOK
	var last experiment.Reading
	for look := range in.Looks {
		for i := look * len(in.Units) / in.Looks; i < (look+1)*len(in.Units)/in.Looks; i++ {
			if row := in.Units[i].Values[m]; row != nil && arms[i] < 2 {
				s.add(int(arms[i]), row)
			}
		}
		last = experiment.Compare(metric, s.moments(0), s.moments(1), in.Options)
		state = last.State
		claimed = claimed || state.Readable() && last.Absolute.Anytime.PValue < in.Options.Alpha
	}
	if !state.Readable() {
		return
	}
	t.runs++
	if claimed {
		t.anytime++
	}
	if last.Absolute.Fixed.PValue < in.Options.Alpha {
		t.fixed++
	}
	if state == experiment.StateOK {
		t.ps = append(t.ps, last.Absolute.Fixed.PValue)
	}
}

// lift is the relative effect that is put into a metric: the one asked for, or the one that a fixed sample of this size finds
// with a chance of 80 %. Zero: none can be.
func (in *Input) lift(m int) float64 {
	if in.Lift > 0 {
		return in.Lift
	}
	metric := in.Metrics[m]
	s := newSums(columnsOf(metric))
	for i := range in.Units {
		if row := in.Units[i].Values[m]; row != nil {
			s.add(0, row)
		}
	}
	e := metric.Of(s.moments(0))
	w := in.weights()
	if !e.State.Readable() || e.Value <= 0 || e.Variance <= 0 || w[0]+w[1] <= 0 {
		return 0
	}
	p := experiment.Plan{Baseline: e.Value, Share: w[1] / (w[0] + w[1]), Power: plannedPower}
	if metric.Kind != experiment.KindProportion {
		p.SD = math.Sqrt(e.Variance)
	}
	all := 0.0
	for _, x := range w {
		all += x
	}
	found, err := p.Detectable(int64(float64(e.Users)*(w[0]+w[1])/all), in.Options)
	if err != nil {
		return 0
	}
	return found
}

// with puts a lift into the second arm and looks once, at the end. A mean is multiplied; of a rate, so many users who did
// not convert are made to as the lift asks for.
func (in *Input) with(m int, arms []int8, lift float64, r *rand.Rand, t *trial) {
	metric := in.Metrics[m]
	columns := columnsOf(metric)
	s := newSums(columns)
	for i := range in.Units {
		if row := in.Units[i].Values[m]; row != nil && arms[i] < 2 {
			s.add(int(arms[i]), row)
		}
	}
	baseline := (s.sum[0][0] + s.sum[1][0]) / float64(s.users[0]+s.users[1])
	raised := newSums(columns)
	changed := make([]float64, columns)
	for i := range in.Units {
		row := in.Units[i].Values[m]
		if row == nil || arms[i] > 1 {
			continue
		}
		if arms[i] == 1 {
			copy(changed, row)
			switch {
			case metric.Kind != experiment.KindProportion:
				changed[0] *= 1 + lift
			case row[0] == 0 && baseline < 1 && r.Float64() < lift*baseline/(1-baseline):
				changed[0] = 1
			}
			row = changed
		}
		raised.add(int(arms[i]), row)
	}
	reading := experiment.Compare(metric, raised.moments(0), raised.moments(1), in.Options)
	if !reading.Relative.State.Readable() {
		return
	}
	t.injected++
	if reading.Absolute.Fixed.PValue < in.Options.Alpha {
		t.found++
	}
	if reading.Relative.Fixed.Contains(lift) {
		t.held++
	}
	if reading.Relative.Anytime.Contains(lift) {
		t.heldAnytime++
	}
}

func (t *trial) checks(in *Input, metric string, lift float64) []Check {
	if t.runs < in.Replications/2 {
		return []Check{{Name: "a/a", Metric: metric, Passed: true, Skipped: fmt.Sprintf("only %d of %d replications could be read: too few conversions, or no spread", t.runs, in.Replications)}}
	}
	alpha := in.Options.Alpha
	_, most := limits(t.runs, alpha)
	checks := []Check{
		{Name: "a/a at one look", Metric: metric, What: fmt.Sprintf("claims in %d replications without an effect, by the rule for one look", t.runs), Value: float64(t.fixed), High: most, Passed: float64(t.fixed) <= most},
		{Name: "a/a at every look", Metric: metric, What: fmt.Sprintf("replications of %d with a claim at any of %d looks, by the rule for every look", t.runs, in.Looks), Value: float64(t.anytime), High: most, Passed: float64(t.anytime) <= most},
	}
	if len(t.ps) >= in.Replications/2 {
		p := kolmogorov(t.ps)
		checks = append(checks, Check{Name: "a/a p-values", Metric: metric, What: "p of the p-values being uniform (Kolmogorov–Smirnov)", Value: p, Low: tail, High: 1, Passed: p >= tail})
	}
	if t.injected < in.Replications/2 {
		return append(checks, Check{Name: "injected lift", Metric: metric, Passed: true, Skipped: "no lift can be put in and read: the metric is not above zero, or has too little spread"})
	}
	least, _ := limits(t.injected, 1-alpha)
	checks = append(checks,
		Check{Name: "injected lift at one look", Metric: metric, What: fmt.Sprintf("intervals of %d that hold the lift of %.3g %% put in", t.injected, 100*lift), Value: float64(t.held), Low: least, High: float64(t.injected), Passed: float64(t.held) >= least},
		Check{Name: "injected lift at every look", Metric: metric, What: fmt.Sprintf("always-valid intervals of %d that hold it", t.injected), Value: float64(t.heldAnytime), Low: least, High: float64(t.injected), Passed: float64(t.heldAnytime) >= least})
	if in.Lift > 0 {
		return checks
	}
	// The plan knows the arms' sizes as configured and the spread without the lift: a twentieth of power more or less is no fault.
	low, _ := limits(t.injected, plannedPower-0.05)
	_, high := limits(t.injected, plannedPower+0.05)
	return append(checks, Check{
		Name: "power", Metric: metric, What: fmt.Sprintf("of %d replications that find it at one look; planned were %.0f %%", t.injected, 100*plannedPower),
		Value: float64(t.found), Low: low, High: high, Passed: float64(t.found) >= low && float64(t.found) <= high,
	})
}
