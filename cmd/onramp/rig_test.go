package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/onramphq/onramp/internal/devstack"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// asServer makes the test binary run one embedded server alone, so that a test can kill each by itself.
const asServer = "__server"

// runServer runs NATS, Temporal or ClickHouse on a folder until it is told to end. Arguments: which, folder, port, and for ClickHouse
// that of HTTP.
func runServer(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ports := make([]int, len(args))
	for i, arg := range args[2:] {
		ports[i], _ = strconv.Atoi(arg)
	}
	cfg := devstack.Config{
		Dir: args[1], NoUI: true, NoNATS: args[0] != "nats", NoTemporal: args[0] != "temporal", NoClickHouse: args[0] != "clickhouse",
		SearchAttributes: attributes(), Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	switch args[0] {
	case "nats":
		cfg.NATSPort = ports[0]
	case "temporal":
		cfg.TemporalPort = ports[0]
	case "clickhouse":
		cfg.ClickHousePort, cfg.ClickHouseHTTPPort = ports[0], ports[1]
	}
	stack, err := devstack.Start(ctx, cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, "server", args[0], err)
		return exitFailed
	}
	code := exitDone
	select {
	case <-ctx.Done():
	case err := <-stack.Failed():
		fmt.Fprintln(os.Stderr, "server", args[0], err)
		code = exitFailed
	}
	if err := stack.Close(context.WithoutCancel(ctx)); err != nil {
		return exitFailed
	}
	return code
}

// proc is one process of the engine, or one server, under a supervisor that starts it again whenever it ends, as an init system or an
// orchestrator would.
type proc struct {
	name string
	args []string
	log  *os.File

	mu     sync.Mutex
	cmd    *exec.Cmd
	held   bool // it stays down
	over   bool
	starts int
	ended  chan struct{}
	again  chan struct{} // it may be started again
}

// restartPause is how long the supervisor waits before it starts a part again.
const restartPause = 100 * time.Millisecond

func (p *proc) supervise() {
	defer close(p.ended)
	for p.start() {
		_ = p.cmd.Wait() // killed, or told to end: the supervisor does not mind
		p.mu.Lock()
		p.cmd = nil // its number may be another's from now on
		p.mu.Unlock()
		select {
		case <-p.again:
		case <-time.After(restartPause):
		}
	}
}

// start starts the part, once it may run. It returns false when the rig is over.
func (p *proc) start() bool {
	for {
		p.mu.Lock()
		if p.over {
			p.mu.Unlock()
			return false
		}
		if !p.held {
			break
		}
		p.mu.Unlock()
		<-p.again
	}
	defer p.mu.Unlock()
	p.cmd = exec.CommandContext(context.Background(), p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	if err := p.cmd.Start(); err != nil {
		panic(err)
	}
	p.starts++
	return true
}

// signal reaches the part's process, and with SIGKILL those that it started.
func (p *proc) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	if s == syscall.SIGKILL || s == syscall.SIGSTOP || s == syscall.SIGCONT {
		for _, child := range childrenOf(p.cmd.Process.Pid) {
			_ = syscall.Kill(child, s) // it may have ended
		}
	}
	_ = p.cmd.Process.Signal(s) // likewise
}

// killChildren kills only what the part has started: for ClickHouse that is the database, and its watchdog lives on.
func (p *proc) killChildren() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	for _, child := range childrenOf(p.cmd.Process.Pid) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
}

// hold keeps the part down from its next end on; release lets it run.
func (p *proc) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

func (p *proc) release() {
	p.mu.Lock()
	p.held = false
	p.mu.Unlock()
	p.wake()
}

func (p *proc) wake() {
	select {
	case p.again <- struct{}{}:
	default:
	}
}

// end kills the part for good.
func (p *proc) end() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.wake()
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func childrenOf(pid int) []int {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var all []int
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(raw)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// rigConfig says what a rig is made of.
type rigConfig struct {
	seed    uint64
	binary  string // of the roles; defaults to $CHAOS_ONRAMP, or this one
	ingests int    // processes; defaults to 1
	workers int    // defaults to 2
	proxied bool   // the roles reach the servers through proxies
	natsDir string // defaults to one beside the others
}

// rig is the whole engine in processes of its own: three servers and the roles.
type rig struct {
	t        *testing.T
	cfg      rigConfig
	dir      string
	parts    []*proc
	proxies  map[string]*testenv.Proxy // by server
	addrs    map[string]string         // of the servers themselves
	receiver *receiver
	js       jetstream.JetStream
	held     []net.PacketConn
	loads    []*traffic
}

const chaosPlaybook = "testdata/chaos.yaml"

// newRig starts everything and waits until an event that is published is archived and has a profile.
func newRig(t *testing.T, cfg rigConfig) *rig {
	t.Helper()
	cfg.binary = cmp.Or(cfg.binary, os.Getenv("CHAOS_ONRAMP"), os.Args[0])
	cfg.ingests, cfg.workers = max(cfg.ingests, 1), max(cfg.workers, 1)
	dir := t.TempDir()
	if base := os.Getenv("CHAOS_DIR"); base != "" { // to look at afterwards
		dir = filepath.Join(base, strings.ReplaceAll(t.Name(), "/", "-"))
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.MkdirAll(dir, 0o700))
	}
	r := &rig{t: t, cfg: cfg, dir: dir, proxies: map[string]*testenv.Proxy{}, addrs: map[string]string{}}
	t.Cleanup(r.close)
	rng := rand.New(rand.NewPCG(cfg.seed, 99))
	r.receiver = newReceiver(t, cfg.seed)
	servers := map[string][]string{"nats": {r.port(rng)}, "temporal": {r.port(rng)}, "clickhouse": {r.port(rng), r.port(rng)}}
	for _, name := range []string{"clickhouse", "nats", "temporal"} {
		r.addrs[name] = "127.0.0.1:" + servers[name][0]
		folder := filepath.Join(dir, name)
		if name == "nats" {
			folder = cmp.Or(cfg.natsDir, folder)
		}
		r.run(name, append([]string{os.Args[0], asServer, name, folder}, servers[name]...))
	}
	for i, name := range []string{"nats", "temporal", "clickhouse"} {
		if cfg.proxied {
			r.proxies[name] = testenv.NewProxy(t, r.addrs[name], cfg.seed+uint64(i))
		}
	}
	r.awaitServers()
	nc, err := nats.Connect("nats://"+r.addrs["nats"], nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	r.js, err = jetstream.New(nc)
	require.NoError(t, err)
	for n := range cfg.ingests {
		r.role("ingest", n)
	}
	for n := range cfg.workers {
		r.role("worker", n)
	}
	r.role("sink", 0)
	r.awaitReady()
	return r
}

// port finds a free port of the kind that the embedded servers choose, and keeps others from choosing it.
func (r *rig) port(rng *rand.Rand) string {
	for range 200 {
		port := strconv.Itoa(15_000 + rng.IntN(17_000))
		conn, err := new(net.ListenConfig).ListenPacket(r.t.Context(), "udp4", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(r.t.Context(), "tcp4", "127.0.0.1:"+port)
		if err == nil {
			require.NoError(r.t, listener.Close())
			r.held = append(r.held, conn)
			return port
		}
		conn.Close()
	}
	require.Fail(r.t, "no free port")
	return ""
}

// via is where the roles find a server.
func (r *rig) via(name string) string {
	if proxy := r.proxies[name]; proxy != nil {
		return proxy.Addr
	}
	return r.addrs[name]
}

func (r *rig) role(role string, n int, more ...string) {
	args := []string{r.cfg.binary}
	if r.cfg.binary == os.Args[0] {
		args = append(args, asOnramp)
	}
	args = append(args, role, "--nats-url", "nats://"+r.via("nats"), "--temporal-address", r.via("temporal"),
		"--clickhouse-addr", r.via("clickhouse"), "--workspace-key", embeddedKey, "--admin-addr", "off", "--webhooks", r.receiver.config(r.t, r.dir))
	if role == "worker" && n == 0 {
		args = append(args, "--playbook", chaosPlaybook)
	}
	r.run(fmt.Sprintf("%s-%d", role, n), append(args, more...))
}

func (r *rig) run(name string, args []string) {
	log, err := os.OpenFile(filepath.Join(r.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(r.t, err)
	p := &proc{name: name, args: args, log: log, ended: make(chan struct{}), again: make(chan struct{}, 1)}
	r.parts = append(r.parts, p)
	go p.supervise()
}

// of returns the parts whose names begin so.
func (r *rig) of(prefix string) []*proc {
	var some []*proc
	for _, p := range r.parts {
		if strings.HasPrefix(p.name, prefix) {
			some = append(some, p)
		}
	}
	return some
}

func (r *rig) part(name string) *proc { return r.of(name)[0] }

// close ends all processes, the roles first.
func (r *rig) close() {
	for _, p := range slices.Backward(r.parts) {
		p.end()
		p.log.Close()
	}
	for _, conn := range r.held {
		conn.Close()
	}
	if r.t.Failed() {
		for _, p := range r.parts {
			r.t.Logf("%s was started %d times; the end of its log:\n%s", p.name, p.starts, tailOf(filepath.Join(r.dir, p.name+".log"), 1500))
		}
	}
}

func tailOf(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-n):])
}

// awaitServers waits until each of the servers takes connections.
func (r *rig) awaitServers() {
	for name, addr := range r.addrs {
		eventually(r.t, time.Minute, name+" answers", func() bool {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(r.t.Context(), "tcp4", addr)
			if err != nil {
				return false
			}
			return conn.Close() == nil
		})
	}
}

// awaitReady waits until one event has gone all the way.
func (r *rig) awaitReady() {
	r.t.Helper()
	id := fmt.Sprint("canary-", time.Now().UnixNano())
	eventually(r.t, time.Minute, "the streams are there", func() bool {
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		defer cancel()
		_, err := r.js.Publish(ctx, schema.EventSubject("canary"), fmt.Appendf(nil, `{"event_id":%q,"event_name":"finished","user_id":"canary"}`, id))
		return err == nil
	})
	token := schema.UserToken([]byte(embeddedKey), "canary")
	eventually(r.t, 2*time.Minute, "an event goes all the way", func() bool {
		ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Second)
		defer cancel()
		c, err := client.DialContext(ctx, client.Options{HostPort: r.addrs["temporal"], Logger: quietLog{}})
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = c.QueryWorkflow(ctx, schema.WorkflowID(token), "", "state")
		return err == nil
	})
}

type quietLog struct{}

func (quietLog) Debug(string, ...any) {}
func (quietLog) Info(string, ...any)  {}
func (quietLog) Warn(string, ...any)  {}
func (quietLog) Error(string, ...any) {}

func (r *rig) store() *outcome.Store {
	store, err := outcome.Open(r.t.Context(), outcome.Config{Addr: r.addrs["clickhouse"]})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { store.Close() })
	return store
}

// secret is that of the receiver's signature.
var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("not a secret: a test's own key"))
