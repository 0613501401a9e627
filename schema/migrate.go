package schema

import "embed"

// Migrations holds the ClickHouse migrations, `clickhouse/NNNN_name.sql` in goose's format. Each is idempotent, because
// ClickHouse has no transactions and two processes may migrate at once, and names no database: it runs in the
// connection's. A migration that was released is never edited.
//
//go:embed clickhouse/*.sql
var Migrations embed.FS
