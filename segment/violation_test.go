package segment_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

func TestViolations(t *testing.T) {
	t.Parallel()
	plan := segment.Plan{
		Events: map[string]segment.Properties{
			"order": {"order_id": segment.String, "total": segment.Number, "items": segment.Int, "at": segment.Timestamp, "tags": segment.List, "gift": segment.Bool},
		},
		Traits: segment.Properties{"plan": segment.String, "seats": segment.Int},
		Docs:   map[string]segment.EventDoc{"order": {Required: []string{"order_id", "total"}}},
	}
	cases := []struct {
		name, event, properties, traits string
		want                            []string
	}{
		{"as promised", "order", `{"order_id":"x","total":5,"items":2,"at":"2026-03-02T00:00:00Z","tags":["a"],"gift":true}`, `{"plan":"pro"}`, nil},
		{"nothing else is needed", "order", `{"order_id":"x","total":5.5}`, ``, nil},
		{"undeclared event", "ordr", `{"x":1}`, `{"y":1}`, []string{"event ordr is not declared"}},
		{"missing", "order", `{"total":1}`, ``, []string{"property order_id is required and missing"}},
		{"null is missing", "order", `{"order_id":null,"total":1,"items":null}`, ``, []string{"property order_id is required and missing"}},
		{"mistyped", "order", `{"order_id":5,"total":"1","items":1.5,"at":"monday","tags":[1],"gift":{}}`, `{"seats":"many"}`, []string{
			"property at should be timestamp, not string",
			"property gift should be bool, not object",
			"property items should be int, not number",
			"property order_id should be string, not whole number",
			"property tags should be list, not list of other things than texts",
			"property total should be number, not string",
			"trait seats should be int, not string",
		}},
		{"undeclared", "order", `{"order_id":"x","total":1,"size":"red"}`, `{"plam":"pro"}`, []string{"property size is not declared", "trait plam is not declared"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			properties, err := schema.DecodeProperties([]byte(c.properties))
			require.NoError(t, err)
			traits, err := schema.DecodeProperties([]byte(c.traits))
			require.NoError(t, err)
			var got []string
			for _, v := range plan.Violations(c.event, properties, traits) {
				got = append(got, v.String())
			}
			require.Equal(t, c.want, got)
		})
	}
}
