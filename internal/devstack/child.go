//go:build !noembed && (linux || darwin)

package devstack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

const (
	// parentPipe is the descriptor whose end of file tells the child that its parent is gone.
	parentPipe = 3
	// The engine ends by itself when its standard input ends, but waits for connected clients; after this long the
	// child does not wait for it. What was inserted is with the operating system, so even this end loses nothing.
	engineEndGrace = 2 * time.Second
)

// RunChild runs the ClickHouse server when args are those of the child process, and returns when it ends. Call it
// first in main and in TestMain, and exit with code if it handled the call.
func RunChild(args []string) (handled bool, code int) {
	if len(args) < 2 || args[1] != ChildCommand {
		return false, 0
	}
	// Ctrl-C reaches every process of a terminal; the parent ends us in order.
	signal.Ignore(os.Interrupt)
	go endWithParent()
	if err := runEngine(args[2:]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err) // the parent's log file; there is nobody else to tell
		return true, 1
	}
	return true, 0
}

// endWithParent kills this process when the parent is gone and the engine does not end: a hang must not outlive us.
func endWithParent() {
	pipe := os.NewFile(parentPipe, "parent")
	_, _ = io.Copy(io.Discard, pipe) //nolint:errcheck // any end of the pipe is the end of the parent
	timer := time.NewTimer(engineEndGrace)
	<-timer.C
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) //nolint:errcheck // cannot fail for ourselves
}

// runEngine loads the library args[0] and runs clickhouse-local with the other arguments.
func runEngine(args []string) error {
	if len(args) == 0 {
		return errors.New("run ClickHouse child: no library given")
	}
	handle, err := purego.Dlopen(args[0], purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load ClickHouse library %s: %w", args[0], err)
	}
	var (
		setSignalHandlers func(enabled int32)
		queryCommandLine  func(argc int32, argv **byte) uintptr
		resultError       func(result uintptr) string
	)
	purego.RegisterLibFunc(&setSignalHandlers, handle, "chdb_set_signal_handlers_enabled")
	purego.RegisterLibFunc(&queryCommandLine, handle, "chdb_query_cmdline")
	purego.RegisterLibFunc(&resultError, handle, "chdb_result_error")
	// The library's own handlers make a crash look like a hang of minutes; without them the process just dies and
	// the parent starts it again.
	setSignalHandlers(0)

	argv := cStrings(append([]string{"clickhouse"}, args[1:]...))
	result := queryCommandLine(int32(len(argv)-1), unsafe.SliceData(argv)) //nolint:gosec // a dozen arguments
	runtime.KeepAlive(argv)
	if result == 0 {
		return errors.New("run ClickHouse: no result")
	}
	if text := resultError(result); text != "" {
		return fmt.Errorf("run ClickHouse: %s", text)
	}
	return nil
}

// cStrings is an argv: strings that end in a zero byte, and a nil after the last.
func cStrings(args []string) []*byte {
	argv := make([]*byte, 0, len(args)+1)
	for _, arg := range args {
		argv = append(argv, unsafe.SliceData(append([]byte(arg), 0))) //nolint:gosec // C wants pointers; the caller keeps argv alive
	}
	return append(argv, nil)
}
