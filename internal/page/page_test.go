package page_test

import (
	"encoding/xml"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/internal/page"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

const day = int64(86_400_000)

func compile(tb testing.TB, file string, replace ...string) *playbook.Playbook {
	tb.Helper()
	text, err := os.ReadFile(file)
	require.NoError(tb, err)
	p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": strings.NewReplacer(replace...).Replace(string(text))}})
	require.NoError(tb, err)
	return p
}

func draw(t *testing.T, days int64, ids ...string) string {
	t.Helper()
	newer, older := compile(t, "../../examples/saas-onboarding/playbook.yaml"), compile(t, "../../examples/saas-onboarding/playbook.yaml", "actions: 4", "actions: 1")
	c, err := backtest.Compare(newer, older, func(yield func(backtest.User, error) bool) {
		for i, id := range ids {
			at := 20_000*day + int64(i)*days*day/int64(len(ids))
			events := []schema.UserEvent{{EventID: "a", EventName: "signed_up", OccurredAt: at}, {EventID: "b", EventName: "feature_viewed", OccurredAt: at + 1}}
			if !yield(backtest.User{ID: id, Token: id, Events: events}, nil) {
				return
			}
		}
	}, backtest.Options{Until: 20_400 * day, Live: true})
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, page.Write(&b, newer, c))
	return b.String()
}

// TestPageStandsAlone: nothing is fetched, nothing runs, and the pictures are well-formed.
func TestPageStandsAlone(t *testing.T) {
	t.Parallel()
	for _, days := range []int64{0, 2, 300} {
		text := draw(t, days, "one", "two", "three")
		require.NotRegexp(t, `(?i)<script|<link|@import|src=|url\([^#]`, text)
		require.Equal(t, strings.Count(text, "http"), strings.Count(text, `xmlns="http://www.w3.org/2000/svg"`), "no address but the name of SVG")
		drawings := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(text, -1)
		require.GreaterOrEqual(t, len(drawings), 3+6+6, "journeys, segments, actions")
		for _, svg := range drawings {
			require.NoError(t, xml.Unmarshal([]byte(svg), new(struct{})), svg)
			require.NotContains(t, svg, "NaN")
		}
	}
}

func TestPageTellsTheFigures(t *testing.T) {
	t.Parallel()
	text := draw(t, 10, "one", "two", "three")
	for _, want := range []string{
		"<b>3</b>users", "<b>6</b>events", "Something changes for 3 of 3 users", "gets send_reminder", "gained by one, three, two",
		"frequency_cap", "drop_off", "onboarding_flow",
	} {
		require.Contains(t, text, want)
	}
}

func TestPageEscapesNames(t *testing.T) {
	t.Parallel()
	text := draw(t, 10, `<img src=x onerror=alert(1)>`)
	require.NotContains(t, text, "<img")
	require.Contains(t, text, "&lt;img")
}

func TestPageOfNothing(t *testing.T) {
	t.Parallel()
	require.Contains(t, draw(t, 1), "<b>0</b>users")
}
