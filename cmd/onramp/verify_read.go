package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/errgroup"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/internal/streamread"
	"github.com/onramphq/onramp/internal/verify"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// verifier reads everything that verify judges. The streams are read once, from beginning to end: what comes while users are being
// judged goes to the part it belongs to, so that a running engine can be judged.
type verifier struct {
	*engine

	key     []byte
	only    string // token of the one user wanted; empty: all
	io      stdio
	parts   *parts
	letters verify.Letters
	inputs  verify.Inputs
	refused []uint64          // messages of ONRAMP_EVENTS that are no events
	broken  []uint64          // messages of ONRAMP_OUTCOMES that are no outcomes
	read    map[string]uint64 // up to where, by stream
	book    identity.Book     // who has become whom, up to where the events are read
	result  *verified

	profiles jetstream.Stream

	progress *progress
	answers  atomic.Int64 // workflows that answered
	silent   atomic.Int64
	behind   atomic.Int64 // workflows whose decisions are not on record
}

// begin reads the streams for the first time, and who there is.
func (v *verifier) begin(ctx context.Context) error {
	v.read = make(map[string]uint64)
	var err error
	if v.profiles, err = v.js.Stream(ctx, schema.ProfilesStream); err != nil {
		return fmt.Errorf("look at %s: %w", schema.ProfilesStream, err)
	}
	if v.result.Settled, err = v.settled(ctx); err != nil {
		return err
	}
	events, err := v.state(ctx, schema.EventsStream)
	if err != nil {
		return err
	}
	outcomes, err := v.state(ctx, schema.OutcomesStream)
	if err != nil {
		return err
	}
	v.inputs.FirstEvent, v.inputs.FirstOutcome = events.FirstSeq, outcomes.FirstSeq
	if err := v.readLinks(ctx, func(l identity.Link) {
		if l.Sequence < events.FirstSeq { // of the others the events tell
			v.book.Add(l)
		}
	}); err != nil {
		return err
	}
	if v.parts, err = newParts(events.LastSeq, v.only); err != nil {
		return err
	}
	v.progress = newProgress(v.io.err, "reading the streams", int64(events.LastSeq+outcomes.LastSeq)) //nolint:gosec // a number of messages
	err = v.catchUp(ctx)
	v.progress.done()
	if err == nil {
		err = v.readWritten(ctx)
	}
	if err == nil && v.only == "" {
		err = v.readUsers(ctx)
	}
	if err == nil && v.only != "" {
		err = v.parts.add(known{Token: v.only})
	}
	if err != nil {
		v.parts.close()
	}
	return err
}

func (v *verifier) state(ctx context.Context, name string) (jetstream.StreamState, error) {
	stream, err := v.js.Stream(ctx, name)
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("look at %s: %w", name, err)
	}
	return stream.CachedInfo().State, nil
}

// settled asks up to where everything has been dealt with. A consumer that was never there has dealt with nothing.
func (v *verifier) settled(ctx context.Context) (verify.Settled, error) {
	floor := func(stream, name string) (uint64, error) {
		consumer, err := v.js.Consumer(ctx, stream, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look at consumer %s: %w", name, err)
		}
		return consumer.CachedInfo().AckFloor.Stream, nil
	}
	ingest, errIngest := floor(schema.EventsStream, schema.IngestConsumer)
	archive, errArchive := floor(schema.EventsStream, schema.ArchiveConsumer)
	outcomes, errOutcomes := floor(schema.OutcomesStream, schema.OutcomesConsumer)
	return verify.Settled{Ingest: ingest, Archive: archive, Outcomes: outcomes}, errors.Join(errIngest, errArchive, errOutcomes)
}

// catchUp reads what has come since the last time.
func (v *verifier) catchUp(ctx context.Context) error {
	for _, one := range []struct {
		stream string
		take   func(streamread.Message) error
	}{
		{schema.EventsStream, v.takeEvent}, {schema.OutcomesStream, v.takeOutcome}, {schema.DeadLettersStream, v.takeLetter},
	} {
		if err := v.readOn(ctx, one.stream, one.take); err != nil {
			return err
		}
	}
	return nil
}

var errEnough = errors.New("enough")

// readOn reads a stream from where it was left to where it ends now.
func (v *verifier) readOn(ctx context.Context, name string, take func(streamread.Message) error) error {
	state, err := v.state(ctx, name)
	if err != nil {
		return err
	}
	if state.LastSeq <= v.read[name] {
		return nil
	}
	err = streamread.Read(ctx, v.js, name, streamread.Options{From: v.read[name] + 1}, func(m streamread.Message) error {
		if err := take(m); err != nil {
			return err
		}
		v.read[name] = m.Sequence
		v.progress.set(int64(v.read[schema.EventsStream] + v.read[schema.OutcomesStream])) //nolint:gosec // a number of messages
		if m.Sequence >= state.LastSeq {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	v.read[name] = max(v.read[name], state.LastSeq)
	return err
}

func (v *verifier) takeEvent(m streamread.Message) error {
	event, err := schema.Receive(m.Data(), m.Headers(), m.Sequence, m.At)
	if err != nil {
		v.refused = append(v.refused, m.Sequence)
		return nil //nolint:nilerr // it must be a dead letter, and is looked for there
	}
	if event.Canary() {
		return nil
	}
	whose, err := v.book.Rule(v.key, &event)
	if err != nil { // refused by ingest, and whose it is by what came before
		whose.Link = nil
	}
	e, token := event.UserEvent(), schema.UserToken(v.key, event.UserID)
	if l := whose.Link; l != nil {
		e.From = l.From
		if err := v.note(known{Token: l.From, Link: *l}); err != nil {
			return err
		}
	}
	if err := v.note(known{Token: token, Event: &e, Gone: token != whose.User}); err != nil || token == whose.User {
		return err
	}
	return v.note(known{Token: whose.User, Came: &e})
}

// note keeps what is known of a user, if the user is wanted.
func (v *verifier) note(k known) error {
	if v.only != "" && k.Token != v.only {
		return nil
	}
	return v.parts.add(k)
}

// readLinks reads the links that are written. An engine that is older than they are has none.
func (v *verifier) readLinks(ctx context.Context, take func(identity.Link)) error {
	if _, err := v.js.Stream(ctx, schema.IdentitiesStream); errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return ingest.ReadLinks(ctx, v.js, take)
}

// links holds the links that are written against those that follow from the events.
func (v *verifier) links(ctx context.Context, settled verify.Settled) error {
	if v.only != "" {
		return nil
	}
	var written identity.Book
	if err := v.readLinks(ctx, written.Add); err != nil {
		return err
	}
	differ := func(what string, l identity.Link, want, got string) {
		v.result.add(verify.Difference{User: l.From, Field: "identity", What: what, Sequence: l.Sequence, Want: want, Got: got})
	}
	for _, l := range v.book.All() {
		got, is := written.Of(l.From)
		switch {
		case l.Sequence > settled.Ingest:
		case !is:
			differ("missing", l, l.Into, "")
		case got.Into != l.Into || got.Sequence != l.Sequence:
			differ("differs", l, fmt.Sprintf("%s by event %d", l.Into, l.Sequence), fmt.Sprintf("%s by event %d", got.Into, got.Sequence))
		}
	}
	for _, l := range written.All() {
		if _, is := v.book.Of(l.From); !is && l.Sequence <= v.read[schema.EventsStream] {
			differ("unexpected", l, "", l.Into)
		}
	}
	return nil
}

func (v *verifier) takeOutcome(m streamread.Message) error {
	var o schema.Outcome
	if err := json.Unmarshal(m.Data(), &o); err != nil || schema.CheckToken(o.UserToken) != nil {
		v.broken = append(v.broken, m.Sequence)
		return nil //nolint:nilerr // it is told as a difference
	}
	if v.only != "" && o.UserToken != v.only {
		return nil
	}
	o.Details = nil
	return v.parts.add(known{Token: o.UserToken, Outcome: &verify.Outcome{Outcome: o, Sequence: m.Sequence}})
}

func (v *verifier) takeLetter(m streamread.Message) error {
	letter := schema.ReadDeadLetter(m.Subject(), m.Headers(), m.Data())
	v.letters.Add(letter.Stream, letter.Consumer, letter.Sequence)
	return nil
}

// readWritten adds the dead letters that are settled: the table has them still.
func (v *verifier) readWritten(ctx context.Context) error {
	for w, err := range v.store.DeadLetters(ctx) {
		if err != nil {
			return err
		}
		v.letters.Add(w.Stream, "", w.Sequence)
	}
	return nil
}

// readUsers finds those of whom there is a profile or a workflow, and perhaps no event.
func (v *verifier) readUsers(ctx context.Context) error {
	err := streamread.Read(ctx, v.js, schema.ProfilesStream, streamread.Options{Filter: schema.ProfilesSubjects, Last: true}, func(m streamread.Message) error {
		if token := m.Subject()[len(schema.ProfileSubject("")):]; schema.CheckToken(token) == nil && len(m.Data()) > 0 {
			return v.parts.add(known{Token: token})
		}
		return nil
	})
	if err != nil {
		return err
	}
	request := &workflowservice.ListWorkflowExecutionsRequest{Namespace: v.servers.TemporalNamespace, PageSize: 1000, Query: running}
	for {
		page, err := v.temporal.ListWorkflow(ctx, request)
		if err != nil {
			return fmt.Errorf("list running workflows: %w", err)
		}
		for _, execution := range page.GetExecutions() {
			token, err := schema.TokenFromWorkflowID(execution.GetExecution().GetWorkflowId())
			if err != nil {
				continue // a stranger's
			}
			if err := v.parts.add(known{Token: token}); err != nil {
				return err
			}
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return nil
		}
	}
}

// judge judges part by part.
func (v *verifier) judge(ctx context.Context) error {
	bar := newProgress(v.io.err, "judging users", int64(len(v.parts.list)))
	defer bar.done()
	v.progress = &progress{} // reading on shows nothing
	settled := v.result.Settled
	for n, one := range v.parts.list {
		if err := v.judgePart(ctx, one); err != nil {
			return err
		}
		v.parts.forget()
		bar.set(int64(n + 1))
	}
	v.refusals(settled)
	return v.links(ctx, settled)
}

func (v *verifier) judgePart(ctx context.Context, one *part) error {
	settled, err := v.settled(ctx)
	if err != nil {
		return err
	}
	v.inputs.Settled, v.result.Settled = settled, settled
	if err := v.catchUp(ctx); err != nil { // reads at least as far as is settled
		return err
	}
	if err := one.open(); err != nil {
		return err
	}
	if err := v.readRows(ctx, one); err != nil {
		return err
	}
	v.inputs.Recorded, v.inputs.AsOf = v.read[schema.OutcomesStream], time.Now().UnixMilli()
	if err := v.ask(ctx, one); err != nil {
		return err
	}
	if err := v.catchUp(ctx); err != nil { // and now as far as the workflows are
		return err
	}
	v.judgeUsers(one)
	return nil
}

// readRows reads what ClickHouse has of the users of a part.
func (v *verifier) readRows(ctx context.Context, one *part) error {
	for a, err := range v.store.Archive(ctx, one.from, one.to) {
		if err != nil {
			return err
		}
		u := one.user(a.UserToken)
		u.Archive = append(u.Archive, a.UserEvent)
	}
	for r, err := range v.store.Outcomes(ctx, one.from, one.to) {
		if err != nil {
			return err
		}
		u := one.user(r.UserToken)
		u.Rows = append(u.Rows, verify.Outcome{Outcome: r.Outcome, Sequence: r.Sequence})
	}
	return nil
}

// Asking workflows.
const (
	asking       = 8 // at a time
	askTimeout   = 30 * time.Second
	askTries     = 3   // where a workflow does not answer, or goes on between its state and its profile
	lookTries    = 40  // where a workflow has decided what is not on record yet: it is being recorded, for as long as NATS is slow
	dueTries     = 120 // where a moment has passed that it has not seen to: servers came back, and its timer or task comes with a delay
	overdueAfter = 2 * time.Second
	lookPause    = 500 * time.Millisecond
	mostBehind   = 16 // so many that never got there: what they decided is lost, and that of others need not be waited for
	silentAllOff = 16 // so many without an answer, and none with one: there is no worker
)

// ask asks the workflow of every user of a part for its state, and reads the profile.
func (v *verifier) ask(ctx context.Context, one *part) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(asking)
	for _, u := range one.users {
		group.Go(func() error { return v.askUser(ctx, u) })
	}
	return group.Wait()
}

func (v *verifier) askUser(ctx context.Context, u *verify.User) error {
	looks := 0
	for n := 0; n < askTries && u.Silent == ""; n++ {
		if err := v.askState(ctx, u); err != nil {
			return err
		}
		if u.Busy { // a busy engine may need longer
			if err := v.askTask(ctx, u); err != nil {
				return err
			}
			continue
		}
		if err := v.askProfile(ctx, u); err != nil {
			return err
		}
		switch {
		case u.State == nil, recorded(u) == u.State.Sequence && !overdue(u.State, time.Now()):
			return nil
		case recorded(u) > u.State.Sequence: // it went on in between
		case looks >= worthLooking(u) || v.behind.Load() >= mostBehind:
			v.behind.Add(1)
			return nil // and is judged by what it decided
		default:
			looks++
			n--
			select {
			case <-time.After(lookPause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// overdue reports whether time has changed something and the workflow has not seen to it yet: after a server or a worker died, timers and
// tasks come back with a delay.
func overdue(state *journey.State, now time.Time) bool {
	due := journey.WakeAt(state)
	return due != 0 && due < now.Add(-overdueAfter).UnixMilli()
}

// worthLooking is how often a workflow is looked at that is not where it should be.
func worthLooking(u *verify.User) int {
	if overdue(u.State, time.Now()) {
		return dueTries
	}
	return lookTries
}

// recorded is how far the user's profile is; 0 where there is none.
func recorded(u *verify.User) uint64 {
	if u.Profile == nil {
		return 0
	}
	return u.Profile.Sequence
}

// askTask finds out whether a workflow that does not answer is stuck: its task fails again and again.
func (v *verifier) askTask(ctx context.Context, u *verify.User) error {
	description, err := v.temporal.DescribeWorkflowExecution(ctx, schema.WorkflowID(u.Token), "")
	if err != nil {
		return fmt.Errorf("look at workflow of %s: %w", u.Token, err)
	}
	if attempt := description.GetPendingWorkflowTask().GetAttempt(); attempt > 1 {
		u.Busy, u.Silent = false, fmt.Sprintf("its task fails, %d times so far", attempt-1)
	}
	return nil
}

func (v *verifier) askState(ctx context.Context, u *verify.User) error {
	u.State, u.Busy = nil, false
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := v.temporal.QueryWorkflowWithOptions(bounded, &client.QueryWorkflowWithOptionsRequest{
		WorkflowID: schema.WorkflowID(u.Token), QueryType: workflows.StateQueryName, QueryRejectCondition: enumspb.QUERY_REJECT_CONDITION_NOT_OPEN,
	})
	_, unknown := errors.AsType[*serviceerror.NotFound](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case unknown:
		return nil
	case err != nil:
		u.Busy = true
		if v.silent.Add(1) >= silentAllOff && v.answers.Load() == 0 {
			return fmt.Errorf("no workflow answers (%w): is a worker running?", err)
		}
		return nil
	case answer.QueryRejected != nil:
		return v.askClosed(ctx, u)
	}
	v.answers.Add(1)
	var state journey.State
	if err := answer.QueryResult.Get(&state); err != nil {
		u.Silent = "its state cannot be read"
		return nil // it is told as a difference
	}
	u.State, u.AsOf = &state, time.Now().UnixMilli()
	return v.askTaken(ctx, u)
}

// askClosed reads what a workflow that runs no more has handed over. Any other end is a difference.
func (v *verifier) askClosed(ctx context.Context, u *verify.User) error {
	state, known, err := v.handedOver(ctx, u.Token)
	if err != nil {
		return err
	}
	if u.Closed = !known || state.HandedOver == nil; u.Closed {
		return nil
	}
	u.State, u.AsOf = &state, time.Now().UnixMilli()
	return v.askTaken(ctx, u)
}

// askTaken reads what was handed over of those who have become one with the user.
func (v *verifier) askTaken(ctx context.Context, u *verify.User) error {
	if len(u.State.Merged) == 0 {
		return nil
	}
	u.Taken = make(map[string]journey.State)
	for _, m := range u.State.Merged {
		state, known, err := v.handedOver(ctx, m.Token)
		if err != nil {
			return err
		}
		if known {
			u.Taken[m.Token] = state
		}
	}
	return nil
}

// handedOver reads the result of a workflow that ended because its user became another; not known: there is none.
func (v *verifier) handedOver(ctx context.Context, token string) (state journey.State, known bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var over schema.HandedOver
	err = v.temporal.GetWorkflow(bounded, schema.WorkflowID(token), "").Get(bounded, &over)
	if _, unknown := errors.AsType[*serviceerror.NotFound](err); unknown {
		return state, false, nil
	}
	if _, ended := errors.AsType[*temporal.WorkflowExecutionError](err); ended {
		return state, false, nil
	}
	if err != nil {
		return state, false, fmt.Errorf("read what the workflow of %s ended with: %w", token, err)
	}
	state, err = journey.DecodeState(over.State, token)
	return state, err == nil, err
}

func (v *verifier) askProfile(ctx context.Context, u *verify.User) error {
	u.Profile = nil
	message, err := v.profiles.GetLastMsgForSubject(ctx, schema.ProfileSubject(u.Token))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read profile of %s: %w", u.Token, err)
	}
	var profile schema.Profile
	if err := json.Unmarshal(message.Data, &profile); err == nil {
		u.Profile = &profile
	}
	return nil
}

// judgeUsers judges the users of a part on all processors, and tells in the order of their tokens.
func (v *verifier) judgeUsers(one *part) {
	tokens := slices.Sorted(maps.Keys(one.users))
	verdicts := make([]verify.Verdict, len(tokens))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, token := range tokens {
		group.Go(func() error {
			verdicts[i] = verify.Judge(&v.inputs, one.users[token])
			return nil
		})
	}
	group.Wait() //nolint:errcheck // none of them fails
	v.result.Users += len(tokens)
	for i, verdict := range verdicts {
		v.result.Events += verdict.Events
		v.result.Outcomes += len(one.users[tokens[i]].Outcomes)
		v.result.InFlight += verdict.InFlight
		v.result.Trusted += verdict.Trusted
		v.result.add(verdict.Differences...)
		if verdict.Unjudged != "" {
			v.result.Unjudged = append(v.result.Unjudged, unjudged{tokens[i], verdict.Unjudged})
		}
	}
}

// refusals holds the messages that nobody can read against the dead letters.
func (v *verifier) refusals(settled verify.Settled) {
	if v.only != "" {
		return
	}
	v.result.Refused = len(v.refused)
	for _, one := range []struct {
		stream, field string
		sequences     []uint64
		settled       uint64
	}{{schema.EventsStream, "archive", v.refused, settled.Ingest}, {schema.OutcomesStream, "outcomes", v.broken, settled.Outcomes}} {
		for _, sequence := range one.sequences {
			if _, known := v.letters[verify.Place{Stream: one.stream, Sequence: sequence}]; !known && sequence <= one.settled {
				v.result.add(verify.Difference{Field: one.field, What: "missing", Sequence: sequence, Want: "a dead letter: the message cannot be read"})
			}
		}
	}
}
