// Package journey moves one user through a playbook. Pure: no clock, no I/O, no context.
//
//	Next(books, state, input, now) → (state, decision)
//
// is the whole engine. The workflow executes its decisions, a backtest prints them, a property test compares them; because
// they all call Next they cannot disagree. An input is an event or the passing of time; a decision is outcomes to record,
// actions to deliver, and the moment at which to ask again.
//
// The life of an enrollment:
//
//	trigger ─▶ step ─▶ step ─▶ … ─▶ completed          (no step follows)
//	            │ wait, delay: open, until event, rule or Due
//	            ├─▶ goal event ─▶ goal_met
//	            ├─▶ exit rule, exit event, left segment ─▶ its reason
//	            └─▶ exit step ─▶ its reason
//	ended, goal window open ─▶ goal event ─▶ converted
//
// Time. Every input has a moment of record: for a live event the time the stream took it, for a historic one its event
// time, for time alone the due time. State.Clock holds the latest at which something happened and never goes back; that a rule
// was asked again to no effect is nothing. Before an event is applied, all that was due before its moment happens first, at its
// own moment, so the result does not depend on when a timer really fired.
package journey
