// Package outcome is Onramp's memory for analysts: it carries what happened from JetStream into ClickHouse, and reads the
// results back.
//
//	ONRAMP_EVENTS      ──▶ archive          ──▶ events, users
//	ONRAMP_OUTCOMES    ──▶ sink-outcomes    ──▶ outcomes
//	ONRAMP_DEADLETTERS ──▶ sink-deadletters ──▶ dead_letters
//
//	config.go    Config, SinkConfig and their defaults
//	store.go     a connection that is migrated and asserted
//	sink.go      three durable consumers, each on its own; which process reads them
//	carrier.go   one consumer: take a batch, write it, settle it, through every failure
//	reader.go    from the stream into the inbox
//	inbox.go     what was delivered and not yet acknowledged
//	insert.go    one batch into one table, and which errors blame the row
//	archive.go, outcomes.go, deadletters.go   messages to rows
//	report.go    what the views say, as one value; query.go asks them
//	render.go    the same for a terminal; render_experiment.go draws the interval
//
// Guarantees. A message is acknowledged only after its row, and that of every message before it, is stored, or is in the dead letters with a
// reason: one acknowledgment covers a batch, and one process reads at a time. Rows may be
// written more than once and are counted once: each table collapses by key, and every view reads it so. While ClickHouse
// is away nothing is dropped and nothing grows: delivery stops at what the consumer may hold unacknowledged. Stopping ingest
// or Temporal stops none of this, and the reverse.
//
// It never takes part in a decision: a fresh row may not be visible yet.
package outcome
