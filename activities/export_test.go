package activities

import (
	"context"
	"net/netip"
	"strconv"
	"time"
)

// CheckPublic is what a webhook asks about the address it is about to dial.
func CheckPublic(address string) error { return checkPublic(address) }

// Resolving makes the webhook find the addresses of names so.
func (w *Webhook) Resolving(find func(context.Context, string) ([]netip.Addr, error)) {
	w.egress.find = find
}

// Bounds of one attempt.
const (
	MaxAnswerBytes = maxAnswerBytes
	MaxRetryAfter  = maxRetryAfter
)

// Bounds of an attempt within a task.
const (
	QuickAnswer = quickAnswer
	KeptFor     = keptFor
	KeptMost    = keptMost
)

// Quick reports whether the receiver is known to be quick.
func (w *Webhook) Quick() bool { return w.quick() }

// Waiting is for how many the attempt at an action is under way.
func Waiting(d *Delivery, actionID string) int {
	d.tries.mu.Lock()
	defer d.tries.mu.Unlock()
	if one := d.tries.byID[actionID]; one != nil {
		return one.waiting
	}
	return 0
}

// Kept is how many attempts ended that nobody has asked for.
func Kept(d *Delivery) int {
	d.tries.mu.Lock()
	defer d.tries.mu.Unlock()
	return len(d.tries.kept)
}

// KeepMany lets so many attempts end at one moment for which nobody waits, and returns how many are kept and which of them is the oldest.
func KeepMany(n int, at time.Time) (kept int, oldest string) {
	var t tries
	now := func() time.Time { return at }
	for i := range n {
		one, _ := t.begin(strconv.Itoa(i), now)
		one.waiting = 0
		t.end(one, nil, now)
	}
	return len(t.byID), t.kept[0].id
}
