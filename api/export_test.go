package api

import (
	"net/http"
	"time"

	"github.com/onramphq/onramp/schema"
)

// Guard lets a test send a handler of its own through what every request passes.
func (s *Server) Guard(next http.Handler) http.Handler { return s.guard(next) }

// SetStreamPatience shortens what a test would wait for.
func (s *Server) SetStreamPatience(patience time.Duration) { s.patience = patience }

// PageToken is a page token that ends whenever a test likes.
func PageToken(workspaceKey []byte, userToken string, expires time.Time) string {
	return newSigner(nil, workspaceKey).pageToken(userToken, expires)
}

// Narrow leaves room for fewer exposures than a test would have to fill.
func (e *Exposures) Narrow(n int) { e.queue = make(chan schema.Outcome, n) }

// Routes are the methods of every route, by its pattern, after Handler was called.
func (s *Server) Routes() map[string]string { return s.routes }

// StreamToken opens the event stream of a user where there are no keys.
func StreamToken(workspaceKey []byte, userToken string, expires time.Time) string {
	return newSigner(nil, workspaceKey).ticket(ticket{userToken: userToken, keyID: freeKey.id, expires: expires})
}
