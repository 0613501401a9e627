package segment

import (
	"time"

	"cel.dev/cel-go/cel"
)

type termKind int8

const (
	termCount termKind = iota
	termFirst
	termLast
	termSinceFirst
	termSinceLast
	termSum
	termMin
	termMax
	termAvg
	termDistinct
	termDays
	termSessions
	termSessionLength
	termLongestSession
	termFollowed
	termNotFollowed
	termTimeTo
	termInactive
	termSeen
	termScore
	termTimeSince
	termTimeUntil
	termSegment
	termSegmentFor
	termVariant
	termLocalTime
	termLocalWeekday
)

// term is a sub-expression that reads the user. The parser replaces it by a variable.
type term struct {
	kind      termKind
	variable  string
	text      string // as a person would write it, with the durations in force
	selection        // of what reads a series
	slot      int
	second    selection     // what must follow, or not
	length    time.Duration // of sessions their gap; of others what they ask for
	name      string        // of a segment, experiment or score; or the trait that is read
	property  string
	declared  Type // of property
	span      Span
	weekdays  []time.Weekday

	flips  []int64 // of a moving duration: the milliseconds from the moment it counts from, or to, at which a comparison turns
	strict bool    // more than is kept must not pass for what is kept: the value goes into more than a comparison with a number
}

func (t *term) celType() *cel.Type {
	switch t.kind {
	case termCount, termDistinct, termDays, termSessions:
		return cel.IntType
	case termFirst, termLast:
		return cel.TimestampType
	case termSinceFirst, termSinceLast, termTimeTo, termTimeSince, termTimeUntil, termSessionLength, termLongestSession:
		return cel.DurationType
	case termSum, termMin, termMax:
		return t.declared.cel()
	case termAvg, termScore:
		return cel.DoubleType
	case termVariant:
		return cel.StringType
	default:
		return cel.BoolType
	}
}

// moves reports whether the term is a duration that grows or shrinks with every moment.
func (t *term) moves() bool {
	switch t.kind {
	case termSinceFirst, termSinceLast, termTimeSince, termTimeUntil:
		return true
	default:
		return false
	}
}

// zoned reports whether the term depends on where the user lives.
func (t *term) zoned() bool {
	return t.kind == termLocalTime || t.kind == termLocalWeekday || t.days > 0
}

// bound returns how many of the things that the term counts are kept; 0 where all are.
func (t *term) bound() int64 {
	switch t.kind {
	case termCount:
		if t.windowed() {
			return KeepRecent
		}
	case termDistinct:
		return KeepDistinct
	case termDays:
		return KeepRecent
	case termSessions:
		return KeepSessions
	default: // the others do not count
	}
	return 0
}
