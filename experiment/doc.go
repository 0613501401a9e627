// Package experiment decides who gets which variant of an experiment, and what the numbers afterwards say.
//
// It is pure: no clock, no I/O, no context. The same inputs give the same answer on every machine and for ever, so the
// worker, the API, a backtest and a query in SQL can each work out a user's variant and agree.
//
//	assign.go     id → bucket in [0,1) → variant, by the public GrowthBook specification
//	inference.go  two arms → lift, with an interval that may be looked at every day
//	srm.go        did the users arrive in the ratio that was asked for?
//
// An assignment is the variant a user would get. An exposure is the moment the user met it; analysis starts there, and the
// rows are counted in ClickHouse (package outcome), never here. Holdouts, several metrics at once, adjustment on covariates
// and Bayesian readings are not in this package.
package experiment
