package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// failpointSource is a package that stands in no tree: it is built into a program that dies where a test says.
const failpointSource = `package failpoint

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

var point = sync.OnceValues(func() (name string, after int64) {
	raw, _ := os.ReadFile(os.Getenv("CHAOS_FAILPOINT"))
	fmt.Sscan(string(raw), &name, &after)
	return name, after
})

var passed atomic.Int64

func reached(at string) bool {
	name, after := point()
	return name == at && passed.Add(1)%max(after, 1) == 0
}

// At kills the process at every so-manieth pass of a point.
func At(name string) {
	if reached(name) {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// Err fails there instead.
func Err(name string) error {
	if reached(name) {
		return errors.New("failpoint " + name)
	}
	return nil
}
`

// failpoint is a place in the engine's code, in front of or behind a text that stands there once.
type failpoint struct {
	name, role string
	file, text string
	code       string // defaults to a kill in front of the text
	fails      bool   // it does not die there: it takes a success for a failure
}

func failpoints() []failpoint {
	return []failpoint{
		{name: "ingest.fetched", role: "ingest", file: "ingest/settle.go", text: "		whose, event, err := i.whose(message, boxes.book)\n"},
		{name: "ingest.before_send", role: "ingest", file: "ingest/settle.go", text: "	patience, err := i.persist(ctx, user, batch)\n"},
		{name: "ingest.signaled", role: "ingest", file: "ingest/settle.go", text: "		i.stats.signals.Add(1)\n"},
		{
			name: "ingest.acked", role: "ingest", file: "ingest/settle.go", text: "			i.ack(q.message)\n		}\n",
			code: "			i.ack(q.message)\n		}\n		failpoint.At(\"ingest.acked\")\n",
		},
		{name: "ingest.buried", role: "ingest", file: "ingest/settle.go", text: "	i.stats.reject(rejection.Reason)\n"},
		{name: "sink.taken", role: "sink", file: "outcome/carrier.go", text: "	if err := c.carry(work, batch); err != nil {\n"},
		{name: "sink.between_tables", role: "sink", file: "outcome/archive.go", text: "	now := w.now()\n"},
		{name: "sink.inserted", role: "sink", file: "outcome/carrier.go", text: "	_ = batch[len(batch)-1].msg.Ack()"},
		{name: "sink.acked", role: "sink", file: "outcome/carrier.go", text: "	c.inbox.settle(len(batch))\n"},
		{
			name: "sink.answer_lost", role: "sink", file: "outcome/carrier.go", text: "		err := c.insert(ctx, name, rows)\n", fails: true,
			code: "		err := c.insert(ctx, name, rows)\n		if err == nil {\n			err = failpoint.Err(\"sink.answer_lost\")\n		}\n",
		},
		{name: "record.before", role: "worker", file: "activities/record.go", text: "	if err := publishOutcomes(ctx, r.js, in.Outcomes); err != nil {\n"},
		{name: "record.outcomes", role: "worker", file: "activities/record.go", text: "	if err := r.profiles.publish(ctx, &in.Profile, len(in.Outcomes)); err != nil {\n"},
		{name: "record.profile", role: "worker", file: "activities/record.go", text: "	r.Meters.recorded(in.Outcomes)\n"},
		{name: "deliver.before", role: "worker", file: "activities/delivery.go", text: "	body, err := json.Marshal(in.Request)\n"},
		{name: "deliver.after", role: "worker", file: "activities/delivery.go", text: "	in.Delivered.RecordedAt = d.now().UnixMilli()\n"},
		{name: "deliver.recorded", role: "worker", file: "activities/delivery.go", text: "	d.Meters.recorded([]schema.Outcome{in.Delivered})\n"},
		{name: "deliver.tried", role: "worker", file: "activities/try.go", text: "	return tried(err), nil\n"}, // the answer is not in the history
		{name: "workflow.time_has_come", role: "worker", file: "workflows/journey.go", text: "	return workflow.NewTimerWithOptions(ctx, time.Millisecond,"},
		{name: "workflow.before_continue_as_new", role: "worker", file: "workflows/journey.go", text: "	return nil, workflow.NewContinueAsNewError(ctx,"},
	}
}

// failpointChanges puts the failpoints into the engine's code.
func failpointChanges() []change {
	changes := []change{shortHistories}
	imported := make(map[string]bool)
	for _, p := range failpoints() {
		if !imported[p.file] {
			imported[p.file] = true
			changes = append(changes, change{p.file, "import (\n", "import (\n	\"github.com/onramphq/onramp/internal/failpoint\"\n"})
		}
		code := p.code
		if code == "" {
			code = fmt.Sprintf("	failpoint.At(%q)\n%s", p.name, p.text)
		}
		changes = append(changes, change{p.file, p.text, code})
	}
	return changes
}

// TestChaosFailpoints lets a part die again and again at each of the places where two steps meet, and judges the engine at the end.
func TestChaosFailpoints(t *testing.T) {
	if !chaosFull() {
		t.Skip("CHAOS=full: takes minutes")
	}
	seed := chaosSeed(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	binary := buildWith(t, failpointChanges(), map[string]string{"internal/failpoint/failpoint.go": failpointSource})
	armed := filepath.Join(t.TempDir(), "failpoint")
	t.Setenv("CHAOS_FAILPOINT", armed)
	r := newRig(t, rigConfig{seed: seed, binary: binary, ingests: 1, workers: 1})
	l := r.publishing(loadConfig{rate: 60})
	for _, p := range failpoints() {
		role := r.part(p.role)
		require.NoError(t, os.WriteFile(armed, fmt.Appendf(nil, "%s %d", p.name, 1+rng.IntN(6)), 0o600))
		role.signal(syscall.SIGKILL) // it reads the file when it starts
		before, from := role.started(), l.count()
		if p.fails {
			l.until(from + 200)
		} else {
			eventually(t, time.Minute, p.name+" kills three times", func() bool { return role.started() >= before+4 })
		}
		require.NoError(t, os.Remove(armed))
		role.signal(syscall.SIGKILL)
		t.Logf("%s: started %d times", p.name, role.started()-before)
	}
	r.awaitReady()
	l.end()
	r.innocent(l)
}
