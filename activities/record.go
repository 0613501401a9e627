package activities

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// Record publishes what was decided. Its zero value only names the activity; NewRecord makes one that runs.
type Record struct {
	Meters Meters         // are told how it goes
	Tracer tracing.Tracer // makes a span of every decision in the traces of the events that led to it
	Logger *slog.Logger   // nil: none

	js       jetstream.JetStream
	profiles *profiles
	now      func() time.Time
}

// Meters measure what workflows have done. They are called from several goroutines and must not block; nil ones are not called.
// They count what this process did: after a lost answer the same outcome is recorded, and counted, again.
type Meters struct {
	Commit  func(seconds float64)               // what recording one decision took
	Outcome func(kind schema.OutcomeKind)       // one that was recorded
	Latency func(seconds float64)               // from the receipt of an event to the record of an outcome it caused
	Action  func(action, result string)         // one attempt: one of the Result words
	Deliver func(webhook bool, seconds float64) // what one attempt took
}

// What became of one attempt to deliver an action.
const (
	ResultDelivered = "delivered"
	ResultRetried   = "retried" // it failed, and is tried again
	ResultRefused   = "refused" // it failed for good
)

// recorded tells of outcomes that are on record.
func (m *Meters) recorded(outcomes []schema.Outcome) {
	for i := range outcomes {
		o := &outcomes[i]
		if m.Outcome != nil {
			m.Outcome(o.Kind)
		}
		if m.Latency != nil && o.CauseReceivedAt > 0 {
			m.Latency(max(0, float64(o.RecordedAt-o.CauseReceivedAt)/1000))
		}
	}
}

// NewRecord returns a Record over js. now is the wall clock.
func NewRecord(js jetstream.JetStream, now func() time.Time) *Record {
	return &Record{js: js, profiles: newProfiles(js), now: now}
}

// CommitDecision publishes outcomes, then the profile, and returns when the streams have them. Publishing again after a
// crash writes the same outcome ids and the same profile. Where another worker has gone on with the user, its newer profile stays.
// Errors: unavailable, where a stream does not answer or is full.
func (r *Record) CommitDecision(ctx context.Context, in schema.CommitInput) (schema.CommitResult, error) {
	span := r.span(ctx, &in)
	result, err := r.commit(ctx, in)
	span.End(err)
	r.tell(ctx, &in, err)
	return result, err
}

func (r *Record) commit(ctx context.Context, in schema.CommitInput) (schema.CommitResult, error) {
	began := r.now()
	recordedAt := began.UnixMilli()
	for i := range in.Outcomes {
		in.Outcomes[i].RecordedAt = recordedAt
	}
	if err := publishOutcomes(ctx, r.js, in.Outcomes); err != nil {
		return schema.CommitResult{}, translate(err, 0)
	}
	if err := r.profiles.publish(ctx, &in.Profile, len(in.Outcomes)); err != nil {
		return schema.CommitResult{}, translate(err, 0)
	}
	for _, token := range in.Merged {
		if err := r.profiles.point(ctx, token, in.Profile.UserToken); err != nil {
			return schema.CommitResult{}, translate(err, 0)
		}
	}
	r.Meters.recorded(in.Outcomes)
	if r.Meters.Commit != nil {
		r.Meters.Commit(r.now().Sub(began).Seconds())
	}
	return schema.CommitResult{Outcomes: len(in.Outcomes)}, nil
}

// publishOutcomes sends all, then waits for all: one round trip instead of one each. They come into the stream in their order, so it ends
// where the connection does: what is said while there is none would be sent by the next one, and what was said just before is lost.
func publishOutcomes(ctx context.Context, js jetstream.JetStream, outcomes []schema.Outcome) error {
	pending := make([]jetstream.PubAckFuture, 0, len(outcomes))
	connections := js.Conn().Stats().Reconnects
	for i := range outcomes {
		o := &outcomes[i]
		if !js.Conn().IsConnected() || js.Conn().Stats().Reconnects != connections {
			return &schema.Error{Code: schema.CodeUnavailable, Message: "publish outcome " + o.OutcomeID, Err: nats.ErrDisconnected}
		}
		body, err := json.Marshal(o)
		if err != nil {
			return &schema.Error{Code: schema.CodeInvalid, Message: "encode outcome " + o.OutcomeID, Err: err}
		}
		message := nats.NewMsg(schema.OutcomeSubject(o.Kind))
		message.Data = body
		message.Header.Set(jetstream.MsgIDHeader, o.OutcomeID)
		future, err := js.PublishMsgAsync(message, jetstream.WithRetryAttempts(0)) // by itself it would come after those behind it
		if err != nil {
			return &schema.Error{Code: schema.CodeUnavailable, Message: "publish outcome " + o.OutcomeID, Err: err}
		}
		pending = append(pending, future)
	}
	for i := range outcomes {
		select {
		case <-pending[i].Ok():
		case err := <-pending[i].Err():
			return &schema.Error{Code: schema.CodeUnavailable, Message: "publish outcome " + outcomes[i].OutcomeID, Err: err}
		case <-ctx.Done():
			return &schema.Error{Code: schema.CodeUnavailable, Message: "publish outcome " + outcomes[i].OutcomeID + ": no answer", Err: ctx.Err()}
		}
	}
	return nil
}
