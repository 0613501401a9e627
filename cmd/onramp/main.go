// Command onramp is the whole engine in one program: `onramp demo` shows it, `onramp dev` runs it with its servers on one
// machine, `onramp serve` runs it against servers that are there. `onramp --help` lists the rest.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/onramphq/onramp/internal/devstack"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	if handled, code := devstack.RunChild(os.Args); handled {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// stdio is what a command reads and writes: data goes out, logs and progress go to err.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// say writes for people. A screen that is gone is no reason to fail.
func say(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, format, args...) //nolint:errcheck // see above
}

// cli is every command. Flags win over the environment, the environment over the defaults.
type cli struct {
	LogLevel  string `enum:"debug,info,warn,error" default:"warn" env:"ONRAMP_LOG_LEVEL" help:"Least level that is logged: ${enum}."`
	LogFormat string `enum:"text,json" default:"text" env:"ONRAMP_LOG_FORMAT" help:"Shape of logs: ${enum}."`

	CPUProfile string `name:"cpuprofile" hidden:"" help:"Write a CPU profile of the whole run to this file."`

	Demo     demoCommand     `cmd:"" help:"Run the whole engine on a simulated population and report an A/B test with a planted truth."`
	Dev      devCommand      `cmd:"" help:"Run the engine with NATS, Temporal, its Web UI and ClickHouse on this machine."`
	Replay   replayCommand   `cmd:"" help:"Publish somebody's recorded event log and report what the journeys made of it."`
	Backtest backtestCommand `cmd:"" help:"Run recorded events through a playbook in virtual time: who would enter what, and what would be sent."`
	Test     testCommand     `cmd:"" help:"Run the scenarios of a playbook: events, and what must follow from them when."`
	Explain  explainCommand  `cmd:"" help:"Say where a user is, why, and what happens next; now, or at any moment of the past."`
	Serve    serveCommand    `cmd:"" help:"Run all roles against servers named by flags or environment."`
	Ingest   ingestCommand   `cmd:"" help:"Run the role that turns events into signals."`
	Worker   workerCommand   `cmd:"" help:"Run the role that executes workflows and activities."`
	Sink     sinkCommand     `cmd:"" help:"Run the role that writes ClickHouse."`
	API      apiCommand      `cmd:"" name:"api" help:"Run the role that answers HTTP."`
	Validate validateCommand `cmd:"" help:"Check a playbook and list every problem with file, line and column."`
	Diff     diffCommand     `cmd:"" help:"Say what changes between two playbooks, and what becomes of the users inside."`
	Apply    applyCommand    `cmd:"" help:"Put a playbook in force and bring it to every running user."`
	Graph    graphCommand    `cmd:"" help:"Draw the journeys of a playbook, as Mermaid text or SVG."`
	Letters  lettersCommand  `cmd:"" name:"deadletters" help:"List, show, send in again or drop the messages that were refused for good."`
	Verify   verifyCommand   `cmd:"" help:"Work out every user again from the log, and say where archive, outcomes, profile or workflow differ."`
	Schema   schemaCommand   `cmd:"" help:"Print the JSON Schema of playbook files, for editors."`
	Key      keyCommand      `cmd:"" help:"Make a key for the HTTP API: the key for its user, the entry for the file of keys."`
	Health   healthCommand   `cmd:"" help:"Ask a running API whether it is ready; for container health checks."`
	Bench    benchCommand    `cmd:"" help:"Measure the path against bare SDK loops on the same embedded servers."`
	Loadtest loadtestCommand `cmd:"" help:"Send a chosen load through the engine and measure throughput and latency against one SDK signal per event."`
	Version  versionCommand  `cmd:"" help:"Print the version."`

	Results    resultsCommand    `cmd:"" help:"Read the results of an experiment: verdict, intervals, segments; as text, JSON or a page."`
	Experiment experimentCommand `cmd:"" help:"Plan an experiment, load one that ran elsewhere, test its analysis on its own rows, decide it."`
}

// usageError is a failure of the caller's: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// run is main without the process: it parses, runs one command and returns the exit code.
func run(ctx context.Context, args []string, io stdio) int {
	var commands cli
	exited := -1
	parser, err := kong.New(&commands, kong.Name("onramp"), kong.Writers(io.out, io.err), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Description("A stream-processing workflow engine for user onboarding: events in on NATS, one Temporal workflow per user, A/B results in ClickHouse."),
		kong.Exit(func(code int) { exited = code }))
	if err != nil {
		say(io.err, "onramp: %v\n", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help has been answered
		return exited
	}
	if err != nil {
		say(io.err, "onramp: %v\nTry: onramp --help\n", err)
		return exitUsage
	}
	command.BindTo(ctx, (*context.Context)(nil))
	stop, err := profileTo(commands.CPUProfile)
	if err != nil {
		say(io.err, "onramp: %v\n", err)
		return exitUsage
	}
	defer stop()
	err = command.Run(io, newLogger(io.err, commands.LogLevel, commands.LogFormat))
	if err == nil {
		return exitDone
	}
	say(io.err, "onramp: %s\n", strings.TrimPrefix(err.Error(), "onramp: "))
	if _, usage := errors.AsType[*usageError](err); usage {
		return exitUsage
	}
	return exitFailed
}

// profileTo starts a CPU profile, to see where a demo or a benchmark spends its time.
func profileTo(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path) //nolint:gosec // the caller names the file
	if err != nil {
		return nil, fmt.Errorf("cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, fmt.Errorf("cpuprofile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		file.Close() //nolint:errcheck // a profile that is cut short shows when it is read
	}, nil
}
