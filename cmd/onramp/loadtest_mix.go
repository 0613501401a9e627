package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/schema"
)

// mix says what a load is made of.
type mix struct {
	users, each          int
	rate                 float64       // events a second; 0: all at once
	lead                 time.Duration // at that rate, sent before anything is measured
	duplicates, disorder float64
	warm                 bool // users have their first event before the measurement
	prompt               bool // none of them may wait for another
	had                  int  // events that each user has sent before
	first, event         string
	milestones           []string
}

// load is the events of one round. Event n belongs to user n mod users, so users take turns as in life.
type load struct {
	mix

	id    string
	named func(u int) string // nil: users have names of their own
	twice []bool
	late  []time.Duration // how long before it is sent an event happened
}

// latest bounds how long an event of a disordered load is late.
const latest = 5 * time.Minute

func newLoad(m mix, id string, seed uint64) *load {
	l := &load{mix: m, id: id, twice: make([]bool, m.users*m.each), late: make([]time.Duration, m.users*m.each)}
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a load, not a secret
	for n := range l.twice {
		l.twice[n] = random.Float64() < m.duplicates
		if random.Float64() < m.disorder {
			l.late[n] = time.Duration(random.Int64N(int64(latest)))
		}
	}
	return l
}

func (l *load) events() int { return l.users * l.each }

// due is when event n is to be sent, after the start.
func (l *load) due(n int) time.Duration {
	if l.rate == 0 {
		return 0
	}
	return time.Duration(float64(n) / l.rate * float64(time.Second))
}

// measured is which events are: of a rate not those of the lead-in, and not the last of each user, which all decide something.
func (l *load) measured() (from, to int) {
	if l.rate == 0 || l.each == 1 {
		return 0, l.events()
	}
	to = l.events() - l.users
	return min(int(l.rate*l.lead.Seconds()), to-1), to
}

func (l *load) user(u int) string {
	if l.named != nil {
		return l.named(u)
	}
	return l.id + "-" + strconv.Itoa(u)
}

func (l *load) eventID(n int) string { return l.id + "." + strconv.Itoa(n) }

// warmID is the id of the event by which a user was let in before the measurement.
func (l *load) warmID(u int) string { return l.id + ".warm" + strconv.Itoa(u) }

// number is the inverse of eventID; false for an event that is not of the measured load.
func (l *load) number(id string) (int, bool) {
	rest, ours := strings.CutPrefix(id, l.id+".")
	if !ours {
		return 0, false
	}
	n, err := strconv.Atoi(rest)
	return n, err == nil && n >= 0 && n < l.events()
}

// name is what event n is: a new user begins with the first event, the last event is the last milestone, and the others stand at
// even distances between. Users are shifted against each other, so that milestones do not come all at once. Where a new user has
// one event alone, it is the first: a milestone of somebody who never began decides nothing.
func (l *load) name(n int) string {
	user, at, each := n%l.users, n/l.users, l.each
	if !l.warm {
		if at == 0 {
			return l.first
		}
		at, each = at-1, each-1
	}
	last := len(l.milestones) - 1
	if at == each-1 {
		return l.milestones[last]
	}
	gap := (each - 1) / max(1, last)
	if gap < 2 {
		return l.event
	}
	if k := (at - user%gap) / gap; at >= user%gap && (at-user%gap)%gap == 0 && k < last {
		return l.milestones[k]
	}
	return l.event
}

// deciding is the name of every user's last event, which shows that the user is done.
func (l *load) deciding() string { return l.name(l.events() - 1) }

// message makes event n as a service would publish it at a moment.
func (l *load) message(n int, now time.Time) schema.Event {
	e := schema.Event{EventID: l.eventID(n), EventName: l.name(n), UserID: l.user(n % l.users)}
	if l.late[n] > 0 {
		e.OccurredAt = now.Add(-l.late[n]).UTC()
	}
	return e
}

// spread is the quantiles of a latency in milliseconds.
type spread struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Of   int     `json:"of"` // how many were measured
}

// spreadOf takes the quantiles by nearest rank, over every round: a slow round must not vanish in a median.
func spreadOf(took []time.Duration) spread {
	if len(took) == 0 {
		return spread{}
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[min(len(took)-1, int(q*float64(len(took))))].Microseconds()) / 1000
	}
	return spread{at(0.5), at(0.99), at(0.999), len(took)}
}

func (s spread) String() string {
	if s.Of == 0 {
		return "none measured"
	}
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, of %d", s.P50, s.P99, s.P999, s.Of)
}

func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// medianOf is the median of a value of each.
func medianOf[T any](all []T, value func(T) float64) float64 {
	values := make([]float64, len(all))
	for i, one := range all {
		values[i] = value(one)
	}
	return median(values)
}
