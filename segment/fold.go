package segment

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// fold is how a slot keeps the events it takes.
type fold int8

const (
	foldTimes    fold = iota // count, first, last; with a window also when
	foldAmounts              // sum, least and greatest of a property; with a window also each with its time
	foldDistinct             // the values of a property
	foldDays                 // the calendar days
	foldSessions             // the sessions: events that lie closer together than a gap
	foldPair                 // whether one of the second pick came soon after one of the first
	foldOpen                 // those of the first pick since the last of the second
)

// name goes into the keys of slots and must never change; foldTimes has none, being the oldest.
func (f fold) name() string {
	return [...]string{"", "amounts", "distinct", "days", "sessions", "pair", "open"}[f]
}

// What a slot keeps of the things that grow with history. Comparing with more is refused when a rule is compiled.
const (
	KeepRecent   = 128 // times of events; calendar days
	KeepDistinct = 64
	KeepSessions = 64
)

// Sums keep six decimals; an amount beyond maxAmount millionths is out of range, and so is a sum that does not fit an int64.
const (
	perUnit    = 1_000_000
	maxAmount  = 9_000_000_000_000 * perUnit
	outOfRange = math.MinInt64 // stands among the amounts of a window for one that cannot be kept
	highUnit   = 1_000_000_000_000_000_000
)

// Series is the fold of what one Slot takes. But for the bounds on what is kept, its fields do not depend on the order in which
// events arrive. Times are Unix milliseconds.
type Series struct {
	Count int64 `json:"n"`
	First int64 `json:"first"`
	Last  int64 `json:"last"`

	Recent []int64 `json:"recent,omitempty"` // the times of the newest events, ascending; of a pair, those of the first pick
	Values []int64 `json:"values,omitempty"` // beside Recent: amounts in millionths, or hashes of distinct values
	Window int64   `json:"window,omitempty"` // how far back Recent must reach: the widest that any set in use has asked for
	Lost   int64   `json:"lost,omitempty"`   // of what was forgotten because too much was kept, the newest: time, or day

	Sum    int64 `json:"sum,omitempty"`    // in millionths, from 0 up to highUnit
	High   int64 `json:"high,omitempty"`   // of the sum, in highUnits
	Min    int64 `json:"min,omitempty"`    // in millionths
	Max    int64 `json:"max,omitempty"`    // in millionths
	Beyond int64 `json:"beyond,omitempty"` // how many amounts were out of range

	Days     []int64    `json:"days,omitempty"`     // the newest days with an event, as DayOf numbers them, ascending
	Sessions [][2]int64 `json:"sessions,omitempty"` // the newest, each from its first event to its last, ascending
	Dropped  int64      `json:"dropped,omitempty"`  // how many sessions were forgotten
	Longest  int64      `json:"longest,omitempty"`  // of all sessions, in milliseconds

	Others []int64 `json:"others,omitempty"` // of a pair: the times of the second pick
	Met    bool    `json:"met,omitempty"`    // of a pair: the second came soon after the first
	Closed int64   `json:"closed,omitempty"` // of an open slot: when the second pick last came
}

// note counts an event.
func (s *Series) note(at int64) {
	if s.Count == 0 {
		s.First, s.Last = at, at
	}
	s.Count++
	s.First = min(s.First, at)
	s.Last = max(s.Last, at)
}

// widen makes the series reach further back from now on. What it has let go already is lost.
func (s *Series) widen(window int64) {
	if window <= s.Window {
		return
	}
	s.Lost = s.lost(window)
	s.Window = window
}

// lost returns the time of the newest event that a window might reach and the series no longer holds; 0 where there is none.
func (s *Series) lost(window int64) int64 {
	if window <= s.Window || s.First > s.Last-s.Window || (s.Window == 0 && len(s.Recent) > 0) { // the last: written before Window was
		return s.Lost
	}
	return max(s.Lost, s.Last-s.Window)
}

// narrow lets the series reach no further back than the sets in use ask for.
func (s *Series) narrow(window int64) {
	if s.Window > 0 && window == 0 {
		s.Recent, s.Values, s.Lost = nil, nil, 0
	}
	s.Window = min(s.Window, window)
}

// remember puts an event among those of the window. What the widest window no longer reaches is let go.
func (s *Series) remember(at, value int64, valued bool) {
	i := s.place(at, value, valued)
	if len(s.Recent) < KeepRecent {
		s.Recent = slices.Insert(s.Recent, i, at)
		if valued {
			s.Values = slices.Insert(s.Values, i, value)
		}
	} else {
		s.Lost = max(s.Lost, s.shift(i, at, value, valued))
	}
	oldest, n := s.Last-s.Window, 0
	for n < len(s.Recent) && s.Recent[n] <= oldest {
		n++
	}
	s.drop(n)
}

// place finds where an event belongs, by time and then by value, so that the order of arrival leaves no mark.
func (s *Series) place(at, value int64, valued bool) int {
	i := len(s.Recent)
	for i > 0 && (s.Recent[i-1] > at || (valued && s.Recent[i-1] == at && s.Values[i-1] > value)) {
		i--
	}
	return i
}

// shift puts an event at i by pushing the oldest out, and returns the time of what was pushed out: it may be the event itself.
func (s *Series) shift(i int, at, value int64, valued bool) int64 {
	if i == 0 {
		return at
	}
	lost := s.Recent[0]
	copy(s.Recent, s.Recent[1:i])
	s.Recent[i-1] = at
	if valued {
		copy(s.Values, s.Values[1:i])
		s.Values[i-1] = value
	}
	return lost
}

// drop forgets the n oldest.
func (s *Series) drop(n int) {
	if n == 0 {
		return
	}
	s.Recent = slices.Delete(s.Recent, 0, n)
	if len(s.Values) >= n {
		s.Values = slices.Delete(s.Values, 0, n)
	}
}

// amount adds the amount of one event, in millionths or outOfRange, to the sums.
func (s *Series) amount(value int64) {
	if value == outOfRange {
		s.Beyond++
		return
	}
	if s.Count-s.Beyond == 1 { // note has counted it
		s.Min, s.Max = value, value
	}
	s.Min = min(s.Min, value)
	s.Max = max(s.Max, value)
	s.Sum, s.High = addAmount(s.Sum, s.High, value)
}

// addAmount adds in two parts, for a sum on its way may be greater than an int64: 0 ≤ low < highUnit.
func addAmount(low, high, value int64) (newLow, newHigh int64) {
	high += value / highUnit
	low += value % highUnit
	switch {
	case low >= highUnit:
		return low - highUnit, high + 1
	case low < 0:
		return low + highUnit, high - 1
	}
	return low, high
}

// total puts the two parts of a sum together; false where they do not fit.
func total(low, high int64) (int64, bool) {
	if high < -9 || high > 9 || (high == 9 && low > 0) {
		return 0, false
	}
	return high*highUnit + low, true
}

// millionths turns a number into what sums keep; outOfRange where it is too great.
func millionths(v any) int64 {
	switch v := v.(type) {
	case int64:
		if v > maxAmount/perUnit || v < -maxAmount/perUnit {
			return outOfRange
		}
		return v * perUnit
	case float64:
		if math.Abs(v) <= maxAmount/perUnit {
			return int64(math.Round(v * perUnit))
		}
	}
	return outOfRange
}

// value takes a value in among the distinct ones: each stands once, with the newest of its times.
func (s *Series) value(at, hash int64) {
	if i := slices.Index(s.Values, hash); i >= 0 {
		if s.Recent[i] >= at {
			return
		}
		s.Recent = slices.Delete(s.Recent, i, i+1)
		s.Values = slices.Delete(s.Values, i, i+1)
	}
	i := s.place(at, hash, true)
	if len(s.Recent) < KeepDistinct {
		s.Recent = slices.Insert(s.Recent, i, at)
		s.Values = slices.Insert(s.Values, i, hash)
		return
	}
	s.Lost = max(s.Lost, s.shift(i, at, hash, true))
}

// hashOf maps a property's value to a number, equal values to equal numbers (FNV-1a, 64 bits).
func hashOf(v any) int64 {
	var text []byte
	switch v := v.(type) {
	case string:
		text = append(text, v...)
	case int64:
		text = strconv.AppendInt(text, v, 10)
	case float64:
		text = strconv.AppendFloat(text, v, 'g', -1, 64)
	case bool:
		text = strconv.AppendBool(text, v)
	case time.Time:
		text = strconv.AppendInt(text, v.UnixNano(), 10)
	}
	hash := uint64(14695981039346656037)
	for _, b := range text {
		hash = (hash ^ uint64(b)) * 1099511628211
	}
	return int64(hash) //nolint:gosec // bits, not a number
}

// day takes a calendar day in.
func (s *Series) day(day int64) {
	i, known := slices.BinarySearch(s.Days, day)
	switch {
	case known:
	case len(s.Days) < KeepRecent:
		s.Days = slices.Insert(s.Days, i, day)
	case i == 0:
		s.Lost = max(s.Lost, day)
	default:
		s.Lost = max(s.Lost, s.Days[0])
		copy(s.Days, s.Days[1:i])
		s.Days[i-1] = day
	}
}

// session takes an event into the session that it belongs to, joining two that it brings within the gap of each other. An event
// before all that are kept, once some were forgotten, belongs to a past that is no longer known.
func (s *Series) session(at, gap int64) {
	i := len(s.Sessions) // of the first session that ends less than the gap before the event, or later
	for i > 0 && s.Sessions[i-1][1]+gap > at {
		i--
	}
	j := i // behind the last session that begins less than the gap after the event, or earlier
	from, to := at, at
	for j < len(s.Sessions) && s.Sessions[j][0] < at+gap {
		from, to = min(from, s.Sessions[j][0]), max(to, s.Sessions[j][1])
		j++
	}
	if i == 0 && j == 0 && s.Dropped > 0 {
		return
	}
	s.Sessions = slices.Replace(s.Sessions, i, j, [2]int64{from, to})
	s.Longest = max(s.Longest, to-from)
	if over := len(s.Sessions) - KeepSessions; over > 0 {
		s.Dropped += int64(over)
		s.Sessions = slices.Delete(s.Sessions, 0, over)
	}
}

// pair takes an event into a pair slot. One that both picks take does not follow itself, but others at its time.
func (s *Series) pair(at, within int64, first, second bool) {
	if s.Met {
		return
	}
	if second {
		i, _ := slices.BinarySearch(s.Recent, at+1)
		s.Met = i > 0 && s.Recent[i-1]+within > at
	}
	if first && !s.Met {
		i, _ := slices.BinarySearch(s.Others, at)
		s.Met = i < len(s.Others) && s.Others[i] < at+within
	}
	if s.Met { // for good: what led to it need not be kept
		s.Recent, s.Others = nil, nil
		return
	}
	if first {
		s.Recent = newest(s.Recent, at)
	}
	if second {
		s.Others = newest(s.Others, at)
	}
}

// newest puts a time among those that are kept, unless it stands there already.
func newest(times []int64, at int64) []int64 {
	i, known := slices.BinarySearch(times, at)
	switch {
	case known:
		return times
	case len(times) < KeepRecent:
		return slices.Insert(times, i, at)
	case i > 0:
		copy(times, times[1:i])
		times[i-1] = at
	}
	return times
}

// open takes an event into an open slot: one of the second pick closes all of the first up to its time, but not itself. Where too
// many stand open, the oldest is kept, for it decides, and the newest.
func (s *Series) open(at int64, first, second bool) {
	closed := s.Closed
	if second && at > s.Closed {
		s.Closed = at
	}
	if second {
		n, _ := slices.BinarySearch(s.Recent, at+1)
		s.Recent = slices.Delete(s.Recent, 0, n)
	}
	if !first || (closed != 0 && at <= closed) {
		return
	}
	i, known := slices.BinarySearch(s.Recent, at)
	if known {
		return
	}
	s.Recent = slices.Insert(s.Recent, i, at)
	if len(s.Recent) > KeepRecent {
		s.Recent = slices.Delete(s.Recent, 1, 2)
	}
}
