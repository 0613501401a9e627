package segment

import "slices"

// Merge folds what is kept of one user's events into what is kept of another's, as if one user had sent both: where the bounds on what is
// kept allow it, the result is the fold of both logs. What only the order of the two could tell is not made up: that one user's trait
// differs from the other's is no change of it. Series that none of the sets reads are left out. from is not changed.
func Merge(f, from *Facts, sets ...*Set) {
	if from.FirstSeen != 0 && (f.FirstSeen == 0 || from.FirstSeen < f.FirstSeen) {
		f.FirstSeen = from.FirstSeen
	}
	f.LastSeen = max(f.LastSeen, from.LastSeen)
	for name, theirs := range from.Traits {
		if ours, had := f.Traits[name]; had && (ours.At > theirs.At || ours.At == theirs.At && ours.Seq >= theirs.Seq) {
			continue
		}
		if f.Traits == nil {
			f.Traits = make(map[string]Trait)
		}
		f.Traits[name] = theirs
	}
	for key, theirs := range from.Series {
		slot := slotOf(key, sets)
		if slot == nil {
			continue
		}
		if f.Series == nil {
			f.Series = make(map[string]*Series)
		}
		if f.Series[key] == nil {
			f.Series[key] = &Series{}
		}
		f.Series[key].merge(theirs.clone(), slot)
	}
}

func slotOf(key string, sets []*Set) *Slot {
	for _, set := range sets {
		if i, ok := set.byKey[key]; ok {
			return &set.slots[i]
		}
	}
	return nil
}

func (s *Series) clone() *Series {
	c := *s
	c.Recent, c.Values, c.Days = slices.Clone(s.Recent), slices.Clone(s.Values), slices.Clone(s.Days)
	c.Sessions, c.Others = slices.Clone(s.Sessions), slices.Clone(s.Others)
	return &c
}

// merge takes over the other series, which it may use up. Both look as far back afterwards as the one that looked further.
func (s *Series) merge(other *Series, slot *Slot) {
	window := max(s.Window, other.Window)
	if s.Count > 0 {
		s.widen(window)
	}
	if other.Count > 0 {
		other.widen(window)
	}
	s.Window = window
	s.Lost, s.Beyond = max(s.Lost, other.Lost), s.Beyond+other.Beyond
	if slot.fold == foldAmounts {
		s.mergeAmounts(other)
	}
	s.mergeCount(other)
	switch slot.fold {
	case foldTimes, foldAmounts:
		s.mergeRecent(other, slot.fold == foldAmounts)
	case foldDistinct:
		for i, hash := range other.Values {
			s.value(other.Recent[i], hash)
		}
	case foldDays:
		for _, day := range other.Days {
			s.day(day)
		}
	case foldSessions:
		s.mergeSessions(other, slot.gap)
	case foldPair:
		s.mergePair(other, slot.gap)
	case foldOpen:
		s.mergeOpen(other)
	}
}

func (s *Series) mergeCount(other *Series) {
	switch {
	case other.Count == 0:
		return
	case s.Count == 0:
		s.First, s.Last = other.First, other.Last
	default:
		s.First, s.Last = min(s.First, other.First), max(s.Last, other.Last)
	}
	s.Count += other.Count
}

// mergeAmounts adds the sums up. It comes before the counts are added and after those out of range are.
func (s *Series) mergeAmounts(other *Series) {
	ours, theirs := s.Count-(s.Beyond-other.Beyond), other.Count-other.Beyond
	switch {
	case theirs == 0:
	case ours == 0:
		s.Min, s.Max = other.Min, other.Max
	default:
		s.Min, s.Max = min(s.Min, other.Min), max(s.Max, other.Max)
	}
	s.Sum, s.High = addAmount(s.Sum, s.High+other.High, other.Sum)
}

// mergeRecent puts the times of both in order, and keeps the newest that the window reaches.
func (s *Series) mergeRecent(other *Series, valued bool) {
	if s.Window == 0 {
		return
	}
	mine := Series{Last: s.Last, Window: s.Window, Recent: s.Recent, Values: s.Values, Lost: s.Lost}
	for i, at := range other.Recent {
		value := int64(0)
		if valued {
			value = other.Values[i]
		}
		mine.remember(at, value, valued)
	}
	n := 0
	for n < len(mine.Recent) && mine.Recent[n] <= s.Last-s.Window {
		n++
	}
	mine.drop(n)
	s.Recent, s.Values, s.Lost = mine.Recent, mine.Values, mine.Lost
}

// mergeSessions joins sessions that lie within the gap of each other.
func (s *Series) mergeSessions(other *Series, gap int64) {
	all := slices.Concat(s.Sessions, other.Sessions)
	slices.SortFunc(all, compareSpans)
	s.Sessions, s.Longest, s.Dropped = nil, max(s.Longest, other.Longest), s.Dropped+other.Dropped
	for _, next := range all {
		last := len(s.Sessions) - 1
		if last >= 0 && next[0] < s.Sessions[last][1]+gap {
			s.Sessions[last][1] = max(s.Sessions[last][1], next[1])
		} else {
			s.Sessions = append(s.Sessions, next)
			last++
		}
		s.Longest = max(s.Longest, s.Sessions[last][1]-s.Sessions[last][0])
	}
	if over := len(s.Sessions) - KeepSessions; over > 0 {
		s.Dropped += int64(over)
		s.Sessions = slices.Delete(s.Sessions, 0, over)
	}
}

func compareSpans(a, b [2]int64) int {
	if a[0] != b[0] {
		return int(min(max(a[0]-b[0], -1), 1))
	}
	return int(min(max(a[1]-b[1], -1), 1))
}

// mergePair asks whether the second came soon after the first where one user sent the one and the other the other.
func (s *Series) mergePair(other *Series, within int64) {
	s.Met = s.Met || other.Met || followed(s.Recent, other.Others, within) || followed(other.Recent, s.Others, within)
	if s.Met {
		s.Recent, s.Others = nil, nil
		return
	}
	for _, at := range other.Recent {
		s.Recent = newest(s.Recent, at)
	}
	for _, at := range other.Others {
		s.Others = newest(s.Others, at)
	}
}

// followed reports whether one of the second times lies less than within after one of the first, or at it.
func followed(first, second []int64, within int64) bool {
	for _, at := range second {
		if i, _ := slices.BinarySearch(first, at+1); i > 0 && first[i-1]+within > at {
			return true
		}
	}
	return false
}

// mergeOpen keeps of each what the other has not closed.
func (s *Series) mergeOpen(other *Series) {
	stands := func(times []int64, closed int64) []int64 {
		return slices.DeleteFunc(times, func(at int64) bool { return closed != 0 && at <= closed })
	}
	recent := slices.Concat(stands(s.Recent, other.Closed), stands(other.Recent, s.Closed))
	slices.Sort(recent)
	s.Recent = slices.Compact(recent)
	if over := len(s.Recent) - KeepRecent; over > 0 {
		s.Recent = slices.Delete(s.Recent, 1, 1+over)
	}
	s.Closed = max(s.Closed, other.Closed)
}
