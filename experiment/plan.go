package experiment

import (
	"errors"
	"fmt"
	"math"
)

// Plan is what is known and wanted of a comparison before it begins. Baseline and Lift are required.
type Plan struct {
	Baseline float64 // value of the metric in control: a rate in (0,1), or a mean
	Lift     float64 // relative effect that is to be found, such as 0.15
	SD       float64 // of one user's value. Defaults to that of a rate in each arm, √(p(1−p)).

	Share       float64 // of the treatment in the users of both arms, in (0,1). Defaults to 0.5.
	Power       float64 // chance of finding the effect, in (0,1). Defaults to 0.8.
	Comparisons int     // how many comparisons share alpha evenly. Defaults to 1.
	Reduction   float64 // share of the variance that covariates will take away, in [0,1). Defaults to 0.
}

// Defaults of a Plan.
const (
	DefaultShare = 0.5
	DefaultPower = 0.8
)

// ErrUnreachable is returned by the methods of a Plan where no number of users reaches the power.
var ErrUnreachable = errors.New("no number of users reaches this power")

// Validate returns all that is wrong with p, joined.
func (p Plan) Validate() error {
	var problems []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	d := p.withDefaults()
	inside := func(x float64) bool { return x > 0 && x < 1 } // false for NaN
	refuse(!inside(d.Share), "share is %v; it must lie in (0,1)", p.Share)
	refuse(!inside(d.Power), "power is %v; it must lie in (0,1)", p.Power)
	refuse(!(d.Reduction >= 0 && d.Reduction < 1), "reduction is %v; it must lie in [0,1)", p.Reduction)
	refuse(d.Comparisons < 1, "%d comparisons; there must be at least 1", p.Comparisons)
	refuse(!(d.SD >= 0) || math.IsInf(d.SD, 0), "standard deviation is %v; it must be above 0, or 0 for a rate", p.SD)
	refuse(badValue(d.Baseline, MaxValue) != "" || d.Baseline == 0, "baseline is %v; it must be a number other than 0", p.Baseline)
	refuse(badValue(d.Lift, MaxValue) != "" || d.Lift == 0, "lift is %v; it must be a number other than 0", p.Lift)
	if d.SD == 0 {
		refuse(!inside(d.Baseline), "baseline is %v; a rate must lie in (0,1)", p.Baseline)
		refuse(!inside(d.Baseline*(1+d.Lift)), "a lift of %v takes the rate %v out of (0,1)", p.Lift, p.Baseline)
	}
	return errors.Join(problems...)
}

func (p Plan) withDefaults() Plan {
	if p.Share == 0 {
		p.Share = DefaultShare
	}
	if p.Power == 0 {
		p.Power = DefaultPower
	}
	if p.Comparisons == 0 {
		p.Comparisons = 1
	}
	return p
}

// difference is the absolute effect, and variance that of its estimate, times the users of both arms.
func (p Plan) difference() float64 { return p.Baseline * p.Lift }

func (p Plan) variance() float64 {
	c, t := p.SD*p.SD, p.SD*p.SD
	if p.SD == 0 {
		rate := p.Baseline * (1 + p.Lift)
		c, t = p.Baseline*(1-p.Baseline), rate*(1-rate)
	}
	return (c/(1-p.Share) + t/p.Share) * (1 - p.Reduction)
}

// prepared returns the plan and the options as the arithmetic takes them.
func (p Plan) prepared(opts Options) (Plan, Options, error) {
	if err := p.Validate(); err != nil {
		return p, opts, err
	}
	p = p.withDefaults()
	return p, opts.share(opts.withDefaults().Alpha / float64(p.Comparisons)), nil
}

// Users returns how many users both arms need together for one look at the end: two-sided, by the normal approximation with
// a variance of its own in each arm (Chow, Shao, Wang 2008, chapters 3 and 4).
func (p Plan) Users(opts Options) (int64, error) {
	p, opts, err := p.prepared(opts)
	if err != nil {
		return 0, err
	}
	z := fixedMultiple(opts.Alpha, 0) + normalQuantile(p.Power)
	users := math.Ceil(max(0, z) * max(0, z) * p.variance() / square(p.difference()))
	if !(users <= MaxUsers) { // written so that NaN is refused too
		return 0, ErrUnreachable
	}
	return max(int64(users), 2), nil
}

// Detectable returns the smallest relative effect above zero that so many users of both arms find with the plan's power, at
// one look at the end. The plan's Lift is not used.
func (p Plan) Detectable(users int64, opts Options) (float64, error) {
	most := MaxValue
	if p.SD == 0 && p.Baseline > 0 {
		most = (1 - p.Baseline) / p.Baseline * (1 - 1e-12)
	}
	p.Lift = most
	if need, err := p.Users(opts); err != nil || need > users {
		return 0, errors.Join(err, ErrUnreachable)
	}
	low, high := 0.0, most
	for range 400 {
		middle := low + (high-low)/2
		if middle <= 0 || middle >= high {
			break
		}
		p.Lift = middle
		if need, err := p.Users(opts); err == nil && need <= users {
			high = middle
		} else {
			low = middle
		}
	}
	return high, nil
}

// Days returns how many whole days it takes to see so many users, when so many enter both arms a day.
func Days(users int64, perDay float64) (int64, error) {
	days := math.Ceil(float64(users) / perDay)
	if users < 0 || !(perDay > 0) || !(days <= MaxUsers) { // written so that NaN is refused too
		return 0, fmt.Errorf("%d users at %v a day: both must be above 0", users, perDay)
	}
	return int64(days), nil
}
