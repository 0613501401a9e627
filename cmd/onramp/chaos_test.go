package main

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// chaosSeed is CHAOS_SEED, or one of the moment; it is printed, and repeats the schedule.
func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) % 1_000_000
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "CHAOS_SEED")
	}
	t.Logf("seed %d: CHAOS_SEED=%d repeats it", seed, seed)
	return seed
}

// chaosFull reports whether everything is to run, not only what CI has time for.
func chaosFull() bool { return os.Getenv("CHAOS") == "full" }

func chaosKills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("CHAOS_KILLS")
	if text == "" {
		return 50
	}
	kills, err := strconv.Atoi(text)
	require.NoError(t, err, "CHAOS_KILLS")
	return kills
}

// TestChaosKills kills random parts, and now and then all at once, while events come in, and wants nothing lost and nothing twice:
// 50 kills, or CHAOS_KILLS.
func TestChaosKills(t *testing.T) { //nolint:paralleltest // alone: it keeps both processors busy
	if testing.Short() {
		t.Skip("runs for minutes")
	}
	seed, kills := chaosSeed(t), chaosKills(t)
	r := newRig(t, rigConfig{seed: seed, ingests: 2, workers: 2})
	l := r.publishing(loadConfig{})
	rng := rand.New(rand.NewPCG(seed, 1))
	victims := r.victims(t)
	killed := map[string]int{}
	began := time.Now()
	for n := range kills {
		pause := time.Duration(200+rng.IntN(2600)) * time.Millisecond
		if n%8 == 7 {
			pause += 4 * time.Second // now and then it gets far enough to have much to lose
		}
		<-time.After(pause)
		some, name := victims, "all"
		if rng.IntN(12) > 0 {
			some = victims[rng.IntN(len(victims)):][:1]
			name = some[0].name
		}
		killed[name]++
		for _, p := range some {
			if p.name == "clickhouse" && rng.IntN(2) == 0 {
				p.killChildren() // its watchdog lives
				continue
			}
			p.signal(syscall.SIGKILL)
		}
	}
	t.Logf("%d kills in %s: %v; %d events acknowledged meanwhile", kills, time.Since(began).Round(time.Second), killed, l.count())
	r.awaitReady()
	l.end()
	j := r.innocent(l)
	require.Greater(t, j.acked, 10*kills, "so few events prove little")
	require.Positive(t, j.effects)
}

// victims are the parts that may be killed: all, or those whose names CHAOS_PARTS lists the beginnings of.
func (r *rig) victims(t *testing.T) []*proc {
	t.Helper()
	text := os.Getenv("CHAOS_PARTS")
	if text == "" {
		return r.parts
	}
	var some []*proc
	for prefix := range strings.SplitSeq(text, ",") {
		some = append(some, r.of(prefix)...)
	}
	require.NotEmpty(t, some, "CHAOS_PARTS")
	return some
}
