package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

// loadWatch sees when the events of a round led to a decision, and when a profile first included them.
type loadWatch struct {
	consumes []jetstream.ConsumeContext

	mu      sync.Mutex
	load    *load
	decided []time.Time // by event: the first outcome it caused
	shown   []time.Time // by event: the first profile that includes it
	covered []int       // by user: how many of their events a profile includes
	warmed  map[string]bool
	done    int // users whose profile includes their last event
	changed chan struct{}
}

// watchLoad follows outcomes and profiles from now on.
func watchLoad(ctx context.Context, js jetstream.JetStream) (*loadWatch, error) {
	w := &loadWatch{changed: make(chan struct{}, 1)}
	for _, s := range []struct {
		stream string
		see    func([]byte, time.Time)
	}{{schema.OutcomesStream, w.outcome}, {schema.ProfilesStream, w.profile}} {
		consumer, err := js.OrderedConsumer(ctx, s.stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
		if err != nil {
			w.stop()
			return nil, fmt.Errorf("watch %s: %w", s.stream, err)
		}
		consume, err := consumer.Consume(func(m jetstream.Msg) { s.see(m.Data(), time.Now()) })
		if err != nil {
			w.stop()
			return nil, fmt.Errorf("watch %s: %w", s.stream, err)
		}
		w.consumes = append(w.consumes, consume)
	}
	return w, nil
}

func (w *loadWatch) stop() {
	for _, c := range w.consumes {
		c.Stop()
	}
}

// begin watches for the events of l.
func (w *loadWatch) begin(l *load) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.load, w.done, w.warmed = l, 0, make(map[string]bool)
	w.decided, w.shown = make([]time.Time, l.events()), make([]time.Time, l.events())
	w.covered = make([]int, l.users)
}

func (w *loadWatch) outcome(raw []byte, at time.Time) {
	var o struct {
		Cause string `json:"cause_event_id"`
	}
	if json.Unmarshal(raw, &o) != nil {
		return // not ours: what is missing in the end is reported
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.load == nil {
		return
	}
	if n, ours := w.load.number(o.Cause); ours && w.decided[n].IsZero() {
		w.decided[n] = at
	}
}

func (w *loadWatch) profile(raw []byte, at time.Time) {
	var p struct {
		LastEvent string `json:"last_event_id"`
	}
	if json.Unmarshal(raw, &p) != nil {
		return // as in outcome
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.load == nil {
		return
	}
	defer w.hint()
	n, ours := w.load.number(p.LastEvent)
	if !ours {
		w.warmed[p.LastEvent] = true
		return
	}
	user, at1 := n%w.load.users, n/w.load.users
	for k := w.covered[user]; k <= at1; k++ {
		w.shown[k*w.load.users+user] = at
	}
	if at1 == w.load.each-1 && w.covered[user] < w.load.each {
		w.done++
	}
	w.covered[user] = max(w.covered[user], at1+1)
}

func (w *loadWatch) hint() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// finished says how many users are done, and who the first is that is not; an empty name where all are.
func (w *loadWatch) finished() (int, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for u, n := range w.covered {
		if n < w.load.each {
			return w.done, w.load.user(u)
		}
	}
	return w.done, ""
}

// letIn says how many users have a profile from before the measurement.
func (w *loadWatch) letIn() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for u := range w.load.users {
		if w.warmed[w.load.warmID(u)] {
			n++
		}
	}
	return n
}

// lastShown is when the last profile came that included something new.
func (w *loadWatch) lastShown() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last time.Time
	for _, at := range w.shown {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// latencies of the events that led to a decision, from the moment each was due.
func (w *loadWatch) latencies(start time.Time) (decision, profile []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from, to := w.load.measured()
	for n := from; n < to; n++ {
		at := w.decided[n]
		if at.IsZero() {
			continue
		}
		due := start.Add(w.load.due(n))
		decision = append(decision, at.Sub(due))
		if shown := w.shown[n]; !shown.IsZero() {
			profile = append(profile, shown.Sub(due))
		}
	}
	return decision, profile
}

// await waits until met, which what the watch sees may change.
func (w *loadWatch) await(ctx context.Context, patience time.Duration, met func() (progress int, done bool)) error {
	return awaitProgress(ctx, w.changed, patience, met)
}

// awaitProgress waits until met, with a deadline that every progress moves. It looks when changed says so, and now and then.
func awaitProgress(ctx context.Context, changed <-chan struct{}, patience time.Duration, met func() (progress int, done bool)) error {
	last, deadline := -1, time.Now().Add(patience)
	for {
		progress, done := met()
		if done {
			return nil
		}
		if progress != last {
			last, deadline = progress, time.Now().Add(patience)
		}
		if time.Now().After(deadline) {
			return errStuck
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond): // what is waited for may be seen elsewhere
		}
	}
}
