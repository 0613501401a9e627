package eventlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// MaxLine bounds a line of JSON and a row of CSV, in bytes without the line break.
const MaxLine = 1 << 20

// maxRaw bounds what a Reject keeps of a line.
const maxRaw = 4 << 10

// line is a physical line with its line break. Of one over MaxLine only the beginning is kept.
type line struct {
	number int
	text   []byte
	isOver bool
}

// isBlank tells lines of nothing but a line break.
func (l line) isBlank() bool { return !l.isOver && len(l.bare()) == 0 }

// bare returns the text without its line break.
func (l line) bare() []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(l.text, []byte("\n")), []byte("\r"))
}

// lines hands out the lines of one file, and takes some back.
type lines struct {
	in       *bufio.Reader
	count    int    // lines read whole
	returned []line // to be handed out again, the next one last
}

// newLines skips a UTF-8 byte order mark and refuses UTF-16, which spreadsheets export as "Unicode text".
func newLines(r io.Reader) (*lines, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	mark, err := in.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(mark, []byte("\xef\xbb\xbf")):
		if _, err := in.Discard(3); err != nil {
			return nil, err
		}
	case bytes.HasPrefix(mark, []byte("\xff\xfe")) || bytes.HasPrefix(mark, []byte("\xfe\xff")):
		return nil, errors.New("it is UTF-16: convert it to UTF-8")
	}
	return &lines{in: in}, nil
}

// next returns the next line and io.EOF after the last. Where reading breaks off inside a line, that line is not returned:
// half a row can look like a whole one.
func (ls *lines) next() (line, error) {
	if last := len(ls.returned) - 1; last >= 0 {
		l := ls.returned[last]
		ls.returned = ls.returned[:last]
		return l, nil
	}
	l := line{number: ls.count + 1}
	size := 0
	for {
		piece, err := ls.in.ReadSlice('\n')
		size += len(piece)
		switch {
		case l.isOver:
		case size > MaxLine+len("\r\n"):
			l.isOver = true
			l.text = bytes.Clone(append(l.text, piece...)[:maxRaw]) // a clone lets go of the rest
		default:
			l.text = append(l.text, piece...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (size == 0 || !errors.Is(err, io.EOF)) {
			return line{}, err
		}
		break
	}
	if len(l.bare()) > MaxLine {
		l.isOver, l.text = true, bytes.Clone(l.text[:maxRaw])
	}
	ls.count++
	return l, nil
}

// giveBack makes next return these lines again.
func (ls *lines) giveBack(again []line) {
	for _, l := range slices.Backward(again) {
		ls.returned = append(ls.returned, l)
	}
}

// broken says how far a file could be read.
func (ls *lines) broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the gzip data ends after line %d, the file is truncated: %w", ls.count, err)
	}
	return fmt.Errorf("read after line %d: %w", ls.count, err)
}
