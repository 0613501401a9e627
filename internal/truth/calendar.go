package truth

import (
	"slices"
	"time"
)

// zoneNames are the zones of a case. Their offsets are whole hours, before and after the clocks change.
func zoneNames() []string { return []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"} }

// zones are the locations of zoneNames. Names that are none of them name no zone.
func zones() map[string]*time.Location {
	known := make(map[string]*time.Location)
	for _, name := range zoneNames() {
		if zone, err := time.LoadLocation(name); err == nil {
			known[name] = zone
		}
	}
	return known
}

// date is a calendar day: days since 1970-01-01.
func date(at int64, zone *time.Location) int64 {
	y, m, d := time.UnixMilli(at).In(zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).UnixMilli() / day
}

func weekday(at int64, zone *time.Location) string {
	return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}[time.UnixMilli(at).In(zone).Weekday()]
}

// shows returns the first full hour not before at at which the clocks of a zone show an hour of the day on one of the weekdays,
// the first time that day; where the clocks skip it, the first hour after.
func shows(at int64, clock int, days []string, zone *time.Location) int64 {
	for h := (at + hour - 1) / hour * hour; ; h += hour {
		first := time.UnixMilli(h).In(zone).Hour() >= clock && among(weekday(h, zone), days)
		for back := h - hour; first && date(back, zone) == date(h, zone); back -= hour {
			first = time.UnixMilli(back).In(zone).Hour() < clock
		}
		if first {
			return h
		}
	}
}

// among reports whether a list that is empty for all holds a weekday.
func among(name string, days []string) bool { return len(days) == 0 || slices.Contains(days, name) }
