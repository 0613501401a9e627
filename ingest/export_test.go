package ingest

import "time"

// GatherFor bounds how long mailboxes fill while a backlog is being read.
const GatherFor = gatherFor

// InHand returns how many messages were taken over and are not settled.
func (i *Ingest) InHand() int { return len(i.held.all()) }

// Again counts a call for a user at a moment, as Send does.
func (b *Batches) Again(token string, now time.Time) bool { return b.again(token, now) }

// Pace tells whether calls are slower than usual.
type Pace = pace

// NewPace returns one that knows of no call.
func NewPace() *Pace { return newPace() }

// Begin notes that a call began.
func (p *pace) Begin(token string, now time.Time) { p.begin(token, now) }

// End notes that a call is over.
func (p *pace) End(token string, now time.Time) { p.end(token, now) }

// Slow returns nil unless a call in flight is slow.
func (p *pace) Slow(now time.Time) <-chan struct{} { return p.slow(now) }
