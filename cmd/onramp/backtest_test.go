package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/schema"
)

const saas = "../../examples/saas-onboarding"

// smallLog is three users in no order, and two lines that are no events.
func smallLog(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join([]string{
		`{"who":"ann","what":"feature_viewed","at":"2026-03-02T10:00:00Z"}`,
		`{"who":"ann","what":"signed_up","at":"2026-03-02T09:00:00Z","industry":"finance"}`,
		`{"who":"bob","what":"signed_up","at":"2026-03-03T09:00:00Z","industry":"law"}`,
		`{"who":"","what":"signed_up","at":"2026-03-03T09:00:00Z"}`,
		`{"who":"bob","what":"onboarding_completed","at":"2026-03-03T12:00:00Z"}`,
		`nonsense`,
		`{"who":"eve","what":"unheard_of","at":"2026-03-03T12:00:00Z"}`,
	}, "\n")), 0o600))
	return file
}

func mapped(t *testing.T, args ...string) []string {
	t.Helper()
	return append(args, "--events", smallLog(t), "--user", "who", "--event", "what", "--time", "at", "--traits", "industry")
}

func TestBacktestCommand(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.html")
	got := onramp(t.Context(), mapped(t, "backtest", saas, "--until", "2026-03-20", "--json", "--html", page)...)
	require.Equal(t, exitDone, got.code, got.err)
	var r backtest.Result
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.Equal(t, []uint64{3, 5, 2, 1}, []uint64{r.Users, r.Events, r.Rejected, r.Unread})
	require.Contains(t, r.Segments, backtest.Segment{Segment: "drop_off", Members: 1, Ever: 1})
	html, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(html), "<b>3</b>users")

	got = onramp(t.Context(), mapped(t, "backtest", saas, "--until", "2026-03-20")...)
	require.Equal(t, exitDone, got.code, got.err)
	for _, text := range []string{"JOURNEY onboarding", "EXPERIMENT onboarding_flow", "5 events of 3 users up to 2026-03-20T00:00:00Z"} {
		require.Contains(t, got.out, text)
	}
	require.Contains(t, got.err, "missing_user")

	got = onramp(t.Context(), mapped(t, "backtest", saas, "--until", "2026-03-20", "--historic")...)
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "suppressed for: historic")
}

func TestBacktestAgainst(t *testing.T) {
	t.Parallel()
	older := filepath.Join(t.TempDir(), "playbook.yaml")
	text, err := os.ReadFile(saas + "/playbook.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(older, []byte(strings.ReplaceAll(string(text), `inactive_for("2d")`, `inactive_for("30d")`)), 0o600))
	got := onramp(t.Context(), mapped(t, "backtest", saas, "--until", "2026-03-20", "--against", older)...)
	require.Equal(t, exitDone, got.code, got.err)
	_, changes, found := strings.Cut(got.out, "CHANGES against saas-onboarding")
	require.True(t, found)
	for _, want := range []string{"for 1 of 3 users", "enters journey comeback", "gets reengage", "gained by ann", "is in segment drop_off"} {
		require.Contains(t, changes, want)
	}
	got = onramp(t.Context(), mapped(t, "backtest", saas, "--until", "2026-03-20", "--against", saas)...)
	require.Contains(t, got.out, "none: every user meets the same")
}

func TestBacktestStory(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ann", schema.UserToken([]byte(embeddedKey), "ann")} {
		got := onramp(t.Context(), mapped(t, "backtest", saas, "--until", "2026-03-20", "--story", name, "--zone", "Europe/Berlin")...)
		require.Equal(t, exitDone, got.code, got.err)
		require.Contains(t, got.out, "Mon 2026-03-02 10:00:00.000 CET  2026-03-02T09:00:00.000Z  event signed_up traits {industry: finance}\n")
		require.Contains(t, got.out, "Wed 2026-03-04 11:00:00.000 CET  2026-03-04T10:00:00.000Z    action reengage by comeback/nudge {industry: finance}\n")
		require.NotContains(t, got.out, "industry: law")
	}
	got := onramp(t.Context(), mapped(t, "backtest", saas, "--story", "nobody")...)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "user nobody has no event in the log")
}

func TestBacktestUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"backtest", saas}, exitUsage, "missing flags: --events"},
		{[]string{"backtest", "nowhere", "--events", "x.csv"}, exitUsage, "playbook nowhere"},
		{[]string{"backtest", saas, "--events", "nowhere.csv"}, exitUsage, "nowhere.csv"},
		{[]string{"backtest", saas, "--events", "clickhouse", "--events", "x.csv"}, exitUsage, "stands alone"},
		{[]string{"backtest", saas, "--events", "x.csv", "--until", "soon"}, exitUsage, `"soon" is not a time`},
		{[]string{"backtest", saas, "--events", "x.csv", "--zone", "Berlin"}, exitUsage, "no IANA time zone"},
		{[]string{"backtest", saas, "--events", "clickhouse", "--clickhouse-addr", "127.0.0.1:1"}, exitFailed, "127.0.0.1:1"},
		{[]string{"explain", "u1", "--events", "x.csv"}, exitUsage, "--events needs --playbook"},
		{[]string{"explain", "u1", "--temporal-address", "127.0.0.1:1"}, exitFailed, "127.0.0.1:1"},
		{[]string{"explain", "u1", "--at", "2026-03-02", "--clickhouse-addr", "127.0.0.1:1"}, exitFailed, "127.0.0.1:1"},
	} {
		got := onramp(t.Context(), c.args...)
		require.Equal(t, c.code, got.code, "%v: %s", c.args, got.err)
		require.Contains(t, got.err, c.says)
	}
}

func TestExplainFromFile(t *testing.T) {
	t.Parallel()
	got := onramp(t.Context(), mapped(t, "explain", "ann", "--playbook", saas, "--at", "2026-03-05", "--zone", "UTC")...)
	require.Equal(t, exitDone, got.code, got.err)
	require.NotRegexp(t, `(?m)\*\*|^\||^#`, got.out, "no raw Markdown")
	for _, want := range []string{"Next: 2026-03-06 09:00:00.000 UTC", "drop_off          in", "What happened\n", "Wed 2026-03-04 10:00:00.000 UTC"} {
		require.Contains(t, got.out, want)
	}
	got = onramp(t.Context(), mapped(t, "explain", "ann", "--playbook", saas, "--at", "2026-03-05", "--json")...)
	require.Equal(t, exitDone, got.code, got.err)
	var story backtest.Story
	require.NoError(t, json.Unmarshal([]byte(got.out), &story))
	require.Equal(t, "ann", story.User)
	require.NotEmpty(t, story.Lines)
	require.Equal(t, "comeback/response", story.Profile.Journeys[1].Journey+"/"+story.Profile.Journeys[1].StepKey)
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	page := "### stage\n\n**Next:** soon\n\n| A | | Why |\n|---|---|---|\n| x | **in** | a \\| b " + strings.Repeat("word ", 40) + "|\n| longer | out | c |\n\n| Empty | |\n|---|---|\n\n- one\n"
	require.Equal(t, strings.Join([]string{
		"stage", "", "Next: soon", "",
		"A            Why",
		"x       in   a | b" + strings.Repeat(" word", 20),
		"             " + strings.TrimSpace(strings.Repeat("word ", 20)),
		"longer  out  c",
		"", "  one", "",
	}, "\n"), markdown(page, false))
	require.Contains(t, markdown(page, true), "\x1b[1min\x1b[0m")
}

// TestBacktestTellsBrokenPromises: whose events are not as the tracking plan says is told before anybody wonders why a rule is false.
func TestBacktestTellsBrokenPromises(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	book, log := filepath.Join(dir, "playbook.yaml"), filepath.Join(dir, "log.jsonl")
	require.NoError(t, os.WriteFile(book, []byte(`name: shop
traits: {seats: int}
events:
  order: {properties: {order_id: string, total: {type: number, required: true}}}
segments:
  buyer: {when: 'did("order")'}
`), 0o600))
	require.NoError(t, os.WriteFile(log, []byte(strings.Join([]string{
		`{"who":"ann","what":"order","at":"2026-03-02T10:00:00Z","order_id":"a1","total":3,"more":1}`,
		`{"who":"ann","what":"order","at":"2026-03-02T11:00:00Z","order_id":7}`,
		`{"who":"bob","what":"order","at":"2026-03-02T11:00:00Z","order_id":8,"seats":"many"}`,
		`{"who":"bob","what":"other","at":"2026-03-02T11:00:00Z"}`,
	}, "\n")), 0o600))
	args := []string{"backtest", book, "--events", log, "--user", "who", "--event", "what", "--time", "at", "--traits", "seats", "--properties", "*", "--until", "2026-03-20"}
	got := onramp(t.Context(), append(args, "--json")...)
	require.Equal(t, exitDone, got.code, got.err)
	var r backtest.Result
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.Equal(t, []backtest.Broken{
		{Event: "order", What: "property order_id should be string, not whole number", Events: 2},
		{Event: "order", What: "property total is required and missing", Events: 2},
		{Event: "order", What: "trait seats should be int, not string", Events: 1},
	}, r.Broken)
	require.Contains(t, onramp(t.Context(), args...).out, "property total is required and missing")
}
