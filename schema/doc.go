// Package schema is the contract between Onramp's parts and with the world outside: the types that travel, their names
// and ids, their limits, the codes a refusal carries, and the ClickHouse migrations.
//
// It decides nothing and touches nothing: no clock, no I/O. Every other package imports it; it imports none of them.
//
//	event.go    an event as a service publishes it, and as a user's workflow receives it
//	decode.go   the strict reader of events: exact names, no duplicates, valid UTF-8, bounded
//	timing.go   event time corrected for clock skew, and how late an event is
//	outcome.go  what happened: the record of every decision
//	profile.go  what a user is right now
//	action.go   what a receiver of an action is handed
//	message.go  workflow signals and queries
//	name.go     streams, subjects, workflow ids, user tokens and every derived id
//	error.go    the codes of refusals and failures
package schema
