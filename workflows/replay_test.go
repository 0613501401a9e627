package workflows_test

import (
	"compress/gzip"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// recorded are the histories of testdata/replay, made on the real server by TestRecordHistories of cmd/onramp.
func recorded(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/replay/*.json.gz")
	require.NoError(t, err)
	require.NotEmpty(t, files, "without histories this test proves nothing")
	return files
}

func readHistory(t *testing.T, file string) *historypb.History {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	require.NoError(t, err)
	history, err := client.HistoryFromJSON(unzipped, client.HistoryJSONOptions{})
	require.NoError(t, err)
	return history
}

// recordedBooks holds the playbooks that the histories were recorded with.
func recordedBooks(t *testing.T, change func(*playbook.Bundle)) books {
	t.Helper()
	files, err := filepath.Glob("testdata/replay/*.playbook.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := books{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		bundle, err := playbook.DecodeBundle(raw)
		require.NoError(t, err)
		hash := bundle.Hash()
		if change != nil {
			change(&bundle)
		}
		compiled, err := playbook.Compile(bundle)
		require.NoError(t, err)
		all[hash] = compiled
	}
	return all
}

func replay(b books, history *historypb.History) error {
	replayer := sdkworker.NewWorkflowReplayer()
	replayer.RegisterWorkflowWithOptions((&workflows.Journeys{Books: b}).Journey, workflow.RegisterOptions{Name: schema.JourneyWorkflow})
	return replayer.ReplayWorkflowHistory(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)), history)
}

func TestReplayRecordedHistories(t *testing.T) {
	t.Parallel()
	b := recordedBooks(t, nil)
	kinds := map[string]bool{}
	for _, file := range recorded(t) {
		history := readHistory(t, file)
		for _, e := range history.GetEvents() {
			kinds[e.GetEventType().String()] = true
		}
		require.NoError(t, replay(b, history), file)
	}
	for _, kind := range []string{"TimerFired", "MarkerRecorded", "WorkflowExecutionSignaled", "WorkflowExecutionContinuedAsNew", "ActivityTaskFailed", "UpsertWorkflowSearchAttributes", "WorkflowExecutionCompleted", "ActivityTaskCompleted", "WorkflowExecutionUpdateCompleted"} {
		require.True(t, kinds[kind], "no recorded history holds %s", kind)
	}
}

// TestReplayCatchesChange shows that the replay can fail: the same histories under a playbook that was tampered with.
func TestReplayCatchesChange(t *testing.T) {
	t.Parallel()
	tampered := recordedBooks(t, func(b *playbook.Bundle) {
		for name, text := range b.Files {
			b.Files[name] = strings.ReplaceAll(strings.ReplaceAll(text, "up_to: 1d", "up_to: 2d"), `inactive_for("2d")`, `inactive_for("1d")`)
		}
	})
	caught := 0
	for _, file := range recorded(t) {
		if replay(tampered, readHistory(t, file)) != nil {
			caught++
		}
	}
	require.NotZero(t, caught, "a changed playbook under an old name went unnoticed")
}
