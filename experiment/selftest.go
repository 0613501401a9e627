package experiment

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// Unit is one user's row of values, as FromRows takes it.
type Unit struct {
	ID     string
	Values []float64
}

// SelfTest asks the statistics about the user's own data, where the answer is known: labels are drawn anew by a hash, so that
// there is no effect, or just the one that is put in.
type SelfTest struct {
	Seed         string  // of the labels. Another one draws others. Defaults to "selftest".
	Replications int     // Defaults to 500.
	Lift         float64 // relative, put into the treatment's outcome. Defaults to none: an A/A test.
}

// Defaults of a SelfTest.
const (
	DefaultSeed         = "selftest"
	DefaultReplications = 500
)

// SelfTestReport is what the statistics said over all replications. A limit is the number that chance exceeds once in a
// thousand times where all is well.
type SelfTestReport struct {
	Replications int
	Unreadable   int // replications without a readable effect; they count nowhere else
	FixedMissed  int // intervals for one look that missed the lift that was put in
	FixedLimit   int // of alpha · replications
	AnytimeMiss  int // the same of the anytime-valid ones
	Found        int // anytime-valid intervals that excluded zero: false alarms of an A/A test, power of another
	UniformP     float64
	Passed       bool // no count is above its limit, and in an A/A test the p-values are uniform
}

// Run draws labels for the units again and again and compares the two halves. Lift multiplies the first outcome column of
// the treated; of a proportion it turns users who did not convert into such who did. UniformP is Kolmogorov's and Smirnov's test
// of the fixed p-values of an A/A test; of another it is one.
func (s SelfTest) Run(metric Metric, units []Unit, opts Options) (SelfTestReport, error) {
	opts = opts.withDefaults()
	if s.Seed == "" {
		s.Seed = DefaultSeed
	}
	if s.Replications == 0 {
		s.Replications = DefaultReplications
	}
	if err := s.validate(metric, units); err != nil {
		return SelfTestReport{}, err
	}
	report := SelfTestReport{Replications: s.Replications, UniformP: 1}
	flips, err := s.flips(metric, units)
	if err != nil {
		return report, err
	}
	var p []float64
	for replication := range s.Replications {
		control, treatment := s.split(metric, units, flips, strconv.Itoa(replication))
		e := Compare(metric, control, treatment, opts).Relative
		if !e.State.Readable() || e.Anytime.LowOpen {
			report.Unreadable++
			continue
		}
		p = append(p, e.Fixed.PValue)
		report.FixedMissed += count(!e.Fixed.Contains(s.Lift))
		report.AnytimeMiss += count(!e.Anytime.Contains(s.Lift))
		report.Found += count(!e.Anytime.Contains(0))
	}
	report.FixedLimit = binomialLimit(len(p), opts.Alpha)
	if s.Lift == 0 {
		report.UniformP = UniformP(p)
	}
	report.Passed = len(p) > 0 && report.FixedMissed <= report.FixedLimit && report.AnytimeMiss <= report.FixedLimit && report.UniformP >= 0.001
	return report, nil
}

func (s SelfTest) validate(metric Metric, units []Unit) error {
	var problems []error
	if err := metric.Validate(); err != nil {
		problems = append(problems, err)
	}
	if s.Replications < 1 {
		problems = append(problems, fmt.Errorf("%d replications; there must be at least 1", s.Replications))
	}
	if badValue(s.Lift, MaxValue) != "" {
		problems = append(problems, fmt.Errorf("lift is %v; it must be a number", s.Lift))
	}
	columns := metric.outcomes() + metric.Covariates
	for _, u := range units {
		if len(u.Values) != columns {
			return errors.Join(append(problems, fmt.Errorf("a unit has %d values; the metric takes %d", len(u.Values), columns))...)
		}
	}
	return errors.Join(problems...)
}

// flips is the chance with which a user of the treatment who did not convert is made to, or one who did is made not to
// (below zero): so that the rate is lifted.
func (s SelfTest) flips(metric Metric, units []Unit) (float64, error) {
	if metric.Kind != KindProportion || s.Lift == 0 {
		return 0, nil
	}
	converted := 0.0
	for _, u := range units {
		converted += u.Values[0]
	}
	rate := converted / float64(max(len(units), 1))
	chance := s.Lift
	if s.Lift > 0 {
		chance = s.Lift * rate / (1 - rate)
	}
	if !(chance >= -1 && chance <= 1) { // written so that NaN is refused too
		return 0, fmt.Errorf("a lift of %v takes the rate %v out of [0,1]", s.Lift, rate)
	}
	return chance, nil
}

// split labels the units of one replication and puts the lift into the treated.
func (s SelfTest) split(metric Metric, units []Unit, flips float64, replication string) (control, treatment Moments) {
	columns := metric.outcomes() + metric.Covariates
	control, treatment = newMoments(columns), newMoments(columns)
	row, space := make([]float64, columns), make([]float64, columns)
	labels := s.Seed + "/" + replication
	for _, u := range units {
		if bucket, _ := Hash(labels, u.ID, HashV2); bucket < 0.5 {
			control.add(u.Values, space)
			continue
		}
		copy(row, u.Values)
		if s.Lift != 0 {
			s.lift(metric, row, u.ID, flips, labels+"/lift")
		}
		treatment.add(row, space)
	}
	return control, treatment
}

func (s SelfTest) lift(metric Metric, row []float64, id string, flips float64, seed string) {
	if metric.Kind != KindProportion {
		row[0] *= 1 + s.Lift
		return
	}
	bucket, _ := Hash(seed, id, HashV2)
	switch {
	case flips > 0 && row[0] == 0 && bucket < flips:
		row[0] = 1
	case flips < 0 && row[0] == 1 && bucket < -flips:
		row[0] = 0
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// binomialLimit is the smallest number that n trials of chance p exceed with chance 0.001 at most.
func binomialLimit(n int, p float64) int {
	limit := int(lastTrue(-1, int64(n), func(k int64) bool {
		return k < 0 || k < int64(n) && mathext.RegIncBeta(float64(k)+1, float64(n)-float64(k), p) > 0.001
	}))
	return limit + 1
}

// UniformP is the p-value of numbers in [0,1] being uniform, by Kolmogorov and Smirnov with Stephens' correction for few. One
// where there are none.
func UniformP(values []float64) float64 {
	n := float64(len(values))
	if n == 0 {
		return 1
	}
	d := 0.0
	for i, v := range slices.Sorted(slices.Values(values)) {
		d = max(d, v-float64(i)/n, float64(i+1)/n-v)
	}
	return kolmogorov(d * (math.Sqrt(n) + 0.12 + 0.11/math.Sqrt(n)))
}

// kolmogorov is the chance of a Brownian bridge going further than x from zero.
func kolmogorov(x float64) float64 {
	if x < 0.2 {
		return 1 // to twelve digits
	}
	sum, sign := 0.0, 1.0
	for k := 1.0; k <= 100; k++ {
		sum += sign * math.Exp(-2*k*k*x*x)
		sign = -sign
	}
	return min(1, max(0, 2*sum))
}

// BucketCheck says whether a hash spreads ids as it should.
type BucketCheck struct {
	Users        int64
	UniformP     float64 // chi-squared of a hundred parts of the buckets being alike
	IndependentP float64 // of the parts of two seeds having nothing to do with each other
	Passed       bool    // both are 0.001 or more
}

// CheckBuckets hashes ids under two seeds, such as the keys of two experiments that run side by side.
func CheckBuckets(ids iter.Seq[string], seed, other string, version int) BucketCheck {
	const parts, sides = 100, 10
	var alone [parts]float64
	joint := make([]Slice, sides)
	for i := range joint {
		joint[i].Users = make([]int64, sides)
	}
	c := BucketCheck{UniformP: 1, IndependentP: 1}
	for id := range ids {
		a, ok := Hash(seed, id, version)
		if !ok {
			return c
		}
		b, _ := Hash(other, id, version)
		alone[int(a*parts)]++
		joint[int(a*sides)].Users[int(b*sides)]++
		c.Users++
	}
	if expected := float64(c.Users) / parts; expected >= minExpected {
		chi2 := 0.0
		for _, n := range alone {
			chi2 += square(n-expected) / expected
		}
		c.UniformP = distuv.ChiSquared{K: parts - 1}.Survival(chi2)
	}
	c.IndependentP = independence(joint).PValue
	c.Passed = c.Users > 0 && c.UniformP >= 0.001 && c.IndependentP >= 0.001
	return c
}
