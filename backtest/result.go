package backtest

import (
	"cmp"
	"maps"
	"slices"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
)

// Result is what a playbook would have done. Every list is sorted, so that equal results are equal bytes.
type Result struct {
	Name         string            `json:"name"`
	Playbook     string            `json:"playbook"` // hash of the version
	Live         bool              `json:"live"`
	From         int64             `json:"from"`  // Unix milliseconds: the first moment that counts
	Until        int64             `json:"until"` // Unix milliseconds
	LastEvent    int64             `json:"last_event"`
	Users        uint64            `json:"users"`
	Events       uint64            `json:"events"`
	Rejected     uint64            `json:"rejected"` // lines that were no events; set by who read them
	Unread       uint64            `json:"unread"`   // events that nothing in the playbook reads
	Duplicates   uint64            `json:"duplicates"`
	EventsByName map[string]uint64 `json:"events_by_name"`
	Broken       []Broken          `json:"broken"` // promises of the tracking plan
	Segments     []Segment         `json:"segments"`
	Journeys     []Journey         `json:"journeys"`
	Actions      []Action          `json:"actions"`
	Experiments  []Experiment      `json:"experiments"`
	Timeline     Timeline          `json:"timeline"`
}

// Broken is a promise of the tracking plan that events do not keep. The engine takes them nonetheless, and does not see what is not as
// declared.
type Broken struct {
	Event  string `json:"event"`
	What   string `json:"what"` // property total is required and missing, trait seats should be int, not string, …
	Events uint64 `json:"events"`
}

// Segment is how many users are in a segment at the end, and how many ever were.
type Segment struct {
	Segment string `json:"segment"`
	Members uint64 `json:"members"`
	Ever    uint64 `json:"ever"`
}

// Journey is what became of a journey's enrollments.
type Journey struct {
	Journey     string            `json:"journey"`
	Enrollments uint64            `json:"enrollments"`
	Users       uint64            `json:"users"`
	Open        uint64            `json:"open"`
	Ended       map[string]uint64 `json:"ended"`     // by reason
	Converted   uint64            `json:"converted"` // users
	Funnel      []Step            `json:"funnel"`    // in the order of the file
}

// Step is how many users reached a step.
type Step struct {
	Step  string `json:"step"`
	Users uint64 `json:"users"`
}

// Action is how often an action was decided, and held back for which reason.
type Action struct {
	Action     string            `json:"action"`
	Users      uint64            `json:"users"` // who get it
	Decided    uint64            `json:"decided"`
	Suppressed uint64            `json:"suppressed"`
	Reasons    map[string]uint64 `json:"reasons"`
}

// Experiment is who met which variant, and who converted afterwards in the journey where they met it.
type Experiment struct {
	Experiment string `json:"experiment"`
	Arms       []Arm  `json:"arms"` // in the order of the file
}

// Arm is one variant.
type Arm struct {
	Variant   string  `json:"variant"`
	Weight    float64 `json:"weight"`
	Users     uint64  `json:"users"`
	Converted uint64  `json:"converted"`
}

// result writes the numbers down. What the playbook has and nobody met stands there with zero.
func result(book *playbook.Playbook, t tally, from, to int64, opts Options) *Result {
	r := &Result{
		Name: book.Name, Playbook: book.Hash, Live: opts.Live, From: from, Until: opts.Until, LastEvent: to,
		Users: t.of(users, "", ""), Events: t.of(events, "", ""), Unread: t.of(unread, "", ""), Duplicates: t.of(duplicates, "", ""),
		EventsByName: t.by(eventsNamed, ""), Broken: t.broken(), Segments: []Segment{}, Journeys: []Journey{}, Actions: []Action{}, Experiments: []Experiment{},
	}
	for i := range book.Segments {
		name := book.Segments[i].Key
		r.Segments = append(r.Segments, Segment{name, t.of(members, name, ""), t.of(ever, name, "")})
	}
	slices.SortFunc(r.Segments, func(a, b Segment) int { return cmp.Compare(a.Segment, b.Segment) })
	for _, j := range book.Journeys { // by priority
		r.Journeys = append(r.Journeys, journeyOf(j, t))
	}
	for _, name := range slices.Sorted(maps.Keys(book.Actions)) {
		a := Action{Action: name, Users: t.of(acted, name, ""), Decided: t.of(decided, name, ""), Reasons: t.by(suppressed, name)}
		for _, n := range a.Reasons {
			a.Suppressed += n
		}
		r.Actions = append(r.Actions, a)
	}
	for _, name := range slices.Sorted(maps.Keys(book.Experiments)) {
		r.Experiments = append(r.Experiments, experimentOf(&book.Experiments[name].Experiment, t))
	}
	if book.Holdout != nil {
		r.Experiments = append(r.Experiments, experimentOf(book.Holdout, t))
	}
	r.Timeline = timeline(t, from, to)
	return r
}

func experimentOf(e *experiment.Experiment, t tally) Experiment {
	out := Experiment{Experiment: e.Key}
	for _, v := range e.Variants {
		out.Arms = append(out.Arms, Arm{v.Key, v.Weight, t.of(exposed, e.Key, v.Key), t.of(exposedGoal, e.Key, v.Key)})
	}
	return out
}

func journeyOf(j *playbook.Journey, t tally) Journey {
	out := Journey{
		Journey: j.Key, Enrollments: t.of(enrollments, j.Key, ""), Users: t.of(enrolled, j.Key, ""), Open: t.of(open, j.Key, ""),
		Ended: t.by(ended, j.Key), Converted: t.of(converted, j.Key, ""), Funnel: []Step{},
	}
	for _, step := range j.Order {
		out.Funnel = append(out.Funnel, Step{step, t.of(reached, j.Key, step)})
	}
	return out
}

// broken is in order of event, the most frequent first.
func (t tally) broken() []Broken {
	list := []Broken{}
	for k, n := range t {
		if k.figure == broken {
			list = append(list, Broken{k.a, k.b, uint64(n)}) //nolint:gosec // counts are never negative
		}
	}
	slices.SortFunc(list, func(a, b Broken) int {
		return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(b.Events, a.Events), cmp.Compare(a.What, b.What))
	})
	return list
}

func (t tally) of(f figure, a, b string) uint64 { return uint64(t[key{f, a, b, 0}]) } //nolint:gosec // counts are never negative

// by collects a figure by what it is counted by: by a where a is left open, else by b.
func (t tally) by(f figure, a string) map[string]uint64 {
	found := make(map[string]uint64)
	for k, n := range t {
		switch {
		case k.figure != f || n == 0:
		case a == "":
			found[k.a] += uint64(n) //nolint:gosec // counts are never negative
		case k.a == a:
			found[k.b] += uint64(n) //nolint:gosec // counts are never negative
		}
	}
	return found
}
