package experiment

import "math"

// sum is a sum of float64s that nobody has rounded yet: parts that do not overlap, the smallest first (Shewchuk, Adaptive
// Precision Floating-Point Arithmetic, 1997; the algorithm behind Python's math.fsum). What was added rounds to the same
// float64 in whatever order and grouping it was added. That holds as long as nothing overflows, which moments see to.
//
// A sum is a value: plus and times return new ones. Only add may write into its receiver, and only its maker calls it.
type sum []float64

// add returns s + x in the storage of s.
func (s sum) add(x float64) sum {
	kept := s[:0]
	for _, y := range s {
		if math.Abs(x) < math.Abs(y) {
			x, y = y, x
		}
		high := x + y
		if low := y - (high - x); low != 0 {
			kept = append(kept, low)
		}
		x = high
	}
	if x == 0 {
		return kept
	}
	return append(kept, x)
}

// plus returns s + other.
func (s sum) plus(other sum) sum {
	total := append(make(sum, 0, len(s)+len(other)), s...)
	for _, x := range other {
		total = total.add(x)
	}
	return total
}

func (s sum) negative() sum {
	list := make(sum, len(s))
	for i, x := range s {
		list[i] = -x
	}
	return list
}

// addProduct returns s + x·y in the storage of s. The product is exact: FMA gives what the multiplication rounded off.
func (s sum) addProduct(x, y float64) sum {
	high := float64(x * y)
	return s.add(math.FMA(x, y, -high)).add(high)
}

// addProducts returns s + sign·a·b in the storage of s.
func (s sum) addProducts(sign float64, a, b sum) sum {
	for _, x := range a {
		for _, y := range b {
			s = s.addProduct(sign*x, y)
		}
	}
	return s
}

// float returns s rounded once, half to even.
func (s sum) float() float64 {
	i := len(s) - 1
	if i < 0 {
		return 0
	}
	high, low := s[i], 0.0
	for i > 0 && low == 0 {
		i--
		x := high
		high = x + s[i]
		low = s[i] - (high - x)
	}
	// Where low is exactly half of the last place of high, what lies below it decides the way to round.
	if i > 0 && low != 0 && (low < 0) == (s[i-1] < 0) {
		twice := 2 * low
		if up := high + twice; twice == up-high {
			high = up
		}
	}
	return high
}
