package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// DecodeEvent reads an event strictly: one JSON object, exact field names, no duplicate names at any depth, valid UTF-8,
// bounded. encoding/json alone takes `USERID` for `user_id`, keeps the last of duplicates and turns broken bytes into one
// replacement character, so that two users become one. It returns a *Rejection that names the field.
func DecodeEvent(raw []byte) (*Event, error) {
	if len(raw) > MaxEventBytes {
		return nil, reject(ReasonTooLarge, "", "%d bytes; at most %d are taken", len(raw), MaxEventBytes)
	}
	if !utf8.Valid(raw) {
		return nil, reject(ReasonInvalidUTF8, "", "the message is not valid UTF-8")
	}
	event := readPlain(raw)
	if event == nil {
		event = new(Event)
		if err := readMembers(raw, event.set); err != nil {
			return nil, err
		}
	}
	if err := event.check(); err != nil {
		return nil, err
	}
	return event, nil
}

func (e *Event) set(field string, value jsontext.Value) error {
	switch field {
	case "event_id":
		return readString(&e.EventID, field, value)
	case "event_name":
		return readString(&e.EventName, field, value)
	case "user_id":
		if value.Kind() == 'n' {
			return reject(ReasonMissingUser, field, "is null")
		}
		return readString(&e.UserID, field, value)
	case "anonymous_id":
		return readOptional(&e.AnonymousID, field, value)
	case "previous_id":
		return readOptional(&e.PreviousID, field, value)
	case "occurred_at":
		return readTime(&e.OccurredAt, field, value)
	case "sent_at":
		return readTime(&e.SentAt, field, value)
	case "properties":
		return readObject(&e.Properties, field, value)
	case "traits":
		return readObject(&e.Traits, field, value)
	case "backfill":
		if k := value.Kind(); k != 't' && k != 'f' {
			return reject(ReasonWrongType, field, "is not true or false")
		}
		e.Backfill = value.Kind() == 't'
		return nil
	default:
		return reject(ReasonUnknownField, Clean(field), "is not a field of an event; what belongs to the event goes into properties")
	}
}

func (e *Event) check() error {
	if err := checkID(e.UserID, "user_id"); err != nil {
		return err
	}
	if err := e.checkOthers(); err != nil {
		return err
	}
	if e.EventName == "" || len(e.EventName) > MaxEventName || hasControl(e.EventName) {
		return reject(ReasonBadEventName, "event_name", "must be 1 to %d bytes without control characters", MaxEventName)
	}
	if len(e.EventID) > MaxEventID || hasControl(e.EventID) {
		return reject(ReasonBadEventID, "event_id", "must be at most %d bytes without control characters", MaxEventID)
	}
	return nil
}

// checkOthers holds the ids of those who are to become one with the user to the same bounds.
func (e *Event) checkOthers() error {
	if e.AnonymousID != "" {
		if e.Canary() {
			return reject(ReasonUnknownField, "anonymous_id", "does not belong to events named %s", CanaryEvent)
		}
		if err := checkID(e.AnonymousID, "anonymous_id"); err != nil {
			return err
		}
	}
	if e.PreviousID == "" {
		return nil
	}
	if e.EventName != AliasEvent {
		return reject(ReasonUnknownField, "previous_id", "belongs to events named %s alone", AliasEvent)
	}
	if e.PreviousID == e.UserID {
		return reject(ReasonMergeCycle, "previous_id", "is user_id itself: nobody is merged into themselves")
	}
	return checkID(e.PreviousID, "previous_id")
}

// CheckID reports whether an id may name a user: nil, or a *Rejection that names the field.
func CheckID(id, field string) error { return checkID(id, field) }

// checkID takes any UTF-8 a service may use for an id, and refuses what is nobody: the words that programs write when
// they have no user would gather strangers into one.
func checkID(id, field string) error {
	switch {
	case strings.TrimSpace(id) == "":
		return reject(ReasonMissingUser, field, "is missing or empty")
	case len(id) > MaxUserID:
		return reject(ReasonIDTooLong, field, "has %d bytes; at most %d are taken", len(id), MaxUserID)
	case hasControl(id):
		return reject(ReasonBadID, field, "holds a control character")
	}
	switch strings.ToLower(id) {
	case "null", "undefined", "nan", "0", "none", "nil", "anonymous", "[object object]", "true", "false",
		"00000000-0000-0000-0000-000000000000":
		return reject(ReasonIllegalID, field, "%q is what a program writes when it has no user", id)
	}
	return nil
}

func hasControl(s string) bool {
	for i := range len(s) { // a control character is one byte of its own
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

func readString(dst *string, field string, value jsontext.Value) error {
	if value.Kind() != '"' {
		return reject(ReasonWrongType, field, "is not a string")
	}
	unquoted, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return reject(ReasonInvalidUTF8, field, "is not valid UTF-8")
	}
	*dst = string(unquoted)
	return nil
}

// readOptional is readString for a field that many programs write as null where they have nothing to say.
func readOptional(dst *string, field string, value jsontext.Value) error {
	if value.Kind() == 'n' {
		return nil
	}
	return readString(dst, field, value)
}

// timeShape is RFC 3339 as Onramp takes it. Go alone also reads a comma before the fraction.
const timeShape = "2006-01-02T15:04:05"

func readTime(dst *time.Time, field string, value jsontext.Value) error {
	var text string
	if err := readString(&text, field, value); err != nil {
		return reject(ReasonBadTimestamp, field, "is not an RFC 3339 string such as 2026-11-24T09:00:00Z")
	}
	return parseTime(dst, field, text)
}

func parseTime(dst *time.Time, field, text string) error {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || len(text) < len(timeShape) || text[10] != 'T' || strings.ContainsAny(text, ",z") || at.Year() < 1 {
		return reject(ReasonBadTimestamp, field, "is not an RFC 3339 time with a zone, such as 2026-11-24T09:00:00Z: %q", Clean(text))
	}
	*dst = at
	return nil
}

func readObject(dst *json.RawMessage, field string, value jsontext.Value) error {
	switch value.Kind() {
	case 'n':
		return nil
	case '{':
	default:
		return reject(ReasonWrongType, field, "is not an object")
	}
	if err := checkTree(field, value); err != nil {
		return err
	}
	if err := value.Compact(); err != nil {
		return reject(ReasonMalformedJSON, field, "is not valid JSON")
	}
	*dst = json.RawMessage(bytes.Clone(value))
	return nil
}

// checkTree bounds depth, keys, strings and numbers of a value that is known to be well-formed.
func checkTree(field string, value jsontext.Value) error {
	dec := borrowDecoder(value)
	defer returnDecoder(dec)
	for {
		token, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return syntaxRejection(err, dec.InputOffset())
		}
		depth := dec.StackDepth()
		if depth > MaxDepth-1 {
			return reject(ReasonTooDeep, field, "nests deeper than %d", MaxDepth)
		}
		container, length := dec.StackIndex(depth)
		if container == '{' && length > 2*MaxKeys {
			return reject(ReasonTooManyKeys, field, "an object has more than %d keys", MaxKeys)
		}
		if err := checkToken(field, token, container == '{' && length%2 == 1); err != nil {
			return err
		}
	}
}

func checkToken(field string, token jsontext.Token, isKey bool) error {
	switch token.Kind() {
	case '"':
		n := len(token.String())
		if isKey && (n == 0 || n > MaxKeyBytes) {
			return reject(ReasonBadKey, field, "a key must have 1 to %d bytes", MaxKeyBytes)
		}
		if n > MaxStringBytes {
			return reject(ReasonValueTooLong, field, "a string has %d bytes; at most %d are taken", n, MaxStringBytes)
		}
	case '0':
		if !inRange(token.String()) {
			return reject(ReasonNumberRange, field, "%s does not fit a 64-bit number", Clean(token.String()))
		}
	default: // braces, brackets and literals have no size of their own
	}
	return nil
}

// inRange refuses numbers that a float64 would turn into infinity, or into zero though they are not.
func inRange(text string) bool {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return false
	}
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	return f != 0 || strings.Trim(mantissa, "-0.") == ""
}

func syntaxRejection(err error, offset int64) error {
	switch text := err.Error(); {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return reject(ReasonDuplicateKey, "", "a name stands twice in one object, near byte %d", offset)
	case strings.Contains(text, "surrogate") || strings.Contains(text, "UTF-8"):
		return reject(ReasonInvalidUTF8, "", "a string holds broken text near byte %d", offset)
	case strings.Contains(text, "depth"):
		return reject(ReasonTooDeep, "", "nests deeper than %d", MaxDepth)
	default:
		return reject(ReasonMalformedJSON, "", "is not JSON near byte %d", offset)
	}
}

// DecodeProperties turns the object of an event into values: string, bool, nil, int64 for whole numbers that fit one,
// float64 for the rest, []any and map[string]any. A number keeps its exact value where encoding/json would round it.
func DecodeProperties(raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 {
		return nil, nil //nolint:nilnil // no properties is a value: a nil map reads as empty
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var values map[string]any
	if err := dec.Decode(&values); err != nil {
		return nil, reject(ReasonMalformedJSON, "properties", "is not an object")
	}
	for k, v := range values {
		values[k] = exact(v)
	}
	return values, nil
}

func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return nil // out of range: decoding an event refuses these, so only a stranger's payload comes here
		}
		return f
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
		return v
	case map[string]any:
		for k := range v {
			v[k] = exact(v[k])
		}
		return v
	default:
		return v
	}
}
