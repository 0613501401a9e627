//go:build !noembed && (linux || darwin)

package devstack_test

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/internal/devstack"
)

const (
	taskQueue = "devstack-test"
	poll      = 20 * time.Millisecond
	// Generous: two cores, and the tests of other packages run beside these.
	patience = 60 * time.Second
)

func TestMain(m *testing.M) {
	if handled, code := devstack.RunChild(os.Args); handled {
		os.Exit(code)
	}
	if len(os.Args) > 1 && os.Args[1] == helperCommand {
		runHelper(os.Args[2])
	}
	os.Exit(m.Run())
}

// attributes are what a start in these tests asks for.
func attributes(names ...string) map[string]enumspb.IndexedValueType {
	all := map[string]enumspb.IndexedValueType{}
	for _, name := range names {
		all[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	return all
}

func start(t *testing.T, cfg devstack.Config) *devstack.Stack {
	t.Helper()
	began := time.Now()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := devstack.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Logf("started in %s", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *devstack.Stack) {
	t.Helper()
	began := time.Now()
	pid := s.ChildPID()
	// A test's own context is over when its cleanups run.
	require.NoError(t, s.Close(context.WithoutCancel(t.Context())))
	took := time.Since(began)
	require.Less(t, took, 10*time.Second)
	t.Logf("closed in %s", took.Round(time.Millisecond))
	if pid != 0 {
		requireDead(t, pid)
	}
}

func requireDead(t *testing.T, pid int) {
	t.Helper()
	process, err := os.FindProcess(pid)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return process.Signal(signalNothing) != nil }, patience, poll,
		"the ClickHouse child %d is still there", pid)
}

// Collect gathers signals until it has seen the one that says end.
func Collect(ctx workflow.Context) ([]string, error) {
	var got []string
	signals := workflow.GetSignalChannel(ctx, "word")
	for len(got) == 0 || got[len(got)-1] != "end" {
		var word string
		signals.Receive(ctx, &word)
		got = append(got, word)
	}
	return got, nil
}

func dialTemporal(t *testing.T, address string) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: address, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func quiet() sdklog.Logger { return noLog{} }

type noLog struct{}

func (noLog) Debug(string, ...any) {}
func (noLog) Info(string, ...any)  {}
func (noLog) Warn(string, ...any)  {}
func (noLog) Error(string, ...any) {}

func runWorker(t *testing.T, c client.Client) {
	t.Helper()
	w := worker.New(c, taskQueue, worker.Options{MaxConcurrentWorkflowTaskPollers: 2, WorkerStopTimeout: time.Second})
	w.RegisterWorkflow(Collect)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
}

func startCollect(t *testing.T, c client.Client, id string, attribute string) client.WorkflowRun {
	t.Helper()
	options := client.StartWorkflowOptions{ID: id, TaskQueue: taskQueue}
	if attribute != "" {
		options.TypedSearchAttributes = temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(attribute).ValueSet(id))
	}
	run, err := c.ExecuteWorkflow(t.Context(), options, Collect)
	require.NoError(t, err)
	return run
}

func signal(t *testing.T, c client.Client, id, word string) {
	t.Helper()
	require.NoError(t, c.SignalWorkflow(t.Context(), id, "", "word", word))
}

// requireFound waits until a workflow is listed under its search attribute.
func requireFound(t *testing.T, c client.Client, attribute, id string) {
	t.Helper()
	require.Eventually(t, func() bool {
		found, err := c.CountWorkflow(t.Context(), countQuery(attribute, id))
		return err == nil && found.GetCount() == 1
	}, patience, poll)
}

func dialClickHouse(t *testing.T, s *devstack.Stack, user string) driver.Conn {
	t.Helper()
	conn, err := clickhousego.Open(&clickhousego.Options{
		Addr: []string{s.ClickHouseAddr}, Auth: clickhousego.Auth{Username: user},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func insertRows(t *testing.T, conn driver.Conn) {
	t.Helper()
	require.NoError(t, conn.Exec(t.Context(),
		`CREATE TABLE IF NOT EXISTS events (id UInt32, body JSON) ENGINE = MergeTree ORDER BY id`))
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO events")
	require.NoError(t, err)
	defer func() { require.NoError(t, batch.Close()) }()
	for i := range 3 {
		require.NoError(t, batch.Append(uint32(i), `{"n": 1}`))
	}
	require.NoError(t, batch.Send())
}

func countRows(ctx context.Context, conn driver.Conn) (n uint64, err error) {
	err = conn.QueryRow(ctx, "SELECT count() FROM events").Scan(&n)
	return n, err
}

func openStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

func publish(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	_, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "events.one", []byte("one"))
	require.NoError(t, err)
}

func requireStored(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	stream, err := js.Stream(t.Context(), "EVENTS")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
}

func TestStack(t *testing.T) {
	t.Parallel()
	s := start(t, devstack.Config{SearchAttributes: attributes("OnrampPlan")})

	t.Run("nats stores an event", func(t *testing.T) {
		t.Parallel()
		js := openStream(t, s.NATSURL)
		publish(t, js)
		requireStored(t, js)
		nc, err := nats.Connect("", nats.InProcessServer(s))
		require.NoError(t, err)
		nc.Close()
	})
	t.Run("temporal runs a workflow", func(t *testing.T) {
		t.Parallel()
		before, _ := s.PersistenceRequests()
		c := dialTemporal(t, s.TemporalAddress)
		runWorker(t, c)
		run := startCollect(t, c, "one", "OnrampPlan")
		signal(t, c, "one", "hello")
		signal(t, c, "one", "end")
		var got []string
		require.NoError(t, run.Get(t.Context(), &got))
		require.Equal(t, []string{"hello", "end"}, got)
		requireFound(t, c, "OnrampPlan", "one")
		after, byOperation := s.PersistenceRequests()
		require.Greater(t, after, before)
		require.Positive(t, byOperation["UpdateWorkflowExecution"])
	})
	t.Run("web ui and play answer", func(t *testing.T) {
		t.Parallel()
		for _, url := range []string{s.UIURL, s.UIURL + "/api/v1/namespaces/default", s.ClickHouseHTTPURL + "/play"} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
			require.NoError(t, err)
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			// To the end: a client that leaves in the middle of an HTTP answer makes this ClickHouse abort.
			_, err = io.Copy(io.Discard, response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusOK, response.StatusCode, url)
		}
	})
	t.Run("clickhouse stores rows, the analyst only reads", func(t *testing.T) {
		t.Parallel()
		insertRows(t, dialClickHouse(t, s, "default"))
		analyst := dialClickHouse(t, s, "analyst")
		n, err := countRows(t.Context(), analyst)
		require.NoError(t, err)
		require.EqualValues(t, 3, n)
		require.Error(t, analyst.Exec(t.Context(), "INSERT INTO events VALUES (9, '{}')"))
		require.Error(t, analyst.Exec(t.Context(), "SET max_execution_time = 100"))
	})
}

// TestListOfWorkflows: a workflow is found by what it has and by what it lacks, the first by an index in which only those are that have something there,
// and by what has no index.
func TestListOfWorkflows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, devstack.Config{Dir: dir, NoUI: true, SearchAttributes: attributes("OnrampPlan")})
	c := dialTemporal(t, s.TemporalAddress)
	startCollect(t, c, "has", "OnrampPlan")
	startCollect(t, c, "lacks", "")
	requireFound(t, c, "OnrampPlan", "has")
	for query, want := range map[string]int64{
		"OnrampPlan IS NULL": 1, "OnrampPlan IS NOT NULL": 1, "OnrampPlan IN ('has', 'had')": 1, "OnrampPlan != 'had'": 1, "OnrampPlan STARTS_WITH 'h'": 1,
		"OnrampPlan = 'had'": 0, "ExecutionStatus = 'Running'": 2, "ParentWorkflowId IS NULL": 2,
		"RootWorkflowId = 'has'": 1, "WorkflowId = 'has'": 1, "WorkflowType = 'none'": 0, "StartTime > '2020-01-01T00:00:00Z'": 2,
	} {
		require.Eventually(t, func() bool {
			found, err := c.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Namespace: "default", Query: query})
			return err == nil && found.GetCount() == want
		}, patience, poll, query)
	}

	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "temporal", "visibility.db")+"?mode=ro")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	var id, parent, detail string
	var notUsed int
	require.NoError(t, db.QueryRowContext(t.Context(), "EXPLAIN QUERY PLAN SELECT * FROM executions_visibility WHERE namespace_id = 'n' AND Keyword01 = 'has'").
		Scan(&id, &parent, &notUsed, &detail))
	require.Contains(t, detail, "by_keyword_01")
	var full, sparse int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FILTER (WHERE sql NOT LIKE '%IS NOT NULL'), count(*) FILTER (WHERE sql LIKE '%IS NOT NULL')
		FROM sqlite_master WHERE type = 'index' AND tbl_name = 'executions_visibility'`).Scan(&full, &sparse))
	require.Equal(t, []int{4, 10}, []int{full, sparse}, "indexes with a row of every workflow, and of those with a keyword")
}

// TestFolderWithOneDatabase: a folder of before, in which state and list were one database, stays so.
func TestFolderWithOneDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop(t, start(t, devstack.Config{Dir: dir, NoUI: true, SearchAttributes: attributes("OnrampPlan")}))
	list := filepath.Join(dir, "temporal", "visibility.db")
	require.NoError(t, os.Remove(list)) // the other has its tables too
	s := start(t, devstack.Config{Dir: dir, NoUI: true, SearchAttributes: attributes("OnrampPlan")})
	c := dialTemporal(t, s.TemporalAddress)
	startCollect(t, c, "listed", "OnrampPlan")
	requireFound(t, c, "OnrampPlan", "listed")
	require.NoFileExists(t, list)
}

// TestLogIsMovedBeside: what Temporal wrote comes from the write-ahead log to the file long before the log is full, so that no commit has all of it
// to move.
func TestLogIsMovedBeside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, devstack.Config{Dir: dir, NoUI: true, SearchAttributes: attributes("OnrampPlan")})
	startCollect(t, dialTemporal(t, s.TemporalAddress), "written", "OnrampPlan")
	for file, query := range map[string]string{
		"temporal.db":   "SELECT count(*) FROM current_executions WHERE workflow_id = 'written'",
		"visibility.db": "SELECT count(*) FROM executions_visibility WHERE workflow_id = 'written'",
	} {
		file := filepath.Join(dir, "temporal", file)
		require.Eventually(t, func() bool { return countIn(t, file, query) == 1 }, patience, poll, file)
		log, err := os.Stat(file + "-wal")
		require.NoError(t, err)
		require.Less(t, log.Size(), int64(8<<20), "a commit would have moved it")
	}
}

// countIn asks a database without its write-ahead log; -1 where it cannot be read just now.
func countIn(t *testing.T, file, query string) int {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&immutable=1")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	var n int
	if db.QueryRowContext(t.Context(), query).Scan(&n) != nil {
		return -1
	}
	return n
}

func TestEphemeralFolderIsRemoved(t *testing.T) {
	t.Parallel()
	s := start(t, devstack.Config{NoUI: true})
	require.DirExists(t, s.Dir)
	require.Empty(t, s.UIURL)
	stop(t, s)
	require.NoDirExists(t, s.Dir)
}

func TestRestartKeepsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "with space?")
	first := start(t, devstack.Config{Dir: dir, NoUI: true, SearchAttributes: attributes("OnrampPlan")})
	publish(t, openStream(t, first.NATSURL))
	insertRows(t, dialClickHouse(t, first, "default"))
	startCollect(t, dialTemporal(t, first.TemporalAddress), "kept", "OnrampPlan")
	stop(t, first)

	second := start(t, devstack.Config{Dir: dir, NoUI: true, SearchAttributes: attributes("OnrampPlan", "OnrampStep")})
	requireStored(t, openStream(t, second.NATSURL))
	n, err := countRows(t.Context(), dialClickHouse(t, second, "default"))
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	c := dialTemporal(t, second.TemporalAddress)
	runWorker(t, c)
	signal(t, c, "kept", "end")
	require.NoError(t, c.GetWorkflow(t.Context(), "kept", "").Get(t.Context(), nil))
	requireFound(t, c, "OnrampPlan", "kept")
	// An attribute the old folder did not have can be used at once.
	startCollect(t, c, "late", "OnrampStep")
	requireFound(t, c, "OnrampStep", "late")
}
