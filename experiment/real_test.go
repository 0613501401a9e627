package experiment_test

import (
	"compress/gzip"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
)

// player is one row of the public test of a mobile game's first gate: the version, rounds played, came back after a day and
// after a week.
type player struct {
	id       string
	gate40   bool
	rounds   float64
	day1     bool
	day7     bool
	position int
}

// readPlayers reads the data set that stands beside the repository, not in it.
func readPlayers(t *testing.T) []player {
	t.Helper()
	path := ""
	for up := filepath.Join("..", ".."); len(up) < 16 && path == ""; up = filepath.Join("..", up) {
		if found := filepath.Join(up, "shared", "data", "cookie_cats", "cookie_cats.csv.gz"); fileExists(found) {
			path = found
		}
	}
	if path == "" {
		t.Skip("the public data set is not here")
	}
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	unzip, err := gzip.NewReader(file)
	require.NoError(t, err)
	rows, err := csv.NewReader(unzip).ReadAll()
	require.NoError(t, err)
	players := make([]player, 0, len(rows)-1)
	for i, row := range rows[1:] {
		rounds, err := strconv.ParseFloat(row[3], 64)
		require.NoError(t, err)
		players = append(players, player{
			id: row[1], gate40: row[2] == "gate_40", rounds: rounds, day1: row[4] == "True", day7: row[5] == "True", position: i,
		})
	}
	return players
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// arm returns the moments of one version of the game.
func arm(players []player, gate40 bool, value func(player) float64) experiment.Moments {
	return experiment.FromValues(func(yield func(float64) bool) {
		for _, p := range players {
			if p.gate40 == gate40 && !yield(value(p)) {
				return
			}
		}
	})
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// The published digits of that test: users, rates, difference with its fixed 95 % interval, p; sample ratio; mean rounds with
// and without the one player of 49,854.
func TestRealExperiment(t *testing.T) {
	t.Parallel()
	players := readPlayers(t)
	for _, c := range []struct {
		name                             string
		value                            func(player) float64
		converted                        [2]float64
		control, treatment               float64 // percent
		difference, low, high, p, within float64
	}{
		{"day 1", func(p player) float64 { return yes(p.day1) }, [2]float64{20034, 20119}, 44.819, 44.228, -0.591, -1.239, 0.058, 0.0744, 0.00005},
		{"day 7", func(p player) float64 { return yes(p.day7) }, [2]float64{8502, 8279}, 19.020, 18.200, -0.820, -1.328, -0.312, 0.00155, 0.00001},
	} {
		control, treatment := arm(players, false, c.value), arm(players, true, c.value)
		require.Equal(t, int64(44_700), control.Users())
		require.Equal(t, int64(45_489), treatment.Users())
		require.InDelta(t, c.converted[0], control.Sum(0), 0)
		require.InDelta(t, c.converted[1], treatment.Sum(0), 0)
		r := experiment.Compare(proportionMetric, control, treatment, experiment.Options{})
		require.Equal(t, experiment.StateOK, r.State)
		require.InDelta(t, c.control, 100*r.Control.Value, 0.0005)
		require.InDelta(t, c.treatment, 100*r.Treatment.Value, 0.0005)
		require.InDelta(t, c.difference, 100*r.Absolute.Value, 0.0005)
		require.InDelta(t, c.low, 100*r.Absolute.Fixed.Low, 0.0005)
		require.InDelta(t, c.high, 100*r.Absolute.Fixed.High, 0.0005)
		require.InDelta(t, c.p, r.Absolute.Fixed.PValue, c.within)
		// The published p is that of the pooled test, the chi-squared of the table of arms and outcomes. Ours keeps the arms' own
		// variances, so that it agrees with its interval.
		a, b := int64(c.converted[0]), int64(c.converted[1])
		pooled := experiment.SampleRatioBy([]experiment.Slice{
			{Value: "back", Users: []int64{a, b}}, {Value: "gone", Users: []int64{44_700 - a, 45_489 - b}},
		}, []float64{1, 1}).Independence
		require.InDelta(t, c.p, pooled.PValue, c.p/300)
		t.Logf("%s: %+.3f pp, anytime-valid %+.3f to %+.3f (p %.4f): %s", c.name, 100*r.Absolute.Value,
			100*r.Absolute.Anytime.Low, 100*r.Absolute.Anytime.High, r.Absolute.Anytime.PValue, proportionMetric.Verdict(r))
	}
	srm := experiment.SampleRatioMismatch([]int64{44_700, 45_489}, []float64{1, 1})
	require.InDelta(t, 6.902, srm.ChiSquared, 0.0005)
	require.InDelta(t, 0.0086, srm.PValue, 0.00005)
	require.False(t, srm.Mismatch, "suspicious at 0.01, passes at 0.001")

	rounds := func(p player) float64 { return p.rounds }
	require.InDelta(t, 52.46, arm(players, false, rounds).Mean(0), 0.005)
	require.InDelta(t, 51.30, arm(players, true, rounds).Mean(0), 0.005)
	most := slices.MaxFunc(players, func(a, b player) int { return int(a.rounds - b.rounds) })
	require.InDelta(t, 49_854, most.rounds, 0)
	without := slices.DeleteFunc(slices.Clone(players), func(p player) bool { return p.position == most.position })
	require.InDelta(t, 51.34, arm(without, false, rounds).Mean(0), 0.005)
	whole := arm(players, false, rounds).Without(experiment.FromValues(slices.Values([]float64{most.rounds})))
	require.Equal(t, figures(arm(without, false, rounds)), figures(whole), "taken out of the sums it leaves no trace")
}

// What one player does to a mean, and what a cap does about it.
func TestRealOutlier(t *testing.T) {
	t.Parallel()
	players := readPlayers(t)
	values := func(gate40 bool) func(func(float64) bool) {
		return func(yield func(float64) bool) {
			for _, p := range players {
				if p.gate40 == gate40 && !yield(p.rounds) {
					return
				}
			}
		}
	}
	limit, state := experiment.CapAt(0.999, false, values(false), values(true))
	require.Equal(t, experiment.StateOK, state)
	raw := experiment.Compare(meanMetric, experiment.FromValues(values(false)), experiment.FromValues(values(true)), experiment.Options{})
	capped := experiment.Compare(meanMetric, experiment.FromValues(experiment.Capped(values(false), limit)),
		experiment.FromValues(experiment.Capped(values(true), limit)), experiment.Options{})
	t.Logf("raw %+.2f ± %.2f rounds, capped at %.0f %+.2f ± %.2f", raw.Absolute.Value, raw.Absolute.SE, limit, capped.Absolute.Value, capped.Absolute.SE)
	require.Less(t, capped.Absolute.SE, raw.Absolute.SE/2)
	require.Less(t, capped.Absolute.Value*capped.Absolute.Value, raw.Absolute.Value*raw.Absolute.Value)
	median := experiment.CompareQuantiles(experiment.SampleOf(values(false)), experiment.SampleOf(values(true)), 0.5, experiment.Options{})
	t.Logf("median %+.0f, anytime-valid %+.0f to %+.0f", median.Value, median.Anytime.Low, median.Anytime.High)
	require.True(t, median.Anytime.Contains(0))
}

// A/A tests on the real players: labels drawn anew, no effect.
func TestRealSelfTest(t *testing.T) {
	t.Parallel()
	var units []experiment.Unit
	for _, p := range readPlayers(t)[:5000] {
		units = append(units, experiment.Unit{ID: p.id, Values: []float64{yes(p.day7)}})
	}
	r, err := experiment.SelfTest{Replications: 200}.Run(proportionMetric, units, experiment.Options{})
	require.NoError(t, err)
	t.Logf("%+v", r)
	require.True(t, r.Passed)
}
