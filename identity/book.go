package identity

import (
	"fmt"
	"maps"
	"slices"

	"github.com/onramphq/onramp/schema"
)

// MaxMerged is how many others may become one with a user, those included who were merged into them before. It bounds what one workflow
// takes over, however many visitors a shared or a broken client brings.
const MaxMerged = 100

// Link says that one user is another from a place in the stream on. Users are named by their tokens.
type Link struct {
	From     string `json:"from"`
	Into     string `json:"into,omitempty"`    // empty: From is nobody's visitor; see Ruling.Known
	Sequence uint64 `json:"seq"`               // of the event that says so, in ONRAMP_EVENTS
	At       int64  `json:"at,omitempty"`      // when the stream took the event; Unix milliseconds
	UserID   string `json:"user_id,omitempty"` // raw id of Into
}

// Book holds the links of a stream. The zero value is empty and ready. It is not safe for concurrent use.
type Book struct {
	links map[string]Link   // by From
	into  map[string][]Link // by Into
	known map[string]uint64 // users that stood beside a visitor without taking them over, and where first
}

// Add puts in a link that was made before. The first of a user stands.
func (b *Book) Add(l Link) {
	if l.Into == "" {
		if at, known := b.known[l.From]; !known || l.Sequence < at {
			if b.known == nil {
				b.known = make(map[string]uint64)
			}
			b.known[l.From] = l.Sequence
		}
		return
	}
	if _, linked := b.links[l.From]; linked {
		return
	}
	if b.links == nil {
		b.links, b.into = make(map[string]Link), make(map[string][]Link)
	}
	b.links[l.From] = l
	b.into[l.Into] = append(b.into[l.Into], l)
}

// All returns the links, in no order.
func (b *Book) All() []Link { return slices.Collect(maps.Values(b.links)) }

// Len is the number of links.
func (b *Book) Len() int { return len(b.links) }

// Of returns the link of a user to another, wherever in the stream it was made.
func (b *Book) Of(token string) (Link, bool) {
	l, linked := b.links[token]
	return l, linked
}

// Root says who a user is at a place in the stream: token and raw id, the latter empty where the user is who they were.
func (b *Book) Root(token string, at uint64) (root, userID string) {
	for range MaxMerged + 1 { // longer than any chain
		l, linked := b.links[token]
		if !linked || l.Sequence > at {
			break
		}
		token, userID = l.Into, l.UserID
	}
	return token, userID
}

// size counts those who have become one with a user before a place in the stream.
func (b *Book) size(token string, before uint64) int {
	n := 0
	for _, l := range b.into[token] {
		if l.Sequence < before {
			n += 1 + b.size(l.From, before)
		}
	}
	return n
}

// Ruling is what a book says about one event.
type Ruling struct {
	User   string // token of the user whose event it is
	UserID string // raw id of the same
	Link   *Link  // nil: the event joins nobody
	Known  *Link  // nil, or the mark that the event's user is known: taken over by nobody without an alias
	// Past says that the event is of somebody who has been handed over by a later one, so that it has reached them before: it only came
	// again.
	Past bool
}

// Rule rules on the next event of the stream, and enters the link that it makes. Errors are *schema.Rejection, of an alias that can never be
// followed. An event that comes again is ruled on as it was.
func (b *Book) Rule(key []byte, e *schema.Received) (Ruling, error) {
	user := schema.UserToken(key, e.UserID)
	if e.AnonymousID == "" && e.PreviousID == "" && len(b.links) == 0 {
		return Ruling{User: user, UserID: e.UserID}, nil
	}
	root, userID := b.Root(user, e.Sequence)
	ruling := Ruling{User: root, UserID: e.UserID}
	if root != user {
		ruling.UserID = userID
	}
	if l, linked := b.links[root]; linked && l.Sequence > e.Sequence {
		ruling.Past = true
	}
	if e.PreviousID != "" {
		return b.alias(ruling, schema.UserToken(key, e.PreviousID), e)
	}
	if e.AnonymousID == "" || e.AnonymousID == e.UserID {
		return ruling, nil
	}
	return b.identify(ruling, schema.UserToken(key, e.AnonymousID), e), nil
}

// alias joins whoever stands under an id, known or not.
func (b *Book) alias(r Ruling, previous string, e *schema.Received) (Ruling, error) {
	at := e.Sequence
	if l, linked := b.links[previous]; linked && l.Sequence <= at {
		if l.Sequence == at { // the event comes again
			r.Link = &l
		}
		return r, nil // the first link stands
	}
	if previous == r.User {
		return r, &schema.Rejection{Reason: schema.ReasonMergeCycle, Field: "previous_id", Message: "is somebody whom user_id has become already"}
	}
	if b.full(r.User, previous, at) {
		return r, &schema.Rejection{Reason: schema.ReasonMergeLimit, Field: "previous_id", Message: fmt.Sprintf(
			"user_id would be made one with more than %d others", MaxMerged)}
	}
	r.join(b, previous, e)
	return r, nil
}

// identify joins a visitor to the user beside whom they stand, unless they are somebody already or too many.
func (b *Book) identify(r Ruling, visitor string, e *schema.Received) Ruling {
	at := e.Sequence
	l, linked := b.links[visitor]
	marked, known := b.known[visitor]
	switch {
	case linked && l.Sequence == at: // the event comes again
		r.Link = &l
		return r
	case linked && l.Sequence < at, visitor == r.User, known && marked < at, b.size(visitor, at) > 0, b.full(r.User, visitor, at):
		if _, known := b.known[r.User]; !known && visitor != r.User && b.size(r.User, at) == 0 {
			mark := Link{From: r.User, Sequence: at, At: e.ReceivedAt.UnixMilli()}
			b.Add(mark)
			r.Known = &mark
		}
		return r
	}
	r.join(b, visitor, e)
	return r
}

func (b *Book) full(user, other string, at uint64) bool {
	return b.size(user, at)+1+b.size(other, at) > MaxMerged
}

func (r *Ruling) join(b *Book, from string, e *schema.Received) {
	l := Link{From: from, Into: r.User, Sequence: e.Sequence, At: e.ReceivedAt.UnixMilli(), UserID: r.UserID}
	b.Add(l)
	r.Link = &l
}
