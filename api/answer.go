package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/onramphq/onramp/schema"
)

// problem is the body of every answer that is an error.
type problem struct {
	Error problemDetail `json:"error"`
}

type problemDetail struct {
	Code      schema.Code `json:"code"`
	Message   string      `json:"message"`
	Field     string      `json:"field,omitempty"` // the part of the request at fault; empty where the whole is
	Index     *int        `json:"index,omitempty"` // the item of a batch at fault
	RequestID string      `json:"request_id"`
}

// refuse answers with an error. message is for a person and never repeats what the request held.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, detail problemDetail) {
	detail.RequestID = requestOf(r).id
	s.answer(r.Context(), w, status, problem{detail})
}

func (s *Server) answer(ctx context.Context, w http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		s.logger.ErrorContext(ctx, "answer not encoded", slog.Any("error", err))
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	s.send(ctx, w, status, "application/json", append(raw, '\n'))
}

func (s *Server) send(ctx context.Context, w http.ResponseWriter, status int, contentType string, body []byte) {
	s.begin(w, status, contentType, len(body))
	if _, err := w.Write(body); err != nil {
		s.logger.DebugContext(ctx, "answer not sent", slog.Any("error", err))
	}
}

// sendText sends JSON that is there in pieces, without putting them together.
func (s *Server) sendText(ctx context.Context, w http.ResponseWriter, pieces ...string) {
	length := 0
	for _, piece := range pieces {
		length += len(piece)
	}
	s.begin(w, http.StatusOK, "application/json", length)
	for _, piece := range pieces {
		if _, err := io.WriteString(w, piece); err != nil {
			s.logger.DebugContext(ctx, "answer not sent", slog.Any("error", err))
			return
		}
	}
}

// begin says what follows. Without its length more than 2 KB would go out in chunks, which costs half the rate.
func (*Server) begin(w http.ResponseWriter, status int, contentType string, length int) {
	header := w.Header()
	header["Content-Type"] = []string{contentType}
	header["Content-Length"] = []string{strconv.Itoa(length)}
	w.WriteHeader(status)
}
