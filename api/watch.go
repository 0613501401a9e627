package api

import "sync"

// watchers are those who want to know when the profile of a user changes. Safe for concurrent use.
//
// A watcher is told that something changed, not what: it looks for itself. So one that is slow misses nothing and holds up nobody,
// and a hundred changes in between are one.
type watchers struct {
	mu sync.Mutex
	of map[mirrorKey]map[chan struct{}]struct{}
}

// watch returns a channel that is sent on after every change of the user's profile, and a function that ends that. Whoever looks
// at the profile after watch has returned misses no change.
func (w *watchers) watch(key mirrorKey) (changed <-chan struct{}, stop func()) {
	channel := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = make(map[mirrorKey]map[chan struct{}]struct{})
	}
	if w.of[key] == nil {
		w.of[key] = make(map[chan struct{}]struct{}, 1)
	}
	w.of[key][channel] = struct{}{}
	return channel, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.of[key], channel)
		if len(w.of[key]) == 0 {
			delete(w.of, key)
		}
	}
}

// tell tells the watchers of a user. It never blocks.
func (w *watchers) tell(key mirrorKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for channel := range w.of[key] {
		select {
		case channel <- struct{}{}:
		default: // it has not looked since it was last told
		}
	}
}
