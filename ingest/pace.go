package ingest

import (
	"sync"
	"time"
)

// A call is slow that takes longer than so many usual ones. The way to a workflow takes a moment longer now and then; twice as long it takes where
// something else has the processors, such as a collection of the runtime or of the servers'.
const slowTimes = 2

// usualSteps is by which part of itself the usual duration moves with each call. Some hundred calls follow a change for good, and a second in which
// all is slow does not become what is usual.
const usualSteps = 128

// pace tells whether calls are slower than usual at this moment.
type pace struct {
	mu    sync.Mutex
	usual time.Duration        // about the median: a step up for a longer call, one down for a shorter
	began map[string]time.Time // by user, of the calls in flight
	over  chan struct{}        // closed when the next of them is over
}

func newPace() *pace { return &pace{began: make(map[string]time.Time), over: make(chan struct{})} }

// begin notes that a call for a user began: the one there is for that user at most.
func (p *pace) begin(token string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began[token] = now
}

// end notes that it is over.
func (p *pace) end(token string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := now.Sub(p.began[token])
	delete(p.began, token)
	switch {
	case p.usual == 0:
		p.usual = took
	case took > p.usual:
		p.usual += p.usual / usualSteps
	default:
		p.usual -= p.usual / usualSteps
	}
	close(p.over)
	p.over = make(chan struct{})
}

// slow returns nil unless a call in flight is slow; then what is closed when the next is over, after which one asks again.
func (p *pace) slow(now time.Time) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, began := range p.began {
		if now.Sub(began) > slowTimes*p.usual {
			return p.over
		}
	}
	return nil
}
