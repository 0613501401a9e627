package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"time"

	sdkworker "go.temporal.io/sdk/worker"

	"github.com/onramphq/onramp/schema"
)

// populationSpeed is what so many open journeys cost, at rest and an event.
type populationSpeed struct {
	Users     int        `json:"users"`
	PerSecond float64    `json:"let_in_per_second"` // of those that came since the step before
	Idle      float64    `json:"idle_processors"`   // processor time a second while nothing happens, of this process: all but ClickHouse
	Heap      float64    `json:"heap_mb"`           // that lives after a sweep
	HeapOf    heapShares `json:"heap_of_mb"`
	Sweep     float64    `json:"sweep_ms"` // processor time of one
	Lately    askedSpeed `json:"of_who_came_lately"`
	Away      askedSpeed `json:"of_who_is_not_in_memory"`
}

// askedSpeed is what an event of some users costs.
type askedSpeed struct {
	CPU      float64 `json:"cpu_us_per_event"` // with its share of sweeps
	Writes   float64 `json:"temporal_transactions_per_event"`
	Decision spread  `json:"decision_ms"`
}

// missSpeed compares an event of a user whose workflow is in memory with one whose history must be read and replayed.
type missSpeed struct {
	History int     `json:"history_events"` // of a user's run, at the median
	WarmCPU float64 `json:"warm_cpu_us_per_event"`
	CPU     float64 `json:"cpu_us_per_event"`
	Warm    spread  `json:"warm_decision_ms"`
	Took    spread  `json:"decision_ms"`
}

// The rates of probes, in events a second: a fraction of what the engine can do.
const (
	probeRate = 30
	longRate  = 100 // that fills histories
	missRate  = 5
)

// resident is the name of a user of the population.
func (s *suite) resident(u int) string { return "resident-" + s.id + "-" + strconv.Itoa(u) }

// The users of a population are asked so many times, and medians count.
const probeRounds = 3

// population lets users in step by step. Each stays in a journey, and each step measures rest and one event of some of them: of those who came lately,
// who are in memory as users are who have just done something, and of any when the worker has nobody in memory.
func (s *suite) population(ctx context.Context) error {
	asked := &askedUsers{random: rand.New(rand.NewPCG(s.cmd.Seed, 1)), done: make(map[int]bool)} //nolint:gosec // a choice of users, not a secret
	have := 0
	for _, users := range s.cmd.Population {
		say(s.io.err, "population of %d …\n", users)
		began := time.Now()
		if err := s.letIn(ctx, s.cmd.First, have, users, s.resident); err != nil {
			return err
		}
		p := populationSpeed{Users: users, PerSecond: float64(users-have) / (time.Since(began) - quietRounds*quietInterval).Seconds()}
		have = users
		idle, swept, err := s.rest(ctx)
		if err != nil {
			return err
		}
		p.Idle, p.Sweep, p.Heap, p.HeapOf = idle, float64(swept.took.Microseconds())/1000, swept.left/(1<<20), heapNow()
		if p.Lately, err = s.ask(ctx, "lately", asked, max(0, users-2*probeRounds*s.sizes.probed), users, swept); err != nil {
			return err
		}
		sdkworker.PurgeStickyWorkflowCache() // meant for stopped workers, but it lets each workflow go under that one's lock, as a full cache does
		if p.Away, err = s.ask(ctx, "away", asked, 0, users, sweepNow()); err != nil {
			return err
		}
		s.found.Population = append(s.found.Population, p)
	}
	return nil
}

// ask measures an event of some of the users from first on, each of whom is asked once.
func (s *suite) ask(ctx context.Context, name string, asked *askedUsers, first, users int, swept sweep) (askedSpeed, error) {
	var cpu, writes []float64
	var took []time.Duration
	for round := range probeRounds {
		chosen := asked.choose(first, users, s.sizes.probed)
		found, err := s.probe(ctx, fmt.Sprintf("population-%d-%s-%d", users, name, round),
			mix{users: len(chosen), each: 1, rate: probeRate, first: s.cmd.Milestone[0], event: s.cmd.Event, milestones: s.cmd.Milestone, had: 1},
			func(u int) string { return s.resident(chosen[u]) })
		if err != nil {
			return askedSpeed{}, err
		}
		// A sweep comes whenever so much was made, in relation to what lives. Its cost is shared out: of so few events one would count for more
		// than they, and none for nothing.
		share := found.Allocated/swept.left/growth() - float64(found.Sweeps)/float64(found.Events)
		cpu, writes, took = append(cpu, found.CPU+share*float64(swept.took.Microseconds())), append(writes, found.Writes), append(took, found.decision...)
	}
	return askedSpeed{CPU: median(cpu), Writes: median(writes), Decision: spreadOf(took)}, nil
}

// askedUsers are those who were asked already: the same event decides nothing the second time.
type askedUsers struct {
	random *rand.Rand
	done   map[int]bool
}

// choose returns n users who were not asked yet, those from first on before all others.
func (a *askedUsers) choose(first, users, n int) (chosen []int) {
	candidates := a.random.Perm(users)
	for _, wanted := range []bool{true, false} {
		for _, u := range candidates {
			if (u >= first) == wanted && !a.done[u] && len(chosen) < n {
				a.done[u] = true
				chosen = append(chosen, u)
			}
		}
	}
	return chosen
}

// empty measures rest where there is nobody.
func (s *suite) empty(ctx context.Context) (err error) {
	say(s.io.err, "at rest, without a user …\n")
	s.found.Rest, _, err = s.rest(ctx)
	return err
}

// collectedEvery is how often the runtime looks for garbage where nobody makes any.
const collectedEvery = 2 * time.Minute

// rest measures what nothing costs, in processors, once the servers and the runtime have tidied up after what was. The runtime would take
// minutes to give memory back bit by bit: it does so at once. For two minutes JetStream forgets ids of messages, some forty times a second, for as
// long as it knows any; that is waited for. The runtime's look at all that lives, every two minutes, is measured by itself and shared out.
func (s *suite) rest(ctx context.Context) (processors float64, swept sweep, err error) {
	debug.FreeOSMemory()
	if err := waitUntil(ctx, time.Now().Add(s.sizes.settle)); err != nil {
		return 0, swept, err
	}
	cpu, rested := cpuTime(), time.Now()
	if err := waitUntil(ctx, rested.Add(s.sizes.idle)); err != nil {
		return 0, swept, err
	}
	quiet := (cpuTime() - cpu).Seconds() / time.Since(rested).Seconds()
	swept = sweepNow()
	return quiet + swept.took.Seconds()/collectedEvery.Seconds(), swept, nil
}

// veteran is the name of a user with a long history.
func (s *suite) veteran(u int) string { return "veteran-" + s.id + "-" + strconv.Itoa(u) }

// fillHistories gives users a history as long as a run's gets, and measures an event of each while they are in memory.
func (s *suite) fillHistories(ctx context.Context) error {
	say(s.io.err, "users with a long history …\n")
	if err := s.letIn(ctx, s.cmd.First, 0, s.sizes.veterans, s.veteran); err != nil {
		return err
	}
	long := mix{users: s.sizes.veterans, each: s.sizes.history, rate: longRate, prompt: true, had: 1, first: s.cmd.Event, event: s.cmd.Event, milestones: s.cmd.Milestone[:1]}
	if _, err := s.probe(ctx, "history", long, s.veteran); err != nil {
		return err
	}
	var lengths []float64
	for u := range s.sizes.veterans {
		id := schema.WorkflowID(schema.UserToken([]byte(s.servers.WorkspaceKey), s.veteran(u)))
		description, err := s.temporal.DescribeWorkflowExecution(ctx, id, "")
		if err != nil {
			return fmt.Errorf("look at workflow %s: %w", id, err)
		}
		lengths = append(lengths, float64(description.GetWorkflowExecutionInfo().GetHistoryLength()))
	}
	s.found.Misses.History = int(median(lengths))
	warm, err := s.veterans(ctx, "in-memory", s.cmd.Milestone[1], 1+s.sizes.history)
	if err != nil {
		return err
	}
	s.found.Misses.WarmCPU, s.found.Misses.Warm = warm.CPU, spreadOf(warm.decision)
	return nil
}

// misses measures the same when nothing is in memory.
func (s *suite) misses(ctx context.Context) error {
	say(s.io.err, "cache misses …\n")
	cold, err := s.veterans(ctx, "cache-miss", s.cmd.Milestone[2], 2+s.sizes.history)
	if err != nil {
		return err
	}
	s.found.Misses.CPU, s.found.Misses.Took = cold.CPU, spreadOf(cold.decision)
	return nil
}

func (s *suite) veterans(ctx context.Context, label, event string, had int) (*measuredRound, error) {
	return s.probe(ctx, label, mix{users: s.sizes.veterans, each: 1, rate: missRate, prompt: true, had: had, first: event, event: s.cmd.Event, milestones: s.cmd.Milestone}, s.veteran)
}
