package activities_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

func TestNewProviderRefuses(t *testing.T) {
	t.Parallel()
	traits := map[string]string{"industry": "sector"}
	for name, c := range map[string]struct {
		want string
		cfg  activities.ProviderConfig
	}{
		"nothing":             {"traits is empty", activities.ProviderConfig{}},
		"no URL":              {"is not a URL", activities.ProviderConfig{URL: "crm", Traits: traits}},
		"http":                {"must begin with https://", activities.ProviderConfig{URL: "http://crm.example.com/x", Traits: traits}},
		"private":             {"is not public", activities.ProviderConfig{URL: "https://10.0.0.1/x", Traits: traits}},
		"a trait as the host": {"behind the first /", activities.ProviderConfig{URL: "https://${traits.domain}/x", Traits: traits}},
		"unknown placeholder": {"is none of", activities.ProviderConfig{URL: "https://crm.example.com/${secret}", Traits: traits}},
		"a bad trait":         {"is no trait", activities.ProviderConfig{URL: "https://crm.example.com/", Traits: map[string]string{"In Dustry": "x"}}},
		"no place":            {"is no trait", activities.ProviderConfig{URL: "https://crm.example.com/", Traits: map[string]string{"industry": ""}}},
		"timeout":             {"timeout is 1m0s", activities.ProviderConfig{URL: "https://crm.example.com/", Traits: traits, Timeout: time.Minute}},
		"max age":             {"max_age is 1s", activities.ProviderConfig{URL: "https://crm.example.com/", Traits: traits, MaxAge: time.Second}},
		"header":              {"cannot be one", activities.ProviderConfig{URL: "https://crm.example.com/", Traits: traits, Headers: map[string]string{"A": "b\r\nC: d"}}},
		"host header":         {"cannot be one", activities.ProviderConfig{URL: "https://crm.example.com/", Traits: traits, Headers: map[string]string{"host": "x"}}},
	} {
		_, err := activities.NewProvider("crm", c.cfg)
		require.ErrorContains(t, err, "provider crm: ", name)
		require.ErrorContains(t, err, c.want, name)
		require.Equal(t, schema.CodeInvalid, schema.CodeOf(err), name)
	}
}

// desk is a provider over a real receiver, with a clock that the test moves.
type desk struct {
	enrichment *activities.Enrichment
	asked      func() []received
	events     func() []schema.Event
	clock      atomic.Int64
}

func open(t *testing.T, answer http.HandlerFunc, change ...func(*activities.ProviderConfig)) *desk {
	t.Helper()
	js := testenv.NewBroker(t).Connect(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schema.EventsStream, Subjects: []string{schema.EventsSubjects}})
	require.NoError(t, err)
	d := &desk{}
	d.clock.Store(time.Now().Add(-time.Hour).Unix())
	address, asked := receiver(t, answer)
	cfg := activities.ProviderConfig{
		URL: address + "/companies?domain=${traits.domain}", Headers: map[string]string{"Authorization": "Bearer s"}, AllowPrivate: true, MaxAge: time.Hour,
		Traits: map[string]string{"industry": "company.sector", "company_size": "company.people", "not_there": "company.none.at.all", "odd": "company.list"},
	}
	for _, f := range change {
		f(&cfg)
	}
	provider, err := activities.NewProvider("crm", cfg)
	require.NoError(t, err)
	d.asked = asked
	d.enrichment = activities.NewEnrichment(js, []*activities.Provider{provider}, func() time.Time { return time.Unix(d.clock.Load(), 0) }, slog.New(slog.DiscardHandler))
	d.events = func() []schema.Event {
		var all []schema.Event
		for _, m := range messages(t, js, schema.EventsStream) {
			event, err := schema.DecodeEvent(m.Data)
			require.NoError(t, err)
			all = append(all, *event)
		}
		return all
	}
	return d
}

func about(user, domain string) schema.EnrichRequest {
	r := schema.EnrichRequest{UserID: user, UserToken: schema.UserToken([]byte("a key of 16 bytes"), user), Traits: map[string]json.RawMessage{}}
	if domain != "" {
		r.Traits["domain"] = json.RawMessage(strconv.Quote(domain))
	}
	return r
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

const company = `{"company":{"sector":"health & co","people":1200,"list":[1]}}`

// TestEnrich: what a provider knows of a user becomes an event of the user's, whose traits are what was asked for.
func TestEnrich(t *testing.T) {
	t.Parallel()
	d := open(t, say(200, company))
	env := environment(t, d.enrichment)
	ask := func(r schema.EnrichRequest) schema.EnrichResult {
		value, err := env.ExecuteActivity(d.enrichment.Enrich, r)
		require.NoError(t, err)
		var result schema.EnrichResult
		require.NoError(t, value.Get(&result))
		return result
	}
	require.Equal(t, schema.EnrichResult{}, ask(about("nobody@example.com", "")), "there is nothing to ask by")
	require.Equal(t, schema.EnrichResult{Asked: 1, Answered: 1}, ask(about("ann@example.com", "a b&c=d/ü")))
	require.Equal(t, schema.EnrichResult{Asked: 1, Answered: 1}, ask(about("ann@example.com", "a b&c=d/ü")), "asked again: the same event")
	require.Equal(t, schema.EnrichResult{Asked: 1, Answered: 1}, ask(about("ben@example.com", "a b&c=d/ü")))
	require.Len(t, d.asked(), 1, "a company is asked about once for all of its people")
	require.Equal(t, "Bearer s", d.asked()[0].header.Get("Authorization"))

	events := d.events()
	require.Len(t, events, 2)
	require.Equal(t, []string{"ann@example.com", "ben@example.com"}, []string{events[0].UserID, events[1].UserID})
	require.NotEqual(t, events[0].EventID, events[1].EventID)
	require.Equal(t, schema.EventEnriched, events[0].EventName)
	require.JSONEq(t, `{"industry":"health & co","company_size":1200}`, string(events[0].Traits), "no trait of what is not there, or is a list")
	require.Equal(t, d.clock.Load(), events[0].OccurredAt.Unix())
	require.Contains(t, string(events[0].Properties), `"provider":"crm"`)
	require.Contains(t, string(events[0].Properties), `"fetched_at":"`+time.Unix(d.clock.Load(), 0).UTC().Format(time.RFC3339))

	d.clock.Add(3601)
	ask(about("ann@example.com", "a b&c=d/ü"))
	require.Len(t, d.asked(), 2, "the answer is too old")
	require.Len(t, d.events(), 3, "and what is known now is another event")
}

// TestEnrichFailures: what may go over is tried again, what stays is for the operator, and nobody's address is told.
func TestEnrichFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		retryable bool
	}{
		"it is down": {say(503, ""), true},
		"too much":   {say(429, ""), true},
		"it hangs":   {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, true},
		"it refuses": {say(403, ""), false},
		"it moved": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, false},
		"it answers with a page": {say(200, "<html>"), false},
		"it answers with a list": {say(200, "[]"), false},
		"it says too much":       {say(200, `{"x":"`+strings.Repeat("x", 300<<10)+`"}`), false},
		"it knows nothing":       {say(404, ""), false},
		"nothing of use":         {say(200, `{"company":"x"}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, c.answer, func(cfg *activities.ProviderConfig) { cfg.Timeout = 300 * time.Millisecond })
			_, err := environment(t, d.enrichment).ExecuteActivity(d.enrichment.Enrich, about("ann@example.com", "secret.example.org"))
			if c.retryable {
				require.ErrorContains(t, err, "provider crm: ")
				require.NotContains(t, err.Error(), "secret.example.org")
				require.NotContains(t, err.Error(), "ann@example.com")
			} else {
				require.NoError(t, err)
			}
			require.Empty(t, d.events())
		})
	}
}
