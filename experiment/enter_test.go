package experiment_test

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

// The public cases of the GrowthBook specification, inNamespace.
func TestNamespaceVectors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id, name   string
		start, end float64
		in         bool
	}{
		{"1", "namespace1", 0, 0.4, false}, {"1", "namespace1", 0.4, 1, true},
		{"1", "namespace2", 0, 0.4, false}, {"1", "namespace2", 0.4, 1, true},
		{"2", "namespace1", 0, 0.4, false}, {"2", "namespace1", 0.4, 1, true},
		{"2", "namespace2", 0, 0.4, false}, {"2", "namespace2", 0.4, 1, true},
		{"3", "namespace1", 0, 0.4, false}, {"3", "namespace1", 0.4, 1, true},
		{"3", "namespace2", 0, 0.4, true}, {"3", "namespace2", 0.4, 1, false},
		{"4", "namespace1", 0, 0.4, false}, {"4", "namespace1", 0.4, 1, true},
	} {
		n := experiment.Namespace{Name: c.name, Start: c.start, End: c.end, HashVersion: experiment.HashV1}
		require.NoError(t, n.Validate())
		require.Equal(t, c.in, n.Holds(c.id), "%+v", c)
	}
}

func TestNamespaceValidate(t *testing.T) {
	t.Parallel()
	for _, n := range []experiment.Namespace{
		{}, {Name: "n", Start: 0.5, End: 0.5}, {Name: "n", Start: -0.1, End: 1}, {Name: "n", End: 1.1}, {Name: "n", End: math.NaN()},
		{Name: "n", End: 1, HashVersion: 3},
	} {
		require.Error(t, n.Validate(), "%+v", n)
	}
}

func halves(key string) experiment.Experiment {
	return experiment.Experiment{Key: key, Variants: []experiment.Variant{{Key: "a", Weight: 0.5}, {Key: "b", Weight: 0.5}}}
}

func TestNobodyMeetsTwoExperimentsOfANamespace(t *testing.T) {
	t.Parallel()
	first := experiment.Rules{Namespace: &experiment.Namespace{Name: "onboarding", End: 0.5}}
	second := experiment.Rules{Namespace: &experiment.Namespace{Name: "onboarding", Start: 0.5, End: 1}}
	require.False(t, first.Namespace.Overlaps(*second.Namespace))
	arms := map[string]int{}
	for i := range 20000 {
		id := strconv.Itoa(i)
		x, y := halves("x").AssignBy(first, id), halves("y").AssignBy(second, id)
		require.NotEqual(t, x.In, y.In, id)
		require.Equal(t, y.In, x.Outside)
		arms["x"+x.Variant]++
		arms["y"+y.Variant]++
	}
	for arm, n := range arms { // the place says nothing about the bucket
		require.InDelta(t, map[bool]float64{true: 10000, false: 5000}[len(arm) == 1], n, 350, arm)
	}
}

func TestForced(t *testing.T) {
	t.Parallel()
	e := halves("x")
	e.Coverage = 0.01
	rules := experiment.Rules{
		Forced: map[string]string{"qa": "b", "typo": "c"}, Namespace: &experiment.Namespace{Name: "n", End: 0.0001},
	}
	qa := e.AssignBy(rules, "qa")
	require.True(t, qa.In && qa.Forced && !qa.Outside, "forced comes before namespace and coverage")
	require.Equal(t, "b", qa.Variant)
	require.InDelta(t, e.Assign("qa").Bucket, qa.Bucket, 0)
	typo := e.AssignBy(rules, "typo")
	require.False(t, typo.In || typo.Forced)
}

func TestNoRulesChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e, id := drawExperiment(t), rapid.String().Draw(t, "id")
		assert.Equal(t, e.Assign(id), e.AssignBy(experiment.Rules{}, id).Assignment)
	})
}

func TestCells(t *testing.T) {
	t.Parallel()
	cells := experiment.Cells([]experiment.Factor{
		{Key: "tutorial", Levels: []experiment.Variant{{Key: "short", Weight: 0.25}, {Key: "long", Weight: 0.75}}},
		{Key: "tone", Levels: []experiment.Variant{{Key: "calm", Weight: 0.5}, {Key: "bold", Weight: 0.5}}},
	})
	got := ""
	for _, c := range cells {
		got += fmt.Sprintf("%s %v %s/%s\n", c.Key, c.Weight, c.Levels["tutorial"], c.Levels["tone"])
	}
	require.Equal(t, "short_calm 0.125 short/calm\nshort_bold 0.125 short/bold\nlong_calm 0.375 long/calm\nlong_bold 0.375 long/bold\n", got)
}
