package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Where a process tells operators how it is. It is on loopback unless somebody says otherwise, because a profile shows what is in
// memory.
const (
	adminAddr     = "127.0.0.1:9464"
	adminAnywhere = "127.0.0.1:0" // where the former is taken, as it is when several roles run on one machine
	adminOff      = "off"
)

// Limits of the admin port.
const (
	adminHeaderTimeout = 5 * time.Second
	adminWriteTimeout  = 2 * time.Minute // a CPU profile takes as long as is asked for
	adminStopTimeout   = 2 * time.Second
)

// openAdmin takes the admin port.
func (e *engine) openAdmin(ctx context.Context) error {
	if e.servers.AdminAddr == adminOff {
		return nil
	}
	listen := func(addr string) (net.Listener, error) { return new(net.ListenConfig).Listen(ctx, "tcp", addr) }
	listener, err := listen(cmp.Or(e.servers.AdminAddr, adminAddr))
	if err != nil && e.servers.AdminAddr == "" {
		listener, err = listen(adminAnywhere)
	}
	if err != nil {
		return fmt.Errorf("the admin port cannot listen on %s (%w): free the port, or choose another with --admin-addr, or off", cmp.Or(e.servers.AdminAddr, adminAnywhere), err)
	}
	if e.servers.AdminAddr == "" && listener.Addr().String() != adminAddr {
		e.logger.WarnContext(ctx, "the usual admin port is taken", slog.String("usual", adminAddr), slog.String("addr", listener.Addr().String()))
	}
	e.admin, e.metrics = listener, newMetrics()
	return nil
}

// adminHandler serves metrics and profiles, and nothing else.
func (m *metrics) adminHandler(logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// serveAdmin answers on the admin port until ctx ends.
func (e *engine) serveAdmin(ctx context.Context) error {
	server := &http.Server{
		Handler: e.metrics.adminHandler(e.logger), ReadHeaderTimeout: adminHeaderTimeout, WriteTimeout: adminWriteTimeout,
		ErrorLog: slog.NewLogLogger(e.logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(e.admin) }()
	e.logger.InfoContext(ctx, "admin port listens", slog.String("addr", e.admin.Addr().String()))
	select {
	case err := <-failed:
		return fmt.Errorf("serve admin port: %w", err)
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminStopTimeout)
	defer cancel()
	if err := server.Shutdown(bound); err != nil { // a profile that is still being taken has to end
		server.Close() //nolint:errcheck // see above
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin port: %w", err)
	}
	return nil
}
