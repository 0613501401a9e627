package journey

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/onramphq/onramp/segment"
)

// State is all that is remembered of a user. A fold over events, bounded by the playbook; it can be thrown away and
// rebuilt. Times are Unix milliseconds, UTC.
type State struct {
	Token       string                `json:"token"`
	Playbook    string                `json:"playbook"`
	Revision    uint64                `json:"revision"`
	Clock       int64                 `json:"clock"`                 // the latest moment of record
	HistoricAt  int64                 `json:"historic_at,omitempty"` // when the latest historic event was received
	Sequence    uint64                `json:"sequence"`              // of the profile: the number of outcomes so far
	LastEvent   string                `json:"last_event,omitempty"`
	Facts       segment.Facts         `json:"facts"`
	Members     map[string]*Member    `json:"members,omitempty"`
	Enrollments []*Enrollment         `json:"enrollments,omitempty"` // open, and ended ones whose goal can still be met
	Passed      map[string]Passage    `json:"passed,omitempty"`      // by journey: the last passage that is over
	Assigned    map[string]Assignment `json:"assigned,omitempty"`    // by experiment
	Refused     map[string]Refusal    `json:"refused,omitempty"`     // by journey: why the last trigger let nobody in
	Sent        []int64               `json:"sent,omitempty"`        // capped actions that a limit can still count
	SentIn      map[string][]int64    `json:"sent_in,omitempty"`     // likewise by category
	Seen        Seen                  `json:"seen"`
	Counts      Counts                `json:"counts"`
	Lived       []Version             `json:"lived,omitempty"`       // the latest playbooks the user has lived under, oldest first
	Older       int                   `json:"older,omitempty"`       // how many more there were
	Merged      []Merged              `json:"merged,omitempty"`      // those who became one with the user, in the order in which they did
	Unit        string                `json:"unit,omitempty"`        // token by which flags deal variants: of whoever of them all was seen first; empty: Token
	HandedOver  *HandedOver           `json:"handed_over,omitempty"` // whom the user has become; nil: nobody

	agenda *agenda // when segments are to be asked again; made from Members where it is missing
}

// Version is a playbook that came into force for the user, and where in the user's log: with an event, or without one between two.
// It is what a fold of the log must know beside the log.
type Version struct {
	Playbook string `json:"playbook"`
	Revision uint64 `json:"revision"`
	At       int64  `json:"at"`              // moment of record
	Sequence uint64 `json:"seq"`             // the newest event by then: the one it came with, or where Alone the one it came after
	Alone    bool   `json:"alone,omitempty"` // it came without an event
}

// versionsKept bounds Lived.
const versionsKept = 32

// lives notes that a playbook came into force.
func (s *State) lives(v Version) {
	s.Lived = append(s.Lived, v)
	if over := len(s.Lived) - versionsKept; over > 0 {
		s.Lived, s.Older = slices.Delete(s.Lived, 0, over), s.Older+over
	}
}

// Counts tells what became of the events the user's workflow was handed.
type Counts struct {
	Applied     int64 `json:"applied"`
	Duplicates  int64 `json:"duplicates"`  // the same event published again
	Redelivered int64 `json:"redelivered"` // the same message delivered again
}

// Member is a user's standing in one segment.
type Member struct {
	In      bool   `json:"in"`
	Known   bool   `json:"known"`           // the rule had an answer at the last evaluation
	Since   int64  `json:"since,omitempty"` // when In last changed
	Until   int64  `json:"until,omitempty"` // when time alone lets the rule be asked again
	Missing string `json:"missing,omitempty"`
}

// Enrollment is one passage through one journey version.
type Enrollment struct {
	ID        string         `json:"id"`
	Journey   string         `json:"journey"`
	Version   string         `json:"version"` // hash of the playbook it is pinned to
	StartedAt int64          `json:"started_at"`
	Historic  bool           `json:"historic,omitempty"` // entered by a historic event: never causes an action
	Step      string         `json:"step,omitempty"`
	StepAt    int64          `json:"step_at,omitempty"`
	Due       int64          `json:"due,omitempty"`   // when the delay ends or the wait times out
	Until     int64          `json:"until,omitempty"` // when time alone lets the wait's or an exit's rule be asked again
	Visits    map[string]int `json:"visits,omitempty"`
	GoalUntil int64          `json:"goal_until,omitempty"`
	Converted bool           `json:"converted,omitempty"`
	Ended     string         `json:"ended,omitempty"`
	EndedAt   int64          `json:"ended_at,omitempty"`

	Key    string          `json:"key,omitempty"`    // the value it was entered for, where the journey is entered per value
	Same   json.RawMessage `json:"same,omitempty"`   // the entry event's properties that the journey looks at; an object
	Owed   int64           `json:"owed,omitempty"`   // when the user reached an action held back, or Met came
	Met    string          `json:"met,omitempty"`    // while paused: the event waited for that came all the same
	Paused bool            `json:"paused,omitempty"` // the newest playbook pauses the journey
	Trail  []Mark          `json:"trail,omitempty"`  // the latest steps and why, oldest first
}

// MarksKept bounds a trail; SameBytes the value of an entry property that is remembered.
const (
	MarksKept = 24
	SameBytes = 256
)

// Mark is one thing that happened on the way through a journey.
type Mark struct {
	At   int64  `json:"at"`
	Step string `json:"step"`
	Why  string `json:"why"`
}

// Passage is what remains of an enrollment that is over.
type Passage struct {
	Times     int              `json:"times"`
	Ended     string           `json:"ended"`
	EndedAt   int64            `json:"ended_at"`
	Converted bool             `json:"converted,omitempty"`
	Keys      map[string]int64 `json:"keys,omitempty"` // of journeys entered per value: when the latest values' enrollments ended
	Trail     []Mark           `json:"trail,omitempty"`
}

// keysKept bounds the values that a journey entered per value remembers to have let in.
const keysKept = 64

// Refusal says why a trigger did not let the user in.
type Refusal struct {
	At  int64  `json:"at"`
	Why string `json:"why"`
}

// Assignment is the variant a user met, and when.
type Assignment struct {
	Variant   string `json:"variant"`
	ExposedAt int64  `json:"exposed_at"`
	Under     string `json:"under,omitempty"` // token of who met it and became one with the user; empty: the user
}

// SeenCapacity is the number of events a user's workflow remembers to recognize a repetition. Ingest keeps each user's
// events in order and fewer than this in flight, so an event older than all of them can only be a repetition.
const SeenCapacity = 512

// Seen remembers the latest events: stream position and a hash of the event id.
type Seen struct {
	Floor   uint64 // the highest position that was forgotten
	entries []seenEntry
}

type seenEntry struct{ seq, id uint64 }

type repetition int8

const (
	fresh repetition = iota
	duplicate
	redelivered
)

func hashID(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id)) // hash.Hash never returns an error
	return h.Sum64()
}

// add remembers the event and says whether it was there before.
func (s *Seen) add(seq uint64, eventID string) repetition {
	id := hashID(eventID)
	if r := s.look(seq, id); r != fresh {
		return r
	}
	s.entries = append(s.entries, seenEntry{seq, id})
	s.forget()
	return fresh
}

// forget lets go of the oldest events beyond what is remembered.
func (s *Seen) forget() {
	over := len(s.entries) - SeenCapacity
	if over <= 0 {
		return
	}
	for _, e := range s.entries[:over] {
		s.Floor = max(s.Floor, e.seq)
	}
	s.entries = slices.Delete(s.entries, 0, over)
}

func (s *Seen) look(seq, id uint64) repetition {
	for _, e := range slices.Backward(s.entries) {
		switch {
		case e.seq == seq:
			return redelivered
		case e.id == id:
			return duplicate
		}
	}
	if seq <= s.Floor {
		return redelivered
	}
	return fresh
}

// Repeats reports whether an event would change nothing, because it was taken before.
func (s *Seen) Repeats(seq uint64, eventID string) bool { return s.look(seq, hashID(eventID)) != fresh }

// Newest is the highest stream position that was ever seen; 0 where none was.
func (s *Seen) Newest() uint64 {
	newest := s.Floor
	for _, e := range s.entries {
		newest = max(newest, e.seq)
	}
	return newest
}

// Has reports whether the event at a stream position was taken as new. Only positions above Floor are remembered.
func (s *Seen) Has(seq uint64) bool {
	return slices.ContainsFunc(s.entries, func(e seenEntry) bool { return e.seq == seq })
}

// MarshalJSON packs 16 bytes an event: the ring is the largest part of most states.
func (s Seen) MarshalJSON() ([]byte, error) {
	packed := binary.BigEndian.AppendUint64(nil, s.Floor)
	for _, e := range s.entries {
		packed = binary.BigEndian.AppendUint64(packed, e.seq)
		packed = binary.BigEndian.AppendUint64(packed, e.id)
	}
	return json.Marshal(base64.RawStdEncoding.EncodeToString(packed))
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (s *Seen) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return fmt.Errorf("decode seen events: %w", err)
	}
	packed, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("decode seen events: %w", err)
	}
	if len(packed)%16 != 8 {
		return fmt.Errorf("decode seen events: %d bytes do not make whole entries", len(packed))
	}
	*s = Seen{Floor: binary.BigEndian.Uint64(packed)}
	for packed = packed[8:]; len(packed) > 0; packed = packed[16:] {
		s.entries = append(s.entries, seenEntry{binary.BigEndian.Uint64(packed), binary.BigEndian.Uint64(packed[8:])})
	}
	return nil
}
