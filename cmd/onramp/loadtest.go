package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/worker"
)

type loadtestCommand struct {
	Users         int           `default:"500" help:"Users, each with the same number of events."`
	EventsPerUser int           `default:"20" help:"Measured events of each user."`
	Rate          float64       `help:"Events a second, sent whether the engine keeps up or not. Defaults to 0: a backlog, of which the engine is handed nothing until all of it is published."`
	Duration      time.Duration `help:"With --rate: how long to send and measure. It decides how many events a user has, in place of --events-per-user; one more of each ends the load unmeasured, since all of those decide something."`
	LeadIn        time.Duration `help:"With --rate: how long to send at first before anything is measured. An engine that has just been filled with users learns in the first seconds whose events may wait."`
	Duplicates    float64       `help:"Share of events that are published a second time, between 0 and 1."`
	Disorder      float64       `help:"Share of events that happened up to five minutes before they are sent, between 0 and 1."`
	Cold          bool          `help:"Users are new when the measurement begins, and their first measured event is --first. By default each has had it before, unmeasured."`
	Rounds        int           `default:"3" help:"How often baseline and engine are measured, in turn; the medians count."`
	Baseline      bool          `default:"true" negatable:"" help:"Also measure one SDK signal per event on the same Temporal."`
	Seed          uint64        `default:"1" help:"Of the choice which events come twice or late."`

	All        bool  `help:"Measure every speed that docs/performance.md speaks of, one after the other on embedded servers, and sum up; about fifty minutes. Of the other flags it takes --rounds, --seed, --json, --workflow-cache and the two that follow."`
	Population []int `default:"1000,10000" help:"With --all: how many open journeys there are when rest and one event are measured, ascending; 100000 takes half an hour more."`
	Burst      []int `default:"500,5000" help:"With --all: how many users enter a journey at the same moment."`

	First     string   `default:"signed_up" help:"Event that every user begins with."`
	Event     string   `default:"feature_used" help:"Event that most of the load is made of."`
	Milestone []string `default:"profile_completed,onboarding_completed,activated" help:"Events that decide something, spread over a user's events. The last of them is every user's last event and must lead to an outcome; with --cold and one event a user --first is all there is."`
	Playbook  string   `help:"Playbook of the embedded engine. Defaults to the example saas-onboarding."`

	NATSURL      string `name:"nats-url" help:"Measure the engine that runs on this NATS, instead of an embedded one. Never one that serves real users: their actions would be sent to users that are none."`
	NATSCreds    string `name:"nats-creds" env:"ONRAMP_NATS_CREDS" help:"File with NATS credentials."`
	WorkspaceKey string `env:"ONRAMP_WORKSPACE_KEY" help:"Secret that makes user tokens. Defaults to that of onramp dev."`

	clickhouseFlags
	temporalFlags
	workerFlags

	JSON bool `name:"json" help:"Print one JSON document."`
}

// Help is shown by onramp loadtest --help.
func (*loadtestCommand) Help() string {
	return "Examples:\n\n  onramp loadtest --users 500 --events-per-user 20\n  onramp loadtest --rate 200 --duration 30s\n" +
		"  onramp loadtest --users 1000 --events-per-user 1 --cold\n  onramp loadtest --nats-url nats://127.0.0.1:4222 --temporal-address 127.0.0.1:7233\n  onramp loadtest --all\n\n" +
		"Sends events and measures how many a second reach committed state and the archive, and how long each took to its decision and to its profile. " +
		"Latency counts from the moment an event was due, so an engine that falls behind cannot hide it. At the end every user's workflow and the archive are asked whether an event was lost or counted twice: exit code 1 where one was. " +
		"Read the ratios: the rates are this machine's."
}

// maxLoad bounds the events of one round: their moments are kept in memory.
const maxLoad = 5_000_000

// Run measures.
func (c *loadtestCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	if c.All {
		if err := c.checkAll(); err != nil {
			return err
		}
		return c.all(ctx, io, logger, allSizes())
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.NATSURL != "" {
		return c.onRunning(ctx, io, logger)
	}
	bundle, err := c.bundle()
	if err != nil {
		return err
	}
	l, err := startLocal(ctx, c.stackFlags(), "", io.err, logger)
	if err != nil {
		return err
	}
	defer l.close() //nolint:contextcheck // ctx may be over; stopping has a deadline of its own
	current, err := l.library.Publish(ctx, bundle)
	if err != nil {
		return err
	}
	return l.during(ctx, func(ctx context.Context) error { return c.measure(ctx, l.engine, current, l.writes, io) })
}

// stackFlags are those of the embedded servers and engine.
func (c *loadtestCommand) stackFlags() stackFlags {
	flags := freePorts()
	flags.workerFlags = c.workerFlags
	return flags
}

// onRunning measures an engine that others run. What its Temporal writes is not to be seen from here.
func (c *loadtestCommand) onRunning(ctx context.Context, io stdio, logger *slog.Logger) error {
	if c.Playbook != "" {
		return usagef("--playbook is for the embedded engine: put it in force on the running one with onramp apply")
	}
	e := &engine{logger: logger, servers: c.servers()}
	e.servers.NATSURL, e.servers.NATSCreds = c.NATSURL, c.NATSCreds
	e.servers.TemporalAddress, e.servers.TemporalNamespace = c.TemporalAddress, c.TemporalNamespace
	e.servers.WorkspaceKey = cmp.Or(c.WorkspaceKey, embeddedKey)
	defer e.close()
	for _, open := range []func(context.Context) error{e.connectNATS, e.dialTemporal, e.openStore, e.readLibrary} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	current, err := e.library.Current()
	if err != nil {
		return err
	}
	return c.measure(ctx, e, current, nil, io)
}

func (c *loadtestCommand) check() error {
	each := c.each()
	switch {
	case c.Users < 1 || c.Users > 1_000_000:
		return usagef("--users is %d; it must lie in 1 to 1000000", c.Users)
	case c.Rate < 0 || c.Rate > 1_000_000:
		return usagef("--rate is %g; it must lie in 0 to 1000000, and 0 means a backlog", c.Rate)
	case c.Duration < 0 || c.Duration > 0 && c.Rate == 0:
		return usagef("--duration is %s; it must be positive and needs --rate", c.Duration)
	case c.LeadIn < 0 || c.LeadIn > 0 && c.Duration == 0:
		return usagef("--lead-in is %s; it must be positive and needs --duration", c.LeadIn)
	case each < 1 || each > maxLoad/c.Users:
		return usagef("every user would have %d events; with %d users it must lie in 1 to %d: change --events-per-user, or --rate and --duration", each, c.Users, maxLoad/c.Users)
	case c.Rounds < 1 || c.Rounds > 100:
		return usagef("--rounds is %d; it must lie in 1 to 100", c.Rounds)
	case len(c.Milestone) == 0:
		return usagef("--milestone is empty; without a last event that decides something nobody can see when a user is done")
	}
	for name, share := range map[string]float64{"duplicates": c.Duplicates, "disorder": c.Disorder} {
		if !(share >= 0 && share <= 1) { // NaN too
			return usagef("--%s is %g; it must lie in 0 to 1", name, share)
		}
	}
	return nil
}

// each is the number of measured events of a user.
func (c *loadtestCommand) each() int {
	if c.Duration == 0 || c.Rate == 0 {
		return c.EventsPerUser
	}
	each := int(c.Rate*(c.LeadIn+c.Duration).Seconds()) / max(1, c.Users)
	if each > 1 {
		each++ // the last of each user is not measured
	}
	return each
}

func (c *loadtestCommand) bundle() (playbook.Bundle, error) {
	if c.Playbook == "" {
		return example(1)
	}
	b, err := checkedBundle(c.Playbook)
	if err != nil {
		return playbook.Bundle{}, err
	}
	return *b, nil
}

// checkEvents refuses events that would never reach a workflow: the test would wait for ever.
func (c *loadtestCommand) checkEvents(current worker.Current) error {
	for _, name := range slices.Concat([]string{c.First, c.Event}, c.Milestone) {
		if !current.Reads(name, false) {
			return usagef("nothing in playbook %s reads event %s: say with --first, --event and --milestone which events to send", current.Name, schema.Clean(name))
		}
	}
	return nil
}

// measure runs the rounds and prints what they showed. writes is nil where it cannot be known.
func (c *loadtestCommand) measure(ctx context.Context, e *engine, current worker.Current, writes func() int64, io stdio) error {
	watch, err := watchLoad(ctx, e.js)
	if err != nil {
		return err
	}
	defer watch.stop()
	result, err := c.rounds(ctx, e, current, writes, watch, io)
	if err != nil {
		return err
	}
	if c.JSON {
		err = writeJSON(io.out, result)
	} else {
		result.print(io)
	}
	return errors.Join(err, result.verdict())
}

// rounds measures baseline and engine in turn.
func (c *loadtestCommand) rounds(ctx context.Context, e *engine, current worker.Current, writes func() int64, watch *loadWatch, io stdio) (*loadResult, error) {
	if err := c.checkEvents(current); err != nil {
		return nil, err
	}
	result := &loadResult{Playbook: current.Name}
	run := strconv.FormatInt(time.Now().UnixMilli(), 36)
	for round := range c.Rounds {
		if c.Baseline {
			if err := c.baseline(ctx, e, writes, round, result, io); err != nil {
				return nil, err
			}
		}
		r := &loadRound{
			engine: e, writes: writes, io: io, watch: watch, label: fmt.Sprintf("round %d of %d", round+1, c.Rounds),
			load: newLoad(c.mix(), fmt.Sprintf("load-%s-%d", run, round+1), c.Seed+uint64(round)),
		}
		measured, err := r.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.label, err)
		}
		result.Rounds = append(result.Rounds, *measured)
	}
	result.sum()
	return result, nil
}

func (c *loadtestCommand) mix() mix {
	return mix{
		users: c.Users, each: c.each(), rate: c.Rate, lead: c.LeadIn, duplicates: c.Duplicates, disorder: c.Disorder, warm: !c.Cold,
		first: c.First, event: c.Event, milestones: c.Milestone,
	}
}

// baselineEvents bounds the baseline: its rate shows with fewer events than the engine's.
const baselineEvents = 4000

// baseline measures one signal per event, with as many users as the engine is measured with as far as its bound goes.
func (c *loadtestCommand) baseline(ctx context.Context, e *engine, writes func() int64, round int, result *loadResult, io stdio) error {
	say(io.err, "round %d of %d: baseline …\n", round+1, c.Rounds)
	each := min(c.each(), max(1, baselineEvents/c.Users))
	users := min(c.Users, baselineEvents/each)
	prepare := 1
	if c.Cold {
		prepare = 0
	}
	base, err := rawSignals(ctx, e.temporal, writes, users, prepare, each)
	if err != nil {
		return err
	}
	result.baselines = append(result.baselines, base.perSecond)
	result.baselineCPU = append(result.baselineCPU, base.cpu)
	result.baselineWrites = append(result.baselineWrites, base.writes)
	return nil
}
