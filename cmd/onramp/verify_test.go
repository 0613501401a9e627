package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/verify"
	"github.com/onramphq/onramp/schema"
)

// verifyArgs are the arguments of a verification of p.
func (p *process) verifyArgs(more ...string) []string {
	return append([]string{
		"verify", "--nats-url", p.addrs["nats"], "--temporal-address", p.addrs["temporal"], "--clickhouse-addr", p.addrs["clickhouse"],
	}, more...)
}

// verify judges p, and holds the exit code against what was found.
func (p *process) verify(t *testing.T, more ...string) verified {
	t.Helper()
	got := onramp(t.Context(), p.verifyArgs(append(more, "--json")...)...)
	var result verified
	require.NoError(t, json.Unmarshal([]byte(got.out), &result), got.err)
	require.Equal(t, result.Differences > 0, got.code == exitFailed, got.err)
	return result
}

// innocent judges p and wants no difference.
func (p *process) innocent(t *testing.T) verified {
	t.Helper()
	result := p.verify(t)
	require.Empty(t, result.Found)
	require.Empty(t, result.Unjudged)
	require.Zero(t, result.Differences)
	return result
}

// TestVerify does a population no harm, then a lot of harm, and wants all of it named.
func TestVerify(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir())
	js, store := p.js(t), p.store(t)
	names := []string{"signed_up", "profile_completed", "feature_viewed", "page_seen", "teammate_invited"}
	const users = 30
	user := func(n int) string { return fmt.Sprintf("user-%d@example.com", n) }
	token := func(n int) string { return schema.UserToken([]byte(embeddedKey), user(n)) }
	sequences := map[string]uint64{}
	for n := range 5 * users {
		e := schema.Event{EventID: fmt.Sprint("v-", n), EventName: names[n/users], UserID: user(n % users), Properties: json.RawMessage(`{"feature":"x"}`)}
		sequences[e.EventID] = publish(t, js, e).Sequence
	}
	publish(t, js, schema.Event{EventID: "v-0", EventName: "signed_up", UserID: user(0)}) // again
	refused := publishRaw(t, js, []byte(`{"no":"event"}`)).Sequence
	require.NoError(t, drain(t.Context(), js))

	healthy := p.innocent(t)
	require.Equal(t, users, healthy.Users)
	require.Equal(t, 5*users+1, healthy.Events)
	require.Positive(t, healthy.Outcomes)
	require.Equal(t, 1, healthy.Refused)
	one := p.verify(t, "--user", user(3))
	require.Equal(t, 1, one.Users)
	require.Equal(t, 5, one.Events)
	require.Zero(t, one.Differences)

	exec := func(sql string, args ...any) {
		require.NoError(t, store.Conn().Exec(t.Context(), sql, args...))
	}
	stream := func(name string) jetstream.Stream {
		s, err := js.Stream(t.Context(), name)
		require.NoError(t, err)
		return s
	}
	exec("SYSTEM STOP MERGES outcomes")
	exec("INSERT INTO outcomes SELECT * FROM outcomes WHERE user_token = ? LIMIT 1 SETTINGS insert_deduplicate = 0", token(9))
	require.Positive(t, p.innocent(t).StoredTwice.Outcomes, "a copy that is counted once is no difference")
	exec("SYSTEM START MERGES outcomes")

	profileOf := func(n int) schema.Profile {
		message, err := stream(schema.ProfilesStream).GetLastMsgForSubject(t.Context(), schema.ProfileSubject(token(n)))
		require.NoError(t, err)
		var profile schema.Profile
		require.NoError(t, json.Unmarshal(message.Data, &profile))
		return profile
	}
	show := func(n int, profile schema.Profile) error {
		body, err := json.Marshal(profile)
		if err == nil {
			_, err = js.Publish(t.Context(), schema.ProfileSubject(token(n)), body)
		}
		return err
	}
	current := profileOf(10)
	behind := current
	behind.Sequence--
	require.NoError(t, show(10, behind))
	caughtUp := make(chan error, 1)
	go func() {
		<-time.After(2 * time.Second) // as long as NATS is slow
		caughtUp <- show(10, current)
	}()
	p.innocent(t) // what is being recorded at this moment is waited for
	require.NoError(t, <-caughtUp)

	want := map[string]bool{} // user, field, what
	harm := func(n int, field, what string, do func()) {
		do()
		who := ""
		if n >= 0 {
			who = token(n)
		}
		want[who+" "+field+" "+what] = true
	}
	remove := " SETTINGS mutations_sync = 2"
	harm(1, "archive", "missing", func() { exec("ALTER TABLE events DELETE WHERE event_id = 'v-1'" + remove) })
	harm(2, "archive", "missing", func() { exec("ALTER TABLE events DELETE WHERE event_id = 'v-92'" + remove) }) // that nobody reads
	harm(3, "archive", "differs", func() {
		exec(`ALTER TABLE events UPDATE properties = '{"feature":"y"}' WHERE event_id = 'v-33'` + remove)
	})
	harm(4, "archive", "unexpected", func() {
		exec("INSERT INTO events (event_id, event_name, user_token, sequence) VALUES ('ghost', 'signed_up', ?, 1)", token(4))
	})
	harm(5, "outcomes", "missing", func() {
		exec("ALTER TABLE outcomes DELETE WHERE user_token = ? AND kind = 'segment_entered'"+remove, token(5))
	})
	harm(6, "outcomes", "twice", func() {
		exec(`INSERT INTO outcomes (outcome_id, kind, user_token, sequence) SELECT outcome_id, 'segment_left', user_token, sequence
			FROM outcomes WHERE user_token = ? AND kind = 'segment_entered' LIMIT 1`, token(6))
	})
	harm(7, "outcomes", "unexpected", func() {
		exec("INSERT INTO outcomes (outcome_id, kind, user_token, sequence) VALUES ('ghost', 'goal_converted', ?, 1)", token(7))
	})
	harm(8, "profile", "missing", func() {
		require.NoError(t, stream(schema.ProfilesStream).Purge(t.Context(), jetstream.WithPurgeSubject(schema.ProfileSubject(token(8)))))
	})
	harm(9, "profile", "stale", func() {
		profile := profileOf(9)
		profile.Sequence--
		require.NoError(t, show(9, profile))
	})
	harm(10, "archive", "unexpected", func() {
		require.NoError(t, stream(schema.EventsStream).DeleteMsg(t.Context(), sequences["v-40"]))
	})
	harm(10, "counts", "differs", func() {})
	harm(11, "counts", "differs", func() { // an event straight to the workflow, past the log
		signal := schema.EventBatch{Playbook: p.addrs["playbook"], Revision: 1, Events: []schema.UserEvent{
			{EventID: "smuggled", EventName: "profile_completed", Sequence: 1 << 40, OccurredAt: time.Now().UnixMilli(), ReceivedAt: time.Now().UnixMilli()},
		}}
		require.NoError(t, p.temporal(t).SignalWorkflow(t.Context(), schema.WorkflowID(token(11)), "", schema.EventsReceived.Name, signal))
	})
	harm(12, "workflow", "closed", func() {
		require.NoError(t, p.temporal(t).TerminateWorkflow(t.Context(), schema.WorkflowID(token(12)), "", "a test"))
	})
	harm(14, "workflow", "silent", func() { // its task fails for ever
		signal := schema.EventBatch{Playbook: "no such playbook", Revision: 99}
		require.NoError(t, p.temporal(t).SignalWorkflow(t.Context(), schema.WorkflowID(token(14)), "", schema.EventsReceived.Name, signal))
	})
	harm(-1, "archive", "missing", func() {
		exec("ALTER TABLE dead_letters DELETE WHERE sequence = ?"+remove, refused)
		require.NoError(t, stream(schema.DeadLettersStream).DeleteMsg(t.Context(), 1))
	})
	harm(13, "outcomes", "unexpected", func() { // on record, and follows from nothing
		body, err := json.Marshal(schema.Outcome{OutcomeID: "invented", Kind: schema.GoalConverted, UserToken: token(13), At: 1, RecordedAt: 1})
		require.NoError(t, err)
		_, err = js.Publish(t.Context(), schema.OutcomeSubject(schema.GoalConverted), body)
		require.NoError(t, err)
	})
	require.NoError(t, drain(t.Context(), js))

	guilty := p.verify(t)
	told := map[string]bool{}
	harmed := map[string]bool{}
	for _, d := range guilty.Found {
		told[d.User+" "+d.Field+" "+d.What] = true
		harmed[d.User] = true
	}
	for one := range want {
		require.True(t, told[one], "not found: %s", one)
	}
	for n := range users {
		require.Equal(t, n >= 1 && n <= 14, harmed[token(n)], "user %d: %v", n, guilty.Found)
	}
	i := slices.IndexFunc(guilty.Found, func(d verify.Difference) bool { return d.User == token(1) && d.Field == "archive" })
	require.Equal(t, sequences["v-1"], guilty.Found[i].Sequence)
	require.Equal(t, "v-1", guilty.Found[i].Subject)

	page := onramp(t.Context(), p.verifyArgs()...)
	require.Equal(t, exitFailed, page.code)
	require.Contains(t, page.out, token(12))
	require.Contains(t, page.err, fmt.Sprintf("%d differences", guilty.Differences))
	require.NotContains(t, page.out+page.err, "example.com")
}

// TestParts: every token belongs to exactly one part, whatever their number, and what is written of a user is read back.
func TestParts(t *testing.T) {
	t.Parallel()
	for _, events := range []uint64{0, 1, 50_000, 500_000, 100_000_000} {
		p, err := newParts(events, "")
		require.NoError(t, err)
		require.LessOrEqual(t, len(p.list), maxParts)
		want := map[string][]uint64{}
		for n := range 3000 {
			token := schema.UserToken([]byte(embeddedKey), strconv.Itoa(n%1500))
			want[token] = append(want[token], uint64(n))
			require.NoError(t, p.add(known{Token: token, Event: &schema.UserEvent{Sequence: uint64(n), Properties: json.RawMessage(`{"a":1}`)}}))
		}
		edges := []string{"u" + strings.Repeat("2", 26), "u" + strings.Repeat("z", 26)}
		for _, token := range edges {
			require.NoError(t, p.add(known{Token: token}))
		}
		got := map[string][]uint64{}
		for _, one := range p.list {
			require.NoError(t, one.open())
			for token, u := range one.users {
				require.True(t, token >= one.from && token < one.to)
				for _, e := range u.Events {
					got[token] = append(got[token], e.Sequence)
				}
				if len(u.Events) == 0 {
					require.Contains(t, edges, token)
					edges = slices.DeleteFunc(edges, func(e string) bool { return e == token })
				}
			}
			p.forget()
		}
		require.Equal(t, want, got)
		require.Empty(t, edges)
		require.NoError(t, p.add(known{Token: "u2"}), "who is judged is not judged again")
		p.close()
	}
}
