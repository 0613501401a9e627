package experiment

import (
	"math"
	"math/big"
)

// FromIntegers returns the moments of sums of integers, which a database adds up exactly and in any order. The values of column
// i are the integers divided by ten to the power of decimals[i]: amounts in millionths have six. The products stand as in
// FromSums. Nothing is lost that 150 bits can hold, and a column whose values are all the same has no variance at all.
func FromIntegers(users int64, decimals []int, sums, products []*big.Int) Moments {
	columns := len(sums)
	m := Moments{users: users, columns: columns}
	switch {
	case users < 0, columns == 0, len(decimals) != columns, len(products) != columns*(columns+1)/2:
		return Degraded(columns, StateInvalid)
	case users > MaxUsers:
		return Degraded(columns, StateOverflow)
	case users == 0:
		return Moments{columns: columns, sums: make([]sum, columns+len(products))}
	}
	constant := make([]bool, columns)
	for i := range columns {
		square := new(big.Int).Mul(sums[i], sums[i])
		constant[i] = square.Cmp(new(big.Int).Mul(products[m.at(i, i)-columns], big.NewInt(users))) == 0
	}
	m.sums = make([]sum, columns+len(products))
	for i := range columns {
		m.sums[i] = m.share(constant[i], sums[i], decimals[i])
		for j := i; j < columns; j++ {
			m.sums[m.at(i, j)] = parts(products[m.at(i, j)-columns], decimals[i]+decimals[j])
		}
	}
	m.settle(constant)
	for i, s := range m.sums {
		most := float64(users) * MaxValue
		if i >= columns {
			most *= MaxValue
		}
		m.degraded = m.degraded.worse(badValue(s.float(), most))
	}
	if m.degraded == "" && !m.possible() {
		m.degraded = StateInvalid
	}
	if m.degraded != "" {
		return Degraded(columns, m.degraded)
	}
	return m
}

// Degraded returns moments that cannot be used, for a reason found elsewhere, such as values too large to be added up.
func Degraded(columns int, state State) Moments { return Moments{columns: columns, degraded: state} }

// share is the sum of a column. Where all values are the same, it is users times the float64 nearest to the value: only so do
// squares and sum agree to the last bit, and leave no variance.
func (m Moments) share(constant bool, total *big.Int, decimals int) sum {
	if !constant {
		return parts(total, decimals)
	}
	value := parts(new(big.Int).Quo(total, big.NewInt(m.users)), decimals).float()
	return sum(nil).addProduct(float64(m.users), value)
}

// settle makes the products of constant columns those of their rounded values.
func (m Moments) settle(constant []bool) {
	n := float64(m.users)
	for i := range m.columns {
		for j := i; j < m.columns; j++ {
			switch {
			case constant[i]:
				m.sums[m.at(i, j)] = sum(nil).addProducts(1, m.sums[j], sum{m.sums[i].float() / n})
			case constant[j]:
				m.sums[m.at(i, j)] = sum(nil).addProducts(1, m.sums[i], sum{m.sums[j].float() / n})
			}
		}
	}
}

// parts writes an integer over a power of ten as float64s that do not overlap: three hold some 150 bits.
func parts(x *big.Int, decimals int) sum {
	const precision = 400
	rest := new(big.Float).SetPrec(precision).SetInt(x)
	ten := new(big.Float).SetPrec(precision).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil))
	rest.Quo(rest, ten)
	s := sum(nil)
	for range 3 {
		part, _ := rest.Float64()
		if part == 0 || math.IsInf(part, 0) {
			if part != 0 {
				return sum{part}
			}
			break
		}
		rest.Sub(rest, new(big.Float).SetPrec(precision).SetFloat64(part))
		s = s.add(part)
	}
	return s
}
