//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dataDir is a data folder this process owns.
type dataDir struct {
	path      string
	lock      *os.File
	ephemeral bool
	// unclean is set when the last owner did not close: its child may still be about to end.
	unclean bool
}

// openDir creates the folder if needed and takes its lock.
func openDir(path string) (*dataDir, error) {
	d := &dataDir{ephemeral: path == ""}
	var err error
	if d.ephemeral {
		d.path, err = os.MkdirTemp("", "onramp-")
	} else if d.path, err = filepath.Abs(path); err == nil {
		err = os.MkdirAll(d.path, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("create data folder %s: %w", path, err)
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	return d, nil
}

// acquire takes DIR/lock without waiting and leaves our process id in it. The system frees the lock when we die.
func (d *dataDir) acquire() error {
	name := filepath.Join(d.path, "lock")
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the folder the developer named
	if err != nil {
		return fmt.Errorf("open the lock of the data folder %s: %w", d.path, err)
	}
	content, readErr := io.ReadAll(lock)
	if err := tryFlock(lock); err != nil {
		_ = lock.Close() //nolint:errcheck // nothing was written
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", name, err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(content))) //nolint:errcheck // 0 says unknown
		return &DirInUseError{Dir: d.path, PID: pid}
	}
	d.lock, d.unclean = lock, len(content) > 0
	if err := errors.Join(readErr, d.write(strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), lock.Close())
	}
	return nil
}

func (d *dataDir) write(content string) error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err := d.lock.WriteAt([]byte(content), 0)
	return err
}

// release empties the lock file, which marks a clean end, and removes an ephemeral folder.
func (d *dataDir) release() error {
	err := errors.Join(d.write(""), d.lock.Close())
	if d.ephemeral {
		err = errors.Join(err, os.RemoveAll(d.path))
	}
	if err != nil {
		return fmt.Errorf("release data folder %s: %w", d.path, err)
	}
	return nil
}

func tryFlock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// waitFlock takes an exclusive lock on the file, waiting for other processes.
func waitFlock(ctx context.Context, f *os.File) error {
	const poll = 100 * time.Millisecond
	for {
		err := tryFlock(f)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !pause(ctx, poll) {
			return ctx.Err()
		}
	}
}
