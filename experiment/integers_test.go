package experiment_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

// integerSums adds up rows of integers as a database does.
func integerSums(rows [][]int64) (sums, products []*big.Int) {
	columns := len(rows[0])
	for i := range columns {
		total := new(big.Int)
		for _, r := range rows {
			total.Add(total, big.NewInt(r[i]))
		}
		sums = append(sums, total)
	}
	for i := range columns {
		for j := i; j < columns; j++ {
			total := new(big.Int)
			for _, r := range rows {
				total.Add(total, new(big.Int).Mul(big.NewInt(r[i]), big.NewInt(r[j])))
			}
			products = append(products, total)
		}
	}
	return sums, products
}

func TestIntegersAreTheValuesAddedUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		offset := rapid.Int64Range(-1e15, 1e15).Draw(t, "offset")
		rows := rapid.SliceOfN(rapid.SliceOfN(rapid.Int64Range(-1e9, 1e9), 2, 2), 2, 50).Draw(t, "rows")
		for _, r := range rows {
			r[0] += offset
		}
		sums, products := integerSums(rows)
		m := experiment.FromIntegers(int64(len(rows)), []int{6, 0}, sums, products)
		assert.Equal(t, experiment.StateOK, m.State())
		want := experiment.FromRows(2, func(yield func([]float64) bool) {
			for _, r := range rows {
				if !yield([]float64{float64(r[0]), float64(r[1])}) { // whole, so that the sums are exact
					return
				}
			}
		})
		assert.InEpsilon(t, want.Sum(0)/1e6+1e-300, m.Sum(0)+1e-300, 1e-15)
		for _, c := range [][3]float64{{0, 0, 1e12}, {0, 1, 1e6}, {1, 1, 1}} {
			i, j := int(c[0]), int(c[1])
			got, exact := m.Covariance(i, j), want.Covariance(i, j)/c[2]
			scale := math.Sqrt(want.Covariance(i, i)*want.Covariance(j, j)) / c[2]
			assert.InDelta(t, exact, got, 1e-14*scale+1e-300, "covariance %d %d", i, j)
		}
	})
}

// A tenth is no float64: summed up, tenths seem to vary.
func TestIntegersOfEqualValuesDoNotVary(t *testing.T) {
	t.Parallel()
	rows := slices.Repeat([][]int64{{100_000, 3}}, 999)
	rows[5][1] = 4
	for i := range rows {
		rows[i] = slices.Clone(rows[i])
	}
	rows[7][1] = 9
	sums, products := integerSums(rows)
	m := experiment.FromIntegers(999, []int{6, 0}, sums, products)
	require.Zero(t, m.Covariance(0, 0))
	require.Zero(t, m.Covariance(0, 1))
	require.Positive(t, m.Covariance(1, 1))
	require.InDelta(t, 0.1, m.Mean(0), 1e-16)
	metric := experiment.Metric{Key: "m", Kind: experiment.KindMean, Covariates: 1}
	require.Equal(t, experiment.StateZeroVariance, experiment.Compare(metric, m, m, experiment.Options{}).State)
}

func TestIntegersRefuse(t *testing.T) {
	t.Parallel()
	one := []*big.Int{big.NewInt(1)}
	huge := []*big.Int{new(big.Int).Exp(big.NewInt(10), big.NewInt(400), nil)}
	for name, c := range map[string]struct {
		users    int64
		decimals []int
		sums     []*big.Int
		products []*big.Int
		want     experiment.State
	}{
		"nobody":        {0, []int{0}, []*big.Int{big.NewInt(0)}, []*big.Int{big.NewInt(0)}, experiment.StateOK},
		"negative":      {-1, []int{0}, one, one, experiment.StateInvalid},
		"no columns":    {1, nil, nil, nil, experiment.StateInvalid},
		"no decimals":   {1, nil, one, one, experiment.StateInvalid},
		"no products":   {1, []int{0}, one, nil, experiment.StateInvalid},
		"too many":      {math.MaxInt64, []int{0}, one, one, experiment.StateOverflow},
		"too large":     {1, []int{0}, huge, huge, experiment.StateNotFinite},
		"contradiction": {2, []int{0}, []*big.Int{big.NewInt(9)}, one, experiment.StateInvalid},
	} {
		m := experiment.FromIntegers(c.users, c.decimals, c.sums, c.products)
		require.Equal(t, c.want, m.State(), name)
	}
	require.Equal(t, experiment.StateOverflow, experiment.Degraded(2, experiment.StateOverflow).State())
}

func ExampleFromIntegers() {
	// Three users spent 1.50, 0 and 2.25, kept in millionths.
	m := experiment.FromIntegers(3, []int{6}, []*big.Int{big.NewInt(3_750_000)}, []*big.Int{big.NewInt(7_312_500_000_000)})
	fmt.Println(m.Mean(0), m.Product(0, 0))
	// Output: 1.25 7.3125
}
