package segment_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/segment"
)

func zone(tb testing.TB, name string) *time.Location {
	tb.Helper()
	z, ok := segment.Location(name)
	require.True(tb, ok, name)
	return z
}

func moment(tb testing.TB, text string) int64 {
	tb.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(tb, err)
	return at.UnixMilli()
}

func TestNextClock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, zone, at, clock, day, want string }{
		{"today", "Europe/Berlin", "2026-03-02T06:00:00Z", "09:00", "", "2026-03-02T08:00:00Z"},
		{"now is soon enough", "Europe/Berlin", "2026-03-02T08:00:00Z", "09:00", "", "2026-03-02T08:00:00Z"},
		{"tomorrow", "Europe/Berlin", "2026-03-02T08:00:00.001Z", "09:00", "", "2026-03-03T08:00:00Z"},
		{"Monday in Tokyo begins on Sunday in UTC", "Asia/Tokyo", "2026-03-06T00:00:00Z", "08:00", "mon", "2026-03-08T23:00:00Z"},
		{"nine o'clock stays nine o'clock over the change in spring", "America/New_York", "2026-03-08T05:00:00Z", "09:00", "", "2026-03-08T13:00:00Z"},
		{"and in autumn", "America/New_York", "2026-11-01T04:00:00Z", "09:00", "", "2026-11-01T14:00:00Z"},
		{"a time in the gap is the first moment after it", "Europe/Berlin", "2026-03-29T00:00:00Z", "02:30", "", "2026-03-29T01:00:00Z"},
		{"of two the earlier", "Europe/Berlin", "2026-10-25T00:00:00Z", "02:30", "", "2026-10-25T00:30:00Z"},
		{"a day that begins at one o'clock", "America/Asuncion", "2023-10-01T03:00:00Z", "00:00", "", "2023-10-01T04:00:00Z"},
		{"a day that an island skipped is one long gap", "Pacific/Apia", "2011-12-30T09:00:00Z", "12:00", "", "2011-12-30T10:00:00Z"},
		{"the end of February", "UTC", "2028-02-29T12:00:00Z", "09:00", "", "2028-03-01T09:00:00Z"},
	} {
		clock, err := segment.ParseClock(c.clock)
		require.NoError(t, err)
		var days []time.Weekday
		if c.day != "" {
			day, err := segment.ParseWeekday(c.day)
			require.NoError(t, err)
			days = append(days, day)
		}
		got := segment.NextClock(moment(t, c.at), clock, days, zone(t, c.zone))
		require.Equal(t, c.want, time.UnixMilli(got).UTC().Format(time.RFC3339Nano), c.name)
	}
}

func TestNextDay(t *testing.T) {
	t.Parallel()
	tokyo := zone(t, "Asia/Tokyo")
	workdays := []time.Weekday{1, 2, 3, 4, 5}
	friday := moment(t, "2026-03-06T14:59:59.999Z")
	require.Equal(t, friday, segment.NextDay(friday, workdays, tokyo))
	require.Equal(t, moment(t, "2026-03-08T15:00:00Z"), segment.NextDay(friday+1, workdays, tokyo)) // Monday begins in Tokyo
}

// Whatever the zone and the moment: by the clock of the zone, the next time is not before now, at most two days ahead, shows the
// time asked for or later where a gap swallowed it, and one millisecond earlier it does not.
func TestNextClockProperties(t *testing.T) {
	t.Parallel()
	names := []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca", "America/Santiago", "Asia/Kathmandu", "Pacific/Chatham"}
	rapid.Check(t, func(t *rapid.T) {
		z, _ := segment.Location(rapid.SampledFrom(names).Draw(t, "zone"))
		at := rapid.Int64Range(1_600_000_000_000, 1_900_000_000_000).Draw(t, "at")
		clock := segment.Clock(rapid.IntRange(0, 1439).Draw(t, "clock"))
		got := segment.NextClock(at, clock, nil, z)
		require.GreaterOrEqual(t, got, at)
		require.LessOrEqual(t, got-at, int64(25*3600*1000))
		day := segment.DayOf(got, z)
		require.Equal(t, got, clock.On(day, z))
		local := time.UnixMilli(got).In(z)
		minutes := local.Hour()*60 + local.Minute()
		require.GreaterOrEqual(t, minutes, int(clock))
		before := time.UnixMilli(got - 1).In(z)
		if segment.DayOf(got-1, z) == day {
			require.Less(t, before.Hour()*60+before.Minute(), int(clock))
		}
	})
}

func TestSpan(t *testing.T) {
	t.Parallel()
	berlin := zone(t, "Europe/Berlin")
	quiet := segment.Span{From: 21 * 60, To: 8 * 60}
	for _, c := range []struct {
		at    string
		in    bool
		until string
	}{
		{"2026-03-02T19:59:59.999Z", false, "2026-03-02T20:00:00Z"},
		{"2026-03-02T20:00:00Z", true, "2026-03-03T07:00:00Z"},
		{"2026-03-03T06:59:59.999Z", true, "2026-03-03T07:00:00Z"},
		{"2026-03-03T07:00:00Z", false, "2026-03-03T20:00:00Z"},
		{"2026-03-28T21:00:00Z", true, "2026-03-29T06:00:00Z"}, // the short night
		{"2026-10-24T20:00:00Z", true, "2026-10-25T07:00:00Z"}, // the long one
	} {
		in, until := quiet.At(moment(t, c.at), berlin)
		require.Equal(t, c.in, in, c.at)
		require.Equal(t, c.until, time.UnixMilli(until).UTC().Format(time.RFC3339Nano), c.at)
	}
}

// A span answers as the clock on the wall does, at every moment, and what it says of the next change is true.
func TestSpanProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		z, _ := segment.Location(rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "Australia/Lord_Howe"}).Draw(t, "zone"))
		s := segment.Span{From: segment.Clock(rapid.IntRange(0, 1439).Draw(t, "from")), To: segment.Clock(rapid.IntRange(0, 1439).Draw(t, "to"))}
		if s.From == s.To {
			return
		}
		at := rapid.Int64Range(1_600_000_000_000, 1_900_000_000_000).Draw(t, "at")
		in, until := s.At(at, z)
		require.Greater(t, until, at)
		still, _ := s.At(until-1, z)
		require.Equal(t, in, still)
		local := time.UnixMilli(at).In(z)
		_, today := local.Zone()
		_, before := time.UnixMilli(at - 86_400_000).In(z).Zone()
		_, after := time.UnixMilli(at + 86_400_000).In(z).Zone()
		if today != before || today != after {
			return
		}
		m := segment.Clock(local.Hour()*60 + local.Minute()) // away from a change of the clocks the wall answers plainly
		plain := m >= s.From && m < s.To
		if s.From > s.To {
			plain = m >= s.From || m < s.To
		}
		require.Equal(t, plain, in)
	})
}

func TestLocation(t *testing.T) {
	t.Parallel()
	for range 2 { // what is remembered answers as what was looked up
		for _, name := range []string{"", "Local", "Mars/Base", "../etc/passwd", strings.Repeat("x", 65)} {
			z, ok := segment.Location(name)
			require.False(t, ok, name)
			require.Nil(t, z)
		}
		require.Equal(t, "Asia/Tokyo", zone(t, "Asia/Tokyo").String())
	}
}
