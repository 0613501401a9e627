// Package experiment decides who gets which variant of an experiment, and what the numbers afterwards say.
//
// It is pure: no clock, no I/O, no context. The same inputs give the same assignment on every machine and for ever, so the
// worker, the API, a backtest and a query in SQL can each work out a user's variant and agree. Statistics agree too, but for
// the last digits, where processors differ in their logarithms; shares that move are rounded above them.
//
// # Who gets what
//
//	assign.go     id → bucket in [0,1) → variant, by the GrowthBook specification: ranges, coverage, filters, namespaces, forced
//	layer.go      experiments that never share a user
//	holdout.go    users kept out of everything, to measure everything
//	factorial.go  several questions at once: factors, levels, and the cells that users are assigned to
//	allocate.go   shares that move towards the better arm, beside a part that does not and is measured
//
// An assignment is the variant a user would get. An exposure is the moment the user met it; analysis starts there, and the
// rows are counted in ClickHouse (package outcome), never here.
//
// # What the numbers say
//
// Moments are all that most statistics need: per experiment, variant and segment the number of users, the sums of their values
// and of the products of their values. They add up exactly, in any order, and name what cannot be added. A Metric makes an
// Estimate of them, two Estimates a Contrast, and from a Contrast come effects:
//
//	control, treatment Moments ──▶ Compare ──▶ Reading{Absolute, Relative, each with Anytime and Fixed evidence}
//	                               PostStratify · Regress · CompareQuantiles · Factorial.Interactions
//	many questions                 CompareFamily · CompareSegments: one error budget
//	claims                         Metric.Verdict · Metric.Guard
//	beliefs                        Metric.Posterior · BestOf
//	did the users arrive as asked  SampleRatioSequential · SampleRatioMismatch · SampleRatioBy
//	beforehand                     Plan.Users · Plan.Detectable · Plan.Outlook · GroupBounds
//	on the user's own data         SelfTest · CheckBuckets
//
// Every answer has a State. Where it is not readable, there is no number to mistake for a result: an empty arm, one user, no
// spread, a baseline of zero, NaN, overflow each have a name.
//
// Anytime evidence holds however often one looks, and is what a decision should rest on while an experiment runs. Fixed
// evidence holds at one look, planned beforehand: looked at twenty times it alarms falsely in 25 % of experiments without an
// effect, where the anytime-valid rule does in 1.4 %.
//
// # Sources
//
//	anytime-valid interval and p       Waudby-Smith et al., arXiv 2103.06476; Howard et al., arXiv 1810.08240; Robbins 1970
//	few conversions                    likelihood against its average over Beta(½,½): Ville 1939, Robbins 1970; profile likelihood
//	regression, anytime-valid          Lindon, Ham, Tingley, Bojinov, arXiv 2210.08589
//	quantiles, anytime-valid           Howard, Ramdas, Bernoulli 28 (2022)
//	sample ratio, anytime-valid        Lindon, Malek, arXiv 2011.03567
//	ratios                             Deng, Knoblich, Lu, KDD 2018 (delta method)
//	relative effects                   delta method; Fieller 1954; logarithm of the ratio
//	covariates                         Deng, Xu, Kohavi, Walker, WSDM 2013 (CUPED); Lin 2013
//	strata                             Miratrix, Sekhon, Yu 2013, with random shares
//	many questions                     Holm 1979; Benjamini, Hochberg 1995; Benjamini, Yekutieli 2001 and 2005
//	group sequential                   Lan, DeMets 1983; Armitage, McPherson, Rowe 1969; Jennison, Turnbull 2000
//	differences between effects        Cochran 1954; Higgins, Thompson 2002
//	shares that move                   Thompson 1933; Russo 2016
//
// Each method is checked in its test against figures that others published or computed: the tests of GrowthBook, PostHog,
// tea-tasting, confseq, avlm and savvi, the documentation of ClickHouse, R and its packages rpact, metafor and sandwich,
// tables of the papers, reference data of NIST.
//
// # What it does not do
//
// It collects nothing and stores nothing. It does not attribute, does not define windows in SQL, does not correct for users
// who met two variants, and knows no network effects between users. Funnels are proportions of the exposed, step by step.
package experiment
