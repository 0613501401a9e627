package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/internal/recent"
	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// DefaultAddr is where a server listens that is not told otherwise.
const DefaultAddr = "127.0.0.1:8080"

// The routes, as they stand in the access log.
const (
	routeIndex = "/"
	routeLive  = "/livez"
	routeReady = "/readyz"
	routeUser  = "/v1/users/{id}"
	routeToken = "/v1/users/{id}/token" //nolint:gosec // a path, not a secret

	routeExperiments = "/v1/experiments"
	routeResults     = "/v1/experiments/{key}/results"
	routePage        = "/experiments/{key}"
)

// Limits of a request.
const (
	maxHeaderBytes    = 16 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 15 * time.Second
	idleTimeout       = time.Minute
	shutdownTimeout   = 5 * time.Second
	minWorkspaceKey   = 16
)

// Config says how to listen and what to show. The zero value is valid but for the key.
type Config struct {
	// Addr is the host:port to listen on. Defaults to DefaultAddr, on loopback.
	Addr string
	// WorkspaceKey makes user tokens; the same as everywhere else. Required, at least 16 bytes.
	WorkspaceKey []byte
	// AllowedHosts are the names under which the server answers, beside localhost and plain addresses, so that no web page
	// reads it through a name of its own. `*` allows every name: for a server behind a gateway. Defaults to none.
	AllowedHosts []string
	// Links are shown on the page for people: a name and an http or https address each. Defaults to none.
	Links map[string]string
	// Version of the program, for the page. Defaults to nothing.
	Version string
	// Experiments reads results. Defaults to none: there are no such routes then.
	Experiments Experiments
	// Past tells what a user was at a moment, as something that encodes as JSON. Errors carry the codes of package schema: not_found
	// where nothing is on record by then, unavailable where it cannot be read. Defaults to none: `?at=` is refused then.
	Past func(ctx context.Context, token string, at time.Time) (any, error)
	// Applied waits until a stored event has changed its user as it does, and everything that follows is on record, or until ctx ends. What
	// it returns encodes as the user's profile. Defaults to none: `?wait=profile` is refused then.
	Applied func(ctx context.Context, token string, event *schema.Received) (schema.Profile, error)
	// Events is where tracked events go; open it with IntakeOptions. Defaults to none: there are no tracking routes then.
	Events jetstream.JetStream
	// Exposures records whom the flags of experiments have treated; its Run is the caller's. Defaults to none: experiments that no
	// journey names have no flags then.
	Exposures *Exposures
	// Browsers issues credentials with which pages speak NATS. Defaults to none: there is no such route then.
	Browsers *Browsers
	// Keys know who may ask. Defaults to none: everybody may, and the server listens on loopback alone.
	Keys *Keyring
	// SigningKeys sign what pages and event streams are opened with: newest first, one before it for those signed before a change.
	// Each has at least 16 bytes. Defaults to one made from WorkspaceKey.
	SigningKeys [][]byte
	// Streams bounds the event streams that are open at once. Defaults to 10,000.
	Streams int
	// Heartbeat is how often an event stream says that it lives. Defaults to 15 s.
	Heartbeat time.Duration
	// Tracer makes a span of every call that brings events. Defaults to none: the trace that a caller names is passed on all the same.
	Tracer tracing.Tracer
	// Tracked is told what became of tracked events, with one of the verdicts. It must not block. Defaults to nobody.
	Tracked func(verdict string, events int)
	// Answered is told of every request: its route as a pattern, the status, and what it took. It is called from several goroutines
	// and must not block. Defaults to nobody.
	Answered func(route string, status int, took time.Duration)
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, DefaultAddr)
	c.Streams = cmp.Or(c.Streams, defaultStreams)
	c.Heartbeat = cmp.Or(c.Heartbeat, defaultHeartbeat)
	return c
}

func (c Config) validate() error {
	var problems []error
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		problems = append(problems, fmt.Errorf("api: address is %q; it must be host:port", schema.Clean(c.Addr)))
	}
	if len(c.WorkspaceKey) < minWorkspaceKey {
		problems = append(problems, fmt.Errorf("api: the workspace key must have at least %d bytes", minWorkspaceKey))
	}
	if len(c.SigningKeys) > mostSigningKeys {
		problems = append(problems, fmt.Errorf("api: there are %d signing keys; a change needs two", len(c.SigningKeys)))
	}
	for i, key := range c.SigningKeys {
		if len(key) < minWorkspaceKey {
			problems = append(problems, fmt.Errorf("api: signing key %d must have at least %d bytes", i+1, minWorkspaceKey))
		}
	}
	if c.Streams < 0 || c.Heartbeat < 0 {
		problems = append(problems, errors.New("api: the number of event streams and their heartbeat must not be negative"))
	}
	for name, link := range c.Links {
		if u, err := url.Parse(link); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			problems = append(problems, fmt.Errorf("api: link %q must be an http or https address", schema.Clean(name)))
		}
	}
	return errors.Join(problems...)
}

// Server answers over HTTP.
type Server struct {
	cfg      Config
	mirror   *Mirror
	checks   []*keptCheck
	logger   *slog.Logger
	page     []byte
	pageCSP  string
	draining atomic.Bool
	guessers guessers
	intake   *intake // nil: no tracking
	signer   signer
	tokens   *schema.Tokens
	streams  streams
	answers  *recent.Map[answersKey, *answered]
	stopping chan struct{} // closed when event streams must end
	stopOnce sync.Once
	patience time.Duration // with readers of event streams

	seal      *subjectSeal
	webLimits webLimits
	routes    map[string]string // methods by pattern, as Handler made them
}

// New returns a Server over the mirror. checks decide with the mirror whether it is ready. Run tells what is wrong with cfg.
// A nil mirror makes a server that knows no users: the health and the page of a process that does something else.
func New(cfg Config, mirror *Mirror, checks []Check, logger *slog.Logger) *Server {
	s := &Server{cfg: cfg.withDefaults(), mirror: mirror, logger: logger, stopping: make(chan struct{}), patience: streamPatience}
	s.tokens, s.seal = schema.NewTokens(cfg.WorkspaceKey), newSubjectSeal(cfg.WorkspaceKey)
	s.answers = recent.New[answersKey, *answered](answersKept)
	s.signer = newSigner(cfg.SigningKeys, cfg.WorkspaceKey)
	s.streams.most = s.cfg.Streams
	if mirror != nil {
		checks = append([]Check{{Name: "profiles", Run: s.mirrorReady}}, checks...)
	}
	s.checks = keptChecks(checks)
	if cfg.Events != nil {
		s.intake = newIntake(cfg.Events)
	}
	s.page, s.pageCSP = renderIndex(s.cfg)
	return s
}

// Handler returns what the server serves, for a test or to mount it elsewhere.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.routes = make(map[string]string)
	read := func(pattern string, handle http.HandlerFunc) { s.route(mux, pattern, readMethods, handle) }
	read(routeIndex, askPerson(s.reader(s.index)))
	read(routeLive, s.live)
	read(routeReady, s.readiness)
	read(routeOpenAPI, s.openAPI)
	if s.mirror != nil {
		read(routeUser, s.reader(s.user))
		s.route(mux, routeToken, http.MethodPost, s.reader(s.issueToken))
		s.route(mux, routeStream, streamMethods, s.browsers(streamMethods, s.stream))
		s.route(mux, routeFlag, browserMethods, s.browsers(browserMethods, s.evaluateFlag))
		s.route(mux, routeFlags, browserMethods, s.browsers(browserMethods, s.evaluateFlags))
	}
	if s.cfg.Experiments != nil {
		read(routeExperiments, s.reader(s.listExperiments))
		read(routeResults, s.reader(s.experimentResults))
		read(routePage, askPerson(s.reader(s.experimentPage)))
	}
	if s.intake != nil {
		s.routeTracking(mux)
	}
	if s.cfg.Browsers != nil {
		s.route(mux, routeCredentials, postMethods, s.reader(s.issueCredentials))
	}
	return s.guard(mux)
}

// Methods of routes, as the Allow header has them.
const (
	readMethods    = "GET, HEAD"
	postMethods    = "POST"
	browserReads   = "GET, HEAD, OPTIONS"
	browserMethods = "POST, OPTIONS"
	streamMethods  = "GET, OPTIONS"
)

// routeTracking serves the paths of the SDKs, each with and without a slash at its end.
func (s *Server) routeTracking(mux *http.ServeMux) {
	serve := func(pattern, methods string, handle http.HandlerFunc) {
		for _, end := range []string{"", "/{$}"} {
			s.routeAs(mux, pattern+end, pattern, methods, s.browsers(methods, handle))
		}
	}
	for pattern, kind := range trackingRoutes() {
		serve(pattern, browserMethods, s.trackOne(kind))
	}
	for pattern, backfill := range batchRoutes() {
		serve(pattern, browserMethods, s.trackBatch(backfill))
	}
	serve(routeSettings, browserReads, s.settings)
	serve(routeSourceConfig, browserReads, s.sourceConfig)
}

func (s *Server) route(mux *http.ServeMux, pattern, methods string, next http.HandlerFunc) {
	s.routeAs(mux, pattern, pattern, methods, next)
}

// routeAs serves what matches pattern under the name of a route, for the methods named.
func (s *Server) routeAs(mux *http.ServeMux, pattern, name, methods string, next http.HandlerFunc) {
	allowed := strings.Split(methods, ", ")
	s.routes[name] = methods
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if pattern == routeIndex && r.URL.Path != routeIndex { // the pattern / also catches what no other pattern does
			s.refuse(w, r, http.StatusNotFound, problemDetail{Code: schema.CodeNotFound, Message: "there is no such route"})
			return
		}
		requestOf(r).route = name
		if !slices.Contains(allowed, r.Method) || r.Method == http.MethodOptions && r.Header.Get("Origin") == "" {
			w.Header().Set("Allow", methods)
			s.refuse(w, r, http.StatusMethodNotAllowed, problemDetail{
				Code: schema.CodeInvalid, Field: "method", Message: "this route answers " + methods,
			})
			return
		}
		next(w, r)
	})
}

// Run listens on Config.Addr and then does as Serve. Errors: unavailable where the address cannot be had.
func (s *Server) Run(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "listen on " + s.cfg.Addr, Err: err}
	}
	return s.Serve(ctx, listener)
}

// sheltered refuses to tell what is known of users, and to take events, to a network without asking who is there.
func (s *Server) sheltered(listener net.Listener) error {
	if s.cfg.Keys != nil || s.mirror == nil && s.intake == nil {
		return nil
	}
	addr, ok := listener.Addr().(*net.TCPAddr)
	if ok && addr.IP.IsLoopback() {
		s.logger.Info("api has no keys: it answers everybody, and listens on loopback alone")
		return nil
	}
	return errors.New("api: without keys it listens on loopback only, such as " + DefaultAddr)
}

// Serve serves on listener until ctx ends. Then it says on /readyz that it is going, takes no new connection, and waits up
// to 5 s for the requests in hand. It closes listener. Errors: invalid for a configuration that cannot work.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	if err := errors.Join(s.cfg.validate(), s.sheltered(listener)); err != nil {
		return errors.Join(&schema.Error{Code: schema.CodeInvalid, Message: "configure api", Err: err}, listener.Close())
	}
	server := &http.Server{
		Handler: s.Handler(), MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	s.logger.InfoContext(ctx, "api listens", slog.String("addr", listener.Addr().String()))
	select {
	case err := <-failed:
		return fmt.Errorf("serve api: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.stopOnce.Do(func() { close(s.stopping) }) // event streams never end by themselves
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(bound)
	if errors.Is(err, context.DeadlineExceeded) {
		s.logger.WarnContext(ctx, "api ends with requests in hand", slog.Duration("patience", shutdownTimeout))
		err = server.Close()
	}
	if ended := <-failed; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	if err != nil {
		return fmt.Errorf("stop api: %w", err)
	}
	return nil
}
