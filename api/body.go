package api

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/onramphq/onramp/schema"
)

// Limits of tracking calls, after Segment: an event, a batch, the events of a batch.
const (
	maxCallBytes  = 32 << 10
	maxBatchBytes = 500 << 10
	maxBatchItems = 2500
)

// wireSlack is what a compressed body may be larger than what it holds.
const wireSlack = 1 << 10

// bodyError is a body that could not be read, and how to answer.
type bodyError struct {
	status int
	detail problemDetail
}

func (e *bodyError) Error() string { return e.detail.Message }

func badBody(status int, code schema.Code, format string, args ...any) error {
	return &bodyError{status, problemDetail{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// readBody reads a body, inflates it where the headers say so, and stops where more than limit has come out: a kilobyte can
// hold gigabytes. It does not ask for the content type, because the SDKs send the same JSON under three.
func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	var from io.Reader = http.MaxBytesReader(w, r.Body, int64(limit)+wireSlack)
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		inflated, err := gzip.NewReader(from)
		if err != nil {
			return nil, unreadable(err, limit)
		}
		defer inflated.Close() //nolint:errcheck // it was read to its end, or is given up
		from = inflated
	default:
		return nil, badBody(http.StatusUnsupportedMediaType, "bad_encoding", "the content encoding must be gzip or none")
	}
	// Room for what is said to come, as far as that is little: who says much and sends nothing costs nothing.
	read := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), 4<<10)+bytes.MinRead))
	_, err := read.ReadFrom(io.LimitReader(from, int64(limit)+1))
	body := read.Bytes()
	switch {
	case err != nil:
		return nil, unreadable(err, limit)
	case len(body) > limit:
		return nil, tooLarge(limit)
	case len(body) == 0:
		return nil, badBody(http.StatusBadRequest, "empty_body", "there is no body; a JSON object is wanted")
	}
	return body, nil
}

func tooLarge(limit int) error {
	return badBody(http.StatusRequestEntityTooLarge, schema.Code(schema.ReasonTooLarge), "the body has more than %d bytes, inflated", limit)
}

func unreadable(err error, limit int) error {
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return tooLarge(limit)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return badBody(http.StatusRequestTimeout, "timeout", "the body did not arrive in time")
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return badBody(http.StatusBadRequest, "bad_encoding", "the body is cut short, or not what its content encoding says")
	default:
		return badBody(http.StatusBadRequest, "bad_encoding", "the body cannot be read")
	}
}

// refuseBody answers with what readBody said.
func (s *Server) refuseBody(w http.ResponseWriter, r *http.Request, err error) {
	if bad, ok := errors.AsType[*bodyError](err); ok {
		if bad.status == http.StatusRequestTimeout {
			w.Header().Set("Connection", "close")
		}
		s.refuse(w, r, bad.status, bad.detail)
		return
	}
	if rejection, ok := errors.AsType[*schema.Rejection](err); ok {
		s.refuse(w, r, statusOf(rejection.Reason), problemDetail{Code: schema.Code(rejection.Reason), Field: rejection.Field, Message: rejection.Message})
		return
	}
	s.refuse(w, r, http.StatusBadRequest, problemDetail{Code: schema.CodeInvalid, Message: "the body cannot be read"})
}

// statusOf tells what cannot be read from what can and is wrong. None of them is worth another try, which is what an SDK takes
// from a 4xx.
func statusOf(reason schema.Reason) int {
	switch reason {
	case schema.ReasonTooLarge:
		return http.StatusRequestEntityTooLarge
	case schema.ReasonMalformedJSON, schema.ReasonTrailingData, schema.ReasonNotAnObject, schema.ReasonInvalidUTF8, schema.ReasonDuplicateKey,
		schema.ReasonTooDeep, reasonEmptyBatch, reasonIdempotencyKey:
		return http.StatusBadRequest
	case reasonConflict:
		return http.StatusConflict
	default:
		return http.StatusUnprocessableEntity
	}
}
