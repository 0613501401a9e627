package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/onramphq/onramp/segment"
)

// moment is a time on the command line. The zero value is none.
type moment struct{ time.Time }

// UnmarshalText reads RFC 3339, or a shorter form that is taken as UTC.
func (m *moment) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.Parse(layout, string(text)); err == nil {
			m.Time = at
			return nil
		}
	}
	return fmt.Errorf("%q is not a time such as 2026-03-02T09:00:00Z, 2026-03-02T09:00 or 2026-03-02 (UTC)", text)
}

// milli is Unix milliseconds, 0 where there is no time.
func (m moment) milli() int64 {
	if m.IsZero() {
		return 0
	}
	return m.UnixMilli()
}

// location reads --zone; nil where none is given: the user's own then.
func location(name string) (*time.Location, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // see above
	}
	if strings.EqualFold(name, "local") {
		return time.Local, nil //nolint:gosmopolitan // the person at the terminal is where the machine is
	}
	zone, ok := segment.Location(name)
	if !ok {
		return nil, usagef("--zone %s is no IANA time zone such as Europe/Berlin", name)
	}
	return zone, nil
}
