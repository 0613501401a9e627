// Package ingest brings events in: JetStream message → valid event → one signal to the user's workflow → ack.
//
//	ONRAMP_EVENTS ──▶ page (all that waits, at most Config.Page)
//	                    ├─ does not read ──▶ dead letter with its reason ──▶ ack
//	                    ├─ no rule reads ──▶ ack (the archive has a consumer of its own)
//	                    └─ mailbox of its user ──▶ signal-with-start, one call a user at a time ──▶ ack
//
// A page is small when little comes, so an event travels at once, and large when much waits, so a user's events share one
// signal. A message is acknowledged only when its signal is durable. Where Temporal is away the page is kept and tried again
// with growing delay, so order is kept and nothing piles up: back-pressure, not memory. settle.go is the only place that
// acknowledges.
package ingest
