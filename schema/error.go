package schema

import (
	"errors"
	"fmt"
)

// Code classes an error by what its reader should do about it.
type Code string

// The codes. A stranger's error counts as CodeInternal.
const (
	CodeInvalid     Code = "invalid"      // the input is wrong: retrying cannot help
	CodeNotFound    Code = "not_found"    // the thing named does not exist
	CodeConflict    Code = "conflict"     // the thing exists with another content
	CodeUnavailable Code = "unavailable"  // a server is away: retry later
	CodeRateLimited Code = "rate_limited" // slow down: retry later
	CodeInternal    Code = "internal"     // a defect of ours
)

// Error is an error with a Code. Its text is for a person, its code for a machine.
type Error struct {
	Code    Code
	Message string
	Err     error // the cause; may be nil
}

// Error returns the message and the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return fmt.Sprintf("%s: %v", e.Message, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first Error in err's chain, and CodeInternal where there is none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// Reason says why a message was refused. It is the last token of the dead letter's subject.
type Reason string

// The reasons, after the catalog of bad input in docs/events.md.
const (
	ReasonMalformedJSON Reason = "malformed_json"
	ReasonTrailingData  Reason = "trailing_data"
	ReasonNotAnObject   Reason = "not_an_object"
	ReasonInvalidUTF8   Reason = "invalid_utf8"
	ReasonDuplicateKey  Reason = "duplicate_key"
	ReasonUnknownField  Reason = "unknown_field"
	ReasonWrongType     Reason = "wrong_type"
	ReasonTooDeep       Reason = "too_deep"
	ReasonTooManyKeys   Reason = "too_many_keys"
	ReasonBadKey        Reason = "bad_key"
	ReasonValueTooLong  Reason = "value_too_long"
	ReasonNumberRange   Reason = "number_range"
	ReasonTooLarge      Reason = "too_large"
	ReasonMissingUser   Reason = "missing_user"
	ReasonIllegalID     Reason = "illegal_id"
	ReasonBadID         Reason = "bad_id"
	ReasonIDTooLong     Reason = "id_too_long"
	ReasonBadEventID    Reason = "bad_event_id"
	ReasonBadEventName  Reason = "bad_event_name"
	ReasonBadTimestamp  Reason = "bad_timestamp"
	ReasonFuture        Reason = "future"
	ReasonTooOld        Reason = "too_old"
	ReasonBadCloudEvent Reason = "bad_cloud_event"
	ReasonUndeliverable Reason = "undeliverable"
	ReasonMergeCycle    Reason = "merge_cycle"    // an alias that makes a user, by whatever way round, their own
	ReasonMergeLimit    Reason = "merge_limit"    // an alias into a user who was made one with as many others as can be
	ReasonMaxDeliveries Reason = "max_deliveries" // a consumer was handed it as often as it may, and never acknowledged it
)

// Reasons lists every reason, in the order above.
func Reasons() []Reason {
	return []Reason{
		ReasonMalformedJSON, ReasonTrailingData, ReasonNotAnObject, ReasonInvalidUTF8, ReasonDuplicateKey, ReasonUnknownField,
		ReasonWrongType, ReasonTooDeep, ReasonTooManyKeys, ReasonBadKey, ReasonValueTooLong, ReasonNumberRange, ReasonTooLarge,
		ReasonMissingUser, ReasonIllegalID, ReasonBadID, ReasonIDTooLong, ReasonBadEventID, ReasonBadEventName, ReasonBadTimestamp,
		ReasonFuture, ReasonTooOld, ReasonBadCloudEvent, ReasonUndeliverable, ReasonMergeCycle, ReasonMergeLimit, ReasonMaxDeliveries,
	}
}

// Rejection refuses one message. Reason is for a machine; Field and Message tell a person what to mend.
type Rejection struct {
	Reason  Reason
	Field   string // the JSON field at fault; empty where the whole message is
	Message string // never echoes more than a short, cleaned piece of the input
}

// Error returns reason, field and message in one line.
func (r *Rejection) Error() string {
	if r.Field == "" {
		return fmt.Sprintf("%s: %s", r.Reason, r.Message)
	}
	return fmt.Sprintf("%s: field %s: %s", r.Reason, r.Field, r.Message)
}

func reject(reason Reason, field, format string, args ...any) *Rejection {
	return &Rejection{Reason: reason, Field: field, Message: fmt.Sprintf(format, args...)}
}
