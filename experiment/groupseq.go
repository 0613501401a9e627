package experiment

import (
	"errors"
	"fmt"
	"math"
)

// Spending is how a group sequential test spends its alpha over its looks (Lan and DeMets 1983). It has more power than what
// holds at every look, where the final size is fixed beforehand and not passed.
type Spending string

// The spending functions, each side spending half of alpha.
const (
	SpendOBrienFleming Spending = "obrien_fleming" // next to nothing early, nearly all of alpha left for the end
	SpendPocock        Spending = "pocock"         // much the same at every look
	SpendQuadratic     Spending = "quadratic"      // alpha·t², the choice of Spotify
)

// Spent returns how much of alpha is spent when a share t of the planned users has been seen.
func (s Spending) Spent(t, alpha float64) float64 {
	t = min(max(t, 0), 1)
	switch s {
	case SpendPocock:
		return alpha * math.Log1p((math.E-1)*t)
	case SpendQuadratic:
		return alpha * t * t
	default:
		if t == 0 {
			return 0
		}
		return min(alpha, 4*normalTail(normalQuantile(1-alpha/4)/math.Sqrt(t)))
	}
}

// GroupBounds returns the bound on |z| at each look, two-sided. Times are the shares of the planned users seen at the looks:
// above 0, growing, at most 1. They need be known only up to the look at hand: later ones do not change earlier bounds. A
// spending function that does not exist is taken for O'Brien and Fleming's. Where a look has nothing to spend its bound is
// +infinity.
func GroupBounds(times []float64, spending Spending, alpha float64) ([]float64, error) {
	if !(alpha >= MinAlpha && alpha < 1) { // written so that NaN is refused too
		return nil, fmt.Errorf("alpha is %v; it must lie in [%v,1)", alpha, MinAlpha)
	}
	last := 0.0
	for i, t := range times {
		if !(t > last && t <= 1) { // written so that NaN is refused too
			return nil, fmt.Errorf("look %d is at %v of the planned users; looks must grow, above 0 and up to 1", i+1, t)
		}
		last = t
	}
	if len(times) > maxLooks {
		return nil, errTooManyLooks
	}
	bounds := make([]float64, len(times))
	w, spent := newWalk(0), 0.0
	for i, t := range times {
		budget := spending.Spent(t, alpha) - spent
		bounds[i] = w.boundFor(t, budget)
		spent += budget
		w = w.stay(t, bounds[i])
	}
	return bounds, nil
}

// maxLooks bounds the work of a plan.
const maxLooks = 1000

var errTooManyLooks = errors.New("too many looks: at most 1000 can be planned")

// boundFor returns the bound that is left with chance budget.
func (w walk) boundFor(information, budget float64) float64 {
	low, high := 0.0, 38.0 // beyond, a normal tail is zero
	if above, below := w.leave(information, high); above+below >= budget {
		return math.Inf(1)
	}
	for range 80 {
		z := low + (high-low)/2
		if above, below := w.leave(information, z); above+below > budget {
			low = z
		} else {
			high = z
		}
	}
	return high
}

// AtBound returns the repeated confidence interval of the difference at a look with that bound (Jennison and Turnbull 1989):
// with all looks together it misses the truth with chance alpha, and it excludes zero just when the bound is passed.
func (c Contrast) AtBound(bound float64) (Interval, State) {
	if state := c.usable(); state != "" {
		return Interval{}, state
	}
	if !(bound >= 0) || math.IsInf(bound, 0) { // written so that NaN is open too
		return Interval{LowOpen: true, HighOpen: true}, c.State
	}
	reach := bound * math.Sqrt(c.VarDifference)
	return Interval{Low: c.Difference - reach, High: c.Difference + reach}, c.State
}
