package activities

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/internal/recent"
	"github.com/onramphq/onramp/schema"
)

// Bounds of asking a provider.
const (
	defaultEnrichTimeout = 5 * time.Second
	maxEnrichTimeout     = 20 * time.Second
	defaultEnrichAge     = 30 * 24 * time.Hour
	minEnrichAge         = time.Minute
	maxEnrichAge         = 366 * 24 * time.Hour
	maxProviderAnswer    = 256 << 10
	answersRemembered    = 10_000 // in each of two halves
	enrichSource         = "enrichment"
)

// ProviderConfig is somebody who knows more of users: a firm of firmographics, a CRM.
type ProviderConfig struct {
	// URL is asked by GET. `${user_id}`, `${user_token}` and `${traits.NAME}` in its path and query stand for the user's, escaped; a user
	// who has not all of them is not asked about. Required; https, as a webhook's.
	URL string
	// Headers of the request, such as Authorization. Defaults to none.
	Headers map[string]string
	// Timeout of one request. Defaults to 5 s.
	Timeout time.Duration
	// MaxAge is how old an answer may be before the same question is asked again. Defaults to 30 days.
	MaxAge time.Duration
	// Traits are the user's by what the answer calls them: the names of members, with dots between. Required.
	Traits map[string]string
	// AllowPrivate is as a webhook's.
	AllowPrivate bool
}

// Provider asks one of them. Safe for concurrent use.
type Provider struct {
	name   string
	cfg    ProviderConfig
	client *http.Client
}

var (
	providerTrait = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	placeholder   = regexp.MustCompile(`\$\{([^}]*)\}`)
)

// NewProvider checks the configuration and returns the provider. Errors: invalid, naming what is wrong.
func NewProvider(name string, cfg ProviderConfig) (*Provider, error) {
	refuse := func(format string, args ...any) (*Provider, error) {
		return nil, &schema.Error{Code: schema.CodeInvalid, Message: "provider " + name + ": " + fmt.Sprintf(format, args...)}
	}
	cfg.Timeout, cfg.MaxAge = cmp.Or(cfg.Timeout, defaultEnrichTimeout), cmp.Or(cfg.MaxAge, defaultEnrichAge)
	// Placeholders stand behind the host alone, so that nobody's trait names the host that is asked.
	host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(cfg.URL, "https://"), "http://"), "/")
	switch {
	case placeholder.MatchString(host) || strings.Contains(host, "?"):
		return refuse("placeholders may stand behind the first / of the URL alone")
	case cfg.Timeout < 0 || cfg.Timeout > maxEnrichTimeout:
		return refuse("timeout is %s; it must lie in 1ms to %s, or be left out", cfg.Timeout, maxEnrichTimeout)
	case cfg.MaxAge < minEnrichAge || cfg.MaxAge > maxEnrichAge:
		return refuse("max_age is %s; it must lie in %s to 8784h, or be left out", cfg.MaxAge, minEnrichAge)
	case len(cfg.Traits) == 0:
		return refuse("traits is empty; it says which trait is called what in the answer, such as industry: company.sector")
	}
	if err := checkURL(placeholder.ReplaceAllString(cfg.URL, "x"), cfg.AllowPrivate); err != nil {
		return refuse("%v", err)
	}
	for _, m := range placeholder.FindAllStringSubmatch(cfg.URL, -1) {
		trait, of := strings.CutPrefix(m[1], "traits.")
		if m[1] != "user_id" && m[1] != "user_token" && (!of || !providerTrait.MatchString(trait)) {
			return refuse("${%s} is none of ${user_id}, ${user_token} and ${traits.NAME}", schema.Clean(m[1]))
		}
	}
	for trait, path := range cfg.Traits {
		if !providerTrait.MatchString(trait) || path == "" {
			return refuse("traits: %s: %q is no trait and where it stands in the answer", schema.Clean(trait), schema.Clean(path))
		}
	}
	for header, value := range cfg.Headers {
		if strings.ContainsAny(header+value, "\r\n") || header == "" || strings.EqualFold(header, "Host") {
			return refuse("headers: %s cannot be one", schema.Clean(header))
		}
	}
	return &Provider{name: name, cfg: cfg, client: newEgress(cfg.AllowPrivate).client(cfg.Timeout, maxIdlePerHost)}, nil
}

// address is the question about a user; false where a placeholder has nothing to stand for.
func (p *Provider) address(request *schema.EnrichRequest) (string, bool) {
	complete := true
	address := placeholder.ReplaceAllStringFunc(p.cfg.URL, func(text string) string {
		var value string
		switch name := text[2 : len(text)-1]; name {
		case "user_id":
			value = request.UserID
		case "user_token":
			value = request.UserToken
		default:
			value = textOfTrait(request.Traits[strings.TrimPrefix(name, "traits.")])
		}
		complete = complete && value != ""
		return url.QueryEscape(value)
	})
	return address, complete
}

// textOfTrait is a trait as it stands in an address; empty where there is none, or one that is no text, number or truth.
func textOfTrait(raw json.RawMessage) string {
	var value any
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	if len(raw) == 0 || decoder.Decode(&value) != nil {
		return ""
	}
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	default:
		return ""
	}
}

// known is what a provider has said to a question, and when. No traits: it knows nothing.
type known struct {
	traits map[string]json.RawMessage
	at     time.Time
}

// ask asks. Errors: unavailable and rate_limited may go over, invalid stays.
func (p *Provider) ask(ctx context.Context, address string, now time.Time) (known, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return known{}, p.failed(schema.CodeInvalid, "its address cannot be asked")
	}
	request.Header.Set("Accept", "application/json")
	for name, value := range p.cfg.Headers {
		request.Header.Set(name, value)
	}
	response, err := p.client.Do(request)
	if err != nil {
		cause := err
		if e, ok := errors.AsType[*url.Error](err); ok {
			cause = e.Err // without the address, in which the user stands
		}
		return known{}, p.failed(schema.CodeUnavailable, schema.Clean(cause.Error()))
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written through it
	switch status := response.StatusCode; {
	case status == http.StatusNotFound || status == http.StatusNoContent:
		return known{at: now}, nil
	case status == http.StatusTooManyRequests:
		return known{}, p.failed(schema.CodeRateLimited, "it answered 429")
	case status >= 500 || status == http.StatusRequestTimeout:
		return known{}, p.failed(schema.CodeUnavailable, "it answered "+strconv.Itoa(status))
	case status/100 != 2:
		return known{}, p.failed(schema.CodeInvalid, "it answered "+strconv.Itoa(status))
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxProviderAnswer+1))
	if err != nil {
		return known{}, p.failed(schema.CodeUnavailable, "its answer broke off")
	}
	var answer map[string]json.RawMessage
	if len(raw) > maxProviderAnswer || json.Unmarshal(raw, &answer) != nil {
		return known{}, p.failed(schema.CodeInvalid, "its answer is no JSON object of at most 256 KiB")
	}
	found := known{traits: make(map[string]json.RawMessage, len(p.cfg.Traits)), at: now}
	for trait, path := range p.cfg.Traits {
		if value := member(answer, path); textOfTrait(value) != "" {
			found.traits[trait] = value
		}
	}
	return found, nil
}

func (p *Provider) failed(code schema.Code, message string) error {
	return &schema.Error{Code: code, Message: "provider " + p.name + ": " + message}
}

// member follows a path of names into an object; nil where it ends before.
func member(object map[string]json.RawMessage, path string) json.RawMessage {
	name, rest, deeper := strings.Cut(path, ".")
	value := object[name]
	if !deeper || len(value) == 0 {
		return value
	}
	var inner map[string]json.RawMessage
	if json.Unmarshal(value, &inner) != nil {
		return nil
	}
	return member(inner, rest)
}

// Enrichment asks providers about users. Its zero value has none. Safe for concurrent use.
//
// Answers are remembered by question in the memory of a worker, so that a company is asked about once for all of its people; and the event
// as which an answer comes has an id made of user, provider, question and span of MaxAge, so that a second worker's answer is the same event.
type Enrichment struct {
	js        jetstream.JetStream
	providers []*Provider
	now       func() time.Time
	logger    *slog.Logger
	answers   *recent.Map[string, known] // by provider and question
}

// NewEnrichment returns an Enrichment that publishes over js. now is the clock.
func NewEnrichment(js jetstream.JetStream, providers []*Provider, now func() time.Time, logger *slog.Logger) *Enrichment {
	return &Enrichment{js: js, providers: providers, now: now, logger: logger, answers: recent.New[string, known](answersRemembered)}
}

// Enrich asks every provider that can be asked about the user, and publishes what they know as events of the user's. What one of them
// fails to say holds up none of the others. Errors: unavailable and rate_limited where another try may help.
func (e *Enrichment) Enrich(ctx context.Context, request schema.EnrichRequest) (schema.EnrichResult, error) {
	var result schema.EnrichResult
	var again error
	for _, p := range e.providers {
		address, complete := p.address(&request)
		if !complete {
			continue
		}
		result.Asked++
		answer, err := e.answer(ctx, p, address)
		if err == nil && len(answer.traits) > 0 {
			result.Answered++
			err = e.publish(ctx, p, &request, address, answer)
		}
		switch {
		case err == nil:
		case schema.CodeOf(err) == schema.CodeInvalid: // it stays so: the operator has to look
			e.logger.ErrorContext(ctx, "user not enriched", slog.String("user_token", request.UserToken), slog.Any("error", err))
		default:
			again = errors.Join(again, err)
		}
	}
	if again != nil {
		return result, translate(&schema.Error{Code: schema.CodeUnavailable, Message: "enrich " + request.UserToken, Err: again}, 0)
	}
	return result, nil
}

// answer is what the provider says, or said not long ago.
func (e *Enrichment) answer(ctx context.Context, p *Provider, address string) (known, error) {
	key, now := p.name+" "+address, e.now()
	answer, there := e.answers.Get(key)
	if there && now.Sub(answer.at) < p.cfg.MaxAge {
		return answer, nil
	}
	answer, err := p.ask(ctx, address, now)
	if err != nil {
		return known{}, err
	}
	e.answers.Put(key, answer)
	return answer, nil
}

// publish makes the answer an event of the user's.
func (e *Enrichment) publish(ctx context.Context, p *Provider, request *schema.EnrichRequest, address string, answer known) error {
	span := answer.at.UnixNano() / int64(p.cfg.MaxAge)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d", request.UserToken, p.name, address, span))
	traits, err := json.Marshal(answer.traits)
	if err != nil {
		return p.failed(schema.CodeInvalid, "its answer cannot be written as traits")
	}
	properties, err := json.Marshal(map[string]any{
		"provider": p.name, "fetched_at": answer.at.UTC().Format(time.RFC3339), "max_age_seconds": int64(p.cfg.MaxAge.Seconds()),
		"traits": slices.Sorted(maps.Keys(answer.traits)),
	})
	if err != nil {
		return p.failed(schema.CodeInvalid, "its answer cannot be written as an event")
	}
	event := schema.Event{
		EventID: "enriched-" + hex.EncodeToString(sum[:20]), EventName: schema.EventEnriched, UserID: request.UserID, OccurredAt: answer.at.UTC(),
		Properties: properties, Traits: traits,
	}
	body, err := json.Marshal(event)
	if err == nil {
		_, err = schema.DecodeEvent(body)
	}
	if err != nil {
		return p.failed(schema.CodeInvalid, "its answer cannot be an event: "+schema.Clean(err.Error()))
	}
	message := nats.NewMsg(schema.EventSubject(enrichSource))
	message.Data = body
	message.Header.Set(jetstream.MsgIDHeader, event.EventID)
	if _, err := e.js.PublishMsg(ctx, message); err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "publish what provider " + p.name + " knows", Err: err}
	}
	return nil
}
