package api

import (
	"encoding/base64"
	"errors"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/onramphq/onramp/schema"
)

// Codes of refusals that concern the caller and not the input.
const (
	codeUnauthorized schema.Code = "unauthorized"
	codeForbidden    schema.Code = "forbidden"
	codeOrigin       schema.Code = "origin_not_allowed"
)

// Failed keys of one address: so many a minute, so many at once. More, and the address waits before it may guess on.
const (
	failuresPerMinute = 20
	mostGuessers      = 4096
)

// freeKey is the caller where there are no keys: the server is on loopback then, and whoever reaches it may do everything.
//
//nolint:gochecknoglobals // a constant but for having a pointer in it; it is never limited and never changed
var freeKey = &apiKey{id: "-", name: "tracking", role: RoleAdmin, limit: rate.NewLimiter(rate.Inf, math.MaxInt)}

// guessers counts the failed keys of addresses. Safe for concurrent use.
type guessers struct {
	mu   sync.Mutex
	seen map[netip.Addr]*rate.Limiter
}

// blocked reports whether the address has failed too often.
func (g *guessers) blocked(addr netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	limiter := g.seen[addr]
	return limiter != nil && limiter.TokensAt(now) < 1
}

func (g *guessers) failed(addr netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.seen) >= mostGuessers || g.seen == nil {
		g.seen = make(map[netip.Addr]*rate.Limiter) // bounded memory counts more than a few forgotten failures
	}
	if g.seen[addr] == nil {
		g.seen[addr] = rate.NewLimiter(rate.Every(time.Minute/failuresPerMinute), failuresPerMinute)
	}
	g.seen[addr].AllowN(now, 1)
}

// presented returns the key in the headers: Basic with the key as user name, Bearer, or X-API-Key. Empty: none.
func presented(r *http.Request) (key string, basic bool) {
	kind, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(kind, "Basic"):
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		if err != nil {
			return "", true
		}
		user, _, _ := strings.Cut(string(raw), ":") // hand-written code forgets the colon
		return user, true
	case strings.EqualFold(kind, "Bearer"):
		return strings.TrimSpace(rest), false
	default:
		return r.Header.Get("X-Api-Key"), false
	}
}

// identify finds the caller among the keys given. Where none is known it answers and returns false.
func (s *Server) identify(w http.ResponseWriter, r *http.Request, keys ...string) (*apiKey, bool) {
	if s.cfg.Keys == nil {
		return freeKey, true
	}
	key, err := s.caller(addrOf(r), keys...)
	switch {
	case errors.Is(err, errGuessing):
		s.refuseBusy(w, r, guessPause, guessMessage)
		return nil, false
	case err != nil:
		s.refuse(w, r, http.StatusUnauthorized, problemDetail{Code: codeUnauthorized, Field: "authorization", Message: "this key is not known, or there is none"})
		return nil, false
	}
	requestOf(r).key = key.name
	return key, true
}

// What whoever guesses is told.
const (
	guessPause   = time.Minute / failuresPerMinute
	guessMessage = "too many unknown keys from this address"
)

// errGuessing and errUnknownKey are why there is no caller.
var (
	errGuessing   = errors.New("the address guesses keys")
	errUnknownKey = errors.New("the key is not known, or there is none")
)

// caller finds the caller by the first of the keys that is known. Errors: errGuessing, errUnknownKey.
func (s *Server) caller(addr netip.Addr, keys ...string) (*apiKey, error) {
	now := time.Now()
	if s.guessers.blocked(addr, now) {
		return nil, errGuessing
	}
	given := false
	for _, secret := range keys {
		if secret == "" {
			continue
		}
		given = true
		if key, ok := s.cfg.Keys.find(secret); ok {
			return key, nil
		}
	}
	if given {
		s.guessers.failed(addr, now)
	}
	return nil, errUnknownKey
}

// admit finds the caller by the headers, asks whether the key may do this, and counts the request.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, roles ...Role) (*apiKey, bool) {
	secret, _ := presented(r)
	key, ok := s.identify(w, r, secret)
	if !ok {
		return nil, false
	}
	return key, s.allow(w, r, key, 1, roles...)
}

// allow answers and returns false where the key has not the role, or has used up its rate.
func (s *Server) allow(w http.ResponseWriter, r *http.Request, key *apiKey, n int, roles ...Role) bool {
	if !key.may(roles...) {
		s.refuse(w, r, http.StatusForbidden, problemDetail{Code: codeForbidden, Field: "authorization", Message: "this key has not the role that the route asks for"})
		return false
	}
	if wait, ok := key.take(time.Now(), n); !ok {
		s.refuseBusy(w, r, wait, "this key has used up its rate")
		return false
	}
	return true
}

// refuseBusy answers 429: try again, after so long.
func (s *Server) refuseBusy(w http.ResponseWriter, r *http.Request, wait time.Duration, message string) {
	w.Header().Set("Retry-After", seconds(wait))
	w.Header().Set("X-Ratelimit-Reset", seconds(wait))
	s.refuse(w, r, http.StatusTooManyRequests, problemDetail{Code: schema.CodeRateLimited, Message: message})
}

// seconds writes a wait as a header has it: whole seconds, one at least.
func seconds(wait time.Duration) string { return strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))) }

// reader lets those through who may read.
func (s *Server) reader(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.admit(w, r, RoleRead); ok {
			next(w, r)
		}
	}
}

// askPerson makes a browser ask for the key where a page is refused.
func askPerson(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if secret, _ := presented(r); secret == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="onramp: the key as user name", charset="UTF-8"`)
		}
		next(w, r)
	}
}

func addrOf(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// Headers that browsers ask for before they send what the SDKs and the OpenFeature providers send, and may see after.
const (
	corsHeaders = "authorization, content-type, content-encoding, x-api-key, x-retry-count, x-request-id, anonymousid, sentat, if-none-match, traceparent, tracestate"
	corsExposed = "ETag, Retry-After, X-Request-Id"
	corsMaxAge  = 10 * time.Minute
)

// browsers answers what browsers ask before they let a page of another origin in, and refuses pages that are not on the list: a
// page may send simple requests without asking, so the answer alone would come too late.
func (s *Server) browsers(methods string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if origin == "" {
			next(w, r)
			return
		}
		header := w.Header()
		header.Add("Vary", "Origin")
		if !s.knowsOrigin(origin, r.Host) {
			s.refuse(w, r, http.StatusForbidden, problemDetail{Code: codeOrigin, Field: "origin", Message: "pages of this origin may not ask; see origins in the file of keys"})
			return
		}
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Expose-Headers", corsExposed)
		header.Set("Cross-Origin-Resource-Policy", "cross-origin")
		if r.Method == http.MethodOptions {
			header.Set("Access-Control-Allow-Methods", methods)
			header.Set("Access-Control-Allow-Headers", corsHeaders)
			header.Set("Access-Control-Max-Age", strconv.Itoa(int(corsMaxAge.Seconds())))
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next(w, r)
	}
}

// knowsOrigin lets pages of this server itself through, and those on the list. Without keys the list is loopback: one develops.
func (s *Server) knowsOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Host == host {
		return true
	}
	if s.cfg.Keys != nil {
		return slices.ContainsFunc(s.cfg.Keys.origins(), func(allowed string) bool { return allowed == "*" || allowed == origin })
	}
	return isLoopback(u.Host)
}

// isLoopback reports whether a host, with or without a port, is this machine.
func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}
