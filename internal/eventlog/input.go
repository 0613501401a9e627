package eventlog

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Stdin is the file name that stands for standard input.
const Stdin = "-"

// input is one file to read.
type input struct {
	name   string
	format string
}

// inputs tells the format of every file and the size of all, -1 where one has none, before anything is read.
func inputs(files []string, format string) ([]input, int64, error) {
	if len(files) == 0 {
		return nil, 0, errors.New("read event log: no file is given")
	}
	var problems []error
	found := make([]input, 0, len(files))
	total, usesStdin := int64(0), false
	for _, name := range files {
		in := input{name: name, format: format}
		if format == "" {
			in.format = formatOf(name)
		}
		if in.format == "" {
			problems = append(problems, fmt.Errorf("read %s: the name does not tell the format: name it with --format csv or jsonl", name))
		}
		found = append(found, in)
		if name == Stdin {
			if usesStdin {
				problems = append(problems, errors.New("read -: standard input can be read only once"))
			}
			usesStdin, total = true, -1
			continue
		}
		switch info, err := os.Stat(name); {
		case err != nil:
			problems = append(problems, fmt.Errorf("read event log: %w", err))
		case info.IsDir():
			problems = append(problems, fmt.Errorf("read %s: it is a folder: name its files", name))
		case !info.Mode().IsRegular():
			total = -1
		case total >= 0:
			total += info.Size()
		}
	}
	return found, total, errors.Join(problems...)
}

func formatOf(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".gz")
	switch filepath.Ext(name) {
	case ".csv":
		return FormatCSV
	case ".jsonl", ".ndjson", ".json":
		return FormatJSONL
	default:
		return ""
	}
}

// meter counts the bytes of all files as they are on disk.
type meter struct {
	read, total int64
	progress    func(bytesRead, bytesTotal int64)
}

// reader returns r, counted.
func (m *meter) reader(r io.Reader) io.Reader { return meteredReader{r, m} }

type meteredReader struct {
	io.Reader
	meter *meter
}

func (r meteredReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.meter.read += int64(n)
	if r.meter.progress != nil && n > 0 {
		r.meter.progress(r.meter.read, r.meter.total)
	}
	return n, err
}

// unzipped looks at the first two bytes, not at the name, for logs are renamed more often than they are unpacked.
func unzipped(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, err := in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if string(magic) != "\x1f\x8b" {
		return in, nil
	}
	unzip, err := gzip.NewReader(in)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("the gzip data ends before line 1, the file is truncated: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	return unzip, nil
}
