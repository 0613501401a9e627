package outcome_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// The formulas in SQL against those in Go, over conversions many and few, rates alike and far apart.
func TestExperimentResultsEqualGo(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	cases := [][4]int64{{1000, 300, 1000, 360}, {1000, 300, 1010, 300}, {4000, 40, 5000, 90}, {500, 100, 480, 31}, {900, 450, 60, 30}, {50, 10, 60, 5}, {300, 100, 300, 30}, {70, 31, 4000, 3000}}
	var outcomes []schema.Outcome
	for i, c := range cases {
		key, users := fmt.Sprint("x", i), 0
		for arm, variant := range []string{"control", "treatment"} {
			for n := range c[2*arm] {
				users++
				token := schema.UserToken(workspaceKey, fmt.Sprint(key, variant, n))
				outcomes = append(outcomes, schema.Outcome{
					OutcomeID: fmt.Sprint("e", key, users), Kind: schema.ExposureRecorded, UserToken: token, At: start, Experiment: key, Variant: variant,
				})
				if n < c[2*arm+1] {
					outcomes = append(outcomes, schema.Outcome{OutcomeID: fmt.Sprint("g", key, users), Kind: schema.GoalConverted, UserToken: token, At: start + 1, Goal: "done"})
				}
			}
		}
	}
	require.NoError(t, store.InsertOutcomes(t.Context(), "results", 1, outcomes))
	for i, c := range cases {
		want := experiment.Compare(experiment.Metric{Key: "m", Kind: experiment.KindProportion},
			experiment.FromCounts(c[0], c[1]), experiment.FromCounts(c[2], c[3]), experiment.Options{})
		var state string
		require.NoError(t, store.Conn().QueryRow(t.Context(), fmt.Sprintf("SELECT state FROM experiment_results WHERE experiment = 'x%d'", i)).Scan(&state))
		require.Equal(t, string(want.State), state, "%v", c)
		absolute, relative := want.Absolute, want.Relative
		for column, number := range map[string]float64{
			"control_rate": want.Control.Value, "treatment_rate": want.Treatment.Value, "difference": absolute.Value,
			"difference_low": absolute.Anytime.Low, "difference_high": absolute.Anytime.High, "p_value": absolute.Anytime.PValue,
			"difference_fixed_low": absolute.Fixed.Low, "difference_fixed_high": absolute.Fixed.High, "fixed_p_value": absolute.Fixed.PValue,
			"lift": relative.Value, "lift_low": relative.Anytime.Low, "lift_high": relative.Anytime.High,
			"lift_fixed_low": relative.Fixed.Low, "lift_fixed_high": relative.Fixed.High,
		} {
			var got *float64
			require.NoError(t, store.Conn().QueryRow(t.Context(), fmt.Sprintf("SELECT toNullable(%s) FROM experiment_results WHERE experiment = 'x%d'", column, i)).Scan(&got))
			if !strings.HasSuffix(column, "_rate") && want.State != experiment.StateOK {
				require.Nil(t, got, "%s of %v", column, c)
				continue
			}
			require.NotNil(t, got, "%s of %v", column, c)
			require.InDelta(t, number, *got, 1e-9*max(1, math.Abs(number)), "%s of %v", column, c)
		}
	}
}

// assigned makes up exposures as the engine records them: of experiments of all sorts, each by its own rules.
func assigned(t *testing.T) (*past, int) {
	t.Helper()
	p := &past{}
	for i, e := range []experiment.Experiment{
		{Key: "halves", Variants: []experiment.Variant{{Key: "control", Weight: 0.5}, {Key: "treatment", Weight: 0.5}}},
		{Key: "thirds", Seed: "ünï", Coverage: 0.7, Variants: []experiment.Variant{{Key: "z", Weight: 1.0 / 3}, {Key: "a", Weight: 1.0 / 3}, {Key: "m", Weight: 1 - 2.0/3}}},
		{Key: "old", HashVersion: 1, Coverage: 0.9, Variants: []experiment.Variant{{Key: "control", Weight: 0.1}, {Key: "treatment", Weight: 0.9}}},
		{
			Key: "layered", Variants: []experiment.Variant{{Key: "control", Weight: 0.5}, {Key: "treatment", Weight: 0.5}},
			Filters: []experiment.Filter{{Seed: "n", HashVersion: 2, Ranges: []experiment.Range{{Start: 0.25, End: 0.75}}}},
		},
		{
			Key: "spaced", Variants: []experiment.Variant{{Key: "control", Weight: 0.5}, {Key: "treatment", Weight: 0.5}},
			Namespace: experiment.Namespace{Key: "n", Range: experiment.Range{Start: 0.2, End: 0.6}},
		},
	} {
		if e.HashVersion == 0 {
			e.HashVersion = experiment.HashV2
		}
		if e.Coverage == 0 {
			e.Coverage = 1
		}
		if e.Seed == "" {
			e.Seed = e.Key
		}
		weights, variants := map[string]float64{}, []string{}
		for _, v := range e.Variants {
			weights[v.Key], variants = v.Weight, append(variants, v.Key)
		}
		for n := range 150 {
			token := schema.UserToken(workspaceKey, fmt.Sprint("user ", n))
			a := e.Assign(token)
			if !a.In {
				continue
			}
			details := map[string]any{"seed": e.Seed, "hash_version": e.HashVersion, "coverage": e.Coverage, "weights": weights, "variants": variants}
			if len(e.Filters) > 0 {
				details["namespace"] = map[string]any{"name": "n", "range": []float64{0.25, 0.75}, "hash_version": 2}
			}
			if e.Namespace.Key != "" {
				details["namespace"] = map[string]any{"name": "n", "range": []float64{0.2, 0.6}, "hash_version": 1}
			}
			p.expose(token, e.Key, a.Variant, start+int64(i), details)
			p.exposures[len(p.exposures)-1].Bucket = a.Bucket
		}
	}
	return p, len(p.exposures)
}

func TestEveryAssignmentIsProvedAgain(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	p, proper := assigned(t)
	require.Greater(t, proper, 400)
	// What must be seen: a bucket, a variant and a place that the hash does not give, and rows that do not say enough.
	for i, spoil := range []func(o *schema.Outcome){
		func(o *schema.Outcome) { o.Bucket += 0.001 },
		func(o *schema.Outcome) {
			o.Variant = map[string]string{"control": "treatment", "treatment": "control"}[o.Variant]
		},
		func(o *schema.Outcome) {
			o.Details = []byte(strings.Replace(string(o.Details), `"variants":`, `"namespace":{"name":"n","range":[0,0],"hash_version":2},"variants":`, 1))
		},
		func(o *schema.Outcome) {
			o.Details = []byte(strings.Replace(string(o.Details), `"variants"`, `"variant_list"`, 1))
		},
		func(o *schema.Outcome) { o.Details = nil },
		func(o *schema.Outcome) { o.Details, o.Bucket = []byte(`{"forced":true,"hash_version":2}`), 0 },
	} {
		o := p.exposures[i]
		o.OutcomeID, o.Experiment = "spoiled "+strconv.Itoa(i), "halves"
		spoil(&o)
		p.exposures = append(p.exposures, o)
	}
	p.write(t, store)
	require.Equal(t, []string{
		fmt.Sprintf("('ok',%d)", proper), "('forced',1)", "('not_recorded',1)", "('order_not_recorded',1)", "('wrong_bucket',1)", "('wrong_namespace',1)", "('wrong_variant',1)",
	}, rowsOf(t, store, "SELECT verdict, count() AS n FROM assignment_check GROUP BY verdict ORDER BY n DESC, verdict"))
	require.Equal(t, []string{"(0)"}, rowsOf(t, store, "SELECT count() FROM assignment_check WHERE verdict = 'ok' AND (bucket != expected_bucket OR variant != expected_variant)"))
}

func TestSegmentMetricsAndActionsDaily(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	carryTwice(t, store)
	require.NoError(t, store.InsertEvents(t.Context(), "visits", []outcome.ArchivedEvent{
		{ID: "v1", Name: "visit", Token: token("ada"), OccurredAt: start, Sequence: 1001},
		{ID: "v2", Name: "visit", Token: token("ada"), OccurredAt: start + 10*minuteMilli, Sequence: 1002},
		{ID: "v3", Name: "visit", Token: token("ada"), OccurredAt: start + 40*minuteMilli, Sequence: 1003}, // a gap of 30 minutes
		{ID: "v4", Name: "visit", Token: token("ada"), OccurredAt: start + 25*hourMilli, Sequence: 1004},
	}))
	require.Equal(t, []string{"(1,4,2,3,200,1,1)"}, rowsOf(t, store,
		"SELECT members, events - 0, active_days_per_member, sessions_per_member, seconds_per_session, converted, conversion_rate FROM segment_metrics WHERE segment = 'engaged'"))
	require.Equal(t, []string{"('2026-11-24','congratulate',1,0,0,0,{})", "('2026-11-24','send_tip',2,1,1,3,{'frequency_cap':2,'no_consent':1})"},
		rowsOf(t, store, "SELECT * FROM actions_daily"))
}
