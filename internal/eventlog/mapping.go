package eventlog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/onramphq/onramp/schema"
)

// Formats of an event log.
const (
	FormatCSV   = "csv"
	FormatJSONL = "jsonl"
)

// Units of the time column.
const (
	UnitAuto    = "auto" // RFC 3339 text, or a whole number whose digits tell the unit
	UnitRFC3339 = "rfc3339"
	UnitS       = "s"
	UnitMs      = "ms"
	UnitUs      = "us"
	UnitNs      = "ns"
)

// everything selects all columns or fields that nothing else takes.
const everything = "*"

// Mapping says how the rows of an event log become events. The zero value is valid: it tells the format from the file's
// name, guesses the three columns and takes no properties. A guess holds for the whole file: it is made from the header of
// CSV and from the first object of JSON Lines, so name the fields where the first object lacks some.
type Mapping struct {
	// Format is csv or jsonl. Defaults to what each file is called: .csv, .jsonl, .ndjson or .json, also with .gz.
	Format string
	// User names the column or field of the user id. Defaults to the first there is of user_id, userId, user_pseudo_id,
	// anonymous_id, distinct_id.
	User string
	// Event names that of the event name. Defaults to the first of event_name, event, name, type.
	Event string
	// Time names that of the event time. Defaults to the first of event_timestamp, timestamp, occurred_at, time, ts,
	// created_at.
	Time string
	// EventID names that of the event id. Defaults to none: Identify makes ids. Rows with an empty one have none.
	EventID string
	// TimeUnit is one of rfc3339, s, ms, us, ns, auto. A unit that is named also takes decimals. Defaults to auto.
	TimeUnit string
	// TimeLayout is a Go layout for text times, instead of TimeUnit. Defaults to RFC 3339.
	TimeLayout string
	// Zone is the IANA zone of text times that name none. Defaults to none: such times are refused.
	Zone string
	// Properties lists the columns or fields that become properties: `column`, `name=column`, or `*` for all that nothing
	// else takes. In JSON a column is a dotted path, named by its last part, and `path.*` is every member of the object
	// there. Defaults to none.
	Properties []string
	// Traits is likewise for traits. Only one of the two can be `*`.
	Traits []string
	// Delimiter parts CSV fields: one character, or `\t` or `tab`. Defaults to the comma.
	Delimiter string
	// Rename gives events the name that the playbook uses. Defaults to none: names stay.
	Rename map[string]string
}

// WithDefaults returns a copy with the defaults that do not depend on a file filled in.
func (m Mapping) WithDefaults() Mapping {
	m.TimeUnit = cmp.Or(m.TimeUnit, UnitAuto)
	m.Delimiter = cmp.Or(m.Delimiter, ",")
	if m.Delimiter == `\t` || m.Delimiter == "tab" {
		m.Delimiter = "\t"
	}
	return m
}

// Validate returns all that is wrong with m, joined, each naming the field; nil where nothing is.
func (m Mapping) Validate() error {
	m = m.WithDefaults()
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if m.Format != "" && m.Format != FormatCSV && m.Format != FormatJSONL {
		bad("format %q is neither %s nor %s", m.Format, FormatCSV, FormatJSONL)
	}
	units := []string{UnitRFC3339, UnitS, UnitMs, UnitUs, UnitNs, UnitAuto}
	if !slices.Contains(units, m.TimeUnit) {
		bad("time unit %q is not one of %s", m.TimeUnit, strings.Join(units, ", "))
	} else if m.TimeLayout != "" && m.TimeUnit != UnitAuto && m.TimeUnit != UnitRFC3339 {
		bad("time unit %s is for numbers and a time layout for text: give one of them", m.TimeUnit)
	}
	if r, n := utf8.DecodeRuneInString(m.Delimiter); n != len(m.Delimiter) || r == utf8.RuneError || strings.ContainsRune("\"\r\n", r) {
		bad("delimiter %q is not one character other than a quote or a line break", m.Delimiter)
	}
	if _, err := m.clock(); err != nil {
		problems = append(problems, err)
	}
	for _, what := range []struct {
		name string
		list []string
	}{{"properties", m.Properties}, {"traits", m.Traits}} {
		problems = append(problems, checkSelectors(what.name, what.list)...)
	}
	if slices.Contains(m.Properties, everything) && slices.Contains(m.Traits, everything) {
		bad("properties and traits cannot both be %q", everything)
	}
	for _, from := range slices.Sorted(maps.Keys(m.Rename)) {
		if to := m.Rename[from]; from == "" || to == "" || len(to) > schema.MaxEventName {
			bad("rename %q to %q: an event name has 1 to %d bytes", from, to, schema.MaxEventName)
		}
	}
	return errors.Join(problems...)
}

// selector is one entry of Properties or Traits, taken apart.
type selector struct {
	name string // as written before the =; empty without one
	path string // the column or the dotted path
}

func parseSelector(text string) selector {
	if name, path, renamed := strings.Cut(text, "="); renamed {
		return selector{name: strings.TrimSpace(name), path: strings.TrimSpace(path)}
	}
	return selector{path: text}
}

// isMany tells selectors of several fields at once: `*` and `path.*`.
func (s selector) isMany() bool {
	return s.path == everything || strings.HasSuffix(s.path, "."+everything)
}

func checkSelectors(what string, list []string) []error {
	var problems []error
	seen := map[string]bool{}
	for _, text := range list {
		s := parseSelector(text)
		name := cmp.Or(s.name, s.path)
		switch {
		case s.path == "" || strings.HasPrefix(text, "="):
			problems = append(problems, fmt.Errorf("%s: %q is neither a column nor name=column", what, text))
		case s.isMany() && s.name != "":
			problems = append(problems, fmt.Errorf("%s: %q names many fields, which cannot share one name", what, text))
		case seen[name]:
			problems = append(problems, fmt.Errorf("%s: %q is there twice", what, name))
		}
		seen[name] = true
	}
	return problems
}

// role is one of the columns that make an event.
type role struct {
	person string // in messages
	flag   string
	given  string
	common []string // names to guess, best first
}

// roles returns the three that every row must have.
func (m Mapping) roles() [3]role {
	return [3]role{
		{"the user", "--user", m.User, []string{"user_id", "userId", "user_pseudo_id", "anonymous_id", "distinct_id"}},
		{"the event name", "--event", m.Event, []string{"event_name", "event", "name", "type"}},
		{"the time", "--time", m.Time, []string{"event_timestamp", "timestamp", "occurred_at", "time", "ts", "created_at"}},
	}
}

// columns returns m with the names that were not given guessed from those that file has, or an error for every one that
// does not fit. With wants, names that were given must be among them too.
func (m Mapping) columns(file string, have []string, wants bool) (Mapping, error) {
	var problems []error
	var names [3]string
	for i, r := range m.roles() {
		names[i] = r.given
		if r.given == "" {
			at := slices.IndexFunc(r.common, func(name string) bool { return slices.Contains(have, name) })
			if at < 0 {
				problems = append(problems, fmt.Errorf("no column for %s in %s: columns are %s; name it with %s",
					r.person, file, list(have), r.flag))
				continue
			}
			names[i] = r.common[at]
		} else if wants && !slices.Contains(have, r.given) {
			problems = append(problems, fmt.Errorf("no column %q for %s in %s: columns are %s; name it with %s",
				r.given, r.person, file, list(have), r.flag))
		}
	}
	m.User, m.Event, m.Time = names[0], names[1], names[2]
	return m, errors.Join(problems...)
}

// list shows names in a message: cleaned, and not more than fit one.
func list(names []string) string {
	const most = 40
	shown := make([]string, 0, min(len(names), most)+1)
	for i, name := range names {
		if i == most {
			shown = append(shown, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		shown = append(shown, schema.Clean(name))
	}
	return strings.Join(shown, ", ")
}
