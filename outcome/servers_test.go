package outcome_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ebitengine/purego"
)

// engine is the ClickHouse of this test binary: a child process that is started again when it dies.
type engine struct {
	addr string
	mu   sync.Mutex
	cmd  *exec.Cmd
	in   io.WriteCloser
	dir  string
	port string
	done bool
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "__clickhouse" {
		runChild(os.Args[2:])
		return
	}
	code := m.Run()
	if shared != nil {
		shared.stop()
	}
	os.Exit(code)
}

var (
	shared     *engine
	sharedOnce sync.Once
)

func clickHouse(t *testing.T) *engine {
	t.Helper()
	if os.Getenv("ONRAMP_TEST_CHDB") == "" {
		t.Skip("no ClickHouse: set ONRAMP_TEST_CHDB to libchdb.so")
	}
	sharedOnce.Do(func() {
		dir, err := os.MkdirTemp("", "onramp-outcome")
		if err != nil {
			panic(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		addr := l.Addr().String()
		_, port, _ := net.SplitHostPort(addr)
		_ = l.Close()
		shared = &engine{addr: addr, dir: dir, port: port}
		shared.start()
	})
	return shared
}

func (e *engine) start() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done {
		return
	}
	cmd := exec.Command(os.Args[0], "__clickhouse", "clickhouse", "--path="+e.dir, "--tcp_port="+e.port, "--listen_host=127.0.0.1",
		"--input-format", "LineAsString", "--structure", "s String",
		"--query", "SYSTEM START LISTEN TCP; SELECT count() FROM table FORMAT Null")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		panic(err)
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	e.cmd, e.in = cmd, in
	go func() {
		_ = cmd.Wait()
		e.start()
	}()
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{e.addr}})
	if err != nil {
		panic(err)
	}
	for conn.Ping(context.Background()) != nil {
		time.Sleep(50 * time.Millisecond)
	}
	_ = conn.Close()
}

func (e *engine) kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.cmd.Process.Kill()
}

func (e *engine) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done = true
	_ = e.cmd.Process.Kill()
	_ = os.RemoveAll(e.dir)
}

func runChild(args []string) {
	lib, err := purego.Dlopen(os.Getenv("ONRAMP_TEST_CHDB"), purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		panic(err)
	}
	var query func(int32, unsafe.Pointer) uintptr
	purego.RegisterLibFunc(&query, lib, "chdb_query_cmdline")
	var ptrs []unsafe.Pointer
	for _, a := range args {
		b := append([]byte(a), 0)
		ptrs = append(ptrs, unsafe.Pointer(&b[0]))
	}
	ptrs = append(ptrs, nil)
	fmt.Fprintln(os.Stderr, query(int32(len(args)), unsafe.Pointer(&ptrs[0])))
	runtime.KeepAlive(ptrs)
}
