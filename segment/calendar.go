package segment

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	_ "time/tzdata" // the same zones on machines that have none of their own
)

// Clock is a time of day in minutes after midnight, 0 to 1439.
type Clock int

const (
	minutesOfDay = 24 * 60
	secondsOfDay = 24 * 60 * 60
)

// ParseClock reads a time of day such as `09:30`.
func ParseClock(text string) (Clock, error) {
	at, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time of day such as 09:30", text)
	}
	return Clock(at.Hour()*60 + at.Minute()), nil
}

// String writes c as ParseClock reads it.
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", c/60, c%60) }

// ParseWeekday reads mon, tue, wed, thu, fri, sat or sun.
func ParseWeekday(text string) (time.Weekday, error) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.ToLower(day.String()[:3]) == text {
			return day, nil
		}
	}
	return 0, fmt.Errorf("%q is not a weekday; they are mon, tue, wed, thu, fri, sat, sun", text)
}

// locations remembers the names that were asked for, those of no zone as nil: loading one reads a table, and the answer never
// changes. Names come from users, and there is no end of wrong ones, so only the first wrongNamesKept of them are remembered.
var (
	locations  sync.Map     //nolint:gochecknoglobals // see above
	wrongNames atomic.Int64 //nolint:gochecknoglobals // see above
)

const wrongNamesKept = 1000

// Location returns the zone of an IANA name, false where there is none of that name. `Local` is none: it would mean another zone
// on every machine.
func Location(name string) (*time.Location, bool) {
	if known, ok := locations.Load(name); ok {
		zone, _ := known.(*time.Location) //nolint:errcheck // nothing else is stored
		return zone, zone != nil
	}
	if name == "" || name == "Local" || len(name) > 64 {
		return nil, false
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		if wrongNames.Add(1) <= wrongNamesKept {
			locations.Store(name, (*time.Location)(nil))
		}
		return nil, false
	}
	locations.Store(name, zone)
	return zone, true
}

// DayOf numbers the calendar day of a moment (Unix milliseconds) in a zone: 0 is 1970-01-01.
func DayOf(at int64, zone *time.Location) int64 {
	year, month, day := time.UnixMilli(at).In(zone).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / secondsOfDay
}

// WeekdayOf returns the weekday of a day as DayOf numbers it.
func WeekdayOf(day int64) time.Weekday { return time.Weekday(((day+4)%7 + 7) % 7) }

// On returns the moment, in Unix milliseconds, at which a zone's clocks first show c or later on a day as DayOf numbers it. In a
// gap that is the first moment after it; of two moments in an overlap, the earlier.
func (c Clock) On(day int64, zone *time.Location) int64 {
	wall := day*secondsOfDay + int64(c)*60
	t := time.Unix(wall-2*secondsOfDay, 0).In(zone) // before the moment in every zone
	for {
		start, end := t.ZoneBounds()
		_, offset := t.Zone()
		at := time.Unix(wall-int64(offset), 0)
		if !end.IsZero() && !at.Before(end) {
			t = end
			continue
		}
		if at.Before(start) {
			at = start
		}
		return at.UnixMilli()
	}
}

// StartOfDay returns the first moment of a day as DayOf numbers it.
func StartOfDay(day int64, zone *time.Location) int64 { return Clock(0).On(day, zone) }

// NextClock returns the first moment not before at when a zone's clocks show c on one of the weekdays; with no weekdays, on any.
func NextClock(at int64, c Clock, days []time.Weekday, zone *time.Location) int64 {
	for day := DayOf(at, zone); ; day++ {
		if moment := c.On(day, zone); moment >= at && onDay(day, days) {
			return moment
		}
	}
}

// NextDay returns at itself if it lies on one of the weekdays, else the first moment of the next day that does.
func NextDay(at int64, days []time.Weekday, zone *time.Location) int64 {
	day := DayOf(at, zone)
	if onDay(day, days) {
		return at
	}
	for day++; !onDay(day, days); day++ {
	}
	return StartOfDay(day, zone)
}

func onDay(day int64, days []time.Weekday) bool {
	if len(days) == 0 {
		return true
	}
	for _, d := range days {
		if d == WeekdayOf(day) {
			return true
		}
	}
	return false
}

// Span is a part of every day by the clock, from From up to To; it may go over midnight.
type Span struct{ From, To Clock }

// At reports whether a moment lies in the span, and when that next changes.
func (s Span) At(at int64, zone *time.Location) (in bool, until int64) {
	day := DayOf(at, zone)
	last := int64(-1 << 62)
	for d := day - 1; d <= day+1; d++ {
		from, to := s.From.On(d, zone), s.To.On(d, zone)
		if from <= at && from > last {
			in, last = true, from
		}
		if to <= at && to >= last {
			in, last = false, to
		}
		for _, moment := range []int64{from, to} {
			if moment > at && (until == 0 || moment < until) {
				until = moment
			}
		}
	}
	return in, until
}
