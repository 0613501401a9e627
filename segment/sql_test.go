package segment_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/segment"
)

func sqlSet() *segment.Set {
	return segment.NewSet(segment.Plan{Events: map[string]segment.Properties{
		"order": {"total": segment.Number, "items": segment.Int, "plan": segment.String, "paid": segment.Bool, "at": segment.Timestamp, "tags": segment.List},
	}}, 1)
}

// What the conditions answer is tested against ClickHouse in package outcome.
func TestFilterSQL(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`e.paid`:          `ifNull(if(JSONType(p, 'paid') = 'Bool', JSONExtractBool(p, 'paid'), NULL), false)`,
		`e.plan == "a'b"`: `ifNull((if(JSONType(p, 'plan') = 'String', JSONExtractString(p, 'plan'), NULL) = 'a\'b'), false)`,
		`e.plan == "$1?"`: `ifNull((if(JSONType(p, 'plan') = 'String', JSONExtractString(p, 'plan'), NULL) = '$1\x3F'), false)`,
		`e.total > 10.0`:  `ifNull((if(JSONType(p, 'total') IN ('Int64', 'UInt64', 'Double'), JSONExtractFloat(p, 'total'), NULL) > toFloat64('10')), false)`,
	} {
		f, problems := sqlSet().CompileFilter(source, []string{"order"}, nil)
		require.Empty(t, problems)
		got, err := f.SQL("p")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestFilterSQLRefuses(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`e.paid && e.at > timestamp("2026-01-01T00:00:00Z")`: "1:11: a metric's where cannot look at at: it is a timestamp",
		`"x" in e.tags`:                              "1:5: a metric's where takes in with a list that stands in it",
		`e.tags.exists(t, t == "x")`:                 "1:14: a metric's where cannot hold lists or macros",
		`size(e.tags) > 1`:                           "cannot look at tags: it is a list",
		`string(e.items) == "1"`:                     "cannot use string",
		`e.paid && duration("1d") == duration("1d")`: "",
	} {
		f, problems := sqlSet().CompileFilter(source, []string{"order"}, nil)
		require.Empty(t, problems, source)
		_, err := f.SQL("p")
		require.ErrorContains(t, err, want, source)
	}
	f, problems := sqlSet().CompileFilter(`e.plan == same.plan`, []string{"order"}, []string{"order"})
	require.Empty(t, problems)
	_, err := f.SQL("p")
	require.ErrorContains(t, err, "properties of its event alone")
}
