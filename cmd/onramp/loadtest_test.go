package main

import (
	"encoding/json"
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
