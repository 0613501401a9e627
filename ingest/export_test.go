package ingest

import "time"

// GatherFor bounds how long mailboxes fill while a backlog is being read.
const GatherFor = gatherFor

// InHand returns how many messages were taken over and are not settled.
func (i *Ingest) InHand() int { return len(i.held.all()) }

// Again counts a call for a user at a moment, as Send does.
func (b *Batches) Again(token string, now time.Time) bool { return b.again(token, now) }
