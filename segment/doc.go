// Package segment answers, for one user and one moment, which segments the user is in, why, and how long the answer
// holds. Pure: no clock, no I/O.
//
// A rule is a CEL expression over behavior and traits, in the language that docs/language.md writes down. Compiling it extracts the
// aggregates it needs (a Slot for each selection of events and what is kept of it), so that evaluation looks at a few numbers and never
// at past events:
//
//	events("feature_used").where(e.feature == "reports").within("7d").count() >= 3 && traits.industry == "finance"
//	       └────────────────────── one Slot, folded event by event ──────────┘
//
// A rule answers with three values. Unknown means that an input is missing or of another type than declared; it is never
// silently false. Every answer carries the moment until which time alone cannot change it (Result.Until), so one timer per
// user is enough to enter and to leave a segment at the exact millisecond.
//
// An answer can be taken apart (Rule.Explanation): which part of the rule says what, and what would have to happen. Calendar days and
// times of day are those of the user's zone (Set.Zone). What a state takes up is bounded by the rules (Set.MaxBytes).
//
// It does not know journeys, experiments or playbook files: those are above it.
package segment
