// Package truth says what the engine should do, a second time and as simply as can be, for tests to compare.
//
// A Case is a random playbook with a random log. Its playbook is a value of this package's own: Book.YAML writes it for the
// engine, and Naive reads it as it stands. Naive keeps every event and, at every full hour and a millisecond after it, asks every
// rule and moves every enrollment from nothing but the events taken in so far: no aggregates, no moments to wait for, no index of
// who reads what. It shares no code with segment, playbook and journey, only the wire types of schema.
//
// All times of a case are whole hours, so an hourly grid misses no change; the millisecond is for strict comparisons.
package truth
