// Package recent remembers what was used lately, within a bound of memory.
package recent

import "sync"

// Map keeps values by key, at most twice n of them: when n new ones have come, those that were neither new nor asked for since the last
// time are forgotten. So it costs no list and no clock. Safe for concurrent use; made by New.
type Map[K comparable, V any] struct {
	n            int
	mu           sync.RWMutex
	fresh, older map[K]V
}

// New returns an empty Map of n values in each of two halves; n is at least 1.
func New[K comparable, V any](n int) *Map[K, V] { return &Map[K, V]{n: n, fresh: make(map[K]V)} }

// Get returns what is kept under a key. What is asked for stays.
func (m *Map[K, V]) Get(key K) (V, bool) {
	m.mu.RLock()
	value, fresh := m.fresh[key]
	kept := fresh
	if !fresh {
		value, kept = m.older[key]
	}
	m.mu.RUnlock()
	if kept && !fresh {
		m.Put(key, value)
	}
	return value, kept
}

// Put keeps a value.
func (m *Map[K, V]) Put(key K, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(key, value)
}

func (m *Map[K, V]) put(key K, value V) {
	if len(m.fresh) >= m.n {
		m.fresh, m.older = make(map[K]V), m.fresh
	}
	m.fresh[key] = value
}

// Add keeps a value and reports true, unless there is one under the key: that stays.
func (m *Map[K, V]) Add(key K, value V) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, fresh := m.fresh[key]
	_, older := m.older[key]
	if fresh || older {
		return false
	}
	m.put(key, value)
	return true
}

// Delete forgets a key.
func (m *Map[K, V]) Delete(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.fresh, key)
	delete(m.older, key)
}
