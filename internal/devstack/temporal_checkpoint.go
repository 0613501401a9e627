//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// checkpointEvery bounds how much there is to move at a time.
const checkpointEvery = time.Second

// checkpoints moves what stands in a database's write-ahead log into its file, again and again until ctx ends. SQLite does it by itself, in the
// commit that fills the log, and everything that works with the database stands still meanwhile: for up to a quarter of a second, where 32 MB go
// to a slow disk. Done beside the one who writes it holds up nobody, and leaves little to that commit.
func checkpoints(ctx context.Context, file string, log *slog.Logger) {
	log = log.With(slog.String("database", file))
	const leftBehind = "the write-ahead log is left to who writes"
	db, err := sql.Open("sqlite", "file:"+uriPath(file)+"?mode=rw")
	if err != nil {
		log.WarnContext(ctx, leftBehind, slog.Any("error", err))
		return
	}
	defer db.Close() //nolint:errcheck // nothing was written by it
	db.SetMaxOpenConns(1)
	for moved := (time.Time{}); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(checkpointEvery):
		}
		written, err := os.Stat(file + "-wal")
		if errors.Is(err, fs.ErrNotExist) { // a folder of before has one database
			continue
		}
		if err == nil && written.ModTime().After(moved) {
			moved = written.ModTime()
			_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
		}
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, leftBehind, slog.Any("error", err))
		}
	}
}
