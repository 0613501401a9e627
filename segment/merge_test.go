package segment_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// Merging what is kept of two logs answers every rule as the fold of the one log that both make, whichever events went into which, and
// whichever is merged into which. Left out is what TestOrderOfArrivalDoesNotMatter leaves out: what order tells.
func TestMergeIsTheFoldOfBoth(t *testing.T) {
	t.Parallel()
	book := exampleBook(t)
	var rules []*segment.Rule
	for _, source := range languageRules(t) {
		if strings.Contains(source, "changes(") {
			continue
		}
		rule, problems := book.Set.Compile(source)
		require.Empty(t, problems)
		rules = append(rules, rule)
	}
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.SampledFrom([]int{3, 12, 40, 600}).Draw(t, "most")
		events := drawLog(t, most, rapid.SampledFrom([]int{2, 30, 400}).Draw(t, "hours"))
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "who"), 3))
		var visitor, user []schema.UserEvent
		for _, e := range events {
			if random.IntN(3) == 0 {
				visitor = append(visitor, e)
			} else {
				user = append(user, e)
			}
		}
		one, left, right := fold(book.Set, events), fold(book.Set, visitor), fold(book.Set, user)
		before := state(t, left)
		segment.Merge(right, left, book.Set)
		require.Equal(t, before, state(t, left), "who is merged is not changed")
		if len(events) <= 60 {
			require.Equal(t, state(t, one), state(t, right))
		}
		other := fold(book.Set, visitor)
		segment.Merge(other, fold(book.Set, user), book.Set)
		for range 5 {
			now := epoch + rapid.Int64Range(0, 500).Draw(t, "now")*hour + rapid.Int64Range(-1, 1).Draw(t, "ms")
			for _, rule := range rules {
				if len(events) > 60 && (strings.Contains(rule.Source, "session") || strings.Contains(rule.Source, "followed_by")) {
					continue
				}
				want := rule.Eval(scope(one, now))
				for _, facts := range []*segment.Facts{right, other} {
					if got := rule.Eval(scope(facts, now)); want != got {
						t.Fatalf("%s at %d: %+v of one log, %+v merged", rule.Source, now, want, got)
					}
				}
			}
		}
	})
}

// Two sets can look through windows of different widths. What the narrower has let go is lost to the wider, which remembers from when on
// it knows all.
func TestMergeWidens(t *testing.T) {
	t.Parallel()
	narrow, wide := segment.NewSet(shop(), 1), segment.NewSet(shop(), 1)
	compile(t, narrow, `events("login").within("1d").count() > 0`)
	compile(t, wide, `events("login").within("9d").count() > 0`)
	at := func(seq uint64, hours int64) schema.UserEvent {
		return schema.UserEvent{EventID: "e", EventName: "login", Sequence: seq, OccurredAt: epoch + hours*hour, ReceivedAt: epoch + hours*hour}
	}
	old := fold(narrow, []schema.UserEvent{at(1, 0), at(2, 100)}) // the first is out of reach
	facts := fold(wide, []schema.UserEvent{at(3, 101)})
	segment.Merge(facts, old, wide, narrow)
	key := wide.Slots()[0].Key
	require.Equal(t, map[string]*segment.Series{key: {
		Count: 3, First: epoch, Last: epoch + 101*hour, Window: 9 * 24 * hour, Recent: []int64{epoch + 100*hour, epoch + 101*hour},
		Lost: epoch + 76*hour,
	}}, facts.Series)
	other := fold(narrow, []schema.UserEvent{at(3, 101)})
	segment.Merge(other, &segment.Facts{Series: map[string]*segment.Series{"nobody reads this": {Count: 1}}}, narrow)
	require.Len(t, other.Series, 1)
}
