package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSchema(t *testing.T) {
	t.Parallel()
	got := onramp(t.Context(), "schema")
	require.Equal(t, exitDone, got.code, got.err)
	var schema struct {
		Schema     string                     `json:"$schema"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	require.NoError(t, json.Unmarshal([]byte(got.out), &schema))
	require.Equal(t, "https://json-schema.org/draft/2020-12/schema", schema.Schema)
	require.Contains(t, schema.Properties, "journeys")
	require.Contains(t, onramp(t.Context(), "schema", "--help").out, "Example: onramp schema -o playbook.schema.json")
}
