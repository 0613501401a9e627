package segment_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// civil counts days by the date that a clock on the wall shows.
func civil(at int64, zone *time.Location) int {
	y, m, d := time.UnixMilli(at).In(zone).Date()
	return int(time.Date(y, m, d, 12, 0, 0, 0, time.UTC).Unix() / 86400)
}

// shows finds the first moment at which clocks show a time of a day, or later, by looking at them every minute.
func shows(day int, clock segment.Clock, zone *time.Location) int64 {
	want := int64(day)*1440 + int64(clock)
	for at := (int64(day)*1440 - 16*60) * 60_000; ; at += 60_000 {
		t := time.UnixMilli(at).In(zone)
		if int64(civil(at, zone))*1440+int64(t.Hour()*60+t.Minute()) >= want {
			return at
		}
	}
}

// timed is a rule that time changes, and what it should say, worked out by other means.
type timed struct {
	rule  string
	truth func(now int64, a, b []int64, zone *time.Location) bool
}

func count(times []int64, counts func(at int64) bool) int {
	n := 0
	for _, at := range times {
		if counts(at) {
			n++
		}
	}
	return n
}

func span(from, to segment.Clock) func(int64, []int64, []int64, *time.Location) bool {
	begins := make(map[string][]int64) // by zone and day: computed once
	return func(now int64, _, _ []int64, zone *time.Location) bool {
		today := civil(now, zone)
		var latest int64
		in := false
		for day := today - 1; day <= today+1; day++ {
			key := fmt.Sprint(zone, day)
			if begins[key] == nil {
				begins[key] = []int64{shows(day, from, zone), shows(day, to, zone)}
			}
			for i, at := range begins[key] {
				if at <= now && at >= latest {
					in, latest = i == 0, at
				}
			}
		}
		return in
	}
}

func timedRules(trial int64) []timed {
	between := func(least, most int64) func(int64, []int64, []int64, *time.Location) bool {
		return func(now int64, a, _ []int64, _ *time.Location) bool {
			return now-a[len(a)-1] >= least && now-a[len(a)-1] < most
		}
	}
	const ever = 1 << 60
	days := func(n, least int) func(int64, []int64, []int64, *time.Location) bool {
		return func(now int64, a, _ []int64, zone *time.Location) bool {
			return count(a, func(at int64) bool { return civil(now, zone) < civil(at, zone)+n }) >= least
		}
	}
	return []timed{
		{`events("a").within("25h").count() >= 2`, func(now int64, a, _ []int64, _ *time.Location) bool {
			return count(a, func(at int64) bool { return now < at+25*hour }) >= 2
		}},
		{`did("a", "36h")`, between(0, 36*hour)},
		{`did_not("a", "36h")`, between(36*hour, ever)},
		{`events("a").within_days(1).count() >= 1`, days(1, 1)},
		{`events("a").within_days(2).count() >= 2`, days(2, 2)},
		{`events("a").within_days(3).sum(e.n) >= 1`, days(3, 1)},
		{`events("a").within_days(3).distinct(e.n) >= 1`, days(3, 1)},
		{`events("a").within_days(2).max(e.n) == 1`, days(2, 1)},
		{`events("a").within_days(3).days() >= 2`, func(now int64, a, _ []int64, zone *time.Location) bool {
			seen := make(map[int]bool)
			count(a, func(at int64) bool {
				if civil(now, zone) < civil(at, zone)+3 {
					seen[civil(at, zone)] = true
				}
				return false
			})
			return len(seen) >= 2
		}},
		{`events("a").since_first() > duration("30h")`, func(now int64, a, _ []int64, _ *time.Location) bool { return now-a[0] > 30*hour }},
		{`events("a").since_last() >= duration("30h")`, between(30*hour, ever)},
		{`events("a").since_last() > duration("30h")`, between(30*hour+1, ever)},
		{`events("a").since_last() <= duration("30h")`, between(0, 30*hour+1)},
		{`duration("30h") > events("a").since_last()`, between(0, 30*hour)},
		{`events("a").since_last() == duration("30h")`, between(30*hour, 30*hour+1)},
		{`events("a").since_last() != duration("30h") && events("a").since_last() > duration("20h")`, func(now int64, a, _ []int64, _ *time.Location) bool {
			since := now - a[len(a)-1]
			return since > 20*hour && since != 30*hour
		}},
		{`events("a").not_followed_by(events("b"), "26h")`, func(now int64, a, b []int64, _ *time.Location) bool {
			return count(a, func(at int64) bool { return at > b[0] && now >= at+26*hour }) > 0
		}},
		{`inactive_for("28h")`, func(now int64, a, b []int64, _ *time.Location) bool { return now >= max(a[len(a)-1], b[0])+28*hour }},
		{`seen_for("50h")`, func(now int64, a, b []int64, _ *time.Location) bool { return now >= min(a[0], b[0])+50*hour }},
		{`in_segment_for("s", "27h")`, func(now int64, a, _ []int64, _ *time.Location) bool { return now >= a[0]+27*hour }},
		{`time_since(traits.trial) >= duration("2h")`, func(now int64, _, _ []int64, _ *time.Location) bool { return now >= trial+2*hour }},
		{`time_since(traits.trial) < duration("2h")`, func(now int64, _, _ []int64, _ *time.Location) bool { return now < trial+2*hour }},
		{`time_until(traits.trial) <= duration("20h")`, func(now int64, _, _ []int64, _ *time.Location) bool { return trial-now <= 20*hour }},
		{`time_until(traits.trial) < duration("20h")`, func(now int64, _, _ []int64, _ *time.Location) bool { return trial-now < 20*hour }},
		{`time_until(traits.trial) >= duration("20h")`, func(now int64, _, _ []int64, _ *time.Location) bool { return trial-now >= 20*hour }},
		{`time_until(traits.trial) == duration("20h")`, func(now int64, _, _ []int64, _ *time.Location) bool { return trial-now == 20*hour }},
		{`local_time("09:00", "17:30")`, span(9*60, 17*60+30)},
		{`local_time("22:00", "06:00")`, span(22*60, 6*60)},
		{`local_time("02:15", "02:45")`, span(2*60+15, 2*60+45)},
		{`local_time("02:30", "12:00")`, span(2*60+30, 12*60)},
		{`local_time("00:00", "02:30")`, span(0, 2*60+30)},
		{`local_weekday("sun")`, func(now int64, _, _ []int64, zone *time.Location) bool {
			return time.UnixMilli(now).In(zone).Weekday() == time.Sunday
		}},
		{`local_weekday("mon", "tue", "wed", "thu", "fri")`, func(now int64, _, _ []int64, zone *time.Location) bool {
			day := time.UnixMilli(now).In(zone).Weekday()
			return day != time.Sunday && day != time.Saturday
		}},
	}
}

// flips finds all changes of an answer, to the millisecond: it looks at every quarter hour and at the moments that are suspect.
func flips(from, to int64, suspects []int64, truth func(now int64) bool) []interval {
	moments := slices.Clone(suspects)
	for at := from; at < to; at += hour / 4 {
		moments = append(moments, at)
	}
	slices.Sort(moments)
	var found []interval
	in, last := false, from
	for _, at := range moments {
		if at < from || at >= to || truth(at) == in {
			last = max(last, min(at, to))
			continue
		}
		low, high := last, at // the change lies in (low, high], or at from
		for low < high-1 && at != from {
			if middle := (low + high) / 2; truth(middle) == in {
				low = middle
			} else {
				high = middle
			}
		}
		if in = !in; in {
			found = append(found, interval{high, to})
		} else {
			found[len(found)-1].to = high
		}
		last = at
	}
	return found
}

// Every function that time changes, in three zones, across the ends of months and the days on which clocks change: asked only when it
// wants to be asked, a rule is true in exactly the intervals that a clock on the wall gives.
func TestTimeIsExact(t *testing.T) {
	t.Parallel()
	starts := map[string]time.Time{
		"Berlin, clocks forward":   time.Date(2026, 3, 27, 21, 17, 3, 0, time.UTC),
		"Berlin, clocks back":      time.Date(2026, 10, 23, 20, 0, 0, 1e6, time.UTC),
		"New York, clocks forward": time.Date(2026, 3, 6, 11, 0, 0, 0, time.UTC),
		"New York, clocks back":    time.Date(2026, 10, 30, 4, 0, 0, 999e6, time.UTC),
		"a leap day":               time.Date(2028, 2, 27, 13, 30, 0, 0, time.UTC),
		"the end of a year":        time.Date(2026, 12, 30, 15, 0, 0, 0, time.UTC),
	}
	for name, start := range starts {
		for _, zone := range []string{"Europe/Berlin", "America/New_York", "Asia/Tokyo"} {
			t.Run(name+"/"+zone, func(t *testing.T) {
				t.Parallel()
				exact(t, start.UnixMilli(), zone)
			})
		}
	}
}

func exact(t *testing.T, start int64, name string) {
	t.Helper()
	zone, ok := segment.Location(name)
	require.True(t, ok)
	trial := start + 31*hour + 7
	plan := segment.Plan{
		Events: map[string]segment.Properties{"a": {"n": segment.Int}, "b": {}},
		Traits: segment.Properties{"zone": segment.String, "trial": segment.Timestamp},
		Zone:   segment.Zone{Trait: "zone"},
	}
	a, b := []int64{start - 20*hour - 1, start - 9*hour, start}, []int64{start - 10*hour}
	traits := fmt.Sprintf(`{"zone":%q,"trial":%q}`, name, time.UnixMilli(trial).UTC().Format(time.RFC3339Nano))
	for _, rule := range timedRules(trial) {
		set := segment.NewSet(plan, 1)
		compiled, problems := set.Compile(rule.rule)
		require.Empty(t, problems)
		events := []schema.UserEvent{
			event("a", a[0], `{"n":1}`, traits), event("b", b[0]), event("a", a[1], `{"n":1}`), event("a", a[2], `{"n":1}`),
		}
		facts := fold(set, events)
		end := start + 96*hour
		var suspects []int64 // an answer may hold for a millisecond
		for _, base := range append([]int64{trial}, a...) {
			for _, d := range []int64{20, 25, 30, -20} {
				suspects = append(suspects, base+d*hour-1, base+d*hour, base+d*hour+1)
			}
		}
		want := flips(start, end, suspects, func(now int64) bool { return rule.truth(now, a, b, zone) })
		got := followed(t, compiled, facts, a[0], start, end)
		require.Equal(t, clocks(want, zone), clocks(got, zone), rule.rule)
		if strings.HasPrefix(rule.rule, "local") {
			require.NotEmpty(t, got, rule.rule)
		}
	}
}

// followed asks a rule only when it wants to be asked.
func followed(t *testing.T, rule *segment.Rule, facts *segment.Facts, since, from, to int64) []interval {
	t.Helper()
	var found []interval
	in := false
	for now := from; ; {
		s := scope(facts, now)
		s.SegmentSince = func(string) int64 { return since }
		result := rule.Eval(s)
		if is := result.Truth == segment.True; is != in {
			if in = is; in {
				found = append(found, interval{now, to})
			} else {
				found[len(found)-1].to = now
			}
		}
		if result.Until == 0 || result.Until >= to {
			return found
		}
		require.Greater(t, result.Until, now)
		now = result.Until
	}
}

func clocks(list []interval, zone *time.Location) []string {
	var texts []string
	for _, i := range list {
		texts = append(texts, time.UnixMilli(i.from).In(zone).Format("01-02 15:04:05.000 MST")+" to "+time.UnixMilli(i.to).In(zone).Format("01-02 15:04:05.000 MST"))
	}
	return texts
}
