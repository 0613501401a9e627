package workflows_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mutation is a change to the workflow's code that a run in flight would not survive: once written out, it must make the replay of
// the recorded histories fail.
type mutation struct {
	name, file string
	old, new   string
}

func mutations() []mutation {
	return []mutation{
		{"delivers before it records", "journey.go", "	if len(outcomes) == 0 && profile.MergedInto == \"\" {\n		return nil\n	}\n", `	if len(outcomes) == 0 {
		return nil
	}
	for _, request := range decision.Actions {
		request.UserID = r.in.UserID
		r.deliver(ctx, r.delivery(request))
	}
	decision.Actions = nil
`},
		{"records though nothing happened", "journey.go", "	if len(outcomes) == 0 && profile.MergedInto == \"\" {\n		return nil\n	}\n", ""},
		{"records kind by kind, in the order of a map", "journey.go", `	_, err := callLocal(ctx, record.CommitDecision, commitOptions(), schema.CommitInput{
		Outcomes: outcomes, Profile: profile, Merged: merged,
	})
`, `	kinds := make(map[schema.OutcomeKind][]schema.Outcome)
	for _, o := range outcomes {
		kinds[o.Kind] = append(kinds[o.Kind], o)
	}
	var err error
	for _, some := range kinds {
		_, err = callLocal(ctx, record.CommitDecision, commitOptions(), schema.CommitInput{Outcomes: some, Profile: profile, Merged: merged})
	}
`},
		{"records by a remote activity", "journey.go", `	_, err := callLocal(ctx, record.CommitDecision, commitOptions(), schema.CommitInput{
		Outcomes: outcomes, Profile: profile, Merged: merged,
	})
`, `	err := call(ctx, record.CommitDecision, workflow.ActivityOptions{StartToCloseTimeout: time.Minute}, schema.CommitInput{
		Outcomes: outcomes, Profile: profile, Merged: merged,
	}).Get(ctx, nil)
`},
		{"sets one timer more", "journey.go", "	r.arm(ctx)\n", "	r.arm(ctx)\n	workflow.NewTimer(ctx, time.Hour)\n"},
		{"sets no timer", "journey.go", "	r.arm(ctx)\n", ""},
		{"leaves the old timer running", "journey.go", "		r.disarm()\n", ""},
		{"sets its timer again each time", "journey.go", "	if r.timerAt == r.wakeAt {\n		return\n	}\n", ""},
		{"sleeps before it works", "journey.go", "	var all journey.Decision\n", `	var all journey.Decision
	if err := workflow.Sleep(ctx, time.Second); err != nil {
		return err
	}
`},
		{"continues as new sooner", "journey.go", ">= r.in.MaxHistory", ">= r.in.MaxHistory/2"},
		{"ends where it continued as new", "journey.go", "	return nil, workflow.NewContinueAsNewError(ctx, schema.JourneyWorkflow, next)\n", "	return nil, nil\n"},
		{"delivers to webhooks at once", "deliver.go", `	if in.Webhook == "" {`, `	if in.Webhook == "" || true {`},
		{
			"delivers by another activity", "deliver.go", "	future := call(ctx, delivery.DeliverAction, deliverOptions(&in.Request), in)\n",
			"	_ = delivery\n	future := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, deliverOptions(&in.Request)), \"DeliverOther\", in)\n",
		},
		{"tries nothing at once", "deliver.go", "	if r.in.Version < versionTriesAtOnce {", "	if r.in.Version < versionTriesAtOnce || true {"},
		{"tries at once in a run from before", "deliver.go", "	if r.in.Version < versionTriesAtOnce {", "	if r.in.Version < versionTimeOnRecord {"},
		{
			"acts before what came together is on record", "take.go", "	if !parts || r.in.Version < versionTogetherOnRecord {",
			"	if !parts || r.in.Version < versionTogetherOnRecord || true {",
		},
		{"takes nothing that came meanwhile", "take.go", "	return r.in.Version >= versionTakesOn, r.putEventsOnRecord(ctx)\n", "	return false, r.putEventsOnRecord(ctx)\n"},
		{"leaves nobody alone who failed", "deliver.go", "		r.deliverAfter(ctx, in, time.Duration(tried.PauseMS)*time.Millisecond)\n", "		r.deliverBeside(ctx, in)\n"},
		{"takes a refusal for a failure", "deliver.go", "		r.giveUp(ctx, in, string(tried.Reason), tried.Message)\n", "		r.deliverBeside(ctx, in)\n"},
		{"shows less", "show.go", "	r.shown = now\n", "	r.shown = now\n	if len(now.segments) > 0 {\n		return\n	}\n"},
		{"shows everything again", "show.go", "	r.shown = now\n", ""},
		{"takes nobody over", "journey.go", "		over, err := r.takeOver(ctx, event, batch, all)\n", "		var over *journey.State\n		var err error\n"},
		{"hands over and goes on", "journey.go", "			return r.finish(ctx, request)\n		}\n		if err := r.handle", "			if _, err := r.finish(ctx, request); err != nil {\n				return nil, err\n			}\n		}\n		if err := r.handle"},
	}
}

// TestReplayCatchesChangedCode shows that the replay sees what it is there for: twenty-three changes that break determinism each make it
// fail, and two that do not, a comment and a change behind a version, let it pass.
func TestReplayCatchesChangedCode(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the package once for every change")
	}
	t.Parallel()
	for _, m := range mutations() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			out, err := replayWith(t, m)
			require.Error(t, err, "nobody noticed")
			require.Contains(t, out, "--- FAIL: TestReplayRecordedHistories", "it must fail by the replay, not because it does not compile")
		})
	}
	for _, m := range []mutation{
		{"a comment", "journey.go", "	r.arm(ctx)\n", "	r.arm(ctx) // as before\n"},
		{"a change behind a version", "journey.go", "	r.arm(ctx)\n", `	r.arm(ctx)
	if workflow.GetVersion(ctx, "one timer more", workflow.DefaultVersion, 1) == 1 {
		workflow.NewTimer(ctx, time.Hour)
	}
`},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			out, err := replayWith(t, m)
			require.NoError(t, err, out)
		})
	}
}

// replayWith runs the replay test on the code with one change, which stands in a file beside the sources.
func replayWith(t *testing.T, m mutation) (output string, err error) {
	t.Helper()
	source, err := filepath.Abs(m.file)
	require.NoError(t, err)
	text, err := os.ReadFile(source)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), m.old), "the code has changed: the mutation no longer fits")
	changed, overlay := filepath.Join(t.TempDir(), m.file), filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o600))
	raw, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, raw, 0o600))
	out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay="+overlay, "-vet=off", "-ldflags=-s -w", "-run=^TestReplayRecordedHistories$", ".").CombinedOutput()
	return string(out), err
}
