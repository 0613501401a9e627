package simulate_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/simulate"
)

func TestPopulation(t *testing.T) {
	t.Parallel()
	control := simulate.Config{Users: 4000, Seed: 1, Lift: 0.15, Personalized: func(string) bool { return false }}
	treatment := control
	treatment.Personalized = func(string) bool { return true }
	a, b := simulate.Population(control), simulate.Population(treatment)
	require.Equal(t, a, simulate.Population(control), "the same seed, the same events")
	activated := func(events []simulate.Event) (n float64) {
		for _, e := range events {
			require.Less(t, e.At, simulate.Horizon)
			if e.Name == "activated" {
				n++
			}
		}
		return n
	}
	require.InDelta(t, 1.15, activated(b)/activated(a), 0.03, "the planted truth")
	control.Users = 10
	for i, e := range simulate.Population(control) {
		if i > 0 {
			require.GreaterOrEqual(t, e.At, simulate.Population(control)[i-1].At)
		}
	}
}
