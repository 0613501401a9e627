package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

// TestVisitorBecomesUser follows a visitor through the identify call: the journey goes on as the user's, whoever is asked for.
func TestVisitorBecomesUser(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir())
	js := p.js(t)
	token := func(id string) string { return schema.UserToken([]byte(embeddedKey), id) }
	seen := func(id, name, user, anonymous string) {
		publish(t, js, schema.Event{EventID: id, EventName: name, UserID: user, AnonymousID: anonymous, Properties: json.RawMessage(`{"feature":"x"}`)})
	}
	publish(t, js, schema.Event{EventID: "i1", EventName: "signed_up", UserID: "visitor", Traits: json.RawMessage(`{"industry":"finance"}`)})
	seen("i2", "feature_viewed", "visitor", "")
	seen("i3", "identify", "ann@example.com", "visitor") // that no rule reads
	seen("i2", "feature_viewed", "visitor", "")          // published again, after the link
	seen("i4", "profile_completed", "visitor", "")       // a tab that does not know yet
	seen("i5", "feature_viewed", "ann@example.com", "visitor")
	seen("i6", "feature_viewed", "ben@example.com", "visitor") // another user of the same browser
	require.NoError(t, drain(t.Context(), js))

	profile := func(id string) schema.Profile {
		code, body := get(t, p.addrs["api"]+"/v1/users/"+id)
		require.Equal(t, 200, code, string(body))
		var profile schema.Profile
		require.NoError(t, json.Unmarshal(body, &profile))
		return profile
	}
	ann := profile("ann%40example.com")
	require.Equal(t, token("ann@example.com"), ann.UserToken)
	require.Equal(t, "onboarding/completion", ann.Stage, "the visitor's journey went on by what came for the visitor after the link")
	require.NotEmpty(t, ann.Variants, "and so did what the visitor was assigned")
	require.Equal(t, ann, profile("visitor"), "who asks for the visitor is told of the user")
	_, err := p.temporal(t).DescribeWorkflowExecution(t.Context(), schema.WorkflowID(token("ben@example.com")), "")
	require.NoError(t, err, "another user of the browser has a workflow of their own")

	description, err := p.temporal(t).DescribeWorkflowExecution(t.Context(), schema.WorkflowID(token("visitor")), "")
	require.NoError(t, err)
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, description.GetWorkflowExecutionInfo().GetStatus())
	var over schema.HandedOver
	require.NoError(t, p.temporal(t).GetWorkflow(t.Context(), schema.WorkflowID(token("visitor")), "").Get(t.Context(), &over))
	require.Equal(t, token("ann@example.com"), over.Into)

	told := onramp(t.Context(), "explain", "visitor", "--temporal-address", p.addrs["temporal"])
	require.Equal(t, exitDone, told.code, told.err)
	require.Contains(t, told.out, "onboarding/completion")
	require.Contains(t, told.err, token("ann@example.com"))
	require.Contains(t, told.out, fmt.Sprintf("Was `%s` until", token("visitor")))

	store := p.store(t)
	require.Equal(t, uint64(1), count(t, store, `SELECT uniqExact(enrollment_id) FROM outcomes_unique WHERE journey = 'onboarding' AND user_token IN (?, ?)`,
		token("visitor"), token("ann@example.com")), "one passage through the journey")
	eventually(t, 10*time.Second, "every event counted once", func() bool {
		return count(t, store, `SELECT count() FROM events_unique`) == 6
	})
	p.innocent(t)
}

// TestMergesSurviveKill kills the program again and again while visitors become known, and wants every user to be what follows from the
// log: nobody handed over twice, nothing lost between link and takeover.
func TestMergesSurviveKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(7, 11))
	p := startDev(t, dir)
	names := []string{"signed_up", "profile_completed", "feature_viewed", "feature_used", "teammate_invited", "onboarding_completed", "activated"}
	const rounds, each, people = 3, 220, 40
	last := 0
	for round := range rounds {
		js := p.js(t)
		for n := range each {
			who := random.IntN(people)
			e := schema.Event{EventID: fmt.Sprint("m", last), EventName: names[random.IntN(len(names))], UserID: fmt.Sprint("visitor-", who)}
			switch random.IntN(8) {
			case 0, 1:
				e.UserID, e.AnonymousID = fmt.Sprint("user-", who), e.UserID
			case 2:
				e.UserID, e.AnonymousID = fmt.Sprint("user-", who), fmt.Sprint("visitor-", random.IntN(people)) // a second device, or a shared one
			case 3:
				e.UserID = fmt.Sprint("user-", who)
			case 4:
				if other := random.IntN(people); other != who && random.IntN(3) == 0 {
					e.EventName, e.UserID, e.PreviousID = schema.AliasEvent, fmt.Sprint("user-", who), fmt.Sprint("user-", other)
				}
			}
			publish(t, js, e)
			if random.IntN(9) > 0 { // else the next is the same again
				last++
			}
			if n == each*2/3 && round < rounds-1 {
				break
			}
		}
		if round < rounds-1 {
			require.NoError(t, p.cmd.Process.Kill())
			_ = p.cmd.Wait() // killed: the error says so
			p = startDev(t, dir)
		}
	}
	require.NoError(t, drain(t.Context(), p.js(t)))
	store := p.store(t)
	links := 0
	require.NoError(t, ingest.ReadLinks(t.Context(), p.js(t), func(l identity.Link) {
		if l.Into != "" {
			links++
		}
	}))
	require.Greater(t, links, people/2)
	merged := `SELECT uniqExact(JSONExtractString(details, 'from')) FROM outcomes_unique WHERE kind = 'user_merged'`
	eventually(t, time.Minute, "every link has been followed", func() bool { return count(t, store, merged) == uint64(links) })
	require.NoError(t, drain(t.Context(), p.js(t)))
	verdict := p.innocent(t)
	require.Positive(t, verdict.Outcomes)
	require.Equal(t, uint64(links), count(t, store, `SELECT count() FROM outcomes_unique WHERE kind = 'user_merged'`), "each once")
	t.Logf("%d users, %d events, %d merges: no differences", verdict.Users, verdict.Events, links)
}
