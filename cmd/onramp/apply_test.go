package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// trial is a playbook in which everybody waits; migrate says what its journey does to those inside.
func trial(migrate, steps string) playbook.Bundle {
	return playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": `
name: trial
events: {signed_up: {}, used: {}}
actions: {hello: {}}
segments: {user: {when: did("signed_up")}}
journeys:
  trial: {enter: {on: signed_up}, migrate: ` + migrate + `, steps: [` + steps + `]}
`}}
}

// TestApply puts a playbook in force over users who send no events: the batch operation brings it to all of them, and each does what
// the journey says.
func TestApply(t *testing.T) {
	t.Parallel()
	l, err := startLocal(t.Context(), freePorts(), "", os.Stderr, newLogger(os.Stderr, "error", "text"))
	require.NoError(t, err)
	defer l.close()
	apply := func(c applyCommand, bundle playbook.Bundle) applied {
		var out, errs bytes.Buffer
		c.JSON = true
		require.NoError(t, c.apply(t.Context(), stdio{strings.NewReader(""), &out, &errs}, l.engine, bundle), errs.String())
		var result applied
		require.NoError(t, json.Unmarshal(out.Bytes(), &result))
		return result
	}
	first := trial("stay", "{id: rest, delay: 5d}")
	require.Equal(t, applied{After: first.Hash(), Revision: 1, Inside: []fate{}}, apply(applyCommand{Yes: true}, first))
	go l.run(t.Context())
	require.Eventually(t, func() bool {
		_, _, err := atRest(t.Context(), l.js)
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "the roles are there")

	const users = 7
	for i := range users {
		require.NoError(t, publishEvent(l.js, "test", schema.Event{EventID: fmt.Sprint("apply-", i), EventName: "signed_up", UserID: fmt.Sprint("idle-", i)}))
	}
	require.NoError(t, drain(t.Context(), l.js))
	second := trial("{move: {rest: nap}}", "{id: nap, delay: 2d}, {id: greet, action: hello}")
	looked := apply(applyCommand{DryRun: true}, second)
	require.Len(t, looked.Inside, 1)
	require.Equal(t, uint64(users), looked.Inside[0].Users)
	require.Equal(t, "moves to nap", looked.Inside[0].Becomes)
	require.EqualValues(t, users, looked.Running)
	require.Zero(t, looked.Told)
	require.EqualValues(t, users, apply(applyCommand{Yes: true}, second).Told)
	require.NoError(t, drain(t.Context(), l.js))
	for i := range users {
		id := schema.WorkflowID(schema.UserToken([]byte(embeddedKey), fmt.Sprint("idle-", i)))
		value, err := l.temporal.QueryWorkflow(t.Context(), id, "", workflows.StateQueryName)
		require.NoError(t, err)
		var state journey.State
		require.NoError(t, value.Get(&state))
		require.Equal(t, second.Hash(), state.Playbook)
		require.Equal(t, "nap", state.Enrollments[0].Step)
		require.Equal(t, state.Enrollments[0].StartedAt+2*86_400_000, state.Enrollments[0].Due, "the delay counts from its beginning")
	}
	require.Zero(t, apply(applyCommand{Yes: true}, second).Told, "applied twice, nobody is told twice")
	third := trial("exit", "{id: greet, action: hello}")
	require.Equal(t, "ends: version_ended", apply(applyCommand{Yes: true}, third).Inside[0].Becomes)
	require.NoError(t, drain(t.Context(), l.js))
	standings, err := l.store.Standings(t.Context())
	require.NoError(t, err)
	require.Empty(t, standings)
}

// TestApplyAsks applies nothing without a yes.
func TestApplyAsks(t *testing.T) {
	t.Parallel()
	require.True(t, agreed(stdio{strings.NewReader("y\n"), &bytes.Buffer{}, &bytes.Buffer{}}, "Apply?"))
	require.False(t, agreed(stdio{strings.NewReader("\n"), &bytes.Buffer{}, &bytes.Buffer{}}, "Apply?"))
	require.False(t, agreed(stdio{strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}}, "Apply?"))
	got := onramp(t.Context(), "apply", "../../examples/saas-onboarding")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "--dry-run")
}
