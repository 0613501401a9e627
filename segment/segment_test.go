package segment_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

func plan() segment.Plan {
	return segment.Plan{
		Events: map[string]segment.Properties{
			"signed_up":            {"plan": segment.String},
			"feature_viewed":       {"feature": segment.String, "seconds": segment.Number},
			"onboarding_completed": {},
		},
		Traits: segment.Properties{"industry": segment.String, "company_size": segment.Int, "tags": segment.List},
	}
}

const (
	hour = int64(3_600_000)
	day  = 24 * hour
)

// at folds events given as "name@time" pairs and answers the rule at now.
func at(t *testing.T, rule string, now int64, events ...schema.UserEvent) segment.Result {
	t.Helper()
	set := segment.NewSet(plan(), 1)
	r, problems := set.Compile(rule)
	require.Empty(t, problems)
	var facts segment.Facts
	for i := range events {
		events[i].Sequence = uint64(i + 1)
		set.Apply(&facts, &events[i], segment.Done{})
	}
	return r.Eval(scope(&facts, now))
}

func scope(facts *segment.Facts, now int64) segment.Scope {
	return segment.Scope{
		Facts: facts, Now: now,
		InSegment: func(name string) bool { return name == "vip" },
		Variant:   func(string) string { return "personalized" },
	}
}

func event(name string, at int64, raw ...string) schema.UserEvent {
	e := schema.UserEvent{EventName: name, OccurredAt: at}
	if len(raw) > 0 {
		e.Properties = []byte(raw[0])
	}
	if len(raw) > 1 {
		e.Traits = []byte(raw[1])
	}
	return e
}

func TestEval(t *testing.T) {
	t.Parallel()
	t0 := 100 * day
	viewed := func(at int64, feature string) schema.UserEvent {
		return event("feature_viewed", at, fmt.Sprintf(`{"feature":%q,"seconds":5}`, feature))
	}
	cases := []struct {
		name, rule string
		now        int64
		events     []schema.UserEvent
		want       segment.Truth
		until      int64
	}{
		{"count", `events("feature_viewed").count() == 2`, t0, []schema.UserEvent{viewed(t0, "a"), viewed(t0, "b")}, segment.True, 0},
		{"count filtered", `events("feature_viewed").where(e.feature == "a" && e.seconds > 4.0).count() == 1`, t0, []schema.UserEvent{viewed(t0, "a"), viewed(t0, "b")}, segment.True, 0},
		{"filter on a missing property does not count", `events("feature_viewed").where(e.feature != "a").count() == 0`, t0, []schema.UserEvent{event("feature_viewed", t0)}, segment.True, 0},
		{"filter on a mistyped property does not count", `events("feature_viewed").where(e.feature != "a").count() == 0`, t0, []schema.UserEvent{event("feature_viewed", t0, `{"feature":5}`)}, segment.True, 0},
		{"did", `did("signed_up") && !did("onboarding_completed")`, t0, []schema.UserEvent{event("signed_up", t0)}, segment.True, 0},
		{"window holds a millisecond before", `events("signed_up").within("3d").count() > 0`, t0 + 3*day - 1, []schema.UserEvent{event("signed_up", t0)}, segment.True, t0 + 3*day},
		{"window ends at the moment", `events("signed_up").within("3d").count() > 0`, t0 + 3*day, []schema.UserEvent{event("signed_up", t0)}, segment.False, 0},
		{"inactive a millisecond before", `inactive_for("72h")`, t0 + 72*hour - 1, []schema.UserEvent{event("signed_up", t0)}, segment.False, t0 + 72*hour},
		{"inactive at the moment", `inactive_for("72h")`, t0 + 72*hour, []schema.UserEvent{event("signed_up", t0)}, segment.True, 0},
		{"time that is not asked about wakes nobody", `!did("onboarding_completed") && inactive_for("72h")`, t0 + hour, []schema.UserEvent{event("onboarding_completed", t0)}, segment.False, 0},
		{"time that is asked about does", `!did("onboarding_completed") && inactive_for("72h")`, t0 + hour, []schema.UserEvent{event("signed_up", t0)}, segment.False, t0 + 72*hour},
		{"inactive without any event", `inactive_for("72h")`, t0, nil, segment.Unknown, 0},
		{"seen for", `seen_for(duration("1d"))`, t0 + day, []schema.UserEvent{event("signed_up", t0)}, segment.True, 0},
		{"time to", `time_to("onboarding_completed") < duration("72h")`, t0, []schema.UserEvent{event("signed_up", t0), event("onboarding_completed", t0+72*hour-1)}, segment.True, 0},
		{"time to, at the bound", `time_to("onboarding_completed") < duration("3d")`, t0, []schema.UserEvent{event("signed_up", t0), event("onboarding_completed", t0+72*hour)}, segment.False, 0},
		{"time to, not yet", `time_to("onboarding_completed") < duration("72h")`, t0, []schema.UserEvent{event("signed_up", t0)}, segment.Unknown, 0},
		{"unknown and false is false", `did("onboarding_completed") && time_to("onboarding_completed") < duration("72h")`, t0, []schema.UserEvent{event("signed_up", t0)}, segment.False, 0},
		{"trait", `traits.industry == "finance" && traits.company_size >= 50`, t0, []schema.UserEvent{event("signed_up", t0, ``, `{"industry":"finance","company_size":50}`)}, segment.True, 0},
		{"trait missing", `traits.industry == "finance"`, t0, nil, segment.Unknown, 0},
		{"trait mistyped", `traits.company_size > 1`, t0, []schema.UserEvent{event("signed_up", t0, ``, `{"company_size":"many"}`)}, segment.Unknown, 0},
		{"trait, the later event time wins", `traits.industry == "b"`, t0, []schema.UserEvent{event("signed_up", t0, ``, `{"industry":"b"}`), event("signed_up", t0-1, ``, `{"industry":"a"}`)}, segment.True, 0},
		{"list trait", `"x" in traits.tags`, t0, []schema.UserEvent{event("signed_up", t0, ``, `{"tags":["x","y"]}`)}, segment.True, 0},
		{"first and last", `events("signed_up").last() - events("signed_up").first() == duration("1h")`, t0, []schema.UserEvent{event("signed_up", t0+hour), event("signed_up", t0)}, segment.True, 0},
		{"segment and variant", `in_segment("vip") && variant("flow") == "personalized"`, t0, nil, segment.True, 0},
		{"undeclared events leave no mark", `inactive_for("1h")`, t0 + hour, []schema.UserEvent{event("signed_up", t0), event("page_seen", t0+hour)}, segment.True, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := at(t, c.rule, c.now, c.events...)
			require.Equal(t, c.want, got.Truth, got.Why)
			require.Equal(t, c.until, got.Until)
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, rule, want string }{
		{"empty", "  ", "empty condition"},
		{"syntax", `did("signed_up") &&`, "1:"},
		{"unknown event", `did("sign_up")`, `1:5: event "sign_up" is not declared; declared are: feature_viewed`},
		{"unknown trait", "true ||\n  traits.industri == \"x\"", "2:9: undeclared reference to 'traits.industri'"},
		{"unknown property", `events("feature_viewed").where(e.color == "x").count() > 1`, "the declared properties of feature_viewed are: feature, seconds"},
		{"no ending", `events("signed_up") > 1`, "needs an ending"},
		{"not a truth", `events("signed_up").count()`, "answers with int"},
		{"type mix", `traits.company_size > "x"`, "1:21: found no matching overload"},
		{"now", `now() > timestamp("2026-01-01T00:00:00Z")`, "there is no now()"},
		{"dynamic pattern", `traits.industry.matches(traits.industry)`, "dynamic_regex"},
		{"counted repetition", `traits.industry.matches("a{1000}")`, "counted repetition"},
		{"zero window", `events("signed_up").within("0s").count() > 0`, "outside 1s"},
		{"huge window", `events("signed_up").within("9999d").count() > 0`, "outside 1s"},
		{"count beyond memory", `events("signed_up").within("1d").count() > 1000`, "remembers 128"},
		{"too deep", `((((((((((((((((((((((((((((((((((((((((((true))))))))))))))))))))))))))))))))))))))))))`, "1:1: too_deep"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, problems := segment.NewSet(plan(), 1).Compile(c.rule)
			require.NotEmpty(t, problems)
			require.Contains(t, errors.Join(problems...).Error(), c.want)
		})
	}
}

// What the language refuses, and where.
func TestLanguageRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct{ rule, want string }{
		{`events("order").count() == 128 && events("order").within("1d").count() == 128`, `1:72: events("order").within("1d").count() remembers 128, so that it can be compared with at most that: more than 128 cannot be told from 128`},
		{`events("order").within("1d").count() > 128`, "remembers 128"},
		{`128 < events("order").within_days(3).count()`, "remembers 128"},
		{`events("order").within("1d").count() <= 128`, "remembers 128"},
		{`events("order").distinct(e.order_id) >= 65`, "remembers 64"},
		{`events("order").within_days(200).days() >= 129`, "remembers 128"},
		{`events().sessions("1h") > 64`, "remembers 64"},
		{`events("order").since_last() - duration("1h") > duration("2h")`, `1:27: events("order").since_last() moves with time: compare it with a duration that stands in the rule`},
		{`events("a").since_first() > events("b").since_first()`, "moves with time"},
		{`time_until(traits.trial_ends) > time_since(traits.trial_ends)`, "moves with time"},
		{`time_since(traits.trial_ends) in [duration("1h")]`, "moves with time"},
		{`events("a").first().within("1h") > 1`, "undeclared reference to 'within'"},
		{`events("a").within("1h").first() > timestamp("2026-03-02T00:00:00Z")`, "first() looks at all events: it has no window"},
		{`events("a").within("1h").sessions("1h") > 1`, "sessions() looks at all events"},
		{`events("a").within("1h").days() > 1`, "days() counts calendar days: its window is within_days()"},
		{`events("a").within("1h").within("2h").count() > 1`, "one within() or within_days() per selection"},
		{`events("a").within("1h").within_days(2).count() > 1`, "one within() or within_days() per selection"},
		{`events("a").within("1h", "2h").count() > 1`, "within() takes one argument"},
		{`events("a").within_days("2").count() > 1`, "a number of days from 1 to 366"},
		{`events("a").within_days(1 + 1).count() > 1`, "a number of days from 1 to 366"},
		{`events("a").count(1) > 1`, "count() takes nothing"},
		{`events("a", "b").count() > 1`, "name one event"},
		{`events("order").where(e.total > 1.0).where(e.items > 1).count() > 1`, "one where() per selection"},
		{`events("order").where(did("a")).count() > 1`, "filter on events"},
		{`events("order").where(same.total > 1.0).count() > 1`, "only journeys know the event that let a user in"},
		{`events("order").where(e.tags.exists(x, x == "a")).count() > 1`, "too complex"},
		{`events().where(e.total > 1.0).count() > 1`, "do not all declare total alike"},
		{`events("order").sum(total) > 1.0`, "sum() takes one property, as in sum(e.total)"},
		{`events("order").sum(e.order_id) > 1.0`, "sum(e.order_id): the property is a string"},
		{`events("order").sum(e.weight) > 1.0`, "1:22: undeclared reference to 'e.weight'; the declared properties of order are: items, order_id, total"},
		{`changes(traits.plan).sum(e.total) > 1.0`, "a change carries e.from and e.to"},
		{`changes(traits.plan).where(e.total > 1.0).count() > 1`, "a change carries e.from and e.to"},
		{`changes(traits.plam).count() > 1`, `trait "plam" is not declared; declared are: plan`},
		{`changes("plan").count() > 1`, "changes() takes one trait, as in changes(traits.plan)"},
		{`changes(traits.plan) > 1`, "changes(…) needs an ending"},
		{`events("a").sessions() > 1`, "sessions() takes the time without an event that ends a session"},
		{`events("a").followed_by(events("b"))`, "followed_by() takes what follows and within which time"},
		{`events("a").followed_by("b", "2h")`, "followed_by() takes what follows and within which time"},
		{`events("a").followed_by(events("b").within("1h"), "2h")`, "followed_by() looks at all events"},
		{`events("a").not_followed_by(events("c"), "2h")`, `event "c" is not declared`},
		{`did()`, "1:4: did() takes an event and, if you like, a duration"},
		{`true && did_not("a", "2h", "3h")`, "1:16: did_not() takes an event"},
		{`did("a", traits.plan)`, "the duration must stand in the rule"},
		{`did(traits.plan)`, "the event's name must stand in the rule"},
		{`time_to("a", "b") > duration("1d")`, "name one event"},
		{`inactive_for()`, "inactive_for() takes a duration"},
		{`time_since(traits.plan) > duration("1d")`, "time_since(traits.plan): the trait is a string, not a timestamp"},
		{`time_until(traits.ends) > duration("1d")`, `trait "ends" is not declared`},
		{`score("chrun") > 0.5`, `score "chrun" is not declared; declared are: churn`},
		{`score(traits.plan) > 0.5`, "the name must stand in the rule"},
		{`score() > 0.5`, "score() takes the name of a score"},
		{`in_segment("a", "1d")`, "in_segment() takes a name, in quotes"},
		{`in_segment_for("a")`, "in_segment_for() takes a name and a duration"},
		{`variant(traits.plan) == "x"`, "the name must stand in the rule"},
		{`local_time("9:00", "17:00")`, `"9:00" is not a time of day such as 09:30`},
		{`local_time("09:00", "24:00")`, `"24:00" is not a time of day`},
		{`local_time("09:00", "09:00")`, "begins and ends at the same time of day"},
		{`local_time("09:00")`, "local_time() takes two times of day"},
		{`local_time(traits.plan, "09:00")`, "the time of day must stand in the rule"},
		{`local_weekday("monday")`, `"monday" is not a weekday; they are mon, tue`},
		{`local_weekday()`, "local_weekday() takes one to six weekdays"},
		{`local_weekday("mon", "mon")`, "mon stands twice"},
		{`duration() > duration("1d")`, "duration() takes one text"},
		{`e.total > 1.0`, "e is known within where(…) alone"},
	}
	book := exampleBook(t)
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			p := book.Plan
			p.Events = maps.Clone(p.Events)
			p.Events["order"] = maps.Clone(p.Events["order"])
			if strings.Contains(c.rule, "tags") {
				p.Events["order"]["tags"] = segment.List
			}
			_, problems := segment.NewSet(p, 1).Compile(c.rule)
			require.ErrorContains(t, errors.Join(problems...), c.want)
		})
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	set := segment.NewSet(plan(), 1.0/86400)
	r, problems := set.Compile(`inactive_for("3d") && time_to("onboarding_completed") < duration("3d")`)
	require.Empty(t, problems)
	facts := segment.Facts{}
	for _, e := range []schema.UserEvent{event("signed_up", 1000), event("onboarding_completed", 3999)} {
		set.Apply(&facts, &e, segment.Done{})
	}
	require.Equal(t, segment.Result{Truth: segment.False, Until: 6999}, r.Eval(scope(&facts, 6998)))
	require.Equal(t, segment.True, r.Eval(scope(&facts, 6999)).Truth)
}

// What can change the answer of a rule, for those who ask rules only when they must.
func TestReads(t *testing.T) {
	t.Parallel()
	p := shop()
	p.Traits = segment.Properties{"timezone": segment.String, "plan": segment.String, "ends": segment.Timestamp, "score_churn": segment.Number}
	p.Scores = map[string]string{"churn": ""}
	cases := []struct {
		rule     string
		events   []string
		traits   []string
		segments []string
		any      bool
	}{
		{`did("order") && events("cart").count() > 1 && traits.plan == "x" && in_segment("vip")`, []string{"cart", "order"}, []string{"plan"}, []string{"vip"}, false},
		{`events().count() > 1`, nil, nil, nil, true},
		{`events("order").followed_by(events("cart"), "1h")`, []string{"cart", "order"}, nil, nil, false},
		{`events("order").not_followed_by(events(), "1h")`, []string{"order"}, nil, nil, true},
		{`changes(traits.plan).count() > 1`, nil, []string{"plan"}, nil, false},
		{`time_since(traits.ends) > duration("1d") || time_until(traits.ends) > duration("1d")`, nil, []string{"ends"}, nil, false},
		{`score("churn") > 0.5`, nil, []string{"score_churn"}, nil, false},
		{`in_segment_for("vip", "1d")`, nil, nil, []string{"vip"}, false},
		{`local_time("09:00", "10:00")`, nil, []string{"timezone"}, nil, false},
		{`local_weekday("mon")`, nil, []string{"timezone"}, nil, false},
		{`events("order").within_days(2).count() > 1`, []string{"order"}, []string{"timezone"}, nil, false},
		{`events("order").within_days(2).days() > 1`, []string{"order"}, []string{"timezone"}, nil, false},
		{`events("order").days() > 1`, []string{"order"}, nil, nil, false},
		{`inactive_for("1d") && seen_for("1d")`, nil, nil, nil, true},
		{`time_to("order") > duration("1d")`, []string{"order"}, nil, nil, true},
		{`events("order").sum(e.total) > 1.0 && events("cart").distinct(e.order_id) > 2 && events("login").sessions("1h") > 1`, []string{"cart", "login", "order"}, nil, nil, false},
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			r, problems := segment.NewSet(p, 1).Compile(c.rule)
			require.Empty(t, problems)
			require.Equal(t, c.events, r.Events)
			require.Equal(t, c.traits, r.Traits)
			require.Equal(t, c.segments, r.Segments)
			require.Equal(t, c.any, r.AnyEvent)
		})
	}
	r, problems := segment.NewSet(p, 1).Compile(`variant("x") == "b"`)
	require.Empty(t, problems)
	require.True(t, r.AsksVariant)
	require.Equal(t, []string{"x"}, r.Experiments)
	zoned, problems := segment.NewSet(p, 1).Compile(`local_time("09:00", "10:00")`)
	require.Empty(t, problems)
	require.Equal(t, `local_time("09:00", "10:00") = false; traits.timezone = missing`, zoned.Explain(scope(&segment.Facts{}, 0)))
}

func TestExplain(t *testing.T) {
	t.Parallel()
	set := segment.NewSet(plan(), 1)
	r, problems := set.Compile(`events("feature_viewed").where(e.feature == "a").within("7d").count() >= 3 || traits.industry == "finance" || time_to("onboarding_completed") < duration("3d")`)
	require.Empty(t, problems)
	facts := segment.Facts{}
	for _, e := range []schema.UserEvent{event("feature_viewed", day, `{"feature":"a"}`), event("signed_up", day, ``, `{"industry":"law"}`)} {
		set.Apply(&facts, &e, segment.Done{})
	}
	require.Equal(t, `events("feature_viewed").where(e.feature == "a").within("7d").count() = 1; time_to("onboarding_completed") = no value yet; traits.industry = "law"`,
		r.Explain(scope(&facts, 2*day)))
	result := r.Eval(scope(&facts, 2*day))
	require.Equal(t, segment.Unknown, result.Truth)
	require.Equal(t, `time_to("onboarding_completed") has no value yet`, result.Why)
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"3d": 72 * time.Hour, "1w2d": 216 * time.Hour, "36h": 36 * time.Hour, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute} {
		got, err := segment.ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		back, err := segment.ParseDuration(segment.FormatDuration(got))
		require.NoError(t, err)
		require.Equal(t, got, back)
	}
	for _, text := range []string{"", "d", "-1d", "3", "1ns", "10000d", "3 days"} {
		_, err := segment.ParseDuration(text)
		require.Error(t, err, text)
	}
}
