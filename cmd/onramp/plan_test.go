package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func planOf(t *testing.T, args ...string) planReport {
	t.Helper()
	got := onramp(t.Context(), append([]string{"experiment", "plan", "--json"}, args...)...)
	require.Equal(t, exitDone, got.code, got.err)
	var report planReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &report))
	return report
}

// A lift of 15 % on a rate of 30 %: about 1,690 users an arm for 80 %; looked at every 500 users, 97.3 % have stopped by 10,000,
// after 4,349 on average, and 1.4 % where there is no effect.
func TestPlanOfTheCaseStudy(t *testing.T) {
	t.Parallel()
	r := planOf(t, "--baseline", "0.3", "--lift", "0.15", "--every", "500", "--looks", "20", "--per-day", "500")
	require.InDelta(t, 1690, r.Fixed.PerArm, 2)
	require.Equal(t, 2*r.Fixed.PerArm, r.Fixed.Users)
	require.EqualValues(t, 7, r.Fixed.Days)
	require.EqualValues(t, 10_000, r.Sequential.MaxUsers)
	require.EqualValues(t, 20, r.Sequential.MaxDays)
	require.InDelta(t, 0.973, r.Sequential.Power, 0.0005)
	require.InDelta(t, 4349, r.Sequential.MeanUsers, 1)
	require.InDelta(t, 0.014, r.Sequential.FalseAlarms, 0.0005)
	require.Len(t, r.Sequential.Looks, 20)
	require.InDelta(t, r.Sequential.Power, r.Sequential.Looks[19].Stopped, 1e-12)
}

func TestPlan(t *testing.T) {
	t.Parallel()
	t.Run("looks as often as the power needs", func(t *testing.T) {
		t.Parallel()
		r := planOf(t, "--baseline", "0.3", "--lift", "0.15", "--per-day", "400")
		require.EqualValues(t, 400, r.Sequential.Every)
		require.GreaterOrEqual(t, r.Sequential.Power, 0.8)
		require.Less(t, r.Sequential.Looks[len(r.Sequential.Looks)-2].Stopped, 0.8)
		require.Greater(t, r.Sequential.MaxUsers, r.Fixed.Users)
	})
	t.Run("which lift so many users find", func(t *testing.T) {
		t.Parallel()
		need := planOf(t, "--baseline", "0.3", "--lift", "0.15").Fixed.Users
		r := planOf(t, "--baseline", "0.3", "--users", "3380")
		require.InDelta(t, 3380, need, 2)
		require.InDelta(t, 0.15, r.Lift, 0.0005)
	})
	t.Run("more arms share the budget and the users", func(t *testing.T) {
		t.Parallel()
		two, four := planOf(t, "--baseline", "0.3", "--lift", "0.15"), planOf(t, "--baseline", "0.3", "--lift", "0.15", "--arms", "4")
		require.Greater(t, four.Fixed.PerArm, two.Fixed.PerArm)
		require.Equal(t, 4*four.Fixed.PerArm, four.Fixed.Users)
	})
	t.Run("a mean, and covariates", func(t *testing.T) {
		t.Parallel()
		plain := planOf(t, "--baseline", "50", "--sd", "100", "--lift", "0.1")
		less := planOf(t, "--baseline", "50", "--sd", "100", "--lift", "0.1", "--reduction", "0.5")
		require.InDelta(t, 0.5, float64(less.Fixed.Users)/float64(plain.Fixed.Users), 0.01)
	})
	t.Run("as text", func(t *testing.T) {
		t.Parallel()
		got := onramp(t.Context(), "experiment", "plan", "--baseline", "0.3", "--lift", "0.15", "--per-day", "500")
		require.Equal(t, exitDone, got.code, got.err)
		require.Contains(t, got.out, "looked at once, at the end")
		require.Contains(t, got.out, "looked at all the time")
		require.NotContains(t, got.out, "\x1b")
	})
	for name, args := range map[string][]string{
		"no baseline":          {"--lift", "0.1"},
		"neither":              {"--baseline", "0.3"},
		"both":                 {"--baseline", "0.3", "--lift", "0.1", "--users", "100"},
		"out of range":         {"--baseline", "0.3", "--lift", "4"},
		"one arm":              {"--baseline", "0.3", "--lift", "0.1", "--arms", "1"},
		"not a number":         {"--baseline", "NaN", "--lift", "0.1"},
		"too few for any lift": {"--baseline", "0.3", "--users", "4"},
		"negative looks":       {"--baseline", "0.3", "--lift", "0.1", "--every", "-5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := onramp(t.Context(), append([]string{"experiment", "plan"}, args...)...)
			require.Equal(t, exitUsage, got.code, got.out+got.err)
			require.Empty(t, got.out)
		})
	}
}
