package journey

import "container/heap"

// agenda tells which segment is to be asked again first. It holds an alarm for every Member.Until that was ever set; those that
// no longer agree with the member are skipped when they come up.
type agenda struct{ alarms alarms }

type alarm struct {
	at  int64
	key string
}

type alarms []alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at < a[j].at }
func (a alarms) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *alarms) Push(x any)        { *a = append(*a, x.(alarm)) } //nolint:forcetypeassert,errcheck // heap.Push below gives nothing else
func (a *alarms) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// plan makes the agenda from the members, where it is missing or holds more of the past than of the future.
func (s *State) plan() *agenda {
	if s.agenda != nil && len(s.agenda.alarms) <= 2*len(s.Members)+32 {
		return s.agenda
	}
	s.agenda = &agenda{}
	for key, m := range s.Members {
		if m.Until != 0 {
			s.agenda.alarms = append(s.agenda.alarms, alarm{m.Until, key})
		}
	}
	heap.Init(&s.agenda.alarms)
	return s.agenda
}

// set notes when a member is to be asked again; 0: never.
func (s *State) remind(key string, m *Member, at int64) {
	if m.Until == at {
		return
	}
	m.Until = at
	if at != 0 {
		heap.Push(&s.plan().alarms, alarm{at, key})
	}
}

// earliestMember returns when the first segment is to be asked again; 0: never.
func (s *State) earliestMember() int64 {
	a := s.plan()
	for len(a.alarms) > 0 {
		first := a.alarms[0]
		if m := s.Members[first.key]; m != nil && m.Until == first.at {
			return first.at
		}
		heap.Pop(&a.alarms)
	}
	return 0
}

// dueMembers takes the segments that are to be asked again by then off the agenda.
func (s *State) dueMembers(until int64) []string {
	a := s.plan()
	var due []string
	for len(a.alarms) > 0 && a.alarms[0].at <= until {
		first, _ := heap.Pop(&a.alarms).(alarm) //nolint:errcheck // the heap holds nothing else
		if m := s.Members[first.key]; m != nil && m.Until == first.at {
			m.Until = 0 // asking sets it anew; who is not asked, because the playbook changed, has nothing to wait for
			due = append(due, first.key)
		}
	}
	return due
}
