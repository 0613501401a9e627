package main

import (
	"context"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// metrics are what a process tells Prometheus. No label holds anything that comes from an event: consumers, reasons, kinds and routes
// are ours; actions are the operator's, and bounded.
type metrics struct {
	registry *prometheus.Registry

	page, batch, signal, delay prometheus.Observer // of ingest
	insert, rows               *prometheus.HistogramVec
	commit, latency            prometheus.Observer
	outcomes, actions          *prometheus.CounterVec
	delivery                   *prometheus.HistogramVec
	requests                   *prometheus.HistogramVec
	tracked, exposures         *prometheus.CounterVec
	actionNames                bounded
}

// Buckets: of time for what takes milliseconds and may take minutes, of sizes in powers of four.
func seconds() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900}
}

func sizes() []float64 { return prometheus.ExponentialBuckets(1, 4, 9) } // to 65,536

// newMetrics makes the metrics of a process; each role fills its own.
func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), actionNames: bounded{most: 200}}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := m.gauge("onramp_build_info", "The program that runs: always 1.", "version", "go_version")
	build.WithLabelValues(version(), goVersion()).Set(1)
	m.page = m.histogram("onramp_ingest_page_messages", "Messages taken up together.", sizes()).WithLabelValues()
	m.batch = m.histogram("onramp_ingest_batch_events", "Events that one signal carried.", sizes()).WithLabelValues()
	m.signal = m.histogram("onramp_ingest_signal_duration_seconds", "One call to Temporal with a batch, whether it succeeded or not.", seconds()).WithLabelValues()
	m.delay = m.histogram("onramp_ingest_delay_seconds", "From the receipt of an event by its stream until its workflow has it for good.", seconds()).WithLabelValues()
	m.insert = m.histogram("onramp_sink_insert_duration_seconds", "One insert into ClickHouse, whether it succeeded or not.", seconds(), "consumer")
	m.rows = m.histogram("onramp_sink_batch_rows", "Rows of one insert that was stored.", sizes(), "consumer")
	m.commit = m.histogram("onramp_worker_commit_duration_seconds", "Recording the outcomes and the profile of one decision.", seconds()).WithLabelValues()
	m.latency = m.histogram("onramp_decision_latency_seconds", "From the receipt of an event to the record of each outcome it caused.", seconds()).WithLabelValues()
	m.outcomes = m.counter("onramp_outcomes_total", "Outcomes put on record; after a lost answer the same again.", "kind")
	m.actions = m.counter("onramp_action_attempts_total", "Attempts to deliver actions: delivered, retried, or refused for good.", "action", "result")
	m.delivery = m.histogram("onramp_action_attempt_duration_seconds", "One attempt to deliver an action.", seconds(), "via")
	m.requests = m.histogram("onramp_http_request_duration_seconds", "Answers of the HTTP API by route and status.", seconds(), "route", "code")
	m.tracked = m.counter("onramp_tracking_events_total", "Events of tracking calls: stored, duplicate, refused for their content, or deferred because the stream took no more.", "verdict")
	for _, verdict := range []string{api.VerdictStored, api.VerdictDuplicate, api.VerdictRefused, api.VerdictDeferred} {
		m.tracked.WithLabelValues(verdict)
	}
	m.exposures = m.counter("onramp_flag_exposures_total", "Users whom the flag of an experiment treated: recorded, or dropped because too many waited.", "result")
	for _, result := range []string{api.ExposureRecorded, api.ExposureDropped} {
		m.exposures.WithLabelValues(result)
	}
	for _, kind := range schema.OutcomeKinds() {
		m.outcomes.WithLabelValues(string(kind)) // a rate needs a zero to begin from
	}
	return m
}

func (m *metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(v)
	return v
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown"
}

// ingestMeters measure ingest.
func (m *metrics) ingestMeters() ingest.Meters {
	if m == nil {
		return ingest.Meters{}
	}
	return ingest.Meters{Page: m.page.Observe, Batch: m.batch.Observe, Signal: m.signal.Observe, Delay: m.delay.Observe}
}

func (m *metrics) sinkMeters() outcome.Meters {
	if m == nil {
		return outcome.Meters{}
	}
	return outcome.Meters{
		Batch:  func(consumer string, rows int) { m.rows.WithLabelValues(consumer).Observe(float64(rows)) },
		Insert: func(consumer string, took float64) { m.insert.WithLabelValues(consumer).Observe(took) },
	}
}

func (m *metrics) workerMeters() activities.Meters {
	if m == nil {
		return activities.Meters{}
	}
	return activities.Meters{
		Commit: m.commit.Observe, Latency: m.latency.Observe,
		Outcome: func(kind schema.OutcomeKind) { m.outcomes.WithLabelValues(string(kind)).Inc() },
		Action: func(action, result string) {
			m.actions.WithLabelValues(m.actionNames.name(action), result).Inc()
		},
		Deliver: func(webhook bool, took float64) {
			via := "nats"
			if webhook {
				via = "webhook"
			}
			m.delivery.WithLabelValues(via).Observe(took)
		},
	}
}

func (m *metrics) answered() func(string, int, time.Duration) {
	if m == nil {
		return nil
	}
	return func(route string, status int, took time.Duration) {
		m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
	}
}

func (m *metrics) trackedEvents() func(string, int) {
	if m == nil {
		return nil
	}
	return func(verdict string, events int) { m.tracked.WithLabelValues(verdict).Add(float64(events)) }
}

func (m *metrics) flagExposures() func(string) {
	if m == nil {
		return nil
	}
	return func(result string) { m.exposures.WithLabelValues(result).Inc() }
}

// bounded lets so many names through as they are; all others are one.
type bounded struct {
	most  int
	mu    sync.Mutex
	names map[string]bool
}

func (b *bounded) name(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.names[name] {
		return name
	}
	if len(b.names) >= b.most {
		return "other"
	}
	if b.names == nil {
		b.names = make(map[string]bool)
	}
	b.names[name] = true
	return name
}

// watch adds what is read when Prometheus asks: the counts of the roles, and where the consumers stand.
func (m *metrics) watch(e *engine) {
	if m == nil {
		return
	}
	m.registry.MustRegister(&standing{engine: e, descriptions: newDescriptions()})
}

// standing reads the counts that the roles keep, and asks JetStream where the streams and consumers stand.
type standing struct {
	*engine
	*descriptions
}

// descriptions are of what standing reads.
type descriptions struct {
	events, refused, signals, waited, retries, mailboxes, queued, inHand *prometheus.Desc
	sinkMessages, sinkRetries                                            *prometheus.Desc
	profiles, profilesReady, flagStreams                                 *prometheus.Desc
	pending, ackPending, redelivered, messages, bytes, answers           *prometheus.Desc
}

func newDescriptions() *descriptions {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &descriptions{
		events:        desc("onramp_ingest_events_total", "Events by what became of them: signaled to their workflow, skipped because no rule reads them, or dead letters.", "result"),
		refused:       desc("onramp_ingest_dead_letters_total", "Messages written to the dead letters by ingest.", "reason"),
		signals:       desc("onramp_ingest_signals_total", "Signals that Temporal took."),
		retries:       desc("onramp_ingest_signal_retries_total", "Signals that Temporal did not take and that were tried again."),
		mailboxes:     desc("onramp_ingest_mailboxes", "Users of whom something waits or is on its way."),
		waited:        desc("onramp_ingest_events_waited_total", "Events that could change nothing yet and waited for their user's next batch."),
		queued:        desc("onramp_ingest_mailbox_events", "Events that wait in mailboxes."),
		inHand:        desc("onramp_ingest_in_hand_messages", "Messages taken over from the server and not settled."),
		sinkMessages:  desc("onramp_sink_messages_total", "Messages by what became of them: stored, skipped because ingest refused them, or dead letters.", "consumer", "result"),
		sinkRetries:   desc("onramp_sink_retries_total", "Attempts that failed because a server was away.", "consumer"),
		profiles:      desc("onramp_profiles", "Users whose newest profile is in memory."),
		profilesReady: desc("onramp_profiles_ready", "1 once the profiles have been read in."),
		flagStreams:   desc("onramp_flag_streams", "Event streams that are open: clients of OpenFeature that hear of changes."),
		pending:       desc("onramp_consumer_pending_messages", "Messages that have not been handed out yet.", "stream", "consumer"),
		ackPending:    desc("onramp_consumer_ack_pending_messages", "Messages that were handed out and are not acknowledged.", "stream", "consumer"),
		redelivered:   desc("onramp_consumer_redelivered_messages", "Messages in hand that were handed out more than once.", "stream", "consumer"),
		messages:      desc("onramp_stream_messages", "Messages in a stream; those of ONRAMP_DEADLETTERS nobody has settled.", "stream"),
		bytes:         desc("onramp_stream_size_bytes", "Size of a stream.", "stream"),
		answers:       desc("onramp_jetstream_up", "1 where JetStream answered when Prometheus asked."),
	}
}

// Describe implements prometheus.Collector. It describes nothing: which series there are depends on who answers.
func (*standing) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *standing) Collect(to chan<- prometheus.Metric) {
	if s.ingest != nil {
		s.collectIngest(to)
	}
	if s.sink != nil {
		stats := s.sink.Stats()
		s.collectSink(to, schema.ArchiveConsumer, stats.Archive)
		s.collectSink(to, schema.OutcomesConsumer, stats.Outcomes)
		s.collectSink(to, schema.DeadLettersConsumer, stats.DeadLetters)
	}
	if s.mirror != nil {
		send(to, s.profiles, prometheus.GaugeValue, float64(s.mirror.Len()))
		ready := 0.0
		if s.mirror.Ready() {
			ready = 1
		}
		send(to, s.profilesReady, prometheus.GaugeValue, ready)
		open := 0
		if s.server != nil {
			open = s.server.Streams()
		}
		send(to, s.flagStreams, prometheus.GaugeValue, float64(open))
	}
	s.collectJetStream(to)
}

func send(to chan<- prometheus.Metric, desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
}

func (s *standing) collectIngest(to chan<- prometheus.Metric) {
	stats := s.ingest.Stats()
	count := func(desc *prometheus.Desc, n int64, labels ...string) {
		send(to, desc, prometheus.CounterValue, float64(n), labels...)
	}
	count(s.events, stats.Signaled, "signaled")
	count(s.events, stats.Skipped, "skipped")
	count(s.events, stats.Rejected, "dead_letter")
	count(s.signals, stats.Signals)
	count(s.waited, stats.Waited)
	count(s.retries, stats.Retries)
	for _, reason := range schema.Reasons() {
		count(s.refused, stats.RejectedBy[reason], string(reason))
	}
	send(to, s.mailboxes, prometheus.GaugeValue, float64(stats.Mailboxes))
	send(to, s.queued, prometheus.GaugeValue, float64(stats.Queued))
	send(to, s.inHand, prometheus.GaugeValue, float64(stats.InHand))
}

func (s *standing) collectSink(to chan<- prometheus.Metric, consumer string, stats outcome.ConsumerStats) {
	for result, n := range map[string]uint64{"stored": stats.Rows, "skipped": stats.Skipped, "dead_letter": stats.Refused} {
		send(to, s.sinkMessages, prometheus.CounterValue, float64(n), consumer, result)
	}
	send(to, s.sinkRetries, prometheus.CounterValue, float64(stats.Retries), consumer)
}

// scrapeTimeout bounds what is asked of JetStream while Prometheus waits.
const scrapeTimeout = 2 * time.Second

// collectJetStream asks for the streams and for the consumers that this process reads.
func (s *standing) collectJetStream(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	up := 1.0
	for _, name := range []string{schema.EventsStream, schema.OutcomesStream, schema.DeadLettersStream, schema.ActionsStream, schema.ProfilesStream, schema.IdentitiesStream} {
		stream, err := s.js.Stream(ctx, name)
		if err != nil {
			up = 0
			break // one that does not answer would not answer for the others
		}
		state := stream.CachedInfo().State
		send(to, s.messages, prometheus.GaugeValue, float64(state.Msgs), name)
		send(to, s.bytes, prometheus.GaugeValue, float64(state.Bytes), name)
	}
	for _, c := range s.consumers() {
		consumer, err := s.js.Consumer(ctx, c[0], c[1])
		if err != nil {
			up = 0
			break
		}
		s.collectConsumer(to, consumer.CachedInfo())
	}
	send(to, s.answers, prometheus.GaugeValue, up)
}

func (s *standing) collectConsumer(to chan<- prometheus.Metric, info *jetstream.ConsumerInfo) {
	send(to, s.pending, prometheus.GaugeValue, float64(info.NumPending), info.Stream, info.Name)
	send(to, s.ackPending, prometheus.GaugeValue, float64(info.NumAckPending), info.Stream, info.Name)
	send(to, s.redelivered, prometheus.GaugeValue, float64(info.NumRedelivered), info.Stream, info.Name)
}

// consumers are those that this process reads, by stream and name.
func (s *standing) consumers() [][2]string {
	var list [][2]string
	if s.ingest != nil {
		list = append(list, [2]string{schema.EventsStream, schema.IngestConsumer})
	}
	if s.sink != nil {
		list = append(list, [2]string{schema.EventsStream, schema.ArchiveConsumer}, [2]string{schema.OutcomesStream, schema.OutcomesConsumer},
			[2]string{schema.DeadLettersStream, schema.DeadLettersConsumer})
	}
	return list
}
