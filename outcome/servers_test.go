package outcome_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/internal/devstack"
	"github.com/onramphq/onramp/internal/testenv"
)

// stack is the servers all tests share; each test has a database of its own. Started by the first test that needs it.
var stack struct {
	once    sync.Once
	servers *devstack.Stack
	err     error
}

func TestMain(m *testing.M) {
	if handled, code := devstack.RunChild(os.Args); handled {
		os.Exit(code)
	}
	code := m.Run()
	if stack.servers != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		if err := stack.servers.Close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "close the servers:", err)
			code = max(code, 1)
		}
		cancel()
	}
	if leaks := ourLeaks(); leaks != "" && code == 0 {
		fmt.Fprintln(os.Stderr, leaks)
		code = 1
	}
	os.Exit(code)
}

// ourLeaks describes goroutines that were left behind, if any is ours or of a client we hold. The embedded Temporal server,
// which these tests do not use, leaves others.
func ourLeaks() string {
	err := goleak.Find(testenv.LeakOptions()...)
	if err == nil {
		return ""
	}
	for _, ours := range []string{"onramp/outcome.", "clickhouse-go", "nats.go"} {
		if strings.Contains(err.Error(), ours) {
			return err.Error()
		}
	}
	return ""
}

// clickHouse returns the servers, and skips the test where there is no ClickHouse to be had, unless ONRAMP_E2E is 1. With 0
// it always skips.
func clickHouse(tb testing.TB) *devstack.Stack {
	tb.Helper()
	gate := os.Getenv("ONRAMP_E2E")
	if gate == "0" {
		tb.Skip("ONRAMP_E2E is 0")
	}
	stack.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // the first time it fetches the engine
		defer cancel()
		stack.servers, stack.err = devstack.Start(ctx, devstack.Config{NoUI: true})
	})
	_, noEngine := errors.AsType[*devstack.EngineError](stack.err)
	if gate != "1" && (noEngine || errors.Is(stack.err, devstack.ErrNotBuilt)) {
		tb.Skip(stack.err)
	}
	require.NoError(tb, stack.err)
	return stack.servers
}
