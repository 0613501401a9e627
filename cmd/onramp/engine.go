package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"golang.org/x/sync/errgroup"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/worker"
)

// roles are the parts of the engine that a process runs.
type roles struct{ ingest, worker, sink, api bool }

// servers say where everything is. They come from flags, the environment, or the embedded stack.
type servers struct {
	NATSURL            string   `name:"nats-url" env:"ONRAMP_NATS_URL,NATS_URL" default:"nats://127.0.0.1:4222" help:"NATS server."`
	NATSCreds          string   `name:"nats-creds" env:"ONRAMP_NATS_CREDS" help:"File with NATS credentials."`
	TemporalAddress    string   `env:"ONRAMP_TEMPORAL_ADDRESS,TEMPORAL_ADDRESS" default:"127.0.0.1:7233" help:"Temporal frontend."`
	TemporalNamespace  string   `env:"ONRAMP_TEMPORAL_NAMESPACE,TEMPORAL_NAMESPACE" default:"default" help:"Temporal namespace."`
	ClickHouseAddr     string   `name:"clickhouse-addr" env:"ONRAMP_CLICKHOUSE_ADDR" default:"127.0.0.1:9000" help:"ClickHouse, native protocol."`
	ClickHouseDatabase string   `name:"clickhouse-database" env:"ONRAMP_CLICKHOUSE_DATABASE" default:"onramp" help:"ClickHouse database."`
	ClickHouseUser     string   `name:"clickhouse-user" env:"ONRAMP_CLICKHOUSE_USER" default:"default" help:"ClickHouse user."`
	ClickHousePassword string   `name:"clickhouse-password" env:"ONRAMP_CLICKHOUSE_PASSWORD" help:"ClickHouse password."`
	WorkspaceKey       string   `env:"ONRAMP_WORKSPACE_KEY" help:"Secret of at least 16 bytes that makes user tokens. Never change it: every user would become another."`
	APIAddr            string   `name:"api-addr" env:"ONRAMP_API_ADDR" help:"Address the HTTP API listens on. Defaults to 127.0.0.1:8080; a role without API answers /livez and /readyz there if one is given."`
	GRPCAddr           string   `name:"grpc-addr" env:"ONRAMP_GRPC_ADDR" help:"Address on which the API also answers over gRPC. Defaults to none. Example: 127.0.0.1:8090"`
	APIKeys            string   `name:"api-keys" env:"ONRAMP_API_KEYS" help:"YAML file with the keys of the HTTP API, made with onramp key. Without it the API listens on loopback only."`
	SigningKeys        []string `env:"ONRAMP_SIGNING_KEYS" sep:"," help:"Secrets of at least 16 bytes that sign what pages read flags with: the newest first, and behind a comma the one before it. Defaults to one made from the workspace key."`
	AdminAddr          string   `env:"ONRAMP_ADMIN_ADDR" help:"Address of /metrics and /debug/pprof/, for operators alone. Defaults to 127.0.0.1:9464, or a free port of loopback where that is taken; off for none."`
	Webhooks           string   `env:"ONRAMP_WEBHOOKS" help:"YAML file with the receivers of webhook actions."`
	Enrichment         string   `env:"ONRAMP_ENRICHMENT" help:"YAML file with the providers that are asked what they know of users; the same for ingest and workers."`

	Linger time.Duration `default:"10s" env:"ONRAMP_LINGER" help:"How long an event that can change nothing yet may wait for its user's next one, up to 1m; -1s: none waits."`

	browserFlags
	workerFlags

	Replicas int `env:"ONRAMP_REPLICAS" default:"1" help:"Replicas of NATS streams; 3 on a cluster."`
}

// workerFlags size a worker.
type workerFlags struct {
	WorkflowCache int `default:"2000" env:"ONRAMP_WORKFLOW_CACHE" help:"How many users' workflows a worker keeps in memory. For an event of any other it reads and replays the workflow's history first: let it be as many as are active within 40 minutes, at 40 KB of memory each."`
}

// Validate is asked of every command that has these flags.
func (f workerFlags) Validate() error {
	if f.WorkflowCache < 1 {
		return usagef("--workflow-cache is %d; it must be how many users' workflows are kept in memory, 1 or more", f.WorkflowCache)
	}
	return nil
}

// browserFlags say in whose name browsers get credentials for NATS.
type browserFlags struct {
	BrowserSeedFile string        `env:"ONRAMP_BROWSER_SEED_FILE" help:"File with the seed (SA…) of the NATS account of browsers, or of a signing key of it: POST /v1/users/{id}/credentials then issues short-lived credentials for one user's pages. Defaults to none."`
	BrowserAccount  string        `env:"ONRAMP_BROWSER_ACCOUNT" help:"Public key (A…) of that account, where the seed is that of a signing key."`
	BrowserURL      string        `env:"ONRAMP_BROWSER_URL" help:"Where browsers find NATS, told with the credentials. Example: wss://nats.example.com"`
	BrowserTTL      time.Duration `env:"ONRAMP_BROWSER_TTL" default:"15m" help:"How long credentials of browsers hold."`
}

// browsers returns the issuer, nil where none is configured.
func (f *browserFlags) browsers() (*api.Browsers, error) {
	if f.BrowserSeedFile == "" {
		return nil, nil //nolint:nilnil // none is configured
	}
	seed, err := os.ReadFile(f.BrowserSeedFile)
	if err != nil {
		return nil, usagef("seed of browsers' account: %w", err)
	}
	issuer, err := api.NewBrowsers(api.BrowsersConfig{Seed: seed, Account: f.BrowserAccount, URL: f.BrowserURL, TTL: f.BrowserTTL})
	if err != nil {
		return nil, &usageError{err}
	}
	return issuer, nil
}

// clickhouseFlags say where the ClickHouse is that a running engine writes to.
type clickhouseFlags struct {
	ClickHouseAddr string `name:"clickhouse-addr" env:"ONRAMP_CLICKHOUSE_ADDR" default:"127.0.0.1:9000" help:"ClickHouse of the running engine."`
	Database       string `name:"clickhouse-database" env:"ONRAMP_CLICKHOUSE_DATABASE" default:"onramp" help:"ClickHouse database."`
	CHUser         string `name:"clickhouse-user" env:"ONRAMP_CLICKHOUSE_USER" default:"default" help:"ClickHouse user."`
	CHPassword     string `name:"clickhouse-password" env:"ONRAMP_CLICKHOUSE_PASSWORD" help:"ClickHouse password."`
}

// natsFlags say where the NATS of a running engine is, and by which key its users have their tokens.
type natsFlags struct {
	NATSURL      string `name:"nats-url" env:"ONRAMP_NATS_URL,NATS_URL" default:"nats://127.0.0.1:4222" help:"NATS of the running engine."`
	NATSCreds    string `name:"nats-creds" env:"ONRAMP_NATS_CREDS" help:"File with NATS credentials."`
	WorkspaceKey string `env:"ONRAMP_WORKSPACE_KEY" help:"Secret that makes user tokens. Defaults to that of onramp dev."`
}

func (f *natsFlags) key() []byte { return []byte(cmp.Or(f.WorkspaceKey, embeddedKey)) }

// temporalFlags say where the Temporal of a running engine is.
type temporalFlags struct {
	TemporalAddress   string `env:"ONRAMP_TEMPORAL_ADDRESS,TEMPORAL_ADDRESS" default:"127.0.0.1:7233" help:"Temporal of the running engine."`
	TemporalNamespace string `env:"ONRAMP_TEMPORAL_NAMESPACE,TEMPORAL_NAMESPACE" default:"default" help:"Temporal namespace."`
}

func (f *clickhouseFlags) servers() servers {
	return servers{ClickHouseAddr: f.ClickHouseAddr, ClickHouseDatabase: f.Database, ClickHouseUser: f.CHUser, ClickHousePassword: f.CHPassword}
}

// engine is a process's share of Onramp: its connections and the roles it runs.
type engine struct {
	servers servers
	roles   roles
	logger  *slog.Logger

	nc       *nats.Conn
	js       jetstream.JetStream
	temporal client.Client
	store    *outcome.Store
	late     *lateStore // in place of store where the API runs without the sink
	library  *worker.Library

	ingest     *ingest.Ingest
	sink       *outcome.Sink
	mirror     *api.Mirror
	shown      *api.Exposures
	server     *api.Server
	listen     net.Listener // of the API
	listenGRPC net.Listener // nil: none
	keys       *api.Keyring // of the API; nil: everybody may ask
	links      map[string]string

	admin   net.Listener // of metrics and profiles; nil: none
	metrics *metrics     // nil where there is no admin port
	traces  traces       // the zero value: nobody wants them

	exclusive bool                       // no other process ingests or runs a sink
	inProcess nats.InProcessConnProvider // nil: over the network
}

// attributes are the search attributes that the namespace must know.
func attributes() map[string]enumspb.IndexedValueType {
	return map[string]enumspb.IndexedValueType{
		schema.AttributeStage:    enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		schema.AttributePlaybook: enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		schema.AttributeSegments: enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
		schema.AttributeVariants: enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	}
}

// sinkAckWait is after how long a sink that believes something stored, and the server does not, finds out. It renews what it holds long before.
const sinkAckWait = 10 * time.Second

// open connects to what the roles need and makes sure that streams, tables and search attributes are there. It opens all or
// nothing; the error names the server and the setting that says where it is.
func (e *engine) open(ctx context.Context) error {
	if len(e.servers.WorkspaceKey) < 16 {
		return usagef("the workspace key has %d bytes and needs 16: set ONRAMP_WORKSPACE_KEY", len(e.servers.WorkspaceKey))
	}
	steps := []func(context.Context) error{e.openTraces, e.openListener, e.openAdmin, e.openNATS, e.openTemporal, e.openClickHouse, e.assemble}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			e.close()
			return err
		}
	}
	e.metrics.watch(e)
	return nil
}

// openListener takes the API's port first: nothing else has to be undone when it is taken by another.
func (e *engine) openListener(ctx context.Context) error {
	if e.roles.api {
		e.servers.APIAddr = cmp.Or(e.servers.APIAddr, api.DefaultAddr)
	}
	if e.servers.APIAddr == "" {
		return nil
	}
	if err := e.openKeys(); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", e.servers.APIAddr)
	if err != nil {
		return fmt.Errorf("the API cannot listen on %s (%w): free the port, or choose another with --api-addr", e.servers.APIAddr, err)
	}
	e.listen = listener
	if e.servers.GRPCAddr != "" && e.roles.api {
		if e.listenGRPC, err = new(net.ListenConfig).Listen(ctx, "tcp", e.servers.GRPCAddr); err != nil {
			return fmt.Errorf("the API cannot listen on %s (%w): free the port, or choose another with --grpc-addr", e.servers.GRPCAddr, err)
		}
	}
	if addr, ok := listener.Addr().(*net.TCPAddr); e.roles.api && e.keys == nil && (!ok || !addr.IP.IsLoopback()) {
		return usagef("without keys the API listens on loopback only, and %s is not: make a key with onramp key and name the file with --api-keys or ONRAMP_API_KEYS", e.servers.APIAddr)
	}
	return nil
}

// openKeys reads the file of keys where this process has a use for it.
func (e *engine) openKeys() (err error) {
	if e.servers.APIKeys == "" || !e.roles.api {
		return nil
	}
	if e.keys, err = api.OpenKeyring(e.servers.APIKeys, e.logger.With(slog.String("role", "api"))); err != nil {
		return &usageError{err}
	}
	return nil
}

func (e *engine) openNATS(ctx context.Context) error {
	if err := e.connectNATS(ctx); err != nil {
		return err
	}
	if err := ingest.EnsureStreams(ctx, e.js, ingest.StreamsConfig{Replicas: e.servers.Replicas}); err != nil {
		return fmt.Errorf("NATS at %s: %w", e.servers.NATSURL, err)
	}
	return e.openLibrary(ctx)
}

func (e *engine) openLibrary(ctx context.Context) (err error) {
	e.library, err = worker.OpenLibrary(ctx, e.js, e.servers.Replicas, e.logger)
	return err
}

// readLibrary is openLibrary for a command that only looks.
func (e *engine) readLibrary(ctx context.Context) (err error) {
	e.library, err = worker.ReadLibrary(ctx, e.js, e.logger)
	return err
}

// connectNATS connects and changes nothing there.
func (e *engine) connectNATS(ctx context.Context) error {
	options := []nats.Option{
		nats.Name("onramp"), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.Timeout(3 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				e.logger.WarnContext(ctx, "NATS is away", slog.Any("error", err))
			}
		}),
	}
	if e.servers.NATSCreds != "" {
		options = append(options, nats.UserCredentials(e.servers.NATSCreds))
	}
	if e.inProcess != nil {
		options = append(options, nats.InProcessServer(e.inProcess))
	}
	nc, err := nats.Connect(e.servers.NATSURL, options...)
	if err != nil {
		return fmt.Errorf("NATS at %s does not answer (%w): start it, or say where it is with --nats-url or ONRAMP_NATS_URL", e.servers.NATSURL, err)
	}
	e.nc = nc
	if e.js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096), jetstream.WithPublishAsyncTimeout(5*time.Second)); err != nil {
		return fmt.Errorf("open JetStream at %s: %w", e.servers.NATSURL, err)
	}
	return nil
}

func (e *engine) openTemporal(ctx context.Context) error {
	if !e.roles.ingest && !e.roles.worker && !e.roles.api {
		return nil
	}
	if err := e.dialTemporal(ctx); err != nil {
		return err
	}
	return ensureAttributes(ctx, e.temporal, e.servers.TemporalNamespace)
}

func (e *engine) dialTemporal(ctx context.Context) error {
	dialCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	options := client.Options{
		HostPort: e.servers.TemporalAddress, Namespace: e.servers.TemporalNamespace, Logger: sdklog.NewStructuredLogger(e.logger),
	}
	if e.inProcess != nil {
		options.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{} // the server is on this machine: there is no wire to spare
	}
	if e.metrics != nil {
		options.MetricsHandler = newTemporalMetrics(e.metrics.registry)
	}
	c, err := client.DialContext(dialCtx, options)
	if err != nil {
		return fmt.Errorf("temporal at %s does not answer (%w): start it, or say where it is with --temporal-address or ONRAMP_TEMPORAL_ADDRESS", e.servers.TemporalAddress, err)
	}
	e.temporal = c
	return nil
}

// openClickHouse opens what the sink cannot do without, and the API can: it serves users, flags and tracking without it.
func (e *engine) openClickHouse(ctx context.Context) error {
	switch {
	case e.roles.sink:
		return e.openStore(ctx)
	case !e.roles.api:
		return nil
	}
	e.late = &lateStore{engine: e}
	return e.late.try(ctx)
}

func (e *engine) openStore(ctx context.Context) (err error) {
	e.store, err = e.newStore(ctx)
	return err
}

func (e *engine) newStore(ctx context.Context) (*outcome.Store, error) {
	store, err := outcome.Open(ctx, outcome.Config{
		Addr: e.servers.ClickHouseAddr, Database: e.servers.ClickHouseDatabase, User: e.servers.ClickHouseUser, Password: e.servers.ClickHousePassword,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: start ClickHouse, or say where it is with --clickhouse-addr or ONRAMP_CLICKHOUSE_ADDR", err)
	}
	return store, nil
}

// stored returns the store of a process that has one, or the error that says why it is not open yet.
func (e *engine) stored() (*outcome.Store, error) {
	if e.late != nil {
		return e.late.get()
	}
	return e.store, nil
}

// assemble makes the roles from the connections.
func (e *engine) assemble(context.Context) error {
	var err error
	if e.roles.ingest {
		e.ingest, err = ingest.New(e.js, ingest.NewBatches(e.temporal), e.current, ingest.Config{
			Enrich:       e.servers.Enrichment != "",
			WorkspaceKey: []byte(e.servers.WorkspaceKey), Exclusive: e.exclusive, Meters: e.metrics.ingestMeters(), Linger: e.servers.Linger,
			Tracer: e.traces.Tracer,
		}, e.logger.With(slog.String("role", "ingest")))
		if err != nil {
			return err
		}
	}
	if e.roles.sink {
		e.sink = outcome.NewSink(e.js, e.store, outcome.SinkConfig{
			WorkspaceKey: []byte(e.servers.WorkspaceKey), Logger: e.logger.With(slog.String("role", "sink")),
			AckWait: sinkAckWait, Exclusive: e.exclusive, Meters: e.metrics.sinkMeters(), Tracer: e.traces.Tracer,
		})
	}
	logger := e.logger.With(slog.String("role", "api"))
	if e.roles.api {
		e.mirror = api.NewMirror(e.js, logger)
	}
	if e.listen != nil {
		cfg := api.Config{
			Addr: e.servers.APIAddr, WorkspaceKey: []byte(e.servers.WorkspaceKey), Links: e.links, Version: version(), Answered: e.metrics.answered(),
			Keys: e.keys, Tracked: e.metrics.trackedEvents(), Tracer: e.traces.Tracer,
		}
		for _, secret := range e.servers.SigningKeys {
			cfg.SigningKeys = append(cfg.SigningKeys, []byte(secret))
		}
		if e.roles.api { // a window of its own: what visitors send and what the other roles publish do not wait for each other
			if cfg.Events, err = jetstream.New(e.nc, api.IntakeOptions()...); err != nil {
				return fmt.Errorf("open JetStream at %s: %w", e.servers.NATSURL, err)
			}
		}
		if err := e.assembleAPI(&cfg, logger); err != nil {
			return err
		}
		e.server = api.New(cfg, e.mirror, e.checks(), logger)
	}
	return nil
}

// assembleAPI gives the API what only a process with that role has.
func (e *engine) assembleAPI(cfg *api.Config, logger *slog.Logger) (err error) {
	if !e.roles.api {
		return nil
	}
	cfg.Applied = e.applied
	if cfg.Exposures, err = e.openExposures(logger); err != nil {
		return err
	}
	if cfg.Browsers, err = e.servers.browsers(); err != nil {
		return err
	}
	cfg.Past = e.past
	cfg.Experiments = e.late
	if e.late == nil {
		cfg.Experiments = e.newShelf(e.store)
	}
	return nil
}

// past reads what a user was, and takes the priority of journeys from the playbooks of that time.
func (e *engine) past(ctx context.Context, token string, at time.Time) (any, error) {
	store, err := e.stored()
	if err != nil {
		return nil, err
	}
	return store.UserAt(ctx, token, at, func(hash, key string) int { //nolint:contextcheck // playbooks are in memory
		if book := e.library.Playbook(hash); book != nil && book.Journey(key) != nil {
			return book.Journey(key).Priority
		}
		return 0
	})
}

// openExposures has a window of its own too, so that no flag waits for anybody.
func (e *engine) openExposures(logger *slog.Logger) (*api.Exposures, error) {
	js, err := jetstream.New(e.nc, jetstream.WithPublishAsyncTimeout(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("open JetStream at %s: %w", e.servers.NATSURL, err)
	}
	e.shown = api.NewExposures(js, func() *playbook.Playbook {
		c, err := e.library.Current()
		if err != nil {
			return nil // none is published yet
		}
		return c.Playbook
	}, logger)
	e.shown.Counted = e.metrics.flagExposures()
	return e.shown, nil
}

func (e *engine) current() (ingest.Playbook, error) {
	c, err := e.library.Current()
	if err != nil {
		return ingest.Playbook{}, err
	}
	reads := func(event string, hasTraits bool) bool {
		return event != schema.CanaryEvent && c.Reads(event, hasTraits)
	}
	return ingest.Playbook{Hash: c.Hash, Revision: c.Revision, Reads: reads}, nil
}

// run runs the roles until ctx ends or one of them fails; then all stop and finish what they have in hand.
func (e *engine) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.library.Follow(ctx) })
	if e.ingest != nil {
		group.Go(func() error { return e.ingest.Run(ctx) })
	}
	if e.roles.worker {
		webhooks, err := readWebhooks(e.servers.Webhooks)
		if err != nil {
			return err
		}
		providers, err := readProviders(e.servers.Enrichment)
		if err != nil {
			return err
		}
		deps := worker.Deps{
			Books: e.library, Delivery: activities.NewDelivery(e.js, webhooks, time.Now), Record: activities.NewRecord(e.js, time.Now),
			Identity: activities.NewIdentity(e.temporal), Enrichment: activities.NewEnrichment(e.js, providers, time.Now, e.logger.With(slog.String("role", "worker"))),
		}
		deps.Delivery.Meters, deps.Record.Meters = e.metrics.workerMeters(), e.metrics.workerMeters()
		deps.Delivery.Tracer, deps.Record.Tracer = e.traces.Tracer, e.traces.Tracer
		deps.Delivery.Logger, deps.Record.Logger = e.logger.With(slog.String("role", "worker")), e.logger.With(slog.String("role", "worker"))
		group.Go(func() error {
			return worker.Run(ctx, e.temporal, worker.Config{CacheSize: e.servers.WorkflowCache}, deps, e.logger.With(slog.String("role", "worker")))
		})
	}
	if e.sink != nil {
		group.Go(func() error { return e.sink.Run(ctx) })
	}
	if e.late != nil {
		group.Go(func() error { return e.late.run(ctx) })
	}
	if e.mirror != nil {
		group.Go(func() error { return e.mirror.Run(ctx) })
	}
	if e.shown != nil {
		group.Go(func() error { return e.shown.Run(ctx) })
	}
	if e.keys != nil {
		group.Go(func() error { return e.keys.Follow(ctx) })
	}
	if e.admin != nil {
		group.Go(func() error { return e.serveAdmin(ctx) })
	}
	if e.server != nil {
		group.Go(func() error { return e.server.Serve(ctx, e.listen) })
		if e.roles.api {
			group.Go(func() error { return e.server.ServeNATS(ctx, e.nc) })
		}
		if e.listenGRPC != nil {
			group.Go(func() error { return e.server.ServeGRPC(ctx, e.listenGRPC) })
		}
	}
	return group.Wait()
}

func (e *engine) close() {
	for _, listener := range []net.Listener{e.listen, e.listenGRPC, e.admin} {
		if listener == nil {
			continue
		}
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			e.logger.Warn("listener not closed", slog.Any("error", err))
		}
	}
	if e.temporal != nil {
		e.temporal.Close()
	}
	if store, err := e.stored(); err == nil && store != nil {
		if err := store.Close(); err != nil {
			e.logger.Warn("ClickHouse connection not closed", slog.Any("error", err))
		}
	}
	if e.nc != nil {
		e.nc.Close()
	}
	e.traces.close()
}
