package journey

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// EndedMerged is the exit reason of an enrollment of which the user who became one with another had an earlier one.
const EndedMerged = "merged"

// Merged is somebody who became one with the user.
type Merged struct {
	Token    string `json:"token"`
	Sequence uint64 `json:"seq"`              // of the linking event
	At       int64  `json:"at"`               // moment of record
	Unseen   bool   `json:"unseen,omitempty"` // nothing was known of them: no event that the playbook reads had come
}

// HandedOver says whom a user has become, and since when. A state that has it goes on in theirs: nothing is due in it any more.
type HandedOver struct {
	Into     string `json:"into"`
	Sequence uint64 `json:"seq"` // of the linking event
	At       int64  `json:"at"`  // moment of record
}

// EncodeState is a state in the form in which it goes from one workflow to another.
func EncodeState(s *State) (json.RawMessage, error) { return json.Marshal(s) }

// DecodeState is the inverse of EncodeState. Nothing is the state of a user of whom nothing is known.
func DecodeState(raw json.RawMessage, token string) (State, error) {
	s := State{Token: token}
	if len(raw) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return State{}, fmt.Errorf("decode state of %s: %w", token, err)
	}
	return s, nil
}

// HasMerged reports whether somebody has become one with the user already.
func (s *State) HasMerged(token string) bool {
	return slices.ContainsFunc(s.Merged, func(m Merged) bool { return m.Token == token })
}

// HandOver ends a user's own log with the event that links them to another: what was due before it happens first, then the playbook comes into
// force that the other lives by. request.Event is that event. now is the caller's clock.
func HandOver(books Books, state State, request schema.HandOverRequest, now int64) (State, Decision) {
	t := newTurn(books, &state, nil, now)
	if state.HandedOver != nil {
		return state, t.decision
	}
	moment := state.Clock
	if t.book != nil {
		t.catchUp(&request.Event)
		moment = Moment(&state, &request.Event)
		t.advance(moment, true)
		if request.Revision > state.Revision && books.Playbook(request.Playbook) != nil {
			t.renew(Input{Playbook: request.Playbook, Revision: request.Revision}, max(state.Clock, moment))
		}
	}
	at := max(state.Clock, moment)
	state.Sequence += uint64(len(t.decision.Outcomes))
	state, left := Leave(state, HandedOver{Into: request.Into, Sequence: request.Event.Sequence, At: at})
	for i := range left.Outcomes {
		left.Outcomes[i].LogSequence, left.Outcomes[i].DecidedAt = t.place(), now
	}
	t.decision.Outcomes = append(t.decision.Outcomes, left.Outcomes...)
	return state, t.decision
}

// Leave is the last of HandOver: the user is nobody's member any more, and who they are is told by the other. Enrollments and memberships stay
// in the state, for Merge.
func Leave(state State, over HandedOver) (State, Decision) {
	t := &turn{state: &state, at: over.At}
	state.HandedOver = &over
	for _, key := range state.segments() {
		t.segmentOutcome(key, state.Members[key], false, "became "+over.Into)
	}
	state.Sequence += uint64(len(t.decision.Outcomes))
	return state, t.decision
}

// merge makes the user one with another at this moment. Facts are added up; the user is in every segment that one of the two was in, until
// its rule is asked, which it is next; open enrollments go on; of two in one journey (and for one key) the earlier does; assignments stay,
// of two in one experiment the earlier; what was sent to either counts against the budget.
func (t *turn) merge(other *State, cause *schema.UserEvent, at int64) {
	s := t.state
	t.event, t.at, t.cause = nil, at, cause
	s.Clock = at
	tokens := []string{other.Token}
	for _, m := range other.Merged {
		tokens = append(tokens, m.Token)
	}
	s.Merged = append(append(s.Merged, other.Merged...), Merged{Token: other.Token, Sequence: cause.Sequence, At: at, Unseen: other.Playbook == ""})
	o := t.outcome(schema.UserMerged, s.Token, other.Token)
	o.Details = details(map[string]any{"from": other.Token, "tokens": tokens})
	t.record(o)
	if s.HistoricAt = 0; cause.Lateness == schema.Historic {
		s.HistoricAt = cause.ReceivedAt
	}
	s.Seen.merge(&other.Seen)
	s.Counts.Applied += other.Counts.Applied
	s.Counts.Duplicates += other.Counts.Duplicates
	s.Counts.Redelivered += other.Counts.Redelivered
	if theirs := other.Facts.FirstSeen; theirs != 0 && (s.Facts.FirstSeen == 0 || theirs < s.Facts.FirstSeen) {
		s.Unit = cmp.Or(other.Unit, other.Token) // a visitor who met a variant keeps it
	}
	t.mergeEnrollments(other)
	var sets []*segment.Set
	for _, hash := range s.Versions() {
		if book := t.books.Playbook(hash); book != nil {
			sets = append(sets, book.Set)
		}
	}
	segment.Merge(&s.Facts, &other.Facts, sets...)
	t.mergeMembers(other)
	for _, key := range sortedKeys(other.Assigned) {
		t.mergeAssigned(key, other)
	}
	s.Sent = mergeTimes(s.Sent, other.Sent)
	for _, category := range sortedKeys(other.SentIn) {
		if s.SentIn == nil {
			s.SentIn = make(map[string][]int64)
		}
		s.SentIn[category] = mergeTimes(s.SentIn[category], other.SentIn[category])
	}
	t.renewed = true
}

func mergeTimes(a, b []int64) []int64 {
	if len(b) == 0 {
		return a
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return all
}

// mergeMembers lets the user be in what only the other was in, which is no entering: nothing begins by it.
func (t *turn) mergeMembers(other *State) {
	for _, key := range sortedKeys(other.Members) {
		theirs, ours := other.Members[key], t.state.Members[key]
		if _, known := t.book.Place(key); !known || !theirs.In {
			continue
		}
		if t.state.Members == nil {
			t.state.Members = make(map[string]*Member)
		}
		if ours == nil {
			ours = &Member{}
			t.state.Members[key] = ours
		}
		if ours.In {
			ours.Since = min(ours.Since, theirs.Since)
			continue
		}
		t.segmentOutcome(key, ours, true, "as "+other.Token+" was")
		ours.In, ours.Since = true, theirs.Since
	}
}

// mergeAssigned keeps the earlier of two assignments, the user's own where both came at once.
func (t *turn) mergeAssigned(key string, other *State) {
	theirs := other.Assigned[key]
	if theirs.Under == "" {
		theirs.Under = other.Token
	}
	if ours, both := t.state.Assigned[key]; both && ours.ExposedAt <= theirs.ExposedAt {
		return
	}
	if t.state.Assigned == nil {
		t.state.Assigned = make(map[string]Assignment)
	}
	t.state.Assigned[key] = theirs
}

// mergeEnrollments takes the other's enrollments over, and ends those of which the other user's began earlier.
func (t *turn) mergeEnrollments(other *State) {
	s := t.state
	for _, key := range sortedKeys(other.Passed) {
		t.mergePassage(key, other.Passed[key])
	}
	for _, theirs := range other.Enrollments {
		e := *theirs
		e.Trail, e.Visits = slices.Clone(theirs.Trail), maps.Clone(theirs.Visits)
		s.Enrollments = append(s.Enrollments, &e)
	}
	slices.SortStableFunc(s.Enrollments, func(a, b *Enrollment) int {
		return cmp.Or(cmp.Compare(a.StartedAt, b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	inside := make(map[string]bool)
	for _, e := range s.Enrollments {
		if e.Ended != "" {
			continue
		}
		place := e.Journey + "\x00" + e.Key
		if inside[place] {
			t.end(e, EndedMerged)
			e.GoalUntil = 0 // the goal is the other's: it counts once
		}
		inside[place] = true
	}
	for _, key := range sortedKeys(other.Refused) {
		if theirs, ours := other.Refused[key], s.Refused[key]; theirs.At > ours.At {
			if s.Refused == nil {
				s.Refused = make(map[string]Refusal)
			}
			s.Refused[key] = theirs
		}
	}
}

func (t *turn) mergePassage(journey string, theirs Passage) {
	s := t.state
	if s.Passed == nil {
		s.Passed = make(map[string]Passage)
	}
	ours, both := s.Passed[journey]
	if !both {
		theirs.Keys, theirs.Trail = maps.Clone(theirs.Keys), slices.Clone(theirs.Trail)
		s.Passed[journey] = theirs
		return
	}
	merged := ours
	if theirs.EndedAt > ours.EndedAt {
		merged = theirs
	}
	merged.Times, merged.Converted = ours.Times+theirs.Times, ours.Converted || theirs.Converted
	merged.Keys = maps.Clone(ours.Keys)
	for _, key := range sortedKeys(theirs.Keys) {
		merged.Keys = remember(merged.Keys, key, max(merged.Keys[key], theirs.Keys[key]))
	}
	merged.Trail = slices.Clone(merged.Trail)
	s.Passed[journey] = merged
}

// merge remembers the latest events of both. What both have forgotten is below the floor of the one or the other, and no event that is still
// to come can be: those of both up to the linking event have been taken.
func (s *Seen) merge(other *Seen) {
	s.Floor = max(s.Floor, other.Floor)
	s.entries = slices.Concat(s.entries, other.entries)
	slices.SortFunc(s.entries, func(a, b seenEntry) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.id, b.id)) })
	s.forget()
}
