package activities

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/onramphq/onramp/schema"
)

// Bounds of one attempt.
const (
	webhookTimeout = 20 * time.Second
	maxAnswerBytes = 64 << 10
	maxRetryAfter  = 24 * time.Hour
	maxIdlePerHost = 32
	minSecretBytes = 24
)

// What a receiver is spared.
const (
	defaultConcurrency = 16
	maxConcurrency     = 1000
	defaultCooldown    = 30 * time.Second
	failuresInARow     = 5
	slotPatience       = 5 * time.Second // what an attempt waits for others to end before Temporal keeps it
)

// Which receiver is known to be quick: one that took so many actions in a row, each within this time.
const (
	quickInARow = 3
	quickAnswer = 250 * time.Millisecond
)

// WebhookConfig is a receiver of actions.
type WebhookConfig struct {
	URL    string
	Secret string // `whsec_` and base64 of at least 24 bytes
	// FormerSecret signs too, so that a receiver may check by either while the secret is changed. Defaults to none.
	FormerSecret string
	// AllowPrivate lets the receiver live on a loopback or private address. Defaults to false: a webhook must not be a way
	// into the operator's own network.
	AllowPrivate bool
	// Concurrency is how many actions one worker has on their way to it at once. Defaults to 16.
	Concurrency int
	// Cooldown is how long it is left alone after five attempts in a row that it did not answer, or answered with 5xx; then one
	// attempt finds out. Defaults to 30 s.
	Cooldown time.Duration
}

// Webhook posts actions to one receiver after the Standard Webhooks specification: signed, the same id on every attempt,
// redirects never followed.
type Webhook struct {
	url     string
	signers []*standardwebhooks.Webhook // one, or two while the secret is changed
	egress  *egress
	client  *http.Client

	slots    chan struct{} // one for each action on its way
	breaker  *gobreaker.CircuitBreaker[time.Duration]
	cooldown time.Duration
	gone     atomic.Pointer[time.Time] // when it answered 410; nil: it never did
	inARow   atomic.Int64              // how many attempts in a row it has taken quickly
}

// NewWebhook checks the configuration and returns the receiver. Errors: invalid, naming what is wrong.
func NewWebhook(name string, cfg WebhookConfig) (*Webhook, error) {
	refuse := func(format string, args ...any) error {
		return &schema.Error{Code: schema.CodeInvalid, Message: "webhook " + name + ": " + fmt.Sprintf(format, args...)}
	}
	if err := checkURL(cfg.URL, cfg.AllowPrivate); err != nil {
		return nil, refuse("%v", err)
	}
	if cfg.Concurrency < 0 || cfg.Concurrency > maxConcurrency {
		return nil, refuse("concurrency is %d; it must lie in 1 to %d, or be left out", cfg.Concurrency, maxConcurrency)
	}
	if cfg.Cooldown < 0 || cfg.Cooldown > time.Hour {
		return nil, refuse("cooldown is %s; it must lie in 1ms to 1h, or be left out", cfg.Cooldown)
	}
	signers, err := signersOf(cfg)
	if err != nil {
		return nil, refuse("%v", err)
	}
	cooldown := cmp.Or(cfg.Cooldown, defaultCooldown)
	breaker := gobreaker.NewCircuitBreaker[time.Duration](gobreaker.Settings{
		Name: name, MaxRequests: 1, Timeout: cooldown,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failuresInARow },
		// Who refuses an action, or asks for patience, is there.
		IsSuccessful: func(err error) bool { return err == nil || schema.CodeOf(err) != schema.CodeUnavailable },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) }, // the worker stops
	})
	way := newEgress(cfg.AllowPrivate)
	return &Webhook{
		url: cfg.URL, signers: signers, egress: way, client: way.client(webhookTimeout, maxIdlePerHost),
		slots: make(chan struct{}, cmp.Or(cfg.Concurrency, defaultConcurrency)), breaker: breaker, cooldown: cooldown,
	}, nil
}

// signersOf returns what signs with the secret, and with the former one while receivers change over.
func signersOf(cfg WebhookConfig) ([]*standardwebhooks.Webhook, error) {
	var signers []*standardwebhooks.Webhook
	for _, secret := range []string{cfg.Secret, cfg.FormerSecret} {
		if secret == "" && len(signers) > 0 {
			break
		}
		encoded, prefixed := strings.CutPrefix(secret, "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || !prefixed || len(key) < minSecretBytes {
			return nil, errors.New("a secret must be whsec_ followed by base64 of at least 24 bytes")
		}
		signer, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, fmt.Errorf("use secret: %w", err)
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

// Post makes one attempt, or none where the receiver is busy with others, has not answered for a while, or has said that it is gone for
// good (410): that disables it until the process starts anew, as it does where the receivers are configured otherwise. id is the same on every
// attempt, now is the time of this one. It returns how long the receiver asked to be left alone, or is; 0 where nobody says.
func (w *Webhook) Post(ctx context.Context, id, action string, data []byte, now time.Time) (time.Duration, error) {
	held, err := w.hold(ctx, slotPatience)
	if err != nil {
		return 0, &schema.Error{Code: schema.CodeUnavailable, Message: "post webhook " + id, Err: err}
	}
	if !held {
		return 0, &schema.Error{Code: schema.CodeRateLimited, Message: fmt.Sprintf("webhook %s: %d others are on their way to the receiver", id, cap(w.slots))}
	}
	defer w.release()
	return w.postHeld(ctx, id, action, data, now)
}

// hold takes one of the places for actions on their way, for which it waits so long. held reports whether it has one, which is to be released
// then. Errors: that of ctx, where it ended first.
func (w *Webhook) hold(ctx context.Context, wait time.Duration) (held bool, err error) {
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case w.slots <- struct{}{}:
		return true, nil
	case <-patience.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err() //nolint:wrapcheck // the caller says of which action
	}
}

func (w *Webhook) release() { <-w.slots }

// holdQuick takes a place for an attempt that somebody waits for, and reports whether one is to be made: not where the receiver is not known to
// be quick, has no place free soon, is left alone or gone.
func (w *Webhook) holdQuick(ctx context.Context) bool {
	if !w.quick() {
		return false
	}
	if held, err := w.hold(ctx, trySlotPatience); err != nil || !held {
		return false
	}
	// Asked after the wait: those who were on their way may have found it out.
	if w.quick() && w.gone.Load() == nil && w.breaker.State() == gobreaker.StateClosed {
		return true
	}
	w.release()
	return false
}

// quick reports whether the receiver is known to be quick.
func (w *Webhook) quick() bool { return w.inARow.Load() >= quickInARow }

// slow lets the receiver be known to be quick no more, until it has shown it again.
func (w *Webhook) slow() { w.inARow.Store(0) }

// answered counts an attempt that took so long.
func (w *Webhook) answered(took time.Duration, err error) {
	switch {
	case err == nil && took <= quickAnswer:
		w.inARow.Add(1)
	case errors.Is(err, context.Canceled): // the worker stops, which says nothing of the receiver
	default:
		w.slow()
	}
}

// postHeld is Post by a caller who holds a place.
func (w *Webhook) postHeld(ctx context.Context, id, action string, data []byte, now time.Time) (time.Duration, error) {
	if gone := w.gone.Load(); gone != nil { // asked after the wait: one that was on its way may have found it out
		return 0, &schema.Error{Code: schema.CodeInvalid, Message: fmt.Sprintf(
			"webhook %s: the receiver is disabled, because it answered 410 at %s; start the worker anew once it is back", id, gone.UTC().Format(time.RFC3339))}
	}
	after, err := w.breaker.Execute(func() (time.Duration, error) {
		began := time.Now()
		after, err := w.attempt(ctx, id, action, data, now)
		w.answered(time.Since(began), err)
		return after, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return w.cooldown, &schema.Error{Code: schema.CodeUnavailable, Message: fmt.Sprintf("webhook %s: the receiver has not answered %d times in a row and is left alone for %s", id, failuresInARow, w.cooldown)}
	}
	return after, err
}

func (w *Webhook) attempt(ctx context.Context, id, action string, data []byte, now time.Time) (time.Duration, error) {
	body, err := json.Marshal(struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{"onramp.action." + action, decidedAt(data, now), data})
	if err != nil {
		return 0, &schema.Error{Code: schema.CodeInvalid, Message: "encode webhook " + id, Err: err}
	}
	signatures := make([]string, len(w.signers))
	for i, signer := range w.signers {
		if signatures[i], err = signer.Sign(id, now, body); err != nil {
			return 0, &schema.Error{Code: schema.CodeInvalid, Message: "sign webhook " + id, Err: err}
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return 0, &schema.Error{Code: schema.CodeInvalid, Message: "make webhook " + id, Err: err}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Webhook-Id", id)
	request.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	request.Header.Set("Webhook-Signature", strings.Join(signatures, " "))
	passTrace(ctx, request.Header.Set)
	response, err := w.client.Do(request)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL: its path is often a password, and the error stands in the user's history
		}
		return 0, &schema.Error{Code: schema.CodeUnavailable, Message: "post webhook " + id, Err: err}
	}
	defer response.Body.Close()                                        //nolint:errcheck // nothing was written through it
	io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswerBytes)) //nolint:errcheck // the status says it all: read so that the connection is used again
	if response.StatusCode == http.StatusGone {
		w.gone.CompareAndSwap(nil, &now)
	}
	return judge(id, response, now)
}

// decidedAt is the time in the body: that of the decision, so that every attempt has the same body.
func decidedAt(data []byte, now time.Time) time.Time {
	var request struct {
		DecidedAt int64 `json:"decided_at"`
	}
	if err := json.Unmarshal(data, &request); err != nil || request.DecidedAt == 0 {
		return now.UTC()
	}
	return time.UnixMilli(request.DecidedAt).UTC()
}

// judge reads the answer: 2xx is done, 408, 429 and 5xx may succeed later, everything else is a refusal.
func judge(id string, response *http.Response, now time.Time) (time.Duration, error) {
	status := response.StatusCode
	message := fmt.Sprintf("webhook %s: the receiver answered %d", id, status)
	switch {
	case status/100 == 2:
		return 0, nil
	case status == http.StatusTooManyRequests:
		return retryAfter(response, now), &schema.Error{Code: schema.CodeRateLimited, Message: message}
	case status >= 500 || status == http.StatusRequestTimeout:
		return retryAfter(response, now), &schema.Error{Code: schema.CodeUnavailable, Message: message}
	default:
		return 0, &schema.Error{Code: schema.CodeInvalid, Message: message}
	}
}

func retryAfter(response *http.Response, now time.Time) time.Duration {
	header := response.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(header); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetryAfter)
	}
	return 0
}
