package main

import (
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

var record = flag.Bool("record", false, "record the histories of workflows/testdata/replay anew")

// TestRecordHistories runs users through the example on the real servers, a day in a second, and writes their histories
// for the replay tests: go test ./cmd/onramp -run TestRecordHistories -record
func TestRecordHistories(t *testing.T) { //nolint:paralleltest // alone, so that histories come out alike
	if !*record {
		t.Skip("run with -record to write histories")
	}
	const out = "../../workflows/testdata/replay"
	bundle, err := example(1.0 / 86400)
	require.NoError(t, err)
	for name, text := range bundle.Files { // one action goes to a receiver that is not configured, and fails for good
		bundle.Files[name] = strings.Replace(text, "reengage: {", "reengage: {deliver: webhook:nobody, ", 1)
	}
	l, err := startLocal(t.Context(), freePorts(), "", os.Stderr, newLogger(os.Stderr, "error", "text"))
	require.NoError(t, err)
	defer l.close()
	_, err = l.library.Publish(t.Context(), bundle)
	require.NoError(t, err)
	go l.run(t.Context())
	raw, err := bundle.Encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(out, bundle.Hash()+".playbook.json"), raw, 0o600))

	n := 0
	send := func(user, name string) {
		n++
		e := schema.Event{EventID: fmt.Sprint("record-", n), EventName: name, UserID: user, Traits: json.RawMessage(`{"industry":"finance","marketing_consent":true}`)}
		require.NoError(t, publishEvent(l.js, "record", e))
	}
	for _, name := range []string{"signed_up", "feature_viewed", "profile_completed", "onboarding_completed", "activated"} {
		send("straight-through", name)
		require.NoError(t, waitUntil(t.Context(), time.Now().Add(300*time.Millisecond)))
	}
	send("dropped", "signed_up")
	send("dropped", "feature_viewed")
	send("at-risk", "signed_up")
	for range 260 { // enough history to continue as new in the middle of a wait
		send("busy", "feature_used")
		require.NoError(t, waitUntil(t.Context(), time.Now().Add(30*time.Millisecond)))
	}
	require.NoError(t, waitUntil(t.Context(), time.Now().Add(10*time.Second)))
	for _, user := range []string{"straight-through", "dropped", "at-risk", "busy"} {
		id := schema.WorkflowID(schema.UserToken([]byte(embeddedKey), user))
		run := ""
		for part := 1; ; part++ {
			history := &historypb.History{}
			events := l.temporal.GetWorkflowHistory(t.Context(), id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
			for events.HasNext() {
				e, err := events.Next()
				require.NoError(t, err)
				history.Events = append(history.Events, e)
			}
			started := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
			writeHistory(t, filepath.Join(out, fmt.Sprintf("%s-%d.json.gz", user, part)), history)
			if run = started.GetContinuedExecutionRunId(); run == "" {
				break
			}
		}
	}
	_, err = playbook.Compile(bundle)
	require.NoError(t, err)
}

func writeHistory(t *testing.T, path string, history *historypb.History) {
	t.Helper()
	raw, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(history)
	require.NoError(t, err)
	file, err := os.Create(path)
	require.NoError(t, err)
	packed := gzip.NewWriter(file)
	_, err = packed.Write(raw)
	require.NoError(t, err)
	require.NoError(t, packed.Close())
	require.NoError(t, file.Close())
}
