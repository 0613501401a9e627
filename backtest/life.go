package backtest

import (
	"fmt"
	"time"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// maxIdle bounds how often time may be asked at one moment without anything coming of it.
const maxIdle = 10_000

// Moment is one call of journey.Next, as it is told to whoever watches a life.
type Moment struct {
	At        int64             // the moment of record, Unix milliseconds; what was due before has its own time in Outcomes
	Event     *schema.UserEvent // nil: time alone, or another playbook
	Playbook  string            // hash of the version that is in force from here on; empty: as before
	Unread    bool              // nothing in the playbook reads the event: it goes to the archive alone
	Duplicate bool              // the event was known already
	Outcomes  []schema.Outcome
	Actions   []schema.ActionRequest
}

// Life is one user under virtual time: the loop around journey.Next that the user's workflow is in production. Use it from one
// goroutine.
type Life struct {
	State journey.State

	books    books
	book     *playbook.Playbook
	revision uint64
	wake     int64
	see      func(Moment)
}

type books map[string]*playbook.Playbook

// Playbook implements journey.Books.
func (b books) Playbook(hash string) *playbook.Playbook { return b[hash] }

// NewLife begins the life of a user of that token under a playbook. see is told every moment; it may be nil.
func NewLife(token string, book *playbook.Playbook, see func(Moment)) *Life {
	if see == nil {
		see = func(Moment) {}
	}
	return &Life{
		State: journey.State{Token: token}, books: books{book.Hash: book}, book: book, revision: 1, see: see,
	}
}

// Books gives the playbooks this life has been under.
func (l *Life) Books() journey.Books { return l.books }

// Book is the playbook in force.
func (l *Life) Book() *playbook.Playbook { return l.book }

// Event lets everything happen that is due before the event was received, and then the event. Events must come in the order
// in which they are received. As at ingest, an event that nothing in the playbook reads never reaches the journeys.
func (l *Life) Event(e *schema.UserEvent) error {
	if err := l.Follow(e.ReceivedAt); err != nil {
		return err
	}
	m := Moment{At: journey.Moment(&l.State, e), Event: e, Unread: !l.book.Reads(e.EventName, len(e.Traits) > 0)}
	if m.Unread {
		l.see(m)
		return nil
	}
	l.next(journey.Input{Event: e}, e.ReceivedAt, m)
	return nil
}

// Publish puts another playbook in force at that moment, as `onramp apply` does.
func (l *Life) Publish(book *playbook.Playbook, at int64) error {
	if err := l.Follow(at); err != nil {
		return err
	}
	l.books[book.Hash], l.book = book, book
	l.revision++
	if l.State.Playbook == "" { // nothing has reached the user's workflow yet: there is none
		l.see(Moment{At: at, Playbook: book.Hash})
		return nil
	}
	l.next(journey.Input{}, at, Moment{At: at, Playbook: book.Hash})
	return nil
}

// Follow lets time pass up to a moment, waking at every moment that a decision asked for.
func (l *Life) Follow(until int64) error {
	idle := 0
	for l.wake != 0 && l.wake <= until {
		at := l.wake
		if l.next(journey.Input{}, at, Moment{At: at}); l.wake > at || l.wake == 0 {
			idle = 0
			continue
		}
		if idle++; idle > maxIdle {
			return fmt.Errorf("user %s does not come to rest at %s", l.State.Token, time.UnixMilli(at).UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// Settle lets time pass up to a moment without waiting for the present to catch up with historic events. It is what shows
// the user at a moment of the past.
func (l *Life) Settle(until int64) error {
	if err := l.Follow(until); err != nil || l.State.Playbook == "" {
		return err
	}
	for range maxIdle {
		clock, sequence := l.State.Clock, l.State.Sequence
		l.next(journey.Input{}, until, Moment{At: until})
		if l.State.Clock == clock && l.State.Sequence == sequence {
			return nil
		}
	}
	return fmt.Errorf("user %s does not come to rest at %s", l.State.Token, time.UnixMilli(until).UTC().Format(time.RFC3339))
}

func (l *Life) next(in journey.Input, now int64, m Moment) {
	in.Playbook, in.Revision = l.book.Hash, l.revision
	var decision journey.Decision
	l.State, decision = journey.Next(l.books, l.State, in, now)
	l.wake = decision.WakeAt
	m.Duplicate, m.Outcomes, m.Actions = decision.Duplicate, decision.Outcomes, decision.Actions
	l.see(m)
}
