package main

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/internal/verify"
	"github.com/onramphq/onramp/schema"
)

// Users are judged part by part, so that memory does not grow with the log: a part is a range of tokens, which are spread evenly,
// and about so many events. Their number is bounded by the files that may be open at once; beyond ten million events parts grow.
const (
	eventsOfAPart = 20_000
	maxParts      = 512
)

// tokenAlphabet is that of user tokens in the order in which ClickHouse sorts them.
const tokenAlphabet = "234567abcdefghijklmnopqrstuvwxyz"

// prefixes is how many beginnings of two characters there are.
const prefixes = len(tokenAlphabet) * len(tokenAlphabet)

// parts are all users, in ranges.
type parts struct {
	list []*part
	done int // of them are judged and forgotten
}

// part is the users of one range of tokens: on disk until their turn comes, then in memory.
type part struct {
	from, to string // [from, to)
	spill    *spill
	users    map[string]*verify.User
}

// known is one thing that is known of a user; without any, that there is one.
type known struct {
	Token   string
	Event   *schema.UserEvent
	Gone    bool              // Event was another's by then
	Came    *schema.UserEvent // an event that names another
	Link    identity.Link     // whom the user has become
	Outcome *verify.Outcome
}

// newParts divides the users of a log of so many events. only, where it is given, is the one user wanted.
func newParts(events uint64, only string) (*parts, error) {
	p := &parts{}
	if only != "" {
		p.list = []*part{{from: only, to: only + "~"}}
	} else {
		n := int(min(events/eventsOfAPart+1, maxParts))
		for i := range n {
			p.list = append(p.list, &part{from: prefix(i, n), to: prefix(i+1, n)})
		}
	}
	for _, one := range p.list {
		var err error
		if one.spill, err = newSpill(); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// prefix is where part i of n begins.
func prefix(i, n int) string {
	at := (i*prefixes + n - 1) / n
	if at == prefixes {
		return "v" // behind every token
	}
	return "u" + string(tokenAlphabet[at/len(tokenAlphabet)]) + string(tokenAlphabet[at%len(tokenAlphabet)])
}

// of finds the part that a token belongs to; nil where it belongs to none, or to one that is judged.
func (p *parts) of(token string) *part {
	i, _ := slices.BinarySearchFunc(p.list, token, func(one *part, token string) int {
		if one.to <= token {
			return -1
		}
		return 1
	})
	if i < p.done || i == len(p.list) || token < p.list[i].from {
		return nil
	}
	return p.list[i]
}

// add notes something of a user.
func (p *parts) add(r known) error {
	one := p.of(r.Token)
	switch {
	case one == nil:
		return nil
	case one.users != nil:
		one.keep(r)
		return nil
	}
	return one.spill.write(r)
}

// open brings a part into memory.
func (one *part) open() error {
	one.users = make(map[string]*verify.User)
	return one.spill.read(func(r known) { one.keep(r) })
}

// user returns a user of the part, who may be new.
func (one *part) user(token string) *verify.User {
	u := one.users[token]
	if u == nil {
		u = &verify.User{Token: token}
		one.users[token] = u
	}
	return u
}

func (one *part) keep(r known) {
	u := one.user(r.Token)
	switch {
	case r.Event != nil:
		u.Events = append(u.Events, *r.Event)
		if r.Gone {
			if u.Gone == nil {
				u.Gone = make(map[uint64]bool)
			}
			u.Gone[r.Event.Sequence] = true
		}
	case r.Came != nil:
		u.Came = append(u.Came, *r.Came)
	case r.Link.Into != "":
		u.Link = r.Link
	case r.Outcome != nil:
		u.Outcomes = append(u.Outcomes, *r.Outcome)
	}
}

// forget lets a judged part go.
func (p *parts) forget() {
	one := p.list[p.done]
	p.done++
	one.users = nil
	one.spill.close()
}

func (p *parts) close() {
	for _, one := range p.list[p.done:] {
		if one.spill != nil {
			one.spill.close()
		}
	}
}

// spill is a part on disk. Its file has no name where the system allows that, so that nothing of it is left whatever becomes of
// this process: it holds what users did.
type spill struct {
	file    *os.File
	named   bool
	buffer  *bufio.Writer
	encoder *gob.Encoder
}

func newSpill() (*spill, error) {
	file, err := os.CreateTemp("", "onramp-verify-*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	s := &spill{file: file, buffer: bufio.NewWriterSize(file, 32<<10)}
	s.named = os.Remove(file.Name()) != nil
	s.encoder = gob.NewEncoder(s.buffer)
	return s, nil
}

func (s *spill) write(r known) error {
	if err := s.encoder.Encode(r); err != nil {
		return fmt.Errorf("write temporary file: %w", err)
	}
	return nil
}

// read reads everything back. Nothing can be written afterwards.
func (s *spill) read(each func(known)) error {
	if err := s.buffer.Flush(); err != nil {
		return fmt.Errorf("write temporary file: %w", err)
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read temporary file: %w", err)
	}
	decoder := gob.NewDecoder(bufio.NewReaderSize(s.file, 256<<10))
	for {
		var r known
		err := decoder.Decode(&r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read temporary file: %w", err)
		}
		each(r)
	}
}

func (s *spill) close() {
	s.file.Close() //nolint:errcheck // it has been read, or nobody wants it
	if s.named {
		os.Remove(s.file.Name()) //nolint:errcheck // likewise
	}
}
