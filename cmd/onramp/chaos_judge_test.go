package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/onramphq/onramp/internal/streamread"
	"github.com/onramphq/onramp/schema"
)

// verifyArgs are the arguments of a verification of the rig.
func (r *rig) verify() verified {
	r.t.Helper()
	got := onramp(r.t.Context(), "verify", "--json", "--workspace-key", embeddedKey, "--nats-url", "nats://"+r.addrs["nats"],
		"--temporal-address", r.addrs["temporal"], "--clickhouse-addr", r.addrs["clickhouse"])
	var result verified
	require.NoError(r.t, json.Unmarshal([]byte(got.out), &result), got.err)
	require.Equal(r.t, result.Differences > 0, got.code == exitFailed, got.err)
	return result
}

// settleTimeout is how long an engine that nobody disturbs any more may take to come to rest. An activity that a dying worker had in
// hand is tried again after its own 30 seconds.
const settleTimeout = 3 * time.Minute

// settle waits until the rig is at rest, and fails where it never is.
func (r *rig) settle() time.Duration {
	r.t.Helper()
	began := time.Now()
	if err := r.rest(settleTimeout); err != nil {
		r.explainUnrest(err)
	}
	return time.Since(began)
}

// rest waits until everything that was published has been dealt with and every action has come to its end. It returns an error where that
// takes longer.
func (r *rig) rest(within time.Duration) error {
	r.t.Helper()
	r.receiver.setKind(true)
	defer r.receiver.setKind(false)
	ctx, cancel := context.WithTimeout(r.t.Context(), within)
	defer cancel()
	for {
		err := drain(ctx, r.js)
		if err == nil {
			var open int
			if open, err = r.openActions(ctx); err == nil && open == 0 {
				return nil
			}
		}
		if ctx.Err() != nil {
			return cmp.Or(err, ctx.Err())
		}
		select {
		case <-ctx.Done():
		case <-time.After(quietInterval):
		}
	}
}

// explainUnrest fails with what is still going on.
func (r *rig) explainUnrest(err error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), 10*time.Second)
	defer cancel()
	for _, c := range [][2]string{
		{schema.EventsStream, schema.IngestConsumer},
		{schema.EventsStream, schema.ArchiveConsumer},
		{schema.OutcomesStream, schema.OutcomesConsumer},
		{schema.DeadLettersStream, schema.DeadLettersConsumer},
	} {
		if consumer, err := r.js.Consumer(ctx, c[0], c[1]); err == nil {
			info := consumer.CachedInfo()
			r.t.Logf("%s: %d pending, %d in hand, floor %d", c[1], info.NumPending, info.NumAckPending, info.AckFloor.Stream)
		}
	}
	open, errOpen := r.openActions(ctx)
	r.t.Logf("%d actions without an end, %v", open, errOpen)
	require.NoError(r.t, errors.Join(err, errors.New("not at rest")))
}

// openActions counts actions that were decided and neither delivered nor given up, in the stream itself.
func (r *rig) openActions(ctx context.Context) (int, error) {
	decided, over, err := r.actions(ctx)
	return len(decided) - len(over), err
}

func (r *rig) actions(ctx context.Context) (decided, over map[string]schema.Outcome, err error) {
	decided, over = map[string]schema.Outcome{}, map[string]schema.Outcome{}
	err = r.read(ctx, schema.OutcomesStream, func(m streamread.Message) error {
		var o schema.Outcome
		if err := json.Unmarshal(m.Data(), &o); err != nil {
			return err
		}
		switch o.Kind { //nolint:exhaustive // the others are no actions
		case schema.ActionDecided:
			decided[o.ActionID] = o
		case schema.ActionDelivered, schema.ActionFailed:
			over[o.ActionID] = o
		}
		return nil
	})
	return decided, over, err
}

// read reads a stream as it is now.
func (r *rig) read(ctx context.Context, name string, each func(streamread.Message) error) error {
	stream, err := r.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	if last == 0 {
		return nil
	}
	err = streamread.Read(ctx, r.js, name, streamread.Options{}, func(m streamread.Message) error {
		if err := each(m); err != nil {
			return err
		}
		if m.Sequence >= last {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// finding is one breach of an invariant.
type finding struct{ invariant, text string }

// judged is what a run was found to be.
type judged struct {
	verdict  verified
	findings []finding
	acked    int
	actions  int
	effects  int
}

func (j *judged) add(invariant, format string, args ...any) {
	j.findings = append(j.findings, finding{invariant, fmt.Sprintf(format, args...)})
}

// names are the invariants that were broken, and `verify` where it found a difference.
func (j *judged) names() []string {
	var names []string
	for _, f := range j.findings {
		names = append(names, f.invariant)
	}
	if j.verdict.Differences > 0 {
		names = append(names, "verify")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// innocent brings the rig to rest, judges it, and wants nothing found.
func (r *rig) innocent(l *traffic) *judged {
	r.t.Helper()
	took := r.settle()
	j := r.judge(l)
	r.t.Logf("%d events acknowledged (%d tries without an answer), %d judged, %d users, %d outcomes, %d actions, %d effects at the receiver; at rest after %s; verify took %.1f s: %d differences, %d rows stored twice and counted once",
		j.acked, l.retries, j.verdict.Events, j.verdict.Users, j.verdict.Outcomes, j.actions, j.effects, took.Round(time.Second/10), j.verdict.Seconds,
		j.verdict.Differences, j.verdict.StoredTwice.Events+j.verdict.StoredTwice.Outcomes)
	if len(j.verdict.Found) > 0 { // the differences first: what shows the log of a run may cut its end off
		for _, d := range j.verdict.Found[:min(len(j.verdict.Found), 10)] {
			r.t.Logf("%+v", d)
		}
		r.trail(j.verdict.Found[0].User)
	}
	require.Empty(r.t, j.verdict.Found[:min(len(j.verdict.Found), 10)])
	require.Empty(r.t, j.findings[:min(len(j.findings), 10)])
	require.Zero(r.t, j.verdict.Differences)
	require.Empty(r.t, j.verdict.Unjudged)
	require.Positive(r.t, j.acked, "nothing was published")
	return j
}

// judge asks onramp verify, and holds the rest against what the load and the receiver know, without any code of the engine but its
// wire types.
func (r *rig) judge(l *traffic) *judged {
	r.t.Helper()
	j := &judged{verdict: r.verify()}
	r.judgeArchive(j, l)
	r.judgeActions(j)
	r.judgeSegments(j)
	r.judgeWorkflows(j)
	return j
}

// judgeArchive: A1 what was acknowledged is there, A2 once, A3 nothing else is, A4 with its first body, A7 what is no event is a dead
// letter with its reason.
func (r *rig) judgeArchive(j *judged, l *traffic) {
	r.t.Helper()
	ctx, store := r.t.Context(), r.store()
	l.mu.Lock()
	defer l.mu.Unlock()
	known := func(id string) bool {
		return strings.HasPrefix(id, "canary-") || slices.ContainsFunc(r.loads, func(l *traffic) bool { return l.events[id] != nil })
	}
	stored := map[string]string{}
	rows, err := store.Conn().Query(ctx, `SELECT event_id, properties, count() FROM events_unique GROUP BY event_id, properties`)
	require.NoError(r.t, err)
	for rows.Next() {
		var id, properties string
		var n uint64
		require.NoError(r.t, rows.Scan(&id, &properties, &n))
		if _, twice := stored[id]; twice || n > 1 {
			j.add("A2", "%s is there more than once", id)
		}
		stored[id] = properties
	}
	require.NoError(r.t, rows.Err())
	require.NoError(r.t, rows.Close())
	letters := map[uint64]string{}
	rows, err = store.Conn().Query(ctx, `SELECT sequence, reason FROM dead_letters_unique WHERE stream = ?`, schema.EventsStream)
	require.NoError(r.t, err)
	for rows.Next() {
		var sequence uint64
		var reason string
		require.NoError(r.t, rows.Scan(&sequence, &reason))
		letters[sequence] = reason
	}
	require.NoError(r.t, rows.Err())
	require.NoError(r.t, rows.Close())
	for id, e := range l.events {
		properties, there := stored[id]
		if e.acked {
			j.acked++
		}
		if e.acked && !there {
			j.add("A1", "%s was acknowledged and is lost", id)
		}
		var first schema.Event
		require.NoError(r.t, json.Unmarshal(e.body, &first))
		if there && e.acked && properties != string(first.Properties) {
			j.add("A4", "%s has the body %s, not its first %s", id, properties, first.Properties)
		}
	}
	for id := range stored {
		if !known(id) {
			j.add("A3", "%s was never sent", id)
		}
	}
	for sequence, reason := range l.bad {
		if letters[sequence] != string(reason) {
			j.add("A7", "message %d should be a dead letter for %s and is %q", sequence, reason, letters[sequence])
		}
	}
}

// judgeActions: W1 an action is decided once, W2 every attempt carries the same body, W3 what is done was received and what was
// received was decided, W4 every action has one end, W6 nobody is sent more than the limit.
func (r *rig) judgeActions(j *judged) {
	r.t.Helper()
	ctx, store := r.t.Context(), r.store()
	twice := count(r.t, store, `SELECT count() FROM (SELECT action_id, kind FROM outcomes_unique WHERE kind IN ('action_decided', 'action_delivered', 'action_failed') GROUP BY action_id, kind HAVING count() > 1)`)
	if twice > 0 {
		j.add("W1", "%d actions have an outcome twice", twice)
	}
	// Two actions of one user for one step at one moment are one action under two names.
	if alike := count(r.t, store, `SELECT count() FROM (SELECT user_token, enrollment_id, step_key FROM outcomes_unique WHERE kind = 'action_decided' GROUP BY user_token, enrollment_id, step_key HAVING count() > 1)`); alike > 0 {
		j.add("W1", "%d steps of an enrollment decided their action more than once", alike)
	}
	decided, over, err := r.actions(ctx)
	require.NoError(r.t, err)
	j.actions = len(decided)
	published := map[string]string{}
	require.NoError(r.t, r.read(ctx, schema.ActionsStream, func(m streamread.Message) error {
		var request schema.ActionRequest
		if err := json.Unmarshal(m.Data(), &request); err != nil {
			return err
		}
		if before, known := published[request.ActionID]; known && before != string(m.Data()) {
			j.add("W2", "action %s was published with two bodies", request.ActionID)
		}
		published[request.ActionID] = string(m.Data())
		return nil
	}))
	effects := r.receiver.effects()
	j.effects = len(effects)
	for _, id := range r.receiver.others {
		j.add("W2", "action %s was posted with two bodies", id)
	}
	for id, o := range decided {
		end, ended := over[id]
		received := published[id] != "" || effects[id] > 0
		switch {
		case !ended:
			j.add("W4", "action %s %s has no end", o.Action, id)
		case end.Kind == schema.ActionDelivered && !received:
			j.add("W3", "action %s %s is done and nobody received it", o.Action, id)
		}
	}
	for id := range over {
		if _, known := decided[id]; !known {
			j.add("W3", "action %s ended and was never decided", id)
		}
	}
	for _, received := range []func(func(string)){
		func(each func(string)) {
			for id := range published {
				each(id)
			}
		},
		func(each func(string)) {
			for id := range effects {
				each(id)
			}
		},
	} {
		received(func(id string) {
			if _, known := decided[id]; !known {
				j.add("W3", "action %s was received and never decided", id)
			}
		})
	}
	// The limit of the playbook: eight actions an hour, of those that are capped; no run takes an hour.
	if over := count(r.t, store, `SELECT count() FROM (SELECT user_token FROM outcomes_unique WHERE kind = 'action_decided' AND action != 'thank' GROUP BY user_token HAVING count() > 8)`); over > 0 {
		j.add("W6", "%d users were sent more than the limit", over)
	}
}

// judgeSegments: S2 a user enters and leaves a segment in turns; X2 a user meets one variant of an experiment.
func (r *rig) judgeSegments(j *judged) {
	r.t.Helper()
	store := r.store()
	rows, err := store.Conn().Query(r.t.Context(), `SELECT user_token, segment, groupArray(kind) FROM (
		SELECT user_token, segment, toString(kind) AS kind FROM outcomes_unique WHERE kind IN ('segment_entered', 'segment_left') ORDER BY sequence) GROUP BY user_token, segment`)
	require.NoError(r.t, err)
	for rows.Next() {
		var token, segment string
		var kinds []string
		require.NoError(r.t, rows.Scan(&token, &segment, &kinds))
		for i, kind := range kinds {
			if kind != []string{"segment_entered", "segment_left"}[i%2] {
				j.add("S2", "%s enters and leaves %s out of turn: %v", token, segment, kinds)
				break
			}
		}
	}
	require.NoError(r.t, rows.Err())
	require.NoError(r.t, rows.Close())
	if two := count(r.t, store, `SELECT count() FROM (SELECT user_token, experiment FROM outcomes_unique WHERE kind = 'exposure_recorded' GROUP BY user_token, experiment HAVING count() > 1)`); two > 0 {
		j.add("X2", "%d users were exposed more than once", two)
	}
}

// judgeWorkflows: T3 histories stay short, T4 a user has one running workflow.
func (r *rig) judgeWorkflows(j *judged) {
	r.t.Helper()
	c, err := client.Dial(client.Options{HostPort: r.addrs["temporal"], Logger: quietLog{}})
	require.NoError(r.t, err)
	defer c.Close()
	users := map[string]int{}
	request := &workflowservice.ListWorkflowExecutionsRequest{Namespace: "default", PageSize: 1000, Query: running}
	for {
		page, err := c.ListWorkflow(r.t.Context(), request)
		require.NoError(r.t, err)
		for _, execution := range page.GetExecutions() {
			users[execution.GetExecution().GetWorkflowId()]++
			if n := users[execution.GetExecution().GetWorkflowId()]; n > 1 {
				j.add("T4", "%s runs %d times", execution.GetExecution().GetWorkflowId(), n)
			}
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			break
		}
	}
	for id := range users {
		description, err := c.DescribeWorkflowExecution(r.t.Context(), id, "")
		require.NoError(r.t, err)
		if n := description.GetWorkflowExecutionInfo().GetHistoryLength(); n > 4096 {
			j.add("T3", "the history of %s has %d events", id, n)
		}
	}
}

// trail tells everything that the streams hold of the user of whom something was found.
func (r *rig) trail(token string) {
	r.t.Helper()
	var lines []string
	require.NoError(r.t, r.read(r.t.Context(), schema.EventsStream, func(m streamread.Message) error {
		event, err := schema.Receive(m.Data(), m.Headers(), m.Sequence, m.At)
		if err == nil && schema.UserToken([]byte(embeddedKey), event.UserID) == token {
			lines = append(lines, fmt.Sprintf("%d event %d %s %s %s %s, occurred %d", event.ReceivedAt.UnixMilli(), m.Sequence, event.ID, event.EventName, event.Lateness, event.Properties, event.Timing.OccurredAt.UnixMilli()))
		}
		return nil
	}))
	require.NoError(r.t, r.read(r.t.Context(), schema.OutcomesStream, func(m streamread.Message) error {
		var o schema.Outcome
		if err := json.Unmarshal(m.Data(), &o); err != nil {
			return err
		}
		if o.UserToken == token {
			lines = append(lines, fmt.Sprintf("%d outcome %d after %d decided %d recorded %d %s, cause %s %s", o.At, m.Sequence, o.LogSequence, o.DecidedAt, o.RecordedAt, describeOutcome(&o), o.CauseEventID, o.OutcomeID))
		}
		return nil
	}))
	slices.Sort(lines)
	r.t.Logf("everything of %s, by time of record:\n%s", token, strings.Join(lines, "\n"))
}

func describeOutcome(o *schema.Outcome) string {
	return strings.Join([]string{string(o.Kind), o.Segment, o.Journey, o.StepKey, o.Action, o.Variant, o.Goal, o.Reason}, " ")
}
