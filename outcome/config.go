package outcome

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// Config says where ClickHouse is.
type Config struct {
	Addr     string // host:port of the native protocol. Defaults to 127.0.0.1:9000.
	Database string // created where missing. Defaults to onramp.
	User     string // Defaults to default.
	Password string // Defaults to none.
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:9000")
	c.Database = cmp.Or(c.Database, "onramp")
	c.User = cmp.Or(c.User, "default")
	return c
}

func (c Config) validate() error {
	if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`).MatchString(c.Database) {
		return fmt.Errorf("database is %q; it must be a letter and at most 63 letters, digits and underscores", schema.Clean(c.Database))
	}
	return nil
}

// SinkConfig says how the sink batches. The zero value is valid but for the key.
type SinkConfig struct {
	WorkspaceKey []byte         // turns raw user ids into user tokens; the same as everywhere else. Required.
	MaxRows      int            // rows of one insert, at most. Defaults to 20,000.
	MaxWait      time.Duration  // from the first message of a batch to its insert, at most; after a quiet time a quarter of it. Defaults to 1 s.
	AckWait      time.Duration  // after which an unacknowledged message is delivered again. Defaults to 30 s.
	Grace        time.Duration  // for the batch in hand once Run is told to stop. Defaults to 5 s.
	MaxRetryWait time.Duration  // between two attempts while ClickHouse is away, at most. Defaults to 5 s.
	MaxBytes     int            // payload that one consumer holds in memory, about. Defaults to 64 MiB.
	Exclusive    bool           // says that no other process runs a sink, so that none has to be asked for its turn. Defaults to false.
	Logger       *slog.Logger   // Defaults to none.
	Meters       Meters         // are told how it goes. Defaults to none.
	Tracer       tracing.Tracer // makes a span of every insert of rows that somebody traces. Defaults to none.
}

// Meters measure the sink. They are called from several goroutines and must not block; nil ones are not called.
type Meters struct {
	Batch  func(consumer string, rows int)        // one insert that was stored
	Insert func(consumer string, seconds float64) // what one insert took, whether it succeeded or not
}

func (c SinkConfig) withDefaults() SinkConfig {
	c.MaxRows = cmp.Or(c.MaxRows, 20_000)
	c.MaxWait = cmp.Or(c.MaxWait, time.Second)
	c.AckWait = cmp.Or(c.AckWait, 30*time.Second)
	c.Grace = cmp.Or(c.Grace, 5*time.Second)
	c.MaxRetryWait = cmp.Or(c.MaxRetryWait, 5*time.Second)
	c.MaxBytes = cmp.Or(c.MaxBytes, 64<<20)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c
}

func (c SinkConfig) validate() error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.WorkspaceKey) == 0 {
		refuse("workspace key is missing: without it users have no token")
	}
	if c.MaxRows < 1 || c.MaxRows > 1_000_000 {
		refuse("max rows is %d; it must lie in [1, 1,000,000]", c.MaxRows)
	}
	if c.MaxBytes < 1<<20 {
		refuse("max bytes is %d; it must be at least 1 MiB, the size of one message", c.MaxBytes)
	}
	if c.MaxWait < 0 || c.Grace < 0 || c.MaxRetryWait < 0 {
		refuse("a duration is negative")
	}
	if c.AckWait < 3*time.Second || c.AckWait < 3*c.MaxWait {
		refuse("ack wait is %s; it must be at least 3 s and three times max wait (%s), so that a heartbeat comes in time", c.AckWait, c.MaxWait)
	}
	return errors.Join(problems...)
}
