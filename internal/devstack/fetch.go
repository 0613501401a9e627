//go:build !noembed && (linux || darwin)

package devstack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

// fetch gets the package with npm, verifies it, and puts the library into folder in one rename.
func fetch(ctx context.Context, cfg Config, pkg enginePackage, folder string) (err error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return &EngineError{Reason: "there is none on this machine and npm, which fetches it, is not installed", Hint: npmHint}
	}
	// Beside the final folder, so that the rename stays on one disk.
	work, err := os.MkdirTemp(filepath.Dir(folder), "fetch-")
	if err != nil {
		return &EngineError{Reason: "the cache folder cannot be written", Hint: "make it writable", Err: err}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	tarball, err := npmPack(ctx, npm, pkg, work, cfg.Progress)
	if err != nil {
		return err
	}
	if err := verify(tarball, pkg); err != nil {
		return err
	}
	fresh := filepath.Join(work, "library")
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("unpack ClickHouse engine: %w", err)
	}
	if err := unpack(tarball, filepath.Join(fresh, libraryName), pkg.librarySize); err != nil {
		return fmt.Errorf("unpack ClickHouse engine: %w", err)
	}
	if err := os.WriteFile(filepath.Join(fresh, markerName), []byte(pkg.sha256), 0o600); err != nil {
		return fmt.Errorf("unpack ClickHouse engine: %w", err)
	}
	// What is there was not complete.
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("remove broken ClickHouse engine: %w", err)
	}
	if err := os.Rename(fresh, folder); err != nil {
		return fmt.Errorf("install ClickHouse engine: %w", err)
	}
	return nil
}

// npmPack downloads the tarball into work and returns its path. npm's own cache goes there too: it shows how far the
// download is, and does not stay behind with a second copy.
func npmPack(ctx context.Context, npm string, pkg enginePackage, work string, progress io.Writer) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, npm, "pack", pkg.name+"@"+engineVersion, //nolint:gosec // constants
		"--pack-destination", work, "--cache", filepath.Join(work, "npm"),
		"--loglevel=error", "--no-update-notifier", "--ignore-scripts")
	cmd.Dir, cmd.Stderr = work, &stderr
	cmd.WaitDelay = time.Second
	stop := drawProgress(progress, work, pkg.packedSize)
	err := cmd.Run()
	stop()
	if ctx.Err() != nil {
		return "", fmt.Errorf("fetch ClickHouse engine: %w", ctx.Err())
	}
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return "", &EngineError{
			Reason: "npm could not fetch " + pkg.name + "@" + engineVersion,
			Hint:   "run once with network, or put a clickhouse binary on PATH", Err: fmt.Errorf("%w: %s", err, first),
		}
	}
	found, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", &EngineError{Reason: "npm pack left no package", Hint: "run `npm --version`, or put a clickhouse " +
			"binary on PATH", Err: err}
	}
	return found[0], nil
}

// drawProgress draws the growth of the folder until stop is called.
func drawProgress(out io.Writer, folder string, total int64) (stop func()) {
	if out == nil {
		return func() {}
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetDescription("fetching the ClickHouse engine, once"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(false),
		progressbar.OptionClearOnFinish(),
	)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressPoll)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				_ = bar.Finish() //nolint:errcheck // a bar that cannot be drawn is no error
				return
			case <-tick.C:
				// npm keeps a second copy towards the end.
				_ = bar.Set64(min(folderSize(folder), total-1)) //nolint:errcheck // as above
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// verify compares the tarball with the pinned checksum and deletes it if it differs.
func verify(tarball string, pkg enginePackage) error {
	file, err := os.Open(tarball) //nolint:gosec // in our own folder
	if err != nil {
		return fmt.Errorf("verify ClickHouse engine: %w", err)
	}
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("verify ClickHouse engine: %w", err)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != pkg.sha256 {
		return &EngineError{
			Reason: fmt.Sprintf("%s@%s has the checksum %s, not the pinned %s; it was deleted and not loaded",
				pkg.name, engineVersion, sum, pkg.sha256),
			Hint: "try again, check which registry npm uses, or put a clickhouse binary on PATH",
			Err:  os.Remove(tarball),
		}
	}
	return nil
}

// unpack writes the library of the tarball to target.
func unpack(tarball, target string, size int64) (err error) {
	file, err := os.Open(tarball) //nolint:gosec // in our own folder
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	plain, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	archive := tar.NewReader(plain)
	for {
		header, err := archive.Next()
		if err != nil {
			return fmt.Errorf("find %s: %w", libraryName, err)
		}
		if header.Name == "package/"+libraryName {
			break
		}
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700) //nolint:gosec // a library is executable
	if err != nil {
		return err
	}
	_, err = io.CopyN(out, archive, size)
	return errors.Join(err, out.Sync(), out.Close())
}
