package segment_test

import (
	"errors"
	"fmt"
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

func TestReads(t *testing.T) {
	t.Parallel()
	set := segment.NewSet(plan(), 1)
	r, problems := set.Compile(`did("signed_up") && events("feature_viewed").count() > 1 && traits.industry == "x" && in_segment("vip")`)
	require.Empty(t, problems)
	require.Equal(t, []string{"feature_viewed", "signed_up"}, r.Events)
	require.Equal(t, []string{"industry"}, r.Traits)
	require.Equal(t, []string{"vip"}, r.Segments)
	require.False(t, r.AnyEvent)
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

func FuzzCompile(f *testing.F) {
	f.Add(`events("feature_viewed").where(e.feature == "a").within("7d").count() >= 3`)
	f.Add(`!!(!!!!!!(did("signed_up")))`)
	f.Fuzz(func(_ *testing.T, source string) {
		set := segment.NewSet(plan(), 1)
		r, problems := set.Compile(source)
		if len(problems) > 0 {
			return
		}
		r.Eval(scope(&segment.Facts{}, 1))
		r.Explain(scope(&segment.Facts{}, 1))
	})
}
