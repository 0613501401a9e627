package outcome

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/pressly/goose/v3"

	"github.com/onramphq/onramp/schema"
)

// Store is a ClickHouse database with Onramp's tables and views. Safe for concurrent use; close it once.
type Store struct {
	conn    driver.Conn
	addr    string
	version int64
}

// Open connects, creates the database where it is missing, migrates it, and asserts that its version is the one this
// program was built for. It does not wait for a server: where none answers, the error is CodeUnavailable and names the
// address. A database of a newer version is CodeConflict.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, &schema.Error{Code: schema.CodeInvalid, Message: "read ClickHouse configuration", Err: err}
	}
	if err := createDatabase(ctx, cfg); err != nil {
		return nil, err
	}
	version, err := migrate(ctx, cfg)
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(options(cfg, cfg.Database))
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeInvalid, Message: "read ClickHouse configuration", Err: err}
	}
	return &Store{conn: conn, addr: cfg.Addr, version: version}, nil
}

// Close releases the connections.
func (s *Store) Close() error { return s.conn.Close() }

// Conn is the connection pool, for queries this package does not know. It belongs to the store: do not close it.
func (s *Store) Conn() driver.Conn { return s.conn }

// Version is the version of the migrations the database is at.
func (s *Store) Version() int64 { return s.version }

func options(cfg Config, database string) *clickhouse.Options {
	return &clickhouse.Options{
		Addr:        []string{cfg.Addr},
		Auth:        clickhouse.Auth{Database: database, Username: cfg.User, Password: cfg.Password},
		Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		DialTimeout: 5 * time.Second,
		ReadTimeout: 5 * time.Minute, // a report over years of rows may take its time; a dead peer shows earlier, as a reset
		// One for each consumer of the sink, and some for reports.
		MaxOpenConns: 8, MaxIdleConns: 4, ConnMaxLifetime: 10 * time.Minute,
	}
}

// The codes of ClickHouse errors that say: not you.
const (
	codeWrongPassword        = 193
	codeAccessDenied         = 497
	codeAuthenticationFailed = 516
)

// createDatabase creates the database only where it is missing, so that production can run without the right to. It asks
// from the database system, which is always there: the embedded server dies of a client that names one that is not.
func createDatabase(ctx context.Context, cfg Config) (err error) {
	conn, err := clickhouse.Open(options(cfg, "system"))
	if err != nil {
		return translate(err, cfg.Addr, "open ClickHouse")
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var found uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = ?", cfg.Database).Scan(&found); err != nil {
		return translate(err, cfg.Addr, "open ClickHouse")
	}
	if found > 0 {
		return nil
	}
	return translate(conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS `"+cfg.Database+"`"), cfg.Addr, "create database "+cfg.Database)
}

// migrate runs the migrations that are missing and returns the version the database is at afterwards.
func migrate(ctx context.Context, cfg Config) (version int64, err error) {
	files, err := fs.Sub(schema.Migrations, "clickhouse")
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	db := clickhouse.OpenDB(options(cfg, cfg.Database))
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectClickHouse, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return 0, translate(err, cfg.Addr, "migrate database "+cfg.Database)
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return 0, translate(err, cfg.Addr, "read version of database "+cfg.Database)
	}
	if current != target {
		return 0, &schema.Error{
			Code:    schema.CodeConflict,
			Message: fmt.Sprintf("database %s at %s has version %d, this program needs %d: run the program that fits it", cfg.Database, cfg.Addr, current, target),
		}
	}
	return current, nil
}

// translate gives an error of the driver a code. An answer of the server is a defect unless it refuses who we are; no
// answer at all means that the server is away.
func translate(err error, addr, doing string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	code, message := schema.CodeUnavailable, doing+": ClickHouse at "+addr+" is not reachable"
	if exception, ok := errors.AsType[*clickhouse.Exception](err); ok {
		message = doing + ": ClickHouse at " + addr + " refuses"
		switch exception.Code {
		case codeWrongPassword, codeAccessDenied, codeAuthenticationFailed:
			code = schema.CodeInvalid
		default:
			code = schema.CodeInternal
		}
	}
	return &schema.Error{Code: code, Message: message, Err: err}
}
