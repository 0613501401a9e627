package verify

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// User is all that the engine knows of one user.
type User struct {
	Token    string
	Events   []schema.UserEvent       // of ONRAMP_EVENTS, in the order of the stream, as they name the user
	Gone     map[uint64]bool          // of these, those that were another's by then: the user had become them
	Came     []schema.UserEvent       // those that name somebody who had become the user by then
	Link     identity.Link            // whom the user has become, and by which event; zero: nobody
	Taken    map[string]journey.State // what the workflows handed over that ended in the user's; by token
	Outcomes []Outcome                // of ONRAMP_OUTCOMES, likewise
	Archive  []schema.UserEvent       // rows of events_unique
	Rows     []Outcome                // rows of outcomes_unique
	Profile  *schema.Profile          // the newest published; nil where there is none
	State    *journey.State           // of the running workflow; nil where there is none
	AsOf     int64                    // Unix milliseconds: when it answered with that
	Closed   bool                     // there is a workflow, and it runs no more
	Silent   string                   // there is one, and it cannot answer: why
	Busy     bool                     // there is one, and it did not answer in time, for no reason that is its own
}

// log is what the user's workflow is to have taken: the events that name the user, without those of after they became another, and those
// that name others who had become the user.
func (u *User) log() []schema.UserEvent {
	if len(u.Gone) == 0 && len(u.Came) == 0 {
		return u.Events
	}
	log := make([]schema.UserEvent, 0, len(u.Events)+len(u.Came))
	for _, e := range u.Events {
		if !u.Gone[e.Sequence] {
			log = append(log, e)
		}
	}
	log = append(log, u.Came...)
	slices.SortStableFunc(log, func(a, b schema.UserEvent) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return log
}

// Outcome is an outcome with its place in ONRAMP_OUTCOMES.
type Outcome struct {
	schema.Outcome

	Sequence uint64
}

// Inputs are what users are judged by.
type Inputs struct {
	Books   journey.Books
	Stored  []*playbook.Playbook // every version that was ever published
	Settled Settled
	Letters Letters
	AsOf    int64 // Unix milliseconds: when it was begun to ask the workflows
	// Recorded is where ONRAMP_OUTCOMES ended before the workflows were asked. What stands behind it may have come of later.
	Recorded uint64
	// FirstEvent and FirstOutcome are where the streams begin now. What came before is taken from ClickHouse.
	FirstEvent, FirstOutcome uint64
}

// Settled says up to which place everything of a stream has been dealt with. What comes after is on its way, and not judged.
type Settled struct {
	Ingest   uint64 `json:"ingest"`   // of ONRAMP_EVENTS, by ingest
	Archive  uint64 `json:"archive"`  // of ONRAMP_EVENTS, by the sink
	Outcomes uint64 `json:"outcomes"` // of ONRAMP_OUTCOMES, by the sink
}

// Letters are the dead letters: by stream and sequence, who wrote them.
type Letters map[Place]Writers

// Place is a message's place.
type Place struct {
	Stream   string
	Sequence uint64
}

// Writers are the consumers that refused a message; one that is not known is in Unknown.
type Writers struct{ Ingest, Sink, Unknown bool }

// Add notes a letter. An empty consumer is a letter that no longer stands in the stream, of which the table does not say who wrote it.
func (l Letters) Add(stream, consumer string, sequence uint64) {
	place := Place{stream, sequence}
	w, known := l[place]
	switch consumer {
	case schema.IngestConsumer:
		w.Ingest = true
	case schema.ArchiveConsumer, schema.OutcomesConsumer:
		w.Sink = true
	case "":
		w.Unknown = !known || w.Unknown
	default: // one of a service's own gave the message up, which is no concern of ours
		return
	}
	l[place] = w
}

// refused reports whether ingest may have put the event aside.
func (in *Inputs) refused(sequence uint64) bool {
	w := in.Letters[Place{schema.EventsStream, sequence}]
	return w.Ingest || w.Unknown
}

// judged reports whether an outcome must follow from what the workflow was when it was asked.
func (in *Inputs) judged(o *Outcome) bool { return decided(&o.Outcome) && o.Sequence <= in.Recorded }

// Difference is one thing that is not as it follows from the log. It holds nothing personal.
type Difference struct {
	User     string `json:"user"`  // token; empty where a message names none
	Field    string `json:"field"` // archive, outcomes, workflow, state, counts, membership.new_user, enrollment.onboarding, profile …
	What     string `json:"what"`  // missing, unexpected, differs, twice, stale, overdue, open, closed, silent
	Subject  string `json:"subject,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"` // of the message it is about, in its stream
	Want     string `json:"want,omitempty"`
	Got      string `json:"got,omitempty"`
}

// Why users cannot be judged.
const (
	UnjudgedVersions   = "versions_forgotten" // the state no longer knows all playbooks it lived under
	UnjudgedPlaces     = "places_unknown"     // outcomes on record are of a release that did not note between which events they were decided
	UnjudgedPlaybook   = "playbook_missing"   // one of them is not stored any more
	UnjudgedReading    = "reading_unknown"    // stored playbooks disagree on whether an old event was read
	UnjudgedNoWorkflow = "no_workflow"        // likewise, of a user of whom nothing else is known
	UnjudgedRestless   = "restless"           // time alone changes something for ever
	UnjudgedBusy       = "no_answer"          // the workflow did not answer in time
	UnjudgedMerged     = "merged_before"      // users were made one, and what was known of one of them then is not to be had any more
)

// Verdict is what became of one user's judgment.
type Verdict struct {
	Differences []Difference
	Unjudged    string // why the workflow's state was not compared; archive and outcomes were
	Events      int    // judged
	InFlight    int    // events on their way
	Trusted     int    // events of which only the state says whether they were read
}

// pendingActions is how long a decided action may be without an outcome: Temporal tries for three days.
const pendingActions = 73 * time.Hour

// overdueAfter is how long after its moment a timer counts as lost.
const overdueAfter = time.Minute

// Judge says what is not as it follows from the log.
func Judge(in *Inputs, u *User) Verdict {
	v := judging{in: in, user: u}
	v.complete()
	v.events()
	v.rows()
	v.actions()
	v.workflow()
	v.profile()
	return v.Verdict
}

type judging struct {
	Verdict

	in   *Inputs
	user *User
	log  []schema.UserEvent // the user's own, whomever they name
	fold *folding
}

func (v *judging) differ(field, what, subject string, sequence uint64, want, got string) {
	v.Differences = append(v.Differences, Difference{
		User: v.user.Token, Field: field, What: what, Subject: schema.Clean(subject), Sequence: sequence, Want: want, Got: got,
	})
}

// complete puts before the streams what they no longer hold, and makes the outcomes one each.
func (v *judging) complete() {
	u := v.user
	var before []schema.UserEvent
	for i := range u.Archive {
		if u.Archive[i].Sequence < v.in.FirstEvent {
			before = append(before, u.Archive[i])
		}
	}
	u.Events = append(before, u.Events...)
	v.log = u.log()
	recorded := make([]Outcome, 0, len(u.Outcomes))
	seen := make(map[string]bool, len(u.Outcomes))
	add := func(o *Outcome) {
		if !seen[o.OutcomeID] {
			seen[o.OutcomeID] = true
			recorded = append(recorded, *o)
		}
	}
	for i := range u.Rows {
		if u.Rows[i].Sequence < v.in.FirstOutcome {
			add(&u.Rows[i])
		}
	}
	for i := range u.Outcomes {
		add(&u.Outcomes[i])
	}
	u.Outcomes = recorded
}

// events holds the archive against the stream.
func (v *judging) events() {
	rows := make(map[string]*schema.UserEvent, len(v.user.Archive))
	for i := range v.user.Archive {
		rows[v.user.Archive[i].EventID] = &v.user.Archive[i]
	}
	first := make(map[string]*schema.UserEvent, len(v.user.Events))
	for i := range v.user.Events {
		e := &v.user.Events[i]
		if e.Sequence > v.in.Settled.Ingest {
			v.InFlight++
		} else {
			v.Events++
		}
		letter := v.in.Letters[Place{schema.EventsStream, e.Sequence}]
		if first[e.EventID] != nil || letter.Sink || letter.Unknown && rows[e.EventID] == nil {
			continue
		}
		first[e.EventID] = e
		if e.Sequence > v.in.Settled.Archive {
			continue
		}
		row := rows[e.EventID]
		if row == nil {
			v.differ("archive", "missing", e.EventID, e.Sequence, e.EventName, "")
			continue
		}
		v.body(e, row)
	}
	for id, row := range rows {
		if first[id] == nil && row.Sequence >= v.in.FirstEvent && row.Sequence <= v.in.Settled.Archive {
			v.differ("archive", "unexpected", id, row.Sequence, "", row.EventName)
		}
	}
}

// body compares a row with the event it is of. Of two bodies with one id the first wins.
func (v *judging) body(e, row *schema.UserEvent) {
	switch {
	case row.Sequence != e.Sequence:
		v.differ("archive", "differs", "sequence of "+e.EventID, e.Sequence, strconv.FormatUint(e.Sequence, 10), strconv.FormatUint(row.Sequence, 10))
	case row.EventName != e.EventName, row.OccurredAt != e.OccurredAt, row.ReceivedAt != e.ReceivedAt, row.Lateness != e.Lateness:
		v.differ("archive", "differs", "name or times of "+e.EventID, e.Sequence, e.EventName, row.EventName)
	case !bytes.Equal(row.Properties, e.Properties) || !bytes.Equal(row.Traits, e.Traits):
		v.differ("archive", "differs", "body of "+e.EventID, e.Sequence, "", "")
	}
}

// rows holds the outcomes in ClickHouse against those in the stream.
func (v *judging) rows() {
	stored := make(map[string]int, len(v.user.Rows))
	for i := range v.user.Rows {
		stored[v.user.Rows[i].OutcomeID]++
	}
	recorded := make(map[string]bool, len(v.user.Outcomes))
	for i := range v.user.Outcomes {
		o := &v.user.Outcomes[i]
		recorded[o.OutcomeID] = true
		if _, refused := v.in.Letters[Place{schema.OutcomesStream, o.Sequence}]; refused || o.Sequence > v.in.Settled.Outcomes {
			continue
		}
		if stored[o.OutcomeID] == 0 {
			v.differ("outcomes", "missing", o.OutcomeID, o.Sequence, describe(&o.Outcome), "")
		}
	}
	for i := range v.user.Rows {
		o := &v.user.Rows[i]
		switch {
		case stored[o.OutcomeID] > 1:
			v.differ("outcomes", "twice", o.OutcomeID, o.Sequence, "one row", fmt.Sprintf("%d rows", stored[o.OutcomeID]))
			stored[o.OutcomeID] = 1 // told once
		case !recorded[o.OutcomeID] && o.Sequence <= v.in.Settled.Outcomes:
			v.differ("outcomes", "unexpected", o.OutcomeID, o.Sequence, "", describe(&o.Outcome))
		}
	}
}

// describe names an outcome for a person.
func describe(o *schema.Outcome) string {
	words := []string{string(o.Kind)}
	for _, word := range []string{o.Segment, o.Journey, o.StepKey, o.Action, o.Experiment, o.Goal} {
		if word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// actions looks for those that were decided and of which nobody knows what became.
func (v *judging) actions() {
	over := make(map[string]bool)
	for i := range v.user.Outcomes {
		if o := &v.user.Outcomes[i]; o.Kind == schema.ActionDelivered || o.Kind == schema.ActionFailed {
			over[o.ActionID] = true
		}
	}
	for i := range v.user.Outcomes {
		o := &v.user.Outcomes[i]
		if o.Kind == schema.ActionDecided && !over[o.ActionID] && o.RecordedAt < v.in.AsOf-pendingActions.Milliseconds() {
			v.differ("action", "open", o.ActionID, o.Sequence, "delivered or failed by now", describe(&o.Outcome))
		}
	}
}

// workflow holds the state of the user's workflow against the fold of the log.
func (v *judging) workflow() {
	u := v.user
	switch {
	case u.Busy:
		v.Unjudged = UnjudgedBusy
		return
	case u.Silent != "":
		v.differ("workflow", "silent", "", 0, "an answer", u.Silent)
		return
	case u.Closed:
		v.differ("workflow", "closed", "", 0, "running", "closed")
		return
	case u.State == nil:
		v.absent()
		return
	case u.State.HandedOver == nil && u.Link.Into != "" && u.Link.Sequence <= v.in.Settled.Ingest && u.Link.At < v.in.AsOf-overdueAfter.Milliseconds():
		v.differ("workflow", "open", "", u.Link.Sequence, "handed over to "+u.Link.Into, "running")
		return
	case len(v.log) == 0 && u.State.Seen.Newest() == 0:
		v.differ("workflow", "unexpected", "", 0, "no event, no workflow", "running")
		return
	}
	if v.Unjudged = v.knowable(); v.Unjudged != "" {
		return
	}
	v.fold = fold(v.in, u, v.log)
	v.Trusted = v.fold.trusted
	if v.fold.idle > maxIdle {
		v.Unjudged = UnjudgedRestless
		return
	}
	differences := len(v.Differences)
	for _, t := range v.fold.twice {
		v.differ("counts", "twice", t.id, t.second, "counted once", fmt.Sprintf("counted at %d and again at %d, more than %d events later", t.first, t.second, journey.SeenCapacity))
	}
	v.state()
	v.record()
	switch doubt := len(v.Differences) > differences; {
	case doubt && v.fold.uncertain > 0:
		v.Differences, v.Unjudged = v.Differences[:differences], UnjudgedReading
	case doubt && v.fold.placeless():
		v.Differences, v.Unjudged = v.Differences[:differences], UnjudgedPlaces
	}
	if due := journey.WakeAt(u.State); due != 0 && due < v.in.AsOf-overdueAfter.Milliseconds() {
		_, what := journey.NextChange(u.State)
		v.differ("timer", "overdue", what, 0, stamp(due), stamp(v.in.AsOf))
	}
}

// absent judges a user without a workflow: right, where no event was for one.
func (v *judging) absent() {
	reads, disputed := false, false
	for i := range v.log {
		e := &v.log[i]
		if e.Sequence > v.in.Settled.Ingest || v.in.refused(e.Sequence) {
			continue
		}
		by := 0
		for _, book := range v.in.Stored {
			if book.Reads(e.EventName, len(e.Traits) > 0) {
				by++
			}
		}
		reads = reads || by > 0 && by == len(v.in.Stored)
		disputed = disputed || by > 0
	}
	switch {
	case (reads || len(v.user.Outcomes) > 0) && v.user.Link.Into != "":
		v.Unjudged = UnjudgedMerged // Temporal has let go of a workflow that handed over
	case reads || len(v.user.Outcomes) > 0:
		v.differ("workflow", "missing", "", 0, "running", "")
	case disputed:
		v.Unjudged = UnjudgedNoWorkflow
	}
}

// knowable says why the log cannot be folded as the workflow folded it; empty: it can.
func (v *judging) knowable() string {
	s := v.user.State
	if s.Older > 0 || len(s.Lived) == 0 {
		return UnjudgedVersions
	}
	if v.in.FirstEvent > 1 && (len(s.Merged) > 0 || s.HandedOver != nil) {
		return UnjudgedMerged
	}
	for i := range v.log {
		from := v.log[i].From
		at := slices.IndexFunc(s.Merged, func(m journey.Merged) bool { return m.Token == from })
		if _, taken := v.user.Taken[from]; at >= 0 && !taken && !s.Merged[at].Unseen {
			return UnjudgedMerged // Temporal has let go of the workflow
		}
	}
	for _, lived := range s.Lived {
		if v.in.Books.Playbook(lived.Playbook) == nil {
			return UnjudgedPlaybook
		}
	}
	return ""
}

// state compares field by field. While timers rest after an event of the past (journey.HistoricGrace), no log says how far they had got before it was
// taken, where rules were asked to no effect: then it is what both states come to by now that must be the same.
func (v *judging) state() {
	list := differences(&v.fold.state, v.user.State)
	if len(list) > 0 && v.user.State.HistoricAt != 0 {
		list = differences(v.caughtUp(&v.fold.state), v.caughtUp(v.user.State))
	}
	for _, d := range list {
		v.differ(d.Field, d.What, d.Subject, 0, d.Want, d.Got)
	}
}

// caughtUp returns a copy of a state over which all the time has passed, timers at rest or not.
func (v *judging) caughtUp(s *journey.State) *journey.State {
	raw, err := json.Marshal(s)
	if err != nil {
		return s // and differences says so
	}
	var state journey.State
	if err := json.Unmarshal(raw, &state); err != nil {
		return s
	}
	state, _ = journey.Advance(v.in.Books, state, v.user.AsOf, v.user.AsOf)
	return &state
}

// differences lists where a state is another than the fold of its log.
func differences(want, got *journey.State) []Difference {
	var list []Difference
	field := func(name string, a, b any) {
		for _, l := range compare(a, b, name == "facts" || name == "seen") {
			list = append(list, Difference{Field: name, What: "differs", Subject: l.path, Want: l.want, Got: l.got})
		}
	}
	field("counts", want.Counts.Applied, got.Counts.Applied)
	field("seen", want.Seen, got.Seen)
	field("playbook", want.Playbook, got.Playbook)
	field("clock", want.Clock, got.Clock)
	field("historic_at", want.HistoricAt, got.HistoricAt)
	field("sequence", want.Sequence, got.Sequence)
	field("last_event", want.LastEvent, got.LastEvent)
	for _, key := range keysOf(want.Members, got.Members) {
		field("membership."+key, want.Members[key], got.Members[key])
	}
	enrollments := func(s *journey.State) map[string]*journey.Enrollment {
		all := make(map[string]*journey.Enrollment)
		for _, e := range s.Enrollments {
			all[e.Journey+"."+e.ID] = e
		}
		return all
	}
	a, b := enrollments(want), enrollments(got)
	for _, key := range keysOf(a, b) {
		field("enrollment."+key, a[key], b[key])
	}
	for _, key := range keysOf(want.Passed, got.Passed) {
		field("passed."+key, want.Passed[key], got.Passed[key])
	}
	for _, key := range keysOf(want.Assigned, got.Assigned) {
		field("variant."+key, want.Assigned[key], got.Assigned[key])
	}
	for _, key := range keysOf(want.Refused, got.Refused) {
		field("refused."+key, want.Refused[key], got.Refused[key])
	}
	field("facts", want.Facts, got.Facts)
	field("merged", want.Merged, got.Merged)
	field("handed_over", want.HandedOver, got.HandedOver)
	field("sent", want.Sent, got.Sent)
	field("sent_in", want.SentIn, got.SentIn)
	return list
}

func keysOf[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = make(map[string]V)
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// record holds the outcomes on record against those that follow from the log.
func (v *judging) record() {
	recorded := make(map[string]bool, len(v.user.Outcomes))
	for i := range v.user.Outcomes {
		o := &v.user.Outcomes[i]
		recorded[o.OutcomeID] = true
		if _, follows := v.fold.outcomes[o.OutcomeID]; !follows && v.in.judged(o) {
			v.differ("outcomes", "unexpected", o.OutcomeID, o.Sequence, "", "on record, and does not follow: "+describe(&o.Outcome))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.fold.outcomes)) {
		if !recorded[id] {
			o := v.fold.outcomes[id]
			v.differ("outcomes", "missing", id, 0, "follows, and is not on record: "+describe(&o), "")
		}
	}
}

// profile holds the published profile against the workflow's state.
func (v *judging) profile() {
	p, s := v.user.Profile, v.user.State
	switch {
	case v.user.Closed || v.user.Busy || v.user.Silent != "":
		return
	case s == nil:
		if p != nil && (p.MergedInto == "" || p.MergedInto != v.user.Link.Into) {
			v.differ("profile", "unexpected", "", 0, "", fmt.Sprintf("sequence %d", p.Sequence))
		}
		return
	case p == nil:
		if s.Sequence > 0 {
			v.differ("profile", "missing", "", 0, fmt.Sprintf("sequence %d", s.Sequence), "")
		}
		return
	case p.Sequence < s.Sequence:
		v.differ("profile", "stale", "", 0, fmt.Sprintf("sequence %d", s.Sequence), fmt.Sprintf("sequence %d", p.Sequence))
		return
	case p.Playbook != s.Playbook || v.in.Books.Playbook(s.Playbook) == nil:
		return // of an older playbook, and nothing came of the newer one
	}
	now := journey.Profile(v.in.Books, s)
	for _, l := range compare(standing(&now), standing(p), false) {
		v.differ("profile", "differs", l.path, 0, l.want, l.got)
	}
}

// standing is what of a profile changes with outcomes alone. The rest (reasons, when rules are asked again) may have moved on since
// it was published.
func standing(p *schema.Profile) any {
	in := make(map[string]bool)
	for _, m := range p.Segments {
		in[m.Segment] = m.In
	}
	steps := make(map[string]string)
	for _, j := range p.Journeys {
		if j.EnrollmentID != "" && j.Ended == "" {
			steps[j.EnrollmentID] = j.Journey + "/" + j.StepKey
		}
	}
	return map[string]any{"sequence": p.Sequence, "stage": p.Stage, "segments": in, "variants": p.Variants, "steps": steps}
}

func stamp(at int64) string { return time.UnixMilli(at).UTC().Format(time.RFC3339) }
