package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/internal/results"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
)

// analyst is servers of a test's own, in which the demo's people have lived.
type analyst struct {
	*local

	book *playbook.Playbook
	all  lived
}

func newAnalyst(t *testing.T, users int, lift float64) *analyst {
	t.Helper()
	if os.Getenv("ONRAMP_E2E") == "0" {
		t.Skip("ONRAMP_E2E is 0")
	}
	l, err := startLocal(t.Context(), freePorts(), "", io.Discard, newLogger(os.Stderr, "error", "text"))
	require.NoError(t, err)
	t.Cleanup(l.close)
	bundle, err := example(1)
	require.NoError(t, err)
	current, err := l.library.Publish(t.Context(), bundle)
	require.NoError(t, err)
	a := &analyst{local: l, book: current.Playbook}
	if users > 0 {
		a.all = population(t, a.book, users, lift)
		require.NoError(t, l.store.Import(t.Context(), "population", a.all.events, a.all.outcomes))
	}
	return a
}

// asks runs a command of an analyst, who knows where the servers are.
func (a *analyst) asks(t *testing.T, args ...string) string {
	t.Helper()
	got := a.tries(t, args...)
	require.Equal(t, exitDone, got.code, got.out+got.err)
	return got.out
}

func (a *analyst) tries(t *testing.T, args ...string) result {
	t.Helper()
	return onramp(t.Context(), append(args, "--clickhouse-addr", a.stack.ClickHouseAddr, "--nats-url", a.stack.NATSURL)...)
}

func (a *analyst) results(t *testing.T, args ...string) results.Results {
	t.Helper()
	var r results.Results
	require.NoError(t, json.Unmarshal([]byte(a.asks(t, append([]string{"results", "--json"}, args...)...)), &r))
	return r
}

// TestAnalyst asks everything an analyst asks of a population with a planted lift, large enough to be found in so few.
func TestAnalyst(t *testing.T) {
	t.Parallel()
	const planted = 0.6
	a := newAnalyst(t, 2000, planted)
	got := a.results(t, demoExperiment)
	require.Equal(t, experiment.StateOK, got.State, got.Why)
	require.EqualValues(t, 2000, got.Size.Users)
	primary := got.Metrics[0]
	require.Equal(t, "activated_14d", primary.Key)
	lift := primary.Effects[0].Relative
	require.LessOrEqual(t, lift.Anytime.Low, planted)
	require.GreaterOrEqual(t, lift.Anytime.High, planted)
	require.NotEmpty(t, got.Looks)
	require.NotEmpty(t, got.AnalysisID)
	require.NotEmpty(t, got.Journeys)
	require.Equal(t, "converted", got.Journeys[0].Steps[len(got.Journeys[0].Steps)-1].Step)

	t.Run("text", func(t *testing.T) { //nolint:paralleltest // asked in order, of one engine
		text := a.asks(t, "results", demoExperiment)
		require.Contains(t, text, "EXPERIMENT onboarding_flow")
		require.Contains(t, text, "activated_14d")
		require.NotContains(t, text, "\x1b", "no color unless it is a terminal")
		require.Contains(t, a.asks(t, "results"), demoExperiment)
	})
	t.Run("page", func(t *testing.T) { //nolint:paralleltest // asked in order, of one engine
		file := filepath.Join(t.TempDir(), "page.html")
		require.Empty(t, a.asks(t, "results", demoExperiment, "--html", file))
		page, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(page), `id="verdict"`)
		require.Contains(t, string(page), "WITH exposed AS", "the query that can be asked again")
	})
	t.Run("a reading that was kept", func(t *testing.T) { //nolint:paralleltest // asked in order, of one engine
		kept := a.results(t, "--snapshot", got.AnalysisID)
		require.Equal(t, got.Analysis, kept.Analysis)
		again := a.results(t, demoExperiment)
		require.Equal(t, got.AnalysisID, again.AnalysisID, "the same reading is kept once")
		require.Equal(t, exitFailed, a.tries(t, "results", "--snapshot", "nonsense").code)
	})
	t.Run("over HTTP", func(t *testing.T) { a.overHTTP(t, got) }) //nolint:paralleltest // asked in order, of one engine
	t.Run("nobody knows it", func(t *testing.T) {                 //nolint:paralleltest // asked in order, of one engine
		missing := a.tries(t, "results", "nonsense")
		require.Equal(t, exitFailed, missing.code)
		require.Contains(t, missing.err, "no experiment nonsense")
		require.Equal(t, exitUsage, a.tries(t, "results", "--html", "x.html").code)
	})
	t.Run("self-test", func(t *testing.T) { //nolint:paralleltest // asked in order, of one engine
		var report selftestReport
		require.NoError(t, json.Unmarshal([]byte(a.asks(t, "experiment", "selftest", demoExperiment, "--replications", "60", "--looks", "5", "--json")), &report))
		require.True(t, report.Passed)
		require.Equal(t, 2000, report.Users)
		require.Greater(t, len(report.Checks), 10)
		require.Contains(t, a.asks(t, "experiment", "selftest", demoExperiment, "--replications", "20", "--looks", "2"), "passes within")
	})
	t.Run("plan", func(t *testing.T) { //nolint:paralleltest // asked in order, of one engine
		var report planReport
		require.NoError(t, json.Unmarshal([]byte(a.asks(t, "experiment", "plan", "--experiment", demoExperiment, "--lift", "0.15", "--json")), &report))
		require.InDelta(t, primary.Arms[0].Value, report.Baseline, 0)
		require.InDelta(t, 500, report.PerDay, 100, "2,000 sign up in four days")
		require.Equal(t, "activated_14d", report.Metric)
	})
	t.Run("decide", a.decides) //nolint:paralleltest // asked in order, of one engine
}

// decides asks for decisions, which are recorded once however often they are taken.
func (a *analyst) decides(t *testing.T) {
	rows := func() (n uint64) {
		require.NoError(t, a.store.Conn().QueryRow(t.Context(), "SELECT count() FROM experiment_decisions").Scan(&n))
		return n
	}
	require.Contains(t, a.asks(t, "experiment", "decide", demoExperiment), "nothing may be decided")
	dir := t.TempDir()
	bundle, err := example(1)
	require.NoError(t, err)
	for name, text := range bundle.Files {
		text = strings.Replace(text, "    planned: 10000\n", "    planned: 10000\n    decide: {pause_on_guardrail: true, stop_for_winner: true, at_least: 7d}\n", 1)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	decide := []string{"experiment", "decide", demoExperiment, "--playbook", dir, "--json"}
	var report decideReport
	require.NoError(t, json.Unmarshal([]byte(a.asks(t, append(decide, "--dry-run")...)), &report))
	require.Len(t, report.Decided, 1, report.Waiting)
	require.Equal(t, actionStop, report.Decided[0].Action)
	require.Equal(t, []string{demoTreatment}, report.Decided[0].Variants)
	require.False(t, report.Recorded)
	require.Zero(t, rows())
	for range 2 {
		require.NoError(t, json.Unmarshal([]byte(a.asks(t, decide...)), &report))
		require.True(t, report.Recorded)
		require.EqualValues(t, 1, rows())
	}
	var id string
	require.NoError(t, a.store.Conn().QueryRow(t.Context(), "SELECT analysis_id FROM experiment_decisions").Scan(&id))
	require.Equal(t, demoExperiment, a.results(t, "--snapshot", id).Spec.Experiment, "the reading it was decided by is there")
}

// overHTTP asks the API that the engine serves.
func (a *analyst) overHTTP(t *testing.T, want results.Results) {
	t.Helper()
	fetch := func(path string) (string, http.Header) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		require.NoError(t, err)
		recorder := &capture{header: http.Header{}}
		request.Host, request.RemoteAddr = "localhost", "127.0.0.1:1"
		a.server.Handler().ServeHTTP(recorder, request)
		require.Equal(t, http.StatusOK, recorder.status, recorder.body.String())
		return recorder.body.String(), recorder.header
	}
	body, _ := fetch("/v1/experiments/" + demoExperiment + "/results")
	var got results.Results
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Equal(t, want.Metrics, got.Metrics)
	page, header := fetch("/experiments/" + demoExperiment)
	require.Contains(t, page, `id="verdict"`)
	require.Contains(t, header.Get("Content-Security-Policy"), "style-src 'sha256-")
	list, _ := fetch("/v1/experiments")
	require.Contains(t, list, demoExperiment)
}

// capture is what a handler answered.
type capture struct {
	header http.Header
	status int
	body   strings.Builder
}

func (c *capture) Header() http.Header { return c.header }

func (c *capture) WriteHeader(status int) { c.status = status }

func (c *capture) Write(b []byte) (int, error) { return c.body.Write(b) }

// TestShuffledAndRedelivered: the same rows in another order, twice, in other batches: every figure of the document is the same.
func TestShuffledAndRedelivered(t *testing.T) {
	t.Parallel()
	a := newAnalyst(t, 300, plantedLift)
	want := a.results(t, demoExperiment)
	other, err := outcome.Open(t.Context(), outcome.Config{Addr: a.stack.ClickHouseAddr, Database: "shuffled"})
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	r := rand.New(rand.NewPCG(3, 4))
	for _, token := range []string{"once", "again"} {
		events, outcomes := slices.Clone(a.all.events), slices.Clone(a.all.outcomes)
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		r.Shuffle(len(outcomes), func(i, j int) { outcomes[i], outcomes[j] = outcomes[j], outcomes[i] })
		for part := range slices.Chunk(events, 500) {
			require.NoError(t, other.Import(t.Context(), token+part[0].EventID, part, nil))
		}
		for part := range slices.Chunk(outcomes, 300) {
			require.NoError(t, other.Import(t.Context(), token+part[0].OutcomeID, nil, part))
		}
	}
	got := a.results(t, demoExperiment, "--clickhouse-database", "shuffled")
	wantJSON, err := json.Marshal(want)
	require.NoError(t, err)
	got.AnalysisID = want.AnalysisID
	gotJSON, err := json.Marshal(got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(wantJSON, gotJSON), "to the bit:\n%s\n%s", wantJSON, gotJSON)
}
