package journey

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// Reasons of a suppression, in the order in which they are looked at.
const (
	SuppressedHistoric  = "historic"      // the user came in by an event of the past
	SuppressedHoldout   = "holdout"       // the user is kept without actions, to measure what they do
	SuppressedConsent   = "no_consent"    // the category's rule is not true
	SuppressedQuiet     = "quiet_hours"   // it is night for the user, and the action does not wait
	SuppressedExpired   = "expired"       // decided too long after it was due
	SuppressedFrequency = "frequency_cap" // the user got as many as a limit allows
)

// want is an action that a step asks for.
type want struct {
	enrollment *Enrollment
	step       *playbook.Step
	visit      int
	due        int64 // when the user should have reached the step
}

// act decides the actions that the steps of this moment asked for, the journeys of highest priority first: what the user's
// budget is too small for is what matters least, whichever step came first.
func (t *turn) act() {
	slices.SortStableFunc(t.wanted, func(a, b want) int { return t.priority(b.enrollment) - t.priority(a.enrollment) })
	for _, w := range t.wanted {
		t.decide(w)
	}
	t.wanted = nil
}

// decide lets an action be delivered, or suppresses it with a reason. Either is an outcome.
func (t *turn) decide(w want) {
	e, step := w.enrollment, w.step
	book := t.books.Playbook(e.Version)
	action := book.Actions[step.Action]
	id := schema.ActionID(e.ID, step.Key, w.visit)
	reason := t.suppression(w, action, book)
	if reason == "" {
		t.count(action)
		t.exposeHoldout(e)
	}
	if reason != SuppressedHistoric && t.heldOut() {
		reason = SuppressedHoldout
	}
	kind := schema.ActionDecided
	if reason != "" {
		kind = schema.ActionSuppressed
		t.mark(e, step.Key, action.Key+" suppressed: "+reason)
	} else {
		t.mark(e, step.Key, action.Key+" sent")
	}
	o := t.outcome(kind, id)
	t.fill(&o, e)
	o.StepKey, o.Action, o.ActionID, o.Reason = step.Key, action.Key, id, reason
	t.record(o)
	if reason != "" {
		return
	}
	traits := book.Set.TraitValues(&t.state.Facts)
	t.decision.Actions = append(t.decision.Actions, schema.ActionRequest{
		ActionID: id, Action: action.Key, UserToken: t.state.Token, Journey: e.Journey, JourneyVersion: e.Version,
		EnrollmentID: e.ID, StepKey: step.Key, DecidedAt: t.at, Segments: t.state.segments(), Variants: t.state.variants(),
		Properties: playbook.Fill(step.With, traits, decoded(e.Same)), Traits: traits,
	})
}

// suppression says why an action is not sent, the holdout left aside; empty: it is.
func (t *turn) suppression(w want, action *playbook.Action, book *playbook.Playbook) string {
	switch {
	case w.enrollment.Historic || t.historic():
		return SuppressedHistoric
	case action.Category != "" && book.Consent[action.Category].Eval(t.scope()).Truth != segment.True:
		return SuppressedConsent
	case action.Quiet == playbook.QuietDrop && t.quietUntil() != 0:
		return SuppressedQuiet
	case w.step.Expire != 0 && max(t.now, t.at)-w.due > w.step.Expire.Milliseconds():
		return SuppressedExpired
	case !action.Uncapped && t.capped(action.Category):
		return SuppressedFrequency
	}
	return ""
}

// heldUntil says until when an action step keeps the user because it is night; 0: it does not. What is not sent anyway, because the
// moment is of the past, waits for nothing.
func (t *turn) heldUntil(e *Enrollment, step *playbook.Step) int64 {
	action := t.books.Playbook(e.Version).Actions[step.Action]
	if action.Quiet != playbook.QuietHold || e.Historic || t.historic() {
		return 0
	}
	return t.quietUntil()
}

// quietUntil returns the end of the quiet hours that this moment lies in; 0: it lies in none. They are those of the newest playbook.
func (t *turn) quietUntil() int64 {
	if t.book.Quiet == nil {
		return 0
	}
	if in, until := t.book.Quiet.At(t.at, t.zone()); in {
		return until
	}
	return 0
}

// heldOut reports whether the user is one of those who get no action at all.
func (t *turn) heldOut() bool {
	if met := t.state.Assigned[playbook.HoldoutKey]; met.Under != "" { // as the one was who became this user
		return t.book.Holdout != nil && met.Variant == playbook.HeldOut
	}
	return t.book.Holdout != nil && t.book.Holdout.Assign(t.state.Token).Variant == playbook.HeldOut
}

// exposeHoldout records that the user reached the first action that is sent, or would be: the moment from which held out and
// treated differ.
func (t *turn) exposeHoldout(e *Enrollment) {
	if t.book.Holdout == nil {
		return
	}
	if _, met := t.state.Assigned[playbook.HoldoutKey]; met {
		return
	}
	assignment := t.book.Holdout.Assign(t.state.Token)
	t.assign(e, t.book.Holdout, assignment, map[string]any{"counterfactual": assignment.Variant == playbook.HeldOut})
}

func (t *turn) zone() *time.Location { return t.book.Set.Zone(&t.state.Facts) }

// capped reports whether a limit has no room for one more action of the category.
func (t *turn) capped(category string) bool {
	for _, limit := range t.book.Limits {
		sends := t.state.Sent
		switch limit.Category {
		case "":
		case category:
			sends = t.state.SentIn[category]
		default:
			continue
		}
		if t.within(limit, sends) >= limit.Actions {
			return true
		}
	}
	return false
}

// within counts the sends that a limit counts at this moment.
func (t *turn) within(limit playbook.Limit, sends []int64) int {
	n := 0
	for _, at := range slices.Backward(sends) {
		if limit.Daily && segment.DayOf(at, t.zone()) != segment.DayOf(t.at, t.zone()) ||
			!limit.Daily && at <= t.at-limit.Per.Milliseconds() {
			break
		}
		n++
	}
	return n
}

// count takes an action from the user's budget. A held-out user's budget is spent as if the action were sent: they are to be
// compared with users whose was.
func (t *turn) count(action *playbook.Action) {
	if action.Uncapped || len(t.book.Limits) == 0 {
		return
	}
	t.state.Sent = append(t.state.Sent, t.at)
	if action.Category == "" {
		return
	}
	if t.state.SentIn == nil {
		t.state.SentIn = make(map[string][]int64)
	}
	t.state.SentIn[action.Category] = append(t.state.SentIn[action.Category], t.at)
}

// forgetSends drops what no limit can count any more, by age or because newer ones fill it.
func (t *turn) forgetSends() {
	var longest time.Duration
	most := 0
	for _, limit := range t.book.Limits {
		longest, most = max(longest, limit.Per), max(most, limit.Actions)
	}
	oldest := t.state.Clock - longest.Milliseconds()
	forget := func(sends []int64) []int64 {
		sends = slices.DeleteFunc(sends, func(at int64) bool { return at <= oldest })
		return sends[max(0, len(sends)-most):]
	}
	t.state.Sent = forget(t.state.Sent)
	for category, sends := range t.state.SentIn {
		if t.state.SentIn[category] = forget(sends); len(t.state.SentIn[category]) == 0 {
			delete(t.state.SentIn, category)
		}
	}
}

// outcome begins the record of something that happened at this moment; parts are what makes it the same when decided again.
func (t *turn) outcome(kind schema.OutcomeKind, parts ...string) schema.Outcome {
	o := schema.Outcome{
		OutcomeID: schema.OutcomeID(kind, parts...), Kind: kind, UserToken: t.state.Token, At: t.at, Playbook: t.state.Playbook,
		LogSequence: t.place(), DecidedAt: t.now,
	}
	if cause := cmp.Or(t.event, t.cause); cause != nil {
		o.CauseEventID, o.Trace = cause.EventID, cause.Trace
		if cause.Lateness != schema.Historic {
			o.CauseReceivedAt = cause.ReceivedAt
		}
	}
	return o
}

func (t *turn) fill(o *schema.Outcome, e *Enrollment) {
	o.Journey, o.JourneyVersion, o.EnrollmentID, o.StepKey = e.Journey, e.Version, e.ID, e.Step
}

func (t *turn) record(o schema.Outcome) { t.decision.Outcomes = append(t.decision.Outcomes, o) }

// segmentOutcome records that a member enters or leaves; m is the way it was so far. What else changed it at this very moment, with the same
// cause or none, as time, a playbook and a merge can after a late event, is another outcome, told from this one by its place.
func (t *turn) segmentOutcome(key string, m *Member, in bool, reason string) {
	kind := schema.SegmentLeft
	if in {
		kind = schema.SegmentEntered
	}
	cause := ""
	if event := cmp.Or(t.event, t.cause); event != nil {
		cause = event.EventID
	}
	parts := []string{t.state.Token, key, strconv.FormatInt(t.at, 10), cause}
	o := t.outcome(kind, parts...)
	if cause == "" && m.Since == t.at || slices.ContainsFunc(t.decision.Outcomes, func(other schema.Outcome) bool { return other.OutcomeID == o.OutcomeID }) {
		o.OutcomeID = schema.OutcomeID(kind, append(parts, strconv.FormatUint(t.state.Sequence+uint64(len(t.decision.Outcomes)), 10))...)
	}
	o.Segment, o.Reason = key, reason
	t.record(o)
}

// details encodes what belongs to one kind of outcome alone. The values are ours: plain maps, texts and numbers.
func details(values map[string]any) json.RawMessage {
	raw, err := json.Marshal(values)
	if err != nil {
		return nil // cannot happen for such values, and an outcome without details is better than none
	}
	return raw
}
