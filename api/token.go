package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/schema"
)

// Lives of what is signed.
const (
	// streamWindow is how long the address of an event stream stays the same for one caller and user. It can be opened for one
	// window more, so that whoever was told 304 at the end of a window holds an address that still opens.
	streamWindow = 30 * time.Minute
	// leastTokenLife and mostTokenLife bound what a service may ask for; defaultTokenLife is what it gets that asks for nothing.
	leastTokenLife   = time.Minute
	mostTokenLife    = 24 * time.Hour
	defaultTokenLife = time.Hour
)

// mostSigningKeys are as many as a rotation needs: the new one and the one before.
const mostSigningKeys = 2

// macLength is the number of characters of a signature: 128 bits.
const macLength = 22

// pageTokenHead is the length of a user token and the dot behind it.
const pageTokenHead = len(mirrorKey{}) + 1

// What a signature is for. A signature for one does not open the other.
const (
	forPage   = "onramp page token 1:"
	forStream = "onramp stream token 1:"
)

// errForged and errExpired are why something signed is not taken: it was never ours, or is not any more.
var (
	errForged  = errors.New("not signed by this server")
	errExpired = errors.New("no longer valid")
)

// signer signs with the first of its keys and knows the signatures of all. Safe for concurrent use.
type signer [][]byte

// newSigner takes the keys given, newest first, and where there are none makes one from the workspace key.
func newSigner(keys [][]byte, workspaceKey []byte) signer {
	if len(keys) > 0 {
		return keys
	}
	mac := hmac.New(sha256.New, workspaceKey)
	mac.Write([]byte("onramp api signing key"))
	return signer{mac.Sum(nil)}
}

func signature(key []byte, purpose, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose))
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))[:macLength]
}

// sign returns text, a dot and its signature.
func (s signer) sign(purpose, text string) string { return text + "." + signature(s[0], purpose, text) }

// verify returns the text that was signed for this purpose.
func (s signer) verify(purpose, signed string) (text string, err error) {
	cut := strings.LastIndexByte(signed, '.')
	if cut < 0 {
		return "", errForged
	}
	text, given := signed[:cut], signed[cut+1:]
	known := false
	for _, key := range s { // all of them, so that the time it takes does not tell which
		known = hmac.Equal([]byte(given), []byte(signature(key, purpose, text))) || known
	}
	if !known {
		return "", errForged
	}
	return text, nil
}

// pageToken lets a page read the flags of one user, until expires: `<user token>.<expiry>.<signature>`.
func (s signer) pageToken(userToken string, expires time.Time) string {
	return s.sign(forPage, userToken+"."+expiry(expires))
}

// page reads a page token. Errors: errForged, errExpired.
func (s signer) page(signed string, now time.Time) (userToken string, expires time.Time, err error) {
	if len(signed) < pageTokenHead || signed[pageTokenHead-1] != '.' || schema.CheckToken(signed[:pageTokenHead-1]) != nil {
		return "", time.Time{}, errForged // an id: nothing to work out
	}
	text, err := s.verify(forPage, signed)
	if err != nil {
		return "", time.Time{}, err
	}
	userToken, until, _ := strings.Cut(text, ".")
	expires, err = notBefore(until, now)
	return userToken, expires, err
}

// ticket opens the event stream of one user for one key, until expires.
type ticket struct {
	userToken string
	keyID     string
	expires   time.Time
}

func (s signer) ticket(t ticket) string {
	return s.sign(forStream, t.userToken+"."+t.keyID+"."+expiry(t.expires))
}

// open reads a ticket. Errors: errForged, errExpired.
func (s signer) open(signed string, now time.Time) (t ticket, err error) {
	text, err := s.verify(forStream, signed)
	if err != nil {
		return ticket{}, err
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return ticket{}, errForged
	}
	t = ticket{userToken: parts[0], keyID: parts[1]}
	t.expires, err = notBefore(parts[2], now)
	return t, err
}

func expiry(at time.Time) string { return strconv.FormatInt(at.Unix(), 36) }

func notBefore(text string, now time.Time) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 36, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", errForged, err)
	}
	at := time.Unix(seconds, 0)
	if !now.Before(at) {
		return at, errExpired
	}
	return at, nil
}

// windowEnd is when a ticket ends that is given out now: the same for all of a window, and never less than a window away.
func windowEnd(now time.Time) time.Time { return now.Truncate(streamWindow).Add(2 * streamWindow) }

// issued is the answer to a service that asks for a page token. Times are Unix milliseconds, UTC.
type issued struct {
	Token     string `json:"token"`
	UserToken string `json:"user_token"`
	ExpiresAt int64  `json:"expires_at"`
}

// issueToken gives a service a page token for one of its users. It makes no user: whoever is not known has a token too, and no flags.
func (s *Server) issueToken(w http.ResponseWriter, r *http.Request) {
	token, ok := s.userInPath(w, r)
	if !ok {
		return
	}
	life := defaultTokenLife
	if asked := r.URL.Query().Get("ttl"); asked != "" {
		var err error
		if life, err = time.ParseDuration(asked); err != nil || life < leastTokenLife || life > mostTokenLife {
			s.refuse(w, r, http.StatusBadRequest, problemDetail{
				Code: schema.CodeInvalid, Field: "ttl", Message: "ttl is a duration between 1m and 24h, such as 90m",
			})
			return
		}
	}
	expires := time.Now().Add(life).Truncate(time.Second)
	s.answer(r.Context(), w, http.StatusOK, issued{Token: s.signer.pageToken(token, expires), UserToken: token, ExpiresAt: expires.UnixMilli()})
}
