package outcome_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// TestUserAt lives a user's life by the engine's own function, and asks at every moment of it what is on record.
func TestUserAt(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "examples", "saas-onboarding", "playbook.yaml"))
	require.NoError(t, err)
	book := compileBook(t, string(raw))
	token := schema.UserToken([]byte("a workspace key for tests"), "ann")
	type moment struct {
		at   int64
		then schema.Profile
	}
	var moments []moment
	var outcomes []schema.Outcome
	var life *backtest.Life
	life = backtest.NewLife(token, book, func(m backtest.Moment) {
		outcomes = append(outcomes, m.Outcomes...)
		if len(m.Outcomes) > 0 {
			moments = append(moments, moment{life.State.Clock, journey.Profile(life.Books(), &life.State)})
		}
	})
	begin := time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)
	for i, name := range []string{"signed_up", "feature_viewed", "feature_used", "feature_used", "onboarding_completed", "feature_used", "subscription_started"} {
		at := begin.Add(time.Duration(i) * 20 * time.Hour).UnixMilli()
		event := schema.UserEvent{EventID: fmt.Sprint("e", i), EventName: name, Sequence: uint64(i + 1), OccurredAt: at, ReceivedAt: at, Traits: []byte(`{"industry":"finance"}`)}
		require.NoError(t, life.Event(&event))
	}
	require.NoError(t, life.Follow(begin.Add(40*24*time.Hour).UnixMilli()))
	require.Greater(t, len(moments), 3)
	store := openStore(t)
	require.NoError(t, store.InsertOutcomes(t.Context(), "life", 1, outcomes))
	priority := func(_, key string) int { return book.Journey(key).Priority }
	for i, m := range moments {
		if i+1 < len(moments) && moments[i+1].at == m.at {
			continue // the moment went on
		}
		past, err := store.UserAt(t.Context(), token, time.UnixMilli(m.at), priority)
		require.NoError(t, err)
		require.Equal(t, inside(m.then.Segments), inside(past.Segments), "at %d", m.at)
		require.Equal(t, m.then.Stage, past.Stage)
		require.Equal(t, m.then.Playbook, past.Playbook)
		require.Len(t, past.Variants, len(m.then.Variants))
		for experiment, variant := range m.then.Variants {
			require.Equal(t, variant, past.Variants[experiment])
		}
		for _, j := range m.then.Journeys {
			k := slices.IndexFunc(past.Journeys, func(p schema.JourneyStatus) bool {
				return p.Journey == j.Journey && (j.EnrollmentID == "" || p.EnrollmentID == j.EnrollmentID)
			})
			require.GreaterOrEqual(t, k, 0, j.Journey)
			if j.EnrollmentID != "" {
				require.Equal(t, []any{j.StartedAt, j.StepKey, j.Ended, j.EndedAt, j.Converted},
					[]any{past.Journeys[k].StartedAt, past.Journeys[k].StepKey, past.Journeys[k].Ended, past.Journeys[k].EndedAt, past.Journeys[k].Converted})
			}
		}
	}
	_, err = store.UserAt(t.Context(), token, begin.Add(-time.Hour), nil)
	require.Equal(t, schema.CodeNotFound, schema.CodeOf(err))
}

func inside(list []schema.Membership) string {
	var in []string
	for _, m := range list {
		if m.In {
			in = append(in, fmt.Sprint(m.Segment, " since ", m.Since))
		}
	}
	slices.Sort(in)
	return strings.Join(in, ", ")
}
