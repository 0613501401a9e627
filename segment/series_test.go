package segment_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

func compile(t *testing.T, set *segment.Set, rule string) *segment.Rule {
	t.Helper()
	r, problems := set.Compile(rule)
	require.Empty(t, problems)
	return r
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	many := strings.TrimSuffix(strings.Repeat("9e12 ", 40), " ")
	cases := []struct {
		totals, rule string
		want         segment.Truth
		why          string
	}{
		{"0.1 0.2", `events("order").sum(e.total) == 0.3`, segment.True, ""},
		{"-5.25 3", `events("order").sum(e.total) == -2.25`, segment.True, ""},
		{"-5 -3", `events("order").sum(e.total) == -8.0 && events("order").max(e.total) == -3.0 && events("order").min(e.total) == -5.0`, segment.True, ""},
		{"", `events("order").sum(e.total) == 0.0`, segment.True, ""},
		{"", `events("order").avg(e.total) == 0.0`, segment.Unknown, `events("order").avg(e.total) has no value yet`},
		{"0.00000049 1", `events("order").sum(e.total) == 1.0`, segment.True, ""}, // six decimals
		{"9e12", `events("order").sum(e.total) == 9000000000000.0`, segment.True, ""},
		{"9.1e12", `events("order").sum(e.total) > 1.0`, segment.Unknown, `events("order").sum(e.total) is too great to be kept`},
		{"9.1e12 5", `events("order").min(e.total) == 5.0`, segment.Unknown, `events("order").min(e.total) is too great to be kept`},
		{"9e12 9e12", `events("order").sum(e.total) > 1.0`, segment.Unknown, `events("order").sum(e.total) is too great to be kept`},
		{"9e12 9e12", `events("order").max(e.total) > 1.0`, segment.True, ""},
		{"9e12 9e12 -9e12 -9e12 7", `events("order").sum(e.total) == 7.0`, segment.True, ""}, // beyond, on its way
		{"-9e12 -9e12 9e12 9e12 7", `events("order").within("1d").sum(e.total) == 7.0`, segment.True, ""},
		{many + " -" + strings.ReplaceAll(many, " ", " -"), `events("order").sum(e.total) == 0.0`, segment.True, ""},
		{"9.1e12 5", `events("order").within("1d").sum(e.total) > 1.0`, segment.Unknown, `events("order").within("1d").sum(e.total) is too great to be kept`},
		{"x 5 true", `events("order").sum(e.total) == 5.0 && events("order").count() == 3`, segment.True, ""}, // mistyped is absent
		{"7", `events("order").max(e.items) == 7`, segment.True, ""},
		{"7.5", `events("order").max(e.items) == 7`, segment.Unknown, `events("order").max(e.items) has no value yet`},
		{"9000000000001", `events("order").max(e.items) > 7`, segment.Unknown, `events("order").max(e.items) is too great to be kept`},
	}
	for _, c := range cases {
		t.Run(c.totals+" "+c.rule, func(t *testing.T) {
			t.Parallel()
			set := segment.NewSet(shop(), 1)
			rule := compile(t, set, c.rule)
			var events []schema.UserEvent
			for i, total := range strings.Fields(c.totals) {
				if total == "x" {
					total = `"x"`
				}
				events = append(events, event("order", int64(i+1), fmt.Sprintf(`{"total":%s,"items":%s}`, total, total)))
			}
			got := rule.Eval(scope(fold(set, events), 1000))
			require.Equal(t, c.want, got.Truth, got.Why)
			require.Equal(t, c.why, got.Why)
		})
	}
}

// burst are so many orders of 1, a second apart.
func burst(n int) []schema.UserEvent {
	events := make([]schema.UserEvent, n)
	for i := range events {
		events[i] = event("order", epoch+int64(i)*1000, fmt.Sprintf(`{"total":1,"items":1,"order_id":"%d"}`, i))
	}
	return events
}

// More in a window than is kept: what compares a count with a number goes on, everything else is unknown until enough has left.
func TestOverflowingWindows(t *testing.T) {
	t.Parallel()
	const n, day = 200, 24 * hour
	known := epoch + (n-segment.KeepRecent-1)*1000 + day // when the newest of those that were forgotten leaves the window
	cases := []struct{ rule, why string }{
		{`events("order").within("1d").sum(e.total) <= 128.0`, `events("order").within("1d").sum(e.total) looks back on more than is kept`},
		{`events("order").within("1d").avg(e.total) == 1.0`, `events("order").within("1d").avg(e.total) looks back on more than is kept`},
		{`events("order").within("1d").min(e.items) == 1`, `events("order").within("1d").min(e.items) looks back on more than is kept`},
		{`events("order").within("1d").count() + 0 == 128`, `events("order").within("1d").count() looks back on more than is kept`},
		{`128 == events("order").within("1d").count() * 1`, `events("order").within("1d").count() looks back on more than is kept`},
		{`events("order").within("1d").count() in [128]`, `events("order").within("1d").count() looks back on more than is kept`},
		{`events("order").within("1d").count() > events("refund").count() + 100`, `events("order").within("1d").count() looks back on more than is kept`},
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			set := segment.NewSet(shop(), 1)
			rule := compile(t, set, c.rule)
			facts := fold(set, burst(n))
			require.Equal(t, segment.Result{Truth: segment.Unknown, Until: known, Why: c.why}, rule.Eval(scope(facts, epoch+hour)))
			require.Equal(t, segment.Unknown, rule.Eval(scope(facts, known-1)).Truth)
			require.Equal(t, segment.True, rule.Eval(scope(facts, known)).Truth)
		})
	}
	set := segment.NewSet(shop(), 1)
	rule := compile(t, set, `events("order").within("1d").count() >= 128 && events("order").distinct(e.order_id) >= 64`)
	distinct := compile(t, set, `events("order").distinct(e.order_id) * 2 > 1`)
	facts := fold(set, burst(n))
	require.Equal(t, segment.Result{Truth: segment.True, Until: known + 1000}, rule.Eval(scope(facts, epoch+hour)))
	require.Equal(t, segment.Result{Why: `events("order").distinct(e.order_id) looks back on more than is kept`}, distinct.Eval(scope(facts, epoch+hour)))
	days := compile(t, set, `events("order").days() * 1 == 128`)
	var events []schema.UserEvent
	for i := range 129 {
		events = append(events, event("order", epoch+int64(i)*day))
	}
	require.Equal(t, segment.True, days.Eval(scope(fold(set, events[1:]), epoch)).Truth)
	require.Equal(t, segment.Unknown, days.Eval(scope(fold(set, events), epoch)).Truth)
}

// Of more that stand open than are kept, the oldest decides; of more days than are kept, the newest count, however late one comes.
func TestWhatIsForgottenFirst(t *testing.T) {
	t.Parallel()
	set := segment.NewSet(shop(), 1)
	open := compile(t, set, `events("order").not_followed_by(events("refund"), "1h")`)
	days := compile(t, set, `events("order").days() == 100`)
	events := burst(200)
	require.Equal(t, segment.Result{Truth: segment.False, Until: epoch + hour}, open.Eval(scope(fold(set, events), epoch+1)))
	events = append(events, event("refund", epoch+100_000)) // late: closes half of them
	require.Equal(t, segment.Result{Truth: segment.False, Until: epoch + 101_000 + hour}, open.Eval(scope(fold(set, events), epoch+1)))
	var daily []schema.UserEvent
	for i := range int64(100) {
		daily = append(daily, event("order", epoch+(99-i)*day))
	}
	require.Equal(t, segment.True, days.Eval(scope(fold(set, daily), epoch)).Truth)
	for i := range int64(60) {
		daily = append(daily, event("order", epoch-i*day))
	}
	for _, s := range fold(set, daily).Series {
		if len(s.Days) > 0 {
			require.Len(t, s.Days, segment.KeepRecent)
			require.Equal(t, (epoch+99*day)/day, s.Days[segment.KeepRecent-1])
			require.Equal(t, s.Days[0]-1, s.Lost)
		}
	}
}

func TestSessionsAreKeptInOrder(t *testing.T) {
	t.Parallel()
	set := segment.NewSet(shop(), 1)
	sessions := compile(t, set, `events().sessions("10m") * 1 == 70 && events().longest_session("10m") == duration("9m") && events().session_length("10m") == duration("1m")`)
	var events []schema.UserEvent
	for i := range int64(70) {
		events = append(events, event("order", epoch+i*hour))
	}
	events = append(events, event("order", epoch+9*60_000), event("order", epoch+69*hour+60_000))
	require.Equal(t, segment.True, sessions.Eval(scope(fold(set, append(events[70:], events[:70]...)), epoch+100*hour)).Truth)
	facts := fold(set, events)
	late := event("order", epoch-hour) // belongs to a past that is forgotten
	set.Apply(facts, &late, segment.Done{})
	for _, s := range facts.Series {
		require.Len(t, s.Sessions, segment.KeepSessions)
		require.Equal(t, int64(6), s.Dropped)
	}
}

// A user can live under two versions of a playbook at once. Each sees what it would see alone.
func TestTwoVersions(t *testing.T) {
	t.Parallel()
	plan := shop()
	plan.Traits["plan"] = segment.String
	rules := []string{
		`events("order").within("30d").count() >= 2`, `events("order").within("30d").sum(e.total) >= 2.0`,
		`changes(traits.plan).where(e.from == "free").count() == 1`, `events("order").within("1h").count() >= 1`,
	}
	for _, newest := range [][]string{
		{`events("order").count() > 1`, `events("order").sum(e.total) > 1.0`, `traits.plan == "x"`},
		{`events("order").within("1h").count() > 1`, `events("order").within("1h").sum(e.total) > 1.0`, `changes(traits.plan).count() > 1`},
		{`events("order").within("90d").count() > 1`, `events("order").within_days(60).sum(e.total) > 1.0`},
	} {
		before, after := segment.NewSet(plan, 1), segment.NewSet(plan, 1)
		for _, rule := range newest {
			compile(t, after, rule)
		}
		for i, rule := range slices.Concat(rules, rules) {
			fromTheStart := i >= len(rules)
			asked := compile(t, before, rule)
			var alone, shared segment.Facts
			for i, e := range []schema.UserEvent{
				event("order", epoch, `{"total":1}`, `{"plan":"free"}`), event("order", epoch+2*day, `{"total":1}`, `{"plan":"pro"}`), event("login", epoch+2*day),
			} {
				e.Sequence = uint64(i + 1)
				before.Apply(&alone, &e, segment.Done{})
				done := segment.Done{}
				if i > 0 || fromTheStart {
					after.Apply(&shared, &e, done) // the newest comes first, as soon as there is one
				}
				before.Apply(&shared, &e, done)
				segment.Prune(&shared, before, after)
			}
			for _, now := range []int64{epoch + 2*day, epoch + 29*day, epoch + 31*day, epoch + 40*day} {
				require.Equal(t, asked.Eval(scope(&alone, now)), asked.Eval(scope(&shared, now)), "%s beside %s", rule, newest)
			}
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	plan := shop()
	plan.Traits = segment.Properties{"plan": segment.String, "seats": segment.Number, "tags": segment.List, "since": segment.Timestamp}
	cases := []struct {
		name, rule string
		traits     []string
		want       int
	}{
		{"the first value is none", `plan`, []string{`{"plan":"a"}`}, 0},
		{"another value", `plan`, []string{`{"plan":"a"}`, `{"plan":"b"}`}, 1},
		{"the same value", `plan`, []string{`{"plan":"a"}`, `{"plan":"a"}`, `{"plan":"b"}`, `{"plan":"b"}`}, 1},
		{"there and back", `plan`, []string{`{"plan":"a"}`, `{"plan":"b"}`, `{"plan":"a"}`}, 2},
		{"numbers by value", `seats`, []string{`{"seats":1}`, `{"seats":1.0}`, `{"seats":2}`}, 1},
		{"times by moment", `since`, []string{`{"since":"2026-03-02T00:00:00Z"}`, `{"since":"2026-03-02T01:00:00+01:00"}`}, 0},
		{"lists by their items", `tags`, []string{`{"tags":["a","b"]}`, `{"tags":["a", "b"]}`, `{"tags":["b","a"]}`}, 1},
		{"a value of another type is none", `plan`, []string{`{"plan":"a"}`, `{"plan":5}`, `{"plan":"b"}`}, 0},
		{"null is none", `plan`, []string{`{"plan":"a"}`, `{"plan":null}`, `{"plan":"a"}`}, 0},
		{"other traits are none", `plan`, []string{`{"plan":"a","seats":1}`, `{"seats":2}`}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set := segment.NewSet(plan, 1)
			rule := compile(t, set, fmt.Sprintf(`changes(traits.%s).count() == %d`, c.rule, c.want))
			var events []schema.UserEvent
			for i, traits := range c.traits {
				e := event("login", epoch+int64(i), "", traits)
				e.Sequence = uint64(i + 1)
				events = append(events, e)
			}
			got := rule.Explain(scope(fold(set, events), epoch))
			require.Equal(t, fmt.Sprintf("changes(traits.%s).count() = %d", c.rule, c.want), got)
			require.Equal(t, segment.True, rule.Eval(scope(fold(set, events), epoch)).Truth)
		})
	}
}

// A pair may take an event and the change that the event makes.
func TestAChangeFollowedByItsEvent(t *testing.T) {
	t.Parallel()
	plan := shop()
	plan.Traits["plan"] = segment.String
	set := segment.NewSet(plan, 1)
	rule := compile(t, set, `changes(traits.plan).followed_by(events("login"), "1h") && changes(traits.plan).where(e.from == "a" && e.to != "c").count() == 1`)
	events := []schema.UserEvent{event("order", epoch, "", `{"plan":"a"}`), event("login", epoch+1, "", `{"plan":"b"}`)}
	events[0].Sequence, events[1].Sequence = 1, 2
	require.Equal(t, segment.True, rule.Eval(scope(fold(set, events), epoch+2)).Truth)
}

// The traits of one event change at once: the day of a change is that of the zone in which the user lives with the event, whatever else it sets.
func TestTraitsChangeAtOnce(t *testing.T) {
	t.Parallel()
	plan := shop()
	for _, name := range []string{"a", "plan", "zone"} {
		plan.Traits[name] = segment.String
	}
	plan.Zone.Trait = "zone"
	set := segment.NewSet(plan, 1)
	compile(t, set, `changes(traits.plan).days() == 1 && changes(traits.a).days() == 1`)
	night := time.Date(2026, 11, 2, 1, 0, 0, 0, time.UTC) // still the first of November in New York
	for range 50 {
		facts := fold(set, []schema.UserEvent{
			event("order", night.Add(-time.Hour).UnixMilli(), "", `{"plan":"a","a":"a","zone":"UTC"}`),
			event("order", night.UnixMilli(), "", `{"plan":"b","a":"b","zone":"America/New_York"}`),
		})
		for _, slot := range set.Slots() {
			require.Equal(t, []int64{segment.DayOf(night.Add(-24*time.Hour).UnixMilli(), time.UTC)}, facts.Series[slot.Key].Days)
		}
	}
}

// A rule that looks further back than what was kept so far: a sum is unknown until the window lies behind, not wrong.
func TestANewWindowIsFilledFirst(t *testing.T) {
	t.Parallel()
	before, after := segment.NewSet(shop(), 1), segment.NewSet(shop(), 1)
	compile(t, before, `events("order").sum(e.total) > 1.0 && events("order").within("1h").sum(e.total) > 1.0`)
	sum := compile(t, after, `events("order").within("1d").sum(e.total) == 1.0`)
	facts := fold(before, []schema.UserEvent{event("order", epoch, `{"total":1}`), event("order", epoch+hour, `{"total":1}`)})
	now := epoch + 2*hour
	lost := epoch // the order of that time is forgotten, all after it are kept
	segment.Prune(facts, after)
	require.Equal(t, segment.Result{Until: lost + day, Why: `events("order").within("1d").sum(e.total) looks back on more than is kept`}, sum.Eval(scope(facts, now)))
	e := event("order", now, `{"total":0}`)
	after.Apply(facts, &e, segment.Done{})
	require.Equal(t, segment.Unknown, sum.Eval(scope(facts, lost+day-1)).Truth)
	require.Equal(t, segment.True, sum.Eval(scope(facts, lost+day)).Truth)
}

// What a version before windows were remembered has written can be read.
func TestSeriesOfOldStates(t *testing.T) {
	t.Parallel()
	set := segment.NewSet(plan(), 1)
	rule := compile(t, set, `events("signed_up").within("7d").count() >= 2 && did("signed_up")`)
	compile(t, set, `events("feature_viewed").where(e.feature == 'a'  &&  e.seconds > 4.0).within("1d").count() >= 2`)
	require.Equal(t, "3d5688079ecc", set.Slots()[0].Key, "the keys of slots must never change")
	require.Equal(t, "eb94655c5b69", set.Slots()[1].Key, "nor with a filter")
	var facts segment.Facts
	require.NoError(t, json.Unmarshal([]byte(`{"first_seen":1000,"last_seen":3000,"series":{"3d5688079ecc":{"n":3,"first":1000,"last":3000,"recent":[2000,3000]}}}`), &facts))
	require.Equal(t, segment.Result{Truth: segment.True, Until: 2000 + 7*day}, rule.Eval(scope(&facts, 5000)))
	e := event("signed_up", 4000)
	set.Apply(&facts, &e, segment.Done{})
	require.Equal(t, []int64{2000, 3000, 4000}, facts.Series["3d5688079ecc"].Recent)
	require.Zero(t, facts.Series["3d5688079ecc"].Lost)
}

func TestPruneForgetsWhatNobodyAsks(t *testing.T) {
	t.Parallel()
	before, after := segment.NewSet(shop(), 1), segment.NewSet(shop(), 1)
	compile(t, before, `events("order").within("7d").count() >= 2 && did("login")`)
	compile(t, after, `events("order").count() >= 2`)
	facts := fold(before, []schema.UserEvent{event("order", epoch), event("login", epoch)})
	require.Len(t, facts.Series, 2)
	segment.Prune(facts, after)
	require.Len(t, facts.Series, 1)
	for _, s := range facts.Series {
		require.Equal(t, &segment.Series{Count: 1, First: epoch, Last: epoch}, s)
	}
}

// A wake-up is asked for only when an answer can change.
func TestWeekdaysWakeSeldom(t *testing.T) {
	t.Parallel()
	rule := compile(t, segment.NewSet(shop(), 1), `local_weekday("sun")`)
	require.Equal(t, segment.Result{Truth: segment.False, Until: epoch + 6*day}, rule.Eval(scope(&segment.Facts{}, epoch)))
	require.Equal(t, segment.Result{Truth: segment.True, Until: epoch + 7*day}, rule.Eval(scope(&segment.Facts{}, epoch+6*day)))
}
