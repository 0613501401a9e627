package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDemo runs the demo twice with one seed: one JSON document each, the same users, variants and final segments.
func TestDemo(t *testing.T) {
	t.Parallel()
	type document struct {
		Users, Events uint64
		Seed          uint64
		Funnel        []struct{ Journey, Step string }
		Segments      []struct {
			Segment       string
			Members, Ever uint64
		}
		Experiment struct {
			Key, Metric              string
			ControlUsers             int64   `json:"control_users"`
			TreatmentUsers           int64   `json:"treatment_users"`
			ControlConverted         int64   `json:"control_converted"`
			TreatmentConverted       int64   `json:"treatment_converted"`
			ControlRate              float64 `json:"control_rate"`
			TreatmentRate            float64 `json:"treatment_rate"`
			Lift, Low, High, Planted float64
		}
		LatencyMS map[string]float64 `json:"latency_ms"`
		Links     map[string]string
	}
	var runs [2]document
	for i := range runs {
		got := onramp(t.Context(), "demo", "--users", "40", "--seed", "7", "--day", "1s", "--json")
		require.Equal(t, exitDone, got.code, got.err)
		decoder := json.NewDecoder(strings.NewReader(got.out))
		require.NoError(t, decoder.Decode(&runs[i])) //nolint:musttag // single words need none
		require.False(t, decoder.More(), "one document")
	}
	first := runs[0]
	require.Equal(t, uint64(40), first.Users)
	require.Equal(t, uint64(7), first.Seed)
	require.NotEmpty(t, first.Funnel)
	require.InDelta(t, plantedLift, first.Experiment.Planted, 1e-9)
	require.Equal(t, int64(40), first.Experiment.ControlUsers+first.Experiment.TreatmentUsers)
	require.Contains(t, first.Links["converted_user"], "/workflows/onboarding%2Fu")
	require.Contains(t, first.LatencyMS, "p99")
	require.Equal(t, first.Events, runs[1].Events)
	for i := range runs { // who was ever inside can hang on whether an event came in before a deadline; who is inside at the end cannot
		for j := range runs[i].Segments {
			runs[i].Segments[j].Ever = 0
		}
	}
	require.Equal(t, runs[0].Segments, runs[1].Segments)
	require.Equal(t, first.Experiment, runs[1].Experiment)
}

// TestReplay replays a small log twice into the same data: the second time changes nothing, and bad lines are told.
func TestReplay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log strings.Builder
	log.WriteString("user_id,event_name,timestamp\n")
	for u := range 30 {
		fmt.Fprintf(&log, "u%d,onboarding_welcome_screen,2018-10-01T10:00:00.%03dZ\n", u, u)
		fmt.Fprintf(&log, "u%d,onboarding_welcome_screen,2018-10-01T10:00:00.%03dZ\n", u, u) // truly twice
		fmt.Fprintf(&log, "u%d,%s,2018-10-01T10:05:00Z\n", u, []string{"passed", "lost"}[u%2])
	}
	log.WriteString(",passed,2018-10-01T10:05:00Z\nu1,passed,yesterday\n")
	file := filepath.Join(dir, "log.csv")
	require.NoError(t, os.WriteFile(file, []byte(log.String()), 0o600))
	type document struct {
		Read, Rejected, Published, Duplicates, Users, Archived int
		EventsByName                                           map[string]int `json:"events_by_name"`
		Journeys                                               map[string]struct {
			Enrollments int
			Ended       map[string]int
		}
	}
	replayed := func() (document, result) {
		got := onramp(t.Context(), "replay", file, "--embedded", "--data", filepath.Join(dir, "data"), "--playbook", "../../examples/app-onboarding",
			"--rejects", filepath.Join(dir, "rejects.jsonl"), "--json")
		require.Equal(t, exitDone, got.code, got.err)
		var d document
		require.NoError(t, json.Unmarshal([]byte(got.out), &d)) //nolint:musttag // single words need none
		return d, got
	}
	first, _ := replayed()
	require.Equal(t, 92, first.Read)
	require.Equal(t, 2, first.Rejected)
	require.Equal(t, 90, first.Published)
	require.Zero(t, first.Duplicates)
	require.Equal(t, 30, first.Users)
	require.Equal(t, 90, first.Archived)
	require.Equal(t, map[string]int{"onboarding_welcome_screen": 60, "passed": 15, "lost": 15}, first.EventsByName)
	require.Equal(t, 30, first.Journeys["signup"].Enrollments)
	require.Equal(t, map[string]int{"goal_met": 15, "lost": 15}, first.Journeys["signup"].Ended)
	rejects, err := os.ReadFile(filepath.Join(dir, "rejects.jsonl"))
	require.NoError(t, err)
	require.Contains(t, string(rejects), `"line":92`)
	second, _ := replayed()
	require.Equal(t, 90, second.Duplicates)
	first.Duplicates = 90
	require.Equal(t, first, second, "the second replay changed something")
}
