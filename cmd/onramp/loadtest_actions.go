package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// actionSpeed is how long one event takes to become an action at its receiver, one at a time.
type actionSpeed struct {
	Way  string `json:"way"`
	Took spread `json:"event_to_action_ms"`
}

// burstSpeed is what happens where many users enter a journey at the same moment.
type burstSpeed struct {
	Users     int     `json:"users"`
	Way       string  `json:"way"`
	Delivered int     `json:"delivered"` // users whose action came
	Twice     int     `json:"twice"`     // actions that came more than once, under one id
	First     float64 `json:"first_seconds"`
	Last      float64 `json:"last_seconds"`
	PerSecond float64 `json:"actions_per_second"`
	NewUsers  float64 `json:"new_users_per_second"` // between a burst over NATS and one by webhook
	Share     float64 `json:"share_of_new_users"`   // of the time that as many new users of the same round take
}

// actionBook sends every user one action, over NATS or to a webhook, the moment they ask for it.
const actionBook = `name: loadtest-actions
events: {card_wanted: {}, call_wanted: {}}
actions:
  show_card: {}
  call_user: {deliver: "webhook:loadtest"}
journeys:
  card: {enter: {on: card_wanted}, steps: [{id: show, action: show_card}]}
  call: {enter: {on: call_wanted}, steps: [{id: call, action: call_user}]}
`

// The ways of an action, each with the event that asks for it.
const (
	wayNATS    = "card_wanted"
	wayWebhook = "call_wanted"
)

// actionReceiver takes actions of both ways and notes when each user's first came.
type actionReceiver struct {
	config string // file that names it as a webhook
	server *http.Server

	mu    sync.Mutex
	came  map[string]time.Time // by user
	ids   map[string]bool
	twice int
	hint  chan struct{}
}

// startReceiver listens on loopback, and writes the file that says so.
func startReceiver(ctx context.Context, dir string) (*actionReceiver, error) {
	r := &actionReceiver{config: filepath.Join(dir, "webhooks.yaml"), hint: make(chan struct{}, 1)}
	r.reset()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for webhooks: %w", err)
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	entry := fmt.Sprintf("loadtest: {url: \"http://%s/\", secret: whsec_%s, allow_private: true}\n", listener.Addr(), base64.StdEncoding.EncodeToString(secret))
	if err := os.WriteFile(r.config, []byte(entry), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("write the receiver of webhooks: %w", err), listener.Close())
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Second}
	go r.server.Serve(listener) //nolint:errcheck // it ends with close
	return r, nil
}

func (r *actionReceiver) close() {
	r.server.Close() //nolint:errcheck // its connections are of this process
}

func (r *actionReceiver) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.came, r.ids, r.twice = make(map[string]time.Time), make(map[string]bool), 0
}

// ServeHTTP takes an action by webhook.
func (r *actionReceiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	at := time.Now()
	var body struct {
		Data schema.ActionRequest `json:"data"`
	}
	if json.NewDecoder(request.Body).Decode(&body) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.take(&body.Data, at)
}

// message takes an action over NATS.
func (r *actionReceiver) message(m *nats.Msg) {
	at := time.Now()
	var action schema.ActionRequest
	if json.Unmarshal(m.Data, &action) == nil { // what is missing in the end is reported
		r.take(&action, at)
	}
}

func (r *actionReceiver) take(action *schema.ActionRequest, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids[action.ActionID] {
		r.twice++
	}
	r.ids[action.ActionID] = true
	if _, known := r.came[action.UserID]; !known {
		r.came[action.UserID] = at
	}
	select {
	case r.hint <- struct{}{}:
	default:
	}
}

// await waits until so many users have their action, with a deadline that every action moves.
func (r *actionReceiver) await(ctx context.Context, users int) error {
	n := 0
	err := awaitProgress(ctx, r.hint, loadPatience, func() (int, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		n = len(r.came)
		return n, n >= users
	})
	if errors.Is(err, errStuck) {
		return fmt.Errorf("%d of %d users have their action: %w", n, users, err)
	}
	return err
}

// afterAction is left between an action and the next event.
const afterAction = 50 * time.Millisecond

// actions measures how long one event takes to its action while nothing else happens.
func (s *suite) actions(ctx context.Context) error {
	if err := s.publishActions(ctx); err != nil {
		return err
	}
	if _, err := s.nc.Subscribe(schema.ActionSubject("show_card"), s.hooks.message); err != nil {
		return fmt.Errorf("wait for actions: %w", err)
	}
	for _, m := range []struct {
		way, event string
		known      bool
	}{
		{"over NATS, a user who is known", wayNATS, true},
		{"over NATS, a new user", wayNATS, false},
		{"by webhook, a user who is known", wayWebhook, true},
		{"by webhook, a new user", wayWebhook, false},
	} {
		say(s.io.err, "event to action %s …\n", m.way)
		user := func(u int) string { return fmt.Sprintf("single-%s-%s-%t-%d", s.id, m.event, m.known, u) }
		if m.known {
			other := map[string]string{wayNATS: wayWebhook, wayWebhook: wayNATS}[m.event]
			if err := s.letIn(ctx, other, 0, s.sizes.actions, user); err != nil {
				return err
			}
		}
		took, err := s.oneByOne(ctx, m.event, user)
		if err != nil {
			return fmt.Errorf("event to action %s: %w", m.way, err)
		}
		s.found.Actions = append(s.found.Actions, actionSpeed{m.way, spreadOf(took)})
	}
	return nil
}

// publishActions puts actionBook in force.
func (s *suite) publishActions(ctx context.Context) error {
	_, err := s.library.Publish(ctx, playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": actionBook}})
	return err //nolint:wrapcheck // it names the playbook
}

// oneByOne sends one event at a time and waits for its action.
func (s *suite) oneByOne(ctx context.Context, event string, user func(int) string) ([]time.Duration, error) {
	took := make([]time.Duration, 0, s.sizes.actions)
	for u := range s.sizes.actions {
		s.hooks.reset()
		sent := time.Now()
		if err := publishEvent(s.js, "load-"+s.id, schema.Event{EventID: user(u) + "." + event, EventName: event, UserID: user(u)}); err != nil {
			return nil, err
		}
		if err := s.hooks.await(ctx, 1); err != nil {
			return nil, err
		}
		s.hooks.mu.Lock()
		took = append(took, s.hooks.came[user(u)].Sub(sent))
		s.hooks.mu.Unlock()
		if err := waitUntil(ctx, time.Now().Add(afterAction)); err != nil { // idle is what comes after all of the former has been recorded
			return nil, err
		}
	}
	return took, nil
}

// burstWay is how the actions of a burst travel, and the event that asks for them.
type burstWay struct{ way, event string }

func burstWays() []burstWay {
	return []burstWay{{"over NATS", wayNATS}, {"by webhook", wayWebhook}}
}

// bursts measures bursts of each size.
func (s *suite) bursts(ctx context.Context) error {
	for _, users := range s.cmd.Burst {
		if err := s.burstsOf(ctx, users); err != nil {
			return err
		}
	}
	return nil
}

// burstsOf sums up the rounds of one size.
func (s *suite) burstsOf(ctx context.Context, users int) error {
	ways := burstWays()
	rounds := make([][]burstSpeed, len(ways))
	for round := range s.cmd.Rounds {
		found, err := s.burstRound(ctx, users, round)
		if err != nil {
			return err
		}
		for i, b := range found {
			rounds[i] = append(rounds[i], b)
		}
	}
	for i, m := range ways {
		s.found.Bursts = append(s.found.Bursts, medianBurst(users, m.way, rounds[i]))
	}
	return nil
}

// burstRound has many new users enter at once, each way in turn, and measures new users between the two ways: the machine's speed moves by more within
// minutes than what is compared.
func (s *suite) burstRound(ctx context.Context, users, round int) ([]burstSpeed, error) {
	var newUsers float64
	ways := burstWays()
	found := make([]burstSpeed, len(ways))
	for i, m := range ways {
		var err error
		if i > 0 {
			if newUsers, err = s.newUsers(ctx); err != nil {
				return nil, fmt.Errorf("new users between bursts of %d: %w", users, err)
			}
		}
		say(s.io.err, "burst of %d %s …\n", users, m.way)
		if found[i], err = s.burst(ctx, m.event, users, round); err != nil {
			return nil, fmt.Errorf("burst of %d %s: %w", users, m.way, err)
		}
	}
	for i := range found {
		found[i].NewUsers, found[i].Share = newUsers, found[i].Last*newUsers/float64(users)
	}
	return found, nil
}

// newUsers measures how many new users a second are let in, as the load of that name does. It puts the loads' playbook in force for as long.
func (s *suite) newUsers(ctx context.Context) (perSecond float64, err error) {
	bundle, err := example(1)
	if err != nil {
		return 0, err
	}
	current, err := s.library.Publish(ctx, bundle)
	if err != nil {
		return 0, err
	}
	if err := s.quiet(ctx); err != nil {
		return 0, err
	}
	c := *s.cmd
	s.coldly(&c)
	c.Rounds, c.Baseline = 1, false
	say(s.io.err, "%s …\n", loadCold)
	result, err := c.rounds(ctx, s.engine, current, s.writes, s.watch, s.io)
	if err != nil {
		return 0, err
	}
	if err := result.verdict(); err != nil {
		return 0, err
	}
	return result.PerSecond, s.publishActions(ctx)
}

func (s *suite) burst(ctx context.Context, event string, users, round int) (burstSpeed, error) {
	if err := s.quiet(ctx); err != nil {
		return burstSpeed{}, err
	}
	s.hooks.reset()
	began := time.Now()
	for u := range users {
		user := fmt.Sprintf("burst-%s-%s-%d-%d-%d", s.id, event, users, round, u)
		if err := publishEvent(s.js, "load-"+s.id, schema.Event{EventID: user, EventName: event, UserID: user}); err != nil {
			return burstSpeed{}, err
		}
	}
	if err := s.hooks.await(ctx, users); err != nil {
		return burstSpeed{}, err
	}
	return s.hooks.burst(began), nil
}

// What the engine does where nothing is left to do: a part of one processor, over so long.
const (
	quietShare  = 0.1
	quietWindow = 500 * time.Millisecond
)

// quiet waits until the engine has nothing left to do: nobody pays for what another has left. Temporal and ClickHouse put a part of their work off.
func (s *suite) quiet(ctx context.Context) error {
	if err := drain(ctx, s.js); err != nil {
		return err
	}
	if err := s.calm(ctx); err != nil {
		return err
	}
	cpu, since := cpuTime(), time.Now()
	err := awaitProgress(ctx, nil, loadPatience, func() (int, bool) {
		took := time.Since(since)
		if took < quietWindow {
			return 0, false
		}
		share := (cpuTime() - cpu).Seconds() / took.Seconds()
		cpu, since = cpuTime(), time.Now()
		return 0, share < quietShare
	})
	if err != nil {
		return fmt.Errorf("wait until the engine is at rest: %w", err)
	}
	return nil
}

// medianBurst sums rounds up: medians, but for what must not happen in any.
func medianBurst(users int, way string, rounds []burstSpeed) burstSpeed {
	all := burstSpeed{Users: users, Way: way, Delivered: users}
	for _, b := range rounds {
		all.Delivered, all.Twice = min(all.Delivered, b.Delivered), all.Twice+b.Twice
	}
	all.First = medianOf(rounds, func(b burstSpeed) float64 { return b.First })
	all.Last = medianOf(rounds, func(b burstSpeed) float64 { return b.Last })
	all.PerSecond = medianOf(rounds, func(b burstSpeed) float64 { return b.PerSecond })
	all.NewUsers = medianOf(rounds, func(b burstSpeed) float64 { return b.NewUsers })
	all.Share = medianOf(rounds, func(b burstSpeed) float64 { return b.Share })
	return all
}

// burst sums up what came since began.
func (r *actionReceiver) burst(began time.Time) burstSpeed {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, last := time.Now(), began
	for _, at := range r.came {
		if at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	return burstSpeed{
		Delivered: len(r.came), Twice: r.twice, First: first.Sub(began).Seconds(), Last: last.Sub(began).Seconds(),
		PerSecond: float64(len(r.came)) / last.Sub(began).Seconds(),
	}
}
