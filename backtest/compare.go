package backtest

import (
	"cmp"
	"slices"

	"github.com/onramphq/onramp/playbook"
)

// MaxExamples is how many users a change names, each way.
const MaxExamples = 20

// Comparison is what two playbooks would have done with the same users.
type Comparison struct {
	New         *Result  `json:"new"`
	Old         *Result  `json:"old"`          // nil where one playbook was run alone
	UsersUnlike uint64   `json:"users_unlike"` // users for whom anything at all changed
	Changes     []Change `json:"changes"`      // sorted; what is the same for every user is left out
}

// Change is one thing that happens to other users, or another number of times.
type Change struct {
	What   string `json:"what"`             // one of the words below
	Key    string `json:"key"`              // the journey, action or segment
	Reason string `json:"reason,omitempty"` // of the suppression

	Old int64 `json:"old"` // how often in all
	New int64 `json:"new"`

	Gained         uint64   `json:"gained"` // users to whom it happens with the new playbook alone
	Lost           uint64   `json:"lost"`   // and with the old alone
	GainedExamples []string `json:"gained_examples,omitempty"`
	LostExamples   []string `json:"lost_examples,omitempty"`
}

// What a change is about.
const (
	Enters     = "enters"     // a journey
	Converts   = "converts"   // the goal of a journey
	Gets       = "gets"       // an action
	Suppressed = "suppressed" // an action
	EverIn     = "ever_in"    // a segment, at any time
	InSegment  = "in"         // a segment, at the end
)

// compared lists the figures that are compared, in the order of a report.
func compared() []figure { return []figure{enrollments, converted, decided, suppressed, ever, members} }

func (f figure) what() string {
	switch f {
	case enrollments:
		return Enters
	case converted:
		return Converts
	case decided:
		return Gets
	case suppressed:
		return Suppressed
	case ever:
		return EverIn
	default:
		return InSegment
	}
}

// changes collects whom something happens to with one playbook alone.
type changes struct {
	byKey  map[key]*change
	unlike uint64 // users for whom anything changed
}

type change struct {
	gained, lost    uint64
	gainers, losers []string
}

func newChanges() *changes { return &changes{byKey: make(map[key]*change)} }

func (c *changes) at(k key) *change {
	if c.byKey[k] == nil {
		c.byKey[k] = &change{}
	}
	return c.byKey[k]
}

// note compares what one user's two lives left behind.
func (c *changes) note(user string, newer, older tally) {
	unlike := false
	visit := func(mine, other tally, gained bool) {
		for k, n := range mine {
			if !slices.Contains(compared(), k.figure) || n == other[k] {
				continue
			}
			unlike = true
			if other[k] != 0 || n == 0 {
				continue
			}
			if at := c.at(k); gained {
				at.gained++
				at.gainers = example(at.gainers, user)
			} else {
				at.lost++
				at.losers = example(at.losers, user)
			}
		}
	}
	visit(newer, older, true)
	visit(older, newer, false)
	if unlike {
		c.unlike++
	}
}

// example keeps the first users in order of their names: whoever counts, the same are named.
func example(list []string, users ...string) []string {
	for _, user := range users {
		i, _ := slices.BinarySearch(list, user)
		if i < MaxExamples {
			list = slices.Insert(list, i, user)
		}
	}
	return list[:min(len(list), MaxExamples)]
}

func (c *changes) add(other *changes) {
	c.unlike += other.unlike
	for k, o := range other.byKey {
		mine := c.at(k)
		mine.gained += o.gained
		mine.lost += o.lost
		mine.gainers = example(mine.gainers, o.gainers...)
		mine.losers = example(mine.losers, o.losers...)
	}
}

// merge adds the shares up.
func merge(books []*playbook.Playbook, shares []*share, opts Options) *Comparison {
	total := newShare(books, opts)
	for _, s := range shares {
		for i := range total.tallies {
			total.tallies[i].add(s.tallies[i])
		}
		total.changes.add(s.changes)
		if total.from == 0 || (s.from != 0 && s.from < total.from) {
			total.from = s.from
		}
		total.to = max(total.to, s.to)
	}
	c := &Comparison{New: result(books[0], total.tallies[0], total.from, total.to, opts), Changes: []Change{}}
	if len(books) == 1 {
		return c
	}
	c.Old = result(books[1], total.tallies[1], total.from, total.to, opts)
	c.list(total)
	return c
}

// list writes down everything whose number or users are not the same.
func (c *Comparison) list(total *share) {
	newer, older := total.tallies[0], total.tallies[1]
	keys := make(map[key]bool)
	for _, t := range total.tallies {
		for k := range t {
			if slices.Contains(compared(), k.figure) {
				keys[k] = true
			}
		}
	}
	for k := range keys {
		change := total.changes.at(k)
		if newer[k] == older[k] && change.gained == 0 && change.lost == 0 {
			continue
		}
		c.Changes = append(c.Changes, Change{
			What: k.figure.what(), Key: k.a, Reason: k.b, Old: older[k], New: newer[k],
			Gained: change.gained, Lost: change.lost, GainedExamples: change.gainers, LostExamples: change.losers,
		})
	}
	order := make(map[string]int)
	for i, f := range compared() {
		order[f.what()] = i
	}
	slices.SortFunc(c.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(order[a.What], order[b.What]), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Reason, b.Reason))
	})
	c.UsersUnlike = total.changes.unlike
}
