package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	sdkworker "go.temporal.io/sdk/worker"

	"github.com/onramphq/onramp/schema"
)

// suite is `onramp loadtest --all`: every speed that docs/performance.md speaks of, one after the other on the same servers, each with
// its baseline beside it.
type suite struct {
	cmd    *loadtestCommand
	io     stdio
	logger *slog.Logger
	hooks  *actionReceiver
	sizes  suiteSizes
	id     string // tells the users of this run from those of another

	*local
	watch *loadWatch
	found suiteResult
}

// suiteSizes are how much of everything a suite measures.
type suiteSizes struct {
	archive     int           // rows, each time
	archived    int           // times: each takes seconds, and they differ
	users, each int           // of the backlog, three times what ingest has in hand: a shorter one tells of the start alone; three times as many users have the other loads
	cold        int           // new users: many, or what Temporal and ClickHouse put off would not be in their rate
	lead, steps time.Duration // of the steady rates
	rates       [2]float64
	times       int           // each load that is brief or steady, at least: single standstills of the machine would decide of one
	probed      int           // users of a population who are asked for one event, each time
	settle      time.Duration // from the last load to the measurement of rest
	idle        time.Duration // that measurement
	veterans    int           // users with a long history
	history     int           // events of each
	actions     int           // one after the other, each way
}

func allSizes() suiteSizes {
	return suiteSizes{
		archive: 200_000, archived: 7, users: 200, each: 300, cold: 2000, lead: 10 * time.Second, steps: 20 * time.Second, rates: [2]float64{50, 200}, times: 3,
		probed: 150, settle: collectedEvery + 10*time.Second, idle: time.Minute, veterans: 40, history: 54, actions: 200,
	}
}

// suiteResult is what a suite found.
type suiteResult struct {
	Machine    string            `json:"machine"`
	Archive    archiveSpeed      `json:"archive"`
	Loads      []namedLoad       `json:"loads"`
	Rest       float64           `json:"rest_processors"` // of an engine without a user
	Population []populationSpeed `json:"population"`
	Misses     missSpeed         `json:"cache_misses"`
	Actions    []actionSpeed     `json:"actions"`
	Bursts     []burstSpeed      `json:"bursts"`
	Speeds     []speed           `json:"speeds"`
}

// namedLoad is the result of one load of the suite.
type namedLoad struct {
	Name string `json:"name"`

	loadResult
}

// speed is a line of the summary.
type speed struct {
	Name string `json:"name"`
	Got  string `json:"got"`
	Goal string `json:"goal"`
	Met  bool   `json:"met"`
}

// checkAll refuses what --all decides itself.
func (c *loadtestCommand) checkAll() error {
	switch {
	case c.NATSURL != "":
		return usagef("--all restarts the engine and switches its playbook, so it runs on embedded servers alone: leave out --nats-url")
	case c.Playbook != "" || c.Rate != 0 || c.Cold || c.Duplicates != 0 || c.Disorder != 0 || !c.Baseline:
		return usagef("--all chooses its loads itself: of the other flags it takes --rounds, --seed, --population, --burst, --workflow-cache and --json")
	case c.Rounds < 1 || c.Rounds > 100:
		return usagef("--rounds is %d; it must lie in 1 to 100", c.Rounds)
	case len(c.Population) == 0 || !slices.IsSorted(c.Population) || c.Population[0] < asksEachStep():
		return usagef("--population is %v; it must be ascending numbers of users, the first at least %d", c.Population, asksEachStep())
	case c.crowded():
		return usagef("--population is %v; there must be %d users more at each step", c.Population, asksEachStep())
	case len(c.Burst) == 0 || slices.Min(c.Burst) < 1:
		return usagef("--burst is %v; it must be positive numbers of users", c.Burst)
	}
	return nil
}

// asksEachStep is how many users of a population are asked for an event at each step.
func asksEachStep() int { return 2 * probeRounds * allSizes().probed }

// crowded reports whether a step of the population has too few users for each to be asked once.
func (c *loadtestCommand) crowded() bool {
	for i, users := range c.Population {
		if users < (i+1)*asksEachStep() {
			return true
		}
	}
	return false
}

// all measures everything.
func (c *loadtestCommand) all(ctx context.Context, io stdio, logger *slog.Logger, size suiteSizes) (err error) {
	dir, err := os.MkdirTemp("", "onramp-loadtest-")
	if err != nil {
		return fmt.Errorf("make a folder for the servers: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	hooks, err := startReceiver(ctx, dir)
	if err != nil {
		return err
	}
	defer hooks.close()
	s := &suite{cmd: c, sizes: size, io: io, logger: logger, hooks: hooks, id: strconv.FormatInt(time.Now().UnixMilli(), 36)}
	s.found.Machine = fmt.Sprintf("%d processors, %s, %s/%s", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	type measures = []func(context.Context) error
	for _, part := range []struct {
		folder          string
		before, measure measures
	}{
		{"journeys", nil, measures{s.empty, s.population, s.fillHistories}}, // first: what is left of an engine that was stopped would count as rest
		{"journeys", nil, measures{s.misses}},
		{"loads", measures{s.archive}, measures{s.loads, s.actions, s.bursts}},
	} {
		if err := s.session(ctx, filepath.Join(dir, part.folder), part.before, part.measure); err != nil {
			return err
		}
		say(io.err, "the engine and its servers stop …\n")
	}
	s.found.Speeds = s.speeds()
	if c.JSON {
		return writeJSON(io.out, &s.found)
	}
	s.print()
	return nil
}

// session starts servers on a folder, does what comes before, starts the engine, measures, and stops them all.
func (s *suite) session(ctx context.Context, dir string, before, measure []func(context.Context) error) error {
	flags := s.cmd.stackFlags()
	flags.Webhooks = s.hooks.config
	l, err := startLocal(ctx, flags, dir, s.io.err, s.logger)
	if err != nil {
		return err
	}
	defer sdkworker.PurgeStickyWorkflowCache() // it is of the process: what is measured next would bear what is left of this
	defer l.close()                            //nolint:contextcheck // ctx may be over; stopping has a deadline of its own
	s.local = l
	bundle, err := example(1)
	if err != nil {
		return err
	}
	if _, err := l.library.Publish(ctx, bundle); err != nil {
		return err
	}
	for _, b := range before {
		if err := b(ctx); err != nil {
			return err
		}
	}
	if s.watch, err = watchLoad(ctx, l.js); err != nil {
		return err
	}
	defer s.watch.stop()
	return l.during(ctx, func(ctx context.Context) error {
		for _, m := range measure {
			if err := m(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// The loads of the suite by name.
const (
	loadBacklog = "backlog"
	loadTwenty  = "backlog of 20 each"
	loadOneEach = "one event each"
	loadCold    = "new users"
	loadSteady  = "a steady rate"
	loadBusy    = "a busy rate"
)

// loads measures the mixes, each as a call of loadtest would.
func (s *suite) loads(ctx context.Context) error {
	current, err := s.library.Current()
	if err != nil {
		return err
	}
	for _, load := range []struct {
		name   string
		change func(*loadtestCommand)
	}{
		{loadBacklog, func(c *loadtestCommand) { s.briefly(c, s.sizes.users, s.sizes.each) }},
		{loadTwenty, func(c *loadtestCommand) { s.briefly(c, 3*s.sizes.users, 20) }},
		{loadOneEach, func(c *loadtestCommand) { s.briefly(c, 3*s.sizes.users, 1) }},
		{loadCold, s.coldly},
		{loadSteady, func(c *loadtestCommand) { s.steady(c, s.sizes.rates[0]) }},
		{loadBusy, func(c *loadtestCommand) { s.steady(c, s.sizes.rates[1]) }},
	} {
		c := *s.cmd
		load.change(&c)
		say(s.io.err, "%s …\n", load.name)
		result, err := c.rounds(ctx, s.engine, current, s.writes, s.watch, s.io)
		if err != nil {
			return fmt.Errorf("%s: %w", load.name, err)
		}
		s.found.Loads = append(s.found.Loads, namedLoad{load.name, *result})
		if err := result.verdict(); err != nil {
			return fmt.Errorf("%s: %w", load.name, err)
		}
	}
	return nil
}

// briefly makes a load that takes seconds, and so do its baselines.
func (s *suite) briefly(c *loadtestCommand, users, each int) {
	c.Users, c.EventsPerUser, c.Rounds = users, each, max(c.Rounds, s.sizes.times)
}

// coldly makes a load of new users.
func (s *suite) coldly(c *loadtestCommand) {
	c.Users, c.EventsPerUser, c.Cold = s.sizes.cold, 1, true
}

// steady makes a load of a rate, at which each user has an event every two seconds. It has no baseline: what it costs is held against that of
// one event each.
func (s *suite) steady(c *loadtestCommand, rate float64) {
	c.Users, c.Rate, c.LeadIn, c.Duration, c.Rounds, c.Baseline = int(2*rate), rate, s.sizes.lead, s.sizes.steps, max(c.Rounds, s.sizes.times), false
}

// load returns the result of a load that was measured.
func (r *suiteResult) load(name string) *loadResult {
	at := slices.IndexFunc(r.Loads, func(l namedLoad) bool { return l.Name == name })
	return &r.Loads[at].loadResult
}

// speeds sums up what was found, beside what is aimed at.
func (s *suite) speeds() []speed {
	r := &s.found
	backlog, twenty, each, cold, steady, busy := r.load(loadBacklog), r.load(loadTwenty), r.load(loadOneEach), r.load(loadCold), r.load(loadSteady), r.load(loadBusy)
	rate := func(l *loadResult) string {
		return fmt.Sprintf("%.0f /s, %.2f of the baseline's %.0f", l.PerSecond, l.Ratio, l.Baseline)
	}
	lines := []speed{
		{fmt.Sprintf("warm users, %d events each waiting", s.sizes.each), rate(backlog), "10 times, 8,000 /s", backlog.Ratio >= 10 && backlog.PerSecond >= 8000},
		{"warm users, 20 events each waiting", rate(twenty), "", true},
		{"warm users, one event each", rate(each), "0.80", each.Ratio >= 0.8},
		{"new users, one event each", rate(cold), "0.80", cold.Ratio >= 0.8},
		{
			fmt.Sprintf("%g events/s of %g users", s.sizes.rates[0], 2*s.sizes.rates[0]), fmt.Sprintf("%.2f transactions an event, naive %.2f", steady.Writes, each.BaseWrites),
			"half of the naive path's", steady.Writes <= each.BaseWrites/2,
		},
		{"  event to profile", steady.Profile.String(), "p99 100 ms", steady.Profile.P99 < 100},
		{
			fmt.Sprintf("%g events/s of %g users", s.sizes.rates[1], 2*s.sizes.rates[1]), fmt.Sprintf("%.2f transactions an event, naive %.2f", busy.Writes, each.BaseWrites),
			"half of the naive path's", busy.Writes <= each.BaseWrites/2,
		},
		{"  event to profile", busy.Profile.String(), "p99 100 ms", busy.Profile.P99 < 100},
		{"archive, of events in hand", fmt.Sprintf("%.0f rows/s, %.2f of bare clickhouse-go's %.0f", r.Archive.InHand, r.Archive.Ratio, r.Archive.Bare), "0.70", r.Archive.Ratio >= 0.7},
		{
			"archive, from the stream", fmt.Sprintf("%.0f rows/s, %.2f of the bare libraries' %.0f; %.2f of the bare insert, which bare reading, %.0f /s, bounds at %.2f",
				r.Archive.Sink, r.Archive.OfByHand, r.Archive.ByHand, r.Archive.OfBare, r.Archive.Read, r.Archive.Bound),
			"0.70 of the bare libraries", r.Archive.OfByHand >= 0.7,
		},
	}
	for _, a := range r.Actions {
		lines = append(lines, speed{"event to action, idle: " + a.Way, a.Took.String(), "p99 100 ms", a.Took.P99 < 100})
	}
	for _, b := range r.Bursts {
		lines = append(lines, speed{
			fmt.Sprintf("burst of %d users, %s", b.Users, b.Way),
			fmt.Sprintf("last action after %.1f s, %.2f of what as many new users take at %.0f /s; %.0f actions/s, %d twice", b.Last, b.Share, b.NewUsers, b.PerSecond, b.Twice),
			"1 of that time", b.Share <= 1 && b.Delivered == b.Users,
		})
	}
	first := r.Population[0]
	for _, p := range r.Population {
		lines = append(lines,
			p.rest(r.Rest),
			speed{
				fmt.Sprintf("%d open journeys, memory", p.Users),
				fmt.Sprintf("%.0f MB of heap: worker %.0f, API %.0f, ingest and sink %.0f, embedded Temporal %.0f, embedded NATS %.0f, other %.0f",
					p.Heap, p.HeapOf.Worker, p.HeapOf.API, p.HeapOf.InAndOut, p.HeapOf.Temporal, p.HeapOf.NATS, p.HeapOf.Other), "", true,
			},
			p.event("an event of who came lately", p.Lately, first.Lately), p.event("an event of who is not in memory", p.Away, first.Away))
	}
	m := r.Misses
	return append(lines, speed{
		fmt.Sprintf("a user who is not in memory, %d events of history", m.History),
		fmt.Sprintf("%.1f ms of processor time, in memory %.1f; p50 %.1f ms, in memory %.1f", m.CPU/1000, m.WarmCPU/1000, m.Took.P50, m.Warm.P50),
		"15 times at most", m.Took.P50 <= 15*m.Warm.P50,
	})
}

// restedUsers are so many that rest has a goal. With more there is more in memory, which the runtime looks at.
const restedUsers = 10_000

func (p *populationSpeed) rest(without float64) speed {
	found := speed{
		fmt.Sprintf("%d open journeys, at rest", p.Users),
		fmt.Sprintf("%.2f %% of a processor, %.2f of it the runtime's collections; without them %.2f %%", 100*p.Idle, 100*p.Sweep/1000/collectedEvery.Seconds(), 100*without),
		"", true,
	}
	if p.Users <= restedUsers {
		found.Goal, found.Met = "less than 1 % for them", p.Idle < without+0.01
	}
	return found
}

func (p *populationSpeed) event(name string, a, first askedSpeed) speed {
	return speed{
		fmt.Sprintf("%d open journeys, %s", p.Users, name),
		fmt.Sprintf("%.1f ms of processor time, %.2f transactions, p50 %.1f ms, p99 %.1f ms", a.CPU/1000, a.Writes, a.Decision.P50, a.Decision.P99),
		"flat", a.CPU <= 1.25*first.CPU,
	}
}

func (s *suite) print() {
	say(s.io.out, "%s\n\n", s.found.Machine)
	for _, l := range s.found.Speeds {
		goal := ""
		switch {
		case l.Goal == "":
		case l.Met:
			goal = "met: " + l.Goal
		default:
			goal = "NOT MET: " + l.Goal
		}
		say(s.io.out, "%-52s %s\n%-52s   %s\n", l.Name, l.Got, "", goal)
	}
}

// probe measures one event of each of so many users who are there already, at a rate, and what it cost.
func (s *suite) probe(ctx context.Context, label string, m mix, user func(int) string) (*measuredRound, error) {
	r := &loadRound{engine: s.engine, writes: s.writes, io: s.io, watch: s.watch, label: label}
	r.load = newLoad(m, fmt.Sprintf("load-%s-%s", s.id, label), s.cmd.Seed)
	r.load.named = user
	found, err := r.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, err)
	}
	if found.checked.lost+found.checked.twice > 0 {
		return nil, fmt.Errorf("%s: %d events lost, %d counted twice", label, found.checked.lost, found.checked.twice)
	}
	return found, nil
}

// portion is how many users are let in before the next are.
const portion = 5000

// letIn publishes an event of each of so many users and waits until the engine is at rest.
func (s *suite) letIn(ctx context.Context, event string, from, to int, user func(int) string) error {
	show := newLive(s.io.err, "letting users in", to-from)
	defer show.done()
	for u := from; u < to; u++ {
		if err := publishEvent(s.js, "load-"+s.id, schema.Event{EventID: user(u) + "." + event, EventName: event, UserID: user(u)}); err != nil {
			return err
		}
		if done := u + 1 - from; done%portion == 0 || u == to-1 {
			if err := drain(ctx, s.js); err != nil {
				return err
			}
			show.show(done)
		}
	}
	return nil
}
