package segment

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// reading is what a term says at one moment.
type reading struct {
	value ref.Val // nil: nothing
	until int64   // the moment at which time alone next changes it; 0: never
	why   string  // there is no value, behind the term's text
}

const (
	noValue  = " has no value yet"
	tooMany  = " looks back on more than is kept"
	tooGreat = " is too great to be kept"
)

func no(why string) reading { return reading{why: why} }

// read says what the term says. A moment in until that is past means nothing: the caller takes those that are to come.
func (t *term) read(e *evaluation) reading {
	switch t.kind {
	case termInactive:
		return elapsed(e.scope.Facts.LastSeen, t.length, e.scope.Now)
	case termSeen:
		return elapsed(e.scope.Facts.FirstSeen, t.length, e.scope.Now)
	case termScore, termTimeSince, termTimeUntil:
		return t.readTrait(e)
	case termSegment:
		return reading{value: types.Bool(e.scope.InSegment != nil && e.scope.InSegment(t.name))}
	case termSegmentFor:
		return t.readSegmentFor(e)
	case termVariant:
		if e.scope.Variant == nil {
			return reading{value: types.String("")}
		}
		return reading{value: types.String(e.scope.Variant(t.name))}
	case termLocalTime:
		in, until := t.span.At(e.scope.Now, e.zone())
		return reading{value: types.Bool(in), until: until}
	case termLocalWeekday:
		return t.readWeekday(e)
	default:
		return t.readSeries(e)
	}
}

func (t *term) readSegmentFor(e *evaluation) reading {
	if e.scope.SegmentSince != nil {
		if since := e.scope.SegmentSince(t.name); since != 0 {
			return elapsed(since, t.length, e.scope.Now)
		}
	}
	return reading{value: types.False}
}

// elapsed reports whether so long has passed since a moment, which is 0 where it never was.
func elapsed(since int64, length time.Duration, now int64) reading {
	if since == 0 {
		return no(noValue)
	}
	at := since + length.Milliseconds()
	return reading{value: types.Bool(now >= at), until: at}
}

func (t *term) readTrait(e *evaluation) reading {
	value, ok := e.trait(t.name)
	if !ok {
		return no(" has no value: traits." + t.name + " is missing or not of its declared type")
	}
	switch v := value.(type) {
	case float64:
		return reading{value: types.Double(v)}
	case time.Time:
		return t.moving(v.UnixMilli(), e.scope.Now)
	}
	return no(noValue)
}

// moving is the time from a moment, or until it, as a duration of which only its place among the thresholds counts.
func (t *term) moving(from, now int64) reading {
	r := reading{value: duration(now - from)}
	if t.kind == termTimeUntil {
		r.value = duration(from - now)
	}
	for _, flip := range t.flips {
		if at := from + flip; at > now && (r.until == 0 || at < r.until) {
			r.until = at
		}
	}
	return r
}

// duration makes a CEL duration of milliseconds; what goes beyond its 292 years ends there.
func duration(milliseconds int64) ref.Val {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return types.Duration{Duration: time.Duration(max(-most, min(most, milliseconds))) * time.Millisecond}
}

func (t *term) readWeekday(e *evaluation) reading {
	today := DayOf(e.scope.Now, e.zone())
	in := slices.Contains(t.weekdays, WeekdayOf(today))
	day := today + 1
	for day < today+7 && slices.Contains(t.weekdays, WeekdayOf(day)) == in {
		day++
	}
	return reading{value: types.Bool(in), until: StartOfDay(day, e.zone())}
}

func (t *term) readSeries(e *evaluation) reading {
	s := e.scope.Facts.Series[e.rule.set.slots[t.slot].Key]
	if s == nil {
		return t.empty()
	}
	switch t.kind {
	case termFirst:
		return reading{value: types.Timestamp{Time: time.UnixMilli(s.First).UTC()}}
	case termLast:
		return reading{value: types.Timestamp{Time: time.UnixMilli(s.Last).UTC()}}
	case termSinceFirst:
		return t.moving(s.First, e.scope.Now)
	case termSinceLast:
		return t.moving(s.Last, e.scope.Now)
	case termTimeTo:
		return reading{value: duration(s.First - e.scope.Facts.FirstSeen)}
	case termSessions:
		return reading{value: types.Int(int64(len(s.Sessions)) + s.Dropped)}
	case termSessionLength:
		last := s.Sessions[len(s.Sessions)-1]
		return reading{value: duration(last[1] - last[0])}
	case termLongestSession:
		return reading{value: duration(s.Longest)}
	case termFollowed:
		return reading{value: types.Bool(s.Met)}
	case termNotFollowed:
		if len(s.Recent) == 0 {
			return reading{value: types.False}
		}
		return elapsed(s.Recent[0], t.length, e.scope.Now)
	case termDays:
		return t.readDays(s, e)
	case termCount, termDistinct:
		return t.readCount(s, e)
	default:
		return t.readAmounts(s, e)
	}
}

// empty is what a term says of no events at all.
func (t *term) empty() reading {
	switch t.kind {
	case termCount, termDistinct, termDays, termSessions:
		return reading{value: types.IntZero}
	case termSum:
		return reading{value: t.number(0)}
	case termLongestSession:
		return reading{value: duration(0)}
	case termFollowed, termNotFollowed:
		return reading{value: types.False}
	default:
		return no(noValue)
	}
}

// begin returns the earliest time that counts in the term's window now.
func (t *term) begin(e *evaluation) int64 {
	switch {
	case t.window > 0:
		return e.scope.Now - t.window.Milliseconds() + 1
	case t.days > 0:
		return StartOfDay(DayOf(e.scope.Now, e.zone())-int64(t.days)+1, e.zone())
	}
	return math.MinInt64
}

// leaves returns when an event at that time no longer counts; 0: never.
func (t *term) leaves(at int64, e *evaluation) int64 {
	switch {
	case t.window > 0:
		return at + t.window.Milliseconds()
	case t.days > 0:
		return StartOfDay(DayOf(at, e.zone())+int64(t.days), e.zone())
	}
	return 0
}

// overflows reports whether more lies in the term's window than the series holds, and until when.
func (t *term) overflows(s *Series, begin int64, e *evaluation) (until int64, over bool) {
	lost := s.lost(t.retention().Milliseconds())
	if t.kind == termDistinct {
		lost = s.Lost
	}
	if lost == 0 || lost < begin {
		return 0, false
	}
	return t.leaves(lost, e), true
}

// readCount counts events, or distinct values.
func (t *term) readCount(s *Series, e *evaluation) reading {
	if t.kind == termCount && !t.windowed() {
		return reading{value: types.Int(s.Count)}
	}
	begin := t.begin(e)
	if t.strict {
		if until, over := t.overflows(s, begin, e); over {
			return reading{why: tooMany, until: until}
		}
	}
	i := firstFrom(s.Recent, begin)
	r := reading{value: types.Int(len(s.Recent) - i)}
	if i < len(s.Recent) {
		r.until = t.leaves(s.Recent[i], e)
	}
	return r
}

// firstFrom returns the index of the first time that is not before begin.
func firstFrom(times []int64, begin int64) int {
	i, _ := slices.BinarySearch(times, begin)
	return i
}

func (t *term) readDays(s *Series, e *evaluation) reading {
	if t.days == 0 {
		if t.strict && s.Lost != 0 {
			return no(tooMany)
		}
		return reading{value: types.Int(len(s.Days))}
	}
	begin := DayOf(e.scope.Now, e.zone()) - int64(t.days) + 1
	if t.strict && s.Lost != 0 && s.Lost >= begin {
		return reading{why: tooMany, until: StartOfDay(s.Lost+int64(t.days), e.zone())}
	}
	i := firstFrom(s.Days, begin)
	r := reading{value: types.Int(len(s.Days) - i)}
	if i < len(s.Days) {
		r.until = StartOfDay(s.Days[i]+int64(t.days), e.zone())
	}
	return r
}

// readAmounts sums up amounts, or finds the least, the greatest or the mean.
func (t *term) readAmounts(s *Series, e *evaluation) reading {
	sums := amounts{n: s.Count - s.Beyond, low: s.Sum, high: s.High, least: s.Min, greatest: s.Max, beyond: s.Beyond > 0}
	var until int64
	if t.windowed() {
		begin := t.begin(e)
		if leaves, over := t.overflows(s, begin, e); over {
			return reading{why: tooMany, until: leaves}
		}
		i := firstFrom(s.Recent, begin)
		if i < len(s.Recent) {
			until = t.leaves(s.Recent[i], e)
		}
		sums = sumUp(s.Values[i:])
	}
	r := t.amount(sums)
	r.until = until
	return r
}

// amounts is what is known of a number of amounts, in millionths.
type amounts struct {
	n, low, high    int64
	least, greatest int64
	beyond          bool // one of them was out of range
}

func sumUp(values []int64) amounts {
	var a amounts
	for _, v := range values {
		if v == outOfRange {
			a.beyond = true
			continue
		}
		if a.n == 0 {
			a.least, a.greatest = v, v
		}
		a.n++
		a.least, a.greatest = min(a.least, v), max(a.greatest, v)
		a.low, a.high = addAmount(a.low, a.high, v)
	}
	return a
}

func (t *term) amount(a amounts) reading {
	sum, fits := total(a.low, a.high)
	switch {
	case a.beyond:
		return no(tooGreat)
	case t.kind == termSum && fits:
		return reading{value: t.number(sum)}
	case t.kind == termSum:
		return no(tooGreat)
	case a.n == 0:
		return no(noValue)
	case t.kind == termMin:
		return reading{value: t.number(a.least)}
	case t.kind == termMax:
		return reading{value: t.number(a.greatest)}
	case fits:
		return reading{value: types.Double(float64(sum) / float64(a.n) / perUnit)}
	}
	return no(tooGreat)
}

// number turns millionths into a number of the property's type.
func (t *term) number(millionths int64) ref.Val {
	if t.declared == Int {
		return types.Int(millionths / perUnit)
	}
	return types.Double(float64(millionths) / perUnit)
}

// String writes the term with what it says, for messages.
func (r reading) String() string {
	switch v := r.value.(type) {
	case nil:
		return strings.TrimPrefix(strings.TrimPrefix(r.why, " has"), " ")
	case types.Timestamp:
		return v.Time.UTC().Format(time.RFC3339)
	case types.Duration:
		return FormatDuration(v.Round(time.Second))
	default:
		return fmt.Sprint(v.Value())
	}
}
