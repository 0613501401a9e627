package api

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/onramphq/onramp/schema"
)

// experimentKeyShape is that of keys in a playbook.
const experimentKeyShape = `^[a-z][a-z0-9_]{0,62}$`

// resultsTimeout bounds the reading of one experiment: ClickHouse counts its rows anew.
const resultsTimeout = time.Minute

// Experiments reads the results of experiments. Safe for concurrent use. Errors carry the codes of package schema: not_found
// where neither the playbook nor any exposure knows the key, unavailable where ClickHouse is away.
type Experiments interface {
	// List says where every experiment stands, as JSON.
	List(ctx context.Context) ([]byte, error)
	// Results returns the analysis of one experiment as JSON.
	Results(ctx context.Context, key string) ([]byte, error)
	// Page returns the same as an HTML page, and the Content-Security-Policy it works under.
	Page(ctx context.Context, key string) (page []byte, policy string, err error)
}

func (s *Server) listExperiments(w http.ResponseWriter, r *http.Request) {
	s.reading(w, r, func(ctx context.Context) {
		body, err := s.cfg.Experiments.List(ctx)
		if err != nil {
			s.refuseResults(w, r, err)
			return
		}
		s.send(ctx, w, http.StatusOK, "application/json", body)
	})
}

func (s *Server) experimentResults(w http.ResponseWriter, r *http.Request) {
	s.reading(w, r, func(ctx context.Context) {
		key, ok := s.experimentKey(w, r)
		if !ok {
			return
		}
		body, err := s.cfg.Experiments.Results(ctx, key)
		if err != nil {
			s.refuseResults(w, r, err)
			return
		}
		s.send(ctx, w, http.StatusOK, "application/json", body)
	})
}

func (s *Server) experimentPage(w http.ResponseWriter, r *http.Request) {
	s.reading(w, r, func(ctx context.Context) {
		key, ok := s.experimentKey(w, r)
		if !ok {
			return
		}
		body, policy, err := s.cfg.Experiments.Page(ctx, key)
		if err != nil {
			s.refuseResults(w, r, err)
			return
		}
		w.Header().Set("Content-Security-Policy", policy+"; frame-ancestors 'none'")
		s.send(ctx, w, http.StatusOK, "text/html; charset=utf-8", body)
	})
}

// reading gives an answer the time that counting takes, in place of what the other routes get.
func (s *Server) reading(w http.ResponseWriter, r *http.Request, answer func(context.Context)) {
	ctx, cancel := context.WithTimeout(r.Context(), resultsTimeout)
	defer cancel()
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(resultsTimeout + writeTimeout)); err != nil {
		s.logger.DebugContext(ctx, "write deadline not moved", slog.Any("error", err))
	}
	answer(ctx)
}

func (s *Server) experimentKey(w http.ResponseWriter, r *http.Request) (key string, ok bool) {
	key = r.PathValue("key")
	if regexp.MustCompile(experimentKeyShape).MatchString(key) {
		return key, true
	}
	s.refuse(w, r, http.StatusBadRequest, problemDetail{
		Code: schema.CodeInvalid, Field: "key", Message: "a key of an experiment is a lower-case letter and at most 62 lower-case letters, digits and underscores",
	})
	return "", false
}

// refuseResults tells what a caller can act on, and logs what only the operator can.
func (s *Server) refuseResults(w http.ResponseWriter, r *http.Request, err error) {
	switch schema.CodeOf(err) {
	case schema.CodeNotFound:
		s.refuse(w, r, http.StatusNotFound, problemDetail{Code: schema.CodeNotFound, Field: "key", Message: "no playbook and no exposure knows this experiment"})
	case schema.CodeUnavailable:
		s.logger.WarnContext(r.Context(), "results not read", slog.String("request_id", requestOf(r).id), slog.Any("error", err))
		w.Header().Set("Retry-After", "5")
		s.refuse(w, r, http.StatusServiceUnavailable, problemDetail{Code: schema.CodeUnavailable, Message: "ClickHouse does not answer; ask again"})
	default:
		s.logger.ErrorContext(r.Context(), "results not read", slog.String("request_id", requestOf(r).id), slog.Any("error", err))
		s.refuse(w, r, http.StatusInternalServerError, problemDetail{Code: schema.CodeInternal, Message: "the results cannot be read; quote the request id"})
	}
}
