// Package verify judges the engine by its own log: it folds a user's events again, with the same pure function the user's workflow
// is made of, and says where archive, outcomes, profile and workflow differ from what follows. It reads nothing itself and has no
// clock: `onramp verify` brings what it judges.
//
//	fold.go   the user's events in the order of the stream, with what the workflow saw beside them
//	judge.go  what must be true of a user, and what is not
//	diff.go   two states side by side, without anything personal
//
// What a fold cannot know from the log it takes from the engine's own word, and from nothing more:
//
//   - which playbook was in force when: State.Lived;
//   - that time passed before an event that had already come, and by what clock something was decided: Outcome.LogSequence and DecidedAt;
//   - whether an event reached the workflow, where stored playbooks disagree on reading it: State.Seen.
package verify
