package api

import "net/http"

// Guard lets a test send a handler of its own through what every request passes.
func (s *Server) Guard(next http.Handler) http.Handler { return s.guard(next) }
