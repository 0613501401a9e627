package experiment

import "math"

// MinAdjusted is how many users each arm needs before covariates or strata are used (the rule of Statsig). Below it a reading
// is not adjusted, and its Reduction is zero.
const MinAdjusted = 100

// Adjustment on covariates is CUPED (Deng, Xu, Kohavi, Walker, WSDM 2013) with as many covariates as there are:
//
//	difference  d − θ·(x̄ of treatment − x̄ of control)
//	θ           Cov(d, x̄ difference) / Var(x̄ difference), which no other θ beats
//
// With θ so chosen it is as good as the regression with a slope per arm (Lin 2013), for unequal arms too. A covariate must be
// known before the exposure: a trait at sign-up serves for users without a past. A ratio is adjusted through the variable
// (y − r·x)/x̄, whose mean has the variance of the ratio to first order.
//
// Post-stratification weighs strata by their share ν of all users, whatever the arms got of them. The shares are random, which
// costs the second term:
//
//	variance    Σ ν²·Var within + (Σ ν·δ² − (Σ ν·δ)²)/N, δ the difference in a stratum

// cellArm is one arm of one stratum: a linearized outcome and its covariates.
type cellArm struct {
	n          float64
	value      float64 // mean of the outcome, of which the metric is linear
	variance   float64 // of one user
	means      []float64
	covariance []float64 // of outcome and covariates
	spread     []float64 // of the covariates, row by row
}

// cell is one stratum with its share of all users and its θ.
type cell struct {
	share              float64
	control, treatment cellArm
	theta              []float64
}

// minPerSlope is how many users each arm of a stratum needs per covariate to have a θ of its own.
const minPerSlope = 20

// adjust replaces the contrast by the adjusted one, where there are enough users.
func (r *Reading) adjust(m Metric, strata []Segment) {
	if !r.Contrast.State.Readable() || min(r.Control.Users, r.Treatment.Users) < MinAdjusted {
		return
	}
	cells, valueC, valueT := m.cells(strata, r.Contrast.Users)
	setSlopes(cells, m.Covariates)
	adjusted := combine(cells)
	if m.Kind == KindRatio { // the linearized outcomes have mean zero
		adjusted.Difference += valueT - valueC
		adjusted.Baseline = valueC
	}
	adjusted.State, adjusted.Users = r.Contrast.State, r.Contrast.Users
	plain := r.Contrast.VarDifference
	r.Contrast = adjusted
	if plain > 0 {
		r.Reduction = 1 - adjusted.VarDifference/plain
	}
}

// cells linearizes the metric around its post-stratified values, which it returns too.
func (m Metric) cells(strata []Segment, users float64) (cells []cell, control, treatment float64) {
	cells = make([]cell, len(strata))
	var sums [2][2]float64 // of arm, of column: post-stratified means
	for i, s := range strata {
		cells[i].share = float64(s.Control.Users()+s.Treatment.Users()) / users
		for column := range m.outcomes() {
			sums[0][column] += cells[i].share * s.Control.Mean(column)
			sums[1][column] += cells[i].share * s.Treatment.Mean(column)
		}
	}
	control, treatment = sums[0][0], sums[1][0]
	if m.Kind == KindRatio {
		control, treatment = control/sums[0][1], treatment/sums[1][1]
	}
	for i, s := range strata {
		cells[i].control = m.cellArm(s.Control, control, sums[0][1])
		cells[i].treatment = m.cellArm(s.Treatment, treatment, sums[1][1])
	}
	return cells, control, treatment
}

// cellArm linearizes one arm of one stratum: y, or (y − r·x)/x̄ for a ratio.
func (m Metric) cellArm(arm Moments, ratio, meanBelow float64) cellArm {
	outcomes, p := m.outcomes(), m.Covariates
	c := cellArm{n: float64(arm.Users()), means: make([]float64, p), covariance: make([]float64, p), spread: make([]float64, p*p)}
	if outcomes == 1 {
		c.value, c.variance = arm.Mean(0), arm.Covariance(0, 0)
	} else {
		c.value = (arm.Mean(0) - ratio*arm.Mean(1)) / meanBelow
		c.variance = (arm.Covariance(0, 0) - 2*ratio*arm.Covariance(0, 1) + ratio*ratio*arm.Covariance(1, 1)) / (meanBelow * meanBelow)
	}
	for i := range p {
		x := outcomes + i
		c.means[i], c.covariance[i] = arm.Mean(x), arm.Covariance(0, x)
		if outcomes == 2 {
			c.covariance[i] = (c.covariance[i] - ratio*arm.Covariance(1, x)) / meanBelow
		}
		for j := range p {
			c.spread[i*p+j] = arm.Covariance(x, outcomes+j)
		}
	}
	return c
}

// setSlopes gives each stratum its own θ where it has the users for it, and the common one elsewhere.
func setSlopes(cells []cell, p int) {
	common := slopes(cells, p)
	for i, c := range cells {
		cells[i].theta = common
		if len(cells) > 1 && min(c.control.n, c.treatment.n) >= float64(minPerSlope*p) {
			cells[i].theta = slopes(cells[i:i+1], p)
		}
	}
}

// slopes returns the best θ. A covariate that says nothing beyond the ones before it gets none.
func slopes(cells []cell, p int) []float64 {
	if p == 0 {
		return nil
	}
	spread, covariance := make([]float64, p*p), make([]float64, p)
	for _, c := range cells {
		for _, arm := range []cellArm{c.control, c.treatment} {
			w := c.share * c.share / arm.n
			for i, x := range arm.spread {
				spread[i] += w * x
			}
			for i, x := range arm.covariance {
				covariance[i] += w * x
			}
		}
	}
	theta, _ := solve(spread, covariance)
	return theta
}

// combine returns the contrast over the strata.
func combine(cells []cell) Contrast {
	var c Contrast
	var dd, db, bb, users, vc, vt, nc, nt float64
	for _, s := range cells {
		d := s.treatment.value - s.control.value
		for i, slope := range s.theta {
			d -= slope * (s.treatment.means[i] - s.control.means[i])
		}
		b, w := s.control.value, s.share
		c.Difference += w * d
		c.Baseline += w * b
		dd, db, bb = dd+w*d*d, db+w*d*b, bb+w*b*b

		left, leftWithBase := s.control.residual(s.theta)
		leftT, _ := s.treatment.residual(s.theta)
		vc += w * w * left / s.control.n
		vt += w * w * leftT / s.treatment.n
		c.VarBaseline += w * w * s.control.variance / s.control.n
		c.Covariance -= w * w * leftWithBase / s.control.n
		nc, nt, users = nc+s.control.n, nt+s.treatment.n, users+s.control.n+s.treatment.n
	}
	c.VarDifference = vc + vt
	if len(cells) > 1 {
		c.VarDifference += max(0, dd-c.Difference*c.Difference) / users
		c.VarBaseline += max(0, bb-c.Baseline*c.Baseline) / users
		c.Covariance += (db - c.Difference*c.Baseline) / users
	}
	c.DF = welch(vc, nc, vt, nt)
	return c
}

// residual returns the variance of the outcome less θ·x, and its covariance with the outcome.
func (a cellArm) residual(theta []float64) (variance, withOutcome float64) {
	variance, withOutcome = a.variance, a.variance
	p := len(theta)
	for i, x := range theta {
		variance -= 2 * x * a.covariance[i]
		withOutcome -= x * a.covariance[i]
		for j, y := range theta {
			variance += x * y * a.spread[i*p+j]
		}
	}
	return max(0, variance), withOutcome
}

// solve returns x of a·x = b for a symmetric positive semidefinite a, row by row, by Cholesky's decomposition. A column that
// those before it determine is left out: its x is zero. Rank is how many were not.
func solve(a, b []float64) (x []float64, rank int) {
	p := len(b)
	l := make([]float64, p*p)
	x = make([]float64, p)
	for j := range p {
		pivot := a[j*p+j]
		for k := range j {
			pivot -= l[j*p+k] * l[j*p+k]
		}
		if !(pivot > collinear*a[j*p+j]) { // written so that NaN is left out
			continue
		}
		l[j*p+j], rank = math.Sqrt(pivot), rank+1
		for i := j + 1; i < p; i++ {
			v := a[i*p+j]
			for k := range j {
				v -= l[i*p+k] * l[j*p+k]
			}
			l[i*p+j] = v / l[j*p+j]
		}
	}
	for i := range p {
		if l[i*p+i] == 0 {
			continue
		}
		v := b[i]
		for k := range i {
			v -= l[i*p+k] * x[k]
		}
		x[i] = v / l[i*p+i]
	}
	for i := p - 1; i >= 0; i-- {
		if l[i*p+i] == 0 {
			continue
		}
		v := x[i]
		for k := i + 1; k < p; k++ {
			v -= l[k*p+i] * x[k]
		}
		x[i] = v / l[i*p+i]
	}
	return x, rank
}

// collinear is the share of a column's variance that must be its own for it to count.
const collinear = 1e-9
