// Package workflows is the durable shell around package journey: one execution per user, `onboarding/<token>`. It remembers
// the user's state, waits for events and for the moment that time alone changes something, asks journey.Next, and carries
// out what Next decided. It holds no rules and does no I/O.
//
//	         events_received (signal)
//	               │
//	   ┌──────▶ drain ──▶ journey.Next, event by event ──▶ commit (local activity: outcomes, profile)
//	   │           ▲                                          │
//	waiting        │ timer: the earliest moment time          └─▶ deliver (local to NATS and to quick receivers,
//	   │           │ alone changes something                      else an activity beside the loop, retried for days)
//	   └───────────┴──▶ history long enough: drain, continue as new with the state
//
// A run never ends by itself: an idle user is a row in Temporal's database and costs nothing else. Events are at-least-once
// and may repeat; journey.State.Seen, carried through every continue-as-new, is what makes each count once.
package workflows
