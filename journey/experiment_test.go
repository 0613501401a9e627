package journey_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

const flows = `name: flows
events: {go: {}}
experiments:
  flow:
    factors: {tutorial: {short: 0.5, long: 0.5}, tone: {calm: 0.5, bold: 0.5}}
    forced: {uaaaabbbbccccddddeeeeffffgg: long__bold}
    namespace: {name: n, range: [0, 0.5]}
  other:
    variants: {control: 0.5, treatment: 0.5}
    namespace: {name: n, range: [0.5, 1]}
actions: {short: {}, long: {}, calm: {}, bold: {}, control: {}, treatment: {}}
journeys:
  j:
    enter: {on: go}
    steps:
      - {id: first, experiment: flow, factor: tutorial, variants: {short: [{action: short}], long: [{action: long}]}}
      - {id: second, experiment: flow, factor: tone, variants: {calm: [{action: calm}], bold: [{action: bold}]}}
      - {id: third, experiment: other, variants: {control: [{action: control}], treatment: [{action: treatment}]}}
`

// exposure is what the record of an exposure says.
type exposure struct {
	Variant   string             `json:"-"`
	Forced    bool               `json:"forced"`
	Levels    map[string]string  `json:"levels"`
	Variants  []string           `json:"variants"`
	Weights   map[string]float64 `json:"weights"`
	Namespace struct {
		Name        string     `json:"name"`
		Range       [2]float64 `json:"range"`
		HashVersion int        `json:"hash_version"`
		Place       float64    `json:"place"`
	} `json:"namespace"`
}

// meets sends a user through flows and returns the exposures by experiment, and the actions in order.
func meets(t *testing.T, token string) (met map[string]exposure, actions []string) {
	t.Helper()
	b, hash := compile(t, flows)
	u := newUser(t, b, hash)
	u.state = journey.State{Token: token}
	u.event("go", t0)
	met = make(map[string]exposure)
	for _, o := range u.log {
		if o.Kind == schema.ExposureRecorded {
			e := exposure{Variant: o.Variant}
			require.NoError(t, json.Unmarshal(o.Details, &e))
			met[o.Experiment] = e
		}
	}
	for _, a := range u.actions {
		actions = append(actions, a.Action)
	}
	return met, actions
}

func TestFactorsAndNamespace(t *testing.T) {
	t.Parallel()
	variants := map[string]int{}
	for i := range 200 {
		token := fmt.Sprint("u", i)
		met, actions := meets(t, token)
		flow, inFlow := met["flow"]
		other, inOther := met["other"]
		require.NotEqual(t, inFlow, inOther, "everybody meets one of the two experiments of the namespace")
		if inOther {
			require.Equal(t, []string{"short", "calm", other.Variant}, actions, "outside, the way of control: the first variant")
			require.GreaterOrEqual(t, other.Namespace.Place, 0.5)
			continue
		}
		variants[flow.Variant]++
		require.Equal(t, flow.Variant, flow.Levels["tutorial"]+"__"+flow.Levels["tone"])
		require.Equal(t, []string{flow.Levels["tutorial"], flow.Levels["tone"], "control"}, actions, "one exposure, and each step by its factor")
		require.Equal(t, []string{"short__calm", "short__bold", "long__calm", "long__bold"}, flow.Variants)
		require.InDelta(t, 0.25, flow.Weights["long__bold"], 0)
		require.Equal(t, "n", flow.Namespace.Name)
		require.Equal(t, experiment.HashV2, flow.Namespace.HashVersion)
		require.Less(t, flow.Namespace.Place, 0.5)
		require.False(t, flow.Forced)
	}
	require.Len(t, variants, 4)
}

func TestForcedUser(t *testing.T) {
	t.Parallel()
	met, actions := meets(t, "uaaaabbbbccccddddeeeeffffgg")
	require.Equal(t, "long__bold", met["flow"].Variant)
	require.True(t, met["flow"].Forced)
	require.Equal(t, []string{"long", "bold"}, actions[:2])
}
