package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// Reasons that calls alone are refused for: a batch with nothing in it; an id under which the stream has another event; a header
// that cannot be an id.
const (
	reasonEmptyBatch     schema.Reason = "empty_batch"
	reasonConflict       schema.Reason = "event_conflict"
	reasonIdempotencyKey schema.Reason = "bad_idempotency_key"
)

// conflictMessage is for whoever sent another event under a known id.
const conflictMessage = "another event has this id; it stays, and this one is not stored"

// patienceBusy and patienceAway are what a caller is told to wait.
const (
	patienceBusy = 2 * time.Second
	patienceAway = time.Second
)

// Verdicts on events, for Config.Tracked.
const (
	VerdictStored    = "stored"
	VerdictDuplicate = "duplicate" // the stream had it already
	VerdictRefused   = "refused"   // the input is wrong
	VerdictDeferred  = "deferred"  // the stream did not take it; the caller was told to send it again
)

// trackingRoutes are the paths of single calls, with the short ones of the browser SDK, and the kind each stands for.
func trackingRoutes() map[string]string {
	return map[string]string{
		"/v1/track": kindTrack, "/v1/identify": kindIdentify, "/v1/page": kindPage, "/v1/screen": kindScreen, "/v1/group": kindGroup, "/v1/alias": kindAlias,
		"/v1/t": kindTrack, "/v1/i": kindIdentify, "/v1/p": kindPage, "/v1/s": kindScreen, "/v1/g": kindGroup, "/v1/a": kindAlias,
	}
}

// batchRoutes are the paths of batches, and whether what they bring belongs to the past.
func batchRoutes() map[string]bool {
	return map[string]bool{"/v1/batch": false, "/v1/b": false, "/v1/import": true}
}

// Routes that SDKs ask for their settings.
const (
	routeSettings     = "/v1/projects/{key}/settings"
	routeSourceConfig = "/sourceConfig"
)

// singleAnswer is the answer to one call.
type singleAnswer struct {
	Success   bool            `json:"success"`
	MessageID string          `json:"message_id"`
	Duplicate bool            `json:"duplicate,omitempty"`
	Profile   *schema.Profile `json:"profile,omitempty"` // with the event in it, for who waits
	Pending   string          `json:"pending,omitempty"` // why there is none
}

// batchAnswer is the answer to a batch: each item has a verdict of its own.
type batchAnswer struct {
	Success    bool           `json:"success"`
	Accepted   int            `json:"accepted"` // duplicates among them
	Duplicates int            `json:"duplicates"`
	Rejected   []itemRejected `json:"rejected"`
	Assigned   []itemAssigned `json:"assigned,omitempty"` // ids of items that had none
}

type itemRejected struct {
	Index   int           `json:"index"`
	Code    schema.Reason `json:"code"`
	Field   string        `json:"field,omitempty"`
	Message string        `json:"message"`
}

type itemAssigned struct {
	Index     int    `json:"index"`
	MessageID string `json:"message_id"`
}

// trackOne takes one call.
func (s *Server) trackOne(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, key, ok := s.receive(w, r, maxCallBytes)
		if !ok {
			return
		}
		envelope, envelopeErr := schema.ReadEnvelope(raw)
		if key, ok = s.writer(w, r, key, textOf(envelope[fieldWriteKey])); !ok || !s.allow(w, r, key, 1, RoleWrite) || !s.mayWait(w, r, key) {
			return
		}
		if envelopeErr != nil {
			s.verdict(VerdictRefused, 1)
			s.refuseBody(w, r, envelopeErr)
			return
		}
		id, err := idempotencyKey(r, envelope)
		var event tracked
		if err == nil {
			event, err = translate(kind, raw, callShared{sentAt: sentAtHeader(r)}, time.Now(), id)
		}
		if err != nil {
			s.verdict(VerdictRefused, 1)
			s.refuseBody(w, r, err)
			return
		}
		event.prompt = waits(r)
		events := []tracked{event}
		kept, ok := s.store(w, r, key, events)
		if !ok {
			return
		}
		if len(kept.conflicts) > 0 {
			s.refuseBody(w, r, refusal(reasonConflict, fieldMessageID, conflictMessage))
			return
		}
		answer, status := singleAnswer{Success: true, MessageID: event.eventID, Duplicate: kept.duplicates > 0}, http.StatusOK
		if waits(r) {
			status = s.await(r, &events[0].received, &answer)
		}
		s.answer(r.Context(), w, status, answer)
	}
}

// idempotencyKey returns what gives a call an id that has none: the header of that name, for code that does not build its calls
// itself, else chance.
func idempotencyKey(r *http.Request, envelope map[string]json.RawMessage) (func() string, error) {
	values, given := r.Header[http.CanonicalHeaderKey("Idempotency-Key")]
	if !given {
		return newMessageID, nil
	}
	key, own := values[0], textOf(envelope[fieldMessageID])
	outside := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case len(values) > 1 || key == "" || len(key) > schema.MaxEventID || strings.ContainsFunc(key, outside):
		return nil, refusal(reasonIdempotencyKey, "idempotency-key", "must be one value of 1 to 100 printable characters, without spaces")
	case own != "" && own != key:
		return nil, refusal(reasonIdempotencyKey, "idempotency-key", "is not the call's messageId; send one of them, or the same twice")
	default:
		return func() string { return key }, nil
	}
}

// trackBatch takes a batch. An item that is wrong is refused alone; a stream that does not take one item takes back the whole,
// and the caller sends it again with the same ids.
func (s *Server) trackBatch(backfill bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, key, ok := s.receive(w, r, maxBatchBytes)
		if !ok {
			return
		}
		envelope, items, err := readBatch(raw)
		if key, ok = s.writer(w, r, key, batchKey(envelope, items)); !ok || !s.allow(w, r, key, min(maxBatchItems, max(1, len(items))), RoleWrite) {
			return
		}
		if err != nil {
			s.refuseBody(w, r, err)
			return
		}
		shared := callShared{context: envelope[fieldContext], integrations: envelope[fieldIntegrations], sentAt: envelope[fieldSentAt], backfill: backfill}
		if isNull(shared.sentAt) {
			shared.sentAt = sentAtHeader(r)
		}
		answer := batchAnswer{Success: true, Rejected: []itemRejected{}}
		events := s.judge(&answer, items, shared)
		kept, ok := s.store(w, r, key, events)
		if !ok {
			return
		}
		answer.Accepted, answer.Duplicates = len(events)-len(kept.conflicts), kept.duplicates
		for _, k := range kept.conflicts {
			answer.Rejected = append(answer.Rejected, itemRejected{Index: events[k].index, Code: reasonConflict, Field: fieldMessageID, Message: conflictMessage})
		}
		s.logRejected(r, answer.Rejected)
		s.answer(r.Context(), w, http.StatusOK, answer)
	}
}

// readBatch takes the envelope apart and leaves the items as they are.
func readBatch(raw []byte) (map[string]json.RawMessage, []json.RawMessage, error) {
	envelope, err := schema.ReadEnvelope(raw)
	if err != nil {
		return nil, nil, err
	}
	if isNull(envelope[fieldBatch]) {
		return envelope, nil, refusal(reasonEmptyBatch, fieldBatch, "is missing: a batch is {\"batch\":[…]}")
	}
	items, err := schema.ReadItems(fieldBatch, envelope[fieldBatch])
	if err == nil && len(items) == 0 {
		err = refusal(reasonEmptyBatch, fieldBatch, "is empty")
	}
	return envelope, items, err
}

// judge turns items into events, and writes down why the others are none.
func (s *Server) judge(answer *batchAnswer, items []json.RawMessage, shared callShared) []tracked {
	now, events := time.Now(), make([]tracked, 0, min(len(items), maxBatchItems))
	for index, item := range items {
		var event tracked
		err := error(refusal(schema.ReasonTooLarge, fieldBatch, "a batch has at most 2500 events; send the rest in another"))
		if index < maxBatchItems {
			event, err = translate("", item, shared, now, newMessageID)
		}
		if rejection, ok := errors.AsType[*schema.Rejection](err); ok {
			answer.Rejected = append(answer.Rejected, itemRejected{Index: index, Code: rejection.Reason, Field: rejection.Field, Message: rejection.Message})
			continue
		}
		if event.made {
			answer.Assigned = append(answer.Assigned, itemAssigned{Index: index, MessageID: event.eventID})
		}
		event.index = index
		events = append(events, event)
	}
	s.verdict(VerdictRefused, len(answer.Rejected))
	return events
}

// receive reads the body of a call, for a caller whose key, where it stands in the headers, is known.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, limit int) (raw []byte, key *apiKey, ok bool) {
	if secret, basic := presented(r); basic {
		if key, ok = s.identify(w, r, secret); !ok {
			return nil, nil, false
		}
	}
	raw, err := readBody(w, r, limit)
	if err != nil {
		s.refuseBody(w, r, err)
		return nil, nil, false
	}
	return raw, key, true
}

// writer is the caller: by the headers, else by what stands in the body.
func (s *Server) writer(w http.ResponseWriter, r *http.Request, known *apiKey, inBody string) (*apiKey, bool) {
	if known != nil {
		return known, true
	}
	secret, _ := presented(r)
	return s.identify(w, r, secret, inBody)
}

// kept is what became of events that the stream has.
type kept struct {
	duplicates int   // it had them before
	conflicts  []int // it has others under their ids; by place among the events
}

// keep puts the events into the stream, counts the verdicts, and looks at what the stream had already. Errors: errBusy and errAway, and then
// nothing may be acknowledged.
func (s *Server) keep(ctx context.Context, key *apiKey, events []tracked) (kept, error) {
	if len(events) == 0 {
		return kept{}, nil
	}
	var result kept
	inside, span := s.publishing(ctx, key.name, events)
	places, err := s.intake.store(inside, key.name, events)
	published(span, places, err)
	if err == nil {
		result.conflicts, err = s.intake.conflicts(ctx, events, places)
	}
	if err != nil {
		s.verdict(VerdictDeferred, len(events))
		return kept{}, err
	}
	for _, at := range places {
		if at.duplicate {
			result.duplicates++
		}
	}
	s.verdict(VerdictStored, len(events)-result.duplicates)
	result.duplicates -= len(result.conflicts)
	s.verdict(VerdictDuplicate, result.duplicates)
	s.verdict(VerdictRefused, len(result.conflicts))
	s.viewed(events)
	return result, nil
}

// store puts the events into the stream and answers where it does not take them.
func (s *Server) store(w http.ResponseWriter, r *http.Request, key *apiKey, events []tracked) (kept, bool) {
	result, err := s.keep(r.Context(), key, events)
	if err == nil {
		return result, true
	}
	s.logger.WarnContext(r.Context(), "events not stored; the caller was told to send them again",
		slog.String("request_id", requestOf(r).id), slog.Int("events", len(events)), slog.Any("error", err), tracing.Logged(tracing.Of(r.Context())))
	if errors.Is(err, errBusy) {
		s.refuseBusy(w, r, patienceBusy, "the stream takes no more at the moment; nothing was acknowledged, send it again")
		return kept{}, false
	}
	w.Header().Set("Retry-After", seconds(patienceAway))
	s.refuse(w, r, http.StatusServiceUnavailable, problemDetail{Code: schema.CodeUnavailable, Message: "the stream does not answer; nothing was acknowledged, send it again"})
	return kept{}, false
}

// logRejected says what was refused of a batch, since an SDK looks at the status alone.
func (s *Server) logRejected(r *http.Request, rejected []itemRejected) {
	if len(rejected) == 0 {
		return
	}
	first := rejected[0]
	s.logger.WarnContext(r.Context(), "events of a batch refused", slog.String("request_id", requestOf(r).id), slog.String("key", requestOf(r).key),
		slog.Int("events", len(rejected)), slog.String("first_code", string(first.Code)), slog.String("first_field", first.Field),
		tracing.Logged(tracing.Of(r.Context())))
}

func (s *Server) verdict(verdict string, n int) {
	if s.cfg.Tracked != nil && n > 0 {
		s.cfg.Tracked(verdict, n)
	}
}

// settings answers Segment's browser SDK, which asks before it sends anything.
func (s *Server) settings(w http.ResponseWriter, r *http.Request) {
	secret := r.PathValue("key")
	key, ok := s.identify(w, r, secret)
	if !ok || !s.allow(w, r, key, 1, RoleWrite) {
		return
	}
	s.answer(r.Context(), w, http.StatusOK, map[string]any{"integrations": map[string]any{"Segment.io": map[string]string{"apiKey": secret}}})
}

// sourceConfig answers RudderStack's browser SDK: a source that is on, without destinations.
func (s *Server) sourceConfig(w http.ResponseWriter, r *http.Request) {
	secret, _ := presented(r)
	if secret == "" {
		secret = r.URL.Query().Get("writeKey")
	}
	key, ok := s.identify(w, r, secret)
	if !ok || !s.allow(w, r, key, 1, RoleWrite) {
		return
	}
	off := map[string]bool{"enabled": false}
	s.answer(r.Context(), w, http.StatusOK, map[string]any{"source": map[string]any{
		"id": key.name, "name": key.name, "writeKey": secret, "enabled": true, "workspaceId": "onramp", "destinations": []string{},
		"dataplanes": map[string]any{}, "config": map[string]any{"statsCollection": map[string]any{"errors": off, "metrics": off}},
	}})
}

func newMessageID() string { return "api-" + strings.ToLower(rand.Text()) }

// sentAtHeader is where RudderStack's browser SDK says when it sent.
func sentAtHeader(r *http.Request) json.RawMessage {
	if at := r.Header.Get("Sentat"); at != "" {
		return quote(at)
	}
	return nil
}

// batchKey is the write key of a batch, or of its first item: browsers put it into each.
func batchKey(envelope map[string]json.RawMessage, items []json.RawMessage) string {
	if key := textOf(envelope[fieldWriteKey]); key != "" || len(items) == 0 {
		return key
	}
	first, err := schema.ReadEnvelope(items[0])
	if err != nil {
		return ""
	}
	return textOf(first[fieldWriteKey])
}

func textOf(raw json.RawMessage) string {
	text, err := (&call{fields: map[string]json.RawMessage{"": raw}}).text("")
	if err != nil {
		return ""
	}
	return text
}
