package activities

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

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

// WebhookConfig is a receiver of actions.
type WebhookConfig struct {
	URL    string
	Secret string // `whsec_` and base64 of at least 24 bytes
	// AllowPrivate lets the receiver live on a loopback or private address. Defaults to false: a webhook must not be a way
	// into the operator's own network.
	AllowPrivate bool
}

// Webhook posts actions to one receiver after the Standard Webhooks specification: signed, the same id on every attempt,
// redirects never followed.
type Webhook struct {
	url    string
	signer *standardwebhooks.Webhook
	client *http.Client
}

// NewWebhook checks the configuration and returns the receiver. Errors: invalid, naming what is wrong.
func NewWebhook(name string, cfg WebhookConfig) (*Webhook, error) {
	refuse := func(format string, args ...any) error {
		return &schema.Error{Code: schema.CodeInvalid, Message: "webhook " + name + ": " + fmt.Sprintf(format, args...)}
	}
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil || u.Hostname() == "":
		return nil, refuse("%q is not a URL", schema.Clean(cfg.URL))
	case u.User != nil:
		return nil, refuse("the URL must not hold a user name")
	case u.Scheme != "https" && (u.Scheme != "http" || !cfg.AllowPrivate):
		return nil, refuse("the URL must begin with https://")
	}
	encoded, prefixed := strings.CutPrefix(cfg.Secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !prefixed || len(key) < minSecretBytes {
		return nil, refuse("the secret must be whsec_ followed by base64 of at least 24 bytes")
	}
	signer, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		return nil, refuse("%v", err)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if !cfg.AllowPrivate {
		// The check is on the address that is dialed, so a name that resolves anew cannot get around it.
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return checkPublic(address) }
	}
	return &Webhook{url: cfg.URL, signer: signer, client: &http.Client{
		Timeout:       webhookTimeout,
		Transport:     &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: maxIdlePerHost, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Post makes one attempt. id is the same on every attempt, now is the time of this one. It returns how long the receiver
// asked to be left alone, 0 where it did not say.
func (w *Webhook) Post(ctx context.Context, id, action string, data []byte, now time.Time) (time.Duration, error) {
	body, err := json.Marshal(struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{"onramp.action." + action, decidedAt(data, now), data})
	if err != nil {
		return 0, &schema.Error{Code: schema.CodeInvalid, Message: "encode webhook " + id, Err: err}
	}
	signature, err := w.signer.Sign(id, now, body)
	if err != nil {
		return 0, &schema.Error{Code: schema.CodeInvalid, Message: "sign webhook " + id, Err: err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return 0, &schema.Error{Code: schema.CodeInvalid, Message: "make webhook " + id, Err: err}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Webhook-Id", id)
	request.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	request.Header.Set("Webhook-Signature", signature)
	response, err := w.client.Do(request)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL: its path is often a password, and the error stands in the user's history
		}
		return 0, &schema.Error{Code: schema.CodeUnavailable, Message: "post webhook " + id, Err: err}
	}
	defer response.Body.Close()                                        //nolint:errcheck // nothing was written through it
	io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswerBytes)) //nolint:errcheck // the status says it all: read so that the connection is used again
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

// privateRanges are the addresses that are nobody's on the public network. netip's own predicates miss eight of them.
func privateRanges() []netip.Prefix {
	texts := []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4",
		"::/8", // unspecified, loopback, every form in which an IPv4 address is embedded
		"100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	}
	ranges := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		ranges[i] = netip.MustParsePrefix(text)
	}
	return ranges
}

func checkPublic(address string) error {
	port, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", schema.Clean(address), err)
	}
	ip := port.Addr().Unmap().WithZone("")
	for _, r := range privateRanges() {
		if r.Contains(ip) {
			return fmt.Errorf("dial %s: the address is not public", address)
		}
	}
	return nil
}
