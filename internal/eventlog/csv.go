package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/onramphq/onramp/schema"
)

func (f *file) readCSV(ctx context.Context) error {
	rows := &csvRows{lines: f.lines, delimiter: []byte(f.mapping.Delimiter)}
	header, err := rows.next()
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("read %s: it is empty: a header with the names of the columns is needed", f.name)
	case err != nil:
		return fmt.Errorf("read %s: %w", f.name, f.lines.broken(err))
	case header.fault != nil:
		return fmt.Errorf("read %s: line %d: read the header: %s", f.name, header.number, header.fault.Message)
	}
	rows.width = len(header.fields)
	columns, err := f.bindCSV(header.fields)
	if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	for {
		if err := f.stopped(ctx); err != nil {
			return err
		}
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.name, f.lines.broken(err))
		}
		if err := f.takeCSV(row, columns); err != nil {
			return err
		}
	}
}

func (f *file) takeCSV(row csvRow, columns *csvColumns) error {
	if row.fault != nil {
		return f.refuse(row.number, row.raw, row.fault)
	}
	at, err := f.clock.parse(row.fields[columns.time])
	if err != nil {
		return f.refuse(row.number, row.raw, refusal(schema.ReasonBadTimestamp, "occurred_at", "%v", err))
	}
	d := draft{user: row.fields[columns.user], event: row.fields[columns.event], at: at}
	if columns.id >= 0 {
		d.id = row.fields[columns.id]
	}
	d.properties = appendColumns(row.fields, columns.properties)
	d.traits = appendColumns(row.fields, columns.traits)
	return f.accept(row.number, row.raw, d)
}

// csvColumns says at which index of a row what stands.
type csvColumns struct {
	user, event, time, id int // id is -1 without one
	properties, traits    []csvProperty
}

type csvProperty struct {
	key   []byte // the name as JSON, with the colon
	index int
}

func (f *file) bindCSV(header []string) (*csvColumns, error) {
	names := make([]string, len(header))
	for i, name := range header {
		names[i] = strings.TrimSpace(name)
	}
	m, err := f.mapping.columns(f.name, names, true)
	if err != nil {
		return nil, hintDelimiter(err, names, m.Delimiter)
	}
	f.useColumns(m)
	var problems []error
	index := func(name string) int {
		at := slices.Index(names, name)
		switch {
		case at < 0:
			problems = append(problems, fmt.Errorf("no column %q in %s: columns are %s", name, f.name, list(names)))
		case slices.Contains(names[at+1:], name):
			problems = append(problems, fmt.Errorf("column %q is there twice in the header of %s", name, f.name))
		}
		return at
	}
	c := &csvColumns{user: index(m.User), event: index(m.Event), time: index(m.Time), id: -1}
	if m.EventID != "" {
		c.id = index(m.EventID)
	}
	taken := map[string]bool{m.User: true, m.Event: true, m.Time: true, m.EventID: true, "": true}
	for _, text := range slices.Concat(m.Properties, m.Traits) {
		taken[parseSelector(text).path] = true
	}
	bind := func(selectors []string) []csvProperty {
		var bound []csvProperty
		for _, text := range selectors {
			s := parseSelector(text)
			if s.path != everything {
				bound = append(bound, csvProperty{keyOf(s.name, s.path), index(s.path)})
				continue
			}
			for _, name := range names {
				if !taken[name] {
					bound = append(bound, csvProperty{keyOf("", name), index(name)})
				}
			}
		}
		return bound
	}
	c.properties, c.traits = bind(m.Properties), bind(m.Traits)
	return c, errors.Join(problems...)
}

// hintDelimiter adds to the error of a header what is probably wrong with it: another delimiter leaves one column.
func hintDelimiter(err error, names []string, delimiter string) error {
	if len(names) == 1 && strings.ContainsAny(names[0], ";\t|,") {
		return fmt.Errorf("%w (is the delimiter %q right? set it with --delimiter)", err, delimiter)
	}
	return err
}

// keyOf returns a JSON key: the name, without one the column.
func keyOf(name, column string) []byte {
	if name == "" {
		name = column
	}
	key, err := jsontext.AppendQuote(nil, name)
	if err != nil {
		key = strconv.AppendQuoteToASCII(nil, name) // a flag with broken bytes; no column can be called that
	}
	return append(key, ':')
}

func appendColumns(fields []string, columns []csvProperty) []byte {
	var b []byte
	before := byte('{')
	for _, c := range columns {
		if fields[c.index] == "" {
			continue
		}
		b = append(append(b, before), c.key...)
		before = ','
		b = appendValue(b, fields[c.index])
	}
	if len(b) > 0 {
		b = append(b, '}')
	}
	return b
}

// appendValue types a field. It takes for a number only what a number's own program would print, and what a 64-bit number
// holds: 007 is a postcode, 1e5 may be a hash, and 25 digits are an id that a float64 would change.
func appendValue(b []byte, text string) []byte {
	if text == "true" || text == "false" || isNumber(text) {
		return append(b, text...)
	}
	quoted, err := jsontext.AppendQuote(b, text)
	if err != nil {
		return append(b, "null"...) // cannot be: the row is valid UTF-8
	}
	return quoted
}

func isNumber(text string) bool {
	whole, fraction, dotted := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if whole == "" || len(whole) > 1 && whole[0] == '0' || dotted && fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return false
	}
	if !dotted {
		_, err := strconv.ParseInt(text, 10, 64)
		return err == nil
	}
	value, err := strconv.ParseFloat(text, 64)
	return err == nil && (value != 0 || strings.Trim(whole+fraction, "0") == "")
}
