//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/errgroup"
)

const (
	closeGrace = 10 * time.Second
	// Failures nobody reads are dropped: the first few say it all.
	keptFailures = 4
)

var (
	errChild     = errors.New("start local servers in the ClickHouse child: main or TestMain must call RunChild first")
	errNATSEnded = errors.New("run NATS: the server ended by itself")
)

// parts are the running servers.
type parts struct {
	dir        *dataDir
	ports      portBook
	nats       *server.Server
	temporal   *temporalServer
	ui         *webUI
	clickhouse *clickhouse

	failed   chan error
	closing  chan struct{}
	close    sync.Once
	closeErr error
}

// Start runs the servers and returns when all of them answer. It changes nothing when it returns an error of type
// [PortInUseError], [DirInUseError] or [EngineError]; after any other error everything that had been started is
// stopped. The context bounds the start, not the life of the servers.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	// Without this check a program that forgot RunChild would start itself without end.
	if len(os.Args) > 1 && os.Args[1] == ChildCommand {
		return nil, errChild
	}
	cfg = cfg.withDefaults()
	dir, err := openDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Stack{Dir: dir.path, parts: parts{
		dir: dir, failed: make(chan error, keptFailures), closing: make(chan struct{}),
	}}
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, cfg Config) error {
	if err := checkPorts(ctx, cfg, s.parts.dir.unclean); err != nil {
		return err
	}
	for _, port := range []*int{&cfg.NATSPort, &cfg.UIPort, &cfg.ClickHousePort, &cfg.ClickHouseHTTPPort} {
		var err error
		if *port, err = s.parts.ports.choose(ctx, *port); err != nil {
			return err
		}
	}
	for _, port := range []*int{&cfg.NATSWebSocketPort, &cfg.MQTTPort} {
		if *port >= 0 {
			continue
		}
		var err error
		if *port, err = s.parts.ports.choose(ctx, 0); err != nil {
			return err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	if !cfg.NoClickHouse {
		eng, err := findEngine(ctx, cfg)
		if err != nil {
			return err
		}
		s.parts.clickhouse = newClickHouse(eng, s.Dir, cfg, s.fail)
		s.ClickHouseAddr = hostPort(cfg.ClickHousePort)
		s.ClickHouseHTTPURL = "http://" + hostPort(cfg.ClickHouseHTTPPort)
		group.Go(func() error { return s.parts.clickhouse.start(groupCtx) })
	}
	if !cfg.NoNATS {
		s.NATSURL = "nats://" + hostPort(cfg.NATSPort)
		if cfg.NATSWebSocketPort != 0 {
			s.NATSWebSocketURL = "ws://" + hostPort(cfg.NATSWebSocketPort)
		}
		if cfg.MQTTPort != 0 {
			s.MQTTURL = "mqtt://" + hostPort(cfg.MQTTPort)
		}
		group.Go(func() error { return s.startNATS(groupCtx, cfg) })
	}
	if !cfg.NoTemporal {
		group.Go(func() error { return s.startTemporal(groupCtx, cfg) })
	}
	return group.Wait()
}

func (s *Stack) startNATS(ctx context.Context, cfg Config) error {
	srv, err := startNATS(ctx, s.Dir, cfg)
	if err != nil {
		return err
	}
	s.parts.nats = srv
	go func() {
		srv.WaitForShutdown()
		s.fail(errNATSEnded)
	}()
	return nil
}

// startTemporal also starts the Web UI, which needs the frontend's address.
func (s *Stack) startTemporal(ctx context.Context, cfg Config) error {
	srv, err := startTemporal(ctx, s.parts.dir, &s.parts.ports, cfg, s.fail)
	if err != nil {
		return err
	}
	s.parts.temporal, s.TemporalAddress = srv, srv.address
	if cfg.NoUI {
		return nil
	}
	ui, err := startUI(ctx, cfg.UIPort, srv.address, cfg.Namespace, s.fail)
	if err != nil {
		return err
	}
	s.parts.ui, s.UIURL = ui, "http://"+hostPort(cfg.UIPort)
	return nil
}

// Close stops everything within ten seconds, or earlier if the context ends: the child is dead and a temporary folder
// is removed when it returns. Closing again returns the first result.
func (s *Stack) Close(ctx context.Context) error {
	s.parts.close.Do(func() {
		close(s.parts.closing)
		s.parts.closeErr = s.stop(ctx)
	})
	return s.parts.closeErr
}

func (s *Stack) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeGrace)
	defer cancel()
	var (
		wait                               sync.WaitGroup
		uiErr, natsErr, workErr, engineErr error
	)
	if s.parts.ui != nil {
		uiErr = s.parts.ui.stop()
	}
	if s.parts.nats != nil {
		wait.Go(func() { natsErr = stopNATS(ctx, s.parts.nats) })
	}
	if s.parts.temporal != nil {
		wait.Go(func() { workErr = s.parts.temporal.stop(ctx) })
	}
	if s.parts.clickhouse != nil {
		wait.Go(func() { engineErr = s.parts.clickhouse.stop(ctx) })
	}
	wait.Wait()
	s.parts.ports.release()
	return errors.Join(uiErr, natsErr, workErr, engineErr, s.parts.dir.release())
}

// Failed reports a server that died and could not be started again. The rest goes on running until Close.
func (s *Stack) Failed() <-chan error { return s.parts.failed }

func (s *Stack) fail(err error) {
	select {
	case <-s.parts.closing: // what ends now was told to
	default:
		select {
		case s.parts.failed <- err:
		default:
		}
	}
}

// KillClickHouse sends SIGKILL to the ClickHouse child, for fault tests. The watchdog starts it again.
func (s *Stack) KillClickHouse() { s.parts.clickhouse.kill() }

// ChildPID is the process id of the ClickHouse child; 0 while it is being started again.
func (s *Stack) ChildPID() int { return s.parts.clickhouse.pid() }

// PersistenceRequests counts what the Temporal server has asked of its database since Start, by operation. Benchmarks
// take the difference of two calls.
func (s *Stack) PersistenceRequests() (total int64, byOperation map[string]int64) {
	return s.parts.temporal.metrics.counts.snapshot()
}

// InProcessConn connects to NATS without the network: nats.Connect("", nats.InProcessServer(stack)).
func (s *Stack) InProcessConn() (net.Conn, error) { return s.parts.nats.InProcessConn() }
