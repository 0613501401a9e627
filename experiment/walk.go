package experiment

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/integrate/quad"
	"gonum.org/v1/gonum/stat/distuv"
)

// walk is what is known of a test statistic that has stayed between its bounds so far: the density of the score, a Brownian
// motion with drift, at the nodes of a quadrature (Armitage, McPherson, Rowe 1969; Jennison and Turnbull 2000, chapter 19).
// Everything that depends on when a test stops is a sum over it, exact but for the quadrature.
type walk struct {
	drift       float64 // of the score per unit of information
	information float64
	at, mass    []float64 // the nodes ascend
}

func newWalk(drift float64) walk {
	return walk{drift: drift, at: []float64{0}, mass: []float64{1}}
}

// leave returns the chances of being beyond the bounds ±z at the next look and not before.
func (w walk) leave(information, z float64) (above, below float64) {
	delta := information - w.information
	sd, edge := math.Sqrt(delta), z*math.Sqrt(information)
	for i, s := range w.at {
		mean := s + w.drift*delta
		above += w.mass[i] * normalTail((edge-mean)/sd)
		below += w.mass[i] * normalTail((edge+mean)/sd)
	}
	return above, below
}

// stay returns the walk after that look, without what left.
func (w walk) stay(information, z float64) walk {
	delta := information - w.information
	sd, root := math.Sqrt(delta), math.Sqrt(information)
	next := walk{drift: w.drift, information: information}
	low, high := max(-z*root, w.drift*information-far*root), min(z*root, w.drift*information+far*root)
	if !(low < high) {
		return next
	}
	const perSD, least, most = 2.5, 20, 4000 // nodes: a Gaussian of which every 0.4 standard deviations are known is known
	n := int(min(most, least+math.Ceil(perSD*(high-low)/sd)))
	next.at, next.mass = make([]float64, n), make([]float64, n)
	quad.Legendre{}.FixedLocations(next.at, next.mass, low, high)
	if next.at[0] > next.at[n-1] {
		slices.Reverse(next.at)
		slices.Reverse(next.mass)
	}
	first := 0 // of the nodes from which this one can be reached
	for i, to := range next.at {
		to -= w.drift * delta
		for first < len(w.at) && w.at[first] < to-far*sd {
			first++
		}
		density := 0.0
		for j := first; j < len(w.at) && w.at[j] <= to+far*sd; j++ {
			x := (to - w.at[j]) / sd
			density += w.mass[j] * math.Exp(-x*x/2)
		}
		next.mass[i] *= density / (sd * math.Sqrt(2*math.Pi))
	}
	return next
}

// far is how many standard deviations count: what is beyond is below 1e-16.
const far = 8.5

func normalTail(x float64) float64 { return math.Erfc(x/math.Sqrt2) / 2 }

func normalQuantile(p float64) float64 { return distuv.UnitNormal.Quantile(p) }

// stops returns the chances of stopping at each look: information that only grows, and the bound on z there.
func stops(information, bounds []float64, drift float64) (above, below []float64) {
	w := newWalk(drift)
	above, below = make([]float64, len(bounds)), make([]float64, len(bounds))
	for i, z := range bounds {
		above[i], below[i] = w.leave(information[i], z)
		w = w.stay(information[i], z)
	}
	return above, below
}
