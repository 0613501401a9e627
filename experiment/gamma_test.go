package experiment_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
)

// R 4.2.2, lbeta.
func TestLogBeta(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]float64{
		{0.5, 0.5, 1.1447298858494},
		{3, 7, -5.52942908751142},
		{30.5, 1000000, -348.420050704242},
		{30.5, 1000000000000, -769.792672852101},
		{12345.5, 9000000000000000, -349566.057037759},
		{99, 101, -139.655208750853},
		{0.01, 20000000, 4.43136744997434},
		{500000000, 600000000, -757910171.117377},
	} {
		require.InEpsilon(t, c[2], experiment.LogBeta(c[0], c[1]), 1e-12, "%v", c)
		require.InEpsilon(t, c[2], experiment.LogBeta(c[1], c[0]), 1e-12, "%v", c)
	}
}

// Of counts as configured the evidence is ½ ln(k/(k+n)) for two arms and many users, whatever their number: where Γ is taken for
// what it is, nothing of that is left at 10¹⁵.
func TestEvidenceKeepsItsDigits(t *testing.T) {
	t.Parallel()
	for _, n := range []float64{1e6, 1e9, 1e12, 1e15} {
		got := experiment.DirichletEvidence([]float64{n / 2, n / 2}, []float64{0.5, 0.5}, 10_000)
		require.InDelta(t, math.Log(10_000/(10_000+n))/2, got, 1e-4, "%v", n)
	}
}
