package truth_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/internal/truth"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

const hour = int64(3_600_000)

func plainly(t failer, c *truth.Case) *fold {
	f := newFold(t, c, compile(t, c), func() bool { return false })
	f.run(c)
	return f
}

// TestRepeatingChangesNothing: whatever is delivered again or published again under its id leaves no mark, whenever it comes.
func TestRepeatingChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		once := truth.Cases().Draw(t, "case")
		again := once.Repeated(t)
		a, b := plainly(t, once), plainly(t, again)
		agree(t, again, "without repetitions", "with repetitions", truth.Tell(a.outcomes), truth.Tell(b.outcomes))
		a.state.Counts, b.state.Counts = journey.Counts{}, journey.Counts{}
		require.Equal(t, a.state, b.state)
	})
}

// TestOrderOfArrivalDoesNotMatter: where the same events come in late and in any order, the user ends in the same segments. Where a
// rule has no answer at the end, membership is what it was before, and may be of another time.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := truth.Orderless().Draw(t, "case")
		punctual, shuffled := c.Punctual(), c.Shuffled(t)
		a, b := plainly(t, punctual), plainly(t, shuffled)
		require.Equal(t, a.state.Playbook, b.state.Playbook)
		if a.state.Playbook == "" {
			return // nothing that is read has come
		}
		unknown := map[string]bool{}
		for _, s := range a.engine.books[a.state.Playbook].Segments {
			m, n := a.state.Members[s.Key], b.state.Members[s.Key]
			if slices.ContainsFunc(s.Rule.Segments, func(key string) bool { return unknown[key] }) || !m.Known && !n.Known {
				unknown[s.Key] = true
				continue
			}
			if m.Known != n.Known {
				t.Fatalf("%s is known: %t and %t\n%s\n%s", s.Key, m.Known, n.Known, punctual, shuffled)
			}
			if m.In != n.In {
				t.Fatalf("in %s: %t and %t\n%s\n%s", s.Key, m.In, n.In, punctual, shuffled)
			}
		}
	})
}

// TestBackfillIsAsIfItHadComeInTime: a log of the past moves the user through the same segments at the same moments.
func TestBackfillIsAsIfItHadComeInTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := truth.Rules().Draw(t, "case")
		backfilled := c.Backfilled(300 * hour)
		a, b := plainly(t, c.Punctual()), plainly(t, backfilled)
		agree(t, backfilled, "in time", "afterwards", truth.Tell(a.outcomes), truth.Tell(b.outcomes))
	})
}

// TestBackfillCausesNoActions: what was due more than 72 hours before a log of the past was received is suppressed.
func TestBackfillCausesNoActions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := truth.Cases().Draw(t, "case").Backfilled(300 * hour)
		for _, o := range plainly(t, c).outcomes {
			if o.Kind == schema.ActionDecided {
				require.GreaterOrEqual(t, o.At, c.Log[0].Received-72*hour, "%+v\n%s", o, c)
			}
		}
	})
}

// TestUnreadEventsChangeNothing: what the playbook says it does not read may as well not have come. Ingest sends it nowhere.
func TestUnreadEventsChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := truth.Cases().Draw(t, "case").Punctual()
		read := *all
		book := compile(t, all).books
		read.Log = slices.DeleteFunc(slices.Clone(all.Log), func(d truth.Delivery) bool {
			for _, p := range book {
				return !p.Reads(d.Name, len(d.Traits) > 0)
			}
			return false
		})
		if len(read.Log) == 0 {
			t.Skip("nothing is left")
		}
		agree(t, all, "all events", "those that are read", truth.Tell(plainly(t, all).outcomes), truth.Tell(plainly(t, &read).outcomes))
	})
}

// TestLateTimersChangeNothing: a worker that was away for a while catches up with the same outcomes at the same moments. Only what an
// action may still be sent for depends on when it is.
func TestLateTimersChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := truth.Cases().Draw(t, "case").Punctual()
		c.Books[0].NeverExpires()
		e := compile(t, c)
		late := newFold(t, c, e, func() bool { return false })
		for i, d := range c.Log {
			if rapid.Bool().Draw(t, "timer fires") {
				late.pass(d.At)
			}
			late.next(e.inputs[i], d.At)
		}
		late.pass(c.End)
		agree(t, c, "timers fire", "timers fire late", truth.Tell(plainly(t, c).outcomes), truth.Tell(late.outcomes))
	})
}
