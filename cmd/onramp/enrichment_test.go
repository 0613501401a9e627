package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// TestEnrichment: at first sight of a user a provider is asked; the journey does not wait for it, and what it knows is the user's trait.
func TestEnrichment(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	answered := make(chan struct{})
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 { // as if it were away for a moment
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		select {
		case <-answered:
		case <-r.Context().Done():
			return
		}
		fmt.Fprintf(w, `{"company":{"sector":"health","people":%d,"of":%q}}`, 1200, r.URL.Query().Get("user"))
	}))
	t.Cleanup(provider.Close)
	path := filepath.Join(t.TempDir(), "enrichment.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `
crm:
  url: %s/companies?user=${user_id}&role=${traits.role}
  headers: {Authorization: 'Bearer ${env.HOME}'}
  timeout: 20s
  allow_private: true
  traits: {industry: company.sector, company_size: company.people}
`, provider.URL), 0o600))
	book, err := os.ReadFile("../../examples/saas-onboarding/playbook.yaml")
	require.NoError(t, err)
	bookPath := filepath.Join(t.TempDir(), "playbook.yaml")
	require.NoError(t, os.WriteFile(bookPath, bytes.Replace(book, []byte("\nevents:\n"), []byte("\nevents:\n  enriched: {}\n"), 1), 0o600))
	p := startDev(t, t.TempDir(), "--enrichment", path, "--playbook", bookPath)
	js := p.js(t)
	publish(t, js, schema.Event{EventID: "s1", EventName: "signed_up", UserID: "ann@example.com", Traits: json.RawMessage(`{"role":"admin"}`)})
	publish(t, js, schema.Event{EventID: "s2", EventName: "profile_completed", UserID: "ann@example.com"})
	token := schema.UserToken([]byte(embeddedKey), "ann@example.com")
	state := func() journey.State {
		var state journey.State
		answer, err := p.temporal(t).QueryWorkflow(t.Context(), schema.WorkflowID(token), "", workflows.StateQueryName)
		if err == nil {
			err = answer.Get(&state)
		}
		if err != nil {
			return journey.State{}
		}
		return state
	}
	eventually(t, 20*time.Second, "the journey goes on", func() bool { return state().LastEvent == "s2" })
	require.NotContains(t, state().Facts.Traits, "industry", "nobody has answered yet")
	eventually(t, 40*time.Second, "the provider is asked again after it was away", func() bool { return asked.Load() >= 2 })
	close(answered)
	eventually(t, 20*time.Second, "what the provider knows is the user's", func() bool { return string(state().Facts.Traits["industry"].Value) == `"health"` })
	require.Equal(t, "1200", string(state().Facts.Traits["company_size"].Value))
	require.NoError(t, drain(t.Context(), js))
	p.innocent(t)
	require.Equal(t, int64(2), asked.Load(), "its own answer is no reason to ask again")
	require.Equal(t, uint64(1), count(t, p.store(t), `SELECT count() FROM events_unique WHERE event_name = 'enriched' AND JSONExtractString(properties, 'provider') = 'crm'`))

	broken := filepath.Join(t.TempDir(), "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("crm: {url: 'https://crm.example.com/', headers: {A: '${env.NO_SUCH_VARIABLE}'}, traits: {industry: x}}"), 0o600))
	_, err = readProviders(broken)
	require.ErrorContains(t, err, "provider crm: header A: the variable NO_SUCH_VARIABLE is not set")
}
