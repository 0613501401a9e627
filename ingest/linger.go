package ingest

import (
	"context"
	"time"

	"github.com/onramphq/onramp/schema"
)

// patienceKept is of how many users it is remembered what their workflows said last. Of whom it is forgotten, events travel at once.
const patienceKept = 20_000

// Events that have waited long enough give way to those that never may: few of their calls are in flight at once, and none begins while calls are
// slower than usual. What finds no place waits for one, but no longer than givesWay. Users whose events began to wait together would otherwise all be
// called together, and where something else has the processors for a second, those who decide something would queue behind those who do not.
const (
	givesWay      = 2 * time.Second
	givingWayEach = 8 // of so many calls in flight at most one is theirs
)

// lingerMargin is how long before time changes something the events must be there that wait: longer than they give way and a call takes, and than
// the clocks of two machines differ.
const lingerMargin = givesWay + 2*time.Second

// known is what a user's workflow said of events to come when it took the last batch: nothing else has reached it since, but for time.
type known struct {
	patience schema.Patience
	revision uint64 // of the playbook it was said under
}

// learn remembers what a workflow said with the last batch. A workflow that said nothing makes the older word worthless.
func (m *mailboxes) learn(token string, current Playbook, patience schema.Patience) {
	if len(patience.Events) == 0 {
		m.patience.Delete(token)
		return
	}
	m.patience.Put(token, known{patience, current.Revision})
}

// mayWait returns how long a mailbox may be left alone; 0 or less where it may not.
func (m *mailboxes) mayWait(box *mailbox) time.Duration {
	until, ok := m.waitsUntil(box)
	if !ok {
		return 0
	}
	return time.Until(until)
}

// waitsUntil returns until when a mailbox may be left alone; false where something in it may matter now. While more than half of what may be in
// hand is, nothing waits.
func (m *mailboxes) waitsUntil(box *mailbox) (time.Time, bool) {
	cfg := &m.ingest.cfg
	if cfg.Linger <= 0 || box.emptied != nil || len(box.events) == 0 {
		return time.Time{}, false
	}
	k, ok := m.patience.Get(box.user.UserToken)
	if !ok || k.revision != box.current.Revision || len(box.events) > k.patience.Events[box.events[0].event.EventName] {
		return time.Time{}, false
	}
	for i := range box.events {
		if !box.events[i].mayWait(k.patience.AsOf, box.events[0].event.EventName) {
			return time.Time{}, false
		}
	}
	until := box.events[0].arrived.Add(cfg.Linger)
	if k.patience.Until != 0 && until.Add(lingerMargin).UnixMilli() > k.patience.Until {
		return time.Time{}, false
	}
	return until, m.ingest.held.count() <= cfg.InHand/2
}

// giveWay waits for a place among the few calls of mailboxes whose events have waited and for a moment at which calls are not slow, until something
// comes to this one that may not wait (hurry is closed), or for long enough. What it returns is called when the call is over.
func (m *mailboxes) giveWay(ctx context.Context, hurry <-chan struct{}) (leave func()) {
	ctx, cancel := context.WithTimeout(ctx, givesWay)
	defer cancel()
	select {
	case m.patient <- struct{}{}:
	case <-hurry:
		return func() {}
	case <-ctx.Done():
		return func() {}
	}
	leave = func() { <-m.patient }
	for {
		over := m.pace.slow(time.Now())
		if over == nil {
			return leave
		}
		select {
		case <-over:
		case <-hurry:
			leave()
			return func() {}
		case <-ctx.Done():
			return leave
		}
	}
}

// mayWait reports whether the event is one that a workflow speaks of in its Patience: one like the others that wait.
func (q *queued) mayWait(asOf int64, like string) bool {
	return q.event.EventName == like && !q.prompt && len(q.links) == 0 && q.event.From == "" && len(q.event.Traits) == 0 &&
		q.event.Lateness == schema.OnTime && q.event.OccurredAt >= asOf
}
