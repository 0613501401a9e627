package journey

import (
	"math/bits"
	"slices"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// places is a set of segments by their place in the playbook.
type places []uint64

func (p places) add(list ...int) {
	for _, i := range list {
		p[i/64] |= 1 << (i % 64)
	}
}

// take removes and returns the first place from at on, -1 where there is none.
func (p places) take(from int) int {
	for w := from / 64; w < len(p); w++ {
		word := p[w]
		if w == from/64 {
			word &^= 1<<(from%64) - 1
		}
		if word != 0 {
			i := w*64 + bits.TrailingZeros64(word)
			p[w] &^= 1 << (i % 64)
			return i
		}
	}
	return -1
}

// segments asks the rules that this moment can have changed. Segments stand behind those they ask about, so one pass is enough.
func (t *turn) segments(event *schema.UserEvent) bool {
	if t.state.Members == nil {
		t.state.Members = make(map[string]*Member)
	}
	moved := t.renewed && t.removedSegments()
	asked := t.asked(event)
	for i := asked.take(0); i >= 0; i = asked.take(i + 1) {
		s := &t.book.Segments[i]
		m := t.state.Members[s.Key]
		if m == nil {
			m = &Member{}
			t.state.Members[s.Key] = m
		}
		if t.judge(s, m) {
			moved = true
			asked.add(t.book.AskedBySegment(s.Key)...)
		}
	}
	return moved
}

func (t *turn) asked(event *schema.UserEvent) places {
	asked := make(places, (len(t.book.Segments)+63)/64)
	if t.renewed {
		for i := range t.book.Segments {
			asked.add(i)
		}
		t.state.dueMembers(t.at)
		return asked
	}
	for _, key := range t.state.dueMembers(t.at) {
		if i, ok := t.book.Place(key); ok {
			asked.add(i)
		}
	}
	if event != nil {
		asked.add(t.book.AskedBy(event.EventName, len(event.Traits) > 0)...)
	}
	if t.exposed {
		asked.add(t.book.AskedByVariant()...)
		t.exposed = false
	}
	return asked
}

// judge evaluates one segment and records a change. An unknown answer leaves the membership as it was.
func (t *turn) judge(s *playbook.Segment, m *Member) bool {
	scope := t.scope()
	result := s.Rule.Eval(scope)
	t.state.remind(s.Key, m, result.Until)
	m.Known, m.Missing = result.Truth != segment.Unknown, result.Why
	in := result.Truth == segment.True
	if !m.Known || in == m.In {
		return false
	}
	t.segmentOutcome(s.Key, m, in, s.Rule.Explain(scope))
	m.In, m.Since = in, t.at
	t.changed[s.Key] = in
	return true
}

func (t *turn) removedSegments() bool {
	moved := false
	for _, key := range sortedKeys(t.state.Members) {
		if slices.ContainsFunc(t.book.Segments, func(s playbook.Segment) bool { return s.Key == key }) {
			continue
		}
		if m := t.state.Members[key]; m.In {
			t.changed[key] = false
			t.segmentOutcome(key, m, false, "the segment is no longer in the playbook")
			moved = true
		}
		delete(t.state.Members, key)
	}
	return moved
}

func (t *turn) scope() segment.Scope { return t.state.scope(t.book, t.at) }

func (s *State) scope(book *playbook.Playbook, at int64) segment.Scope {
	return segment.Scope{
		Facts: &s.Facts, Now: at, Zone: book.Set.Zone(&s.Facts),
		InSegment: func(key string) bool { m := s.Members[key]; return m != nil && m.In },
		SegmentSince: func(key string) int64 {
			if m := s.Members[key]; m != nil && m.In {
				return m.Since
			}
			return 0
		},
		Variant: func(experiment string) string { return s.Assigned[experiment].Variant },
	}
}
