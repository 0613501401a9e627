package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTenQuestions asks the questions of docs/analytics.md of a small population: each has an answer.
func TestTenQuestions(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/analytics.md")
	require.NoError(t, err)
	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Len(t, queries, 10)
	a := newAnalyst(t, 300, plantedLift)
	a.results(t, demoExperiment) // a reading is kept: two of the questions are about it
	for _, q := range queries {
		rows, err := a.store.Conn().Query(t.Context(), q[1])
		require.NoError(t, err, q[1])
		require.True(t, rows.Next(), "no answer: %s", q[1])
		require.NoError(t, rows.Close())
		require.NoError(t, rows.Err(), q[1])
	}
}
