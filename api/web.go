package api

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
	"golang.org/x/time/rate"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// Browsers speak NATS over WebSocket, each with credentials that name one user and end soon. What a browser sends goes to a subject that
// holds its user, sealed, and the permissions of the credentials let it use no other. The user of an event is that of the subject: what the
// body says about it does not count. Browsers never reach JetStream; this process checks what they send and puts it into the stream.

const routeCredentials = "/v1/users/{id}/credentials" //nolint:gosec // a path, not a secret

// webSource is the source of browsers' events: they are published on onramp.events.web.
const webSource = "web"

// Bounds of what one browser may do.
const (
	defaultCredentialTTL = 15 * time.Minute
	minCredentialTTL     = time.Minute
	maxCredentialTTL     = 24 * time.Hour
	maxWebSubscriptions  = 16
	webRate              = 20 // events a second
	webBurst             = 100
	mostWebUsers         = 16384
)

// subjectSeal seals user ids into tokens of subjects: a subject is seen by whoever watches NATS, and must not name a person. The same id
// is always the same token, so that a subject stays what it is; nobody makes one without the workspace key. The nonce is a keyed hash of the
// id, so two ids never share one. Safe for concurrent use.
type subjectSeal struct {
	aead  cipher.AEAD
	nonce []byte // key of the hash that makes nonces
}

func newSubjectSeal(workspaceKey []byte) *subjectSeal {
	derive := func(purpose string) []byte {
		mac := hmac.New(sha256.New, workspaceKey)
		mac.Write([]byte(purpose)) // hash.Hash never returns an error
		return mac.Sum(nil)
	}
	block, err := aes.NewCipher(derive("onramp: subjects of browsers, cipher"))
	if err != nil {
		panic("a key of 32 bytes is one for AES: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("AES is a cipher for GCM: " + err.Error())
	}
	return &subjectSeal{aead, derive("onramp: subjects of browsers, nonce")}
}

func (s *subjectSeal) seal(userID string) string {
	mac := hmac.New(sha256.New, s.nonce)
	mac.Write([]byte(userID)) // hash.Hash never returns an error
	nonce := mac.Sum(nil)[:s.aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, []byte(userID), nil))
}

// open returns the user whose token it is, false for what nobody sealed.
func (s *subjectSeal) open(token string) (string, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < s.aead.NonceSize() {
		return "", false
	}
	id, err := s.aead.Open(nil, raw[:s.aead.NonceSize()], raw[s.aead.NonceSize():], nil)
	return string(id), err == nil
}

// Browsers issues credentials for the browsers of users. Made by NewBrowsers.
type Browsers struct {
	signer  nkeys.KeyPair
	account string
	url     string
	ttl     time.Duration
}

// BrowsersConfig says in whose name credentials are issued.
type BrowsersConfig struct {
	// Seed is the seed of the NATS account of browsers, or of one of its signing keys: SA and 56 characters. White space around it
	// does not count. Required.
	Seed []byte
	// Account is the account's public key; required where Seed is that of a signing key. Defaults to the key of Seed.
	Account string
	// URL is where browsers find NATS, such as wss://nats.example.com; passed on as it is. Defaults to nothing.
	URL string
	// TTL is how long credentials hold. Defaults to 15 min; from 1 min to 24 h.
	TTL time.Duration
}

// NewBrowsers returns an issuer. Errors: invalid, naming what is wrong, never with the seed.
func NewBrowsers(cfg BrowsersConfig) (*Browsers, error) {
	refuse := func(message string, err error) (*Browsers, error) {
		return nil, &schema.Error{Code: schema.CodeInvalid, Message: "credentials of browsers: " + message, Err: err}
	}
	signer, err := nkeys.FromSeed(bytes.TrimSpace(cfg.Seed))
	if err != nil {
		return refuse("the seed is none: an account's begins with SA", nil)
	}
	public, err := signer.PublicKey()
	if err != nil || !nkeys.IsValidPublicAccountKey(public) {
		return refuse("the seed is not that of an account, which begins with SA", err)
	}
	if cfg.Account != "" && !nkeys.IsValidPublicAccountKey(cfg.Account) {
		return refuse("the account is not a public key of one, which begins with A", nil)
	}
	if cfg.TTL == 0 {
		cfg.TTL = defaultCredentialTTL
	}
	if cfg.TTL < minCredentialTTL || cfg.TTL > maxCredentialTTL {
		return refuse("they must hold for 1m to 24h", nil)
	}
	b := &Browsers{signer: signer, account: public, url: cfg.URL, ttl: cfg.TTL}
	if cfg.Account != "" {
		b.account = cfg.Account
	}
	return b, nil
}

// credentials are what a page gets from the service that knows who its user is.
type credentials struct {
	JWT         string          `json:"jwt"` // a bearer token: whoever holds it is this user until it ends
	ExpiresAt   int64           `json:"expires_at"`
	URL         string          `json:"url,omitempty"`
	InboxPrefix string          `json:"inbox_prefix"` // of the connection's options: no other inbox is allowed
	Subjects    browserSubjects `json:"subjects"`
}

// browserSubjects are what the page asks and listens to.
type browserSubjects struct {
	Track   string `json:"track"`   // request: an event
	Profile string `json:"profile"` // request: the profile now
	Flags   string `json:"flags"`   // request: all flags now
	Changes string `json:"changes"` // subscription: every new profile
}

// issue makes credentials for one user.
func (b *Browsers) issue(sealed, token string, now time.Time) (credentials, error) {
	user, err := nkeys.CreateUser() // a bearer token needs no key of its own, but a name
	if err != nil {
		return credentials{}, err
	}
	public, err := user.PublicKey()
	if err != nil {
		return credentials{}, err
	}
	web := "onramp.web." + sealed
	subjects := browserSubjects{Track: web + ".track", Profile: web + ".profile", Flags: web + ".flags", Changes: schema.ProfileSubject(token)}
	answer := credentials{ExpiresAt: now.Add(b.ttl).UnixMilli(), URL: b.url, InboxPrefix: "_INBOX." + token, Subjects: subjects}
	claims := jwt.NewUserClaims(public)
	claims.Name, claims.Expires = token, now.Add(b.ttl).Unix()
	claims.BearerToken = true
	claims.Pub.Allow.Add(subjects.Track, subjects.Profile, subjects.Flags)
	claims.Sub.Allow.Add(subjects.Changes, answer.InboxPrefix+".>")
	claims.Subs, claims.Limits.Payload = maxWebSubscriptions, maxCallBytes
	claims.AllowedConnectionTypes.Add(jwt.ConnectionTypeWebsocket)
	if public, err := b.signer.PublicKey(); err != nil {
		return credentials{}, err
	} else if public != b.account {
		claims.IssuerAccount = b.account
	}
	answer.JWT, err = claims.Encode(b.signer)
	return answer, err
}

// issueCredentials answers a service that asks for its user's page.
func (s *Server) issueCredentials(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if strings.TrimSpace(id) == "" || len(id) > schema.MaxUserID || !utf8.ValidString(id) {
		s.refuse(w, r, http.StatusBadRequest, problemDetail{
			Code: schema.CodeInvalid, Field: "id", Message: "a user id is 1 to 256 bytes of UTF-8, escaped in the path",
		})
		return
	}
	token := s.tokens.Of(id)
	requestOf(r).userToken = token
	issued, err := s.cfg.Browsers.issue(s.seal.seal(id), token, time.Now())
	if err != nil {
		s.logger.ErrorContext(r.Context(), "credentials not issued", slog.Any("error", err))
		s.refuse(w, r, http.StatusInternalServerError, problemDetail{Code: schema.CodeInternal, Message: "the credentials cannot be made"})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	s.answer(r.Context(), w, http.StatusOK, issued)
}

// webUser is the user in the subject of a request.
func (s *Server) webUser(r micro.Request) (string, *serviceProblem) {
	parts := strings.Split(r.Subject(), ".")
	if len(parts) == 4 {
		if id, ok := s.seal.open(parts[2]); ok {
			return id, nil
		}
	}
	return "", &serviceProblem{http.StatusForbidden, problemDetail{Code: codeForbidden, Message: "the subject names no user: take it from the credentials"}}
}

func (s *Server) webProfile(r micro.Request) {
	id, problem := s.webUser(r)
	if problem != nil {
		s.fail(r, *problem)
		return
	}
	s.replyProfile(r, s.tokens.Of(id))
}

func (s *Server) webFlags(r micro.Request) {
	id, problem := s.webUser(r)
	if problem != nil {
		s.fail(r, *problem)
		return
	}
	s.unsent(r.Respond(s.flagsFor(s.tokens.Of(id), false).all()))
}

// webTrack takes an event of a browser. It is checked before the next one is looked at, and stored beside it: the stream takes its time.
func (s *Server) webTrack(ctx context.Context, r micro.Request) {
	id, problem := s.webUser(r)
	var event tracked
	if problem == nil {
		problem = s.webAllow(id)
	}
	if problem == nil {
		event, problem = webEvent(r.Data(), id, time.Now())
	}
	if problem != nil {
		s.verdict(VerdictRefused, 1)
		s.fail(r, *problem)
		return
	}
	go s.webStore(tracing.Within(ctx, schema.TraceOf(r.Headers())), r, event)
}

// webAllow counts the event against what one user's pages may send, wherever they are open.
func (s *Server) webAllow(userID string) *serviceProblem {
	if s.webLimits.allow(userID, time.Now()) {
		return nil
	}
	return &serviceProblem{http.StatusTooManyRequests, problemDetail{Code: schema.CodeRateLimited, Message: "this user sends too much; wait a second"}}
}

// webLimits count what users' pages send. Safe for concurrent use.
type webLimits struct {
	mu   sync.Mutex
	seen map[string]*rate.Limiter
}

func (l *webLimits) allow(userID string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) >= mostWebUsers || l.seen == nil {
		l.seen = make(map[string]*rate.Limiter) // bounded memory counts more than a burst that is granted again
	}
	if l.seen[userID] == nil {
		l.seen[userID] = rate.NewLimiter(webRate, webBurst)
	}
	return l.seen[userID].AllowN(now, 1)
}

// webEvent makes the event: what the browser says, of the user that its subject says.
func webEvent(raw []byte, userID string, now time.Time) (tracked, *serviceProblem) {
	refuse := func(err error) (tracked, *serviceProblem) {
		detail := problemDetail{Code: schema.CodeInvalid, Message: "the event cannot be read"}
		if rejection, ok := errors.AsType[*schema.Rejection](err); ok {
			detail = problemDetail{Code: schema.Code(rejection.Reason), Field: rejection.Field, Message: rejection.Message}
		}
		return tracked{}, &serviceProblem{http.StatusBadRequest, detail}
	}
	if len(raw) > maxCallBytes {
		return refuse(refusal(schema.ReasonTooLarge, "", "an event has more than 32 KiB"))
	}
	members, err := schema.ReadObject(raw)
	if err != nil {
		return refuse(err)
	}
	if !isNull(members["previous_id"]) { // a page says who its user is by its subject, and takes nobody over
		return refuse(refusal(schema.ReasonUnknownField, "previous_id", "is for services: a page cannot make one user of two"))
	}
	members["user_id"] = quote(userID)
	made := isNull(members["event_id"])
	if made {
		members["event_id"] = quote(newMessageID())
	}
	body, err := json.Marshal(members)
	if err != nil {
		return refuse(err)
	}
	event, err := trackedOf(body, made, now)
	if err != nil {
		return refuse(err)
	}
	// Recognized with its user: else one page could keep out another's event whose id it guesses.
	sum := sha256.Sum256([]byte(userID + "\x00" + event.eventID)) // no id holds a control character
	event.messageID = "web-" + base64.RawURLEncoding.EncodeToString(sum[:])
	return event, nil
}

// webStore answers when the stream has the event. It does so with the framework's headers but without its counting, which is over.
func (s *Server) webStore(ctx context.Context, r micro.Request, event tracked) {
	kept, err := s.keep(ctx, &apiKey{name: webSource}, []tracked{event})
	switch {
	case err != nil:
		s.late(r, http.StatusServiceUnavailable, problemDetail{Code: schema.CodeUnavailable, Message: "the stream does not take the event; send it again with the same id"})
		return
	case len(kept.conflicts) > 0:
		s.late(r, http.StatusConflict, problemDetail{Code: schema.Code(reasonConflict), Field: "event_id", Message: conflictMessage})
		return
	}
	answer, err := json.Marshal(singleAnswer{Success: true, MessageID: event.eventID, Duplicate: kept.duplicates > 0})
	if err == nil {
		s.unsent(r.Respond(answer))
	}
}

// late refuses when the framework has counted the request already.
func (s *Server) late(r micro.Request, status int, detail problemDetail) {
	body, err := json.Marshal(problem{detail})
	if err == nil {
		s.unsent(r.Respond(body, micro.WithHeaders(micro.Headers{
			micro.ErrorCodeHeader: {strconv.Itoa(status)}, micro.ErrorHeader: {string(detail.Code) + ": " + detail.Message},
		})))
	}
}
