package ingest

// InHand returns how many messages were taken over and are not settled.
func (i *Ingest) InHand() int { return len(i.held.all()) }
