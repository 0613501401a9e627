package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

type benchCommand struct {
	Users int  `default:"300" help:"Users of each measurement."`
	JSON  bool `name:"json" help:"Print one JSON document."`
}

// Help is shown by onramp bench --help.
func (*benchCommand) Help() string {
	return "Example: onramp bench --users 300\n\n" +
		"Measures the path on the embedded servers against bare loops of the same SDKs on the same servers in the same run. Read the ratios: the rates are this machine's."
}

// benchSource is the last token of the subject of measured events.
const benchSource = "bench"

// benchResult is one line: what was measured, its rate, the baseline's, and what it cost Temporal.
type benchResult struct {
	Name            string  `json:"name"`
	PerSecond       float64 `json:"per_second"`
	Baseline        float64 `json:"baseline_per_second"`
	Ratio           float64 `json:"ratio"`
	WritesPerEvent  float64 `json:"temporal_writes_per_event"`
	BaselineWrites  float64 `json:"baseline_temporal_writes_per_event"`
	BaselineMeaning string  `json:"baseline"`
}

type benchReport struct {
	Results   []benchResult      `json:"results"`
	LatencyMS map[string]float64 `json:"event_to_profile_ms"`
}

// Run runs the benchmark.
func (c *benchCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	if c.Users < 10 || c.Users > 10_000 {
		return usagef("--users is %d; it must lie in 10 to 10000", c.Users)
	}
	l, err := startLocal(ctx, freePorts(), "", io.err, logger)
	if err != nil {
		return err
	}
	defer l.close() //nolint:contextcheck // ctx may be over; stopping has a deadline of its own
	bundle, err := example(1)
	if err != nil {
		return err
	}
	if _, err := l.library.Publish(ctx, bundle); err != nil {
		return err
	}
	return l.during(ctx, func(ctx context.Context) error {
		report, err := c.measure(ctx, l, io)
		if err != nil {
			return err
		}
		if c.JSON {
			return writeJSON(io.out, report)
		}
		report.print(io)
		return nil
	})
}

func (r *benchReport) print(io stdio) {
	say(io.out, "%-34s %12s %12s %7s  %s\n", "", "a second", "baseline", "ratio", "Temporal writes an event (baseline)")
	for _, m := range r.Results {
		writes := ""
		if m.WritesPerEvent > 0 {
			writes = fmt.Sprintf("%.2f (%.2f)", m.WritesPerEvent, m.BaselineWrites)
		}
		say(io.out, "%-34s %12.0f %12.0f %7.2f  %s\n    baseline: %s\n", m.Name, m.PerSecond, m.Baseline, m.Ratio, writes, m.BaselineMeaning)
	}
	say(io.out, "event to profile at %d events/s: p50 %.1f ms, p99 %.1f ms\n", lightRate, r.LatencyMS["p50"], r.LatencyMS["p99"])
}

// measure runs every measurement with its baseline beside it.
func (c *benchCommand) measure(ctx context.Context, l *local, io stdio) (*benchReport, error) {
	report := &benchReport{}
	watch, err := watchProfiles(ctx, l.js)
	if err != nil {
		return nil, err
	}
	defer watch.stop()
	for _, m := range []struct {
		name     string
		prepare  int // events of each user that come before, unmeasured
		each     int // events of each user, all waiting at once
		baseline string
	}{
		{"cold users, one event each", 0, 1, "one SDK signal-with-start per event to a workflow that only counts"},
		{"warm users, one event each", 1, 1, "one SDK signal per event to a running workflow that only counts"},
		{"warm users, 20 events each", 1, 20, "one SDK signal per event to a running workflow that only counts"},
	} {
		say(io.err, "measuring: %s …\n", m.name)
		base, err := rawSignals(ctx, l.temporal, l.writes, c.Users, m.prepare, m.each)
		if err != nil {
			return nil, err
		}
		path, err := c.path(ctx, l, watch, m.name, m.prepare, m.each)
		if err != nil {
			return nil, err
		}
		report.Results = append(report.Results, benchResult{
			Name: m.name, PerSecond: path.perSecond, Baseline: base.perSecond, Ratio: path.perSecond / base.perSecond,
			WritesPerEvent: path.writes, BaselineWrites: base.writes, BaselineMeaning: m.baseline,
		})
	}
	say(io.err, "measuring: update-with-start …\n")
	for _, events := range []int{1, 20} {
		handover, err := c.handover(ctx, l, events)
		if err != nil {
			return nil, err
		}
		report.Results = append(report.Results, handover)
	}
	say(io.err, "measuring: latency …\n")
	if report.LatencyMS, err = lightLoad(ctx, l, watch); err != nil {
		return nil, err
	}
	return report, nil
}

// measured is a rate and what it cost: what Temporal wrote, and microseconds of processor, an event.
type measured struct{ perSecond, writes, cpu float64 }

// handover compares the two ways to hand a batch of so many events to a workflow, in turn; medians count.
func (c *benchCommand) handover(ctx context.Context, l *local, events int) (benchResult, error) {
	var rates, writes [2][]float64
	var ratios []float64
	for range 3 {
		for way, byUpdate := range []bool{false, true} {
			m, err := transport(ctx, l.temporal, l.writes, c.Users, events, byUpdate)
			if err != nil {
				return benchResult{}, err
			}
			rates[way], writes[way] = append(rates[way], m.perSecond), append(writes[way], m.writes)
		}
		ratios = append(ratios, rates[1][len(rates[1])-1]/rates[0][len(rates[0])-1])
	}
	return benchResult{
		Name: fmt.Sprintf("batches of %d by update-with-start", events), PerSecond: median(rates[1]), Baseline: median(rates[0]), Ratio: median(ratios),
		WritesPerEvent: median(writes[1]), BaselineWrites: median(writes[0]),
		BaselineMeaning: "the same batches by signal-with-start, to the same workflow that only counts",
	}, nil
}

// path publishes each user's events and waits until every user's profile includes the last of them.
func (c *benchCommand) path(ctx context.Context, l *local, watch *profileWatch, label string, prepare, each int) (measured, error) {
	users := make([]string, c.Users)
	for u := range users {
		users[u] = fmt.Sprintf("bench-%s-%d", label, u)
	}
	if prepare > 0 {
		if err := benchRound(ctx, l, watch, users, 0, prepare); err != nil {
			return measured{}, err
		}
	}
	before := l.writes()
	start := time.Now()
	if err := benchRound(ctx, l, watch, users, prepare, each); err != nil {
		return measured{}, err
	}
	events := float64(c.Users * each)
	return measured{perSecond: events / time.Since(start).Seconds(), writes: float64(l.writes()-before) / events}, nil
}

// benchRound sends n events of each user, numbered from first. The last of them always has an outcome, and so a profile: the
// first ever lets the user in, a later one is the way out.
func benchRound(ctx context.Context, l *local, watch *profileWatch, users []string, first, n int) error {
	last := map[int]string{0: "signed_up"}[first]
	if last == "" {
		last = "account_closed"
	}
	for _, user := range users {
		for k := range n {
			name := "feature_used"
			if k == n-1 {
				name = last
			}
			if err := publishEvent(l.js, benchSource, schema.Event{EventID: fmt.Sprintf("%s-%d", user, first+k), EventName: name, UserID: user}); err != nil {
				return err
			}
		}
	}
	for _, user := range users {
		token := schema.UserToken([]byte(l.servers.WorkspaceKey), user)
		if err := watch.await(ctx, token, fmt.Sprintf("%s-%d", user, first+n-1)); err != nil {
			return err
		}
	}
	return nil
}

// writes counts what Temporal wrote of workflows since the start.
func (l *local) writes() int64 {
	_, by := l.stack.PersistenceRequests()
	return by["UpdateWorkflowExecution"] + by["CreateWorkflowExecution"] + by["ConflictResolveWorkflowExecution"]
}

// profileWatch follows every profile and remembers when it first included an event.
type profileWatch struct {
	consume jetstream.ConsumeContext
	mu      sync.Mutex
	seen    map[string]time.Time // by token and event id
	changed chan struct{}
}

func watchProfiles(ctx context.Context, js jetstream.JetStream) (*profileWatch, error) {
	consumer, err := js.OrderedConsumer(ctx, schema.ProfilesStream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return nil, fmt.Errorf("watch profiles: %w", err)
	}
	w := &profileWatch{seen: make(map[string]time.Time), changed: make(chan struct{}, 1)}
	w.consume, err = consumer.Consume(func(message jetstream.Msg) {
		var p schema.Profile
		if json.Unmarshal(message.Data(), &p) != nil {
			return // not ours: the measurement then times out and says so
		}
		w.mu.Lock()
		w.seen[p.UserToken+" "+p.LastEvent] = time.Now()
		w.mu.Unlock()
		select {
		case w.changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, fmt.Errorf("watch profiles: %w", err)
	}
	return w, nil
}

func (w *profileWatch) stop() { w.consume.Stop() }

func (w *profileWatch) at(token, eventID string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.seen[token+" "+eventID]
	return at, ok
}

func (w *profileWatch) await(ctx context.Context, token, eventID string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		if _, ok := w.at(token, eventID); ok {
			return nil
		}
		select {
		case <-w.changed:
		case <-time.After(50 * time.Millisecond): // another waiter may have taken the hint
		case <-ctx.Done():
			return fmt.Errorf("wait for the profile of %s to include %s: %w", token, eventID, context.Cause(ctx))
		}
	}
}

// lightRate and lightEvents are the light, steady load: open loop, latency counted from the moment an event was due.
const (
	lightRate   = 50
	lightEvents = 500
)

func lightLoad(ctx context.Context, l *local, watch *profileWatch) (map[string]float64, error) {
	key := []byte(l.servers.WorkspaceKey)
	due := make([]time.Time, lightEvents)
	start := time.Now()
	for n := range due {
		due[n] = start.Add(time.Duration(n) * time.Second / lightRate)
		if err := waitUntil(ctx, due[n]); err != nil {
			return nil, err
		}
		if err := publishEvent(l.js, benchSource, schema.Event{EventID: fmt.Sprint("light-", n), EventName: "signed_up", UserID: fmt.Sprint("light-", n)}); err != nil {
			return nil, err
		}
	}
	took := make([]float64, lightEvents)
	for n := range due {
		token, id := schema.UserToken(key, fmt.Sprint("light-", n)), fmt.Sprint("light-", n)
		if err := watch.await(ctx, token, id); err != nil {
			return nil, err
		}
		at, _ := watch.at(token, id)
		took[n] = float64(at.Sub(due[n]).Microseconds()) / 1000
	}
	slices.Sort(took)
	return map[string]float64{"p50": took[lightEvents/2], "p99": took[lightEvents*99/100]}, nil
}
