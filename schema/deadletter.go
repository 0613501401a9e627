package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxDeadLetterBytes is the most of a refused message that a dead letter keeps: of a larger one the beginning, and the hash
// of the whole.
const MaxDeadLetterBytes = 64 << 10

// DeadLetter is a message that was refused for good, with all that is needed to find out why and to send it in again.
type DeadLetter struct {
	Stream        string    `json:"stream"`   // where it was refused from
	Sequence      uint64    `json:"sequence"` // its place there
	Consumer      string    `json:"consumer,omitempty"`
	Subject       string    `json:"subject,omitempty"`    // cleaned: what it was published on
	MessageID     string    `json:"message_id,omitempty"` // the publisher's Nats-Msg-Id
	Reason        Reason    `json:"reason"`
	Message       string    `json:"message"` // the same for a person, with what to mend
	Attempts      uint64    `json:"attempts"`
	ReceivedAt    time.Time `json:"received_at,omitzero"` // when its stream took it
	SHA256        string    `json:"sha256,omitempty"`     // of the whole payload, in lower-case hexadecimal
	EventID       string    `json:"event_id,omitempty"`   // of a message that was sent in again: see HeaderEventID
	FirstReceived time.Time `json:"first_received,omitzero"`
	RetryOf       uint64    `json:"retry_of,omitempty"` // the dead letter it was sent in again from
	Payload       []byte    `json:"-"`                  // as it came, cut to MaxDeadLetterBytes; may hold personal data

	// Headers are those that say what the payload means: the attributes of a CloudEvent and the content type, as they came. They
	// may hold personal data.
	Headers map[string]string `json:"-"`
}

// valueOf is the first value of a header, by its exact name; empty where there is none.
func valueOf(header map[string][]string, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Header is the headers of a message, as NATS and net/textproto have them.
type Header interface{ Get(name string) string }

// Cut reports whether the letter holds less than the whole payload.
func (l *DeadLetter) Cut() bool { return l.SHA256 != "" && l.SHA256 != hash(l.Payload) }

// Fill takes over a refused message: its payload, as much of it as is kept, and what its headers say about its way here.
func (l *DeadLetter) Fill(payload []byte, header map[string][]string) {
	l.SHA256, l.Payload = hash(payload), payload[:min(len(payload), MaxDeadLetterBytes)]
	l.MessageID, l.EventID = valueOf(header, headerMessageID), valueOf(header, HeaderEventID)
	l.FirstReceived, l.RetryOf = timeOf(valueOf(header, HeaderFirstReceived)), number(valueOf(header, HeaderRetryOf))
	l.Headers = meaningful(header)
}

// meaningful returns the headers that Receive reads a CloudEvent, and the trace, by; nil where there are none, or more than it would take.
func meaningful(header map[string][]string) map[string]string {
	var kept map[string]string
	size := 0
	for name, values := range header {
		lower := strings.ToLower(name)
		if len(values) == 0 || lower != headerType && lower != HeaderTrace && !strings.HasPrefix(lower, cloudPrefix) {
			continue
		}
		if lower == HeaderTrace && len(values) > 1 {
			continue // read as none
		}
		if len(values) > 1 {
			return nil // refused for that
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		kept[name] = values[0]
		if size += len(name) + len(values[0]); size > MaxHeaderBytes {
			return nil
		}
	}
	return kept
}

// UserID is the raw id of the user whose event the payload is, as far as it can be read at all; empty where it cannot. It is
// personal data.
func (l *DeadLetter) UserID() string {
	for name, value := range l.Headers {
		if strings.EqualFold(name, cloudPrefix+ceSubject) {
			if id, ok := percentDecode(value); ok {
				return id
			}
		}
	}
	var user struct {
		ID      string `json:"user_id"`
		Subject string `json:"subject"` // of a CloudEvent in structured mode
	}
	if err := json.Unmarshal(l.Payload, &user); err != nil {
		return ""
	}
	return orElse(user.ID, user.Subject)
}

// WriteHeader sets the letter's headers. Its payload is the message's body.
func (l *DeadLetter) WriteHeader(set func(name, value string)) {
	set(HeaderReason, string(l.Reason))
	set(HeaderMessage, l.Message)
	set(HeaderStream, l.Stream)
	set(HeaderSequence, strconv.FormatUint(l.Sequence, 10))
	set(HeaderConsumer, l.Consumer)
	set(HeaderSubject, Clean(l.Subject))
	set(HeaderAttempts, strconv.FormatUint(l.Attempts, 10))
	set(HeaderReceived, l.ReceivedAt.UTC().Format(time.RFC3339Nano))
	set(HeaderSHA256, l.SHA256)
	if l.MessageID != "" {
		set(HeaderMessageID, l.MessageID)
	}
	if l.EventID != "" {
		set(HeaderEventID, l.EventID)
	}
	if !l.FirstReceived.IsZero() {
		set(HeaderFirstReceived, l.FirstReceived.UTC().Format(time.RFC3339Nano))
	}
	if l.RetryOf != 0 {
		set(HeaderRetryOf, strconv.FormatUint(l.RetryOf, 10))
	}
	if len(l.Headers) > 0 {
		set(HeaderKept, packHeaders(l.Headers))
	}
}

// packHeaders writes headers into one, in base64 because their bytes may be any: a line each, name first.
func packHeaders(headers map[string]string) string {
	var b strings.Builder
	for name, value := range headers {
		b.WriteString(name + ":" + value + "\n")
	}
	return base64.StdEncoding.EncodeToString([]byte(b.String()))
}

func unpackHeaders(text string) map[string]string {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return nil
	}
	headers := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":"); ok {
			headers[name] = value
		}
	}
	return headers
}

// ReadDeadLetter reads a message of ONRAMP_DEADLETTERS: a letter of ours, or the server's own advisory that a consumer gave a
// message up. It refuses nothing: what lacks a header keeps a zero value, so whatever stands in the stream can be listed.
func ReadDeadLetter(subject string, header Header, data []byte) DeadLetter {
	if strings.HasPrefix(subject, advisoryPrefix) {
		return readAdvisory(data)
	}
	return DeadLetter{
		Stream: header.Get(HeaderStream), Sequence: number(header.Get(HeaderSequence)), Consumer: header.Get(HeaderConsumer),
		Subject: header.Get(HeaderSubject), MessageID: header.Get(HeaderMessageID), Message: header.Get(HeaderMessage),
		Reason:   Reason(orElse(header.Get(HeaderReason), subject[strings.LastIndexByte(subject, '.')+1:])),
		Attempts: number(header.Get(HeaderAttempts)), ReceivedAt: timeOf(header.Get(HeaderReceived)),
		SHA256: orElse(header.Get(HeaderSHA256), hash(data)), EventID: header.Get(HeaderEventID),
		FirstReceived: timeOf(header.Get(HeaderFirstReceived)), RetryOf: number(header.Get(HeaderRetryOf)), Payload: data,
		Headers: unpackHeaders(header.Get(HeaderKept)),
	}
}

// readAdvisory reads what the server says when a consumer has been handed a message as often as it may. The advisory names the
// message and does not hold it: the message is still in its stream.
func readAdvisory(data []byte) DeadLetter {
	var advisory struct {
		Stream     string `json:"stream"`
		Consumer   string `json:"consumer"`
		Sequence   uint64 `json:"stream_seq"`
		Deliveries uint64 `json:"deliveries"`
	}
	letter := DeadLetter{Reason: ReasonMaxDeliveries}
	if err := json.Unmarshal(data, &advisory); err != nil {
		letter.Message = "an advisory that cannot be read"
		return letter
	}
	letter.Stream, letter.Sequence, letter.Consumer, letter.Attempts = Clean(advisory.Stream), advisory.Sequence, Clean(advisory.Consumer), advisory.Deliveries
	letter.Message = fmt.Sprintf("consumer %s was handed it %d times and never acknowledged it", letter.Consumer, letter.Attempts)
	return letter
}

func hash(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// number reads what a header holds; 0 where it holds no number.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// timeOf likewise.
func timeOf(text string) time.Time {
	if text == "" { // as of nearly every event: to try to read it took a sixth of reading the event
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
