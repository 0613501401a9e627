package journey_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// readers is how many segments of a benchmark's playbook read the event that comes, however many there are.
const readers = 8

// many is a playbook of n segments, readers of which read the event hot: plain counts, windows, sums, sequences.
func many(n int) string {
	var b strings.Builder
	b.WriteString("name: bench\nevents: {hot: {properties: {total: number}}, cold: {properties: {total: number}}}\nsegments:\n")
	rules := []string{
		`events(%q).count() >= %d`, `events(%q).within("7d").count() >= %d`, `events(%q).sum(e.total) > %d.0`,
		`events(%q).where(e.total > 5.0).within_days(3).count() > %d`, `events(%q).days() == %d`,
		`events(%q).since_last() >= duration("%dh")`, `events(%q).max(e.total) >= %d.0`, `events(%q).sessions("1h") >= %d`,
	}
	for i := range n {
		event := "cold"
		if i%(n/readers) == 0 && i/(n/readers) < readers {
			event = "hot"
		}
		fmt.Fprintf(&b, "  s%d: {when: '"+rules[i/max(1, n/readers)%len(rules)]+"'}\n", i, event, 1+i%60)
	}
	return b.String()
}

// hot is an event that comes a minute after the one before.
func hot(seq uint64) *schema.UserEvent {
	at := t0 + int64(seq)*60_000
	return &schema.UserEvent{
		EventID: fmt.Sprint("e", seq), EventName: "hot", Sequence: seq, OccurredAt: at, ReceivedAt: at, Lateness: schema.OnTime,
		Properties: json.RawMessage(`{"total": 7.5}`),
	}
}

// bench folds events into one user's state.
type bench struct {
	books books
	hash  string
	state journey.State
	seq   uint64
}

func newBench(b *testing.B, segments int) *bench {
	b.Helper()
	all, hash := compile(b, many(segments))
	return &bench{books: all, hash: hash, state: journey.State{Token: "u_bench"}}
}

func (x *bench) fold() {
	x.seq++
	event := hot(x.seq)
	x.state, _ = journey.Next(x.books, x.state, journey.Input{Event: event, Playbook: x.hash, Revision: 1}, event.ReceivedAt)
}

// scope is what the engine asks a rule about.
func (x *bench) scope() segment.Scope {
	return segment.Scope{
		Facts: &x.state.Facts, Now: x.state.Clock,
		InSegment: func(key string) bool { return x.state.Members[key].In },
	}
}

// BenchmarkSegments folds events that 8 of the segments read. What an event costs must follow the readers, not the segments: ratio is
// how many times longer it takes to ask every rule as well.
func BenchmarkSegments(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("segments=%d", n), func(b *testing.B) {
			x := newBench(b, n)
			for range 1000 {
				x.fold()
			}
			for b.Loop() {
				x.fold()
			}
			perEvent := float64(b.Elapsed()) / float64(b.N)
			book := x.books[x.hash]
			fold, ask := best(x.fold), best(func() { askAll(book, x.scope()) })
			b.ReportMetric(1e9/perEvent, "events/s")
			b.ReportMetric(readers*1e9/perEvent, "rules/s")
			b.ReportMetric(float64(fold+ask)/float64(fold), "ratio")
		})
	}
}

// best is the least time that a call took, of many: other programs on the machine can only add to it.
func best(call func()) time.Duration {
	least := time.Duration(math.MaxInt64)
	for range 500 {
		began := time.Now()
		call()
		least = min(least, time.Since(began))
	}
	return least
}

func askAll(book *playbook.Playbook, scope segment.Scope) {
	for i := range book.Segments {
		book.Segments[i].Rule.Eval(scope)
	}
}

// BenchmarkPast folds an event for users with more and more events behind them: neither time nor state grows with the past.
func BenchmarkPast(b *testing.B) {
	x := newBench(b, 100)
	for _, past := range []uint64{100, 1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("past=%d", past), func(b *testing.B) {
			if testing.Short() && past > 10_000 {
				b.Skip("takes a while to make")
			}
			for x.seq < past {
				x.fold()
			}
			raw, err := json.Marshal(x.state)
			require.NoError(b, err)
			for b.Loop() {
				x.fold()
			}
			b.ReportMetric(1e9*float64(b.N)/float64(b.Elapsed()), "events/s")
			b.ReportMetric(float64(len(raw)), "state-bytes")
		})
	}
}
