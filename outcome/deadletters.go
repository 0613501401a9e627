package outcome

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

// maxPayload is how much of a refused message is kept.
const maxPayload = 64 << 10

// deadLetterRow is a row of dead_letters.
type deadLetterRow struct {
	stream                   string
	sequence, letterSequence uint64
	subject, reason, message string
	attempts                 uint32
	received, recorded       int64
	payload, payloadSHA256   string
}

// decodeDeadLetter reads a dead letter. It refuses nothing: a letter whose headers are missing or broken is filed under its
// own place, so that whatever stands in the stream can be found in the table.
func decodeDeadLetter(d delivery) (deadLetterRow, error) {
	h := d.msg.Headers()
	row := deadLetterRow{
		stream:         h.Get(schema.HeaderStream),
		letterSequence: d.sequence,
		subject:        h.Get(schema.HeaderSubject),
		reason:         cmp.Or(h.Get(schema.HeaderReason), d.msg.Subject()[strings.LastIndexByte(d.msg.Subject(), '.')+1:]),
		message:        h.Get(schema.HeaderMessage),
		received:       d.received.UnixMilli(),
		recorded:       d.received.UnixMilli(),
		payload:        cut(d.msg.Data()),
		payloadSHA256:  cmp.Or(h.Get(schema.HeaderSHA256), sum(d.msg.Data())),
	}
	sequence, err := strconv.ParseUint(h.Get(schema.HeaderSequence), 10, 64)
	if err == nil && row.stream != "" {
		row.sequence = sequence
	} else {
		row.stream, row.sequence = schema.DeadLettersStream, d.sequence
	}
	if attempts, err := strconv.ParseUint(h.Get(schema.HeaderAttempts), 10, 32); err == nil {
		row.attempts = uint32(attempts)
	}
	if at, err := time.Parse(time.RFC3339Nano, h.Get(schema.HeaderReceived)); err == nil && at.UnixMilli() >= 0 && at.UnixMilli() <= latestMilli {
		row.received = at.UnixMilli()
	}
	return row, nil
}

func (s *Store) insertDeadLetters(ctx context.Context, token string, rows []deadLetterRow) error {
	return s.insert(ctx, "dead_letters", token, []column{
		{"stream", pick(rows, func(r deadLetterRow) string { return r.stream })},
		{"sequence", pick(rows, func(r deadLetterRow) uint64 { return r.sequence })},
		{"subject", pick(rows, func(r deadLetterRow) string { return r.subject })},
		{"reason", pick(rows, func(r deadLetterRow) string { return r.reason })},
		{"message", pick(rows, func(r deadLetterRow) string { return r.message })},
		{"attempts", pick(rows, func(r deadLetterRow) uint32 { return r.attempts })},
		{"received_at", pick(rows, func(r deadLetterRow) int64 { return r.received })},
		{"recorded_at", pick(rows, func(r deadLetterRow) int64 { return r.recorded })},
		{"payload", pick(rows, func(r deadLetterRow) string { return r.payload })},
		{"sha256", pick(rows, func(r deadLetterRow) string { return r.payloadSHA256 })},
		{"dead_letter_sequence", pick(rows, func(r deadLetterRow) uint64 { return r.letterSequence })},
	})
}

// deadLetter writes d off. Its message id makes a second copy, after a crash before the ack, disappear while the stream
// remembers; afterwards the key of the table does.
func deadLetter(stream string, d delivery, cause string) *nats.Msg {
	letter := nats.NewMsg(schema.DeadLetterSubject(schema.ReasonUndeliverable))
	letter.Data = []byte(cut(d.msg.Data()))
	letter.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s:%d:%d", stream, d.received.UnixNano(), d.sequence))
	letter.Header.Set(schema.HeaderReason, string(schema.ReasonUndeliverable))
	letter.Header.Set(schema.HeaderMessage, cause)
	letter.Header.Set(schema.HeaderStream, stream)
	letter.Header.Set(schema.HeaderSequence, strconv.FormatUint(d.sequence, 10))
	letter.Header.Set(schema.HeaderSubject, d.msg.Subject())
	letter.Header.Set(schema.HeaderAttempts, strconv.FormatUint(d.attempt, 10))
	letter.Header.Set(schema.HeaderReceived, d.received.UTC().Format(time.RFC3339Nano))
	letter.Header.Set(schema.HeaderSHA256, sum(d.msg.Data()))
	return letter
}

func cut(payload []byte) string { return string(payload[:min(len(payload), maxPayload)]) }

func sum(payload []byte) string {
	hash := sha256.Sum256(payload)
	return hex.EncodeToString(hash[:])
}
