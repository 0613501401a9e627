package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// stateQuery hands out the whole state, for `onramp verify` and for tests that compare it with a fold of the log.
//
//nolint:gochecknoglobals // a descriptor; its type lives above package schema
var stateQuery = schema.Query[journey.State]{Name: StateQueryName, Description: "The state as the engine keeps it, for comparison with a fold of the log"}

// StateQueryName is the name of the query that answers with a journey.State.
const StateQueryName = "state"

// JourneyInput starts a run. Ingest gives the user alone; a run that continues as new adds what the next must know.
type JourneyInput struct {
	schema.JourneyStart
	State       *journey.State        `json:"state,omitempty"`
	Undelivered []schema.DeliverInput `json:"undelivered,omitempty"` // deliveries that were in flight
	Enriching   bool                  `json:"enriching,omitempty"`   // providers were being asked
}

// Journeys holds what every run reads and none changes. Playbooks are immutable by hash, so a replay reads what the first
// execution read.
type Journeys struct {
	Books journey.Books
}

// Journey is the workflow of one user.
//
// It ends only where the user becomes another. What it ends with is then for the other's workflow.
func (j *Journeys) Journey(ctx workflow.Context, in JourneyInput) (*schema.HandedOver, error) {
	r := &journeyRun{books: j.Books, in: in, state: journey.State{Token: in.UserToken}, deliveries: make(map[string]schema.DeliverInput)}
	if in.State != nil {
		r.state = *in.State
	}
	if r.in.MaxHistory == 0 {
		r.in.MaxHistory = DefaultMaxHistory
	}
	if err := r.setup(ctx); err != nil {
		return nil, err
	}
	return r.run(ctx)
}

type journeyRun struct {
	books  journey.Books
	in     JourneyInput
	state  journey.State
	signal workflow.ReceiveChannel
	over   workflow.ReceiveChannel // asks to hand over

	wakeAt     int64           // what the last decision asked for; 0: nothing
	timerAt    int64           // when the armed timer fires; 0: none is armed
	timer      workflow.Future // nil: none is armed
	disarm     workflow.CancelFunc
	deliveries map[string]schema.DeliverInput
	failed     []schema.Outcome // deliveries that were given up, not recorded yet
	merged     []string         // who became one with the user and had no workflow, not recorded yet
	enriching  bool             // providers are being asked
	askAgain   bool             // and will be once more, because the user's traits have changed meanwhile
	shown      shown
	taken      uint64 // the newest event that is taken, with what follows from it on record
	posted     posted
}

func (r *journeyRun) setup(ctx workflow.Context) error {
	r.signal = workflow.GetSignalChannelWithOptions(ctx, schema.EventsReceived.Name, workflow.SignalChannelOptions{
		Description: "A batch of this user's events, sent by ingest",
	})
	r.over = workflow.GetSignalChannelWithOptions(ctx, schema.HandOver.Name, workflow.SignalChannelOptions{
		Description: "The user has become another: hand over and end",
	})
	if err := answer(ctx, schema.ProfileQuery, func() (schema.Profile, error) {
		return journey.Profile(r.books, &r.state), nil
	}); err != nil {
		return fmt.Errorf("register query %s: %w", schema.ProfileQuery.Name, err)
	}
	if err := answer(ctx, schema.ExplainQuery, func() (string, error) {
		return journey.Explain(r.books, &r.state), nil
	}); err != nil {
		return fmt.Errorf("register query %s: %w", schema.ExplainQuery.Name, err)
	}
	if err := answer(ctx, stateQuery, func() (journey.State, error) { return r.state, nil }); err != nil {
		return fmt.Errorf("register query %s: %w", stateQuery.Name, err)
	}
	if err := r.awaited(ctx); err != nil {
		return err
	}
	if err := r.takes(ctx); err != nil {
		return err
	}
	for _, undelivered := range r.in.Undelivered { // webhooks: their first attempt is over
		r.deliverBeside(ctx, undelivered)
	}
	r.wakeAt = journey.WakeAt(&r.state)
	if r.in.Enriching {
		r.enrich(ctx)
	}
	return nil
}

func (r *journeyRun) run(ctx workflow.Context) (*schema.HandedOver, error) {
	for {
		if request, asked := r.askedToHandOver(ctx); asked {
			return r.finish(ctx, request)
		}
		if err := r.handle(ctx); err != nil {
			return nil, err
		}
		if r.over.Len() > 0 {
			continue
		}
		if r.full(ctx) {
			return r.continueAsNew(ctx)
		}
		if r.due(ctx) {
			continue // recording took until the next moment
		}
		if err := r.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// handle works through every waiting batch and what is due, and carries out the decisions together.
func (r *journeyRun) handle(ctx workflow.Context) error {
	var all journey.Decision
	if err := r.putPostedOnRecord(ctx); err != nil {
		return err
	}
	ignoreStrangers(ctx)
	taken := r.taken
	tells := r.state.Playbook == "" // the first sight of the user
	for more := true; more; {
		newest, told, err := r.takeWaiting(ctx, &all)
		if err != nil {
			return err
		}
		taken, tells = max(taken, newest), tells || told
		if more, err = r.putTogetherOnRecord(ctx); err != nil {
			return err
		}
	}
	if r.due(ctx) {
		now := workflow.Now(ctx)
		if r.in.Version >= versionTimeOnRecord {
			if err := r.putTimeOnRecord(ctx, &all); err != nil {
				return err
			}
		}
		r.need()
		r.next(now, journey.Input{}, &all)
	}
	if err := r.execute(ctx, all); err != nil {
		return err
	}
	if r.in.Enrich && tells && taken > r.taken {
		r.enrich(ctx)
	}
	r.taken = taken
	r.posted.recorded = r.posted.taken
	return nil
}

// takeWaiting takes every batch that waits. newest is the place of the newest event among them, and told as of take.
func (r *journeyRun) takeWaiting(ctx workflow.Context, all *journey.Decision) (newest uint64, told bool, err error) {
	for {
		batch, recorded, ok := r.nextBatch(ctx)
		if !ok {
			return newest, told, nil
		}
		tells, err := r.take(ctx, &batch, recorded, all)
		if err != nil {
			return 0, false, err
		}
		told = told || tells
		for i := range batch.Events {
			newest = max(newest, batch.Events[i].Sequence)
		}
	}
}

// take takes a batch: its events in order, or, where it has none, the playbook that it brings. told reports whether a service has told
// more of the user's traits, and recorded says whether the batch stands in the history.
func (r *journeyRun) take(ctx workflow.Context, batch *schema.EventBatch, recorded bool, all *journey.Decision) (told bool, err error) {
	r.need(batch.Playbook)
	for i := range batch.Events {
		event := &batch.Events[i]
		r.posted.parts = r.posted.parts || !recorded && r.isNear(ctx)
		over, err := r.takeOver(ctx, event, batch, all)
		if err != nil {
			return false, err
		}
		r.next(workflow.Now(ctx), journey.Input{Event: event, Playbook: batch.Playbook, Revision: batch.Revision, Taken: over}, all)
		told = told || len(event.Traits) > 0 && event.EventName != schema.EventEnriched
	}
	if len(batch.Events) == 0 { // a playbook came into force for a user who sends no events
		r.next(workflow.Now(ctx), journey.Input{Playbook: batch.Playbook, Revision: batch.Revision}, all)
	}
	return told, nil
}

// versionTimeOnRecord is the first version of runs that put on record that a moment has come before they act on it.
const versionTimeOnRecord = 1

// putTimeOnRecord ends the workflow task, so that it stands in the history what came first: the moment, or the signals that are not
// here yet. What is published in a task that is not completed, because a worker or the server died, is published and not decided: the
// next attempt must come to the same. With events it does, whatever came in between, since they are taken in order; with time it
// would not, where an event that happened before the moment has come meanwhile.
func (r *journeyRun) putTimeOnRecord(ctx workflow.Context, all *journey.Decision) error {
	if len(all.Outcomes) > 0 || len(r.failed) > 0 {
		if err := r.execute(ctx, *all); err != nil {
			return err
		}
		*all = journey.Decision{}
	}
	return workflow.NewTimerWithOptions(ctx, time.Millisecond, workflow.TimerOptions{Summary: "put on record that the time has come"}).Get(ctx, nil)
}

// due reports whether time alone changes something by now.
func (r *journeyRun) due(ctx workflow.Context) bool {
	return r.wakeAt != 0 && r.wakeAt <= workflow.Now(ctx).UnixMilli()
}

// need makes sure that every playbook the state and the batch speak of is at hand. Where one is not, the workflow task fails
// and Temporal tries it again, here or on another worker: going on would drop the event. It is the worker that is not ready,
// never the data that is wrong.
func (r *journeyRun) need(hashes ...string) {
	if r.state.Playbook != "" {
		hashes = append(hashes, r.state.Versions()...)
	}
	for _, hash := range hashes {
		if r.books.Playbook(hash) == nil {
			panic("playbook " + hash + " is not to be had on this worker yet")
		}
	}
}

func (r *journeyRun) next(now time.Time, in journey.Input, all *journey.Decision) {
	state, decision := journey.Next(r.books, r.state, in, now.UnixMilli())
	r.state, r.wakeAt = state, decision.WakeAt
	all.Outcomes = append(all.Outcomes, decision.Outcomes...)
	all.Actions = append(all.Actions, decision.Actions...)
}

// execute records first and delivers then, so that no receiver hears of an action that nobody decided on record.
func (r *journeyRun) execute(ctx workflow.Context, decision journey.Decision) error {
	outcomes, merged := slices.Concat(decision.Outcomes, r.failed), r.merged
	r.failed, r.merged = nil, nil
	profile := journey.Profile(r.books, &r.state)
	r.show(ctx, profile)
	if len(outcomes) == 0 && profile.MergedInto == "" {
		return nil
	}
	var record *activities.Record // names the activity; never called through this
	_, err := callLocal(ctx, record.CommitDecision, commitOptions(), schema.CommitInput{
		Outcomes: outcomes, Profile: profile, Merged: merged,
	})
	if err != nil {
		return fmt.Errorf("commit decision of %s: %w", r.in.UserToken, err)
	}
	for _, request := range decision.Actions {
		request.UserID = r.in.UserID
		in := r.delivery(request)
		in.Delivered.Trace = traceOf(outcomes, request.ActionID)
		r.deliver(ctx, in)
	}
	return nil
}

// full reports whether the run's history is long enough.
func (r *journeyRun) full(ctx workflow.Context) bool {
	info := workflow.GetInfo(ctx)
	return info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() >= r.in.MaxHistory
}

// continueAsNew hands everything to the next run. Signals are drained after the last blocking call: one that came in between
// would be lost otherwise.
func (r *journeyRun) continueAsNew(ctx workflow.Context) (*schema.HandedOver, error) {
	patience, cancel := workflow.WithCancel(ctx)
	defer cancel()
	if _, err := workflow.AwaitWithTimeout(patience, drainPatience, func() bool { return len(r.deliveries) == 0 }); err != nil {
		return nil, fmt.Errorf("wait for deliveries of %s: %w", r.in.UserToken, err)
	}
	for r.signal.Len() > 0 || r.posted.waits() || len(r.failed) > 0 {
		if err := r.handle(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.answerPosted(ctx); err != nil {
		return nil, err
	}
	if request, asked := r.askedToHandOver(ctx); asked {
		return r.finish(ctx, request)
	}
	next := JourneyInput{JourneyStart: r.in.JourneyStart, State: &r.state}
	next.Version, next.MaxHistory = schema.JourneyVersion, min(next.MaxHistory, schema.RunLength)
	next.Undelivered, next.Enriching = r.undelivered(), r.enriching
	return nil, workflow.NewContinueAsNewError(ctx, schema.JourneyWorkflow, next)
}

// wait blocks until a signal comes, the timer fires or a delivery was given up. It fails only when the run is canceled.
func (r *journeyRun) wait(ctx workflow.Context) error {
	r.arm(ctx)
	err := workflow.Await(ctx, func() bool {
		return r.signal.Len() > 0 || r.posted.waits() || r.over.Len() > 0 || len(r.failed) > 0 || (r.timer != nil && r.timer.IsReady())
	})
	if r.timer != nil && r.timer.IsReady() {
		r.timer, r.timerAt = nil, 0
	}
	return err
}

// arm keeps one timer, for the earliest moment that time alone changes something. It is replaced in the task that moved the
// moment, which costs two history events; left to fire too early it would cost a task of its own.
func (r *journeyRun) arm(ctx workflow.Context) {
	if r.timerAt == r.wakeAt {
		return
	}
	if r.timer != nil {
		r.disarm()
		r.timer, r.timerAt = nil, 0
	}
	if r.wakeAt == 0 {
		return
	}
	_, what := journey.NextChange(&r.state)
	timerCtx, disarm := workflow.WithCancel(ctx)
	r.disarm, r.timerAt = disarm, r.wakeAt
	r.timer = workflow.NewTimerWithOptions(timerCtx, max(time.UnixMilli(r.wakeAt).Sub(workflow.Now(ctx)), time.Millisecond),
		workflow.TimerOptions{Summary: what})
}
