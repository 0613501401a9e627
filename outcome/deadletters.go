package outcome

import (
	"context"
	"fmt"
	"math"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

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
	letter := schema.ReadDeadLetter(d.msg.Subject(), d.msg.Headers(), d.msg.Data())
	row := deadLetterRow{
		stream:         letter.Stream,
		sequence:       letter.Sequence,
		letterSequence: d.sequence,
		subject:        letter.Subject,
		reason:         string(letter.Reason),
		message:        letter.Message,
		attempts:       uint32(min(letter.Attempts, math.MaxUint32)),
		received:       d.received.UnixMilli(),
		recorded:       d.received.UnixMilli(),
		payload:        string(letter.Payload[:min(len(letter.Payload), schema.MaxDeadLetterBytes)]),
		payloadSHA256:  letter.SHA256,
	}
	if row.stream == "" || row.sequence == 0 {
		row.stream, row.sequence = schema.DeadLettersStream, d.sequence
	}
	if at := letter.ReceivedAt.UnixMilli(); at >= 0 && at <= latestMilli {
		row.received = at
	}
	return row, nil
}

func (s *Store) insertDeadLetters(ctx context.Context, token string, rows []*deadLetterRow) error {
	return s.insert(ctx, "dead_letters", token, []column{
		{"stream", pick(rows, func(r *deadLetterRow) string { return r.stream })},
		{"sequence", pick(rows, func(r *deadLetterRow) uint64 { return r.sequence })},
		{"subject", pick(rows, func(r *deadLetterRow) string { return r.subject })},
		{"reason", pick(rows, func(r *deadLetterRow) string { return r.reason })},
		{"message", pick(rows, func(r *deadLetterRow) string { return r.message })},
		{"attempts", pick(rows, func(r *deadLetterRow) uint32 { return r.attempts })},
		{"received_at", pick(rows, func(r *deadLetterRow) int64 { return r.received })},
		{"recorded_at", pick(rows, func(r *deadLetterRow) int64 { return r.recorded })},
		{"payload", pick(rows, func(r *deadLetterRow) string { return r.payload })},
		{"sha256", pick(rows, func(r *deadLetterRow) string { return r.payloadSHA256 })},
		{"dead_letter_sequence", pick(rows, func(r *deadLetterRow) uint64 { return r.letterSequence })},
	})
}

// deadLetter writes d off. Its message id makes a second copy, after a crash before the ack, disappear while the stream
// remembers; afterwards the key of the table does.
func deadLetter(stream, consumer string, d delivery, cause string) *nats.Msg {
	dead := schema.DeadLetter{
		Stream: stream, Sequence: d.sequence, Consumer: consumer, Subject: d.msg.Subject(),
		Reason: schema.ReasonUndeliverable, Message: cause, Attempts: d.attempt, ReceivedAt: d.received,
	}
	dead.Fill(d.msg.Data(), d.msg.Headers())
	letter := nats.NewMsg(schema.DeadLetterSubject(dead.Reason))
	letter.Data = dead.Payload
	dead.WriteHeader(letter.Header.Set)
	letter.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s:%d:%d", stream, d.received.UnixNano(), d.sequence))
	return letter
}
