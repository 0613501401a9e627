package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/onramphq/onramp/playbook"
)

type serveCommand struct {
	servers

	Playbook string `env:"ONRAMP_PLAYBOOK" help:"Playbook to publish at the start; without it the current one stays."`
}

// Help is shown by onramp serve --help.
func (*serveCommand) Help() string {
	return "Example: ONRAMP_WORKSPACE_KEY=… onramp serve --nats-url nats://nats:4222 --temporal-address temporal:7233 --clickhouse-addr clickhouse:9000"
}

// Run runs all roles.
func (c *serveCommand) Run(ctx context.Context, logger *slog.Logger) error {
	return serve(ctx, c.servers, roles{ingest: true, worker: true, sink: true, api: true}, c.Playbook, logger)
}

type ingestCommand struct{ servers }

// Run runs ingest alone.
func (c *ingestCommand) Run(ctx context.Context, logger *slog.Logger) error {
	return serve(ctx, c.servers, roles{ingest: true}, "", logger)
}

type workerCommand struct {
	servers

	Playbook string `env:"ONRAMP_PLAYBOOK" help:"Playbook to publish at the start; without it the current one stays."`
}

// Run runs the worker alone.
func (c *workerCommand) Run(ctx context.Context, logger *slog.Logger) error {
	return serve(ctx, c.servers, roles{worker: true}, c.Playbook, logger)
}

type sinkCommand struct{ servers }

// Run runs the sink alone.
func (c *sinkCommand) Run(ctx context.Context, logger *slog.Logger) error {
	return serve(ctx, c.servers, roles{sink: true}, "", logger)
}

type apiCommand struct{ servers }

// Run runs the API alone.
func (c *apiCommand) Run(ctx context.Context, logger *slog.Logger) error {
	return serve(ctx, c.servers, roles{api: true}, "", logger)
}

func serve(ctx context.Context, s servers, r roles, path string, logger *slog.Logger) error {
	var bundle *playbook.Bundle
	if path != "" {
		var err error
		if bundle, err = checkedBundle(path); err != nil {
			return err
		}
	}
	e := &engine{servers: s, roles: r, logger: logger}
	if err := e.open(ctx); err != nil {
		return err
	}
	defer e.close()
	if bundle != nil {
		if _, err := e.library.Publish(ctx, *bundle); err != nil {
			return err
		}
	}
	return e.run(ctx)
}

type healthCommand struct {
	URL string `arg:"" optional:"" default:"http://127.0.0.1:8080/readyz" help:"Address to ask. Example: onramp health http://127.0.0.1:8080/readyz"`
}

// Run asks once.
func (c *healthCommand) Run(ctx context.Context, io stdio) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return usagef("%s is not an address: %w", c.URL, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.URL, err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written through it
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d", c.URL, response.StatusCode)
	}
	say(io.out, "ready\n")
	return nil
}

type versionCommand struct{}

// Run prints the version that the build recorded.
func (versionCommand) Run(_ context.Context, io stdio) error { //nolint:unparam // the shape of a command
	say(io.out, "onramp %s\n", version())
	return nil
}

// version is what the build recorded.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
