//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/temporal"
)

const (
	temporalStarts    = 3
	temporalReady     = 30 * time.Second
	temporalStopGrace = 7 * time.Second
)

var (
	errNotWAL       = errors.New("open Temporal database: journal mode is not WAL")
	errServerExited = errors.New("start Temporal: the server gave up while starting")
)

// temporalServer is the Temporal server in this process.
type temporalServer struct {
	address string
	ports   *portBook
	metrics *countingHandler
	log     *slog.Logger
	logFile *os.File // nil when ephemeral

	srv      temporal.Server
	settings *dynamicSettings
	fatal    chan error
	end      context.CancelFunc // of what goes on beside the server until it is stopped
	beside   sync.WaitGroup     // who works with its databases there
}

// startTemporal runs the server on DIR/temporal and returns when the namespace and its search attributes
// can be used.
func startTemporal(
	ctx context.Context, d *dataDir, ports *portBook, cfg Config, failed func(error),
) (*temporalServer, error) {
	dir := filepath.Join(d.path, "temporal")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create Temporal folder: %w", err)
	}
	state, list, err := stores(ctx, dir)
	if err == nil {
		err = createNamespace(state, cfg)
	}
	if err != nil {
		return nil, err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	t := &temporalServer{
		ports: ports, settings: dynamicConfig(cfg), metrics: newCountingHandler(), log: slog.New(slog.DiscardHandler),
		fatal: make(chan error, 1), end: end,
	}
	if !d.ephemeral {
		file, err := openLog(filepath.Join(dir, "server.log"))
		if err != nil {
			return nil, err
		}
		t.logFile = file
		t.log = slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	err = t.startWithRetries(ctx, state, list, cfg)
	if err == nil {
		err = t.prepareNamespace(ctx, cfg)
	}
	if err == nil {
		err = errors.Join(assertWAL(ctx, state.DatabaseName), assertWAL(ctx, list.DatabaseName))
	}
	if err != nil {
		return nil, errors.Join(err, t.stop(context.WithoutCancel(ctx)))
	}
	t.settings.ready.Store(true)
	for _, database := range []string{stateDatabase, listDatabase} {
		t.beside.Go(func() { checkpoints(running, filepath.Join(dir, database), t.log) })
	}
	go t.reportFatal(running, failed)
	return t, nil
}

// startWithRetries tries again with new ports: the server closes the ports it was given and binds them again, and
// between the two another process can take one.
func (t *temporalServer) startWithRetries(ctx context.Context, state, list *config.SQL, cfg Config) error {
	var err error
	for attempt := range temporalStarts {
		if attempt > 0 {
			cfg.Logger.WarnContext(ctx, "temporal did not start, trying again with other ports", slog.Any("error", err))
		}
		if err = t.startOnce(ctx, state, list, cfg); err == nil || ctx.Err() != nil {
			return err
		}
		err = errors.Join(err, t.stopServer(ctx))
	}
	return err
}

// startOnce runs NewServer and Start in a goroutine of their own, because temporalLogger ends it on a fatal error.
func (t *temporalServer) startOnce(ctx context.Context, state, list *config.SQL, cfg Config) error {
	ports, err := choosePorts(ctx, t.ports, cfg.TemporalPort)
	if err != nil {
		return err
	}
	t.address = hostPort(ports.frontend)
	done := make(chan error, 1)
	go func() {
		result := errServerExited
		defer func() {
			if p := recover(); p != nil {
				result = fmt.Errorf("start Temporal: panic: %v", p)
			}
			done <- result
		}()
		t.srv, result = temporal.NewServer(
			temporal.WithConfig(serverConfig(ports, state, list)),
			temporal.ForServices(temporal.DefaultServices),
			temporal.WithStaticHosts(ports.hosts()),
			temporal.WithLogger(temporalLogger{log: t.log, fatal: t.setFatal}),
			temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
			temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper {
				return authorization.NewNoopClaimMapper()
			}),
			temporal.WithDynamicConfigClient(t.settings),
			temporal.WithCustomMetricsHandler(t.metrics),
		)
		if result == nil {
			result = errServerExited
			result = t.srv.Start()
		}
	}()
	// Not cut short by the context: a server that starts behind our back could not be stopped.
	return t.withFatal(<-done)
}

// setFatal keeps the first fatal error of the server.
func (t *temporalServer) setFatal(err error) {
	select {
	case t.fatal <- err:
	default:
	}
}

// withFatal joins the error of a start with the fatal error that explains it.
func (t *temporalServer) withFatal(err error) error {
	select {
	case fatal := <-t.fatal:
		return errors.Join(fatal, err)
	default:
	}
	if err != nil {
		return fmt.Errorf("start Temporal: %w", err)
	}
	return nil
}

// reportFatal reports a server that dies later.
func (t *temporalServer) reportFatal(running context.Context, failed func(error)) {
	select {
	case err := <-t.fatal:
		failed(err)
	case <-running.Done():
	}
}

// stop ends the server; it closes the database, so the write-ahead log is folded in.
func (t *temporalServer) stop(ctx context.Context) error {
	t.end()
	t.beside.Wait()
	err := t.stopServer(ctx)
	if t.logFile != nil {
		err = errors.Join(err, t.logFile.Close())
	}
	return err
}

func (t *temporalServer) stopServer(ctx context.Context) error {
	srv := t.srv
	t.srv = nil
	if srv == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), temporalStopGrace)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil { // a server that started half may not know how to stop
				done <- fmt.Errorf("panic: %v", p)
			}
		}()
		done <- srv.Stop()
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("stop Temporal: %w", err)
		}
		return nil
	case <-ctx.Done():
		return errors.New("stop Temporal: it did not end in time")
	}
}

// assertWAL reads the journal mode from a file, which is named as in a URI: an attribute with a wrong name is silently ignored by the driver,
// and costs a factor of a hundred.
func assertWAL(ctx context.Context, file string) error {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		return fmt.Errorf("open Temporal database: %w", err)
	}
	defer db.Close() //nolint:errcheck // only read
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return fmt.Errorf("read journal mode of %s: %w", file, err)
	}
	if mode != "wal" {
		return fmt.Errorf("%w but %s", errNotWAL, mode)
	}
	return nil
}
