package outcome_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
)

// The same decision taken twice is one row, of the first time.
func TestRecordDecisions(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	first := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	d := outcome.Decision{
		DecisionID: "d1", Experiment: "flow", DecidedAt: first, Action: "shares", Variants: []string{"a", "b"}, Shares: map[string]float64{"a": 0.25, "b": 0.75},
		Because: []string{"it's better", "and \"quoted\""}, Change: "change", Rule: "rule", AnalysisID: "x", Playbook: "p",
	}
	require.NoError(t, store.RecordDecisions(t.Context(), []outcome.Decision{d}))
	d.DecidedAt = first.Add(time.Hour)
	require.NoError(t, store.RecordDecisions(t.Context(), []outcome.Decision{d, {DecisionID: "d2", Experiment: "flow", DecidedAt: first, Action: "stop", Variants: []string{"b"}}}))
	require.NoError(t, store.RecordDecisions(t.Context(), nil))
	require.Equal(t, []string{
		`('d1','flow','2026-11-24 09:00:00.000','shares',['a','b'],{'a':0.25,'b':0.75},['it\'s better','and "quoted"'],'change','rule','x','p')`,
		`('d2','flow','2026-11-24 09:00:00.000','stop',['b'],{},[],'','','','')`,
	}, rowsOf(t, store, "SELECT * REPLACE (mapSort(shares) AS shares) FROM experiment_decisions ORDER BY decision_id"))
}
