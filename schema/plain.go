package schema

import (
	"bytes"
	"encoding/json"
)

// readPlain reads an event in one pass if it is written as nearly every program writes it: known fields, each once; strings without escapes;
// ordinary numbers; properties and traits without white space, of few keys and little depth. Of everything else, and so of everything that is
// wrong, it returns nil: readMembers reads it again, and says what is. raw is valid UTF-8.
func readPlain(raw []byte) *Event {
	p := plainText{raw: raw}
	var event Event
	var seen uint
	p.space()
	if !p.next('{') {
		return nil
	}
	for more := true; more; more = p.next(',') {
		p.space()
		name, ok := p.text()
		field := plainField(name)
		if p.space(); !ok || field == 0 || seen&field != 0 || !p.next(':') {
			return nil
		}
		seen |= field
		if p.space(); !p.member(&event, field) {
			return nil
		}
		p.space()
	}
	if !p.next('}') {
		return nil
	}
	if p.space(); p.at < len(raw) {
		return nil
	}
	return &event
}

// The fields of an event, a bit each.
const (
	plainEventID uint = 1 << iota
	plainEventName
	plainUserID
	plainAnonymousID
	plainPreviousID
	plainOccurredAt
	plainSentAt
	plainProperties
	plainTraits
	plainBackfill
)

func plainField(name []byte) uint {
	switch string(name) {
	case "event_id":
		return plainEventID
	case "event_name":
		return plainEventName
	case "user_id":
		return plainUserID
	case "anonymous_id":
		return plainAnonymousID
	case "previous_id":
		return plainPreviousID
	case "occurred_at":
		return plainOccurredAt
	case "sent_at":
		return plainSentAt
	case "properties":
		return plainProperties
	case "traits":
		return plainTraits
	case "backfill":
		return plainBackfill
	default:
		return 0
	}
}

// Bounds of what is plain, below those of an event.
const (
	plainDepth  = 5
	plainKeys   = 32
	plainNumber = 40 // characters, without exponent: neither too large for a 64-bit number nor rounded to zero
)

// plainText is JSON that is being read. Its methods report whether what they look for stands there, and is plain; they go past it.
type plainText struct {
	raw []byte
	at  int
}

func (p *plainText) peek() byte {
	if p.at < len(p.raw) {
		return p.raw[p.at]
	}
	return 0 // which no JSON has outside of strings
}

func (p *plainText) next(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.at++
	return true
}

func (p *plainText) space() {
	for c := p.peek(); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = p.peek() {
		p.at++
	}
}

// member reads the value of a field into the event.
func (p *plainText) member(event *Event, field uint) bool {
	switch field {
	case plainProperties:
		return p.tree(&event.Properties)
	case plainTraits:
		return p.tree(&event.Traits)
	case plainBackfill:
		event.Backfill = p.peek() == 't'
		return event.Backfill && p.word("true") || p.word("false")
	}
	text, ok := p.text()
	if !ok {
		return false
	}
	switch field {
	case plainEventID:
		event.EventID = string(text)
	case plainEventName:
		event.EventName = string(text)
	case plainUserID:
		event.UserID = string(text)
	case plainAnonymousID:
		event.AnonymousID = string(text)
	case plainPreviousID:
		event.PreviousID = string(text)
	case plainOccurredAt:
		return parseTime(&event.OccurredAt, "occurred_at", string(text)) == nil
	case plainSentAt:
		return parseTime(&event.SentAt, "sent_at", string(text)) == nil
	}
	return true
}

// text reads a string and returns what is between its quotes.
func (p *plainText) text() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	for i, c := range p.raw[p.at:] {
		if c == '"' {
			text := p.raw[p.at : p.at+i]
			p.at += i + 1
			return text, true
		}
		if c < ' ' || c == '\\' {
			return nil, false
		}
	}
	return nil, false
}

func (p *plainText) word(word string) bool {
	if !bytes.HasPrefix(p.raw[p.at:], []byte(word)) {
		return false
	}
	p.at += len(word)
	return true
}

// tree reads an object and keeps a copy of it.
func (p *plainText) tree(dst *json.RawMessage) bool {
	from := p.at
	if p.peek() != '{' || !p.value(0) {
		return false
	}
	*dst = bytes.Clone(p.raw[from:p.at])
	return true
}

func (p *plainText) value(depth int) bool {
	switch p.peek() {
	case '"':
		text, ok := p.text()
		return ok && len(text) <= MaxStringBytes
	case '{':
		p.at++
		return depth < plainDepth && p.object(depth+1)
	case '[':
		p.at++
		return depth < plainDepth && p.array(depth+1)
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	default:
		return p.number()
	}
}

// object reads what follows on the brace.
func (p *plainText) object(depth int) bool {
	if p.next('}') {
		return true
	}
	var keys [plainKeys][]byte
	for n := range plainKeys {
		key, ok := p.text()
		if !ok || len(key) == 0 || len(key) > MaxKeyBytes || !p.next(':') || !p.value(depth) {
			return false
		}
		for _, before := range keys[:n] {
			if bytes.Equal(before, key) {
				return false
			}
		}
		keys[n] = key
		if p.next('}') {
			return true
		}
		if !p.next(',') {
			return false
		}
	}
	return false
}

// array reads what follows on the bracket.
func (p *plainText) array(depth int) bool {
	if p.next(']') {
		return true
	}
	for p.value(depth) {
		if p.next(']') {
			return true
		}
		if !p.next(',') {
			return false
		}
	}
	return false
}

func (p *plainText) number() bool {
	from := p.at
	p.next('-')
	zero := p.peek() == '0'
	if n := p.digits(); n == 0 || zero && n > 1 {
		return false
	}
	if p.next('.') && p.digits() == 0 {
		return false
	}
	return p.at-from <= plainNumber
}

func (p *plainText) digits() int {
	from := p.at
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at - from
}
