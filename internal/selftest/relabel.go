package selftest

import (
	"fmt"
	"math"
	"strconv"

	"github.com/onramphq/onramp/experiment"
)

// metric deals the users out again and again, and counts what is then claimed of one metric.
func (in *Input) metric(m *Metric) []Check {
	metric, units := m.Metric, m.Units
	refuse := func(why string) []Check {
		return []Check{{Name: "a/a", Metric: metric.Key, Passed: true, Skipped: why}}
	}
	if len(units) < MinUsers {
		return refuse(fmt.Sprintf("%d users have a value, of whom %d are needed", len(units), MinUsers))
	}
	aa, err := experiment.SelfTest{Seed: in.Seed, Replications: in.Replications}.Run(metric, units, in.Options)
	if err != nil {
		return refuse(err.Error())
	}
	read := aa.Replications - aa.Unreadable
	if read < in.Replications/2 {
		return refuse(fmt.Sprintf("only %d of %d replications could be read: too few conversions, or too little spread", read, in.Replications))
	}
	limit := float64(aa.FixedLimit)
	check := func(name, what string, value float64) Check {
		return Check{Name: name, Metric: metric.Key, What: what, Value: value, High: limit, Passed: value <= limit}
	}
	claimed := float64(in.everyLook(metric, units))
	checks := []Check{
		check("a/a at one look", fmt.Sprintf("claims in %d replications without an effect, by the rule for one planned look", read), float64(aa.FixedMissed)),
		check("a/a at every look", fmt.Sprintf("replications of %d with a claim at any of %d looks, by the rule for every look", in.Replications, in.Looks), claimed),
		{Name: "a/a p-values", Metric: metric.Key, What: "p of the p-values for one look being uniform (Kolmogorov–Smirnov)", Value: aa.UniformP, Low: tail, High: 1, Passed: aa.UniformP >= tail},
	}
	return append(checks, in.injected(metric, units)...)
}

// everyLook counts the replications in which the rule for every look claims something at any look, of users to whom nothing was
// done.
func (in *Input) everyLook(metric experiment.Metric, units []experiment.Unit) (claimed int) {
	for replication := range in.Replications {
		seed := in.Seed + "/looks/" + strconv.Itoa(replication)
		arms := [2]*sums{newSums(len(units[0].Values)), newSums(len(units[0].Values))}
		for look := range in.Looks {
			for _, u := range units[look*len(units)/in.Looks : (look+1)*len(units)/in.Looks] {
				bucket, _ := experiment.Hash(seed, u.ID, experiment.HashV2)
				arms[int(2*bucket)].add(u.Values)
			}
			e := experiment.Compare(metric, arms[0].moments(), arms[1].moments(), in.Options).Absolute
			if e.State.Readable() && !e.Anytime.Contains(0) {
				claimed++
				break
			}
		}
	}
	return claimed
}

// injected puts a lift into one half, and asks whether the intervals hold it.
func (in *Input) injected(metric experiment.Metric, units []experiment.Unit) []Check {
	lift := in.lift(metric, units)
	refuse := []Check{{Name: "injected lift", Metric: metric.Key, Passed: true, Skipped: "no lift can be put in: the metric is not above zero, or has too little spread"}}
	if lift == 0 {
		return refuse
	}
	r, err := experiment.SelfTest{Seed: in.Seed, Replications: in.Replications, Lift: lift}.Run(metric, units, in.Options)
	if err != nil || r.Replications-r.Unreadable < in.Replications/2 {
		return refuse
	}
	read, limit := r.Replications-r.Unreadable, float64(r.FixedLimit)
	return []Check{
		{Name: "injected lift at one look", Metric: metric.Key, What: fmt.Sprintf("intervals of %d that miss the %.3g %% put in", read, 100*lift), Value: float64(r.FixedMissed), High: limit, Passed: float64(r.FixedMissed) <= limit},
		{Name: "injected lift at every look", Metric: metric.Key, What: fmt.Sprintf("always-valid intervals of %d that miss it; %d of them find a lift", read, r.Found), Value: float64(r.AnytimeMiss), High: limit, Passed: float64(r.AnytimeMiss) <= limit},
	}
}

// lift is the relative effect that is put into a metric: the one asked for, or the one that a fixed sample of this size finds
// with a chance of 80 %. Zero: none can be.
func (in *Input) lift(metric experiment.Metric, units []experiment.Unit) float64 {
	all := newSums(len(units[0].Values))
	for _, u := range units {
		all.add(u.Values)
	}
	e := metric.Of(all.moments())
	if !e.State.Readable() || e.Value <= 0 || !(e.Variance > 0) { // written so that NaN is refused too
		return 0
	}
	if in.Lift > 0 {
		return in.Lift
	}
	plan := experiment.Plan{Baseline: e.Value, Power: plannedPower}
	if metric.Kind != experiment.KindProportion {
		plan.SD = math.Sqrt(e.Variance)
	}
	found, err := plan.Detectable(int64(len(units)), in.Options)
	if err != nil {
		return 0
	}
	return found
}

// sums are moments in the making. Plain sums: to count claims needs no exact ones.
type sums struct {
	users          int64
	sums, products []float64
}

func newSums(columns int) *sums {
	return &sums{sums: make([]float64, columns), products: make([]float64, columns*(columns+1)/2)}
}

func (s *sums) add(row []float64) {
	s.users++
	k := 0
	for i, x := range row {
		s.sums[i] += x
		for _, y := range row[i:] {
			s.products[k] += x * y
			k++
		}
	}
}

func (s *sums) moments() experiment.Moments { return experiment.FromSums(s.users, s.sums, s.products) }
