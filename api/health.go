package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// checkTimeout is what one check of readiness may take.
const checkTimeout = 2 * time.Second

// Check asks one server that Onramp needs whether it answers. Run must give up when its context ends; an error says what is
// wrong, for the operator.
type Check struct {
	Name string
	Run  func(context.Context) error
}

type readiness struct {
	Status string        `json:"status"` // ready, not_ready or draining
	Failed []string      `json:"failed"` // names of the checks that failed
	Checks []checkResult `json:"checks,omitempty"`
}

type checkResult struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Millis int64  `json:"ms"`
	Error  string `json:"error,omitempty"`
}

// live answers as long as the process does; it asks nobody, so a server that is away does not get Onramp restarted.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	s.answer(r.Context(), w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"alive"})
}

// readiness answers 200 where every check passed and 503 otherwise, naming those that failed. ?verbose lists them all with
// what they said.
func (s *Server) readiness(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		s.answer(r.Context(), w, http.StatusServiceUnavailable, readiness{Status: "draining", Failed: []string{}})
		return
	}
	results := s.runChecks(r.Context())
	body, status := readiness{Status: "ready", Failed: []string{}}, http.StatusOK
	for _, result := range results {
		if !result.OK {
			body.Failed = append(body.Failed, result.Name)
			body.Status, status = "not_ready", http.StatusServiceUnavailable
		}
	}
	if r.URL.Query().Has("verbose") {
		body.Checks = results
	}
	s.answer(r.Context(), w, status, body)
}

// runChecks runs all at once and waits for none longer than checkTimeout.
func (s *Server) runChecks(ctx context.Context) []checkResult {
	results := make([]checkResult, len(s.checks))
	var group sync.WaitGroup
	for i, check := range s.checks {
		group.Go(func() {
			began := time.Now()
			err := bounded(ctx, check)
			results[i] = checkResult{Name: check.Name, OK: err == nil, Millis: time.Since(began).Milliseconds()}
			if err != nil {
				results[i].Error = err.Error()
			}
		})
	}
	group.Wait()
	return results
}

// bounded gives up after checkTimeout even on a check that does not.
func bounded(ctx context.Context, check Check) error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errors.New("no answer in "+checkTimeout.String()))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- check.Run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Server) mirrorReady(context.Context) error {
	if s.mirror.Ready() {
		return nil
	}
	return errors.New("the profiles are still being read in")
}
