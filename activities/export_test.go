package activities

import (
	"context"
	"net/netip"
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
