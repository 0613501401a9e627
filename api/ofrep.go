package api

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/onramphq/onramp/schema"
)

// Routes of OFREP, the protocol by which OpenFeature's providers ask for flags.
const (
	routeFlag  = "/ofrep/v1/evaluate/flags/{flag}"
	routeFlags = "/ofrep/v1/evaluate/flags"
)

// maxContextBytes bounds an evaluation context, of which the targeting key alone counts.
const maxContextBytes = 64 << 10

// Reasons and error codes, as OpenFeature has them.
const (
	reasonTargeting = "TARGETING_MATCH"
	reasonSplit     = "SPLIT"
	reasonUnknown   = "UNKNOWN"
	reasonStatic    = "STATIC"

	flagNotFound        = "FLAG_NOT_FOUND"
	flagParseError      = "PARSE_ERROR"
	flagNoTargetingKey  = "TARGETING_KEY_MISSING"
	flagInvalidContext  = "INVALID_CONTEXT"
	flagGeneral         = "GENERAL"
	flagSet             = "onramp"
	metadataContext     = "contextId"
	metadataFlagSet     = "flagSetId"
	metadataVersion     = "version"
	metadataExplanation = "explanation"
)

// flag is one evaluated flag. Metadata holds texts, numbers and booleans alone: clients drop the rest.
type flag struct {
	Key      string         `json:"key"`
	Value    any            `json:"value"`
	Reason   string         `json:"reason"`
	Variant  string         `json:"variant,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

// flagFailure is OFREP's own shape of an error. Its providers do not understand any other.
//
//nolint:tagliatelle // the names are OFREP's
type flagFailure struct {
	Key          string `json:"key,omitempty"`
	ErrorCode    string `json:"errorCode"`
	ErrorDetails string `json:"errorDetails,omitempty"`
}

// bulk is the answer to all flags at once, but for where the client hears of changes.
type bulk struct {
	Flags    []flag         `json:"flags"`
	Metadata map[string]any `json:"metadata"`
}

// journeyFlag is the value of a journey's flag: where the user's newest enrollment stands.
type journeyFlag struct {
	Step      string `json:"step"`
	Waiting   string `json:"waiting"`
	StartedAt int64  `json:"started_at"`
	Deadline  int64  `json:"deadline"`
	Ended     string `json:"ended"`
	Converted bool   `json:"converted"`
	Paused    bool   `json:"paused"`
}

// flagsOf are a profile's flags, by key: `segment.<name>` (boolean), `variant.<experiment>` (string), `journey.<name>` (object) and
// `stage` (string). explain adds the reasons of rules, which say more than a page of strangers should know.
func flagsOf(p *schema.Profile, explain bool) []flag {
	flags := []flag{{Key: "stage", Value: p.Stage, Reason: reasonStatic}}
	for _, m := range p.Segments {
		f := flag{Key: "segment." + m.Segment, Value: m.In, Reason: reasonTargeting, Variant: "out", Metadata: map[string]any{"since": m.Since}}
		if m.In {
			f.Variant = "in"
		}
		if m.Unknown { // the rule has no answer at the moment; what it was before stands
			f.Reason = reasonUnknown
		}
		if explain {
			f.Metadata[metadataExplanation] = m.Reason
		}
		flags = append(flags, f)
	}
	for experiment, variant := range p.Variants {
		flags = append(flags, flag{
			Key: "variant." + experiment, Value: variant, Reason: reasonSplit, Variant: variant, Metadata: map[string]any{"experiment": experiment},
		})
	}
	newest := make(map[string]schema.JourneyStatus, len(p.Journeys))
	for _, j := range p.Journeys {
		if known, ok := newest[j.Journey]; !ok || j.StartedAt >= known.StartedAt {
			newest[j.Journey] = j
		}
	}
	for name, j := range newest {
		flags = append(flags, flag{Key: "journey." + name, Reason: reasonTargeting, Variant: cmp.Or(j.Ended, j.StepKey), Value: journeyFlag{
			Step: j.StepKey, Waiting: j.Waiting, StartedAt: j.StartedAt, Deadline: j.Deadline, Ended: j.Ended, Converted: j.Converted, Paused: j.Paused,
		}})
	}
	slices.SortFunc(flags, func(a, b flag) int { return cmp.Compare(a.Key, b.Key) })
	return flags
}

// allFlags are those of the profile, and of experiments that are met by their flag alone.
func (s *Server) allFlags(p *schema.Profile, explain bool) []flag {
	flags, met := flagsOf(p, explain), s.cfg.Exposures.current().flags(p)
	if len(met) == 0 {
		return flags
	}
	flags = append(flags, met...)
	slices.SortFunc(flags, func(a, b flag) int { return cmp.Compare(a.Key, b.Key) })
	return flags
}

// evaluateFlags answers with all flags of a user. Whoever is not known has none, and the client takes the defaults in its code; asking
// makes nobody. So it is while the profiles are being read in, because the web provider gives up after a first call that fails.
func (s *Server) evaluateFlags(w http.ResponseWriter, r *http.Request) {
	asks, ok := s.evaluation(w, r, "")
	if !ok {
		return
	}
	s.catchUp(r, asks.token)
	answer := s.flagsFor(asks.token, asks.key.may(RoleRead))
	stream, opens := s.streamFor(asks, answer)
	tag := `"` + answer.tag + `"`
	if opens != "" {
		tag = `"` + answer.tag + "-" + opens + `"`
	}
	w.Header().Set("ETag", tag)
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if opens == "" {
		s.sendText(r.Context(), w, answer.head, "}\n")
		return
	}
	s.sendText(r.Context(), w, answer.head, `,"eventStreams":[`, stream, "]}\n")
}

// evaluateFlag answers with one flag of a user.
func (s *Server) evaluateFlag(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("flag")
	asks, ok := s.evaluation(w, r, name)
	if !ok {
		return
	}
	one, found := s.oneFlag(asks.token, name, asks.key.may(RoleRead))
	switch {
	case found:
		s.sendText(r.Context(), w, one)
	case s.unread(asks.token):
		w.Header().Set("Retry-After", "1")
		s.refuseFlag(w, r, http.StatusServiceUnavailable, flagFailure{Key: name, ErrorCode: flagGeneral, ErrorDetails: "the profiles are still being read in; ask again"})
	default:
		s.refuseFlag(w, r, http.StatusNotFound, flagFailure{Key: name, ErrorCode: flagNotFound, ErrorDetails: "this user has no such flag"})
	}
}

// oneFlag is one flag of a user, as JSON. One flag is asked for by whoever acts on it, so that of an experiment puts the exposure on record.
func (s *Server) oneFlag(token, name string, explain bool) (one string, found bool) {
	one, found = s.flagsFor(token, explain).one[name]
	if experiment, ok := strings.CutPrefix(name, "variant."); ok && found {
		s.shown(token, experiment)
	}
	return one, found
}

// unread reports whether a user may yet turn out to be known: the profiles are still being read in.
func (s *Server) unread(token string) bool {
	_, known := s.mirror.raw(token)
	return !known && !s.mirror.Ready()
}

// asker is who asks about whom. until is when what they showed ends; zero: never.
type asker struct {
	key   *apiKey
	token string
	until time.Time
}

// evaluation finds out who asks about whom, and answers where that cannot be.
func (s *Server) evaluation(w http.ResponseWriter, r *http.Request, flagKey string) (asks asker, ok bool) {
	asks.key, ok = s.admit(w, r, RoleRead, RoleWrite)
	if !ok {
		return asker{}, false
	}
	targetingKey, failure := s.targetingKey(w, r)
	if failure.ErrorCode == "" {
		asks.token, asks.until, failure = s.tokenFor(asks.key, targetingKey)
	}
	if failure.ErrorCode != "" {
		failure.Key = flagKey
		s.refuseFlag(w, r, http.StatusBadRequest, failure)
		return asker{}, false
	}
	requestOf(r).userToken = asks.token
	return asks, true
}

// targetingKey reads the context. A failure without a code is none.
func (s *Server) targetingKey(w http.ResponseWriter, r *http.Request) (string, flagFailure) {
	body, err := readBody(w, r, maxContextBytes)
	if err != nil {
		return "", flagFailure{ErrorCode: flagParseError, ErrorDetails: err.Error()}
	}
	if text, ok := plainKey(body); ok {
		return text, flagFailure{}
	}
	request, err := schema.ReadObject(body) // something is wrong with it: find out what
	if err != nil {
		return "", parseFailure(err)
	}
	context := request["context"]
	if isNull(context) {
		return "", flagFailure{ErrorCode: flagNoTargetingKey, ErrorDetails: `the context is missing: {"context":{"targetingKey":"u42"}}`}
	}
	if jsontext.Value(context).Kind() != '{' {
		return "", flagFailure{ErrorCode: flagInvalidContext, ErrorDetails: "the context is not an object"}
	}
	members, err := schema.ReadObject(context)
	if err != nil {
		return "", parseFailure(err)
	}
	id := members["targetingKey"]
	switch {
	case isNull(id):
		return "", flagFailure{ErrorCode: flagNoTargetingKey, ErrorDetails: "the targeting key names the user"}
	case jsontext.Value(id).Kind() != '"':
		return "", flagFailure{ErrorCode: flagInvalidContext, ErrorDetails: "the targeting key is not a string"}
	}
	text := textOf(id)
	switch {
	case strings.TrimSpace(text) == "":
		return "", flagFailure{ErrorCode: flagNoTargetingKey, ErrorDetails: "the targeting key is empty"}
	case len(text) > schema.MaxUserID || !utf8.ValidString(text):
		return "", flagFailure{ErrorCode: flagInvalidContext, ErrorDetails: "the targeting key has more than 256 bytes"}
	}
	return text, flagFailure{}
}

// contexts reads contexts without making anything of what it skips.
type contexts struct {
	bytes   bytes.Reader
	decoder jsontext.Decoder
}

//nolint:gochecknoglobals // a pool
var contextPool = sync.Pool{New: func() any { return new(contexts) }}

// plainKey reads the targeting key of a request in which nothing is wrong: it is as strict as schema.ReadObject, and says no more than no.
func plainKey(body []byte) (text string, ok bool) {
	c, _ := contextPool.Get().(*contexts) //nolint:errcheck // nothing else is in there
	defer contextPool.Put(c)
	c.bytes.Reset(body)
	c.decoder.Reset(&c.bytes)
	found := member(&c.decoder, "context", func() bool {
		return member(&c.decoder, "targetingKey", func() bool {
			token, err := c.decoder.ReadToken()
			if err != nil || token.Kind() != '"' {
				return false
			}
			text = token.String()
			return strings.TrimSpace(text) != "" && len(text) <= schema.MaxUserID
		})
	})
	if !found {
		return "", false
	}
	_, err := c.decoder.ReadToken()
	return text, errors.Is(err, io.EOF)
}

// member reads an object to its end, and has one of its members read. It reports whether that was there and was read.
func member(d *jsontext.Decoder, name string, read func() bool) bool {
	if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
		return false
	}
	found := false
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			return false
		}
		if token.String() == name {
			if !read() {
				return false
			}
			found = true
			continue
		}
		if d.SkipValue() != nil {
			return false
		}
	}
	_, err := d.ReadToken()
	return found && err == nil
}

func parseFailure(err error) flagFailure {
	failure := flagFailure{ErrorCode: flagParseError, ErrorDetails: "the body is not a JSON object"}
	if rejection, ok := errors.AsType[*schema.Rejection](err); ok {
		failure.ErrorDetails = string(rejection.Reason) + ": " + rejection.Message
	}
	return failure
}

// tokenFor turns the targeting key into a user token. Whoever holds a key that may stand in a page names the user by the page token
// that a service gave to this user's page: signed, and of an hour or so, so a stranger with the same key learns nothing. Services name
// the user by id, by user token, or likewise.
func (s *Server) tokenFor(key *apiKey, targetingKey string) (token string, until time.Time, failure flagFailure) {
	token, until, err := s.signer.page(targetingKey, time.Now())
	switch {
	case err == nil:
		return token, until, flagFailure{}
	case errors.Is(err, errExpired):
		return "", time.Time{}, flagFailure{ErrorCode: flagInvalidContext, ErrorDetails: "the targeting key is a page token that has ended: take a new one and set the context again"}
	case !key.may(RoleRead):
		return "", time.Time{}, flagFailure{ErrorCode: flagInvalidContext, ErrorDetails: "with a write key the targeting key is a page token, as POST /v1/users/{id}/token gives to a service"}
	}
	token = s.tokens.Of(targetingKey)
	if _, known := s.mirror.raw(token); !known && schema.CheckToken(targetingKey) == nil {
		return targetingKey, time.Time{}, flagFailure{}
	}
	return token, time.Time{}, flagFailure{}
}

func (s *Server) refuseFlag(w http.ResponseWriter, r *http.Request, status int, failure flagFailure) {
	s.answer(r.Context(), w, status, failure)
}
