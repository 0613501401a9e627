package segment_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// FuzzCompile: whatever a rule is, it is refused with a place in its text, or it answers, explains itself and names moments that are
// to come; it compiles in time.
func FuzzCompile(f *testing.F) {
	for _, rule := range languageRules(f) {
		f.Add(rule)
	}
	f.Add(`!!(!!!!!!(did("a")))`)
	f.Add(`events("order").where(e.order_id == 'x' && e.total > 1.0).within("7d").count() >= 3 || // why` + "\n" + `!(traits.plan in ["a"])`)
	plan := exampleBook(f).Plan
	events := append([]schema.UserEvent{}, parseExample(f, []string{"", "a@1h order{total: 20, order_id: x, items: 1}@2h b@4h traits{plan: free, score_churn: 0.2}@4h", ""}).events...)
	f.Fuzz(func(t *testing.T, source string) {
		set := segment.NewSet(plan, 1)
		start := time.Now()
		rule, problems := set.Compile(source)
		if took := time.Since(start); took > mostTime { // once more: something else may have run
			start = time.Now()
			segment.NewSet(plan, 1).Compile(source)
			require.Less(t, time.Since(start), mostTime)
		}
		for _, problem := range problems {
			var e *segment.RuleError
			require.ErrorAs(t, problem, &e)
			require.Positive(t, e.Line)
			require.Positive(t, e.Column)
		}
		if len(problems) > 0 {
			return
		}
		for _, facts := range []*segment.Facts{{}, fold(set, events)} {
			now := epoch + 5*hour
			result := rule.Eval(scope(facts, now))
			require.True(t, result.Until == 0 || result.Until > now)
			require.Equal(t, result.Truth == segment.Unknown, result.Why != "")
			rule.Explain(scope(facts, now))
			explained := rule.Explanation(scope(facts, now))
			require.Equal(t, result.Truth, explained.Truth)
			require.Equal(t, result.Truth != segment.True, len(explained.Needs) > 0)
			contained(t, source, &explained)
			_, err := json.Marshal(explained)
			require.NoError(t, err)
		}
	})
}

func contained(t *testing.T, source string, e *segment.Explanation) {
	t.Helper()
	require.Contains(t, source, e.Text)
	for i := range e.Parts {
		contained(t, source, &e.Parts[i])
	}
}

// FuzzApply: whatever events carry, the state can be stored and read back, keeps within its bound, and answers every rule.
func FuzzApply(f *testing.F) {
	f.Add(uint8(0), int64(0), []byte(`{"total":20,"items":3,"order_id":"x"}`), []byte(`{"plan":"pro","timezone":"Europe/Berlin"}`))
	f.Add(uint8(1), hour, []byte(`{"total":9.2e12,"items":-9223372036854775808}`), []byte(`{"trial_ends":"0001-01-01T00:00:00Z"}`))
	f.Add(uint8(2), int64(1)<<50, []byte(`{"total":null,"order_id":[]}`), []byte(`{"trial_ends":"9999-12-31T23:59:59Z","score_churn":"x"}`))
	f.Add(uint8(3), int64(-1), []byte(`[`), []byte(`{"timezone":"Local"}`))
	book := exampleBook(f)
	var rules []*segment.Rule
	for _, source := range languageRules(f) {
		rule, problems := book.Set.Compile(source)
		require.Empty(f, problems)
		rules = append(rules, rule)
	}
	f.Fuzz(func(t *testing.T, name uint8, after int64, properties, traits []byte) {
		var facts segment.Facts
		names := []string{"a", "b", "order", "traits", "unknown"}
		after = max(-epoch, min(after, epoch)) // receipt bounds the times of events
		for i := range uint8(4) {
			e := schema.UserEvent{
				EventName: names[int(name+i)%len(names)], OccurredAt: epoch + after*int64(i), Sequence: uint64(i), Properties: properties, Traits: traits,
			}
			if i%2 == 0 {
				e.Properties = nil
			}
			book.Set.Apply(&facts, &e, segment.Done{})
		}
		raw, err := json.Marshal(&facts)
		if err != nil {
			return // a trait that is no JSON: ingest lets only objects through
		}
		var back segment.Facts
		require.NoError(t, json.Unmarshal(raw, &back))
		for _, rule := range rules {
			for _, now := range []int64{epoch, epoch + after} {
				require.Equal(t, rule.Eval(scope(&facts, now)), rule.Eval(scope(&back, now)), rule.Source)
			}
		}
		series, err := json.Marshal(facts.Series)
		require.NoError(t, err)
		require.LessOrEqual(t, len(series), book.Set.MaxBytes())
	})
}
