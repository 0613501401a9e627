package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
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
	token = schema.UserToken(s.cfg.WorkspaceKey, id)
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
	raw, ok := s.mirror.raw(token)
	if !ok {
		s.absent(w, r)
		return
	}
	sum := sha256.Sum256([]byte(raw))
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	w.Header().Set("ETag", tag)
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.send(r.Context(), w, http.StatusOK, "application/json", []byte(raw))
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
