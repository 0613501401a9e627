package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/onramphq/onramp/schema"
)

// awaitPatience is how long a caller who waits for the profile is kept.
const awaitPatience = 3 * time.Second

// pendingEvent is what a caller is told whose event is stored and not taken yet.
const pendingEvent = "accepted, not yet applied"

// waits reports whether the caller of a tracking call wants the profile that includes it.
func waits(r *http.Request) bool { return r.URL.RawQuery != "" && r.URL.Query().Has("wait") }

// mayWait refuses who must not see a profile, or asks for something else: a key that sends events for anybody would read anybody.
func (s *Server) mayWait(w http.ResponseWriter, r *http.Request, key *apiKey) bool {
	switch {
	case !waits(r):
	case r.URL.Query().Get("wait") != "profile":
		s.refuse(w, r, http.StatusBadRequest, problemDetail{Code: schema.CodeInvalid, Field: "wait", Message: "wait is profile, or left out"})
		return false
	case s.cfg.Applied == nil:
		s.refuse(w, r, http.StatusBadRequest, problemDetail{Code: schema.CodeInvalid, Field: "wait", Message: "this process is not connected to Temporal and cannot wait; leave wait out"})
		return false
	case !key.may(RoleRead):
		s.refuse(w, r, http.StatusForbidden, problemDetail{Code: codeForbidden, Field: "wait", Message: "the answer is a profile, which a write key must not read; use an admin key"})
		return false
	}
	return true
}

// await adds the profile in which the event is, and returns the status of the answer: 202 where that takes too long. The event is stored
// either way.
func (s *Server) await(r *http.Request, event *schema.Received, answer *singleAnswer) int {
	token := s.tokens.Of(event.UserID)
	requestOf(r).userToken = token
	ctx, cancel := context.WithTimeout(r.Context(), awaitPatience)
	defer cancel()
	profile, err := s.cfg.Applied(ctx, token, event)
	if err != nil {
		s.logger.InfoContext(r.Context(), "event not applied yet", slog.String("request_id", requestOf(r).id), slog.String("user_token", token), slog.Any("error", err))
		answer.Pending = pendingEvent
		return http.StatusAccepted
	}
	answer.Profile = &profile
	return http.StatusOK
}
