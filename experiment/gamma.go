package experiment

import "math"

// Evidence over counts is a difference of logarithms of Γ that are far larger than it: of a thousand million users, sixteen
// digits of each would leave a few of the difference. So Stirling's formula is taken apart, what cancels is left out, and the
// rest is
//
//	ln Γ(x) = (x − ½) ln x − x + ½ ln 2π + stirling(x)

const halfLogTwoPi = 0.91893853320467274178

func stirling(x float64) float64 {
	if x < 100 {
		g, _ := math.Lgamma(x)
		return g - ((x-0.5)*math.Log(x) - x + halfLogTwoPi)
	}
	x2 := x * x
	return (1 - (1-2/(7*x2))/(30*x2)) / (12 * x)
}

// logBeta is the logarithm of the beta function.
func logBeta(a, b float64) float64 {
	a, b = min(a, b), max(a, b)
	sum := a + b
	return a*math.Log(a/sum) - b*math.Log1p(a/b) + (math.Log(sum/a)-math.Log(b))/2 + halfLogTwoPi + stirling(a) + stirling(b) - stirling(sum)
}

// dirichletEvidence is ln of the likelihood of the counts averaged over a Dirichlet(concentration · shares), over their
// likelihood at the shares.
func dirichletEvidence(seen, shares []float64, concentration float64) float64 {
	total := 0.0
	for _, n := range seen {
		total += n
	}
	all := concentration + total
	evidence := math.Log(all/concentration)/2 - stirling(all) + stirling(concentration)
	for i, n := range seen {
		prior := concentration * shares[i]
		x := prior + n
		evidence += x*math.Log1p((n-total*shares[i])/(all*shares[i])) - math.Log(x/prior)/2 + stirling(x) - stirling(prior)
	}
	return evidence
}
