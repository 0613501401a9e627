//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"

	serverlog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// A log that grew beyond this is begun anew at the next start.
const logLimit = 16 << 20

// openLog opens a server's log file to append to it.
func openLog(name string) (*os.File, error) {
	flags := os.O_CREATE | os.O_APPEND | os.O_RDWR
	if info, err := os.Stat(name); err == nil && info.Size() > logLimit {
		flags |= os.O_TRUNC
	}
	file, err := os.OpenFile(name, flags, 0o600) //nolint:gosec // in the data folder
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return file, nil
}

// temporalLogger lets the Temporal server write to slog. The server calls Fatal when it cannot listen and expects the
// process to end; here the goroutine ends and fatal gets the reason, so that a start can be tried again.
type temporalLogger struct {
	log   *slog.Logger
	fatal func(error)
}

var _ serverlog.WithLogger = temporalLogger{}

func (l temporalLogger) Debug(msg string, tags ...tag.Tag) { l.write(slog.LevelDebug, msg, tags) }
func (l temporalLogger) Info(msg string, tags ...tag.Tag)  { l.write(slog.LevelInfo, msg, tags) }
func (l temporalLogger) Warn(msg string, tags ...tag.Tag)  { l.write(slog.LevelWarn, msg, tags) }
func (l temporalLogger) Error(msg string, tags ...tag.Tag) { l.write(slog.LevelError, msg, tags) }

// DPanic reports: the server goes on after it in production too.
func (l temporalLogger) DPanic(msg string, tags ...tag.Tag) { l.write(slog.LevelError, msg, tags) }

// Panic panics, as its callers expect.
func (l temporalLogger) Panic(msg string, tags ...tag.Tag) {
	l.write(slog.LevelError, msg, tags)
	panic(msg)
}

// Fatal reports the reason and ends the calling goroutine.
func (l temporalLogger) Fatal(msg string, tags ...tag.Tag) {
	l.write(slog.LevelError, msg, tags)
	var detail strings.Builder
	for _, t := range tags {
		fmt.Fprintf(&detail, " %s=%v", t.Key(), t.Value())
	}
	l.fatal(fmt.Errorf("temporal server: %s%s", msg, detail.String()))
	runtime.Goexit()
}

// With returns a logger that adds the tags to every line.
func (l temporalLogger) With(tags ...tag.Tag) serverlog.Logger {
	return temporalLogger{log: slog.New(l.log.Handler().WithAttrs(attributes(tags))), fatal: l.fatal}
}

func (l temporalLogger) write(level slog.Level, msg string, tags []tag.Tag) {
	ctx := context.Background()
	if l.log.Enabled(ctx, level) {
		l.log.LogAttrs(ctx, level, msg, attributes(tags)...) //nolint:sloglint // the message is the server's
	}
}

func attributes(tags []tag.Tag) []slog.Attr {
	attrs := make([]slog.Attr, len(tags))
	for i, t := range tags {
		attrs[i] = slog.Any(t.Key(), t.Value())
	}
	return attrs
}
