package ingest

import (
	"time"

	"github.com/onramphq/onramp/schema"
)

// patienceKept is of how many users it is remembered what their workflows said last. Of whom it is forgotten, events travel at once.
const patienceKept = 20_000

// lingerMargin is how long before time changes something the events must be there that wait: longer than a call takes, and than the clocks
// of two machines differ.
const lingerMargin = 2 * time.Second

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

// mayWait returns how long a mailbox may be left alone; 0 where something in it may matter now. While more than half of what may be in
// hand is, nothing waits.
func (m *mailboxes) mayWait(box *mailbox) time.Duration {
	cfg := &m.ingest.cfg
	if cfg.Linger <= 0 || box.emptied != nil || len(box.events) == 0 {
		return 0
	}
	k, ok := m.patience.Get(box.user.UserToken)
	if !ok || k.revision != box.current.Revision || len(box.events) > k.patience.Events[box.events[0].event.EventName] {
		return 0
	}
	for i := range box.events {
		if !box.events[i].mayWait(k.patience.AsOf, box.events[0].event.EventName) {
			return 0
		}
	}
	until := box.events[0].arrived.Add(cfg.Linger)
	if k.patience.Until != 0 && until.Add(lingerMargin).UnixMilli() > k.patience.Until {
		return 0
	}
	if m.ingest.held.count() > cfg.InHand/2 {
		return 0
	}
	return time.Until(until)
}

// mayWait reports whether the event is one that a workflow speaks of in its Patience: one like the others that wait.
func (q *queued) mayWait(asOf int64, like string) bool {
	return q.event.EventName == like && !q.prompt && len(q.links) == 0 && q.event.From == "" && len(q.event.Traits) == 0 &&
		q.event.Lateness == schema.OnTime && q.event.OccurredAt >= asOf
}
