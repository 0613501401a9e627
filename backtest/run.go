package backtest

import (
	"fmt"
	"iter"
	"runtime"
	"sync"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// User is one user's recorded events, in any order.
type User struct {
	ID     string // how reports name the user: the raw id where it is known, else the token
	Token  string // what experiments hash
	Events []schema.UserEvent
}

// Options say how a backtest is run.
type Options struct {
	Until   int64     // Unix milliseconds: how long time goes on. Events that occurred later are left out.
	From    int64     // Unix milliseconds: what happened before shapes users, but counts in no figure. Defaults to the beginning.
	Live    bool      // as if the engine had been running; otherwise events are historic and cause no action
	Workers int       // how many users are worked through at once. Defaults to GOMAXPROCS; the result does not depend on it.
	Done    func(int) // told how many users are done, from many goroutines. Defaults to nobody.
}

// Run runs every user's events through the playbook. Errors are those of users, or of a user who does not come to rest.
func Run(book *playbook.Playbook, users iter.Seq2[User, error], opts Options) (*Result, error) {
	c, err := run([]*playbook.Playbook{book}, users, opts)
	if err != nil {
		return nil, err
	}
	return c.New, nil
}

// Compare runs every user's events through both playbooks, and tells what changed for whom.
func Compare(newer, older *playbook.Playbook, users iter.Seq2[User, error], opts Options) (*Comparison, error) {
	return run([]*playbook.Playbook{newer, older}, users, opts)
}

// batch is how many users travel to a worker together.
const batch = 16

func run(books []*playbook.Playbook, users iter.Seq2[User, error], opts Options) (*Comparison, error) {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	work := make(chan []User)
	stop := make(chan struct{})
	shares := make([]*share, opts.Workers)
	var running sync.WaitGroup
	var once sync.Once
	for i := range shares {
		shares[i] = newShare(books, opts)
		running.Go(func() {
			for list := range work {
				if !shares[i].take(list) {
					once.Do(func() { close(stop) })
				}
			}
		})
	}
	err := deal(users, work, stop)
	close(work)
	running.Wait()
	for _, s := range shares {
		if err == nil {
			err = s.err
		}
	}
	if err != nil {
		return nil, err
	}
	return merge(books, shares, opts), nil
}

// deal hands the users out until there are no more, one cannot be read, or a worker gives up.
func deal(users iter.Seq2[User, error], work chan<- []User, stop <-chan struct{}) error {
	var list []User
	for user, err := range users {
		if err != nil {
			return fmt.Errorf("read users: %w", err)
		}
		if list = append(list, user); len(list) < batch {
			continue
		}
		select {
		case work <- list:
			list = nil
		case <-stop:
			return nil
		}
	}
	select {
	case work <- list:
	case <-stop:
	}
	return nil
}

// share is what one worker has counted.
type share struct {
	books    []*playbook.Playbook
	opts     Options
	tallies  []tally // by playbook
	changes  *changes
	from, to int64 // event times of the first and the last event
	err      error
}

func newShare(books []*playbook.Playbook, opts Options) *share {
	s := &share{books: books, opts: opts, tallies: make([]tally, len(books)), changes: newChanges()}
	for i := range s.tallies {
		s.tallies[i] = make(tally)
	}
	return s
}

// take works through users; false where one does not come to rest.
func (s *share) take(users []User) bool {
	for i := range users {
		if s.err != nil {
			return false
		}
		s.err = s.user(&users[i])
	}
	if s.opts.Done != nil {
		s.opts.Done(len(users))
	}
	return s.err == nil
}

func (s *share) user(u *User) error {
	events := u.Events
	if s.opts.Live {
		Live(events)
	} else {
		Historic(events, s.opts.Until)
	}
	for len(events) > 0 && events[len(events)-1].OccurredAt > s.opts.Until {
		events = events[:len(events)-1] // they are in order
	}
	if len(events) == 0 {
		return nil
	}
	if first := max(events[0].OccurredAt, s.opts.From); s.from == 0 || first < s.from {
		s.from = first
	}
	s.to = max(s.to, events[len(events)-1].OccurredAt)
	prints := make([]tally, len(s.books))
	for i, book := range s.books {
		p := newFootprint(book.Plan, s.opts.From)
		life := NewLife(u.Token, book, p.moment)
		if err := live(life, events, s.opts.Until); err != nil {
			return err
		}
		p.finish(&life.State)
		s.tallies[i].add(p.tally)
		prints[i] = p.tally
	}
	if len(prints) == 2 {
		s.changes.note(u.ID, prints[0], prints[1])
	}
	return nil
}

// live runs events, which are in order, and then lets time pass.
func live(life *Life, events []schema.UserEvent, until int64) error {
	for i := range events {
		if err := life.Event(&events[i]); err != nil {
			return err
		}
	}
	return life.Settle(until)
}
