package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// change replaces text in one of the engine's source files, for a program that is built for a test alone.
type change struct{ file, old, new string }

// buildWith builds the program, without the embedded servers, from sources with changes. They stand in files beside the sources, which
// nobody else sees.
func buildWith(t *testing.T, changes []change, added map[string]string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	dir := t.TempDir()
	replace := map[string]string{}
	write := func(file, text string) {
		path := filepath.Join(root, file)
		if replace[path] == "" {
			replace[path] = filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		}
		require.NoError(t, os.WriteFile(replace[path], []byte(text), 0o600))
	}
	for file, text := range changed(t, changes) {
		write(file, text)
	}
	for file, text := range added {
		write(file, text)
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "onramp")
	require.NoError(t, os.WriteFile(overlay, raw, 0o600))
	began := time.Now()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay="+overlay, "-tags=noembed", "-ldflags=-s -w", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("built in %s", time.Since(began).Round(time.Second/10))
	return binary
}

// changed returns the source files with their changes, by name.
func changed(t *testing.T, changes []change) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	for _, c := range changes {
		text, seen := texts[c.file]
		if !seen {
			raw, err := os.ReadFile(filepath.Join("../..", c.file))
			require.NoError(t, err)
			text = string(raw)
		}
		require.Equal(t, 1, strings.Count(text, c.old), "%s has changed: this no longer fits:\n%s", c.file, c.old)
		texts[c.file] = strings.Replace(text, c.old, c.new, 1)
	}
	return texts
}

// TestChangesFit: the defects and the places to die still fit the code, so that whoever changes it hears of it at once, and not from the
// chaos tests, which seldom run whole.
func TestChangesFit(t *testing.T) {
	t.Parallel()
	for _, m := range mutants() {
		require.NotEmpty(t, changed(t, m.changes), m.name)
	}
	require.NotEmpty(t, changed(t, failpointChanges()))
}

// mutant is an engine with a defect that a good judge must see.
type mutant struct {
	name    string
	changes []change
	load    loadConfig
	slow    time.Duration // how long the receiver takes
	proxied bool
	during  func(r *rig, l *traffic) // what happens while it runs; defaults to nothing for some seconds
	caught  []string                 // any of these must be found
}

// mutantPatience is how long a defective engine may take to come to rest: with some defects it never does.
const mutantPatience = 90 * time.Second

// shortHistories makes runs continue as new after a few events instead of a hundred.
var shortHistories = change{"schema/message.go", "const RunLength = 300", "const RunLength = 60"}

func mutants() []mutant {
	return []mutant{
		{
			name: "M1 acknowledges before it inserts",
			changes: []change{{"outcome/carrier.go", "	if err := c.carry(work, batch); err != nil {\n		return 0, err\n	}\n", `	for _, d := range batch {
		_ = d.msg.Ack()
	}
	if err := c.carry(work, batch); err != nil {
		return 0, err
	}
`}},
			during: func(r *rig, l *traffic) {
				store, sink := r.part("clickhouse"), r.part("sink")
				// Twice: a batch that the store wrote just before it died, and could not tell, is no loss.
				for range 2 {
					r.awaitReady() // the sink is at work: killed, it waits for its lease first
					l.until(l.count() + 200)
					store.hold()
					store.signal(syscall.SIGKILL) // now the sink has rows in hand that it cannot write
					l.until(l.count() + 200)
					sink.signal(syscall.SIGKILL)
					store.release()
				}
				l.until(l.count() + 100)
			},
			caught: []string{"A1", "A7"}, // an event, or a dead letter, is lost
		},
		{
			name:    "M2 takes a repetition for new",
			changes: []change{{"journey/state.go", "	if r := s.look(seq, id); r != fresh {\n		return r\n	}\n	s.entries = append", "	s.entries = append"}},
			caught:  []string{"verify", "rest"}, // both of them in one task are the same activity twice, at which the SDK stops
		},
		{
			name: "M3 makes an idempotency key of the attempt",
			changes: []change{
				// The time tells attempts apart, also one within the task and the activity's first.
				{"activities/delivery.go", "post(webhook, ctx, in.Request.ActionID,", "post(webhook, ctx, fmt.Sprint(in.Request.ActionID, d.now().UnixNano()),"},
				{"activities/delivery.go", "	\"encoding/json\"\n", "	\"encoding/json\"\n	\"fmt\"\n"},
			},
			caught: []string{"W3"},
		},
		{
			name: "M4 loses one event in thousands",
			changes: []change{
				{"ingest/settle.go", "		case whose.Link == nil && !current.Reads(event.EventName, len(event.Traits) > 0):\n", "		case event.EventName == \"used\" && event.Sequence >= 300 && !lostOne.Swap(true):\n			i.ack(message)\n		case whose.Link == nil && !current.Reads(event.EventName, len(event.Traits) > 0):\n"},
				{"ingest/settle.go", "// mailbox is what waits", "var lostOne atomic.Bool\n\n// mailbox is what waits"},
				{"ingest/settle.go", "	\"sync\"\n", "	\"sync\"\n	\"sync/atomic\"\n"},
			},
			caught: []string{"verify"},
		},
		{
			name: "M5 swaps two events of a user",
			changes: []change{{"ingest/settle.go", "	patience, err := i.persist(ctx, user, batch)\n", `	if len(batch.Events) > 1 {
		batch.Events[0], batch.Events[1] = batch.Events[1], batch.Events[0]
	}
	patience, err := i.persist(ctx, user, batch)
`}},
			during: func(r *rig, l *traffic) { // what waits for Temporal gathers in batches
				l.until(100)
				r.part("temporal").signal(syscall.SIGSTOP)
				l.until(l.count() + 200)
				r.part("temporal").signal(syscall.SIGCONT)
				l.until(l.count() + 100)
			},
			caught: []string{"verify"},
		},
		{
			name: "M6 continues as new without looking for signals",
			changes: []change{shortHistories, {"workflows/journey.go", `	for r.signal.Len() > 0 || r.posted.waits() || len(r.failed) > 0 {
		if err := r.handle(ctx); err != nil {
			return nil, err
		}
	}
`, ""}},
			load:   loadConfig{users: 12, rate: 120},
			slow:   1500 * time.Millisecond,
			during: func(_ *rig, l *traffic) { l.until(1500) },
			caught: []string{"verify"},
		},
		{
			name:    "M7 measures lateness by the clock on the wall",
			changes: []change{{"schema/event.go", "timingOf(event, first, receivedAt)", "timingOf(event, first, time.Now())"}},
			load:    loadConfig{age: 15*time.Minute - 2*time.Second}, // on time when it is received, late three seconds after
			during: func(r *rig, l *traffic) {
				r.part("sink").signal(syscall.SIGSTOP)
				l.until(300)
				for range 3 {
					<-time.After(time.Second)
				}
				r.part("sink").signal(syscall.SIGCONT)
			},
			caught: []string{"verify"},
		},
		{
			name:    "M8 gives every insert the same token",
			changes: []change{{"outcome/insert.go", `return fmt.Sprintf("%s:%d-%d:%016x", consumer, first, last, h.Sum64())`, `return fmt.Sprint(consumer, (h.Sum64()+first+last)*0)`}},
			caught:  []string{"A1"},
		},
		{
			name: "M9 counts an exposure again when it is recorded again",
			changes: []change{
				{"activities/record.go", "		in.Outcomes[i].RecordedAt = recordedAt\n", "		in.Outcomes[i].RecordedAt = recordedAt\n		if attempt := activity.GetInfo(ctx).Attempt; attempt > 1 && in.Outcomes[i].Kind == schema.ExposureRecorded {\n			in.Outcomes[i].OutcomeID += fmt.Sprint(attempt)\n		}\n"},
				{"activities/record.go", "	\"encoding/json\"\n", "	\"encoding/json\"\n	\"fmt\"\n"},
				{"activities/record.go", "	\"github.com/nats-io/nats.go/jetstream\"\n", "	\"github.com/nats-io/nats.go/jetstream\"\n	\"go.temporal.io/sdk/activity\"\n"},
			},
			load:    loadConfig{users: 200},
			proxied: true,
			during: func(r *rig, l *traffic) {
				r.proxies["nats"].Set(testenv.Weather{LoseAnswer: 40})
				l.until(900)
				eventually(r.t, 2*time.Minute, "enough is recorded meanwhile", func() bool { // ingest may have been away for most of it
					outcomes, err := r.js.Stream(r.t.Context(), schema.OutcomesStream)
					return err == nil && outcomes.CachedInfo().State.LastSeq >= 1500
				})
				r.proxies["nats"].Set(testenv.Weather{})
			},
			caught: []string{"verify", "X2"},
		},
	}
}

// TestChaosMutants checks the judge: engines with one defect each must be found guilty. CI runs the first three, all
// run with CHAOS=full.
func TestChaosMutants(t *testing.T) { //nolint:paralleltest // alone: it keeps both processors busy
	if testing.Short() {
		t.Skip("builds the program once for every defect")
	}
	seed := chaosSeed(t)
	all := mutants()
	if !chaosFull() {
		all = all[:3]
	}
	for i, m := range all { //nolint:paralleltest // likewise
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t, rigConfig{seed: seed + uint64(i), binary: buildWith(t, m.changes, nil), proxied: m.proxied})
			r.receiver.slow = m.slow
			l := r.publishing(m.load)
			if m.during == nil {
				l.until(700)
			} else {
				m.during(r, l)
			}
			l.end()
			if err := r.rest(mutantPatience); err != nil {
				t.Logf("it does not come to rest: %v", err)
				require.Contains(t, m.caught, "rest", "nobody noticed, because it is stuck")
				return
			}
			j := r.judge(l)
			t.Logf("found: %v; %d differences", j.names(), j.verdict.Differences)
			require.True(t, slices.ContainsFunc(j.names(), func(name string) bool { return slices.Contains(m.caught, name) }),
				"nobody noticed: none of %v", m.caught)
		})
	}
}
