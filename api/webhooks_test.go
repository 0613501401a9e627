package api_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/schema"
)

// recorded is one request of ours as a receiver saw it, in the words of the npm package.
type recorded struct {
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Path    string            `json:"-"`
}

// hooked delivers one action, attempt by attempt, to a receiver that answers each with the next status, and returns what it saw.
func hooked(t *testing.T, secret string, statuses ...int) []recorded {
	t.Helper()
	d := openDoor(t)
	_, err := d.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schema.OutcomesStream, Subjects: []string{schema.OutcomesSubjects}})
	require.NoError(t, err)
	var mu sync.Mutex
	var all []recorded
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		headers := make(map[string]string)
		for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
			headers[name] = r.Header.Get(name)
		}
		all = append(all, recorded{headers, string(body), r.URL.Path})
		status := statuses[min(len(all), len(statuses))-1]
		if status/100 == 3 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	webhook, err := activities.NewWebhook("crm", activities.WebhookConfig{URL: server.URL + "/hook", Secret: secret, AllowPrivate: true})
	require.NoError(t, err)
	began, attempt := time.Now(), 0
	delivery := activities.NewDelivery(d.js, map[string]*activities.Webhook{"crm": webhook}, func() time.Time {
		return began.Add(time.Duration(attempt) * time.Second) // as if Temporal had waited
	})
	env := (&testsuite.WorkflowTestSuite{}).NewTestActivityEnvironment()
	env.RegisterActivity(delivery)
	for attempt = range len(statuses) + 1 {
		_, err = env.ExecuteActivity(delivery.DeliverAction, schema.DeliverInput{
			Webhook: "crm", Delivered: schema.Outcome{OutcomeID: "o1", Kind: schema.ActionDelivered},
			Request: schema.ActionRequest{ActionID: "a123", Action: "send_email", UserID: "Jürgen", DecidedAt: began.UnixMilli()},
		})
		if err == nil {
			break
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return all
}

// TestC1Webhooks: the npm package takes a webhook of ours on every attempt, whose id stays and whose signature does not; 410 is the last that
// a receiver hears, and no redirect is followed.
func TestC1Webhooks(t *testing.T) {
	t.Parallel()
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of at least 24 bytes"))
	got := hooked(t, secret, 500, 500, 200)
	require.Len(t, got, 3)
	raw, err := json.Marshal(got)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "requests.json")
	require.NoError(t, os.WriteFile(file, raw, 0o600))
	var verdicts []struct {
		Read struct {
			Type string `json:"type"`
			Data struct {
				ActionID string `json:"action_id"`
				UserID   string `json:"user_id"`
			} `json:"data"`
		} `json:"read"`
		Changed string `json:"changed"`
		OtherID string `json:"otherId"`
	}
	node(t, &verdicts, "webhooks.mjs", secret, file)
	require.Len(t, verdicts, 3)
	seen := make(map[string]bool)
	for i, v := range verdicts {
		require.Equal(t, "onramp.action.send_email", v.Read.Type)
		require.Equal(t, "a123", v.Read.Data.ActionID)
		require.Equal(t, "Jürgen", v.Read.Data.UserID)
		require.Equal(t, "No matching signature found", v.Changed)
		require.Equal(t, "No matching signature found", v.OtherID)
		require.Equal(t, "a123", got[i].Headers["webhook-id"])
		seen[got[i].Headers["webhook-timestamp"]], seen[got[i].Headers["webhook-signature"]] = true, true
	}
	require.Len(t, seen, 6, "each attempt has a time and a signature of its own")

	require.Len(t, hooked(t, secret, http.StatusGone, http.StatusOK), 1, "410 disables")
	redirected := hooked(t, secret, http.StatusTemporaryRedirect)
	for _, r := range redirected {
		require.Equal(t, "/hook", r.Path, "not followed")
	}
}
