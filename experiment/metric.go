package experiment

import (
	"errors"
	"fmt"
)

// Kind is how a metric is made of the columns of moments.
type Kind string

// The kinds. A retention is a proportion of the users whose window has passed: see Retention.
const (
	KindProportion Kind = "proportion" // column 0 is 0 or 1; how many users have a 1
	KindMean       Kind = "mean"       // mean of column 0
	KindRatio      Kind = "ratio"      // sum of column 0 over sum of column 1, such as seconds per session; the unit is the user
)

// Metric is one question to the moments of the arms. The zero value is refused: it has no kind.
type Metric struct {
	Key           string
	Kind          Kind
	LowerIsBetter bool // Defaults to higher is better.

	// Margin makes the metric a guardrail: the relative loss that is still accepted, such as 0.02. Defaults to 0: no guardrail.
	Margin float64

	// Covariates is how many columns after those of the kind are covariates: values of the user from before the exposure.
	// Defaults to 0: nothing is adjusted.
	Covariates int
}

// Validate returns all that is wrong with the metric, joined.
func (m Metric) Validate() error {
	var problems []error
	if m.Key == "" {
		problems = append(problems, errors.New("metric without a key"))
	}
	if m.outcomes() == 0 {
		problems = append(problems, fmt.Errorf("metric %q has kind %q; it must be %s, %s or %s", m.Key, m.Kind, KindProportion, KindMean, KindRatio))
	}
	if !(m.Margin >= 0 && m.Margin < 1) { // written so that NaN is refused too
		problems = append(problems, fmt.Errorf("metric %q has margin %v; it must lie in [0,1)", m.Key, m.Margin))
	}
	if m.Covariates < 0 || m.Covariates > MaxCovariates {
		problems = append(problems, fmt.Errorf("metric %q has %d covariates; at most %d are taken", m.Key, m.Covariates, MaxCovariates))
	}
	return errors.Join(problems...)
}

// outcomes is how many columns the kind takes. Zero for a kind that does not exist.
func (m Metric) outcomes() int {
	switch m.Kind {
	case KindProportion, KindMean:
		return 1
	case KindRatio:
		return 2
	default:
		return 0
	}
}

// Estimate is a metric of one arm.
type Estimate struct {
	State    State
	Value    float64
	Variance float64 // of one user; that of Value is a Users-th of it
	Users    int64
}

// Of returns the metric of one arm, without adjustment.
func (m Metric) Of(arm Moments) Estimate {
	need := m.outcomes()
	switch {
	case arm.State() != StateOK:
		return Estimate{State: arm.State()}
	case need == 0 || m.Covariates < 0:
		return Estimate{State: StateInvalid}
	case arm.Users() == 0:
		return Estimate{State: StateEmptyArm}
	case arm.Columns() != need+m.Covariates:
		return Estimate{State: StateInvalid}
	}
	e := Estimate{State: StateOK, Users: arm.Users(), Value: arm.Mean(0)}
	switch m.Kind {
	case KindProportion:
		return m.proportion(e, arm)
	case KindRatio:
		total := arm.Sum(1)
		if total <= 0 {
			return Estimate{State: StateZeroTotal, Users: e.Users}
		}
		// Delta method: the variance of y − r·x, to first order (Deng, Knoblich, Lu, KDD 2018).
		e.Value = arm.Sum(0) / total
		mean := arm.Mean(1)
		e.Variance = max(0, arm.Covariance(0, 0)-2*e.Value*arm.Covariance(0, 1)+e.Value*e.Value*arm.Covariance(1, 1)) / (mean * mean)
	case KindMean:
		e.Variance = arm.Covariance(0, 0)
	}
	switch {
	case badValue(e.Value, MaxValue) != "" || badValue(e.Variance, MaxValue*MaxValue) != "":
		return Estimate{State: StateOverflow, Users: e.Users}
	case e.Users == 1:
		e.State = StateOneUser
	case e.Users < MinUsers:
		e.State = StateFewUsers
	}
	return e
}

// proportion takes the variance of a binomial, with divisor n, and refuses values other than 0 and 1.
func (m Metric) proportion(e Estimate, arm Moments) Estimate {
	converted, users := arm.Sum(0), float64(e.Users)
	if converted != arm.Product(0, 0) || converted < 0 || converted > users || converted != float64(int64(converted)) {
		return Estimate{State: StateInvalid}
	}
	e.Variance = e.Value * (1 - e.Value)
	if min(converted, users-converted) < MinConversions {
		e.State = StateFewConversions
	}
	return e
}

// MaxCovariates is how many covariates a metric takes.
const MaxCovariates = 10
