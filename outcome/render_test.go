package outcome_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/outcome"
)

var update = flag.Bool("update", false, "write the golden files")

func sample() *outcome.Report {
	c := experiment.CompareProportions(experiment.Arm{Users: 4012, Converted: 1204}, experiment.Arm{Users: 3988, Converted: 1371}, experiment.Options{})
	planted := 0.15
	return &outcome.Report{
		Users: 8312, Events: 124_380, DeadLetters: 3,
		EventsByName: map[string]uint64{"signed_up": 8312, "feature_viewed": 90_112, "activated": 2575, "\x1b[31mevil\u009b31m\u202e": 1, strings.Repeat("long_", 20): 40},
		Funnel: []outcome.FunnelStep{
			{"onboarding", "enrolled", 8312},
			{"onboarding", "welcome", 8312},
			{"onboarding", "checklist_or_tour", 8000},
			{"onboarding", "nudge", 3120},
			{"onboarding", "converted", 2575},
			{"win_back", "enrolled", 1040},
			{"win_back", "converted", 3},
		},
		Segments: []outcome.SegmentSize{{"at_risk", 512, 1907}, {"engaged_newcomer", 2101, 2575}},
		Actions: []outcome.ActionCounts{
			{Action: "send_tip", Decided: 3120, Delivered: 3118, Failed: 2, Suppressed: 911, Reasons: map[string]uint64{"frequency_cap": 800, "no_consent": 111}},
			{Action: "show_checklist", Decided: 3988, Delivered: 3988},
		},
		Journeys: map[string]outcome.JourneySummary{
			"onboarding": {Enrollments: 8312, Open: 1200, Ended: map[string]uint64{"goal_met": 2575, "completed": 4537}},
			"win_back":   {Enrollments: 1040, Open: 1040},
		},
		Experiment: &outcome.Experiment{
			Key: "checklist_first", Metric: "activated", Control: "control", Treatment: "treatment",
			ControlUsers: 4012, ControlConverted: 1204, ControlRate: c.ControlRate, TreatmentUsers: 3988, TreatmentConverted: 1371, TreatmentRate: c.TreatmentRate,
			Lift: c.Lift, Low: c.Low, High: c.High, PValue: c.AnytimePValue, State: c.State, SRMP: 0.788, Planted: &planted,
		},
		LatencyMS: outcome.Latency{P50: 12, P99: 87, Count: 31_000},
	}
}

func TestWriteTextGolden(t *testing.T) {
	t.Parallel()
	undecided := sample()
	undecided.Experiment = &outcome.Experiment{
		Key: "quiet", Metric: "activated", Control: "control", Treatment: "b", ControlUsers: 200, ControlConverted: 60, ControlRate: 0.3,
		TreatmentUsers: 90, TreatmentConverted: 28, TreatmentRate: 0.311, Lift: 0.037, Low: -0.35, High: 0.42,
		State: experiment.StateFewConversions, SRMP: 1e-9, MixedUsers: 4,
	}
	empty := &outcome.Report{Experiment: &outcome.Experiment{Key: "new", Control: "control", State: experiment.StateEmptyArm, SRMP: 1}}
	for name, report := range map[string]*outcome.Report{"full": sample(), "undecided": undecided, "empty": empty} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var text strings.Builder
			require.NoError(t, report.WriteText(&text, false))
			golden := filepath.Join("testdata", "report_"+name+".golden")
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(golden, []byte(text.String()), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err, "run with -update to write it")
			require.Equal(t, string(want), text.String())
			for line := range strings.Lines(text.String()) {
				require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 80, "%q", line)
			}
		})
	}
}

func TestWriteTextLetsNothingReachTheTerminal(t *testing.T) {
	t.Parallel()
	var plain, colored strings.Builder
	require.NoError(t, sample().WriteText(&plain, false))
	require.NotContains(t, plain.String(), "\x1b")
	require.NotContains(t, plain.String(), "\u009b")
	require.NotContains(t, plain.String(), "\u202e")
	require.NoError(t, sample().WriteText(&colored, true))
	require.Contains(t, colored.String(), "\x1b[1m")
	require.NotContains(t, colored.String(), "\x1b[31mevil")
}
