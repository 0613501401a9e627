package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// requestIDShape is what is taken over from a caller. Everything else is replaced: a header is no way into the log.
const requestIDShape = `^[A-Za-z0-9._-]{1,64}$`

// request is what is known of a request beside the request itself.
type request struct {
	id        string
	route     string // the pattern, never the path: a path holds a raw user id
	userToken string
	key       string       // the name of the caller's key
	trace     schema.Trace // in which the events of this call are, where it brought any
	lasts     bool         // an event stream: it took as long as somebody listened
}

type requestKey struct{}

func requestOf(r *http.Request) *request {
	if known, ok := r.Context().Value(requestKey{}).(*request); ok {
		return known
	}
	return &request{}
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter

	status int
	bytes  int
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(body []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(body)
	w.bytes += n
	if err != nil {
		return n, fmt.Errorf("write answer: %w", err)
	}
	return n, nil
}

// WriteString implements io.StringWriter: a profile is a string, and is not copied to be sent.
func (w *recorder) WriteString(body string) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := io.WriteString(w.ResponseWriter, body)
	w.bytes += n
	if err != nil {
		return n, fmt.Errorf("write answer: %w", err)
	}
	return n, nil
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// guard is what every request passes before its route and after it.
func (s *Server) guard(next http.Handler) http.Handler {
	shape := regexp.MustCompile(requestIDShape)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		known := &request{id: r.Header.Get("X-Request-Id"), route: "none"}
		if !shape.MatchString(known.id) {
			known.id = rand.Text()
		}
		r = r.WithContext(tracing.Within(context.WithValue(r.Context(), requestKey{}, known), schema.TraceOf(r.Header)))
		recorded := &recorder{ResponseWriter: w}
		maps.Copy(w.Header(), safeHeaders)
		w.Header().Set("X-Request-Id", known.id)
		if len(r.TransferEncoding) > 0 {
			// A request may also have named a length, which counts for a gateway that has not understood it: what that takes for
			// the rest of the body would be a request of its own here.
			w.Header().Set("Connection", "close")
		}
		defer func() {
			s.survive(recorded, r, recover())
			took := time.Since(began)
			s.logAccess(r, known, recorded, took)
			if s.cfg.Answered != nil && !known.lasts {
				s.cfg.Answered(known.route, recorded.status, took)
			}
		}()
		switch {
		case !s.knowsHost(r.Host):
			s.refuse(recorded, r, http.StatusMisdirectedRequest, problemDetail{
				Code: schema.CodeInvalid, Field: "host", Message: "this server does not answer under that host name; see allowed hosts",
			})
		case !straight(r.URL.EscapedPath()):
			s.refuse(recorded, r, http.StatusNotFound, problemDetail{Code: schema.CodeNotFound, Message: "there is no such route"})
		default:
			next.ServeHTTP(recorded, r)
		}
	})
}

// safeHeaders are what a browser must know. A profile is for the one who asked and is asked for again each time. The lists are shared by all
// answers and full, so that whoever adds to one gets a copy.
//
//nolint:gochecknoglobals // never changed
var safeHeaders = map[string][]string{
	"Cache-Control":                {"private, no-cache"},
	"Content-Security-Policy":      {"default-src 'none'; frame-ancestors 'none'"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Referrer-Policy":              {"no-referrer"},
	"X-Content-Type-Options":       {"nosniff"},
	"X-Frame-Options":              {"DENY"},
}

// knowsHost keeps web pages from reading a loopback server through a name of their own that resolves to it. An address is no
// name, so it is let through.
func (s *Server) knowsHost(hostport string) bool {
	if s.cfg.Keys != nil {
		return true // such a page has no key
	}
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "localhost" {
		return true
	}
	return slices.ContainsFunc(s.cfg.AllowedHosts, func(allowed string) bool {
		return allowed == "*" || strings.EqualFold(allowed, host)
	})
}

// straight reports whether the path is what it seems: no empty segments, no `.` or `..`, and one slash at the end at most, which
// some SDKs write. An escaped dot is a character of an id and stays.
func straight(escaped string) bool {
	trimmed := strings.TrimSuffix(escaped, "/")
	return escaped == "/" || strings.HasPrefix(trimmed, "/") && trimmed != "/" && path.Clean(trimmed) == trimmed
}

// survive turns a panic into an answer: one broken request must not end the others.
func (s *Server) survive(w *recorder, r *http.Request, cause any) {
	if cause == nil {
		return
	}
	s.logger.ErrorContext(r.Context(), "request panicked", slog.String("request_id", requestOf(r).id),
		slog.Any("cause", cause), slog.String("stack", string(debug.Stack())))
	if w.status == 0 {
		s.refuse(w, r, http.StatusInternalServerError, problemDetail{Code: schema.CodeInternal, Message: "a defect of ours; quote the request id"})
	}
}

func (s *Server) logAccess(r *http.Request, known *request, w *recorder, took time.Duration) {
	level := slog.LevelInfo
	if known.route == routeLive || known.route == routeReady { // asked every few seconds, and not by people
		level = slog.LevelDebug
	}
	if !s.logger.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", schema.Clean(r.Method)), slog.String("route", known.route), slog.Int("status", w.status),
		slog.Int("bytes", w.bytes), slog.Duration("took", took), slog.String("request_id", known.id),
	}
	if known.userToken != "" {
		attrs = append(attrs, slog.String("user_token", known.userToken))
	}
	if known.key != "" {
		attrs = append(attrs, slog.String("key", known.key))
	}
	if in := cmp.Or(known.trace, tracing.Of(r.Context())); in != "" {
		attrs = append(attrs, tracing.Logged(in))
	}
	if retries, err := strconv.ParseUint(r.Header.Get("X-Retry-Count"), 10, 16); err == nil && retries > 0 {
		attrs = append(attrs, slog.Uint64("retry_count", retries))
	}
	s.logger.LogAttrs(r.Context(), level, "request answered", attrs...)
}
