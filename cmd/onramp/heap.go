package main

import (
	"math"
	"runtime"
	"strings"
)

// heapShares says who made what lives on this process' heap, in MB. In production each is a process of its own.
type heapShares struct {
	Worker   float64 `json:"worker"` // workflows in memory, and what every part of the engine shares
	API      float64 `json:"api"`    // profiles of all users, for who asks
	InAndOut float64 `json:"ingest_and_sink"`
	Temporal float64 `json:"temporal"`
	NATS     float64 `json:"nats"`
	Other    float64 `json:"other"`
}

// heapNow reads the runtime's samples of what lived after the last sweep. One allocation in runtime.MemProfileRate bytes is a sample: of 100 MB
// two hundred, so a share of that size is true to some 7 %.
func heapNow() (shares heapShares) {
	records := make([]runtime.MemProfileRecord, 1024)
	for {
		n, complete := runtime.MemProfile(records, false)
		if complete {
			records = records[:n]
			break
		}
		records = make([]runtime.MemProfileRecord, 2*n)
	}
	for i := range records {
		r := &records[i]
		if r.InUseObjects() == 0 {
			continue
		}
		*shares.of(r.Stack()) += unsampled(float64(r.InUseBytes()), float64(r.InUseObjects()), float64(runtime.MemProfileRate)) / (1 << 20)
	}
	return shares
}

// of is the share of who called for an allocation: the innermost that is known, as servers and engine call the same libraries.
func (h *heapShares) of(stack []uintptr) *float64 {
	frames := runtime.CallersFrames(stack)
	for {
		frame, more := frames.Next()
		switch name := frame.Function; {
		case strings.HasPrefix(name, "github.com/nats-io/nats-server/"):
			return &h.NATS
		case strings.HasPrefix(name, "go.temporal.io/server/"), strings.HasPrefix(name, "google.golang.org/grpc.(*Server)"): // none but Temporal serves gRPC
			return &h.Temporal
		case strings.HasPrefix(name, "github.com/onramphq/onramp/api."):
			return &h.API
		case strings.HasPrefix(name, "github.com/onramphq/onramp/ingest."), strings.HasPrefix(name, "github.com/onramphq/onramp/outcome."):
			return &h.InAndOut
		case strings.HasPrefix(name, "go.temporal.io/sdk/"), strings.HasPrefix(name, "github.com/onramphq/onramp/"):
			return &h.Worker
		case !more:
			return &h.Other
		}
	}
}

// unsampled scales samples up to what they stand for: an allocation of a size is one with a chance of 1 - exp(-size/rate), as runtime/pprof has it.
func unsampled(bytes, objects, rate float64) float64 {
	if rate <= 1 {
		return bytes
	}
	return bytes / (1 - math.Exp(-bytes/objects/rate))
}
