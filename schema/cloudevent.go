package schema

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// What a message says about itself where it is a CloudEvent. Names of NATS headers keep the case they were published with, so
// they are compared here without regard to it.
const (
	cloudPrefix      = "ce-"
	cloudStructured  = "application/cloudevents+json"
	cloudBatch       = "application/cloudevents-batch"
	cloudSpecVersion = "1.0"
	headerType       = "content-type"
)

// MaxHeaderBytes is the most that the attributes of a CloudEvent may have where they are headers; too_large.
const MaxHeaderBytes = 32 << 10

// PropertyCloudEvent is the property that holds what a CloudEvent says beside its data: id, source, type, and the extensions.
const PropertyCloudEvent = "cloudevent"

// The attributes of CloudEvents 1.0 and the four extensions that mean something here.
const (
	ceSpecVersion = "specversion"
	ceID          = "id"
	ceSource      = "source"
	ceType        = "type"
	ceSubject     = "subject"
	ceTime        = "time"
	ceContentType = "datacontenttype"
	ceData        = "data"
	ceData64      = "data_base64"

	ceEventName = "eventname" // the event's name, in place of one made from the type
	ceSentAt    = "sentat"    // Event.SentAt
	ceTraits    = "traits"    // true: the data are traits of the user
	ceBackfill  = "backfill"  // Event.Backfill
)

// CloudEvent is an event of the CloudEvents specification 1.0 as Onramp writes it; Receive reads one.
type CloudEvent struct {
	ID         string
	Source     string // a URI reference; with ID it identifies the event
	Type       string
	Subject    string
	Time       time.Time
	Extensions map[string]string // lower-case letters and digits
	Data       json.RawMessage   // JSON; nil for none
}

// CloudEventID is the id that a CloudEvent goes by, and should be published under as Nats-Msg-Id: source and id with a space
// between, which no source can hold, and a hash where the two are longer than an id may be.
func CloudEventID(source, id string) string {
	if both := source + " " + id; len(both) <= MaxEventID {
		return both
	}
	return derive("c", source, id)
}

// ActionEvent is an action as a CloudEvent, whose data is the action as it is: who does not know CloudEvents reads the message as ever.
// Its subject is the user's token, because headers are seen by more than those who read the message.
func ActionEvent(request *ActionRequest, body json.RawMessage) CloudEvent {
	return CloudEvent{
		ID: request.ActionID, Source: "/onramp", Type: "onramp.action." + request.Action, Subject: request.UserToken,
		Time: time.UnixMilli(request.DecidedAt), Data: body,
	}
}

// WriteHeader sets the headers of the binary mode, in which Data is the message.
func (e *CloudEvent) WriteHeader(set func(name, value string)) {
	attribute := func(name, value string) {
		if value != "" {
			set(cloudPrefix+name, percentEncode(value))
		}
	}
	attribute(ceSpecVersion, cloudSpecVersion)
	attribute(ceID, e.ID)
	attribute(ceSource, e.Source)
	attribute(ceType, e.Type)
	attribute(ceSubject, e.Subject)
	if !e.Time.IsZero() {
		attribute(ceTime, e.Time.UTC().Format(time.RFC3339Nano))
	}
	if e.Data != nil {
		attribute(ceContentType, "application/json")
	}
	for name, value := range e.Extensions {
		attribute(name, value)
	}
}

// Structured is the event as one JSON object, to be published with the header Content-Type: application/cloudevents+json. Errors:
// invalid where Data is not JSON.
func (e *CloudEvent) Structured() ([]byte, error) {
	members := map[string]any{ceSpecVersion: cloudSpecVersion, ceID: e.ID, ceSource: e.Source, ceType: e.Type}
	for name, value := range e.Extensions {
		members[name] = value
	}
	if e.Subject != "" {
		members[ceSubject] = e.Subject
	}
	if !e.Time.IsZero() {
		members[ceTime] = e.Time.UTC().Format(time.RFC3339Nano)
	}
	if e.Data != nil {
		members[ceContentType], members[ceData] = "application/json", e.Data
	}
	raw, err := json.Marshal(members)
	if err != nil {
		return nil, &Error{Code: CodeInvalid, Message: "write CloudEvent", Err: err}
	}
	return raw, nil
}

// decodeMessage reads a message as what its headers say it is: an event of ours, or a CloudEvent in one of its two modes. Errors
// are *Rejection, and name the field as the publisher knows it.
func decodeMessage(raw []byte, header map[string][]string) (*Event, Trace, error) {
	trace := TraceOf(header)
	event, began, err := decodeBody(raw, header)
	if trace == "" {
		trace = began
	}
	return event, trace, err
}

// decodeBody is decodeMessage with the trace that the CloudEvent itself names.
func decodeBody(raw []byte, header map[string][]string) (*Event, Trace, error) {
	headers, kind, err := cloudHeaders(header)
	switch {
	case err != nil:
		return nil, "", err
	case strings.HasPrefix(kind, cloudBatch):
		return nil, "", reject(ReasonBadCloudEvent, headerType, "is a batch; publish one message for each event")
	case !strings.HasPrefix(kind, cloudStructured) && len(headers) == 0:
		event, err := DecodeEvent(raw)
		return event, "", err
	case len(raw) > MaxEventBytes:
		return nil, "", reject(ReasonTooLarge, "", "%d bytes; at most %d are taken", len(raw), MaxEventBytes)
	case !utf8.Valid(raw):
		return nil, "", reject(ReasonInvalidUTF8, "", "the message is not valid UTF-8")
	}
	var e cloudEvent
	if strings.HasPrefix(kind, cloudStructured) { // what headers say beside counts for nothing then
		err = readMembers(raw, e.member)
	} else {
		err = e.binary(raw, headers, kind)
	}
	if err != nil {
		return nil, "", err
	}
	event, err := e.translate()
	return event, e.trace, err
}

// cloudHeaders returns the attributes among the headers, as they stand, by their lower-case names without `ce-`, and the content
// type in lower case. It makes nothing for a message without either, which most are.
func cloudHeaders(header map[string][]string) (attributes map[string]string, kind string, err error) {
	size := 0
	for name, values := range header {
		isType := len(name) == len(headerType) && strings.EqualFold(name, headerType)
		if !isType && (len(name) < len(cloudPrefix) || !strings.EqualFold(name[:len(cloudPrefix)], cloudPrefix)) {
			continue
		}
		if isType {
			if len(values) > 0 {
				kind = strings.ToLower(strings.TrimSpace(values[0]))
			}
			continue
		}
		name = strings.ToLower(name)
		if attributes == nil {
			attributes = make(map[string]string)
		}
		if _, twice := attributes[name[len(cloudPrefix):]]; twice || len(values) != 1 {
			return nil, "", reject(ReasonDuplicateKey, Clean(name), "stands more than once among the headers")
		}
		attributes[name[len(cloudPrefix):]] = values[0]
		if size += len(name) + len(values[0]); size > MaxHeaderBytes {
			return nil, "", reject(ReasonTooLarge, "", "the attributes have more than %d bytes", MaxHeaderBytes)
		}
	}
	return attributes, kind, nil
}

// cloudEvent is a CloudEvent while it is read.
type cloudEvent struct {
	specVersion, id, source, kind string
	name, contentType             string
	event                         Event // what goes into it as it stands
	data, data64                  json.RawMessage
	asTraits                      bool
	trace                         Trace
	kept                          map[string]json.RawMessage
}

// binary reads the binary mode: attributes in headers, data as the message.
func (e *cloudEvent) binary(raw []byte, headers map[string]string, kind string) error {
	e.contentType = kind
	for name, text := range headers {
		field := cloudPrefix + Clean(name)
		decoded, ok := percentDecode(text)
		switch {
		case !ok:
			return reject(ReasonBadCloudEvent, field, "has a %% that no two hexadecimal digits follow; write %%25 for it")
		case !utf8.ValidString(decoded):
			return reject(ReasonInvalidUTF8, field, "is not valid UTF-8")
		case name == ceData || name == ceData64:
			return reject(ReasonBadCloudEvent, field, "is not an attribute; the data are the message itself")
		}
		quoted, err := jsontext.AppendQuote(nil, decoded)
		if err != nil {
			return reject(ReasonInvalidUTF8, field, "is not valid UTF-8")
		}
		if err := e.attribute(name, field, decoded, '"', quoted); err != nil {
			return err
		}
	}
	if len(bytes.TrimSpace(raw)) > 0 {
		e.data = raw
	}
	return nil
}

// member takes a member of the structured mode.
func (e *cloudEvent) member(name string, value jsontext.Value) error {
	if name == ceData || name == ceData64 {
		if value.Kind() == 'n' {
			return nil
		}
		if name == ceData {
			e.data = bytes.Clone(value)
		} else {
			e.data64 = bytes.Clone(value)
		}
		return nil
	}
	field, text := Clean(name), string(value)
	switch value.Kind() {
	case 'n': // as if it were left out, says the specification
		return nil
	case '"':
		if err := readString(&text, field, value); err != nil {
			return err
		}
	case 't', 'f':
	case '0':
		if _, err := strconv.ParseInt(text, 10, 32); err != nil {
			return reject(ReasonNumberRange, field, "an attribute holds whole numbers of 32 bits only")
		}
	default:
		return reject(ReasonWrongType, field, "an attribute is a string, a whole number, true or false; objects belong into the data")
	}
	return e.attribute(name, field, text, value.Kind(), bytes.Clone(value))
}

// attribute takes one attribute: its name, what to call it in a refusal, its text, and how it stands in JSON.
func (e *cloudEvent) attribute(name, field, text string, kind jsontext.Kind, raw json.RawMessage) error {
	switch {
	case name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "":
		return reject(ReasonBadCloudEvent, field, "an attribute's name has only the letters a to z and digits")
	case len(text) > MaxStringBytes:
		return reject(ReasonValueTooLong, field, "has %d bytes; at most %d are taken", len(text), MaxStringBytes)
	}
	switch name {
	case ceTraits:
		return readFlag(&e.asTraits, field, text)
	case ceBackfill:
		return readFlag(&e.event.Backfill, field, text)
	case ceTime:
		return parseTime(&e.event.OccurredAt, field, text)
	case ceSentAt:
		return parseTime(&e.event.SentAt, field, text)
	case HeaderTrace:
		e.trace = ParseTrace(text)
	}
	if own := e.own(name); own != nil {
		if kind != '"' {
			return reject(ReasonWrongType, field, "is not a string")
		}
		*own = text
		if name == ceSubject || name == ceEventName || name == ceContentType {
			return nil // these have their place in the event
		}
	}
	if e.kept == nil {
		e.kept = make(map[string]json.RawMessage)
	}
	if len(e.kept) >= MaxKeys {
		return reject(ReasonTooManyKeys, "", "there are more than %d attributes", MaxKeys)
	}
	e.kept[name] = raw
	return nil
}

// own is where the attribute of that name goes, nil where it is only kept.
func (e *cloudEvent) own(name string) *string {
	switch name {
	case ceSpecVersion:
		return &e.specVersion
	case ceID:
		return &e.id
	case ceSource:
		return &e.source
	case ceType:
		return &e.kind
	case ceSubject:
		return &e.event.UserID
	case ceContentType:
		return &e.contentType
	case ceEventName:
		return &e.name
	default:
		return nil
	}
}

// translate makes the event.
func (e *cloudEvent) translate() (*Event, error) {
	if e.specVersion != cloudSpecVersion {
		return nil, reject(ReasonBadCloudEvent, ceSpecVersion, "must be 1.0")
	}
	for _, must := range []struct{ name, value string }{{ceID, e.id}, {ceSource, e.source}, {ceType, e.kind}} {
		if must.value == "" {
			return nil, reject(ReasonBadCloudEvent, must.name, "is missing or empty")
		}
	}
	event := e.event
	if hasControl(e.id) || hasControl(e.source) {
		return nil, reject(ReasonBadEventID, ceID, "id and source must not hold control characters")
	}
	event.EventID = CloudEventID(e.source, e.id)
	if event.EventName = e.name; e.name == "" {
		event.EventName = nameOfType(e.kind)
	}
	if err := event.check(); err != nil {
		return nil, e.inTheirWords(err)
	}
	if err := e.fill(&event); err != nil {
		return nil, err
	}
	return &event, nil
}

// inTheirWords names the attribute in place of the event's field.
func (e *cloudEvent) inTheirWords(err error) error {
	rejection, ok := err.(*Rejection) //nolint:errorlint // check wraps nothing
	if !ok {
		return err
	}
	switch rejection.Field {
	case "user_id":
		rejection.Field = ceSubject
	case "event_name":
		if rejection.Field = ceType; e.name != "" {
			rejection.Field = ceEventName
		}
	}
	return rejection
}

// fill puts the data where they belong, and everything else into a property.
func (e *cloudEvent) fill(event *Event) error {
	data, err := e.object()
	if err != nil {
		return err
	}
	beside, err := json.Marshal(e.kept)
	if err != nil {
		return reject(ReasonMalformedJSON, "", "the attributes cannot be written as JSON")
	}
	if e.asTraits {
		event.Traits, data = data, nil
	}
	event.Properties, err = addMember(data, PropertyCloudEvent, beside)
	return err
}

// object returns the data as an object, nil where there are none.
func (e *cloudEvent) object() (json.RawMessage, error) {
	raw := e.data
	switch {
	case e.data64 != nil && e.data != nil:
		return nil, reject(ReasonBadCloudEvent, ceData64, "stands beside data; one of the two is wanted")
	case e.data64 != nil:
		var text string
		if err := readString(&text, ceData64, jsontext.Value(e.data64)); err != nil {
			return nil, err
		}
		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, reject(ReasonBadCloudEvent, ceData64, "is not base64")
		}
		if !utf8.Valid(decoded) {
			return nil, reject(ReasonInvalidUTF8, ceData64, "does not hold valid UTF-8")
		}
		raw = decoded
	case raw == nil:
		return nil, nil
	}
	if !isJSON(e.contentType) {
		return nil, reject(ReasonBadCloudEvent, ceContentType, "must be application/json: the data are the properties of an event")
	}
	if jsontext.Value(raw).Kind() != '{' && jsontext.Value(raw).IsValid() {
		return nil, reject(ReasonWrongType, ceData, "is not an object")
	}
	if err := readMembers(raw, func(string, jsontext.Value) error { return nil }); err != nil {
		return nil, err
	}
	var object json.RawMessage
	err := readObject(&object, ceData, bytes.Clone(bytes.TrimSpace(raw)))
	return object, err
}

// addMember adds a member to an object that has none of that name, and leaves it as it is where it has.
func addMember(object json.RawMessage, name string, value json.RawMessage) (json.RawMessage, error) {
	taken, empty := false, true
	if object == nil {
		object = json.RawMessage("{}")
	}
	err := readMembers(object, func(known string, _ jsontext.Value) error {
		taken, empty = taken || known == name, false
		return nil
	})
	if err != nil || taken {
		return object, err
	}
	added := append([]byte(nil), object[:len(object)-1]...)
	if !empty {
		added = append(added, ',')
	}
	added = append(added, '"')
	added = append(added, name...)
	added = append(added, '"', ':')
	added = append(added, value...)
	return append(added, '}'), nil
}

// nameOfType makes the name of an event from a type such as com.example.report.viewed.v1: without its version, in the letters that a
// playbook can declare. The whole of it counts, because two types that end alike are two things.
func nameOfType(kind string) string {
	if at := strings.LastIndexByte(kind, '.'); at > 0 {
		version := kind[at+1:]
		if len(version) > 1 && version[0] == 'v' && strings.Trim(version[1:], "0123456789") == "" {
			kind = kind[:at]
		}
	}
	return DeclarableName(kind)
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "" || media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json")
}

func readFlag(dst *bool, field, text string) error {
	if text != "true" && text != "false" {
		return reject(ReasonWrongType, field, "is not true or false")
	}
	*dst = text == "true"
	return nil
}

// percentEncode writes a header value as the specification wants it: printable ASCII without space, quote and percent sign as it
// is, every other byte as two hexadecimal digits.
func percentEncode(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// percentDecode is the inverse, done once: %2541 is %41. It reports whether every percent sign has its two digits. Bytes that should
// have been encoded and are not stay as they are.
func percentDecode(text string) (string, bool) {
	if !strings.Contains(text, "%") {
		return text, true
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", false
		}
		c, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil || text[i+1] == '+' {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), true
}
