package results

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/experiment"
)

// minus is wider than a hyphen, so that signed numbers of one column stand alike.
const minus = "−"

// fixed writes a number with so many decimals, without a sign before zero.
func fixed(v float64, decimals int) string {
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Trim(text, "-0.") == "" {
		text = strings.TrimPrefix(text, "-")
	}
	return strings.Replace(text, "-", minus, 1)
}

// plus puts a plus before a number above zero.
func plus(v float64, text string) string {
	if v > 0 && strings.Trim(text, "0.") != "" {
		return "+" + text
	}
	return text
}

// percent writes a share: 44.82 %. The decimals follow the size, so that a small share keeps its digits.
func percent(v float64) string { return fixed(100*v, percentDecimals(v)) + " %" }

func percentDecimals(v float64) int {
	switch a := math.Abs(v); {
	case a >= 10:
		return 0
	case a >= 1 || a == 0:
		return 1
	case a >= 0.001:
		return 2
	default:
		return 3
	}
}

// plain writes a share that a person chose: 95 %.
func plain(v float64) string { return strconv.FormatFloat(math.Round(v*1e6)/1e4, 'f', -1, 64) + " %" }

// lift writes a relative effect: +15.2 %.
func lift(v float64) string {
	decimals := 1
	switch a := math.Abs(v); {
	case a >= 10:
		decimals = 0
	case a < 0.1:
		decimals = 2
	}
	return plus(v, fixed(100*v, decimals)) + " %"
}

// amount writes a value in its unit. A metric without a unit is a share.
func amount(v float64, unit string) string {
	if unit == "" {
		return percent(v)
	}
	return digits(v) + " " + unit
}

// change writes a difference of values in their unit, of shares in percentage points.
func change(v float64, unit string) string {
	if unit == "" {
		return plus(v, fixed(100*v, 3)) + " pp"
	}
	return plus(v, digits(v)) + " " + unit
}

// digits writes a number with four digits that matter, and all before the point.
func digits(v float64) string {
	a := math.Abs(v)
	switch {
	case a == 0:
		return "0"
	case a >= 1e9 || a < 1e-4:
		return strings.Replace(strconv.FormatFloat(v, 'g', 4, 64), "-", minus, 1)
	case a >= 1000:
		return fixed(v, 0)
	case v == math.Trunc(v):
		return fixed(v, 0)
	default:
		return fixed(v, max(0, 3-int(math.Floor(math.Log10(a)))))
	}
}

// pvalue writes a p-value with two digits that matter.
func pvalue(p float64) string {
	switch {
	case p >= 0.995:
		return "1.0"
	case p >= 0.0995:
		return fixed(p, 2)
	case p >= 0.00005:
		return strconv.FormatFloat(p, 'g', 2, 64)
	case p <= 0:
		return "0"
	default:
		return strconv.FormatFloat(p, 'e', 0, 64)
	}
}

// amounts, changes and lifts write intervals; the unit stands once. An end that is open is said to be none.
func amounts(b experiment.Bounds, unit string) string {
	if unit == "" {
		return bounds(b, percent, "")
	}
	return bounds(b, digits, " "+unit)
}

func changes(b experiment.Bounds, unit string) string {
	if unit == "" {
		return bounds(b, func(v float64) string { return plus(v, fixed(100*v, 3)) }, " pp")
	}
	return bounds(b, func(v float64) string { return plus(v, digits(v)) }, " "+unit)
}

func lifts(b experiment.Bounds) string { return bounds(b, lift, "") }

func bounds(b experiment.Bounds, write func(float64) string, unit string) string {
	switch {
	case b.LowOpen && b.HighOpen:
		return "anything"
	case b.LowOpen:
		return "up to " + write(b.High) + unit
	case b.HighOpen:
		return write(b.Low) + unit + " and more"
	default:
		return write(b.Low) + " to " + write(b.High) + unit
	}
}

// significant writes a p-value with three digits that matter, to compare it with one that was published.
func significant(p float64) string { return strconv.FormatFloat(p, 'g', 3, 64) }

// exact writes a result of the arithmetic with all digits that a reader can compare.
func exact(v float64) string {
	return strings.Replace(strconv.FormatFloat(v, 'g', 10, 64), "-", minus, 1)
}

// count writes a number in groups of three digits.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = minus, text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// people writes how many users there are.
func people(n int64) string {
	if n == 1 {
		return "1 user"
	}
	return count(n) + " users"
}

// date and moment write Unix milliseconds.
func date(ms int64) string   { return time.UnixMilli(ms).UTC().Format("2 January 2006") }
func moment(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04 UTC") }

// lasted writes how long something went on.
func lasted(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	default:
		return d.Round(time.Second).String()
	}
}

func shortDay(ms int64) string  { return time.UnixMilli(ms).UTC().Format("2 Jan") }
func shortTime(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04") }
