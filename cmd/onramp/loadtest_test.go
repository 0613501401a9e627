package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func exampleMix(users, each int) mix {
	return mix{users: users, each: each, warm: true, first: "first", event: "usual", milestones: []string{"one", "two", "last"}}
}

// TestLoadEndsWithADecision: every user has every milestone once and the deciding one last, whatever the numbers are.
func TestLoadEndsWithADecision(t *testing.T) {
	t.Parallel()
	for _, each := range []int{1, 2, 5, 6, 20, 101} {
		m := exampleMix(7, each)
		l := newLoad(m, "l", 1)
		names := make([]map[string]int, m.users)
		for n := range l.events() {
			if u := n % m.users; names[u] == nil {
				names[u] = map[string]int{}
			}
			names[n%m.users][l.name(n)]++
		}
		for u, had := range names {
			require.Equal(t, "last", l.name((each-1)*m.users+u))
			require.Equal(t, 1, had["last"], "user %d of %d events", u, each)
			if each >= 6 {
				require.Equal(t, 1, had["one"], "user %d of %d events", u, each)
				require.Equal(t, 1, had["two"], "user %d of %d events", u, each)
			}
		}
	}
}

// TestDecisionsAreSpreadEvenly: as many milestones are due at the end of a load as at its beginning, but for the last of each user.
func TestDecisionsAreSpreadEvenly(t *testing.T) {
	t.Parallel()
	for _, each := range []int{13, 20, 101} {
		l := newLoad(exampleMix(400, each), "l", 1)
		due := make([]int, each-1)
		for n := range (each - 1) * l.users {
			if l.name(n) != l.event {
				due[n/l.users]++
			}
		}
		even := 2 * l.users / (each - 1)
		for at, milestones := range due[:each-2] {
			require.InDelta(t, even, milestones, 0.2*float64(even)+1, "event %d of %d", at, each)
		}
	}
}

// TestColdLoadBeginsWithTheFirstEvent: nothing but the first event is sure to start something for a new user, so it is measured too,
// and where there is one event it is that one; milestones lose nothing by it.
func TestColdLoadBeginsWithTheFirstEvent(t *testing.T) {
	t.Parallel()
	for each, want := range map[int][]string{
		1: {"first"},
		2: {"first", "last"},
		4: {"first", "usual", "usual", "last"},
	} {
		m := exampleMix(7, each)
		m.warm = false
		l := newLoad(m, "l", 1)
		for u := range m.users {
			var had []string
			for at := range each {
				had = append(had, l.name(at*m.users+u))
			}
			require.Equal(t, want, had, "user %d", u)
		}
		require.Equal(t, want[each-1], l.deciding())
	}
	for _, each := range []int{7, 20, 101} {
		m := exampleMix(7, each)
		m.warm = false
		l := newLoad(m, "l", 1)
		for u := range m.users {
			had := make(map[string]int)
			for at := range each {
				had[l.name(at*m.users+u)]++
			}
			require.Equal(t, map[string]int{"first": 1, "one": 1, "two": 1, "last": 1, "usual": each - 4}, had, "user %d of %d events", u, each)
			require.Equal(t, "first", l.name(u))
		}
	}
}

func TestLoadIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	m := exampleMix(100, 100)
	m.duplicates, m.disorder, m.rate = 0.2, 0.1, 50
	l, again := newLoad(m, "l", 7), newLoad(m, "l", 7)
	require.Equal(t, l, again, "the same seed")
	twice, late := 0, 0
	for n := range l.events() {
		if l.twice[n] {
			twice++
		}
		if l.late[n] > 0 {
			late++
		}
		back, ours := l.number(l.eventID(n))
		require.True(t, ours)
		require.Equal(t, n, back)
	}
	require.InDelta(t, 2000, twice, 200)
	require.InDelta(t, 1000, late, 150)
	require.Equal(t, 2*time.Second, l.due(100), "an event is due by its number alone, however long those before it took")
	_, ours := l.number(l.warmID(3))
	require.False(t, ours, "what lets a user in is not measured")
}

func TestSpread(t *testing.T) {
	t.Parallel()
	took := make([]time.Duration, 1000)
	for i := range took {
		took[len(took)-1-i] = time.Duration(i) * time.Millisecond
	}
	require.Equal(t, spread{500, 990, 999, 1000}, spreadOf(took))
	require.Zero(t, spreadOf(nil))
}

func TestLoadtestMistakes(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--users", "0"},
		{"--duplicates", "1.5"},
		{"--disorder", "NaN"},
		{"--duration", "10s"},
		{"--rate", "-1"},
		{"--rounds", "0"},
		{"--rate", "1", "--duration", "1s", "--users", "10"},
		{"--nats-url", "nats://127.0.0.1:1", "--playbook", "x"},
		{"--lead-in", "1s"},
		{"--rate", "1", "--duration", "1s", "--lead-in", "-1s"},
		{"--all", "--nats-url", "nats://127.0.0.1:1"},
		{"--all", "--rate", "5"},
		{"--all", "--population", "1000,500"},
		{"--all", "--population", "5"},
		{"--all", "--population", "1000,1500"},
		{"--all", "--burst", "0"},
	} {
		r := onramp(t.Context(), append([]string{"loadtest"}, args...)...)
		require.Equal(t, exitUsage, r.code, "%v: %s", args, r.err)
	}
}

// TestLoadtest sends a load with repetitions and disorder through the whole engine: each event counts once.
func TestLoadtest(t *testing.T) {
	if testing.Short() {
		t.Skip("starts every server")
	}
	t.Parallel()
	r := onramp(t.Context(), "loadtest", "--users", "15", "--events-per-user", "8", "--duplicates", "0.3", "--disorder", "0.3", "--rounds", "1", "--json")
	require.Equal(t, exitDone, r.code, r.err)
	var got loadResult
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	require.Equal(t, 15, got.CheckedUsers)
	require.Zero(t, got.Lost)
	require.Zero(t, got.Twice)
	require.Positive(t, got.PerSecond)
	require.Positive(t, got.Baseline)
	require.Positive(t, got.Ratio)
	require.Positive(t, got.Writes)
	require.Less(t, got.Writes, got.BaseWrites, "eight events of a user that wait together cost less than eight signals")
	require.GreaterOrEqual(t, got.Decision.Of, 15, "the last event of every user decides")
	require.LessOrEqual(t, got.Decision.P50, got.Decision.P99)
	require.GreaterOrEqual(t, got.Profile.Of, 15)
}

// TestLoadtestOfNewUsers: a new user's only event is the one that lets them in.
func TestLoadtestOfNewUsers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts every server")
	}
	t.Parallel()
	r := onramp(t.Context(), "loadtest", "--users", "15", "--events-per-user", "1", "--cold", "--no-baseline", "--rounds", "1", "--json")
	require.Equal(t, exitDone, r.code, r.err)
	var got loadResult
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	require.Equal(t, 15, got.CheckedUsers)
	require.Zero(t, got.Lost)
	require.Zero(t, got.Twice)
	require.Equal(t, 15, got.Decision.Of, "every user's event decides")
}

// TestLoadtestAll measures a little of everything: the numbers mean nothing, but each is there, and nothing is lost over a restart.
func TestLoadtestAll(t *testing.T) {
	if testing.Short() {
		t.Skip("starts every server")
	}
	t.Parallel()
	var out bytes.Buffer
	c := &loadtestCommand{
		All: true, Rounds: 1, Baseline: true, Seed: 1, Population: []int{12, 24}, Burst: []int{15}, JSON: true,
		First: "signed_up", Event: "feature_used", Milestone: []string{"profile_completed", "onboarding_completed", "activated"},
	}
	require.NoError(t, c.all(t.Context(), stdio{strings.NewReader(""), &out, io.Discard}, slog.New(slog.DiscardHandler), suiteSizes{
		archive: 3000, archived: 1, users: 5, each: 8, lead: time.Second, steps: 2 * time.Second, rates: [2]float64{5, 10}, times: 2, probed: 2, idle: time.Second,
		veterans: 3, history: 8, actions: 3, cold: 15,
	}))
	var got suiteResult
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Positive(t, got.Archive.Ratio)
	require.Positive(t, got.Archive.OfByHand)
	require.Positive(t, got.Archive.OfBare)
	require.Greater(t, 1.0, got.Archive.Bound)
	require.Positive(t, got.Archive.Read)
	require.Len(t, got.Loads, 6)
	for _, l := range got.Loads {
		require.Positive(t, l.PerSecond, l.Name)
		require.Positive(t, l.Decision.Of, l.Name)
		require.Zero(t, l.Lost+l.Twice, l.Name)
	}
	require.Len(t, got.Population, 2)
	for _, p := range got.Population {
		for _, share := range []float64{p.HeapOf.Worker, p.HeapOf.InAndOut, p.HeapOf.Temporal, p.HeapOf.NATS} {
			require.Positive(t, share)
			require.Less(t, share, p.Heap)
		}
		for _, asked := range []askedSpeed{p.Lately, p.Away} {
			require.Equal(t, 6, asked.Decision.Of)
			require.Positive(t, asked.Writes)
			require.Positive(t, asked.CPU)
		}
	}
	require.Equal(t, 3, got.Misses.Warm.Of)
	require.Equal(t, 3, got.Misses.Took.Of)
	require.Greater(t, got.Misses.History, 20)
	require.Len(t, got.Actions, 4)
	for _, a := range got.Actions {
		require.Equal(t, 3, a.Took.Of, a.Way)
	}
	require.Len(t, got.Bursts, 2)
	for _, b := range got.Bursts {
		require.Equal(t, 15, b.Delivered)
		require.Positive(t, b.NewUsers)
		require.InDelta(t, b.Last*b.NewUsers/15, b.Share, 1e-9, "of one round")
	}
	require.NotEmpty(t, got.Speeds)
}
