package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/onramphq/onramp/schema"
)

// The reasons that only a log has; all others are of package schema.
const (
	ReasonMalformedCSV schema.Reason = "malformed_csv" // quotes that do not match
	ReasonRaggedRow    schema.Reason = "ragged_row"    // more or fewer fields than the header
)

// Record is one event of a log and where it stands there.
type Record struct {
	Event schema.Event // passed schema.DecodeEvent; without EventID where the log has none
	File  string       // as given to Read
	Line  int          // its first line, from 1, unpacked
	At    time.Time    // the event time in UTC, to the nanosecond; Event.OccurredAt is the same

	order int // of the file among the files: what Sort falls back on
}

// Reject is a line that is no event.
type Reject struct {
	File    string
	Line    int    // the first line of the row
	Reason  string // a code: of package schema, malformed_csv or ragged_row
	Message string // what to mend, with the column
	Raw     string // the line without its break, cut at 4 KiB; may hold any bytes
}

// FileCounts says what one file gave, and how it was read.
type FileCounts struct {
	File                       string
	Format                     string
	User, Event, Time, EventID string // the columns used, given or guessed; empty where none were needed yet
	Lines                      int    // lines read, unpacked, with header and blank ones
	Rows                       int    // rows that could be events: always Records + Rejects
	Records, Rejects           int
}

// Counts sums up a Read.
type Counts struct {
	Rows, Records, Rejects int
	Files                  []FileCounts // in the order read
}

// Read reads files one after the other, "-" being standard input, and calls each for every event and reject for every
// line that is none, in the order of the log. It stops with an error when a file cannot be read to its end or lacks a
// column, when ctx ends, and when a callback returns one, which it wraps. Counts is right up to there. Memory is bounded by
// [MaxLine], whatever the size of the files. The callbacks are called from this goroutine, own what they get and may be
// nil. Progress counts bytes as they lie on disk; bytesTotal is -1 where an input has no size.
func Read(ctx context.Context, files []string, m Mapping, progress func(bytesRead, bytesTotal int64),
	each func(Record) error, reject func(Reject) error,
) (Counts, error) {
	var counts Counts
	m = m.WithDefaults()
	if err := m.Validate(); err != nil {
		return counts, fmt.Errorf("check the mapping of the event log: %w", err)
	}
	found, total, err := inputs(files, m.Format)
	if err != nil {
		return counts, err
	}
	meter := meter{total: total, progress: progress}
	for i, in := range found {
		f := &file{input: in, order: i, mapping: m, each: each, reject: reject}
		err := f.open(ctx, &meter)
		counts.Files = append(counts.Files, f.counts)
		counts.Rows += f.counts.Rows
		counts.Records += f.counts.Records
		counts.Rejects += f.counts.Rejects
		if err != nil {
			return counts, err
		}
	}
	return counts, nil
}

// file is the reading of one file.
type file struct {
	input
	order   int
	mapping Mapping // with the columns of this file, once known
	clock   clock
	lines   *lines
	counts  FileCounts
	each    func(Record) error
	reject  func(Reject) error
	buffer  []byte
}

func (f *file) open(ctx context.Context, meter *meter) error {
	f.counts = FileCounts{File: f.name, Format: f.format}
	if f.name == Stdin {
		return f.read(ctx, meter.reader(os.Stdin))
	}
	opened, err := os.Open(f.name)
	if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	defer opened.Close() //nolint:errcheck // nothing was written
	return f.read(ctx, meter.reader(opened))
}

func (f *file) read(ctx context.Context, r io.Reader) error {
	var err error
	if f.clock, err = f.mapping.clock(); err != nil {
		return err
	}
	if r, err = unzipped(r); err != nil {
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	if f.lines, err = newLines(r); err != nil {
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	if f.format == FormatJSONL {
		err = f.readJSON(ctx)
	} else {
		err = f.readCSV(ctx)
	}
	f.counts.Lines = f.lines.count
	return err
}

// stopped returns why the reading of f should stop, nil while it should not.
func (f *file) stopped(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("read %s: stopped after line %d: %w", f.name, f.lines.count, context.Cause(ctx))
}

// useColumns keeps the columns of this file.
func (f *file) useColumns(m Mapping) {
	f.mapping = m
	f.counts.User, f.counts.Event, f.counts.Time, f.counts.EventID = m.User, m.Event, m.Time, m.EventID
}

// draft is what a row says, before it is checked.
type draft struct {
	user, event, id    string
	at                 time.Time
	properties, traits []byte // JSON objects; empty for none
}

// accept makes an event of d exactly as ingestion would, by decoding its JSON, and hands it on; or rejects it.
func (f *file) accept(number int, raw []byte, d draft) error {
	if name, renamed := f.mapping.Rename[d.event]; renamed {
		d.event = name
	}
	text, err := d.appendJSON(f.buffer[:0])
	if err != nil {
		return f.refuse(number, raw, refusal(schema.ReasonInvalidUTF8, "", "the row is not valid UTF-8"))
	}
	f.buffer = text
	event, err := schema.DecodeEvent(text)
	if err != nil {
		rejection, ok := errors.AsType[*schema.Rejection](err)
		if !ok {
			return fmt.Errorf("read %s: decode line %d: %w", f.name, number, err)
		}
		return f.refuse(number, raw, rejection)
	}
	f.counts.Rows++
	f.counts.Records++
	if f.each == nil {
		return nil
	}
	if err := f.each(Record{Event: *event, File: f.name, Line: number, At: event.OccurredAt, order: f.order}); err != nil {
		return fmt.Errorf("read %s: take line %d: %w", f.name, number, err)
	}
	return nil
}

func (d draft) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"event_name":`...)
	b, err := jsontext.AppendQuote(b, d.event)
	if err != nil {
		return nil, err
	}
	b = append(b, `,"user_id":`...)
	if b, err = jsontext.AppendQuote(b, d.user); err != nil {
		return nil, err
	}
	if d.id != "" {
		b = append(b, `,"event_id":`...)
		if b, err = jsontext.AppendQuote(b, d.id); err != nil {
			return nil, err
		}
	}
	b = append(b, `,"occurred_at":"`...)
	b = d.at.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if len(d.properties) > 0 {
		b = append(append(b, `,"properties":`...), d.properties...)
	}
	if len(d.traits) > 0 {
		b = append(append(b, `,"traits":`...), d.traits...)
	}
	return append(b, '}'), nil
}

// refusal makes the schema's own kind of refusal; field is that of the event, which refuse turns into the column's name.
func refusal(reason schema.Reason, field, format string, args ...any) *schema.Rejection {
	return &schema.Rejection{Reason: reason, Field: field, Message: fmt.Sprintf(format, args...)}
}

func (f *file) refuse(number int, raw []byte, why *schema.Rejection) error {
	f.counts.Rows++
	f.counts.Rejects++
	if f.reject == nil {
		return nil
	}
	message := why.Message
	if column := f.columnOf(why.Field); column != "" {
		message = schema.Clean(column) + " " + message
	}
	r := Reject{File: f.name, Line: number, Reason: string(why.Reason), Message: message, Raw: string(raw[:min(len(raw), maxRaw)])}
	if err := f.reject(r); err != nil {
		return fmt.Errorf("read %s: reject line %d: %w", f.name, number, err)
	}
	return nil
}

// columnOf returns what the log calls a field of the event.
func (f *file) columnOf(field string) string {
	switch field {
	case "user_id":
		return f.mapping.User
	case "event_name":
		return f.mapping.Event
	case "event_id":
		return f.mapping.EventID
	case "occurred_at":
		return f.mapping.Time
	default:
		return field
	}
}
