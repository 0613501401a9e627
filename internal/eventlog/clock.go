package eventlog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/schema"
)

// clock turns what a log says into an instant, exactly.
type clock struct {
	unit   string
	layout string
	zone   *time.Location // nil without one
}

// clock checks the three settings of time and puts them together.
func (m Mapping) clock() (clock, error) {
	c := clock{unit: m.TimeUnit, layout: m.TimeLayout}
	if m.Zone != "" {
		zone, err := time.LoadLocation(m.Zone)
		if err != nil || m.Zone == "Local" { // the zone of whoever runs it would make two replays differ
			return c, fmt.Errorf("zone %q is not an IANA zone such as Europe/Berlin or UTC", m.Zone)
		}
		c.zone = zone
	}
	if c.layout == "" {
		return c, nil
	}
	probe := time.Date(2021, time.November, 23, 22, 34, 0, 0, time.UTC)
	read, err := time.Parse(c.layout, probe.Format(c.layout))
	day := probe.Truncate(24 * time.Hour)
	if err != nil || !read.Equal(probe) && !read.Equal(day) {
		return c, fmt.Errorf("time layout %q is not a Go layout of date and time of day such as 2006-01-02 15:04:05", c.layout)
	}
	if c.zone == nil && !hasOffset(c.layout) && !strings.Contains(c.layout, "MST") {
		return c, fmt.Errorf("time layout %q has no zone: name the zone too", c.layout)
	}
	return c, nil
}

func hasOffset(layout string) bool {
	return strings.Contains(layout, "Z07") || strings.Contains(layout, "-07")
}

// parse returns the instant that text names, in UTC, or an error that says what is wrong without naming the column.
func (c clock) parse(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	at, err := c.read(text)
	if err == nil && (at.UTC().Year() < 1 || at.UTC().Year() > 9999) {
		err = fmt.Errorf("lies outside the years 1 to 9999: %q", schema.Clean(text))
	}
	return at.UTC(), err
}

func (c clock) read(text string) (time.Time, error) {
	isNumber := strings.Trim(text, "0123456789.") == ""
	switch {
	case text == "":
		return time.Time{}, errors.New("is missing or empty")
	case c.layout != "":
		return c.byLayout(text)
	case c.unit == UnitRFC3339 || c.unit == UnitAuto && !isNumber:
		return c.rfc3339(text)
	case c.unit == UnitAuto:
		unit := unitOf(text)
		if unit == "" {
			return time.Time{}, fmt.Errorf("is a number of neither 10 (s), 13 (ms), 16 (us) nor 19 (ns) digits; name the unit with --time-unit: %q", schema.Clean(text))
		}
		return number(text, unit)
	default:
		return number(text, c.unit)
	}
}

// unitOf tells the unit of a time between 2001 and 2286 by its digits; empty for any other text.
func unitOf(text string) string {
	if strings.Contains(text, ".") {
		return ""
	}
	switch len(text) {
	case 10:
		return UnitS
	case 13:
		return UnitMs
	case 16:
		return UnitUs
	case 19:
		return UnitNs
	default:
		return ""
	}
}

// number reads a count of units since 1970, with decimals down to the nanosecond, in integers only: a float64 holds 53
// bits and would move a 19-digit time by up to 128 ns, enough to swap two events.
func number(text, unit string) (time.Time, error) {
	decimals := map[string]int{UnitS: 9, UnitMs: 6, UnitUs: 3, UnitNs: 0}[unit] // digits of a unit's nanoseconds
	whole, fraction, dotted := strings.Cut(text, ".")
	fraction = strings.TrimRight(fraction, "0")
	isDigits := whole != "" && strings.Trim(whole+fraction, "0123456789") == "" && (!dotted || !strings.HasSuffix(text, "."))
	count, err := strconv.ParseInt(whole, 10, 64)
	switch {
	case !isDigits:
		return time.Time{}, fmt.Errorf("is not a number of %s since 1970: %q", unit, schema.Clean(text))
	case err != nil:
		return time.Time{}, fmt.Errorf("does not fit 64 bits: %q", schema.Clean(text))
	case len(fraction) > decimals:
		return time.Time{}, fmt.Errorf("is finer than a nanosecond: %q", schema.Clean(text))
	}
	perSecond, nanos := int64(1), int64(1)
	for range 9 - decimals {
		perSecond *= 10
	}
	for range decimals {
		nanos *= 10
	}
	rest, err := strconv.ParseInt("0"+fraction+strings.Repeat("0", decimals-len(fraction)), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("is not a number of %s since 1970: %q", unit, schema.Clean(text))
	}
	return time.Unix(count/perSecond, count%perSecond*nanos+rest), nil
}

// rfc3339 reads RFC 3339 as ingestion does, and with a space for the T, as databases print it. With a zone it also takes
// times that name none.
func (c clock) rfc3339(text string) (time.Time, error) {
	const shape = "2006-01-02T15:04:05"
	wrong := func() error {
		return fmt.Errorf("is not an RFC 3339 time with a zone, such as 2026-11-24T09:00:00Z: %q", schema.Clean(text))
	}
	if len(text) < len(shape) || text[13] != ':' || text[16] != ':' || strings.ContainsAny(text, ",z") {
		return time.Time{}, wrong() // Go alone also reads hours of one digit and a comma before the fraction
	}
	if text[10] == ' ' {
		text = text[:10] + "T" + text[11:]
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	wall, err := time.Parse(shape, text)
	switch {
	case err != nil:
		return time.Time{}, wrong()
	case c.zone == nil:
		return time.Time{}, fmt.Errorf("names no zone; name it with --zone: %q", schema.Clean(text))
	default:
		return local(wall, c.zone)
	}
}

func (c clock) byLayout(text string) (time.Time, error) {
	zone := c.zone
	if zone == nil {
		zone = time.UTC
	}
	at, err := time.ParseInLocation(c.layout, text, zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("does not have the layout %q: %q", c.layout, schema.Clean(text))
	}
	if hasOffset(c.layout) {
		return at, nil
	}
	if strings.Contains(c.layout, "MST") {
		// Go makes a zone of offset 0 out of a name it does not know, which would move the event by hours in silence.
		name, _ := at.Zone()
		if at.Location() != zone && at.Location() != time.UTC && !strings.HasPrefix(name, "GMT") {
			return time.Time{}, fmt.Errorf("names the zone %q, which zone %s does not have: %q", schema.Clean(name), zone, schema.Clean(text))
		}
		return at, nil
	}
	wall, err := time.Parse(c.layout, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("does not have the layout %q: %q", c.layout, schema.Clean(text))
	}
	return local(wall, zone)
}

// local returns the instant at which clocks of zone show what wall shows in UTC: the earlier of two where they were put
// back, an error where they were put forward and no clock ever showed it. time.Date promises neither.
func local(wall time.Time, zone *time.Location) (time.Time, error) {
	var found time.Time
	for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := wall.Add(near).In(zone).Zone()
		at := wall.Add(-time.Duration(offset) * time.Second)
		if _, there := at.In(zone).Zone(); there == offset && (found.IsZero() || at.Before(found)) {
			found = at
		}
	}
	if found.IsZero() {
		return time.Time{}, fmt.Errorf("never was on a clock in %s, which skipped it: %s", zone, wall.Format("2006-01-02T15:04:05"))
	}
	return found, nil
}
