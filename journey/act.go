package journey

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// Reasons of a suppression.
const (
	SuppressedHistoric  = "historic"      // the user came in by an event of the past
	SuppressedConsent   = "no_consent"    // the category's rule is not true
	SuppressedExpired   = "expired"       // decided too long after it was due
	SuppressedFrequency = "frequency_cap" // the user got as many as the limit allows
)

// want is an action that a step asks for.
type want struct {
	enrollment *Enrollment
	step       *playbook.Step
	visit      int
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
	kind, reason := schema.ActionDecided, t.suppression(e, step, action, book)
	if reason != "" {
		kind = schema.ActionSuppressed
	}
	o := t.outcome(kind, id)
	t.fill(&o, e)
	o.StepKey, o.Action, o.ActionID, o.Reason = step.Key, action.Key, id, reason
	t.record(o)
	if reason != "" {
		return
	}
	if !action.Uncapped && t.book.Limit != nil {
		t.state.Sent = append(t.state.Sent, t.at)
	}
	traits := book.Set.TraitValues(&t.state.Facts)
	t.decision.Actions = append(t.decision.Actions, schema.ActionRequest{
		ActionID: id, Action: action.Key, UserToken: t.state.Token, Journey: e.Journey, JourneyVersion: e.Version,
		EnrollmentID: e.ID, StepKey: step.Key, DecidedAt: t.at, Segments: t.state.segments(), Variants: t.state.variants(),
		Properties: playbook.Fill(step.With, traits), Traits: traits,
	})
}

func (t *turn) suppression(e *Enrollment, step *playbook.Step, action *playbook.Action, book *playbook.Playbook) string {
	switch {
	case e.Historic || t.historic():
		return SuppressedHistoric
	case action.Category != "" && book.Consent[action.Category].Eval(t.scope()).Truth != segment.True:
		return SuppressedConsent
	case step.Expire != 0 && t.now-t.at > step.Expire.Milliseconds():
		return SuppressedExpired
	case !action.Uncapped && t.book.Limit != nil && len(t.state.Sent) >= t.book.Limit.Actions:
		return SuppressedFrequency
	}
	return ""
}

// outcome begins the record of something that happened at this moment; parts are what makes it the same when decided again.
func (t *turn) outcome(kind schema.OutcomeKind, parts ...string) schema.Outcome {
	o := schema.Outcome{
		OutcomeID: schema.OutcomeID(kind, parts...), Kind: kind, UserToken: t.state.Token, At: t.at, Playbook: t.state.Playbook,
	}
	if t.event != nil {
		o.CauseEventID = t.event.EventID
		if t.event.Lateness != schema.Historic {
			o.CauseReceivedAt = t.event.ReceivedAt
		}
	}
	return o
}

func (t *turn) fill(o *schema.Outcome, e *Enrollment) {
	o.Journey, o.JourneyVersion, o.EnrollmentID, o.StepKey = e.Journey, e.Version, e.ID, e.Step
}

func (t *turn) record(o schema.Outcome) { t.decision.Outcomes = append(t.decision.Outcomes, o) }

func (t *turn) segmentOutcome(key string, in bool, reason string) {
	kind := schema.SegmentLeft
	if in {
		kind = schema.SegmentEntered
	}
	cause := ""
	if t.event != nil {
		cause = t.event.EventID
	}
	o := t.outcome(kind, t.state.Token, key, strconv.FormatInt(t.at, 10), cause)
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
