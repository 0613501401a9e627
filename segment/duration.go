package segment

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bounds of a duration in rules and journeys.
const (
	MinDuration = time.Second
	MaxDuration = 2 * 365 * 24 * time.Hour
)

// ParseDuration reads a duration as people write it: days and weeks besides Go's units, such as `3d`, `1w`, `36h`, `1d12h`.
// A day is 24 hours. It returns an error for durations outside MinDuration and MaxDuration.
func ParseDuration(text string) (time.Duration, error) {
	var total time.Duration
	rest := text
	for _, unit := range []struct {
		suffix string
		length time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, after, found := strings.Cut(rest, unit.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration such as 3d, 36h or 90m", text)
		}
		total += time.Duration(n) * unit.length
		rest = after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration such as 3d, 36h or 90m", text)
		}
		total += d
	}
	if total < MinDuration || total > MaxDuration {
		return 0, fmt.Errorf("%q lies outside 1s and 730d", text)
	}
	return total, nil
}

// FormatDuration writes d as ParseDuration reads it, in the largest units that fit.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%time.Hour == 0 {
		text := fmt.Sprintf("%dd", d/day)
		if h := d % day / time.Hour; h > 0 {
			text += fmt.Sprintf("%dh", h)
		}
		return text
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
