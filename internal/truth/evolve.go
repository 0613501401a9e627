package truth

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// versions draws what becomes of a playbook: up to two newer ones, each made from the one before.
func (d *drawer) versions() []*Book {
	books := []*Book{d.book}
	for range d.number("newer versions", 0, 2) {
		books = append(books, d.evolve(books[len(books)-1]))
	}
	if len(books) > 1 {
		keep := keeper(books)
		for _, b := range books {
			b.Segments = append(b.Segments, keep...)
		}
	}
	return books
}

func (d *drawer) evolve(old *Book) *Book {
	b := *old
	d.book = &b
	if d.chance("back to the first", 8) {
		return d.book
	}
	all := d.segments
	b.Segments = nil
	for i, s := range old.Segments {
		if !slices.Contains(all, s.Key) && d.chance("segment removed", 2) {
			continue
		}
		if d.segments = all[:min(i, len(all))]; d.chance("new rule", 3) {
			s.When = d.rule(2)
		}
		b.Segments = append(b.Segments, s)
	}
	d.segments = all
	b.Journeys = nil
	for _, j := range old.Journeys {
		if d.chance("journey removed", 8) {
			continue
		}
		b.Journeys = append(b.Journeys, d.change(j))
	}
	if len(b.Journeys) == 0 || d.chance("journey added", 5) {
		d.step = 0
		d.added++
		b.Journeys = append(b.Journeys, d.journey(fmt.Sprintf("k%d", d.added)))
	}
	return d.book
}

// change draws the next version of a journey.
func (d *drawer) change(old *Journey) *Journey {
	j := *old
	switch d.number("other journey", 1, 4) {
	case 1:
		d.step = 0
		j = *d.journey(old.Key)
	case 2:
		j.Steps = d.longer(old.Steps)
	}
	j.Paused = d.chance("paused", 3)
	j.Migrate, j.Move = one(d, "migrate", "", "stay", "move", "move", "exit"), nil
	if j.Migrate == "move" && d.chance("map", 2) {
		from, to := old.ids(), j.ids()
		j.Move = map[string]string{one(d, "from", from...): one(d, "to", to...)}
	}
	return &j
}

// longer draws other lengths for the same steps.
func (d *drawer) longer(steps []*Step) []*Step {
	if steps == nil {
		return nil
	}
	list := []*Step{}
	for _, old := range steps {
		s := *old
		if s.Hours > 0 {
			s.Hours = d.window()
		}
		s.Timeout = d.longer(s.Timeout)
		s.Branches, s.Variants = slices.Clone(s.Branches), slices.Clone(s.Variants)
		for i := range s.Branches {
			s.Branches[i].Steps = d.longer(s.Branches[i].Steps)
		}
		for i := range s.Variants {
			s.Variants[i].Steps = d.longer(s.Variants[i].Steps)
		}
		list = append(list, &s)
	}
	return list
}

// ids are the ids of all steps, in the order of the file.
func (j *Journey) ids() []string {
	var list []string
	j.walk(func(s, _ *Step) { list = append(list, s.ID) })
	return list
}

// keeper makes segments that read whatever any of the books reads: what no rule of a version reads is forgotten, and a rule that
// comes back begins from nothing. That is another test's matter.
func keeper(books []*Book) []Segment {
	read := map[string]Expr{}
	var order []string
	var visit func(e Expr)
	visit = func(e Expr) {
		for _, part := range parts(e) {
			visit(part)
		}
		switch e.(type) {
		case Over, Did, TimeTo, Followed:
			if read[e.String()] == nil {
				read[e.String()] = e
				order = append(order, e.String())
			}
		}
	}
	for _, b := range books {
		for _, e := range b.rules() {
			visit(e)
		}
	}
	var segments []Segment
	for chunk := range slices.Chunk(order, 8) {
		var all Expr = Const{true}
		for _, text := range chunk {
			same := Compare{"==", read[text], read[text]}
			if over, ok := read[text].(Over); ok && strings.HasPrefix(over.Function, "since") { // moves: only to be compared with a duration
				same = Compare{">=", over, Const{span(hour)}}
			}
			all = Both{all, same}
		}
		segments = append(segments, Segment{Key: fmt.Sprintf("keep%d", len(segments)+1), When: all})
	}
	return segments
}

// parts are the expressions that an expression is made of.
func parts(e Expr) []Expr {
	switch e := e.(type) {
	case Compare:
		return []Expr{e.A, e.B}
	case Both:
		return []Expr{e.A, e.B}
	case Either:
		return []Expr{e.A, e.B}
	case Plus:
		return []Expr{e.A, e.B}
	case Not:
		return []Expr{e.A}
	case If:
		return []Expr{e.Cond, e.Then, e.Else}
	default:
		return nil
	}
}

// rules are all rules of a book; filters are none.
func (b *Book) rules() []Expr {
	var list []Expr
	add := func(e Expr) {
		if e != nil {
			list = append(list, e)
		}
	}
	for _, s := range b.Segments {
		add(s.When)
	}
	for _, category := range categories() {
		add(b.Consent[category])
	}
	for _, j := range b.Journeys {
		add(j.Enter.When)
		for _, x := range j.Exits {
			add(x.When)
		}
		j.walk(func(s, _ *Step) {
			add(s.When)
			for _, branch := range s.Branches {
				add(branch.When)
			}
		})
	}
	return list
}

// renewals draws when the newer versions come into force: with an event, or by themselves. A sender that has not heard of it yet goes
// on with an older one.
func (d *drawer) renewals(log []Delivery, versions int) []Delivery {
	for revision := 1; revision < versions; revision++ {
		place := d.number("in force from", 0, len(log)-1)
		for i := place; i < len(log); i++ {
			if !d.chance("sender behind", 6) {
				log[i].Revision = revision
			}
		}
		if d.chance("by itself", 2) {
			log = slices.Insert(log, place, Delivery{At: log[place].At, Revision: revision})
		}
	}
	return log
}

// reads reports whether anything in a book looks at events of a name: by name, or because it looks at all of them.
func (b *Book) reads(event string) bool {
	for _, rule := range b.rules() {
		text := rule.String()
		for _, all := range []string{"events()", "inactive_for(", "seen_for(", "time_to(", strconv.Quote(event)} {
			if strings.Contains(text, all) {
				return true
			}
		}
	}
	for _, j := range b.Journeys {
		named := slices.Clone(j.Enter.On)
		if j.Goal != nil {
			named = append(named, j.Goal.On)
		}
		for _, x := range j.Exits {
			named = append(named, x.On...)
		}
		j.walk(func(s, _ *Step) { named = append(named, s.On...) })
		if slices.Contains(named, event) {
			return true
		}
	}
	return false
}
