package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Bounds of checks.
const (
	checkTimeout = 2 * time.Second // what a check may take that does not say otherwise
	keepFailed   = time.Second     // how long the answer of a failed check holds, at most: it is to be seen soon that it passes again
)

// Check asks one part that Onramp needs whether it works. Run must give up when its context ends; an error says what is
// wrong, for the operator.
type Check struct {
	Name string
	Run  func(context.Context) error
	// Timeout is what Run may take. Defaults to 2 s.
	Timeout time.Duration
	// Keep is how long a good answer holds, so that the part does not pay for whoever asks often; a bad one holds for a second at most.
	// Defaults to 0: asked each time.
	Keep time.Duration
}

type readiness struct {
	Status string        `json:"status"` // ready, not_ready or draining
	Failed []string      `json:"failed"` // names of the checks that failed
	Checks []checkResult `json:"checks,omitempty"`
}

type checkResult struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Millis int64  `json:"ms"`               // what asking took
	Age    int64  `json:"age_ms,omitempty"` // how long ago that was, where the answer was kept
	Error  string `json:"error,omitempty"`
}

// live answers as long as the process does; it asks nobody, so a server that is away does not get Onramp restarted.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	s.answer(r.Context(), w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"alive"})
}

// readiness answers 200 where every check passed and 503 otherwise, naming those that failed. ?verbose lists them all with
// what they said; ?exclude=NAME, as often as one likes, leaves one out. A name that no check has leaves out nothing.
func (s *Server) readiness(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		s.answer(r.Context(), w, http.StatusServiceUnavailable, readiness{Status: "draining", Failed: []string{}})
		return
	}
	query := r.URL.Query()
	results := s.runChecks(r.Context(), query["exclude"])
	body, status := readiness{Status: "ready", Failed: []string{}}, http.StatusOK
	for _, result := range results {
		if !result.OK {
			body.Failed = append(body.Failed, result.Name)
			body.Status, status = "not_ready", http.StatusServiceUnavailable
		}
	}
	if query.Has("verbose") {
		body.Checks = results
	}
	s.answer(r.Context(), w, status, body)
}

// runChecks runs all but those left out at once and waits for none longer than its timeout.
func (s *Server) runChecks(ctx context.Context, without []string) []checkResult {
	var asked []*keptCheck
	for _, check := range s.checks {
		if !slices.Contains(without, check.Name) {
			asked = append(asked, check)
		}
	}
	results := make([]checkResult, len(asked))
	var group sync.WaitGroup
	for i, check := range asked {
		group.Go(func() { results[i] = check.ask(ctx) })
	}
	group.Wait()
	return results
}

// keptCheck is a check that is asked by one at a time, for all who want to know.
type keptCheck struct {
	Check

	mu     sync.Mutex
	asking *asking // the last
}

// asking is one run of a check.
type asking struct {
	done   chan struct{} // closed when the rest is written
	result checkResult
	at     time.Time
}

func keptChecks(checks []Check) []*keptCheck {
	kept := make([]*keptCheck, len(checks))
	for i, check := range checks {
		check.Timeout = cmp.Or(check.Timeout, checkTimeout)
		kept[i] = &keptCheck{Check: check}
	}
	return kept
}

// ask returns an answer that holds. Who asks and goes away leaves the answer to the next.
func (k *keptCheck) ask(ctx context.Context) checkResult {
	k.mu.Lock()
	if k.asking == nil || k.asking.over(k.Keep) {
		k.asking = &asking{done: make(chan struct{})}
		go k.asking.run(context.WithoutCancel(ctx), &k.Check)
	}
	a := k.asking
	k.mu.Unlock()
	select {
	case <-a.done:
	case <-ctx.Done():
		return checkResult{Name: k.Name, Error: context.Cause(ctx).Error()}
	}
	result := a.result
	result.Age = time.Since(a.at).Milliseconds()
	return result
}

// over reports whether the answer is there and does not hold any more.
func (a *asking) over(keep time.Duration) bool {
	select {
	case <-a.done:
	default:
		return false
	}
	if !a.result.OK {
		keep = min(keep, keepFailed)
	}
	return time.Since(a.at) >= keep
}

// run gives up after the timeout even on a check that does not.
func (a *asking) run(ctx context.Context, check *Check) {
	defer close(a.done)
	ctx, cancel := context.WithTimeoutCause(ctx, check.Timeout, errors.New("no answer in "+check.Timeout.String()))
	defer cancel()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- check.Run(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	a.at = time.Now()
	a.result = checkResult{Name: check.Name, OK: err == nil, Millis: a.at.Sub(began).Milliseconds()}
	if err != nil {
		a.result.Error = err.Error()
	}
}

func (s *Server) mirrorReady(context.Context) error {
	if s.mirror.Ready() {
		return nil
	}
	return errors.New("the profiles are still being read in")
}
