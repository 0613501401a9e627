package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// Bounds of an attempt that a workflow task waits for.
const (
	trySlotPatience = 100 * time.Millisecond
	tryPatience     = time.Second     // after that it goes on without the task
	tryPause        = time.Second     // before the next attempt, where the receiver does not say how long
	recordPatience  = 5 * time.Second // for the record of a delivery, after what the request may take
)

// How long an attempt that ended is kept for who comes to ask, and how many of them.
const (
	keptFor  = time.Minute
	keptMost = 1000
)

// TryAction makes the first attempt at a webhook while the workflow task waits that decided the action. It makes none where the receiver is not
// known to be quick, and waits a second at most: an attempt that takes longer goes on, and DeliverAction, which is to come then, takes up what
// it comes to. On another worker, or after a crash, DeliverAction makes an attempt of its own, with the same id and body. All that may happen
// is a result, and there is no error.
func (d *Delivery) TryAction(ctx context.Context, in schema.DeliverInput) (schema.TryResult, error) {
	one := d.tries.join(in.Request.ActionID, d.now)
	if one == nil { // else the task was begun before, and its attempt is still under way
		one = d.try(ctx, in)
	}
	if one == nil {
		return schema.TryResult{Became: schema.TriedLater}, nil
	}
	// Not cut short by a worker that stops: it waits for longer itself, and an answer that is left alone is a second attempt elsewhere.
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryPatience)
	defer cancel()
	ended, err := d.tries.wait(patience, one)
	if !ended {
		if webhook := d.webhooks[in.Webhook]; webhook != nil {
			webhook.slow()
		}
		return schema.TryResult{Became: schema.TriedLater}, nil
	}
	return tried(err), nil
}

// tried is the result of an attempt that ended with a translated error.
func tried(err error) schema.TryResult {
	if err == nil {
		return schema.TryResult{Became: schema.TriedDelivered}
	}
	result := schema.TryResult{Became: schema.TriedFailed, PauseMS: tryPause.Milliseconds(), Message: err.Error()}
	e, ok := errors.AsType[*temporal.ApplicationError](err)
	switch {
	case ok && e.NonRetryable():
		return schema.TryResult{Became: schema.TriedRefused, Reason: schema.Code(e.Type()), Message: e.Message()}
	case ok && e.NextRetryDelay() > 0:
		result.PauseMS = e.NextRetryDelay().Milliseconds()
	}
	return result
}

// try begins an attempt in a goroutine of its own, which ends by itself. nil: none is to be made now.
func (d *Delivery) try(ctx context.Context, in schema.DeliverInput) *try {
	webhook := d.webhooks[in.Webhook]
	if webhook == nil || !webhook.holdQuick(ctx) {
		return nil
	}
	one, begun := d.tries.begin(in.Request.ActionID, d.now)
	if !begun {
		webhook.release()
		return one
	}
	on := context.WithoutCancel(ctx)
	go func() {
		defer webhook.release()
		within, cancel := context.WithTimeout(on, webhookTimeout+recordPatience)
		defer cancel()
		d.tries.end(one, d.attemptSafely(within, in), d.now)
	}()
	return one
}

// attemptSafely makes an attempt of which nobody else would catch a panic. Its errors are translated.
func (d *Delivery) attemptSafely(ctx context.Context, in schema.DeliverInput) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if d.Logger != nil {
			d.Logger.ErrorContext(ctx, "panic while an action was delivered", tracing.Logged(in.Delivered.Trace),
				slog.String("action_id", in.Request.ActionID), slog.String("stack", string(debug.Stack())))
		}
		err = translate(&schema.Error{Code: schema.CodeInternal, Message: fmt.Sprintf("deliver action %s: panic: %v", in.Request.ActionID, p)}, 0)
	}()
	return d.attempt(ctx, in, (*Webhook).postHeld)
}

// join waits for the attempt at an action that TryAction has begun, where there is one. Its errors are translated.
func (d *Delivery) join(ctx context.Context, actionID string) (joined bool, err error) {
	one := d.tries.join(actionID, d.now)
	if one == nil {
		return false, nil
	}
	ended, err := d.tries.wait(ctx, one)
	if !ended {
		err = translate(&schema.Error{Code: schema.CodeUnavailable, Message: "deliver action " + actionID + ": its attempt is still under way", Err: ctx.Err()}, 0)
	}
	return true, err
}

// try is an attempt that TryAction has begun.
type try struct {
	id    string
	ended chan struct{} // closed when it has
	err   error         // what it came to, translated; to be read once it has ended

	waiting int       // for whom it is
	endedAt time.Time // zero: it is under way
}

// tries are the attempts under way, of which there are no more than receivers have places, and those that ended and nobody has asked for.
type tries struct {
	mu   sync.Mutex
	byID map[string]*try // by action
	kept []*try          // those that ended; the oldest first
}

// join returns the attempt at an action, for one more who will wait for it; nil: there is none.
func (t *tries) join(actionID string, now func() time.Time) *try {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.take(actionID, now)
}

// begin returns a new attempt at an action for the caller to make, and to wait for, or the one that is there.
func (t *tries) begin(actionID string, now func() time.Time) (one *try, begun bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.take(actionID, now); one != nil {
		return one, false
	}
	one = &try{id: actionID, ended: make(chan struct{}), waiting: 1}
	if t.byID == nil {
		t.byID = make(map[string]*try)
	}
	t.byID[actionID] = one
	return one, true
}

// take is join by a caller who holds the lock.
func (t *tries) take(actionID string, now func() time.Time) *try {
	one := t.byID[actionID]
	if one == nil {
		return nil
	}
	if !one.endedAt.IsZero() {
		t.forget(now())
		if t.byID[actionID] == nil {
			return nil
		}
		delete(t.byID, actionID)
		t.kept = slices.DeleteFunc(t.kept, func(other *try) bool { return other == one })
	}
	one.waiting++
	return one
}

// end tells those who wait what an attempt came to, or keeps it for who comes.
func (t *tries) end(one *try, err error, now func() time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one.err, one.endedAt = err, now()
	close(one.ended)
	if one.waiting > 0 {
		delete(t.byID, one.id)
		return
	}
	t.kept = append(t.kept, one)
	t.forget(one.endedAt)
}

// forget drops what was kept for long enough, and the oldest of too many.
func (t *tries) forget(now time.Time) {
	drop := max(0, len(t.kept)-keptMost)
	for drop < len(t.kept) && now.Sub(t.kept[drop].endedAt) >= keptFor {
		drop++
	}
	for _, one := range t.kept[:drop] {
		delete(t.byID, one.id)
	}
	t.kept = slices.Delete(t.kept, 0, drop)
}

// wait waits for an attempt that the caller has joined or begun, as long as ctx lasts. err is what it came to, where it ended.
func (t *tries) wait(ctx context.Context, one *try) (ended bool, err error) {
	select {
	case <-one.ended:
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	one.waiting--
	if one.endedAt.IsZero() {
		return false, nil
	}
	return true, one.err
}
