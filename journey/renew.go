package journey

import (
	"maps"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/segment"
)

// Exit reasons of enrollments that a new version of their journey ends.
const (
	EndedVersion     = "version_ended"
	EndedStepRemoved = "step_removed"
)

// renew puts a newer playbook in force at a moment: what was due before it has happened under the old one.
func (t *turn) renew(input Input, at int64) {
	t.state.Playbook, t.state.Revision = input.Playbook, input.Revision
	t.state.lives(Version{Playbook: input.Playbook, Revision: input.Revision, At: at, Sequence: t.state.Seen.Newest(), Alone: input.Event == nil})
	t.book = t.books.Playbook(input.Playbook)
	if t.state.Clock == 0 {
		return // nobody is there yet; the first event asks every rule
	}
	t.at, t.state.Clock = at, at
	t.renewed = true
	for _, e := range t.state.Enrollments {
		if e.Ended == "" {
			t.migrate(e)
		}
	}
	t.prune()
	maps.DeleteFunc(t.state.Refused, func(key string, _ Refusal) bool { return t.book.Journey(key) == nil })
	t.settle()
}

// migrate does with an open enrollment what the newest version of its journey says. Whether the journey is paused is for the newest
// to say in any case: a pause must reach everybody at once.
func (t *turn) migrate(e *Enrollment) {
	j := t.book.Journey(e.Journey)
	e.Paused = j != nil && j.Paused
	if j == nil || e.Version == j.Version {
		return
	}
	switch j.Migrate.Policy {
	case playbook.MigrateExit:
		if old := t.journey(e); old == nil || old.Digest != j.Digest { // an edit elsewhere in the playbook ends nobody
			t.end(e, EndedVersion)
		}
	case playbook.MigrateMove:
		if !e.Paused { // the version that ends the pause says where they go on
			t.move(e, j)
		}
	case playbook.MigrateStay:
	}
}

// move takes an enrollment to a step of the new version. A wait or delay keeps the moment it began at, so that moving neither
// starts it again nor cuts it short.
func (t *turn) move(e *Enrollment, j *playbook.Journey) {
	key := j.Migrate.Target(e.Step)
	step := j.Steps[key]
	if step == nil {
		t.end(e, EndedStepRemoved)
		return
	}
	why := "moved from " + e.Step + " of version " + e.Version
	held := e.Owed != 0 && e.Met == ""
	e.Version, e.GoalUntil = j.Version, 0
	if j.Goal != nil {
		e.GoalUntil = e.StartedAt + j.Goal.Within.Milliseconds()
	}
	if held && step.Kind == playbook.StepAction && key == e.Step {
		return // until quiet hours end, in the new version as in the old
	}
	if held {
		e.Owed = 0
	}
	began := e.StepAt
	if step.Kind != playbook.StepWait && step.Kind != playbook.StepDelay {
		e.Owed = 0 // an event that came for a paused wait is none that another step is held back for: that one is entered
		t.run(e, j, key, why)
		return
	}
	met := e.Met
	t.enterStep(e, key, why)
	e.Met, e.StepAt = met, began
	e.Due, e.Until = step.Over(began, t.zone()), 0
}

// prune forgets the aggregates and segments that no playbook in use knows.
func (t *turn) prune() {
	var sets []*segment.Set
	for _, hash := range t.state.Versions() {
		if book := t.books.Playbook(hash); book != nil {
			sets = append(sets, book.Set)
		}
	}
	segment.Prune(&t.state.Facts, sets...)
}
