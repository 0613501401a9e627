package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/onramphq/onramp/schema"
)

// The kinds of call that Segment's specification knows.
const (
	kindTrack    = "track"
	kindIdentify = "identify"
	kindPage     = "page"
	kindScreen   = "screen"
	kindGroup    = "group"
	kindAlias    = "alias"
)

// The fields of a call that this package reads.
const (
	fieldType        = "type"
	fieldMessageID   = "messageId"
	fieldUserID      = "userId"
	fieldAnonymousID = "anonymousId"
	fieldPreviousID  = "previousId"
	fieldGroupID     = "groupId"
	fieldEvent       = "event"
	fieldTimestamp   = "timestamp"
	fieldOriginal    = "originalTimestamp"
	fieldSentAt      = "sentAt"
	fieldReceivedAt  = "receivedAt"
	fieldProperties  = "properties"
	fieldTraits      = "traits"
	fieldContext     = "context"
	fieldWriteKey    = "writeKey"
	fieldBatch       = "batch"

	fieldIntegrations = "integrations"
)

// propertyTracking holds what a call says beside its properties: kind, ids, context and every field that is not known here.
const propertyTracking = "tracking"

// callShared is what a batch says for all of its items.
type callShared struct {
	context, integrations, sentAt json.RawMessage
	backfill                      bool // the past: it changes what is known of the user and causes nothing
}

// tracked is a call as the event it stands for: the message to publish, which ingest will take as it is.
type tracked struct {
	eventID string
	made    bool // the call had no id of its own
	body    []byte
	index   int // its place in the batch

	received schema.Received // the event as ingest will read it, but for its place in the stream

	messageID string // by what the stream recognizes it; empty: by its id
	prompt    bool   // the caller waits for it
}

// call is one call while it is read.
type call struct {
	kind   string
	fields map[string]json.RawMessage
	shared callShared
}

// translate turns one call of an SDK into the event it stands for. What comes out has been read once by the strict reader that
// ingest uses, so nothing that is acknowledged is refused later for its shape. kind is that of the route, empty where the call
// says it itself. newID gives an id to a call that has none. Errors are *schema.Rejection with the names of the caller's fields.
func translate(kind string, raw []byte, shared callShared, now time.Time, newID func() string) (tracked, error) {
	if len(raw) > maxCallBytes {
		return tracked{}, refusal(schema.ReasonTooLarge, "", "an event has more than 32 KiB")
	}
	fields, err := schema.ReadObject(raw)
	if err != nil {
		return tracked{}, err
	}
	c := call{fields: fields, shared: shared}
	if c.kind, err = c.kindOf(kind); err != nil {
		return tracked{}, err
	}
	event, userField, err := c.event()
	if err != nil {
		return tracked{}, err
	}
	made := event["event_id"] == nil
	if made {
		event["event_id"] = quote(newID())
	}
	body, err := json.Marshal(event)
	if err != nil {
		return tracked{}, refusal(schema.ReasonMalformedJSON, "", "cannot be written as an event")
	}
	one, err := trackedOf(body, made, now)
	if err != nil {
		return tracked{}, c.inTheirWords(err, userField)
	}
	return one, nil
}

// trackedOf reads an event as ingest will, so that nothing that is acknowledged is refused later for its shape. Errors are *schema.Rejection.
func trackedOf(body []byte, made bool, now time.Time) (tracked, error) {
	received, err := schema.Receive(body, nil, 0, now)
	if err != nil {
		return tracked{}, err
	}
	return tracked{eventID: received.ID, made: made, body: body, received: received}, nil
}

func (c *call) kindOf(route string) (string, error) {
	said, err := c.text(fieldType)
	switch {
	case err != nil:
		return "", err
	case said == "" && route == "":
		return "", refusal(schema.ReasonWrongType, fieldType, "is missing: track, identify, page, screen, group or alias")
	case route != "" && said != "" && said != route:
		return "", refusal(schema.ReasonWrongType, fieldType, "is not that of the route it was sent to")
	}
	kind := cmp.Or(route, said)
	switch kind {
	case kindTrack, kindIdentify, kindPage, kindScreen, kindGroup, kindAlias:
		return kind, nil
	default:
		return "", refusal(schema.ReasonWrongType, fieldType, "must be track, identify, page, screen, group or alias")
	}
}

// event returns the members of the event, and which of the caller's fields names its user.
func (c *call) event() (event map[string]json.RawMessage, userField string, err error) {
	event = make(map[string]json.RawMessage)
	messageID, err := c.text(fieldMessageID)
	if err != nil {
		return nil, "", err
	}
	if messageID != "" {
		event["event_id"] = quote(messageID)
	}
	user, userField, err := c.user()
	if err != nil {
		return nil, "", err
	}
	event["user_id"] = quote(user)
	if err := c.others(event, user); err != nil {
		return nil, "", err
	}
	c.times(event)
	name, err := c.name()
	if err != nil {
		return nil, "", err
	}
	event["event_name"] = quote(name)
	if err := c.values(event); err != nil {
		return nil, "", err
	}
	if c.shared.backfill {
		event["backfill"] = json.RawMessage("true")
	}
	return event, userField, nil
}

// user is who did it: the user where the site knows one, else the visitor.
func (c *call) user() (id, field string, err error) {
	if id, err = c.text(fieldUserID); err != nil {
		return "", "", err
	}
	anonymous, err := c.text(fieldAnonymousID)
	if err != nil {
		return "", "", err
	}
	switch {
	case strings.TrimSpace(id) != "":
		return id, fieldUserID, nil
	case c.kind != kindAlias && strings.TrimSpace(anonymous) != "":
		return anonymous, fieldAnonymousID, nil
	case c.kind == kindAlias:
		return "", "", refusal(schema.ReasonMissingUser, fieldUserID, "is missing or empty: alias says whom previousId has become")
	default:
		return "", "", refusal(schema.ReasonMissingUser, fieldUserID, "is missing or empty, and so is anonymousId")
	}
}

// others names whom the user was before: the visitor of this browser or app, and of an alias its previous id. What a program writes
// when it has no visitor is none; what it writes as previous id has to be one.
func (c *call) others(event map[string]json.RawMessage, user string) error {
	anonymous, err := c.text(fieldAnonymousID)
	if err != nil {
		return err
	}
	if anonymous != user && schema.CheckID(anonymous, fieldAnonymousID) == nil {
		event["anonymous_id"] = quote(anonymous)
	}
	if c.kind != kindAlias {
		return nil
	}
	previous, err := c.text(fieldPreviousID)
	if err != nil {
		return err
	}
	if strings.TrimSpace(previous) == "" {
		return refusal(schema.ReasonMissingUser, fieldPreviousID, "is missing or empty")
	}
	event["previous_id"] = quote(previous)
	return nil
}

// times passes the clocks on as they stand: the reader of the stream corrects the sender's clock by sent_at. A timestamp counts more
// than an original one: RudderStack's Node SDK writes the present into the latter when its caller gave the former.
func (c *call) times(event map[string]json.RawMessage) {
	for _, field := range []string{fieldTimestamp, fieldOriginal} {
		if value := c.fields[field]; !isNull(value) {
			event["occurred_at"] = value
			break
		}
	}
	for _, value := range []json.RawMessage{c.fields[fieldSentAt], c.shared.sentAt} {
		if !isNull(value) {
			event["sent_at"] = value
			break
		}
	}
}

func (c *call) name() (string, error) {
	if c.kind != kindTrack {
		return c.kind, nil
	}
	value := c.fields[fieldEvent]
	if isNull(value) {
		return "", refusal(schema.ReasonBadEventName, fieldEvent, "is missing")
	}
	if jsontext.Value(value).Kind() != '"' {
		return "", refusal(schema.ReasonWrongType, fieldEvent, "is not a string")
	}
	name, err := c.text(fieldEvent)
	return schema.DeclarableName(name), err
}

// values fills properties and traits.
func (c *call) values(event map[string]json.RawMessage) error {
	properties, err := c.object(fieldProperties)
	if err != nil {
		return err
	}
	theirs, err := c.traits()
	if err != nil {
		return err
	}
	var traits map[string]json.RawMessage
	switch c.kind {
	case kindIdentify:
		traits = theirs
	case kindPage, kindScreen:
		c.keep(properties, "name", "name")
		c.keep(properties, "category", "category")
	case kindGroup:
		if traits, err = c.group(properties, theirs); err != nil {
			return err
		}
	case kindAlias:
		properties["previous_id"] = event["previous_id"]
	default: // track has properties alone
	}
	beside, err := c.beside()
	if err != nil {
		return err
	}
	if _, taken := properties[propertyTracking]; !taken {
		properties[propertyTracking] = beside
	}
	event["properties"], err = encode(properties)
	if err == nil && len(traits) > 0 {
		event["traits"], err = encode(traits)
	}
	return err
}

// traits are those of identify and group: RudderStack's browser SDK sends them in the context alone.
func (c *call) traits() (map[string]json.RawMessage, error) {
	if c.kind != kindIdentify && c.kind != kindGroup {
		return nil, nil
	}
	traits, err := c.object(fieldTraits)
	if err != nil || c.kind == kindGroup {
		return traits, err
	}
	context, err := c.context()
	if err != nil {
		return nil, err
	}
	more, err := declared("context.traits", context[fieldTraits])
	if err != nil {
		return nil, err
	}
	for name, value := range more {
		if _, known := traits[name]; !known {
			traits[name] = value
		}
	}
	return traits, nil
}

// group says what account the user is in. Rules see the account's traits as traits of the user, with group_ in front.
func (c *call) group(properties, account map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	id, err := c.text(fieldGroupID)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(id) == "" {
		return nil, refusal(schema.ReasonBadID, fieldGroupID, "is missing or empty")
	}
	traits := make(map[string]json.RawMessage, len(account)+1)
	for name, value := range account {
		properties[name] = value
		traits["group_"+name] = value
	}
	properties["group_id"], traits["group_id"] = quote(id), quote(id)
	return traits, nil
}

// beside is what the call says of itself. The write key stays out: it is a secret.
func (c *call) beside() (json.RawMessage, error) {
	rest := make(map[string]json.RawMessage, len(c.fields))
	for name, value := range c.fields {
		switch name {
		case fieldWriteKey, fieldProperties, fieldTraits, fieldMessageID, fieldUserID, fieldTimestamp, fieldOriginal, fieldSentAt, fieldReceivedAt:
		default:
			rest[name] = value
		}
	}
	rest[fieldType] = quote(c.kind)
	context, err := c.context()
	if err != nil {
		return nil, err
	}
	delete(context, fieldTraits) // the traits of the user are in traits
	if len(context) > 0 {
		if rest[fieldContext], err = encode(context); err != nil {
			return nil, err
		}
	}
	if isNull(rest[fieldIntegrations]) && !isNull(c.shared.integrations) {
		rest[fieldIntegrations] = c.shared.integrations
	}
	return encode(rest)
}

// context is the call's own over that of the batch.
func (c *call) context() (map[string]json.RawMessage, error) {
	merged, err := objectOf(fieldContext, c.shared.context)
	if err != nil {
		return nil, err
	}
	own, err := objectOf(fieldContext, c.fields[fieldContext])
	if err != nil {
		return nil, err
	}
	maps.Copy(merged, own)
	return merged, nil
}

// keep copies a field into a property, where the properties have none of that name.
func (c *call) keep(properties map[string]json.RawMessage, field, property string) {
	if _, taken := properties[property]; !taken && !isNull(c.fields[field]) {
		properties[property] = c.fields[field]
	}
}

func (c *call) object(field string) (map[string]json.RawMessage, error) {
	return declared(field, c.fields[field])
}

// declared reads an object whose names become names that a playbook can declare.
func declared(field string, raw json.RawMessage) (map[string]json.RawMessage, error) {
	theirs, err := objectOf(field, raw)
	if err != nil {
		return nil, err
	}
	ours := make(map[string]json.RawMessage, len(theirs))
	for name, value := range theirs {
		renamed := schema.DeclarableName(name)
		if _, taken := theirs[renamed]; taken {
			renamed = name // both spellings are there: the exact one keeps its name
		}
		if _, taken := ours[renamed]; taken {
			return nil, refusal(schema.ReasonDuplicateKey, field, "holds "+schema.Clean(renamed)+" in two spellings")
		}
		ours[renamed] = value
	}
	return ours, nil
}

// text reads an id or a name. Numbers become their text: older libraries and hand-written code send numeric ids.
func (c *call) text(field string) (string, error) {
	value := jsontext.Value(c.fields[field])
	if isNull(c.fields[field]) {
		return "", nil
	}
	switch value.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return "", refusal(schema.ReasonInvalidUTF8, field, "is not valid UTF-8")
		}
		return string(text), nil
	case '0':
		return string(bytes.TrimSpace(value)), nil
	default:
		return "", refusal(schema.ReasonWrongType, field, "is neither a string nor a number")
	}
}

// inTheirWords names the field that the caller wrote in place of the event's.
func (c *call) inTheirWords(err error, userField string) error {
	rejection, ok := err.(*schema.Rejection) //nolint:errorlint // Receive wraps nothing
	if !ok {
		return err
	}
	switch rejection.Field {
	case "user_id":
		rejection.Field = userField
	case "previous_id":
		rejection.Field = fieldPreviousID
	case "event_id":
		rejection.Field = fieldMessageID
	case "event_name":
		rejection.Field = fieldEvent
	case "occurred_at":
		rejection.Field = fieldTimestamp
		if isNull(c.fields[fieldTimestamp]) {
			rejection.Field = fieldOriginal
		}
	case "sent_at":
		rejection.Field = fieldSentAt
	default: // properties and traits are called so on both sides
	}
	return rejection
}

func objectOf(field string, raw json.RawMessage) (map[string]json.RawMessage, error) {
	if isNull(raw) {
		return make(map[string]json.RawMessage), nil
	}
	if jsontext.Value(raw).Kind() != '{' {
		return nil, refusal(schema.ReasonWrongType, field, "is not an object")
	}
	members, err := schema.ReadObject(raw)
	if err != nil {
		return nil, err
	}
	return members, nil
}

func encode(members map[string]json.RawMessage) (json.RawMessage, error) {
	raw, err := json.Marshal(members)
	if err != nil {
		return nil, refusal(schema.ReasonMalformedJSON, "", "cannot be written as an event")
	}
	return raw, nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || jsontext.Value(raw).Kind() == 'n' }

// quote writes a text as JSON. It is valid UTF-8 by then, so nothing can fail.
func quote(text string) json.RawMessage {
	quoted, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		return json.RawMessage(`""`)
	}
	return json.RawMessage(quoted)
}

func refusal(reason schema.Reason, field, message string) *schema.Rejection {
	return &schema.Rejection{Reason: reason, Field: field, Message: message}
}
