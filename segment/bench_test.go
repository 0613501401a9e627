package segment_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// mixed returns n rules as a playbook has them: counts with and without a filter and window, sums, traits, silence.
func mixed(n int) []string {
	kinds := []func(i int) string{
		func(i int) string { return fmt.Sprintf(`events("order").where(e.total > %d.0).count() >= 3`, i) },
		func(i int) string {
			return fmt.Sprintf(`events("order").where(e.items > %d).within("7d").count() >= 3 && traits.plan == "pro"`, i)
		},
		func(i int) string { return fmt.Sprintf(`events("order").within("30d").sum(e.total) > %d.0`, i) },
		func(i int) string { return fmt.Sprintf(`did("a") && inactive_for("%dh")`, i+1) },
		func(i int) string { return fmt.Sprintf(`events("b").since_last() > duration("%dh")`, i+1) },
		func(i int) string {
			return fmt.Sprintf(`events("order").where(e.order_id == "o%d").distinct(e.items) > 2`, i)
		},
		func(i int) string {
			return fmt.Sprintf(`events("a").not_followed_by(events("order").where(e.items > %d), "2h")`, i)
		},
		func(i int) string {
			return fmt.Sprintf(`traits.plan in ["pro", "team%d"] || events("a").days() > 3`, i)
		},
	}
	rules := make([]string, n)
	for i := range rules {
		rules[i] = kinds[i%len(kinds)](i / len(kinds))
	}
	return rules
}

func benchSet(b *testing.B, rules []string) (*segment.Set, []*segment.Rule) {
	b.Helper()
	set := segment.NewSet(exampleBook(b).Plan, 1)
	compiled := make([]*segment.Rule, len(rules))
	for i, rule := range rules {
		r, problems := set.Compile(rule)
		require.Empty(b, problems)
		compiled[i] = r
	}
	return set, compiled
}

// log1000 are a thousand events in the order of their times; live goes on with them for ever.
func log1000() []schema.UserEvent {
	events := randomLog(rand.New(rand.NewPCG(1, 2)), 1000, 500)
	for i := range events {
		events[i].OccurredAt = epoch + int64(i)*hour/2
	}
	return events
}

// BenchmarkApply folds events one by one into a user with so many rules.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			set, _ := benchSet(b, mixed(n))
			live := log1000()
			var facts segment.Facts
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				e := live[i%len(live)]
				e.OccurredAt += int64(i/len(live)) * 500 * hour
				set.Apply(&facts, &e, segment.Done{})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkEval asks all rules of a user.
func BenchmarkEval(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			set, rules := benchSet(b, mixed(n))
			s := scope(fold(set, log1000()), epoch+501*hour)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				rules[i%len(rules)].Eval(s)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rules/s")
		})
	}
}

// BenchmarkHistory folds an event and asks all rules of the reference's tables, of a user with so many events behind them: the cost is
// that of the rules, not of the past.
func BenchmarkHistory(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			set, rules := benchSet(b, languageRules(b))
			live := log1000()
			var facts segment.Facts
			at := func(i int) schema.UserEvent {
				e := live[i%len(live)]
				e.OccurredAt, e.Sequence = epoch+int64(i)*hour/2, uint64(i+1)
				return e
			}
			for i := range n {
				e := at(i)
				set.Apply(&facts, &e, segment.Done{})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				e := at(n + i)
				set.Apply(&facts, &e, segment.Done{})
				for _, rule := range rules {
					rule.Eval(scope(&facts, e.OccurredAt))
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(b.N*len(rules))/b.Elapsed().Seconds(), "rules/s")
		})
	}
}

// BenchmarkRule asks one rule of each kind.
func BenchmarkRule(b *testing.B) {
	for _, rule := range []string{
		`did("a")`, `events("order").count() >= 3`, `events("order").within("7d").count() >= 3`, `events("order").within("7d").sum(e.total) >= 3.0`,
		`events("order").within_days(7).count() >= 3`, `traits.plan == "pro"`, `traits.missing == "x"`, `time_until(traits.trial_ends) < duration("1d")`,
		`local_time("09:00", "17:00")`, `events("order").where(e.total > 5.0).within("7d").count() >= 3 && traits.plan == "pro"`,
	} {
		b.Run(rule, func(b *testing.B) {
			p := exampleBook(b).Plan
			p.Traits["missing"] = segment.String
			set := segment.NewSet(p, 1)
			compiled, problems := set.Compile(rule)
			require.Empty(b, problems)
			s := scope(fold(set, log1000()), epoch+501*hour)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				compiled.Eval(s)
			}
		})
	}
}

// BenchmarkCompile makes a rule of a text.
func BenchmarkCompile(b *testing.B) {
	p := exampleBook(b).Plan
	b.ReportAllocs()
	for range b.N {
		_, problems := segment.NewSet(p, 1).Compile(`events("order").where(e.total > 5.0).within("7d").count() >= 3 && traits.plan == "pro"`)
		require.Empty(b, problems)
	}
}
