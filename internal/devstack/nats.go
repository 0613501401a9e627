//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	natsMaxPayload = 1 << 20
	// The limit is an account's quota, not a reservation: large, so that only the real disk says no.
	natsMaxStore  = 1 << 40
	natsMaxMemory = 256 << 20
	natsReady     = 20 * time.Second
)

// startNATS runs NATS with JetStream in this process and returns when clients can connect.
func startNATS(ctx context.Context, dir string, cfg Config) (*server.Server, error) {
	port, log := cfg.NATSPort, cfg.Logger
	opts := &server.Options{
		ServerName:         "onramp-dev",
		Host:               loopback,
		Port:               port,
		MaxPayload:         natsMaxPayload,
		JetStream:          true,
		StoreDir:           filepath.Join(dir, "nats"),
		JetStreamMaxStore:  natsMaxStore,
		JetStreamMaxMemory: natsMaxMemory,
		// Signals belong to the program: it closes the whole stack in order.
		NoSigs: true,
	}
	if cfg.NATSWebSocketPort != 0 {
		opts.Websocket = server.WebsocketOpts{
			Host: loopback, Port: cfg.NATSWebSocketPort, NoTLS: true, SameOrigin: len(cfg.NATSOrigins) == 0, AllowedOrigins: cfg.NATSOrigins,
		}
	}
	if cfg.MQTTPort != 0 {
		opts.MQTT = server.MQTTOpts{Host: loopback, Port: cfg.MQTTPort}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("create NATS server: %w", err)
	}
	log = log.With(slog.String("server", "nats"))
	srv.SetLogger(natsLogger{log: log}, false, false)
	go srv.Start()
	deadline := natsReady
	if end, ok := ctx.Deadline(); ok {
		deadline = min(deadline, time.Until(end))
	}
	if !srv.ReadyForConnections(deadline) {
		srv.Shutdown()
		return nil, fmt.Errorf("start NATS on port %d: not ready in %s", port, deadline)
	}
	return srv, nil
}

// stopNATS ends the server and waits until its files are closed.
func stopNATS(ctx context.Context, srv *server.Server) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("stop NATS: it did not end in time")
	}
}

// natsLogger passes on warnings and worse. NATS formats its own lines, so the whole line is an attribute.
type natsLogger struct{ log *slog.Logger }

func (natsLogger) Noticef(string, ...any) {}
func (natsLogger) Debugf(string, ...any)  {}
func (natsLogger) Tracef(string, ...any)  {}

func (l natsLogger) Warnf(format string, args ...any) {
	l.log.Warn("nats warning", slog.String("text", fmt.Sprintf(format, args...)))
}

func (l natsLogger) Errorf(format string, args ...any) {
	l.log.Error("nats error", slog.String("text", fmt.Sprintf(format, args...)))
}

// Fatalf only reports: Start sees that the server is not ready.
func (l natsLogger) Fatalf(format string, args ...any) { l.Errorf(format, args...) }
