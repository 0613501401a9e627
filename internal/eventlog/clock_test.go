package eventlog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/eventlog"
)

func TestTime(t *testing.T) {
	t.Parallel()
	const german = "02.01.2006 15:04:05"
	cases := []struct {
		name, unit, layout, zone, in string
		want                         string // the instant, or a piece of the message after !
	}{
		{"seconds by digits", "", "", "", "1538405774", "2018-10-01T14:56:14Z"},
		{"milliseconds by digits", "", "", "", "1538405774195", "2018-10-01T14:56:14.195Z"},
		{"microseconds by digits", "", "", "", "1538405774195002", "2018-10-01T14:56:14.195002Z"},
		{"nanoseconds by digits, exact", "", "", "", "1538405774195002001", "2018-10-01T14:56:14.195002001Z"},
		{"spaces around", "", "", "", " 1538405774 ", "2018-10-01T14:56:14Z"},
		{"a day as a number", "", "", "", "20181001", "!neither 10 (s), 13 (ms), 16 (us) nor 19 (ns) digits"},
		{"twelve digits", "", "", "", "153840577419", "!name the unit with --time-unit"},
		{"decimals without a unit", "", "", "", "1538405774.5", "!name the unit"},
		{"ten characters with a point", "", "", "", "15384057.4", "!name the unit"},
		{"beyond 64 bits", "", "", "", "9999999999999999999", "!does not fit 64 bits"},
		{"negative", "", "", "", "-1538405774", "!is not an RFC 3339 time"},
		{"exponent", "s", "", "", "1.5e9", "!is not a number of s since 1970"},

		{"a unit beats the digits", "ms", "", "", "1538405774", "1970-01-18T19:20:05.774Z"},
		{"decimals of seconds, exact", "s", "", "", "1538405774.195002001", "2018-10-01T14:56:14.195002001Z"},
		{"decimals of milliseconds", "ms", "", "", "1538405774195.002", "2018-10-01T14:56:14.195002Z"},
		{"decimals of microseconds", "us", "", "", "1538405774195002.001000", "2018-10-01T14:56:14.195002001Z"},
		{"decimals of nanoseconds", "ns", "", "", "1538405774195002001.5", "!finer than a nanosecond"},
		{"zero decimals of nanoseconds", "ns", "", "", "1538405774195002001.0", "2018-10-01T14:56:14.195002001Z"},
		{"a point and nothing", "s", "", "", "1538405774.", "!is not a number"},
		{"nothing and a point", "s", "", "", ".5", "!is not a number"},
		{"two points", "s", "", "", "1.5.5", "!is not a number"},
		{"text for a number", "s", "", "", "2018-10-01T14:56:14Z", "!is not a number"},
		{"year 10000", "s", "", "", "253402300800", "!lies outside the years"},
		{"number for text", "rfc3339", "", "", "1538405774", "!is not an RFC 3339 time"},

		{"RFC 3339", "", "", "", "2018-10-01T14:56:14.195002001Z", "2018-10-01T14:56:14.195002001Z"},
		{"RFC 3339 with an offset", "", "", "", "2018-10-01T17:56:14+03:00", "2018-10-01T14:56:14Z"},
		{"RFC 3339 with a space", "", "", "", "2018-10-01 17:56:14.5+03:00", "2018-10-01T14:56:14.5Z"},
		{"an offset beats the zone", "", "", "Europe/Berlin", "2018-10-01T17:56:14+03:00", "2018-10-01T14:56:14Z"},
		{"comma", "", "", "", "2018-10-01T14:56:14,5Z", "!is not an RFC 3339 time"},
		{"small z", "", "", "", "2018-10-01T14:56:14z", "!is not an RFC 3339 time"},
		{"hour of one digit", "", "", "", "2018-10-01T4:56:14.00Z", "!is not an RFC 3339 time"},
		{"30 February", "", "", "", "2018-02-30T14:56:14Z", "!is not an RFC 3339 time"},
		{"leap second", "", "", "", "2016-12-31T23:59:60Z", "!is not an RFC 3339 time"},
		{"year 0", "", "", "", "0000-12-31T23:59:59Z", "!lies outside the years"},
		{"no zone", "", "", "", "2018-10-01T14:56:14", "!names no zone; name it with --zone"},
		{"no zone but one given", "", "", "Europe/Berlin", "2018-10-01 14:56:14.25", "2018-10-01T12:56:14.25Z"},
		{"nothing", "", "", "", "  ", "!is missing or empty"},

		{"gap", "", "", "Europe/Berlin", "2026-03-29T02:30:00", "!never was on a clock in Europe/Berlin"},
		{"just before the gap", "", "", "Europe/Berlin", "2026-03-29T01:59:59", "2026-03-29T00:59:59Z"},
		{"just after the gap", "", "", "Europe/Berlin", "2026-03-29T03:00:00", "2026-03-29T01:00:00Z"},
		{"of a repeated hour the earlier", "", "", "Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00Z"},
		{"of a repeated hour the earlier, west", "", "", "America/New_York", "2026-11-01T01:30:00", "2026-11-01T05:30:00Z"},
		{"gap of half an hour", "", "", "Australia/Lord_Howe", "2026-10-04T02:15:00", "!never was on a clock"},
		{"a skipped day", "", "", "Pacific/Apia", "2011-12-30T12:00:00", "!never was on a clock"},

		{"layout", "", german, "Europe/Berlin", "01.10.2018 14:56:14", "2018-10-01T12:56:14Z"},
		{"layout in a gap", "", german, "Europe/Berlin", "29.03.2026 02:30:00", "!never was on a clock"},
		{"layout does not fit", "", german, "UTC", "2018-10-01", "!does not have the layout"},
		{"layout of a day", "", "2006-01-02", "UTC", "2018-10-01", "2018-10-01T00:00:00Z"},
		{"layout with an offset", "", "2006-01-02 15:04 -0700", "", "2018-10-01 17:56 +0300", "2018-10-01T14:56:00Z"},
		{"layout with a zone name", "", "2006-01-02 15:04 MST", "Europe/Berlin", "2026-10-25 02:30 CET", "2026-10-25T01:30:00Z"},
		{"layout with UTC", "", "2006-01-02 15:04 MST", "", "2018-10-01 14:56 UTC", "2018-10-01T14:56:00Z"},
		{"a zone name nobody knows", "", "2006-01-02 15:04 MST", "", "2018-10-01 14:56 CET", `!names the zone "CET"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := eventlog.Mapping{TimeUnit: c.unit, TimeLayout: c.layout, Zone: c.zone}
			l := readText(t, "log.csv", "user_id,event,time\nu1,a,"+`"`+c.in+`"`+"\n", m)
			require.NoError(t, l.err)
			if message, wrong := strings.CutPrefix(c.want, "!"); wrong {
				require.Len(t, l.rejects, 1)
				require.Equal(t, "bad_timestamp", l.rejects[0].Reason)
				require.Contains(t, l.rejects[0].Message, message)
				return
			}
			require.Empty(t, l.rejects)
			require.Equal(t, c.want, l.records[0].At.Format("2006-01-02T15:04:05.999999999Z07:00"))
		})
	}
}
