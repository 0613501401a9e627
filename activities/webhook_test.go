package activities_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of at least 24 bytes"))

// received is one request as the receiver saw it.
type received struct {
	header http.Header
	body   []byte
}

// receiver is a real HTTP server that answers as the test says and remembers what came.
func receiver(t *testing.T, answer http.HandlerFunc) (url string, requests func() []received) {
	t.Helper()
	var mu sync.Mutex
	var all []received
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		all = append(all, received{r.Header.Clone(), body})
		mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() []received {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func webhook(t *testing.T, url string) *activities.Webhook {
	t.Helper()
	w, err := activities.NewWebhook("crm", activities.WebhookConfig{URL: url, Secret: secret, AllowPrivate: true})
	require.NoError(t, err)
	return w
}

func TestDeliverActionOverWebhook(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	streams(t, js)
	var attempts atomic.Int64
	url, requests := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if attempts.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	start := time.Now().Truncate(time.Second)
	var ticks atomic.Int64
	later := func() time.Time { return start.Add(time.Duration(ticks.Add(1)) * time.Minute) } // each look at the clock is a minute on
	delivery := activities.NewDelivery(js, map[string]*activities.Webhook{"crm": webhook(t, url)}, later)
	env := environment(t, delivery)
	in := input("crm")
	_, err := env.ExecuteActivity(delivery.DeliverAction, in)
	failure(t, err, schema.CodeUnavailable, true, 0)
	require.Empty(t, messages(t, js, schema.OutcomesStream))
	_, err = env.ExecuteActivity(delivery.DeliverAction, in)
	require.NoError(t, err)

	got := requests()
	require.Len(t, got, 2)
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	for _, r := range got {
		require.NoError(t, verifier.Verify(r.body, r.header))
		require.Equal(t, "a1", r.header.Get("Webhook-Id"))
		require.Equal(t, "application/json", r.header.Get("Content-Type"))
	}
	require.Equal(t, string(got[0].body), string(got[1].body))
	require.NotEqual(t, got[0].header.Get("Webhook-Timestamp"), got[1].header.Get("Webhook-Timestamp"))
	require.NotEqual(t, got[0].header.Get("Webhook-Signature"), got[1].header.Get("Webhook-Signature"))
	forged := append([]byte{}, got[0].body...)
	forged[len(forged)-2] = ' '
	require.Error(t, verifier.Verify(forged, got[0].header))

	var body struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}
	require.NoError(t, json.Unmarshal(got[0].body, &body))
	require.Equal(t, "onramp.action.send_tutorial", body.Type)
	require.Equal(t, in.Request.DecidedAt, body.Timestamp.UnixMilli())
	want, err := json.Marshal(in.Request)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(body.Data))
	require.Len(t, messages(t, js, schema.OutcomesStream), 1)
	require.Empty(t, messages(t, js, schema.ActionsStream))
}

func TestAnswersOfAReceiver(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return clock.Add(d).Format(http.TimeFormat) }
	cases := []struct {
		name      string
		answer    http.HandlerFunc
		code      schema.Code // empty: delivered
		retryable bool
		after     time.Duration
	}{
		{"200", status(200), "", false, 0},
		{"202", status(202), "", false, 0},
		{"204", status(204), "", false, 0},
		{"301 is not followed", status(301, "Location", "/elsewhere"), schema.CodeInvalid, false, 0},
		{"307 is not followed", status(307, "Location", "/elsewhere"), schema.CodeInvalid, false, 0},
		{"400", status(400), schema.CodeInvalid, false, 0},
		{"401", status(401), schema.CodeInvalid, false, 0},
		{"408", status(408), schema.CodeUnavailable, true, 0},
		{"410", status(410), schema.CodeInvalid, false, 0},
		{"410 that breaks off", status(410, "Content-Length", "100"), schema.CodeInvalid, false, 0},
		{"429", status(429), schema.CodeRateLimited, true, 0},
		{"429 in seconds", status(429, "Retry-After", "120"), schema.CodeRateLimited, true, 2 * time.Minute},
		{"429 at a time", status(429, "Retry-After", in(90*time.Second)), schema.CodeRateLimited, true, 90 * time.Second},
		{"429 at a time that has passed", status(429, "Retry-After", in(-time.Hour)), schema.CodeRateLimited, true, 0},
		{"429 in a week is a day", status(429, "Retry-After", "604800"), schema.CodeRateLimited, true, activities.MaxRetryAfter},
		{"429 at a time in a week is a day", status(429, "Retry-After", in(168*time.Hour)), schema.CodeRateLimited, true, activities.MaxRetryAfter},
		{"429 in more seconds than fit", status(429, "Retry-After", "9223372036854775"), schema.CodeRateLimited, true, activities.MaxRetryAfter},
		{"429 in negative seconds", status(429, "Retry-After", "-5"), schema.CodeRateLimited, true, 0},
		{"429 in no time at all", status(429, "Retry-After", "soon"), schema.CodeRateLimited, true, 0},
		{"500", status(500), schema.CodeUnavailable, true, 0},
		{"503 in seconds", status(503, "Retry-After", "7"), schema.CodeUnavailable, true, 7 * time.Second},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, schema.CodeUnavailable, true, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			js := testenv.NewBroker(t).Connect(t)
			streams(t, js)
			url, requests := receiver(t, c.answer)
			delivery := activities.NewDelivery(js, map[string]*activities.Webhook{"crm": webhook(t, url)}, now)
			_, err := environment(t, delivery).ExecuteActivity(delivery.DeliverAction, input("crm"))
			require.Len(t, requests(), 1)
			if c.code == "" {
				require.NoError(t, err)
				require.Len(t, messages(t, js, schema.OutcomesStream), 1)
				return
			}
			failure(t, err, c.code, c.retryable, c.after)
			require.Empty(t, messages(t, js, schema.OutcomesStream))
		})
	}
}

func TestReceiverNeverAnswers(t *testing.T) {
	t.Parallel()
	url, _ := receiver(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	delivery := activities.NewDelivery(nil, map[string]*activities.Webhook{"crm": webhook(t, url)}, now)
	_, err := delivery.DeliverAction(ctx, input("crm"))
	failure(t, err, schema.CodeUnavailable, true, 0)
}

func TestEndlessAnswerIsCut(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]int{"taken": 200, "refused": 400} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var written atomic.Int64
			url, _ := receiver(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(code)
				for r.Context().Err() == nil {
					n, err := w.Write(make([]byte, 4096))
					if written.Add(int64(n)); err != nil {
						return
					}
				}
			})
			_, err := webhook(t, url).Post(t.Context(), "a1", "x", []byte(`{}`), clock)
			require.Equal(t, code != 200, err != nil)
			require.Greater(t, written.Load(), int64(activities.MaxAnswerBytes)-1)
		})
	}
}

func TestUnknownWebhook(t *testing.T) {
	t.Parallel()
	delivery := activities.NewDelivery(nil, map[string]*activities.Webhook{}, now)
	_, err := environment(t, delivery).ExecuteActivity(delivery.DeliverAction, input("nobody"))
	failed := failure(t, err, schema.CodeNotFound, false, 0)
	require.Contains(t, failed.Error(), "no webhook named nobody is configured")
}

func TestURLStaysSecret(t *testing.T) {
	t.Parallel() // the path of a receiver is often its password, and errors stand in histories
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	_, err := webhook(t, srv.URL+"/services/T0KEN?key=hidden").Post(t.Context(), "a1", "x", []byte(`{}`), clock)
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "T0KEN")
	require.NotContains(t, err.Error(), "hidden")
}

func TestNewWebhookRefuses(t *testing.T) {
	t.Parallel()
	short := "whsec_" + base64.StdEncoding.EncodeToString([]byte("23 bytes are too few..."))
	cases := []struct {
		name, want string
		cfg        activities.WebhookConfig
	}{
		{"nothing", "is not a URL", activities.WebhookConfig{Secret: secret}},
		{"not a URL", "is not a URL", activities.WebhookConfig{URL: "https://exa mple.org:x", Secret: secret}},
		{"a path alone", "is not a URL", activities.WebhookConfig{URL: "/hook", Secret: secret}},
		{"a port alone", "is not a URL", activities.WebhookConfig{URL: "https://:443/hook", Secret: secret}},
		{"http", "must begin with https://", activities.WebhookConfig{URL: "http://example.org", Secret: secret}},
		{"ftp", "must begin with https://", activities.WebhookConfig{URL: "ftp://example.org", Secret: secret, AllowPrivate: true}},
		{"user name", "must not hold a user name", activities.WebhookConfig{URL: "https://u:p@example.org", Secret: secret}},
		{"no secret", "base64 of at least 24 bytes", activities.WebhookConfig{URL: "https://example.org"}},
		{"short secret", "base64 of at least 24 bytes", activities.WebhookConfig{URL: "https://example.org", Secret: short}},
		{"concurrency", "it must lie in 1 to 1000", activities.WebhookConfig{URL: "https://example.org", Secret: secret, Concurrency: 5000}},
		{"cooldown", "it must lie in 1ms to 1h", activities.WebhookConfig{URL: "https://example.org", Secret: secret, Cooldown: 2 * time.Hour}},
		{"short former secret", "base64 of at least 24 bytes", activities.WebhookConfig{URL: "https://example.org", Secret: secret, FormerSecret: short}},
		{"101 localhost", "is not public", activities.WebhookConfig{URL: "https://LOCALHOST./x", Secret: secret}},
		{"101 a short address", "written out", activities.WebhookConfig{URL: "https://127.1/", Secret: secret}},
		{"101 a number", "written out", activities.WebhookConfig{URL: "https://2130706433/", Secret: secret}},
		{"101 hexadecimal", "written out", activities.WebhookConfig{URL: "https://0x7f000001/", Secret: secret}},
		{"101 octal", "written out", activities.WebhookConfig{URL: "https://0177.0.0.1/", Secret: secret}},
		{"101 digits in circles", "must be ASCII", activities.WebhookConfig{URL: "https://①②⑦.⓪.⓪.①/", Secret: secret}},
		{"105 a user in front", "must not hold a user name", activities.WebhookConfig{URL: "https://a@169.254.169.254/", Secret: secret}},
		{"105 an escaped slash", "must not hold a user name", activities.WebhookConfig{URL: "https://169.254.169.254%2f@x/", Secret: secret}},
		{"105 no scheme", "must begin with https://", activities.WebhookConfig{URL: "//127.0.0.1/", Secret: secret}},
		{"105 a line break", "is not a URL", activities.WebhookConfig{URL: "https://example.org/\r\nX: y", Secret: secret}},
		{"106 a port of mail", "443 or 8443", activities.WebhookConfig{URL: "https://example.org:25/", Secret: secret}},
		{"106 a port of NATS", "443 or 8443", activities.WebhookConfig{URL: "https://example.org:4222/", Secret: secret}},
		{"secret not base64", "base64 of at least 24 bytes", activities.WebhookConfig{URL: "https://example.org", Secret: "whsec_" + strings.Repeat("!", 40)}},
		{"secret without its prefix", "whsec_", activities.WebhookConfig{URL: "https://example.org", Secret: strings.TrimPrefix(secret, "whsec_")}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := activities.NewWebhook("crm", c.cfg)
			require.ErrorContains(t, err, "webhook crm: ")
			require.ErrorContains(t, err, c.want)
			require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
			if c.cfg.Secret != "" {
				require.NotContains(t, err.Error(), c.cfg.Secret)
			}
		})
	}
	t.Run("http is taken where private addresses are", func(t *testing.T) {
		t.Parallel()
		_, err := activities.NewWebhook("crm", activities.WebhookConfig{URL: "http://127.0.0.1:9", Secret: secret, AllowPrivate: true})
		require.NoError(t, err)
	})
}

// private are addresses through which a webhook could reach what is not public.
func private() []string {
	return []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
		"100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
		"240.0.0.1", "255.255.255.255", "192.88.99.1",
		"::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001::1", "2001:db8::1", "3fff::1", "5f00::1", "100::1",
		"fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
	}
}

// TestPrivateAddressesAreNotDialed: they are refused where they are written down, and where a name leads to them.
func TestPrivateAddressesAreNotDialed(t *testing.T) {
	t.Parallel()
	for _, address := range private() {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			host := address
			if strings.Contains(address, ":") {
				host = "[" + address + "]"
			}
			_, err := activities.NewWebhook("crm", activities.WebhookConfig{URL: "https://" + host + "/", Secret: secret})
			require.ErrorContains(t, err, "the host is not public")
			_, err = leading(t, address).Post(t.Context(), "a1", "x", []byte(`{}`), clock)
			require.ErrorContains(t, err, "the address is not public")
		})
	}
}

// leading is a webhook whose name leads to the addresses, one answer after the other.
func leading(t *testing.T, answers ...string) *activities.Webhook {
	t.Helper()
	w, err := activities.NewWebhook("crm", activities.WebhookConfig{URL: "https://receiver.example.com/", Secret: secret})
	require.NoError(t, err)
	var asked atomic.Int64
	w.Resolving(func(_ context.Context, name string) ([]netip.Addr, error) {
		assert.Equal(t, "receiver.example.com.", name, "whole: no search domain makes an inner name of it")
		n := int(asked.Add(1)) - 1
		var found []netip.Addr
		for text := range strings.SplitSeq(answers[min(n, len(answers)-1)], " ") {
			found = append(found, netip.MustParseAddr(text))
		}
		return found, nil
	})
	return w
}

// TestNamesThatLeadInside: what counts is the address that is dialed.
func TestNamesThatLeadInside(t *testing.T) {
	t.Parallel()
	t.Run("one of two", func(t *testing.T) {
		t.Parallel()
		_, err := leading(t, "127.0.0.1 10.0.0.1").Post(t.Context(), "a1", "x", []byte(`{}`), clock)
		require.ErrorContains(t, err, "dial 127.0.0.1:443: the address is not public")
		require.ErrorContains(t, err, "dial 10.0.0.1:443: the address is not public")
	})
	t.Run("a name that resolves anew", func(t *testing.T) {
		t.Parallel()
		w := leading(t, "::ffff:169.254.169.254", "169.254.169.254")
		for range 2 {
			_, err := w.Post(t.Context(), "a1", "x", []byte(`{}`), clock)
			require.ErrorContains(t, err, "the address is not public")
		}
	})
	t.Run("a resolver that does not answer", func(t *testing.T) {
		t.Parallel()
		w := leading(t, "127.0.0.1")
		w.Resolving(func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		began := time.Now()
		_, err := w.Post(t.Context(), "a1", "x", []byte(`{}`), clock)
		require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
		require.Less(t, time.Since(began), 10*time.Second, "2 s, and not the 20 s of the attempt")
	})
	t.Run("localhost", func(t *testing.T) {
		t.Parallel()
		url, requests := receiver(t, status(200))
		_, err := webhook(t, strings.Replace(url, "127.0.0.1", "localhost", 1)).Post(t.Context(), "a1", "x", []byte(`{}`), clock)
		require.NoError(t, err, "the operator's own resolver finds it where private addresses are allowed")
		require.Len(t, requests(), 1)
	})
}

// TestNoProxyFromTheEnvironment: a variable somewhere must not lead actions, and the way around the check, through a proxy.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	proxied, passed := receiver(t, status(200))
	t.Setenv("HTTP_PROXY", proxied)
	t.Setenv("HTTPS_PROXY", proxied)
	t.Setenv("NO_PROXY", "")
	_, err := leading(t, "127.0.0.1").Post(t.Context(), "a1", "x", []byte(`{}`), clock)
	require.ErrorContains(t, err, "the address is not public")
	require.Empty(t, passed())
}

// TestOldTLSIsRefused: a receiver that speaks TLS 1.1 alone is not spoken to.
func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(status(200))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	_, err := webhook(t, server.URL).Post(t.Context(), "a1", "x", []byte(`{}`), clock)
	require.ErrorContains(t, err, "protocol version")
}

// TestTwoSecrets: while the secret is changed, a receiver may check by either.
func TestTwoSecrets(t *testing.T) {
	t.Parallel()
	former := "whsec_" + base64.StdEncoding.EncodeToString([]byte("the secret that was used before"))
	url, requests := receiver(t, status(200))
	w, err := activities.NewWebhook("crm", activities.WebhookConfig{URL: url, Secret: secret, FormerSecret: former, AllowPrivate: true})
	require.NoError(t, err)
	_, err = w.Post(t.Context(), "a1", "x", []byte(`{}`), time.Now())
	require.NoError(t, err)
	got := requests()[0]
	require.Len(t, strings.Fields(got.header.Get("Webhook-Signature")), 2)
	for _, s := range []string{secret, former} {
		verifier, err := standardwebhooks.NewWebhook(s)
		require.NoError(t, err)
		require.NoError(t, verifier.Verify(got.body, got.header))
	}
	stranger, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret that nobody was given")))
	require.NoError(t, err)
	require.Error(t, stranger.Verify(got.body, got.header))
}

func TestCheckPublic(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"1.1.1.1:443", "93.184.216.34:443", "172.32.0.1:443", "100.128.0.1:443", "[2606:4700:4700::1111]:443", "[2a00:1450::1]:443",
		"[::ffff:1.1.1.1]:443",
	} {
		require.NoError(t, activities.CheckPublic(address), address)
	}
	for _, address := range []string{"[fe80::1%eth0]:443", "localhost:443", "", "1.1.1.1"} {
		require.Error(t, activities.CheckPublic(address), address)
	}
}

func TestPostWithoutDecisionTime(t *testing.T) {
	t.Parallel()
	url, requests := receiver(t, status(200))
	_, err := webhook(t, url).Post(t.Context(), "a1", "x", []byte(`{}`), clock)
	require.NoError(t, err)
	require.Contains(t, string(requests()[0].body), clock.Format(time.RFC3339))
	_, err = webhook(t, url).Post(t.Context(), "a1", "x", []byte(`no JSON`), clock)
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
}

// TestReceiverThatFailsIsLeftAlone: after five failures in a row nothing is sent until the cooldown is over; then one attempt finds out.
func TestReceiverThatFailsIsLeftAlone(t *testing.T) {
	t.Parallel()
	var healthy atomic.Bool
	url, requests := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	const cooldown = 50 * time.Millisecond
	w, err := activities.NewWebhook("crm", activities.WebhookConfig{URL: url, Secret: secret, AllowPrivate: true, Cooldown: cooldown})
	require.NoError(t, err)
	post := func() (time.Duration, error) { return w.Post(t.Context(), "a1", "greet", []byte(`{}`), time.Now()) }
	for range 5 {
		_, err := post()
		require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	}
	require.Len(t, requests(), 5)
	after, err := post()
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	require.ErrorContains(t, err, "left alone for 50ms")
	require.Equal(t, cooldown, after, "when Temporal should try again")
	require.Len(t, requests(), 5, "the sixth was not sent")
	healthy.Store(true)
	require.Eventually(t, func() bool {
		_, err := post()
		return err == nil
	}, 5*time.Second, 5*time.Millisecond)
	_, err = post()
	require.NoError(t, err)
}

// TestRefusalsLeaveTheReceiverOpen: a receiver that refuses, or asks for patience, is not away.
func TestRefusalsLeaveTheReceiverOpen(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusBadRequest, http.StatusTooManyRequests} {
		url, requests := receiver(t, status(code))
		w := webhook(t, url)
		for range 12 {
			_, err := w.Post(t.Context(), "a1", "greet", []byte(`{}`), time.Now())
			require.Error(t, err)
		}
		require.Len(t, requests(), 12)
	}
}

// TestGoneDisables: a receiver that says that it is gone for good is not asked again, and every later action is given up at once with a
// reason that says so.
func TestGoneDisables(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	streams(t, js)
	url, requests := receiver(t, status(http.StatusGone))
	delivery := activities.NewDelivery(js, map[string]*activities.Webhook{"crm": webhook(t, url)}, now)
	env := environment(t, delivery)
	for range 3 {
		_, err := env.ExecuteActivity(delivery.DeliverAction, input("crm"))
		failure(t, err, schema.CodeInvalid, false, 0)
		require.ErrorContains(t, err, "410")
	}
	require.Len(t, requests(), 1)
}

// TestReceiverGetsSoManyAtOnce: no more actions are on their way to a receiver than it was promised.
func TestReceiverGetsSoManyAtOnce(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	release := make(chan struct{})
	url, requests := receiver(t, func(http.ResponseWriter, *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		<-release
		now.Add(-1)
	})
	w, err := activities.NewWebhook("crm", activities.WebhookConfig{URL: url, Secret: secret, AllowPrivate: true, Concurrency: 3})
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 12 {
		group.Go(func() {
			_, err := w.Post(t.Context(), "a1", "greet", []byte(`{}`), time.Now())
			assert.NoError(t, err)
		})
	}
	require.Eventually(t, func() bool { return now.Load() == 3 }, 5*time.Second, time.Millisecond)
	close(release)
	group.Wait()
	require.Len(t, requests(), 12)
	require.Equal(t, int64(3), most.Load())
}
