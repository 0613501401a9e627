package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/onramphq/onramp/schema"
)

// userInPath is the token of the user whose raw id stands in the path, escaped. Where none can stand there it answers.
func (s *Server) userInPath(w http.ResponseWriter, r *http.Request) (token string, ok bool) {
	id := r.PathValue("id")
	if id == "" || len(id) > schema.MaxUserID || !utf8.ValidString(id) {
		s.refuse(w, r, http.StatusBadRequest, problemDetail{
			Code: schema.CodeInvalid, Field: "id", Message: "a user id is 1 to 256 bytes of UTF-8, escaped in the path",
		})
		return "", false
	}
	token = s.tokens.Of(id)
	requestOf(r).userToken = token
	return token, true
}

// user answers with the newest profile of the user whose raw id stands in the path, escaped. The body is what the worker
// published, byte for byte, so its hash is the entity tag on every replica.
func (s *Server) user(w http.ResponseWriter, r *http.Request) {
	token, ok := s.userInPath(w, r)
	if !ok {
		return
	}
	if r.URL.RawQuery != "" {
		if at := r.URL.Query().Get("at"); at != "" {
			s.userAt(w, r, token, at)
			return
		}
	}
	kept, ok := s.mirror.kept(token)
	if !ok {
		s.absent(w, r)
		return
	}
	if s.changed(w, r, kept.sum[:]) {
		s.sendText(r.Context(), w, kept.raw)
	}
}

// changed sets the entity tag, and answers 304 and returns false where the caller has what it stands for.
func (*Server) changed(w http.ResponseWriter, r *http.Request, sum []byte) bool {
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum) + `"`
	w.Header().Set("ETag", tag)
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return false
	}
	return true
}

// pastTimeout bounds the reading of one user's past.
const pastTimeout = 10 * time.Second

// userAt answers with what the user was at a moment. What it reads is the record of outcomes, so it asks what keeps that, and says so
// where that is away.
func (s *Server) userAt(w http.ResponseWriter, r *http.Request, token, text string) {
	at, err := time.Parse(time.RFC3339Nano, text)
	switch {
	case err != nil:
		s.refuse(w, r, http.StatusBadRequest, problemDetail{Code: schema.CodeInvalid, Field: "at", Message: "at is a moment after RFC 3339, such as 2026-11-24T09:00:00Z; a + in it is written %2B"})
		return
	case at.After(time.Now()):
		s.refuse(w, r, http.StatusBadRequest, problemDetail{Code: schema.CodeInvalid, Field: "at", Message: "at lies in the future; without it the answer is what the user is now"})
		return
	case s.cfg.Past == nil:
		s.refuse(w, r, http.StatusNotFound, problemDetail{Code: schema.CodeNotFound, Field: "at", Message: "this process is not connected to ClickHouse and knows no past"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), pastTimeout)
	defer cancel()
	past, err := s.cfg.Past(ctx, token, at)
	if err == nil {
		var body []byte
		if body, err = json.Marshal(past); err == nil {
			if sum := sha256.Sum256(body); s.changed(w, r, sum[:16]) {
				s.send(r.Context(), w, http.StatusOK, "application/json", append(body, '\n'))
			}
			return
		}
	}
	switch code := schema.CodeOf(err); code {
	case schema.CodeNotFound:
		s.refuse(w, r, http.StatusNotFound, problemDetail{Code: code, Field: "at", Message: "nothing is on record of this user by then"})
	default:
		s.logger.WarnContext(r.Context(), "past not read", slog.String("request_id", requestOf(r).id), slog.String("user_token", token), slog.Any("error", err))
		w.Header().Set("Retry-After", "1")
		s.refuse(w, r, http.StatusServiceUnavailable, problemDetail{Code: schema.CodeUnavailable, Field: "at", Message: "ClickHouse, which keeps the past, does not answer; what the user is now is answered without at"})
	}
}

// absent tells a user nobody has seen from one that is not read in yet.
func (s *Server) absent(w http.ResponseWriter, r *http.Request) {
	if !s.mirror.Ready() {
		w.Header().Set("Retry-After", "1")
		s.refuse(w, r, http.StatusServiceUnavailable, problemDetail{
			Code: schema.CodeUnavailable, Message: "the profiles are still being read in; ask again",
		})
		return
	}
	s.refuse(w, r, http.StatusNotFound, problemDetail{
		Code: schema.CodeNotFound, Field: "id", Message: "no event of this user has led to a profile",
	})
}

// matches compares after RFC 9110, 13.1.2: weakly, any of a list, or `*`.
func matches(headers []string, tag string) bool {
	for _, header := range headers {
		for candidate := range strings.SplitSeq(header, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
				return true
			}
		}
	}
	return false
}
