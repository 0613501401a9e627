package eventlog

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/onramphq/onramp/schema"
)

// maxQuotedLines bounds the lines of one row: each costs memory beside its bytes while the end of the quote is looked for.
const maxQuotedLines = 10_000

// csvRow is one row, or why a line is none.
type csvRow struct {
	number int
	raw    []byte
	fields []string
	fault  *schema.Rejection
}

// csvRows cuts lines into rows and lets encoding/csv read each by itself. Given the whole file, encoding/csv would take a
// quote that is never closed to the end of the file, into memory and out of the count.
type csvRows struct {
	lines     *lines
	delimiter []byte
	width     int // fields of the header; 0 before it is read
	source    bytes.Reader
	reader    *csv.Reader
}

// next returns the next row, with line number and fields or fault, and io.EOF after the last. Fields is valid until the
// next call.
func (rs *csvRows) next() (csvRow, error) {
	first, err := rs.lines.next()
	for err == nil && first.isBlank() {
		first, err = rs.lines.next()
	}
	if err != nil {
		return csvRow{}, err
	}
	row := csvRow{number: first.number, raw: first.bare()}
	if first.isOver {
		row.fault = refusal(schema.ReasonTooLarge, "", "the line has more than %d bytes", MaxLine)
		return row, nil
	}
	more, text, err := rs.quotedLines(first)
	if err != nil {
		return csvRow{}, err
	}
	if text == nil {
		rs.lines.giveBack(more)
		row.fault = refusal(ReasonMalformedCSV, "", "a quoted field is not closed within %d lines and %d bytes",
			maxQuotedLines, MaxLine)
		return row, nil
	}
	row.fields, err = rs.parse(text)
	parseError, isParseError := errors.AsType[*csv.ParseError](err)
	switch {
	case err == nil || errors.Is(err, csv.ErrFieldCount):
		row.raw = line{text: text}.bare()
	case isParseError:
		rs.lines.giveBack(more)
		row.fault = refusal(ReasonMalformedCSV, "", "line %d, column %d: %v",
			first.number+parseError.Line-parseError.StartLine, parseError.Column, parseError.Err)
		return row, nil
	default:
		return csvRow{}, err
	}
	switch {
	case !utf8.Valid(text):
		row.fault = refusal(schema.ReasonInvalidUTF8, "", "the row is not valid UTF-8")
	case err != nil:
		row.fault = refusal(ReasonRaggedRow, "", "the row has %d fields and the header %d", len(row.fields), rs.width)
	}
	return row, nil
}

// quotedLines returns the lines after first that a quoted field takes in, and the text of all; nil text where the quote
// stays open to the end of the file or over a limit.
func (rs *csvRows) quotedLines(first line) (more []line, text []byte, err error) {
	if !staysOpen(first.bare(), rs.delimiter, false) {
		return nil, first.text, nil
	}
	text = bytes.Clone(first.text)
	isOpen := true
	for isOpen {
		l, err := rs.lines.next()
		if errors.Is(err, io.EOF) {
			return more, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		more = append(more, l)
		if l.isOver || len(text)+len(l.text) > MaxLine || len(more) == maxQuotedLines {
			return more, nil, nil
		}
		text = append(text, l.text...)
		isOpen = staysOpen(l.bare(), rs.delimiter, true)
	}
	return more, text, nil
}

// parse reads the fields of one row. The reader is kept from row to row, for its buffers, unless it met an error and may
// have stopped in the middle.
func (rs *csvRows) parse(text []byte) ([]string, error) {
	rs.source.Reset(text)
	if rs.reader == nil {
		rs.reader = csv.NewReader(&rs.source)
		rs.reader.Comma, _ = utf8.DecodeRune(rs.delimiter)
		rs.reader.ReuseRecord = true
	}
	rs.reader.FieldsPerRecord = rs.width
	fields, err := rs.reader.Read()
	if err != nil {
		rs.reader = nil
	}
	return fields, err
}

// staysOpen tells whether a quoted field goes on after the line, by the rules of encoding/csv. It answers false at a
// misplaced quote, where encoding/csv ends the row with an error.
func staysOpen(text, delimiter []byte, isQuoted bool) bool {
	for {
		if !isQuoted {
			if !bytes.HasPrefix(text, []byte(`"`)) {
				field, rest, found := bytes.Cut(text, delimiter)
				if !found || bytes.IndexByte(field, '"') >= 0 {
					return false
				}
				text = rest
				continue
			}
			text = text[1:]
		}
		at := bytes.IndexByte(text, '"')
		if at < 0 {
			return true
		}
		text = text[at+1:]
		switch {
		case bytes.HasPrefix(text, []byte(`"`)):
			text, isQuoted = text[1:], true
		case bytes.HasPrefix(text, delimiter):
			text, isQuoted = text[len(delimiter):], false
		default:
			return false
		}
	}
}
