package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// ordeal is one way in which things go wrong. It begins with a load that runs; what it does ends with everything healed.
type ordeal struct {
	name  string
	short bool // CI runs it too
	load  loadConfig
	do    func(s *stage)
}

// stage is what a scenario plays on.
type stage struct {
	*rig

	t    *testing.T
	load *traffic
	rng  *rand.Rand
}

// lasting is how long a fault lasts: minutes, or what CI has time for.
func lasting(short, full time.Duration) time.Duration {
	if chaosFull() {
		return full
	}
	return short
}

// for a while, the load goes on.
func (s *stage) pass(d time.Duration) { <-time.After(d) }

// weather changes that of every link, or of one server's.
func (s *stage) weather(w testenv.Weather, servers ...string) {
	for name, proxy := range s.proxies {
		if len(servers) == 0 || slices.Contains(servers, name) {
			proxy.Set(w)
		}
	}
}

// away kills a server and keeps it down.
func (s *stage) away(name string, d time.Duration) {
	p := s.part(name)
	p.hold()
	p.signal(syscall.SIGKILL)
	s.pass(d)
	p.release()
}

// roles are the engine's own processes.
func (s *stage) roles() []*proc {
	return slices.Concat(s.of("ingest"), s.of("worker"), s.of("sink"))
}

func ordeals() []ordeal {
	return []ordeal{
		{name: "answers are lost", short: true, do: func(s *stage) {
			s.weather(testenv.Weather{LoseAnswer: 60})
			s.pass(lasting(6*time.Second, time.Minute))
			lost := 0
			for _, proxy := range s.proxies {
				lost += proxy.Lost()
			}
			require.Positive(s.t, lost, "no answer was lost")
			s.t.Logf("%d answers were lost", lost)
		}},
		{name: "NATS is away", short: true, do: func(s *stage) { s.away("nats", lasting(8*time.Second, 2*time.Minute)) }},
		{name: "zombies come back", short: true, do: func(s *stage) {
			// Longer than the leases of ingest and sink, than AckWait, and than a workflow task: others take over what the sleepers hold.
			some := []*proc{s.part("ingest-0"), s.part("worker-0"), s.part("sink-0")}
			for _, p := range some {
				p.signal(syscall.SIGSTOP)
			}
			s.pass(lasting(12*time.Second, 40*time.Second))
			for _, p := range some {
				p.signal(syscall.SIGCONT)
			}
		}},
		{name: "links are slow", do: func(s *stage) {
			for _, server := range []string{"nats", "temporal", "clickhouse"} {
				s.weather(testenv.Weather{Latency: 200 * time.Millisecond, Jitter: 100 * time.Millisecond}, server)
				s.pass(15 * time.Second)
				s.weather(testenv.Weather{Latency: 2 * time.Second}, server)
				s.pass(15 * time.Second)
				s.weather(testenv.Weather{}, server)
			}
		}},
		{name: "links are half open", do: func(s *stage) {
			for _, server := range []string{"nats", "temporal", "clickhouse"} {
				s.weather(testenv.Weather{HalfOpen: true}, server)
				s.pass(30 * time.Second)
				s.weather(testenv.Weather{}, server)
			}
		}},
		{name: "links flap", do: func(s *stage) {
			for n := range 60 {
				s.weather(testenv.Weather{Cut: n%2 == 0})
				s.pass(time.Second)
			}
		}},
		{name: "Temporal is away", do: func(s *stage) { s.away("temporal", 2*time.Minute) }},
		{name: "ClickHouse is away", do: func(s *stage) { s.away("clickhouse", 2*time.Minute) }},
		{name: "SIGTERM under load, and workers change one after the other", do: func(s *stage) {
			for range 5 {
				for _, p := range s.roles() {
					starts, began := p.started(), time.Now()
					p.signal(syscall.SIGTERM)
					eventually(s.t, 30*time.Second, p.name+" is replaced", func() bool { return p.started() > starts })
					require.Less(s.t, time.Since(began), 10*time.Second, "%s took long to end", p.name)
					s.pass(500 * time.Millisecond)
				}
			}
		}},
		{name: "killed while it starts", do: func(s *stage) {
			for range 20 {
				p := s.roles()[s.rng.IntN(len(s.roles()))]
				for range 3 {
					p.signal(syscall.SIGKILL)
					s.pass(time.Duration(s.rng.IntN(2000)) * time.Millisecond)
				}
			}
		}},
		{name: "everything is killed at once", do: func(s *stage) {
			for range 20 {
				s.pass(time.Duration(2000+s.rng.IntN(4000)) * time.Millisecond)
				for _, p := range s.parts {
					p.signal(syscall.SIGKILL)
				}
			}
		}},
		{name: "everything is published again, in any order", do: func(s *stage) {
			s.load.until(1500)
			s.load.end()
			s.load.mu.Lock()
			var bodies [][]byte
			for _, e := range s.load.events {
				for range 1 + s.rng.IntN(3) {
					bodies = append(bodies, e.body)
				}
			}
			s.load.mu.Unlock()
			s.rng.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
			for _, raw := range bodies {
				_, err := s.js.Publish(s.t.Context(), schema.EventSubject("again"), raw)
				require.NoError(s.t, err)
			}
			s.t.Logf("%d events published again", len(bodies))
		}},
		{
			name: "one hot user among others", load: loadConfig{rate: 400, only: func(n int) (string, string) {
				if n%10 == 0 {
					return "used", fmt.Sprint("cool-", n%7)
				}
				return []string{"used", "paid", "signed_up", "used", "finished"}[n%5], "hot"
			}},
			do: func(s *stage) {
				eventually(s.t, 5*time.Minute, "20,000 events", func() bool { return s.load.count() > 22_000 })
			},
		},
	}
}

// started is how often the part was started.
func (p *proc) started() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// TestChaosScenarios plays one fault after the other on one engine, and judges it after each. CI plays the short ones, CHAOS=full all;
// -run TestChaosScenarios/NATS plays one.
func TestChaosScenarios(t *testing.T) { //nolint:paralleltest // alone: it keeps both processors busy
	if testing.Short() {
		t.Skip("runs for minutes")
	}
	seed := chaosSeed(t)
	r := newRig(t, rigConfig{seed: seed, ingests: 2, workers: 2, proxied: true})
	for i, one := range ordeals() { //nolint:paralleltest // one after the other
		if !one.short && !chaosFull() {
			continue
		}
		t.Run(one.name, func(t *testing.T) {
			r.t = t
			s := &stage{rig: r, t: t, load: r.publishing(one.load), rng: rand.New(rand.NewPCG(seed, uint64(1000+i)))}
			s.pass(time.Second)
			one.do(s)
			s.weather(testenv.Weather{})
			r.awaitServers()
			r.awaitReady()
			s.pass(time.Second)
			s.load.end()
			r.innocent(s.load)
		})
	}
	r.t = t
}

// TestChaosDiskFull fills NATS's disk: publishers are refused, nothing that was acknowledged is lost, and with more room it goes on.
func TestChaosDiskFull(t *testing.T) { //nolint:paralleltest // alone: it keeps both processors busy
	if !chaosFull() {
		t.Skip("CHAOS=full: mounts a file system of its own")
	}
	disk := t.TempDir()
	mount := func(options string) error {
		return exec.CommandContext(context.WithoutCancel(t.Context()), "mount", "-t", "tmpfs", "-o", options, "tmpfs", disk).Run()
	}
	if err := mount("size=24m"); err != nil {
		t.Skipf("this machine lets nobody mount a small disk here: %v", err)
	}
	t.Cleanup(func() {
		require.NoError(t, exec.CommandContext(context.WithoutCancel(t.Context()), "umount", "-l", disk).Run())
	})
	r := newRig(t, rigConfig{seed: chaosSeed(t), natsDir: filepath.Join(disk, "nats")})
	l := r.publishing(loadConfig{})
	l.until(300)
	ballast := make([]byte, 512<<10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	for err == nil { // a service's own stream fills the disk
		_, err = r.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "BALLAST", Subjects: []string{"ballast"}})
		if err == nil {
			_, err = r.js.Publish(ctx, "ballast", ballast, jetstream.WithRetryAttempts(0))
		}
	}
	t.Logf("the disk is full: %v", err)
	full := l.count()
	<-time.After(10 * time.Second)
	t.Logf("%d events acknowledged since", l.count()-full)
	require.NoError(t, mount("remount,size=256m"))
	r.part("nats").signal(syscall.SIGKILL)
	l.until(l.count() + 200)
	l.end()
	r.awaitReady()
	r.innocent(l)
}

// TestChaosFlood sends many signals while runs continue as new after a few events each: none is lost and none livelocks.
func TestChaosFlood(t *testing.T) { //nolint:paralleltest // alone: it keeps both processors busy
	if !chaosFull() {
		t.Skip("CHAOS=full: builds the program with short histories")
	}
	r := newRig(t, rigConfig{seed: chaosSeed(t), binary: buildWith(t, []change{shortHistories}, nil), workers: 2})
	r.receiver.slow = 500 * time.Millisecond
	l := r.publishing(loadConfig{users: 8, rate: 200})
	l.until(6000)
	l.end()
	r.innocent(l)
}
