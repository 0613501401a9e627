package experiment

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/integrate/quad"
	"gonum.org/v1/gonum/mathext"
)

// Bayesian readings answer another question than the rest of the package: given a belief beforehand and the data, how
// probable is it that the treatment is better, and what is lost if it is not? They promise nothing about how often one is
// wrong when looking again and again: with a flat prior, stopping at 95 % is wrong far more often than 5 % of the time.

// Prior is a normal belief about an effect before the data. The zero value is flat: no belief.
type Prior struct{ Mean, SD float64 }

// Posterior is the belief about an effect after the data.
type Posterior struct {
	State      State
	Mean, SD   float64
	Better     float64  // chance that the treatment is better
	Interval   Interval // holds the effect with chance 1−alpha
	LossIfSent float64  // expected loss of taking the treatment, in units of the effect: what it is worse by, where it is worse
	LossIfKept float64  // expected loss of keeping control
}

// Posterior returns the belief about an effect, absolute or relative as the prior is. What is better is up to the metric.
// The normal approximation must hold: of few conversions see BestOf.
func (m Metric) Posterior(e Effect, prior Prior, opts Options) Posterior {
	opts = opts.withDefaults()
	switch {
	case !e.State.Readable():
		return Posterior{State: e.State}
	case !(e.SE > 0), !(prior.SD >= 0), math.IsNaN(prior.Mean), math.IsInf(prior.SD+prior.Mean, 0):
		return Posterior{State: StateInvalid}
	}
	p := Posterior{State: e.State, Mean: e.Value, SD: e.SE}
	if prior.SD > 0 {
		precision := 1/square(e.SE) + 1/square(prior.SD)
		p.Mean = (e.Value/square(e.SE) + prior.Mean/square(prior.SD)) / precision
		p.SD = math.Sqrt(1 / precision)
	}
	gain := p.Mean
	if m.LowerIsBetter {
		gain = -gain
	}
	z := gain / p.SD
	density := p.SD * math.Exp(-z*z/2) / math.Sqrt(2*math.Pi)
	p.Better = normalTail(-z)
	p.LossIfSent = max(0, density-gain*normalTail(z))
	p.LossIfKept = max(0, density+gain*normalTail(-z))
	reach := fixedMultiple(opts.Alpha, 0) * p.SD
	p.Interval = Interval{Low: p.Mean - reach, High: p.Mean + reach}
	if math.IsNaN(p.Mean+p.SD+p.Better+p.LossIfSent) || math.IsInf(p.Mean+p.SD+p.LossIfKept, 0) {
		return Posterior{State: StateOverflow}
	}
	return p
}

// BetaPrior is a belief about a rate before the data, worth so many users who converted and so many who did not, each at least
// 0.01. The zero value stands for Beta(1,1): every rate is as likely as another.
type BetaPrior struct{ Converted, Not float64 }

// Standing is how an arm stands among all arms.
type Standing struct {
	Best float64 // chance that its rate is the highest
	Loss float64 // expected loss of taking it: how much higher the highest rate is
}

// BestOf returns how each arm stands by its conversion rate, in the order given: exact for any counts, by quadrature. At least
// two arms.
func BestOf(arms []Arm, prior BetaPrior) ([]Standing, State) {
	if prior == (BetaPrior{}) {
		prior = BetaPrior{Converted: 1, Not: 1}
	}
	if !(prior.Converted >= 0.01 && prior.Not >= 0.01) || math.IsInf(prior.Converted+prior.Not, 0) || len(arms) < 2 {
		return nil, StateInvalid
	}
	beliefs := make([]belief, len(arms))
	for i, a := range arms {
		if !a.valid() || a.Users > MaxUsers {
			return nil, StateInvalid
		}
		beliefs[i] = betaBelief(float64(a.Converted)+prior.Converted, float64(a.Users-a.Converted)+prior.Not)
	}
	return standings(beliefs), StateOK
}

// belief is a distribution over the line on which arms are compared.
type belief struct {
	low, high  float64 // where it is
	center, sd float64 // where it is dense
	density    func(x float64) float64
	below      func(x float64) float64 // chance of being below x
	stretch    func(x float64) float64 // units of the metric per unit of the line
}

// betaBelief is a Beta(a,b) on the line of ln(p/(1−p)), where it is smooth and its tails are exponential.
func betaBelief(a, b float64) belief {
	const tail = 40 // e to the minus 40 does not count
	center, sd, norm := math.Log(a/b), math.Sqrt(1/a+1/b), logBeta(a, b)
	rate := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	return belief{
		low: center - max(10*sd, tail/a), high: center + max(10*sd, tail/b), center: center, sd: sd,
		density: func(x float64) float64 {
			return math.Exp(-a*math.Log1p(math.Exp(-x)) - b*math.Log1p(math.Exp(x)) - norm)
		},
		below:   func(x float64) float64 { return mathext.RegIncBeta(a, b, rate(x)) },
		stretch: func(x float64) float64 { return rate(x) * rate(-x) },
	}
}

// normalBelief is a normal distribution, on the line of the metric itself. One too narrow for the digits of a float64 is taken
// for as narrow as they show.
func normalBelief(mean, sd float64) belief {
	sd = max(sd, 1e-10*math.Abs(mean))
	return belief{
		low: mean - far*sd, high: mean + far*sd, center: mean, sd: sd,
		density: func(x float64) float64 { return math.Exp(-square((x-mean)/sd)/2) / (sd * math.Sqrt(2*math.Pi)) },
		below:   func(x float64) float64 { return normalTail((mean - x) / sd) },
		stretch: func(float64) float64 { return 1 },
	}
}

// standings integrates over each arm's belief: the chance that all others are below it, and how far the highest is above.
func standings(beliefs []belief) []Standing {
	list := make([]Standing, len(beliefs))
	sum := 0.0
	for i, b := range beliefs {
		integrate(b.low, b.high, beliefs, func(x, w float64) { list[i].Best += w * b.density(x) * othersBelow(beliefs, i, x) })
		// E max − E of this one = ∫ chance of this one being below x, and not all others.
		high := b.high
		for _, other := range beliefs {
			high = max(high, other.high)
		}
		integrate(b.low, high, beliefs, func(x, w float64) {
			list[i].Loss += w * b.stretch(x) * b.below(x) * (1 - othersBelow(beliefs, i, x))
		})
		sum += list[i].Best
	}
	for i := range list {
		list[i].Best = min(1, max(0, list[i].Best/sum)) // the quadrature's last digits
		list[i].Loss = max(0, list[i].Loss)
	}
	return list
}

func othersBelow(beliefs []belief, i int, x float64) float64 {
	all := 1.0
	for j, other := range beliefs {
		if j != i {
			all *= other.below(x)
		}
	}
	return all
}

// integrate calls at for the nodes of a quadrature from low to high: panels with ends where a belief begins, is steepest or
// ends, so that a narrow one is not overlooked by the wide.
func integrate(low, high float64, beliefs []belief, at func(x, weight float64)) {
	const nodes = 24
	var x, w [nodes]float64
	for _, p := range panels(low, high, beliefs) {
		if !(p[0] < p[1]) {
			continue
		}
		quad.Legendre{}.FixedLocations(x[:], w[:], p[0], p[1])
		for i := range x {
			at(x[i], w[i])
		}
	}
}

// panels splits low to high at the edges of all beliefs and each of these pieces into steps of four standard deviations of the
// narrowest belief in it.
func panels(low, high float64, beliefs []belief) [][2]float64 {
	const sds, most = 4, 64
	edges := []float64{low, high}
	for _, b := range beliefs {
		for _, e := range []float64{b.low, b.high, b.center - 4*b.sd, b.center + 4*b.sd} {
			if e > low && e < high {
				edges = append(edges, e)
			}
		}
	}
	slices.Sort(edges)
	var list [][2]float64
	for i := range len(edges) - 1 {
		from, to := edges[i], edges[i+1]
		sd := math.Inf(1)
		for _, b := range beliefs {
			if b.low < to && b.high > from {
				sd = min(sd, b.sd)
			}
		}
		pieces := math.Ceil(min(most, max(1, (to-from)/(sds*sd))))
		for k := range int(pieces) {
			list = append(list, [2]float64{from + (to-from)*float64(k)/pieces, from + (to-from)*float64(k+1)/pieces})
		}
	}
	return list
}
