package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/internal/devstack"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// asOnramp makes the test binary run as the program itself, so that tests can kill it.
const asOnramp = "__onramp"

func TestMain(m *testing.M) {
	if handled, code := devstack.RunChild(os.Args); handled {
		os.Exit(code)
	}
	if len(os.Args) > 1 && os.Args[1] == asOnramp {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		main()
	}
	if len(os.Args) > 1 && os.Args[1] == asServer {
		os.Exit(runServer(os.Args[2:]))
	}
	runtime.MemProfileRate = 16 << 10 // thirty times the usual samples: of the heap of a dozen users each part has some
	os.Exit(m.Run())
}

// result is what a run of the program left behind.
type result struct {
	code     int
	out, err string
}

func onramp(ctx context.Context, args ...string) result {
	var out, errs bytes.Buffer
	code := run(ctx, args, stdio{in: strings.NewReader(""), out: &out, err: &errs})
	return result{code, out.String(), errs.String()}
}

// process is a running `onramp dev`.
type process struct {
	cmd   *exec.Cmd
	addrs map[string]string
}

// startDev starts the program on a data folder and waits until it tells where it listens.
func startDev(t *testing.T, dir string, more ...string) *process {
	t.Helper()
	return startDevIn(t, dir, nil, os.Stderr, more...)
}

// startDevIn is startDev with variables beside those of the test, and with its log somewhere else.
func startDevIn(t *testing.T, dir string, env []string, log *os.File, more ...string) *process {
	t.Helper()
	args := append([]string{
		asOnramp, "dev", "--data", dir, "--json", "--nats-port", "0", "--temporal-port", "0", "--ui-port", "0",
		"--clickhouse-port", "0", "--clickhouse-http-port", "0", "--api-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
	}, more...)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], args...)
	cmd.Stderr, cmd.Env = log, append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()         // likewise
	})
	p := &process{cmd: cmd}
	require.NoError(t, json.NewDecoder(out).Decode(&p.addrs), "the program ended before it ran")
	return p
}

func (p *process) js(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(p.addrs["nats"])
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

func (p *process) store(t *testing.T) *outcome.Store {
	t.Helper()
	store, err := outcome.Open(t.Context(), outcome.Config{Addr: p.addrs["clickhouse"]})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func (p *process) temporal(t *testing.T) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: p.addrs["temporal"]})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func publish(t *testing.T, js jetstream.JetStream, e schema.Event) *jetstream.PubAck {
	t.Helper()
	body, err := json.Marshal(e)
	require.NoError(t, err)
	return publishRaw(t, js, body)
}

func publishRaw(t *testing.T, js jetstream.JetStream, body []byte) *jetstream.PubAck {
	t.Helper()
	ack, err := js.Publish(t.Context(), schema.EventSubject("test"), body)
	require.NoError(t, err)
	return ack
}

// count answers a query that gives one number.
func count(t *testing.T, store *outcome.Store, sql string, args ...any) uint64 {
	t.Helper()
	var n uint64
	require.NoError(t, store.Conn().QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, within, 20*time.Millisecond, what)
}

// TestEventBecomesRow follows one event from NATS to its row, its outcomes and its action.
func TestEventBecomesRow(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir())
	js, store := p.js(t), p.store(t)
	publish(t, js, schema.Event{EventID: "e1", EventName: "signed_up", UserID: "first@example.com", Traits: json.RawMessage(`{"industry":"finance"}`)})
	token := schema.UserToken([]byte(embeddedKey), "first@example.com")
	eventually(t, 20*time.Second, "the event's row", func() bool {
		return count(t, store, `SELECT count() FROM events_unique WHERE event_id = 'e1' AND user_token = ?`, token) == 1
	})
	eventually(t, 20*time.Second, "what it caused", func() bool {
		return count(t, store, `SELECT count() FROM outcomes_unique WHERE user_token = ? AND kind IN ('segment_entered', 'enrollment_started', 'exposure_recorded', 'action_delivered')`, token) == 4
	})
	action, err := js.Stream(t.Context(), schema.ActionsStream)
	require.NoError(t, err)
	message, err := action.GetLastMsgForSubject(t.Context(), schema.ActionSubject("send_tutorial"))
	require.NoError(t, err)
	var request schema.ActionRequest
	require.NoError(t, json.Unmarshal(message.Data, &request))
	require.Equal(t, "first@example.com", request.UserID)
	require.Equal(t, []string{"new_user"}, request.Segments)

	t.Run("the API answers", func(t *testing.T) { //nolint:paralleltest // in order
		code, body := get(t, p.addrs["api"]+"/v1/users/first%40example.com")
		require.Equal(t, 200, code)
		var profile schema.Profile
		require.NoError(t, json.Unmarshal(body, &profile))
		require.Equal(t, "onboarding/profile", profile.Stage)
		code, body = get(t, p.addrs["api"]+"/readyz?verbose")
		require.Equal(t, 200, code, string(body))
	})
	t.Run("the Temporal UI answers", func(t *testing.T) { //nolint:paralleltest // in order
		code, _ := get(t, p.addrs["ui"])
		require.Equal(t, 200, code)
	})
	t.Run("explain and backtest tell the same user", func(t *testing.T) { //nolint:paralleltest // in order
		explained(t, p, store, token)
	})
	t.Run("bad input ends in the dead letters, once, and the next event goes on", func(t *testing.T) { //nolint:paralleltest // in order
		badInput(t, js, store)
	})
	t.Run("operators have a port of their own", func(t *testing.T) { //nolint:paralleltest // in order
		adminPort(t, p)
	})
	t.Run("it ends cleanly", func(t *testing.T) { //nolint:paralleltest // last
		require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
		ended := make(chan error, 1)
		go func() { ended <- p.cmd.Wait() }()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("still running 10 s after SIGINT")
		}
	})
}

// explained holds what a user's workflow says against what is rebuilt from the archive.
func explained(t *testing.T, p *process, store *outcome.Store, token string) {
	t.Helper()
	now := onramp(t.Context(), "explain", "first@example.com", "--temporal-address", p.addrs["temporal"])
	require.Equal(t, exitDone, now.code, now.err)
	require.Contains(t, now.out, "onboarding/profile")
	require.NotContains(t, now.out, "**")
	now = onramp(t.Context(), "explain", token, "--temporal-address", p.addrs["temporal"], "--json")
	require.Equal(t, exitDone, now.code, now.err)
	var live schema.Profile
	require.NoError(t, json.Unmarshal([]byte(now.out), &live))

	eventually(t, 20*time.Second, "the last outcome's row", func() bool {
		return count(t, store, `SELECT count() FROM outcomes_unique WHERE user_token = ?`, token) >= live.Sequence
	})
	servers := []string{"--nats-url", p.addrs["nats"], "--clickhouse-addr", p.addrs["clickhouse"]}
	then := onramp(t.Context(), append([]string{"explain", "first@example.com", "--json", "--at", time.Now().UTC().Format(time.RFC3339Nano)}, servers...)...)
	require.Equal(t, exitDone, then.code, then.err)
	var story backtest.Story
	require.NoError(t, json.Unmarshal([]byte(then.out), &story))
	require.Equal(t, live, story.Profile, "the fold of the archive is what the workflow holds")
	require.Equal(t, "event signed_up traits {industry: finance}", story.Lines[0].Text)

	result := onramp(t.Context(), "backtest", "../../examples/saas-onboarding", "--events", "clickhouse", "--clickhouse-addr", p.addrs["clickhouse"], "--json")
	require.Equal(t, exitDone, result.code, result.err)
	var r backtest.Result
	require.NoError(t, json.Unmarshal([]byte(result.out), &r))
	require.Equal(t, []uint64{1, 1}, []uint64{r.Users, r.Events})

	unknown := onramp(t.Context(), "explain", "nobody", "--temporal-address", p.addrs["temporal"])
	require.Equal(t, exitFailed, unknown.code)
	require.Contains(t, unknown.err, "no event that the playbook reads has come")
}

// adminPort finds in the metrics what the test has done so far, and on the API's port no metrics and no profiles.
func adminPort(t *testing.T, p *process) {
	t.Helper()
	stored := regexp.MustCompile(`(?m)^onramp_sink_batch_rows_sum\{consumer="archive"\} 2`)
	var text string
	require.Eventually(t, func() bool { // the sink lets rows that follow on others wait for more
		code, body := get(t, p.addrs["admin"]+"/metrics")
		text = string(body)
		return code == 200 && stored.MatchString(text)
	}, 10*time.Second, 50*time.Millisecond)
	for series, value := range map[string]string{
		`onramp_outcomes_total{kind="action_delivered"}`:                          "[1-9]",
		`onramp_action_attempts_total{action="send_tutorial",result="delivered"}`: "[1-9]",
		`onramp_decision_latency_seconds_count`:                                   "[1-9]",
		`onramp_ingest_events_total{result="signaled"}`:                           "2",
		`onramp_ingest_dead_letters_total{reason="too_large"}`:                    "1",
		`onramp_profiles`:     "2",
		`onramp_jetstream_up`: "1",
		`onramp_http_request_duration_seconds_count{code="200",route="/v1/users/{id}"}`: "1",
	} {
		require.Regexp(t, "(?m)^"+regexp.QuoteMeta(series)+" "+value, text)
	}
	require.Regexp(t, `temporal_workflow_task_execution_latency_seconds_count\{.*workflow_type="Journey"\} [1-9]`, text)
	require.NotContains(t, text, "example.com")
	require.NotContains(t, text, schema.UserToken([]byte(embeddedKey), "first@example.com"))
	code, _ := get(t, p.addrs["admin"]+"/debug/pprof/heap?debug=1")
	require.Equal(t, 200, code)
	for _, path := range []string{"/metrics", "/debug/pprof/"} {
		code, _ = get(t, p.addrs["api"]+path)
		require.Equal(t, 404, code)
	}
}

// TestWorkflowCache: the workers of the embedded Temporal start before ours and share memory with it, and it is ours that says how much.
func TestWorkflowCache(t *testing.T) {
	if testing.Short() {
		t.Skip("starts every server")
	}
	t.Parallel()
	p := startDev(t, t.TempDir(), "--workflow-cache", "3")
	js := p.js(t)
	for n := range 10 {
		publish(t, js, schema.Event{EventName: "signed_up", UserID: "user" + strconv.Itoa(n)})
	}
	eventually(t, 30*time.Second, "workflows that had to go", func() bool {
		_, body := get(t, p.addrs["admin"]+"/metrics")
		return regexp.MustCompile(`(?m)^temporal_sticky_cache_total_forced_eviction.* [7-9]`).Match(body)
	})
}

func badInput(t *testing.T, js jetstream.JetStream, store *outcome.Store) {
	t.Helper()
	bad := map[schema.Reason]string{ //nolint:exhaustive // one of each sort; package ingest has them all
		schema.ReasonMalformedJSON: `{"user_id":"u1","event_name":`,
		schema.ReasonMissingUser:   `{"event_name":"signed_up"}`,
		schema.ReasonWrongType:     `{"event_name":"signed_up","user_id":5}`,
		schema.ReasonUnknownField:  `{"event_name":"signed_up","user_id":"u1","USER_ID":"u2"}`,
		schema.ReasonTooLarge:      `{"event_name":"signed_up","user_id":"u1","properties":{"a":"` + strings.Repeat("x", schema.MaxEventBytes) + `"}}`,
		schema.ReasonInvalidUTF8:   "{\"event_name\":\"\xff\",\"user_id\":\"u1\"}",
	}
	for _, body := range bad {
		publishRaw(t, js, []byte(body))
	}
	published := time.Now()
	publish(t, js, schema.Event{EventID: "after", EventName: "signed_up", UserID: "next"})
	profiles, err := js.Stream(t.Context(), schema.ProfilesStream)
	require.NoError(t, err)
	eventually(t, 5*time.Second, "the next good event", func() bool {
		_, err := profiles.GetLastMsgForSubject(t.Context(), schema.ProfileSubject(schema.UserToken([]byte(embeddedKey), "next")))
		return err == nil
	})
	t.Logf("the next good event was applied after %s", time.Since(published).Round(time.Millisecond))
	for reason := range bad {
		eventually(t, 20*time.Second, "the dead letter of "+string(reason), func() bool {
			return count(t, store, `SELECT count() FROM dead_letters_unique WHERE reason = ?`, string(reason)) == 1
		})
	}
	require.Equal(t, uint64(len(bad)), count(t, store, `SELECT count() FROM dead_letters_unique`))
	require.Zero(t, count(t, store, `SELECT count() FROM events_unique WHERE event_id NOT IN ('e1', 'after')`))
}

func TestUsage(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "playbook.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("name: x\nevents: {a: {}}\nsegments:\n  s: {when: did(\"b\")}\n"), 0o600))
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"help", []string{"--help"}, exitDone, []string{"demo", "dev", "replay", "serve"}},
		{"nothing", nil, exitDone, []string{"Usage: onramp"}},
		{"help of a command has an example", []string{"replay", "--help"}, exitDone, []string{"Example: onramp replay", "--embedded"}},
		{"unknown command", []string{"fly"}, exitUsage, []string{"unexpected argument fly", "onramp --help"}},
		{"unknown flag", []string{"demo", "--fast"}, exitUsage, []string{"unknown flag --fast"}},
		{"too few users", []string{"demo", "--users", "1"}, exitUsage, []string{"--users is 1"}},
		{"no such log", []string{"replay", "nowhere.csv"}, exitFailed, []string{"nowhere.csv"}},
		{"no such mapping", []string{"replay", "x.csv", "--mapping", "nowhere.yaml"}, exitUsage, []string{"nowhere.yaml"}},
		{"no such playbook", []string{"dev", "--playbook", "nowhere"}, exitUsage, []string{"playbook nowhere"}},
		{"playbook with an error", []string{"dev", "--playbook", bad}, exitFailed, []string{"playbook.yaml:4:", `event "b" is not declared`, "onramp validate"}},
		{"validate", []string{"validate", "../../examples/saas-onboarding"}, exitDone, []string{"saas-onboarding is well"}},
		{"validate as JSON", []string{"validate", "--json", bad}, exitFailed, []string{`"line": 4`}},
		{"no room for workflows", []string{"worker", "--workflow-cache", "0"}, exitUsage, []string{"--workflow-cache is 0"}},
		{"nor in a load test", []string{"loadtest", "--all", "--workflow-cache=-1"}, exitUsage, []string{"--workflow-cache is -1"}},
		{"no workspace key", []string{"serve"}, exitUsage, []string{"ONRAMP_WORKSPACE_KEY"}},
		{"NATS away", []string{"ingest", "--nats-url", "nats://127.0.0.1:1", "--workspace-key", "0123456789abcdef"}, exitFailed, []string{"nats://127.0.0.1:1", "--nats-url"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := onramp(t.Context(), c.args...)
			require.Equal(t, c.code, got.code, got.err)
			for _, text := range c.says {
				require.Contains(t, got.out+got.err, text)
			}
		})
	}
}

func TestFolderAndPortInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startDev(t, dir)
	free := []string{"--nats-port", "0", "--temporal-port", "0", "--ui-port", "0", "--clickhouse-port", "0", "--clickhouse-http-port", "0"}
	got := onramp(t.Context(), append([]string{"dev", "--data", dir, "--api-addr", "127.0.0.1:0"}, free...)...)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, dir)
	require.Contains(t, got.err, "--data")

	_, natsPort, _ := strings.Cut(strings.TrimPrefix(p.addrs["nats"], "nats://"), ":")
	got = onramp(t.Context(), append(append([]string{"dev", "--ephemeral", "--api-addr", "127.0.0.1:0"}, free...), "--nats-port", natsPort)...)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, natsPort)
	require.Contains(t, got.err, "--nats-port")

	got = onramp(t.Context(), append([]string{"dev", "--ephemeral", "--api-addr", strings.TrimPrefix(p.addrs["api"], "http://")}, free...)...)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "--api-addr")
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, body
}
