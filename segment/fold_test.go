package segment_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// languageRules are all rules of the reference's tables.
func languageRules(tb testing.TB) []string {
	tb.Helper()
	text := language(tb)
	var rules []string
	for _, heading := range []string{"Functions", "Operators"} {
		for _, row := range tableOf(tb, section(tb, text, heading)) {
			rules = append(rules, strings.Trim(row[0], "`"))
		}
	}
	return rules
}

// drawLog draws a log of the examples' events within so many hours.
func drawLog(t *rapid.T, most, hours int) []schema.UserEvent {
	n := rapid.IntRange(0, most).Draw(t, "events")
	seed := rapid.Uint64().Draw(t, "seed") // one draw an event would be too slow
	return randomLog(rand.New(rand.NewPCG(seed, 1)), n, hours)
}

func randomLog(random *rand.Rand, n, hours int) []schema.UserEvent {
	events := make([]schema.UserEvent, n)
	for i := range events {
		at := epoch + random.Int64N(int64(hours)*4)*hour/4 // on quarter hours: many meet
		e := schema.UserEvent{EventID: strconv.Itoa(i), Sequence: uint64(i + 1), OccurredAt: at, ReceivedAt: at}
		switch random.IntN(5) {
		case 0:
			e.EventName = "a"
		case 1:
			e.EventName = "b"
		case 2:
			e.EventName = "traits"
			e.Traits = fmt.Appendf(nil, `{"plan":%q,"score_churn":%g,"trial_ends":%q}`, []string{"free", "pro", "team"}[random.IntN(3)], random.Float64(),
				time.UnixMilli(epoch+random.Int64N(48)*hour).UTC().Format(time.RFC3339))
		default:
			e.EventName = "order"
			e.Properties = fmt.Appendf(nil, `{"order_id":"o%d","total":%g,"items":%d}`, random.IntN(200), float64(random.IntN(4000))/100-5, random.IntN(5))
		}
		events[i] = e
	}
	return events
}

func fold(set *segment.Set, events []schema.UserEvent) *segment.Facts {
	var facts segment.Facts
	for i := range events {
		set.Apply(&facts, &events[i], segment.Done{})
	}
	return &facts
}

// The order in which events arrive never changes an answer. Three things are told by order and left out: the changes of a trait are
// those that were seen; days() counts an event on the day that it was where the user then lived; and what is told of a pair or of
// sessions, of which more have been kept apart than there is room for, depends on what had to be forgotten first.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
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
		shuffled := slices.Clone(events)
		seed := rapid.Uint64().Draw(t, "order")
		rand.New(rand.NewPCG(seed, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		one, other := fold(book.Set, events), fold(book.Set, shuffled)
		if len(events) <= 60 {
			require.Equal(t, state(t, one), state(t, other))
		}
		for range 5 {
			now := epoch + rapid.Int64Range(0, 500).Draw(t, "now")*hour + rapid.Int64Range(-1, 1).Draw(t, "ms")
			for _, rule := range rules {
				if len(events) > 60 && (strings.Contains(rule.Source, "session") || strings.Contains(rule.Source, "followed_by")) {
					continue
				}
				want, got := rule.Eval(scope(one, now)), rule.Eval(scope(other, now))
				if want != got {
					t.Fatalf("%s at %d: %+v in order, %+v shuffled", rule.Source, now, want, got)
				}
			}
		}
	})
}

// state is what a user's workflow stores, but for the changes, which order tells.
func state(tb require.TestingT, facts *segment.Facts) string {
	raw, err := json.Marshal(facts)
	require.NoError(tb, err)
	return string(raw)
}

// bulky are rules whose slots keep the most.
func bulky() map[string][]string {
	return map[string][]string{
		"count, first, last, since, did, time_to": {
			`events("order").where(e.total > 1.0).count() > 1`, `events("order").where(e.items > 1).first() < events("order").where(e.items > 1).last()`,
			`events("a").where(true).since_last() > duration("1d")`, `did("b")`, `time_to("b") > duration("1d")`,
		},
		"sum, min, max, avg": {
			`events("order").sum(e.total) > 1.0`, `events("order").min(e.items) > 1`, `events("order").where(e.items > 1).max(e.total) > 1.0`,
			`events("order").avg(e.total) > 1.0`,
		},
		"any window": {
			`events("order").within("700d").count() > 1`, `events("order").within_days(366).sum(e.total) > 1.0`, `events("a").within("700d").count() > 1`,
		},
		"`followed_by`": {`events("a").followed_by(events("b"), "1s")`, `events("a").not_followed_by(events("order"), "1s")`},
		"`distinct`":    {`events("order").distinct(e.order_id) > 1`, `events("order").within("7d").distinct(e.total) > 1`},
		"`days`":        {`events("order").days() > 1`, `events().within_days(366).days() > 1`},
		"sessions":      {`events().sessions("1s") > 1`, `events().longest_session("1h") > duration("2h")`, `events().session_length("20m") > duration("2h")`},
	}
}

// However much happens, a slot stays within its bound, and the bound is not far from what can happen.
func TestSlotsAreBounded(t *testing.T) {
	t.Parallel()
	book := exampleBook(t)
	set := segment.NewSet(book.Plan, 1)
	for _, rules := range bulky() {
		for _, rule := range rules {
			_, problems := set.Compile(rule)
			require.Empty(t, problems)
		}
	}
	largest := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		extreme := rapid.Bool().Draw(t, "extreme")
		var facts segment.Facts
		at := epoch
		for i := range 1500 {
			at += random.Int64N(rapid.SampledFrom([]int64{2, 3_600_000, 50_000_000}).Draw(t, "step")) + 1
			e := schema.UserEvent{EventName: []string{"order", "order", "a"}[random.IntN(3)], OccurredAt: at - random.Int64N(40*hour), Sequence: uint64(i)}
			total := random.Float64() * 1000
			if extreme {
				total = random.Float64()*2e13 - 1e13
			}
			e.Properties = fmt.Appendf(nil, `{"order_id":"%d","total":%f,"items":%d}`, random.IntN(1000), total, random.Int64()-1<<62)
			set.Apply(&facts, &e, segment.Done{})
		}
		raw, err := json.Marshal(&facts)
		require.NoError(t, err)
		require.LessOrEqual(t, len(raw), set.MaxBytes())
		for _, slot := range set.Slots() {
			raw, err := json.Marshal(map[string]*segment.Series{slot.Key: facts.Series[slot.Key]})
			require.NoError(t, err)
			largest[slot.Key] = max(largest[slot.Key], len(raw))
			require.LessOrEqual(t, len(raw), slot.MaxBytes(), "%s %s: %s", slot.Event, slot.Property, raw)
		}
	})
	for _, slot := range set.Slots() {
		t.Logf("%-6s %-9s window %-8s: %4d bytes of %4d", slot.Event, slot.Property, segment.FormatDuration(slot.Window), largest[slot.Key], slot.MaxBytes())
		if slot.Event == "b" || slot.Event == "a" {
			continue // did not happen, or met: then little is kept
		}
		require.Greater(t, 3*largest[slot.Key], slot.MaxBytes())
	}
}

// The reference states the bounds.
func TestBoundsAreStated(t *testing.T) {
	t.Parallel()
	book := exampleBook(t)
	stated := make(map[string]int)
	for _, row := range tableOf(t, section(t, language(t), "Bounds")) {
		number, unit, _ := strings.Cut(row[2], " ")
		n, err := strconv.Atoi(number)
		require.NoError(t, err)
		if unit == "kB" {
			n *= 1000
		}
		for name := range strings.SplitSeq(row[0], ", ") {
			stated[name] = n
		}
		stated[row[0]] = n
	}
	for name, rules := range bulky() {
		require.Contains(t, stated, name)
		set := segment.NewSet(book.Plan, 1)
		for _, rule := range rules {
			_, problems := set.Compile(rule)
			require.Empty(t, problems)
		}
		for _, slot := range set.Slots() {
			require.LessOrEqual(t, slot.MaxBytes(), stated[name], "%s: %s %s", name, slot.Event, slot.Property)
		}
	}
}
