package eventlog

import (
	"context"
	"io"
)

// ReadStream is Read for one stream instead of files, so that fuzzing touches no disk.
func ReadStream(ctx context.Context, name string, r io.Reader, m Mapping, each func(Record) error, reject func(Reject) error) (FileCounts, error) {
	f := &file{input: input{name: name, format: formatOf(name)}, mapping: m.WithDefaults(), each: each, reject: reject}
	f.counts = FileCounts{File: name, Format: f.format}
	err := f.read(ctx, r)
	return f.counts, err
}
