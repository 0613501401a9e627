//go:build !noembed && (linux || darwin)

package devstack

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
)

var (
	//go:embed clickhouse_config.xml
	clickhouseConfigXML []byte
	//go:embed clickhouse_users.xml
	clickhouseUsersXML []byte
)

const (
	clickhouseReady     = 30 * time.Second
	clickhousePoll      = 50 * time.Millisecond
	clickhouseStopGrace = 5 * time.Second

	// A child that lived this long counts as healthy: its death starts the count of failures anew.
	healthyAfter  = 10 * time.Second
	quickFailures = 5
	firstRestart  = 50 * time.Millisecond
	lastRestart   = 2 * time.Second

	// defaultDatabase is what ClickHouse itself would write for CREATE DATABASE default. The users start in it, and so
	// it must be there before the first query can be asked. The id is ours and the same everywhere.
	defaultDatabase     = "ATTACH DATABASE _ UUID '6f6e7261-6d70-4000-8000-000000000001'\nENGINE = Atomic\n"
	defaultDatabaseFile = "data/metadata/default.sql"

	// serveQuery opens the ports and then reads standard input to its end, which is the life of the server. TCP comes
	// last, so a ping on it says that HTTP is there too.
	serveQuery = "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; SELECT count() FROM table FORMAT Null"
)

// clickhouse is the child process and its watchdog.
type clickhouse struct {
	engine   engine
	dir      string
	tcpPort  int
	httpPort int
	log      *slog.Logger
	failed   func(error)

	stopping chan struct{}
	done     chan struct{}
	gaveUp   error // written before done is closed

	mu    sync.Mutex
	child *child
}

// child is one run of the process.
type child struct {
	cmd *exec.Cmd
	// pipes are our ends of its standard input and of the pipe it watches: closing them asks it to end.
	pipes []io.Closer
	// logStart is the size of the log when the run began: what follows is what the run had to say.
	logStart int64
}

func newClickHouse(eng engine, dir string, cfg Config, failed func(error)) *clickhouse {
	return &clickhouse{
		engine: eng, dir: filepath.Join(dir, "clickhouse"), tcpPort: cfg.ClickHousePort, httpPort: cfg.ClickHouseHTTPPort,
		log: cfg.Logger.With(slog.String("server", "clickhouse")), failed: failed,
		stopping: make(chan struct{}), done: make(chan struct{}),
	}
}

// start runs the child under its watchdog and returns when a ping is answered.
func (c *clickhouse) start(ctx context.Context) error {
	if err := c.writeConfig(); err != nil {
		return err
	}
	go c.watch()
	conn, err := clickhousego.Open(&clickhousego.Options{Addr: []string{hostPort(c.tcpPort)}})
	if err != nil {
		return fmt.Errorf("open ClickHouse client: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the ping is all we wanted
	ctx, cancel := context.WithTimeout(ctx, clickhouseReady)
	defer cancel()
	for {
		if err = conn.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-c.done:
			return c.gaveUp
		case <-ctx.Done():
			return fmt.Errorf("wait for ClickHouse on port %d, see %s: %w", c.tcpPort, c.logFile(), err)
		case <-time.After(clickhousePoll):
		}
	}
}

func (c *clickhouse) writeConfig() error {
	if err := os.MkdirAll(filepath.Join(c.dir, "data", "metadata"), 0o700); err != nil {
		return fmt.Errorf("create ClickHouse folder: %w", err)
	}
	for name, content := range map[string][]byte{
		"config.xml": clickhouseConfigXML, "users.xml": clickhouseUsersXML, defaultDatabaseFile: []byte(defaultDatabase),
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write ClickHouse configuration: %w", err)
		}
	}
	return nil
}

// watch runs the child again and again until stop, or until it fails too often in a row.
func (c *clickhouse) watch() {
	defer close(c.done)
	failures, delay := 0, firstRestart
	for {
		started := time.Now()
		died := c.runOnce()
		if c.isStopping() {
			return
		}
		switch {
		case time.Since(started) > healthyAfter:
			failures, delay = 1, firstRestart
		case strings.Contains(died.Error(), "Cannot lock file"):
			// The child of a crashed run still holds the folder; it ends within engineEndGrace.
		default:
			failures++
		}
		if failures >= quickFailures {
			c.gaveUp = fmt.Errorf("run ClickHouse: it died %d times in a row, see %s: %w", failures, c.logFile(), died)
			c.failed(c.gaveUp)
			return
		}
		c.log.Warn("clickhouse died, starting it again", slog.Any("error", died), slog.Duration("delay", delay))
		select {
		case <-time.After(delay):
			delay = min(2*delay, lastRestart)
		case <-c.stopping:
			return
		}
	}
}

// runOnce starts the child, waits for its end and says why it ended.
func (c *clickhouse) runOnce() error {
	run, err := c.launch()
	if err != nil {
		return err
	}
	err = run.cmd.Wait()
	c.setChild(nil)
	run.end()
	return fmt.Errorf("clickhouse ended (%w): %s", cmp.Or(err, io.EOF), c.logText(run.logStart))
}

func (c *clickhouse) launch() (*child, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isStopping() {
		return nil, errors.New("start ClickHouse: stopping")
	}
	logFile, err := openLog(c.logFile())
	if err != nil {
		return nil, err
	}
	defer logFile.Close() //nolint:errcheck // the child has its own descriptor
	size, err := logFile.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse log: %w", err)
	}
	watched, alive, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("create ClickHouse pipe: %w", err)
	}
	defer watched.Close() //nolint:errcheck // the child has its own descriptor
	cmd, err := c.command()
	if err != nil {
		return nil, errors.Join(err, alive.Close())
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = logFile, logFile, []*os.File{watched}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start ClickHouse: %w", err), alive.Close())
	}
	c.child = &child{cmd: cmd, pipes: []io.Closer{stdin, alive}, logStart: size}
	return c.child, nil
}

// command is the clickhouse program, or this program as the child that loads the library.
func (c *clickhouse) command() (*exec.Cmd, error) {
	args := []string{
		"--config-file=" + filepath.Join(c.dir, "config.xml"),
		"--path=" + filepath.Join(c.dir, "data"),
		"--tcp_port=" + strconv.Itoa(c.tcpPort),
		"--http_port=" + strconv.Itoa(c.httpPort),
		"--listen_host=" + loopback,
		"--input-format", "LineAsString", "--structure", "s String",
		"--query", serveQuery,
	}
	name, first := c.engine.binary, []string{"local"}
	if name == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		name, first = self, []string{ChildCommand, c.engine.library}
	}
	// No context: the watchdog ends the child in order, by its pipe.
	cmd := exec.Command(name, append(first, args...)...) //nolint:gosec,noctx // our own program, or the one configured
	cmd.Dir = c.dir
	// Its own group: Ctrl-C in the terminal must reach the parent only, which then closes everything in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// stop asks the child to end, kills it if it does not, and waits for the watchdog.
func (c *clickhouse) stop(ctx context.Context) error {
	c.mu.Lock()
	close(c.stopping)
	run := c.child
	c.mu.Unlock()
	if run != nil {
		run.end()
	}
	grace, cancel := context.WithTimeout(ctx, clickhouseStopGrace)
	defer cancel()
	select {
	case <-c.done:
		return nil
	case <-grace.Done():
	}
	c.kill()
	select {
	case <-c.done:
		return nil
	case <-time.After(time.Second):
		return errors.New("stop ClickHouse: the child did not end after SIGKILL")
	}
}

func (c *clickhouse) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.child != nil {
		_ = c.child.cmd.Process.Kill() //nolint:errcheck // it may have ended by itself just now
	}
}

// pid is the child's process id; 0 between two runs.
func (c *clickhouse) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.child == nil {
		return 0
	}
	return c.child.cmd.Process.Pid
}

func (c *clickhouse) setChild(run *child) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.child = run
}

func (c *clickhouse) isStopping() bool {
	select {
	case <-c.stopping:
		return true
	default:
		return false
	}
}

func (c *clickhouse) logFile() string { return filepath.Join(c.dir, "server.log") }

// logText is the beginning of what a run wrote, for its error message: stack traces follow the reason.
func (c *clickhouse) logText(from int64) string {
	const most = 600
	file, err := os.Open(c.logFile())
	if err != nil {
		return "no log"
	}
	defer file.Close() //nolint:errcheck // only read
	content, err := io.ReadAll(io.NewSectionReader(file, from, most))
	if err != nil {
		return "no log"
	}
	return cmp.Or(strings.TrimSpace(string(content)), "it wrote nothing")
}

// end closes our ends of the pipes; closing twice is harmless.
func (r *child) end() {
	for _, pipe := range r.pipes {
		_ = pipe.Close() //nolint:errcheck // already closed is what we want
	}
}
