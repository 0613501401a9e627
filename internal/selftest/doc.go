// Package selftest asks whether an experiment's analysis can be believed, on the experiment's own rows: users are dealt out
// again, by the hash that assigns them in production under other seeds, and what the analysis then claims is counted. Where
// nothing was done to anybody, it must claim something in a share alpha of cases at most; where a lift was put in, it must find
// it as often as planned, and its intervals must hold it. Every check shows the limits within which it passes.
//
// Pure: the same input gives the same report. A check that passes proves little; one that fails has found something.
package selftest
