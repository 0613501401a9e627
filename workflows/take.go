package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// posted is what came by update. Ingest waits for the answer, so there is one at a time; more only where it gave up waiting and said the
// same again by signal.
type posted struct {
	batches               []schema.EventBatch
	came, taken, recorded int // of all that came: how many were taken, and what follows is on record
	answered              int
	onRecord              int  // and that they came stands in the history
	parts                 bool // of what was taken, something could be parted from what came before it; see putTogetherOnRecord
}

func (p *posted) waits() bool { return len(p.batches) > 0 }

// takes lets ingest hand a batch over and wait until what follows is on record. The answer says which events may wait from now on. Temporal
// writes once for it, where a signal and its workflow task are written three times.
func (r *journeyRun) takes(ctx workflow.Context) error {
	err := workflow.SetUpdateHandlerWithOptions(ctx, schema.TakeUpdate.Name, func(ctx workflow.Context, batch schema.EventBatch) (schema.Patience, error) {
		r.posted.batches = append(r.posted.batches, batch)
		r.posted.came++
		mine := r.posted.came
		defer func() { r.posted.answered++ }()
		if err := workflow.Await(ctx, func() bool { return r.posted.recorded >= mine }); err != nil {
			return schema.Patience{}, err
		}
		return journey.Patience(r.books, &r.state, batch.Playbook, workflow.Now(ctx).UnixMilli()), nil
	}, workflow.UpdateHandlerOptions{
		Validator: func(batch schema.EventBatch) error {
			if err := batch.Check(); err != nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), string(schema.CodeInvalid), nil)
			}
			return nil
		},
		Description:      "Takes a batch of this user's events, sent by ingest, and answers which of those to come may wait",
		UnfinishedPolicy: workflow.HandlerUnfinishedPolicyAbandon, // a canceled run leaves it to ingest to say it again
	})
	if err != nil {
		return fmt.Errorf("register update %s: %w", schema.TakeUpdate.Name, err)
	}
	return nil
}

// nextBatch returns what is to be taken next: signals first, for who posts waits for the answer before it sends anything else. So those that were
// posted are behind all the signals of a task. recorded reports whether it stands in the history that the batch has come.
func (r *journeyRun) nextBatch(ctx workflow.Context) (batch schema.EventBatch, recorded, ok bool) {
	if batch, ok = receive(ctx, schema.EventsReceived, r.signal, (*schema.EventBatch).Check); ok {
		return batch, true, true
	}
	if !r.posted.waits() {
		return schema.EventBatch{}, false, false
	}
	batch = r.posted.batches[0]
	r.posted.batches = r.posted.batches[1:]
	r.posted.taken++
	return batch, r.posted.taken <= r.posted.onRecord, true
}

// putPostedOnRecord ends the workflow task where the next moment is near. An update stands in no history before its task is completed, and
// what is published in a task that is not, because worker and server died, is published and not decided. Ingest sends the batch again then,
// and it comes to the same, unless the moment has come first.
func (r *journeyRun) putPostedOnRecord(ctx workflow.Context) error {
	if !r.posted.waits() || !r.isNear(ctx) {
		return nil
	}
	for r.posted.onRecord < r.posted.came {
		if err := r.putEventsOnRecord(ctx); err != nil {
			return err
		}
	}
	return nil
}

// versionTogetherOnRecord is the first version of runs that put on record what came together, where its events could be parted, and
// versionTakesOn the first of those that take what came while they did.
const (
	versionTogetherOnRecord = 3
	versionTakesOn          = 4
)

// putTogetherOnRecord ends the workflow task before what was taken is acted on, where an event of an update came behind one that made a moment
// near. Sent again, the two may come apart, in batches of their own, and the moment between them.
//
// more reports that it did so, and what has come meanwhile is to be taken first. It stands in the history before the moment: the next task would take it
// before the moment if it began in time, and after it if it was begun again later.
func (r *journeyRun) putTogetherOnRecord(ctx workflow.Context) (more bool, err error) {
	parts := r.posted.parts
	r.posted.parts = false
	if !parts || r.in.Version < versionTogetherOnRecord {
		return false, nil
	}
	return r.in.Version >= versionTakesOn, r.putEventsOnRecord(ctx)
}

// putEventsOnRecord ends the workflow task, so that it stands in the history what has come by update.
func (r *journeyRun) putEventsOnRecord(ctx workflow.Context) error {
	came := r.posted.came
	if err := workflow.NewTimerWithOptions(ctx, time.Millisecond, workflow.TimerOptions{Summary: "put on record that events have come"}).Get(ctx, nil); err != nil {
		return err
	}
	r.posted.onRecord = came
	return nil
}

// isNear reports whether time alone changes something soon.
func (r *journeyRun) isNear(ctx workflow.Context) bool {
	return r.wakeAt != 0 && r.wakeAt <= workflow.Now(ctx).Add(schema.TimeIsNear).UnixMilli()
}

// answerPosted lets those be answered whose batches are on record, before the run ends.
func (r *journeyRun) answerPosted(ctx workflow.Context) error {
	return workflow.Await(ctx, func() bool { return r.posted.answered >= r.posted.recorded })
}
