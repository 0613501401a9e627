// Package devstack runs the servers Onramp needs on one laptop, with no Docker and nothing installed: NATS with
// JetStream, Temporal with its Web UI, and ClickHouse. It serves `onramp dev`, `onramp demo` and the tests; production
// uses the same client code against real clusters.
//
//	this process                                            child process
//	┌───────────────────────────────────────────────┐       ┌────────────────────────────┐
//	│ NATS + JetStream     DIR/nats                 │ stdin │ ClickHouse                 │
//	│ Temporal on SQLite   DIR/temporal             ├──────►│ DIR/clickhouse             │
//	│ Temporal Web UI                               │ pipe  │ lives as long as the pipe  │
//	└───────────────────────────────────────────────┘       └────────────────────────────┘
//
// The contract:
//
//   - Everything listens on 127.0.0.1 only, and nothing has a password: it is for one developer's machine.
//   - One process owns a data folder at a time, by a lock on DIR/lock. What was acknowledged survives a SIGKILL of
//     the process, and of the ClickHouse child alone.
//   - [Start] returns when all of it answers, or returns one error and leaves nothing running.
//   - ClickHouse is a child because its library installs signal handlers and may take the process down: the program
//     is started again with [ChildCommand], so main and TestMain call [RunChild] before anything else. It is started
//     again when it dies, on the same ports; it dies with its parent, however the parent ends.
//   - The library (not a clickhouse program) aborts when an HTTP client leaves in the middle of an answer: it is back
//     within a second or two, and clients of the native protocol must try again.
//   - The engine is the `clickhouse` of Config.ClickHouseBinary, else the one on PATH, else a library that npm
//     fetches once, that is verified against a checksum in this package, and kept in Config.EngineCache.
//
// It does not create streams, tables or workers, and it never changes a system setting. With the build tag `noembed`
// the servers are left out of the binary and Start returns [ErrNotBuilt].
package devstack
