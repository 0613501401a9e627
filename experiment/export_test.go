package experiment

// What tests check against published values that the exported names do not reach.
var (
	DirichletEvidence = dirichletEvidence
	TSequence         = tSequence
)
