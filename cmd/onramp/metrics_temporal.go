package main

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"
)

// temporalMetrics hands the Temporal SDK's own metrics to Prometheus, under the names its documentation has, with the endings that
// Prometheus asks for: `_total` for counters, `_seconds` for times. It is a few lines where the SDK's own bridges bring a metrics
// library each.
type temporalMetrics struct {
	*temporalSeries

	labels []string // values of temporalLabels
}

// temporalLabels are the tags that are kept. Each takes few values, none from a user's data; the others are left out.
func temporalLabels() []string {
	return []string{"operation", "status_code", "worker_type", "poller_type", "workflow_type", "activity_type", "task_queue", "failure_reason"}
}

// temporalSeries are the metrics met so far.
type temporalSeries struct {
	registry *prometheus.Registry

	mu         sync.Mutex
	counters   map[string]*prometheus.CounterVec
	gauges     map[string]*prometheus.GaugeVec
	histograms map[string]*prometheus.HistogramVec
}

func newTemporalMetrics(registry *prometheus.Registry) client.MetricsHandler {
	return &temporalMetrics{&temporalSeries{
		registry: registry, counters: make(map[string]*prometheus.CounterVec), gauges: make(map[string]*prometheus.GaugeVec),
		histograms: make(map[string]*prometheus.HistogramVec),
	}, make([]string, len(temporalLabels()))}
}

// WithTags implements client.MetricsHandler.
func (t *temporalMetrics) WithTags(tags map[string]string) client.MetricsHandler {
	labels := slices.Clone(t.labels)
	for i, name := range temporalLabels() {
		if value, given := tags[name]; given {
			labels[i] = value
			if value == "none" || strings.HasPrefix(value, "onboarding/") {
				labels[i] = "" // the latter is a sticky task queue of one worker, or a workflow: never a label
			}
		}
	}
	return &temporalMetrics{t.temporalSeries, labels}
}

// Counter implements client.MetricsHandler.
func (t *temporalMetrics) Counter(name string) client.MetricsCounter {
	v := series(t, t.counters, name, func() *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: counterName(name), Help: temporalHelp(name)}, temporalLabels())
	})
	return temporalCounter{v.WithLabelValues(t.labels...)}
}

// Gauge implements client.MetricsHandler.
func (t *temporalMetrics) Gauge(name string) client.MetricsGauge {
	v := series(t, t.gauges, name, func() *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: temporalHelp(name)}, temporalLabels())
	})
	return temporalGauge{v.WithLabelValues(t.labels...)}
}

// Timer implements client.MetricsHandler.
func (t *temporalMetrics) Timer(name string) client.MetricsTimer {
	v := series(t, t.histograms, name, func() *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name + "_seconds", Help: temporalHelp(name), Buckets: seconds()}, temporalLabels())
	})
	return temporalTimer{v.WithLabelValues(t.labels...)}
}

// series is the metric of that name among those met, made and registered where it is new.
func series[V prometheus.Collector](t *temporalMetrics, met map[string]V, name string, build func() V) V {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, known := met[name]
	if !known {
		v = build()
		t.registry.MustRegister(v)
		met[name] = v
	}
	return v
}

// counterName ends as a counter should, also where the SDK's name ends so already.
func counterName(name string) string { return strings.TrimSuffix(name, "_total") + "_total" }

func temporalHelp(name string) string {
	return "Of the Temporal SDK: see its documentation for " + name + "."
}

type temporalCounter struct{ prometheus.Counter }

// Inc implements client.MetricsCounter.
func (c temporalCounter) Inc(n int64) {
	if n > 0 {
		c.Add(float64(n))
	}
}

type temporalGauge struct{ prometheus.Gauge }

// Update implements client.MetricsGauge.
func (g temporalGauge) Update(v float64) { g.Set(v) }

type temporalTimer struct{ prometheus.Observer }

// Record implements client.MetricsTimer.
func (t temporalTimer) Record(d time.Duration) { t.Observe(d.Seconds()) }
