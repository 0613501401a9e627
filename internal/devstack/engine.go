//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// The library is ClickHouse itself: clickhouse-local as a shared object, published for Node.js.
const (
	engineVersion = "26.7.3-stable.1"
	libraryName   = "libchdb.so"
	// markerName is written last into a folder of the cache: with it the folder is whole and was verified.
	markerName = "verified"

	installHint = "put a clickhouse program on PATH (https://clickhouse.com/docs/install), or give its path in " +
		"Config.ClickHouseBinary"
	npmHint = "install npm, or put a clickhouse binary on PATH, or run once with network"
)

// engine is what the child runs: a program, or a library this program loads.
type engine struct{ binary, library string }

// enginePackage is a verified npm package.
type enginePackage struct {
	name        string
	sha256      string // of the tarball
	packedSize  int64
	librarySize int64
}

// pinnedPackage is the package for this system. Packages for other systems exist under the same scope, but one that
// was never verified is not loaded.
func pinnedPackage() (enginePackage, bool) {
	if runtime.GOOS == "linux" && runtime.GOARCH == "amd64" {
		return enginePackage{
			name:        "@chdb/lib-linux-x64-gnu",
			sha256:      "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad",
			packedSize:  177_817_999,
			librarySize: 566_330_096,
		}, true
	}
	return enginePackage{}, false
}

// findEngine looks for a program first: a developer's own ClickHouse is better known than ours.
func findEngine(ctx context.Context, cfg Config) (engine, error) {
	if cfg.ClickHouseBinary != "" {
		path, err := exec.LookPath(cfg.ClickHouseBinary)
		if err != nil {
			return engine{}, &EngineError{
				Reason: cfg.ClickHouseBinary + " cannot be run", Hint: "give the path of a clickhouse program", Err: err,
			}
		}
		return absolute(path)
	}
	if path, err := exec.LookPath("clickhouse"); err == nil {
		return absolute(path)
	}
	pkg, ok := pinnedPackage()
	if !ok {
		return engine{}, &EngineError{
			Reason: fmt.Sprintf("no library is pinned for %s/%s", runtime.GOOS, runtime.GOARCH), Hint: installHint,
		}
	}
	library, err := cachedLibrary(ctx, cfg, pkg)
	return engine{library: library}, err
}

func absolute(path string) (engine, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return engine{}, &EngineError{Reason: "the path of clickhouse cannot be resolved", Hint: installHint, Err: err}
	}
	return engine{binary: path}, nil
}

// cachedLibrary returns the library in the cache and fetches it first if it is not there.
func cachedLibrary(ctx context.Context, cfg Config, pkg enginePackage) (string, error) {
	cache, err := cacheFolder(cfg.EngineCache)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, fmt.Sprintf("clickhouse-%s-%s-%s", engineVersion, runtime.GOOS, runtime.GOARCH))
	library := filepath.Join(folder, libraryName)
	if complete(folder, pkg) {
		return library, nil
	}
	unlock, err := lockCache(ctx, cache)
	if err != nil {
		return "", err
	}
	defer unlock()
	// Another process may have fetched it while we waited.
	if complete(folder, pkg) {
		return library, nil
	}
	return library, fetch(ctx, cfg, pkg, folder)
}

// complete says whether the folder holds a verified library of the right size.
func complete(folder string, pkg enginePackage) bool {
	marker, err := os.ReadFile(filepath.Join(folder, markerName)) //nolint:gosec // in our own cache
	if err != nil || string(marker) != pkg.sha256 {
		return false
	}
	info, err := os.Stat(filepath.Join(folder, libraryName))
	return err == nil && info.Size() == pkg.librarySize
}

func cacheFolder(folder string) (string, error) {
	if folder == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", &EngineError{Reason: "there is no cache folder", Hint: "set HOME or XDG_CACHE_HOME", Err: err}
		}
		folder = filepath.Join(user, "onramp")
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", &EngineError{Reason: "the cache folder cannot be resolved", Hint: "give an absolute path", Err: err}
	}
	return folder, nil
}

// lockCache lets one process fetch at a time.
func lockCache(ctx context.Context, cache string) (unlock func(), err error) {
	unwritable := func(err error) error {
		return &EngineError{
			Reason: "the cache folder " + cache + " cannot be written",
			Hint:   "make it writable, or set XDG_CACHE_HOME to a folder that is", Err: err,
		}
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, unwritable(err)
	}
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // in our own cache
	if err != nil {
		return nil, unwritable(err)
	}
	if err := waitFlock(ctx, lock); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the engine cache: %w", err), lock.Close())
	}
	return func() { _ = lock.Close() }, nil //nolint:errcheck // closing frees the lock
}

// folderSize adds up the files of a folder that is changing while we look.
func folderSize(folder string) (total int64) {
	//nolint:errcheck // a vanished file is no error
	_ = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // it only feeds a progress bar
		}
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// progressPoll is how often the bar looks at the folder.
const progressPoll = 200 * time.Millisecond
