//go:build !noembed && (linux || darwin)

package devstack_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/onramphq/onramp/internal/devstack"
)

const (
	// helperCommand starts this test program again as a process that can be killed.
	helperCommand = "__devstack_helper"
	signalNothing = syscall.Signal(0)
)

func countQuery(attribute, value string) *workflowservice.CountWorkflowExecutionsRequest {
	return &workflowservice.CountWorkflowExecutionsRequest{Query: fmt.Sprintf("%s = %q", attribute, value)}
}

// runHelper runs a stack and a worker on the folder until it is killed.
func runHelper(dir string) {
	ctx := context.Background()
	s, err := devstack.Start(ctx, devstack.Config{Dir: dir})
	exitOn(err)
	c, err := client.DialContext(ctx, client.Options{HostPort: s.TemporalAddress, Logger: quiet()})
	exitOn(err)
	w := worker.New(c, taskQueue, worker.Options{MaxConcurrentWorkflowTaskPollers: 2})
	w.RegisterWorkflow(Collect)
	exitOn(w.Start())
	line, err := json.Marshal(helperReport{Stack: s, ChildPID: s.ChildPID()})
	exitOn(err)
	fmt.Println(string(line))
	select {}
}

// helperReport is what the helper says on standard output when it is ready.
type helperReport struct {
	Stack    *devstack.Stack `json:"stack"`
	ChildPID int             `json:"child_pid"`
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startHelper runs the helper and returns a function that sends it SIGKILL.
func startHelper(t *testing.T, dir string) (report helperReport, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], helperCommand, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(strings.TrimSpace(line)), &report))
	return report, func() {
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
}

func TestClickHouseKilled(t *testing.T) {
	t.Parallel()
	s := start(t, devstack.Config{NoUI: true})
	conn := dialClickHouse(t, s, "default")
	insertRows(t, conn)
	old := s.ChildPID()

	began := time.Now()
	s.KillClickHouse()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n, err := countRows(ctx, conn)
		return err == nil && n == 3 && s.ChildPID() != old
	}, patience, poll)
	took := time.Since(began)
	t.Logf("clickhouse was back in %s", took.Round(time.Millisecond))
	require.Less(t, took, 5*time.Second)
	require.Empty(t, s.Failed())
}

func TestProcessKilled(t *testing.T) {
	t.Parallel()
	const workflows = 20
	dir := t.TempDir()
	before, kill := startHelper(t, dir)
	publish(t, openStream(t, before.Stack.NATSURL))
	insertRows(t, dialClickHouse(t, before.Stack, "default"))
	c := dialTemporal(t, before.Stack.TemporalAddress)
	for i := range workflows {
		id := fmt.Sprintf("killed-%d", i)
		startCollect(t, c, id, "")
		signal(t, c, id, "before")
	}
	kill()
	killed := time.Now()
	requireDead(t, before.ChildPID)
	t.Logf("clickhouse ended %s after its parent", time.Since(killed).Round(time.Millisecond))

	s := start(t, devstack.Config{Dir: dir, NoUI: true})
	requireStored(t, openStream(t, s.NATSURL))
	n, err := countRows(t.Context(), dialClickHouse(t, s, "default"))
	require.NoError(t, err)
	require.EqualValues(t, 3, n)

	c = dialTemporal(t, s.TemporalAddress)
	runWorker(t, c)
	began := time.Now()
	for i := range workflows {
		signal(t, c, fmt.Sprintf("killed-%d", i), "end")
	}
	for i := range workflows {
		var got []string
		require.NoError(t, c.GetWorkflow(t.Context(), fmt.Sprintf("killed-%d", i), "").Get(t.Context(), &got))
		require.Equal(t, []string{"before", "end"}, got)
	}
	t.Logf("all went on %s after the signals, %s after the SIGKILL",
		time.Since(began).Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	// A workflow task that had been handed out when the process died is given again after its own time-out, ten
	// seconds; everything else goes on at once.
	require.Less(t, time.Since(began), 20*time.Second)
}
