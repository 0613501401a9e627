package api

import (
	"net/http"
	"time"
)

// Guard lets a test send a handler of its own through what every request passes.
func (s *Server) Guard(next http.Handler) http.Handler { return s.guard(next) }

// SetStreamPatience shortens what a test would wait for.
func (s *Server) SetStreamPatience(patience time.Duration) { s.patience = patience }

// PageToken is a page token that ends whenever a test likes.
func PageToken(workspaceKey []byte, userToken string, expires time.Time) string {
	return newSigner(nil, workspaceKey).pageToken(userToken, expires)
}
