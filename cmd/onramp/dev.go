package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/onramphq/onramp/internal/devstack"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/worker"
)

// embeddedKey makes user tokens on the embedded stack, where data never leaves the machine, so that the same user has the
// same token everywhere one develops.
const embeddedKey = "onramp-embedded-workspace"

// stackFlags choose where the embedded servers listen.
type stackFlags struct {
	NATSPort           int      `name:"nats-port" default:"4222" help:"Port of NATS."`
	NATSWebSocketPort  int      `name:"nats-websocket-port" default:"0" help:"Port on which NATS also takes WebSocket connections, for browsers; =-1 for any free one, 0 for none."`
	NATSOrigins        []string `name:"nats-origins" help:"Pages that may connect there. Example: http://localhost:3000"`
	MQTTPort           int      `name:"mqtt-port" default:"0" help:"Port on which NATS also takes MQTT 3.1.1; =-1 for any free one, 0 for none."`
	TemporalPort       int      `default:"7233" help:"Port of the Temporal frontend."`
	UIPort             int      `name:"ui-port" default:"8233" help:"Port of the Temporal Web UI."`
	ClickHousePort     int      `name:"clickhouse-port" default:"9000" help:"Port of ClickHouse, native protocol."`
	ClickHouseHTTPPort int      `name:"clickhouse-http-port" default:"8123" help:"Port of ClickHouse, HTTP; /play is a query page."`
	APIAddr            string   `name:"api-addr" default:"127.0.0.1:8080" help:"Address of the HTTP API; port 0 takes a free one."`
	GRPCAddr           string   `name:"grpc-addr" env:"ONRAMP_GRPC_ADDR" help:"Address on which the API also answers over gRPC. Defaults to none. Example: 127.0.0.1:8090"`
	APIKeys            string   `name:"api-keys" env:"ONRAMP_API_KEYS" help:"YAML file with the keys of the HTTP API, made with onramp key. Without it everybody on this machine may ask."`
	AdminAddr          string   `env:"ONRAMP_ADMIN_ADDR" help:"Address of /metrics and /debug/pprof/. Defaults to 127.0.0.1:9464, or a free port where that is taken; off for none."`
	WorkspaceKey       string   `env:"ONRAMP_WORKSPACE_KEY" help:"Secret that makes user tokens. Defaults to a fixed one for local data."`
	Webhooks           string   `env:"ONRAMP_WEBHOOKS" help:"YAML file with the receivers of webhook actions."`
	Enrichment         string   `env:"ONRAMP_ENRICHMENT" help:"YAML file with the providers that are asked what they know of users."`

	browserFlags
	workerFlags
}

// freePorts lets the system choose, so that a demo never collides with what already runs.
func freePorts() stackFlags { return stackFlags{APIAddr: "127.0.0.1:0", AdminAddr: adminOff} }

// local is the engine with its own servers.
type local struct {
	*engine

	stack *devstack.Stack
}

// embeddedGC lets the heap grow to four times what lives before it is swept: with Temporal in the process a fifth of all time
// went into sweeping, for a heap of 100 MB.
const embeddedGC = 300

// embeddedThreads is how many threads run Go at least. With two, the runtime's collections take their quarter of both by turns of up to ten milliseconds,
// which an event that passes through many goroutines meets again and again; with four a collection has one of its own, and the system shares out the
// processors (docs/adr/0011-threads-of-the-embedded-stack.md).
const embeddedThreads = 4

// tuneForServers sets up the runtime for Temporal and NATS in this process, but for what the environment says.
func tuneForServers() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(embeddedGC)
	}
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < embeddedThreads {
		runtime.GOMAXPROCS(embeddedThreads)
	}
}

// startLocal starts servers and engine; dir empty means a temporary folder. Either everything runs when it returns, or
// nothing does.
func startLocal(ctx context.Context, flags stackFlags, dir string, progress io.Writer, logger *slog.Logger) (*local, error) {
	tuneForServers()
	show, err := hideTraces()
	if err != nil {
		return nil, err
	}
	stack, err := devstack.Start(ctx, devstack.Config{
		Dir: dir, NATSPort: flags.NATSPort, NATSWebSocketPort: flags.NATSWebSocketPort, NATSOrigins: flags.NATSOrigins, MQTTPort: flags.MQTTPort, TemporalPort: flags.TemporalPort, UIPort: flags.UIPort,
		ClickHousePort: flags.ClickHousePort, ClickHouseHTTPPort: flags.ClickHouseHTTPPort,
		WorkflowCache: flags.WorkflowCache, SearchAttributes: attributes(), Progress: progress, Logger: logger.With(slog.String("role", "servers")),
	})
	show()
	if err != nil {
		return nil, err
	}
	e := &engine{
		roles: roles{ingest: true, worker: true, sink: true, api: true}, logger: logger, exclusive: true, inProcess: stack,
		servers: servers{
			NATSURL: stack.NATSURL, TemporalAddress: stack.TemporalAddress, TemporalNamespace: "default",
			ClickHouseAddr: stack.ClickHouseAddr, ClickHouseDatabase: "onramp", ClickHouseUser: "default",
			WorkspaceKey: cmp.Or(flags.WorkspaceKey, embeddedKey), APIAddr: flags.APIAddr, GRPCAddr: flags.GRPCAddr, APIKeys: flags.APIKeys, AdminAddr: flags.AdminAddr, Webhooks: flags.Webhooks, Enrichment: flags.Enrichment, Replicas: 1,
			browserFlags: flags.browserFlags, workerFlags: flags.workerFlags,
		},
		links: map[string]string{"Temporal UI": stack.UIURL, "ClickHouse": stack.ClickHouseHTTPURL + "/play"},
	}
	l := &local{engine: e, stack: stack}
	if err := e.open(ctx); err != nil {
		l.stopServers() //nolint:contextcheck // ctx may be over; stopping has a deadline of its own
		return nil, err
	}
	return l, nil
}

// run runs the engine until ctx ends or a server is lost for good.
func (l *local) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- l.engine.run(ctx) }()
	select {
	case err := <-done:
		return err
	case err := <-l.stack.Failed():
		cancel(err)
		<-done //nolint:errcheck // what the roles say of it follows from the server that failed
		return err
	}
}

// during runs the engine while work is done, and stops it after. Where the engine fails, work's context ends, and the engine's
// error is the one that counts.
func (l *local) during(ctx context.Context, work func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	running := make(chan error, 1)
	go func() {
		err := l.run(ctx)
		stop(err)
		running <- err
	}()
	err := work(ctx)
	stop(nil)
	if runErr := <-running; runErr != nil {
		return runErr
	}
	return err
}

// stopTimeout leaves room for the roles, which have stopped by then, within the ten seconds that a person waits.
const stopTimeout = 6 * time.Second

// close stops everything. It takes no context: it comes when the caller's is over.
func (l *local) close() {
	l.engine.close()
	l.stopServers()
}

func (l *local) stopServers() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := l.stack.Close(ctx); err != nil {
		l.logger.Warn("servers not stopped in order", slog.Any("error", err))
	}
}

type devCommand struct {
	stackFlags

	Data      string `default:".onramp" help:"Folder for all data."`
	Ephemeral bool   `help:"Keep nothing: a temporary folder, removed at the end."`
	Playbook  string `env:"ONRAMP_PLAYBOOK" help:"Playbook to publish at the start. Without it the current one stays, or the example saas-onboarding is used."`
	JSON      bool   `name:"json" help:"Print the addresses as one JSON document when everything runs."`
}

// Help is shown by onramp dev --help.
func (*devCommand) Help() string {
	return "Example: onramp dev --data ./data --playbook examples/saas-onboarding\n\n" +
		"Starts everything in one process, prints where it listens and runs until it is told to stop. Started again on the same folder it goes on where it was, also after a kill."
}

// Run runs the engine and its servers until ctx ends.
func (c *devCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	bundle, err := c.bundle()
	if err != nil {
		return err
	}
	dir := c.Data
	if c.Ephemeral {
		dir = ""
	}
	l, err := startLocal(ctx, c.stackFlags, dir, io.err, logger)
	if err != nil {
		return err
	}
	defer l.close() //nolint:contextcheck // as in startLocal
	current, err := c.publish(ctx, l, bundle)
	if err != nil {
		return err
	}
	err = l.during(ctx, func(ctx context.Context) error {
		printAddresses(io, l, current, c.JSON)
		<-ctx.Done()
		return nil
	})
	if ctx.Err() != nil && !c.JSON {
		say(io.err, "stopping …\n")
	}
	return err
}

// bundle reads and checks the playbook before anything starts.
func (c *devCommand) bundle() (*playbook.Bundle, error) {
	if c.Playbook == "" {
		return nil, nil //nolint:nilnil // none was asked for
	}
	return checkedBundle(c.Playbook)
}

func (c *devCommand) publish(ctx context.Context, l *local, bundle *playbook.Bundle) (worker.Current, error) {
	if bundle == nil {
		current, err := l.library.Current()
		if !errors.Is(err, worker.ErrNoPlaybook) {
			return current, err
		}
		b, err := example(1)
		if err != nil {
			return worker.Current{}, err
		}
		bundle = &b
	}
	return l.library.Publish(ctx, *bundle)
}

// isTerminal reports whether w is a person's screen, where progress may be drawn over itself.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
