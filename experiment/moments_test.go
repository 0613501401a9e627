package experiment_test

import (
	"fmt"
	"iter"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

// repeated yields first, and then the pair so many times.
func repeated(first, a, b float64, pairs int) iter.Seq[float64] {
	return func(yield func(float64) bool) {
		if !yield(first) {
			return
		}
		for range pairs {
			if !yield(a) || !yield(b) {
				return
			}
		}
	}
}

// The data sets for numerical accuracy of the NIST Statistical Reference Datasets (univariate summary statistics), with their
// certified means and standard deviations. Their own note on the last two: "average difficulty" and "higher difficulty".
func TestMomentsOfTheNISTDatasets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		values   iter.Seq[float64]
		mean, sd float64
		within   float64 // what the decimals of the data lose in binary
	}{
		{"NumAcc1", slices.Values([]float64{10000001, 10000003, 10000002}), 10000002, 1, 0},
		{"NumAcc2", repeated(1.2, 1.1, 1.3, 500), 1.2, 0.1, 1e-15},
		{"NumAcc3", repeated(1000000.2, 1000000.1, 1000000.3, 500), 1000000.2, 0.1, 1e-9},
		{"NumAcc4", repeated(10000000.2, 10000000.1, 10000000.3, 500), 10000000.2, 0.1, 1e-8},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := experiment.FromValues(c.values)
			require.InDelta(t, c.mean, m.Mean(0), c.within)
			require.InDelta(t, c.sd, math.Sqrt(m.Covariance(0, 0)), c.within)
		})
	}
}

// drawRows draws rows of values of very unequal size, which is where order would show.
func drawRows(t *rapid.T, columns int) [][]float64 {
	value := rapid.OneOf(
		rapid.Float64Range(-1e6, 1e6),
		rapid.SampledFrom([]float64{0, 1, 0.1, 1e16, -1e16, 1e-30, 1e99, -1e99, 3e-99}),
	)
	return rapid.SliceOfN(rapid.SliceOfN(value, columns, columns), 1, 40).Draw(t, "rows")
}

// figures are all that can be read off moments.
func figures(m experiment.Moments) []float64 {
	list := []float64{float64(m.Users())}
	for i := range m.Columns() {
		list = append(list, m.Sum(i), m.Mean(i))
		for j := range m.Columns() {
			list = append(list, m.Product(i, j), m.Covariance(i, j))
		}
	}
	return list
}

func TestMergeDependsOnNeitherOrderNorGrouping(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 3).Draw(t, "columns")
		rows := drawRows(t, columns)
		atOnce := experiment.FromRows(columns, slices.Values(rows))
		require.Equal(t, experiment.StateOK, atOnce.State())

		parts := make([]experiment.Moments, 0, len(rows))
		for _, row := range rapid.Permutation(rows).Draw(t, "order") {
			parts = append(parts, experiment.FromRows(columns, slices.Values([][]float64{row})))
		}
		cut := rapid.IntRange(0, len(parts)).Draw(t, "cut")
		grouped := experiment.Merge(experiment.Merge(parts[cut:]...), experiment.Merge(parts[:cut]...))
		require.Equal(t, figures(atOnce), figures(grouped))
	})
}

func TestMomentsAreTheExactOnesRoundedOnce(t *testing.T) {
	t.Parallel()
	exact := func(x float64) *big.Rat {
		if math.Abs(x) < experiment.MinValue {
			x = 0
		}
		return new(big.Rat).SetFloat64(x)
	}
	rapid.Check(t, func(t *rapid.T) {
		rows := drawRows(t, 2)
		m := experiment.FromRows(2, slices.Values(rows))
		n, sx, sy, sxy := exact(float64(len(rows))), new(big.Rat), new(big.Rat), new(big.Rat)
		for _, row := range rows {
			sx.Add(sx, exact(row[0]))
			sy.Add(sy, exact(row[1]))
			sxy.Add(sxy, new(big.Rat).Mul(exact(row[0]), exact(row[1])))
		}
		want, _ := sx.Float64()
		require.InDelta(t, want, m.Sum(0), 0)
		want, _ = sxy.Float64()
		require.InDelta(t, want, m.Product(0, 1), 0)
		require.InDelta(t, want, m.Product(1, 0), 0)
		if len(rows) < 2 {
			return
		}
		spread := new(big.Rat).Sub(new(big.Rat).Mul(n, sxy), new(big.Rat).Mul(sx, sy))
		want, _ = spread.Quo(spread, new(big.Rat).Mul(n, exact(float64(len(rows)-1)))).Float64()
		if want == 0 {
			require.InDelta(t, 0, m.Covariance(0, 1), 1e-15)
			return
		}
		require.InEpsilon(t, want, m.Covariance(0, 1), 1e-15)
	})
}

func TestMomentsNameWhatCannotBeAdded(t *testing.T) {
	t.Parallel()
	values := func(v ...float64) experiment.Moments { return experiment.FromValues(slices.Values(v)) }
	sums := func(n int64, s, q float64) experiment.Moments {
		return experiment.FromSums(n, []float64{s}, []float64{q})
	}
	for _, c := range []struct {
		name string
		m    experiment.Moments
		want experiment.State
	}{
		{"nobody", experiment.Moments{}, experiment.StateOK},
		{"one user", values(3), experiment.StateOK},
		{"NaN", values(1, math.NaN(), 2), experiment.StateNotFinite},
		{"infinity", values(1, math.Inf(-1)), experiment.StateNotFinite},
		{"too large", values(1, 1e101), experiment.StateOverflow},
		{"NaN and too large, one way", values(1e101, math.NaN()), experiment.StateNotFinite},
		{"NaN and too large, the other", values(math.NaN(), 1e101), experiment.StateNotFinite},
		{"negative count", experiment.FromCounts(-1, -1), experiment.StateInvalid},
		{"more conversions than users", experiment.FromCounts(1, 2), experiment.StateInvalid},
		{"more users than a float64 counts", experiment.FromCounts(math.MaxInt64, 2), experiment.StateOverflow},
		{"negative users", sums(-1, 1, 1), experiment.StateInvalid},
		{"sums of nobody", sums(0, 1, 1), experiment.StateInvalid},
		{"no sums of nobody", sums(0, 0, 0), experiment.StateOK},
		{"negative square", sums(3, 0, -1), experiment.StateInvalid},
		{"square smaller than the sum allows", sums(3, 6, 5), experiment.StateInvalid},
		{"sum is NaN", sums(3, math.NaN(), 5), experiment.StateNotFinite},
		{"square overflowed", sums(3, 6, math.Inf(1)), experiment.StateNotFinite},
		{"sum too large", sums(3, 1e130, 1e260), experiment.StateOverflow},
		{"correlation beyond one", experiment.FromSums(3, []float64{0, 0}, []float64{1, 2, 1}), experiment.StateInvalid},
		{"products missing", experiment.FromSums(3, []float64{0, 0}, []float64{1, 2}), experiment.StateInvalid},
		{"no columns", experiment.FromSums(3, nil, nil), experiment.StateInvalid},
		{"rows without columns", experiment.FromRows(0, slices.Values([][]float64{{}})), experiment.StateInvalid},
		{"rows of two lengths", experiment.FromRows(2, slices.Values([][]float64{{1, 2}, {1}})), experiment.StateInvalid},
		{"columns differ", experiment.Merge(values(1), experiment.FromRows(2, slices.Values([][]float64{{1, 2}}))), experiment.StateInvalid},
		{"merged with what cannot be added", experiment.Merge(values(1), values(math.NaN()), values(2)), experiment.StateNotFinite},
		{"merged beyond counting", experiment.Merge(experiment.FromCounts(experiment.MaxUsers, 1), values(1)), experiment.StateOverflow},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, c.m.State())
			if c.want != experiment.StateOK {
				for _, f := range figures(c.m) {
					require.Zero(t, f)
				}
			}
			require.Zero(t, c.m.Sum(-1)+c.m.Sum(9)+c.m.Product(-1, 0)+c.m.Product(0, 9)+c.m.Covariance(0, 9))
		})
	}
}

// A constant added up in float64 has a variance that is nothing but rounding: a z of millions could be made of it.
func TestRoundedSumsOfAConstantHaveNoSpread(t *testing.T) {
	t.Parallel()
	const n = 100_000
	s, q := 0.0, 0.0
	for range n {
		s += 0.1
		q += 0.1 * 0.1
	}
	require.NotZero(t, q-s*s/n, "the naive variance")
	require.Zero(t, experiment.FromSums(n, []float64{s}, []float64{q}).Covariance(0, 0))
}

func ExampleMerge() {
	phones := experiment.FromCounts(1200, 300)
	desktops := experiment.FromCounts(800, 320)
	all := experiment.Merge(phones, desktops)
	fmt.Printf("%d users, mean %.3f, variance %.5f\n", all.Users(), all.Mean(0), all.Covariance(0, 0))
	// Output:
	// 2000 users, mean 0.310, variance 0.21401
}
