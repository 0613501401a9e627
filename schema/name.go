package schema

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// Streams of JetStream.
const (
	EventsStream      = "ONRAMP_EVENTS"
	OutcomesStream    = "ONRAMP_OUTCOMES"
	DeadLettersStream = "ONRAMP_DEADLETTERS"
	ActionsStream     = "ONRAMP_ACTIONS"
	ProfilesStream    = "ONRAMP_PROFILES"
	IdentitiesStream  = "ONRAMP_IDENTITIES"
	PlaybooksBucket   = "ONRAMP_PLAYBOOKS" // object store: playbooks by hash
	LeasesBucket      = "ONRAMP_LEASES"    // key-value: which process works, of those of which one may
)

// Subject prefixes and the wildcard of each stream.
const (
	EventsSubjects      = "onramp.events.>"
	OutcomesSubjects    = "onramp.outcomes.>"
	DeadLettersSubjects = "onramp.deadletters.>"
	ActionsSubjects     = "onramp.actions.>"
	ProfilesSubjects    = "onramp.profiles.>"
	IdentitiesSubjects  = "onramp.identities.>"
)

// AdvisorySubjects is where the server says that a consumer gave a message up; see ReasonMaxDeliveries. It says it once, to
// whoever listens, so ONRAMP_DEADLETTERS takes these too.
const (
	AdvisorySubjects = advisoryPrefix + "*.*"
	advisoryPrefix   = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."
)

// Durable consumers.
const (
	IngestConsumer      = "ingest"
	ArchiveConsumer     = "archive"
	OutcomesConsumer    = "sink-outcomes"
	DeadLettersConsumer = "sink-deadletters"
)

// SinkLease is the lease of the process that reads ArchiveConsumer, OutcomesConsumer and DeadLettersConsumer; that of ingest goes by the name of its
// consumer.
const SinkLease = "sink"

// TaskQueue is the Temporal task queue of journeys and activities.
const TaskQueue = "onramp"

// Headers of dead letters.
const (
	HeaderReason    = "Onramp-Reason"
	HeaderMessage   = "Onramp-Message"
	HeaderStream    = "Onramp-Stream"
	HeaderSequence  = "Onramp-Sequence"
	HeaderSubject   = "Onramp-Subject"
	HeaderAttempts  = "Onramp-Attempts"
	HeaderReceived  = "Onramp-Received" // RFC 3339, when the stream took the message
	HeaderConsumer  = "Onramp-Consumer"
	HeaderSHA256    = "Onramp-Sha256"     // of the whole payload, which may have been cut for its size
	HeaderMessageID = "Onramp-Message-Id" // the Nats-Msg-Id it was published with
	HeaderKept      = "Onramp-Headers"    // base64 of the headers that its payload is read by, a line each
)

// Headers of a message that a dead letter was sent in again as. They keep what its new place in the stream would change: the
// identity of an event without one of its own, and the clock its time is measured by.
const (
	HeaderEventID       = "Onramp-Event-Id"
	HeaderFirstReceived = "Onramp-First-Received" // RFC 3339
	HeaderRetryOf       = "Onramp-Retry-Of"       // sequence of the dead letter
)

// HeaderPrompt stands on the message of an event that somebody waits for: it travels at once, whatever it may change.
const HeaderPrompt = "Onramp-Prompt"

// headerMessageID is by what JetStream recognizes a message that is published again.
const headerMessageID = "Nats-Msg-Id"

const workflowPrefix = "onboarding/"

// tokenLength is the number of characters of a user token, its leading letter included.
const tokenLength = 27

//nolint:gochecknoglobals // immutable: an encoding has no setters
var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// UserToken is the name of a user everywhere but in erasable places: `u` and 26 characters of lower-case base32 of
// HMAC-SHA256(workspace key, raw id). It is safe in subjects, keys, workflow ids, logs and metric labels, whatever bytes
// the raw id holds, and cannot be turned back into the id without the key.
func UserToken(workspaceKey []byte, userID string) string {
	mac := hmac.New(sha256.New, workspaceKey)
	mac.Write([]byte(userID)) // hash.Hash never returns an error
	return "u" + base32Lower.EncodeToString(mac.Sum(nil))[:tokenLength-1]
}

// Tokens makes the user tokens of one workspace, for who makes many: it keeps what is the same for all of them. Safe for concurrent use.
type Tokens struct{ macs sync.Pool }

// keyedHash is what Tokens uses of a hash.Hash.
type keyedHash interface {
	io.Writer
	Reset()
	Sum(to []byte) []byte
}

// NewTokens returns a maker of tokens of the workspace.
func NewTokens(workspaceKey []byte) *Tokens {
	return &Tokens{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, workspaceKey) }}}
}

// Of is UserToken of the workspace.
func (t *Tokens) Of(userID string) string {
	mac, _ := t.macs.Get().(keyedHash) //nolint:errcheck // nothing else is in there
	defer t.macs.Put(mac)
	mac.Reset()
	io.WriteString(mac, userID) //nolint:errcheck // hash.Hash never returns an error
	var sum [sha256.Size]byte
	var text [tokenLength + sha256.Size]byte
	text[0] = 'u'
	base32Lower.Encode(text[1:], mac.Sum(sum[:0]))
	return string(text[:tokenLength])
}

// ErrNotAToken is returned where a user token was expected and something else stood.
var ErrNotAToken = errors.New("not a user token")

// CheckToken returns ErrNotAToken unless s has the shape of a user token.
func CheckToken(s string) error {
	if len(s) != tokenLength || s[0] != 'u' || strings.Trim(s[1:], "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return fmt.Errorf("%w: %q", ErrNotAToken, Clean(s))
	}
	return nil
}

// WorkflowID is the id of the workflow that is the user: `onboarding/<token>`.
func WorkflowID(token string) string { return workflowPrefix + token }

// TokenFromWorkflowID is the inverse of WorkflowID. It returns ErrNotAToken for a stranger's id.
func TokenFromWorkflowID(id string) (string, error) {
	token, ok := strings.CutPrefix(id, workflowPrefix)
	if !ok {
		return "", fmt.Errorf("%w: %q", ErrNotAToken, Clean(id))
	}
	return token, CheckToken(token)
}

// CanarySubject is where canaries are published: a place of the events like any other.
const CanarySubject = "onramp.events.onramp_canary"

// EventSubject is where a service named source publishes its events. source is a subject token chosen by the operator.
func EventSubject(source string) string { return "onramp.events." + source }

// Subjects of the questions that every API process answers, by NATS request.
const (
	SubjectProfile = "onramp.v1.profile" // {"user_id":"u42"} or {"user_token":"u…"} → Profile
	SubjectFlag    = "onramp.v1.flag"    // {"key":"segment.at_risk","context":{"targetingKey":"u42"}} → one flag
	SubjectFlags   = "onramp.v1.flags"   // {"context":{"targetingKey":"u42"}} → all flags
)

// MessageIDOf is the Nats-Msg-Id under which an event of that id is published, by everybody: the id. Headers lose white space and may not
// hold everything an id may, so ids of that kind go by their hash.
func MessageIDOf(eventID string) string {
	if strings.ContainsFunc(eventID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "sha256-" + hash([]byte(eventID))
	}
	return eventID
}

// ActionSubject is where the action of that name is delivered over NATS.
func ActionSubject(action string) string { return "onramp.actions." + action }

// OutcomeSubject is where outcomes of that kind are published.
func OutcomeSubject(kind OutcomeKind) string { return "onramp.outcomes." + string(kind) }

// DeadLetterSubject is where messages refused for that reason end.
func DeadLetterSubject(reason Reason) string { return "onramp.deadletters." + string(reason) }

// ProfileSubject is where the newest profile of a user stands.
func ProfileSubject(token string) string { return "onramp.profiles." + token }

// IdentitySubject is where it stands whom a user became one with.
func IdentitySubject(token string) string { return "onramp.identities." + token }

// EnrollmentID identifies one passage of a user through a journey. Derived, so that deciding it again gives it again.
func EnrollmentID(token, journey, entryEventID string) string {
	return derive("e", token, journey, entryEventID)
}

// ActionID identifies one action: the same on every attempt, so that a deduplicating receiver acts once.
func ActionID(enrollmentID, stepKey string, visit int) string {
	return derive("a", enrollmentID, stepKey, strconv.Itoa(visit))
}

// OutcomeID identifies one outcome by what makes it the same outcome when it is decided again.
func OutcomeID(kind OutcomeKind, parts ...string) string {
	return derive("o", append([]string{string(kind)}, parts...)...)
}

// derive hashes parts, each with its length in front so that no two lists of parts look alike.
func derive(prefix string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p) // hash.Hash never returns an error
	}
	return prefix + base32Lower.EncodeToString(h.Sum(nil))[:26]
}

// Clean makes a piece of foreign input fit for a message: at most 64 bytes, nothing but printable ASCII.
func Clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= 64 {
			b.WriteString("…")
			break
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Search attributes of a user's workflow. They are never encrypted, so none holds anything personal.
const (
	AttributeStage    = "OnboardingStage"    // Keyword
	AttributeSegments = "OnboardingSegments" // KeywordList
	AttributeVariants = "OnboardingVariants" // KeywordList of `experiment=variant`
	AttributePlaybook = "OnboardingPlaybook" // Keyword: hash of the version
	MemoUserID        = "user_id"            // memo key: the raw id, so that a person recognizes the user
)
