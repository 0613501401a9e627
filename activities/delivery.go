package activities

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.temporal.io/sdk/activity"

	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// Delivery hands actions to those who carry them out. Its zero value only names the activity; NewDelivery makes one that
// runs.
type Delivery struct {
	Meters Meters         // are told how it goes
	Tracer tracing.Tracer // makes a span of every attempt in the trace of the event that caused the action
	Logger *slog.Logger   // nil: none

	js       jetstream.JetStream
	webhooks map[string]*Webhook
	now      func() time.Time
	tries    tries
}

// NewDelivery returns a Delivery over js and the receivers by name. now is the wall clock.
func NewDelivery(js jetstream.JetStream, webhooks map[string]*Webhook, now func() time.Time) *Delivery {
	return &Delivery{js: js, webhooks: webhooks, now: now}
}

// DeliverAction delivers one action and records that it was delivered. Every attempt carries the same action id and the same
// body. Where TryAction has an attempt under way, or one that ended and nobody has asked for yet, that is this one. Errors: not_found for a
// receiver that is not configured, invalid where the receiver refuses for good, unavailable and rate_limited where a later attempt may succeed.
func (d *Delivery) DeliverAction(ctx context.Context, in schema.DeliverInput) (schema.DeliverResult, error) {
	joined, err := d.join(ctx, in.Request.ActionID)
	if !joined {
		err = d.attempt(ctx, in, (*Webhook).Post)
	}
	if err != nil {
		return schema.DeliverResult{}, err
	}
	return schema.DeliverResult{Attempts: activity.GetInfo(ctx).Attempt}, nil
}

// poster is a way of a Webhook to make an attempt.
type poster func(w *Webhook, ctx context.Context, id, action string, data []byte, now time.Time) (time.Duration, error)

// attempt makes one, with all that is told of it. Its errors are translated.
func (d *Delivery) attempt(ctx context.Context, in schema.DeliverInput, post poster) error {
	began := d.now()
	inside, span := d.span(ctx, &in)
	err := d.deliver(inside, &in, post)
	span.End(err)
	if d.Meters.Deliver != nil {
		d.Meters.Deliver(in.Webhook != "", d.now().Sub(began).Seconds())
	}
	if d.Meters.Action != nil {
		d.Meters.Action(in.Request.Action, resultOf(err))
	}
	if err != nil {
		if d.Logger != nil {
			d.Logger.InfoContext(ctx, "action not delivered", tracing.Logged(in.Delivered.Trace), slog.String("action_id", in.Request.ActionID),
				slog.String("user_token", in.Request.UserToken), slog.Any("error", err))
		}
		return err
	}
	d.Meters.recorded([]schema.Outcome{in.Delivered})
	return nil
}

// deliver delivers and records. Its errors are translated.
func (d *Delivery) deliver(ctx context.Context, in *schema.DeliverInput, post poster) error {
	body, err := json.Marshal(in.Request)
	if err != nil {
		return translate(&schema.Error{Code: schema.CodeInvalid, Message: "encode action " + in.Request.ActionID, Err: err}, 0)
	}
	if in.Webhook == "" {
		err = d.publish(ctx, in.Request, body)
	} else {
		var retryAfter time.Duration
		if retryAfter, err = d.post(ctx, in, body, post); err != nil {
			return translate(err, retryAfter)
		}
	}
	if err != nil {
		return translate(err, 0)
	}
	in.Delivered.RecordedAt = d.now().UnixMilli()
	return translate(publishOutcomes(ctx, d.js, []schema.Outcome{in.Delivered}), 0)
}

func (d *Delivery) publish(ctx context.Context, request schema.ActionRequest, body []byte) error {
	message := nats.NewMsg(schema.ActionSubject(request.Action))
	message.Data = body
	event := schema.ActionEvent(&request, body)
	event.WriteHeader(message.Header.Set)
	message.Header.Set(jetstream.MsgIDHeader, request.ActionID)
	passTrace(ctx, message.Header.Set)
	if _, err := d.js.PublishMsg(ctx, message); err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "publish action " + request.ActionID, Err: err}
	}
	return nil
}

func (d *Delivery) post(ctx context.Context, in *schema.DeliverInput, body []byte, post poster) (time.Duration, error) {
	webhook := d.webhooks[in.Webhook]
	if webhook == nil {
		return 0, &schema.Error{Code: schema.CodeNotFound, Message: "deliver action " + in.Request.ActionID + ": no webhook named " + in.Webhook + " is configured"}
	}
	return post(webhook, ctx, in.Request.ActionID, in.Request.Action, body, d.now())
}
