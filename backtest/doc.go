// Package backtest runs recorded events through journey.Next with virtual time: what would this playbook have done? Pure but
// for the goroutines that share the users: no clock, no I/O.
//
//	users (token, events) ──▶ Run or Compare ──▶ Result, Comparison
//	one user              ──▶ Life, Tell     ──▶ lines of a story
//
// Life is the loop around journey.Next that the workflow is in production: events in order of record, and a call whenever
// the last decision asked for one. Everything that asks "what would have been" goes through it: backtests, scenarios
// (package scenario), and the explanation of a user's past.
//
// What it holds to:
//
//   - The result does not depend on the order of the users or on how many workers share them.
//   - Memory is bounded by the results and by the events of the users at work, not by the log.
//   - Actions are decided, never delivered: a delivery is taken to succeed at once.
//
// What it cannot know: how people would have answered. The events are what people did under what they were sent then, so
// conversions are those of the log, whatever the playbook under test would have sent.
package backtest
