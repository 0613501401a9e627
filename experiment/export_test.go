package experiment

// What tests check against published values that the exported names do not reach.
var (
	DirichletEvidence = dirichletEvidence
	TSequence         = tSequence
	Kolmogorov        = kolmogorov
	BinomialLimit     = binomialLimit
	FixedMultiple     = fixedMultiple
	LogBeta           = logBeta
)

// Stops returns the chances of stopping at each look, above and below together.
func Stops(information, bounds []float64, drift float64) []float64 {
	above, below := stops(information, bounds, drift)
	for i := range above {
		above[i] += below[i]
	}
	return above
}
