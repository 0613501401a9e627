package main

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHeapShares holds memory and finds as much more with who made it: this package is of the module, and none of its other parts.
func TestHeapShares(t *testing.T) { //nolint:paralleltest // others would make and drop memory meanwhile
	for range 3 { // a pool gives back what a test before this put there
		runtime.GC()
	}
	before := heapNow()
	held := make([][]byte, 4096)
	for i := range held {
		held[i] = make([]byte, 32<<10)
	}
	runtime.GC()
	after := heapNow()
	require.InDelta(t, 128, after.Worker-before.Worker, 40, "128 MB are some 3,500 samples")
	require.Less(t, after.NATS, before.NATS+10)
	require.Less(t, after.Temporal, before.Temporal+10)
	runtime.KeepAlive(held)
}
