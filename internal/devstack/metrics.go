//go:build !noembed && (linux || darwin)

package devstack

import (
	"sync"
	"sync/atomic"

	"go.temporal.io/server/common/metrics"
)

// requestCounts counts the Temporal server's calls to its database by operation. Benchmarks read it: the cost of an
// event is counted in these calls.
type requestCounts struct{ byOperation sync.Map }

func (c *requestCounts) counter(operation string) *atomic.Int64 {
	if found, ok := c.byOperation.Load(operation); ok {
		return found.(*atomic.Int64) //nolint:errcheck,forcetypeassert // only counter stores
	}
	stored, _ := c.byOperation.LoadOrStore(operation, new(atomic.Int64))
	return stored.(*atomic.Int64) //nolint:errcheck,forcetypeassert // only counter stores
}

func (c *requestCounts) snapshot() (total int64, byOperation map[string]int64) {
	byOperation = map[string]int64{}
	c.byOperation.Range(func(key, value any) bool {
		n := value.(*atomic.Int64).Load() //nolint:errcheck,forcetypeassert // only counter stores
		byOperation[key.(string)] = n     //nolint:errcheck,forcetypeassert // only counter stores
		total += n
		return true
	})
	return total, byOperation
}

// countingHandler is a metrics handler that drops everything but persistence requests. It opens no port.
type countingHandler struct {
	metrics.Handler // drops

	counts    *requestCounts
	operation string
}

func newCountingHandler() *countingHandler {
	return &countingHandler{Handler: metrics.NoopMetricsHandler, counts: &requestCounts{}}
}

// WithTags keeps the operation and drops the other tags.
func (h *countingHandler) WithTags(tags ...metrics.Tag) metrics.Handler {
	for _, t := range tags {
		if t.Key == metrics.OperationTagName && t.Value != h.operation {
			return &countingHandler{Handler: h.Handler, counts: h.counts, operation: t.Value}
		}
	}
	return h
}

// Counter counts persistence requests.
func (h *countingHandler) Counter(name string) metrics.CounterIface {
	if name != metrics.PersistenceRequests.Name() {
		return h.Handler.Counter(name)
	}
	counter := h.counts.counter(h.operation)
	return metrics.CounterFunc(func(n int64, _ ...metrics.Tag) { counter.Add(n) })
}
