package segment_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/segment"
)

// Whatever the tables of the reference say: the explanation agrees with the answer, part by part, and what is not true needs something.
func TestExplanationAgreesWithTheAnswer(t *testing.T) {
	t.Parallel()
	text := language(t)
	for _, heading := range []string{"Functions", "Operators"} {
		for _, row := range tableOf(t, section(t, text, heading)) {
			t.Run(heading+"/"+row[0], func(t *testing.T) {
				t.Parallel()
				book := exampleBook(t)
				x := parseExample(t, row)
				rule, problems := book.Set.Compile(x.rule)
				require.Empty(t, problems)
				for at := epoch; at < epoch+10*hour; at += hour / 2 {
					u := newUser(book)
					for _, e := range x.events {
						if e.OccurredAt <= at {
							u.apply(e)
						}
					}
					explained := rule.Explanation(u.scope(at))
					answer := rule.Eval(u.scope(at))
					require.Equal(t, answer.Truth, explained.Truth)
					require.Equal(t, answer.Truth != segment.True, len(explained.Needs) > 0)
					require.Equal(t, x.rule, explained.Text)
					leaves(t, x.rule, &explained)
					encoded(t, &explained)
				}
			})
		}
	}
}

func leaves(t *testing.T, source string, e *segment.Explanation) {
	t.Helper()
	require.NotEmpty(t, e.Text)
	require.Contains(t, source, e.Text)
	if e.Op == "" {
		require.Empty(t, e.Parts)
		require.NotEmpty(t, e.Reads)
	}
	for i := range e.Parts {
		leaves(t, source, &e.Parts[i])
	}
}

func encoded(t *testing.T, e *segment.Explanation) {
	t.Helper()
	raw, err := json.Marshal(e)
	require.NoError(t, err)
	var back segment.Explanation
	require.NoError(t, json.Unmarshal(raw, &back))
	require.Equal(t, *e, back)
}

// outline writes an explanation as an indented list.
func outline(b *strings.Builder, e *segment.Explanation, indent string) {
	text := e.Text
	if e.Op != "" {
		text = e.Op
	}
	fmt.Fprintf(b, "%s%s %s", indent, e.Truth, text)
	for _, v := range e.Reads {
		fmt.Fprintf(b, "; %s = %s", v.Text, v.Value)
	}
	if e.Until != 0 {
		b.WriteString("; until " + time.UnixMilli(e.Until).UTC().Format("02 15:04"))
	}
	if e.Why != "" {
		b.WriteString("; " + e.Why)
	}
	b.WriteString("\n")
	for i := range e.Parts {
		outline(b, &e.Parts[i], indent+"\t")
	}
}

func TestExplanationTree(t *testing.T) {
	t.Parallel()
	book := exampleBook(t)
	r, problems := book.Set.Compile(`(did("a") && !(events( "order" ).where(e.total > 10.0).within("7d").count()>=3)) || // why
		(!!(traits.plan == 'a || "b"') && (inactive_for("2h")) && (true ? did('b') : did("a")))`)
	require.Empty(t, problems)
	u := newUser(book)
	for _, e := range parseExample(t, []string{"", "a@1h order{total: 20}@2h", ""}).events {
		u.apply(e)
	}
	got := r.Explanation(u.scope(epoch + 3*hour))
	var b strings.Builder
	outline(&b, &got, "")
	require.Equal(t, strings.TrimLeft(`
true or
	true and
		true did("a"); events("a").count() = 1
		true not
			false events( "order" ).where(e.total > 10.0).within("7d").count()>=3; events("order").where(e.total > 10.0).within("7d").count() = 1; until 09 02:00
	false and
		unknown traits.plan == 'a || "b"'; traits.plan = missing; traits.plan is missing or not of its declared type
		false inactive_for("2h"); inactive_for("2h") = false; until 02 04:00
		false true ? did('b') : did("a"); events("b").count() = 0; events("a").count() = 1
`, "\n"), b.String())
	require.Empty(t, got.Needs)
}

// A text in a rule can hold all that takes a rule apart.
func TestExplanationOfTexts(t *testing.T) {
	t.Parallel()
	book := exampleBook(t)
	parts := []string{
		`traits.plan == r'a\'`, `traits.plan == """x"|| (y"""`, `traits.plan == 'it\'s && that'`, `traits.plan.matches("^\\(a||b$")`,
		`!(traits.plan in ["a)", "(b"])`, "[1, 2][0] == 2 // or || so\n", `traits.plan != "é" + "ü"`, `!(!did("a"))`, `-1 + 2 != 1`,
	}
	r, problems := book.Set.Compile(strings.Join(parts, " || "))
	require.Empty(t, problems)
	got := r.Explanation(newUser(book).scope(epoch))
	require.Len(t, got.Parts, len(parts))
	for i, part := range parts {
		want, _, _ := strings.Cut(part, " //")
		require.Equal(t, want, got.Parts[i].Text)
	}
}

// Moments are written as short as they can be.
func TestNeedsNameMoments(t *testing.T) {
	t.Parallel()
	book := exampleBook(t)
	r, problems := book.Set.Compile(`inactive_for("1d")`)
	require.Empty(t, problems)
	for after, want := range map[int64]string{0: "2026-03-03 00:00 UTC", 5000: "2026-03-03 00:00:05 UTC", 5001: "2026-03-03 00:00:05.001 UTC"} {
		u := newUser(book)
		u.apply(event("a", epoch+after))
		require.Equal(t, []string{"no event until " + want}, r.Explanation(u.scope(epoch+after)).Needs)
	}
}

// What would have to happen, for every function and the shapes in which rules ask for it.
func TestNeeds(t *testing.T) {
	t.Parallel()
	const log = `a@1h order{total: 20, order_id: x, items: 1}@2h b@4h traits{plan: free, score_churn: 0.2, trial_ends: "2026-03-02T12:00:00Z"}@4h`
	cases := []struct {
		rule  string
		truth segment.Truth
		want  []string
	}{
		{`did("order")`, segment.True, nil},
		{`did("order", "1h")`, segment.False, []string{"order to happen"}},
		{`did_not("order", "7d")`, segment.False, []string{"no order until 2026-03-09 02:00 UTC"}},
		{`!did("order")`, segment.False, []string{"nothing can change that order happened"}},
		{`did_not("order")`, segment.False, []string{"nothing can change that order happened"}},
		{`events("order").count() == 3`, segment.False, []string{"2 more order"}},
		{`events("order").count() < 1`, segment.False, []string{"nothing can change that order happened"}},
		{`events("order").count() != 1`, segment.False, []string{"1 more order"}},
		{`events("order").where(e.total > 10.0).within("7d").count() >= 3`, segment.False, []string{"2 more order where e.total > 10.0 within 7d"}},
		{`events("order").within_days(2).count() < 1`, segment.False, []string{"no order until 2026-03-04 00:00 UTC"}},
		{`events("order").within_days(2).count() > 1`, segment.False, []string{"1 more order within 2 calendar days"}},
		{`events().count() >= 9`, segment.False, []string{"5 more events"}},
		{`events("order").distinct(e.order_id) == 2`, segment.False, []string{"1 more different e.order_id of order"}},
		{`events("order").within("3h").distinct(e.order_id) >= 2`, segment.False, []string{"2 different e.order_id of order within 3h"}},
		{`events("order").sum(e.total) >= 30.0`, segment.False, []string{"the sum of e.total of order to be at least 30 (now: 20)"}},
		{`events("order").within("2h").sum(e.total) >= 30.0`, segment.False, []string{"the sum of e.total of order within 2h to be at least 30 (now: 0)"}},
		{`events("order").within("7h").sum(e.total) < 5.0`, segment.False, []string{"no order until 2026-03-02 09:00 UTC"}},
		{`events("order").min(e.total) < 10.0`, segment.False, []string{"order with e.total of less than 10"}},
		{`events("order").min(e.total) > 30.0`, segment.False, []string{"nothing can change that the least of e.total of order was 20"}},
		{`events("order").max(e.items) >= 3`, segment.False, []string{"order with e.items of at least 3"}},
		{`events("order").max(e.items) < 1`, segment.False, []string{"nothing can change that the greatest of e.items of order was 1"}},
		{`events("order").within("2h").max(e.total) >= 20.0`, segment.Unknown, []string{"order with e.total of at least 20 within 2h"}},
		{`events("order").avg(e.total) == 15.0`, segment.False, []string{"the mean of e.total of order to be 15 (now: 20)"}},
		{`events("order").where(e.total > 100.0).max(e.total) > 10.0`, segment.Unknown, []string{"order where e.total > 100.0 with e.total of more than 10"}},
		{`events("a").days() == 2`, segment.False, []string{"1 more day with a"}},
		{`events("a").within_days(7).days() >= 2`, segment.False, []string{"1 more day with a within 7 calendar days"}},
		{`events("a").first() < timestamp("2026-03-02T00:00:00Z")`, segment.False, []string{"an earlier a to turn up, from before 2026-03-02T00:00:00Z"}},
		{`events("a").first() > timestamp("2026-03-03T00:00:00Z")`, segment.False, []string{"nothing can change that the first a was 2026-03-02 01:00 UTC"}},
		{`events("a").last() > timestamp("2026-03-02T08:00:00Z")`, segment.False, []string{"a to happen after 2026-03-02T08:00:00Z"}},
		{`events("order").where(e.total > 100.0).last() > timestamp("2026-03-02T08:00:00Z")`, segment.Unknown, []string{"order where e.total > 100.0 to happen after 2026-03-02T08:00:00Z"}},
		{`events("a").since_first() >= duration("24h")`, segment.False, []string{"it to be 2026-03-03 01:00 UTC"}},
		{`events("a").since_first() < duration("2h")`, segment.False, []string{"nothing can change that the first a was 2026-03-02 01:00 UTC"}},
		{`events("a").since_last() >= duration("24h")`, segment.False, []string{"no a until 2026-03-03 01:00 UTC"}},
		{`events("a").since_last() < duration("2h")`, segment.False, []string{"a to happen"}},
		{`events("order").where(e.total > 100.0).since_last() > duration("2h")`, segment.Unknown, []string{"order where e.total > 100.0 to happen, and then 2h to pass"}},
		{`events("a").followed_by(events("b"), "2h")`, segment.False, []string{"a, and b within 2h after it"}},
		{`events("b").followed_by(events("a"), "2h")`, segment.False, []string{"a before 2026-03-02 06:00 UTC"}},
		{`!events("a").followed_by(events("b"), "5h")`, segment.False, []string{"nothing can change that a was followed by b"}},
		{`events("a").not_followed_by(events("b"), "2h")`, segment.False, []string{"a, and no b for 2h"}},
		{`events("b").not_followed_by(events("a"), "2h")`, segment.False, []string{"no a until 2026-03-02 06:00 UTC"}},
		{`!events("b").not_followed_by(events("a"), "1h")`, segment.False, []string{"a to happen"}},
		{`events().sessions("30m") == 5`, segment.False, []string{"2 more sessions"}},
		{`events().session_length("30m") >= duration("20m")`, segment.False, []string{"a session that lasts at least 20m (now: 0s)"}},
		{`events().longest_session("30m") >= duration("20m")`, segment.False, []string{"a session that lasts at least 20m (now: 0s)"}},
		{`events().longest_session("3h") < duration("20m")`, segment.False, []string{"nothing can change that a session lasted 3h"}},
		{`time_to("b") < duration("2h")`, segment.False, []string{"nothing can change that the first b was 2026-03-02 04:00 UTC, and the first event 2026-03-02 01:00 UTC"}},
		{`time_to("order") > duration("2h")`, segment.False, []string{"nothing can change that the first order was 2026-03-02 02:00 UTC, and the first event 2026-03-02 01:00 UTC"}},
		{`inactive_for("2h")`, segment.False, []string{"no event until 2026-03-02 06:00 UTC"}},
		{`!inactive_for("30m")`, segment.False, []string{"an event"}},
		{`seen_for("12h")`, segment.False, []string{"it to be 2026-03-02 13:00 UTC"}},
		{`!seen_for("1h")`, segment.False, []string{"nothing can change that the first event was 2026-03-02 01:00 UTC"}},
		{`traits.plan == "pro"`, segment.False, []string{`trait plan to be "pro"`}},
		{`!(traits.plan == "free")`, segment.False, []string{`trait plan to be other than "free"`}},
		{`traits.plan in ["pro", "team"]`, segment.False, []string{`trait plan to be "pro" or "team"`}},
		{`traits.plan.startsWith("te")`, segment.False, []string{`traits.plan.startsWith("te") to be true`}},
		{`traits.timezone == "x"`, segment.Unknown, []string{`trait timezone to be "x"`}},
		{`"pro" == traits.plan`, segment.False, []string{`trait plan to be "pro"`}},
		{`changes(traits.plan).count() == 1`, segment.False, []string{"a change of trait plan to happen"}},
		{`changes(traits.plan).where(e.from == "pro" && e.to == "free").within("2h").count() > 0`, segment.False, []string{`a change of trait plan where e.from == "pro" && e.to == "free" to happen`}},
		{`time_since(traits.trial_ends) >= duration("2h")`, segment.False, []string{"it to be 2026-03-02 14:00 UTC"}},
		{`time_until(traits.trial_ends) <= duration("2h")`, segment.False, []string{"it to be 2026-03-02 10:00 UTC"}},
		{`time_until(traits.trial_ends) > duration("20h")`, segment.False, []string{"trait trial_ends to hold another time"}},
		{`score("churn") > 0.7`, segment.False, []string{"score churn to be more than 0.7"}},
		{`in_segment("z")`, segment.False, []string{"to enter segment z"}},
		{`in_segment_for("s", "20h")`, segment.False, []string{"to stay in segment s until 2026-03-02 21:00 UTC"}},
		{`in_segment_for("z", "2h")`, segment.False, []string{"to be in segment z for 2h"}},
		{`!in_segment("s")`, segment.False, []string{"to leave segment s"}},
		{`variant("x") == "b"`, segment.False, []string{`to meet variant "b" of experiment x`}},
		{`local_time("09:00", "17:00")`, segment.False, []string{"it to be 2026-03-02 09:00 UTC"}},
		{`local_weekday("tue")`, segment.False, []string{"it to be 2026-03-03 00:00 UTC"}},
		{`!local_weekday("mon")`, segment.False, []string{"it to be 2026-03-03 00:00 UTC"}},
		{`did("order") && did("a") && traits.plan == "pro" && events("order").count() > 4`, segment.False, []string{`trait plan to be "pro"`, "4 more order"}},
		{`traits.plan == "pro" || (events("order").count() > 4 && inactive_for("1d"))`, segment.False, []string{`trait plan to be "pro", or 4 more order and no event until 2026-03-03 04:00 UTC`}},
		{`(did("a") ? 2 : 1) == 3`, segment.False, []string{`(did("a") ? 2 : 1) == 3 to be true`}},
		{`size(traits.plan) == 9`, segment.False, []string{"size(traits.plan) == 9 to be true"}},
		{`events("a").count() + events("b").count() >= 3`, segment.False, []string{`events("a").count() + events("b").count() >= 3 to be true`}},
		{`false`, segment.False, []string{"nothing can change that false is the same for everybody"}},
		{`!(did("a") || did("b"))`, segment.False, []string{"nothing can change that a happened", "nothing can change that b happened"}},
		{`events("a").count() / 0 > 1`, segment.Unknown, []string{`events("a").count() / 0 > 1 to be true`}},
		{`did_not("order", "7d") && !did("a")`, segment.False, []string{"no order until 2026-03-09 02:00 UTC", "nothing can change that a happened"}},
		{`traits.plan == "pro" || !did("a")`, segment.False, []string{`trait plan to be "pro"`}},
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			book := exampleBook(t)
			r, problems := book.Set.Compile(c.rule)
			require.Empty(t, problems)
			u := newUser(book)
			for _, e := range parseExample(t, []string{"", log, ""}).events {
				u.apply(e)
			}
			got := r.Explanation(u.scope(epoch + 5*hour))
			require.Equal(t, c.truth, got.Truth)
			require.Equal(t, c.want, got.Needs)
		})
	}
}
