package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// errStuck is returned where nothing has moved for loadPatience.
var errStuck = errors.New("nothing has moved for two minutes")

const loadPatience = 2 * time.Minute

// loadRound is one measurement.
type loadRound struct {
	*engine

	load   *load
	watch  *loadWatch
	writes func() int64 // nil: not to be known
	label  string
	io     stdio

	start  time.Time
	sender lateness
}

// lateness tells how far the load generator itself fell behind: latency counts it, and so it must be seen.
type lateness struct{ most time.Duration }

// measuredRound is what a round showed.
type measuredRound struct {
	Events    int     `json:"events"`
	Seconds   float64 `json:"seconds"` // to the last profile and the last archived row
	PerSecond float64 `json:"events_per_second"`
	Decided   float64 `json:"decided_per_second"`  // to the last profile
	Archived  float64 `json:"archived_per_second"` // to the last row
	LagMost   int     `json:"ingest_lag_max"`      // events that ingest had not settled
	Behind    float64 `json:"sender_behind_ms"`    // how late the load itself was sent, at most
	Writes    float64 `json:"temporal_transactions_per_event"`
	CPU       float64 `json:"cpu_us_per_event"`          // of this process: with the embedded engine all but ClickHouse
	Allocated float64 `json:"allocated_bytes_per_event"` // memory that was made, likewise
	Sweeps    uint64  `json:"collections"`               // of the runtime, whose cost is in CPU

	decision, profile []time.Duration
	checked           checked
}

// run lets the users in, sends the load, waits until all of it has arrived, and counts.
func (r *loadRound) run(ctx context.Context) (*measuredRound, error) {
	if err := r.warm(ctx); err != nil {
		return nil, err
	}
	from, to := r.load.measured()
	first := from // of the events that are sent while all is measured
	var err error
	if r.load.rate == 0 {
		first = to - 1
		err = r.pileUp(ctx, first)
	} else {
		r.start = time.Now()
		err = r.send(ctx, 0, from)
	}
	if err != nil {
		return nil, err
	}
	lag := make(chan int, 1)
	lagCtx, stopLag := context.WithCancel(ctx)
	defer stopLag()
	go func() { lag <- r.followLag(lagCtx) }()
	before, writes, began := usageNow(), r.written(), time.Now()
	if r.load.rate == 0 {
		r.start = began
		if err := r.resume(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.send(ctx, first, to); err != nil { // of a backlog the last event: a server whose consumer goes on looks when one comes
		return nil, err
	}
	steadily, writesThen := usageNow(), r.written()
	if err := r.send(ctx, to, r.load.events()); err != nil {
		return nil, err
	}
	archived, err := r.arrive(ctx)
	if err != nil {
		return nil, err
	}
	stopLag()
	if to == r.load.events() { // what was sent is done when all has arrived
		steadily, writesThen = usageNow(), r.written()
	}
	m := r.rates(began, archived)
	m.LagMost = <-lag
	if r.writes != nil {
		m.CPU = float64((steadily.cpu - before.cpu).Microseconds()) / float64(to-from)
		m.Allocated, m.Sweeps = float64(steadily.allocated-before.allocated)/float64(to-from), steadily.sweeps-before.sweeps
		m.Writes = float64(writesThen-writes) / float64(to-from)
	}
	m.decision, m.profile = r.watch.latencies(r.start)
	m.checked, err = r.verify(ctx)
	return m, err
}

// rates of what was sent since began, of which the last row was archived then.
func (r *loadRound) rates(began, archived time.Time) *measuredRound {
	from, to := r.load.measured()
	sent := float64(r.load.events() - from)
	decided, stored := r.watch.lastShown().Sub(began).Seconds(), archived.Sub(began).Seconds()
	took := max(decided, stored)
	return &measuredRound{
		Events: to - from, Seconds: took, PerSecond: sent / took, Decided: sent / decided, Archived: sent / stored,
		Behind: float64(r.sender.most.Microseconds()) / 1000,
	}
}

// written is how often Temporal has written of workflows; 0 where that is not to be known.
func (r *loadRound) written() int64 {
	if r.writes == nil {
		return 0
	}
	return r.writes()
}

func (r *loadRound) source() string { return r.load.id }

// warm lets every user in, and waits until all are.
func (r *loadRound) warm(ctx context.Context) error {
	r.watch.begin(r.load)
	if !r.load.warm {
		return nil
	}
	say(r.io.err, "%s: letting %d users in …\n", r.label, r.load.users)
	for u := range r.load.users {
		e := schema.Event{EventID: r.load.warmID(u), EventName: r.load.first, UserID: r.load.user(u)}
		if err := r.publish(ctx, e, ""); err != nil {
			return err
		}
	}
	err := r.watch.await(ctx, loadPatience, func() (int, bool) {
		n := r.watch.letIn()
		return n, n == r.load.users
	})
	if errors.Is(err, errStuck) {
		return fmt.Errorf("%d of %d users have a profile after event %s: %w. Is the engine running, and does the event lead to an outcome?", r.watch.letIn(), r.load.users, r.load.first, err)
	}
	if err != nil {
		return err
	}
	return drain(ctx, r.js) // actions of the users let in are not part of what is measured
}

// pausedConsumers are those whose readers a backlog waits for.
func pausedConsumers() []string { return []string{schema.IngestConsumer, schema.ArchiveConsumer} }

// pileUp publishes the first n events of the load while nobody is handed any of it.
func (r *loadRound) pileUp(ctx context.Context, n int) error {
	for _, name := range pausedConsumers() {
		if err := r.pause(ctx, name); err != nil {
			return errors.Join(fmt.Errorf("pause consumer %s: %w", name, err), r.resume(context.WithoutCancel(ctx)))
		}
	}
	if err := r.send(ctx, 0, n); err != nil {
		return errors.Join(err, r.resume(context.WithoutCancel(ctx)))
	}
	return nil
}

// pause has a consumer hand out nothing for a while; should this process die, it goes on by itself then. An engine that has just been started may
// not have made it yet.
func (r *loadRound) pause(ctx context.Context, name string) error {
	for deadline := time.Now().Add(loadPatience); ; {
		_, err := r.js.PauseConsumer(ctx, schema.EventsStream, name, time.Now().Add(loadPatience))
		if err == nil || !errors.Is(err, jetstream.ErrConsumerNotFound) || time.Now().After(deadline) {
			return err
		}
		if err := waitUntil(ctx, time.Now().Add(20*time.Millisecond)); err != nil {
			return err
		}
	}
}

// resume lets the readers have what piled up.
func (r *loadRound) resume(ctx context.Context) error {
	var problems []error
	for _, name := range pausedConsumers() {
		if _, err := r.js.ResumeConsumer(ctx, schema.EventsStream, name); err != nil {
			problems = append(problems, fmt.Errorf("resume consumer %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

// send publishes the events from one number up to another when each is due, whether the engine keeps up or not.
func (r *loadRound) send(ctx context.Context, from, to int) error {
	show := newLive(r.io.err, r.label+": sending", to)
	defer show.done()
	for n := from; n < to; n++ {
		if r.load.rate > 0 {
			due := r.start.Add(r.load.due(n))
			if err := waitUntil(ctx, due); err != nil {
				return err
			}
			r.sender.most = max(r.sender.most, time.Since(due))
		}
		event := r.load.message(n, time.Now())
		if err := r.publish(ctx, event, ""); err != nil {
			return err
		}
		if r.load.twice[n] {
			if err := r.publish(ctx, event, "#again"); err != nil { // under another message id: the stream alone must not sort it out
				return err
			}
		}
		if n%100 == 0 {
			show.show(n)
		}
	}
	select {
	case <-r.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *loadRound) publish(ctx context.Context, e schema.Event, again string) error {
	message, err := eventMessage(r.source(), e)
	if err != nil {
		return err
	}
	message.Header.Set(jetstream.MsgIDHeader, e.EventID+again)
	if r.load.prompt {
		message.Header.Set(schema.HeaderPrompt, "1")
	}
	if _, err := r.js.PublishMsgAsync(message, jetstream.WithStallWait(loadPatience)); err != nil {
		return fmt.Errorf("publish event %s: %w", e.EventID, err)
	}
	return ctx.Err()
}

// arrive waits until the last event of every user stands in a profile and the archive has every row. It returns when the archive
// was seen to be complete.
func (r *loadRound) arrive(ctx context.Context) (archived time.Time, err error) {
	stream, err := r.js.Stream(ctx, schema.EventsStream)
	if err != nil {
		return archived, fmt.Errorf("look at stream %s: %w", schema.EventsStream, err)
	}
	last := stream.CachedInfo().State.LastSeq
	show := newLive(r.io.err, r.label+": users done", r.load.users)
	defer show.done()
	err = r.watch.await(ctx, loadPatience, func() (int, bool) {
		users, missing := r.watch.finished()
		show.show(users)
		if archived.IsZero() {
			if consumer, e := r.js.Consumer(ctx, schema.EventsStream, schema.ArchiveConsumer); e == nil && consumer.CachedInfo().AckFloor.Stream >= last {
				archived = time.Now()
			}
		}
		return users, missing == "" && !archived.IsZero()
	})
	if errors.Is(err, errStuck) {
		users, missing := r.watch.finished()
		return archived, fmt.Errorf("%d of %d users are done, %s is not, and the archive is complete: %t: %w. Does event %s always lead to an outcome?",
			users, r.load.users, missing, !archived.IsZero(), err, r.load.deciding())
	}
	return archived, err
}

// followLag returns the most events that ingest had not settled, as looked at ten times a second.
func (r *loadRound) followLag(ctx context.Context) int {
	most := 0
	for next := time.Now(); waitUntil(ctx, next) == nil; next = next.Add(100 * time.Millisecond) {
		consumer, err := r.js.Consumer(ctx, schema.EventsStream, schema.IngestConsumer)
		if err != nil {
			continue // looked at again
		}
		info := consumer.CachedInfo()
		most = max(most, int(info.NumPending)+info.NumAckPending) //nolint:gosec // a count of messages
	}
	return most
}

// checked is what the end check found.
type checked struct{ users, lost, twice int }

// checkedUsers bounds how many workflows are asked: each answer costs a task.
const checkedUsers = 1000

// verify asks workflows how many events each has counted, and the archive how many it holds.
func (r *loadRound) verify(ctx context.Context) (checked, error) {
	var c checked
	want := int64(r.load.each + r.load.had)
	archived := r.load.events()
	if r.load.warm {
		want++
		archived += r.load.users
	}
	step := max(1, r.load.users/checkedUsers)
	for u := 0; u < r.load.users; u += step {
		token := schema.UserToken([]byte(r.servers.WorkspaceKey), r.load.user(u))
		value, err := r.temporal.QueryWorkflow(ctx, schema.WorkflowID(token), "", workflows.StateQueryName)
		if err != nil {
			return c, fmt.Errorf("ask the workflow of %s: %w", token, err)
		}
		var state journey.State
		if err := value.Get(&state); err != nil {
			return c, fmt.Errorf("read the state of %s: %w", token, err)
		}
		c.users++
		c.lost += int(max(0, want-state.Counts.Applied))
		c.twice += int(max(0, state.Counts.Applied-want))
	}
	var rows uint64
	if err := r.store.Conn().QueryRow(ctx, `SELECT uniqExact(event_id) FROM events WHERE source = ?`, r.source()).Scan(&rows); err != nil {
		return c, fmt.Errorf("count archived rows: %w", err)
	}
	c.lost += max(0, archived-int(rows))
	c.twice += max(0, int(rows)-archived)
	return c, nil
}
