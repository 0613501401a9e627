package outcome_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/outcome"
)

// Ada met two variants and is left out; bob converted before he met his; what came before the exposure counts for nobody.
func TestVariantFunnel(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	carryTwice(t, store)
	step := func(step, variant string, users int64) outcome.VariantStep {
		return outcome.VariantStep{Journey: "onboarding", Step: step, Variant: variant, Users: users}
	}
	got, err := store.VariantFunnel(t.Context(), "checklist_first", time.Time{})
	require.NoError(t, err)
	require.Equal(t, []outcome.VariantStep{
		step("tip", "control", 2), step("tip", "treatment", 2), step("converted", "treatment", 2),
	}, got)
	got, err = store.VariantFunnel(t.Context(), "checklist_first", handMade().base.Add(13*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []outcome.VariantStep{step("tip", "treatment", 2), step("converted", "treatment", 2)}, got)
	got, err = store.VariantFunnel(t.Context(), "unknown", time.Time{})
	require.NoError(t, err)
	require.Empty(t, got)

	traffic, err := store.Traffic(t.Context(), "checklist_first")
	require.NoError(t, err)
	require.EqualValues(t, 4, traffic.Users)
	require.Equal(t, handMade().base.Add(11*time.Minute), traffic.First.UTC())
	require.InDelta(t, 4/(3.0/1440), traffic.PerDay(), 1e-9)
	traffic, err = store.Traffic(t.Context(), "unknown")
	require.NoError(t, err)
	require.Equal(t, outcome.Traffic{}, traffic)
	require.Zero(t, traffic.PerDay())

	tokens, err := store.Exposed(t.Context(), "checklist_first")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{token("bob"), token("cyd"), token("dan"), token("eve")}, tokens)
	require.IsIncreasing(t, tokens)
}
