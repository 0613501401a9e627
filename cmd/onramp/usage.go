package main

import (
	"runtime"
	runtimemetrics "runtime/metrics"
	"time"
)

// usage is what this process has used since it began.
type usage struct {
	cpu       time.Duration // 0 where the system does not tell
	allocated uint64        // bytes of memory that were made
	sweeps    uint64        // collections of what is needed no more
}

func usageNow() usage {
	return usage{cpu: cpuTime(), allocated: metric("/gc/heap/allocs:bytes"), sweeps: metric("/gc/cycles/total:gc-cycles")}
}

// sweep is one collection of what is needed no more.
type sweep struct {
	took time.Duration // processor time
	left float64       // bytes that live
}

func sweepNow() sweep {
	cpu := cpuTime()
	runtime.GC()
	return sweep{took: cpuTime() - cpu, left: float64(metric("/memory/classes/heap/objects:bytes"))}
}

// growth is how much may be made before the next sweep, as a share of what lives.
func growth() float64 { return float64(metric("/gc/gogc:percent")) / 100 }

// metric reads a whole number that the runtime keeps.
func metric(name string) uint64 {
	samples := []runtimemetrics.Sample{{Name: name}}
	runtimemetrics.Read(samples)
	return samples[0].Value.Uint64()
}
