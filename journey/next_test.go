package journey_test

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

const (
	hour = int64(3_600_000)
	day  = 24 * hour
	t0   = 20_000 * day
)

type books map[string]*playbook.Playbook

func (b books) Playbook(hash string) *playbook.Playbook { return b[hash] }

func load(tb testing.TB, file string) (books, string) {
	tb.Helper()
	text, err := os.ReadFile(file)
	require.NoError(tb, err)
	return compile(tb, string(text))
}

func compile(tb testing.TB, text string) (books, string) {
	tb.Helper()
	p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": text}})
	require.NoError(tb, err)
	return books{p.Hash: p}, p.Hash
}

// user drives one user as the workflow would: events as they come, time whenever something is due.
type user struct {
	t        testing.TB
	books    books
	hash     string
	revision uint64
	state    journey.State
	seq      uint64
	log      []schema.Outcome
	actions  []schema.ActionRequest
	wake     int64
	decided  []string // outcomes, each with the moment of the caller's clock at which it was decided
}

func newUser(tb testing.TB, b books, hash string) *user {
	tb.Helper()
	return &user{t: tb, books: b, hash: hash, revision: 1, state: journey.State{Token: "u_test"}}
}

func (u *user) next(input journey.Input, now int64) {
	input.Playbook, input.Revision = u.hash, u.revision
	state, decision := journey.Next(u.books, u.state, input, now)
	raw, err := json.Marshal(state) // every state must survive continue-as-new
	require.NoError(u.t, err)
	u.state = journey.State{}
	require.NoError(u.t, json.Unmarshal(raw, &u.state))
	u.wake = decision.WakeAt
	u.log = append(u.log, decision.Outcomes...)
	for i := range decision.Outcomes {
		u.decided = append(u.decided, fmt.Sprint(now-t0, " ", decision.Outcomes[i].OutcomeID, " ", decision.Outcomes[i].Kind))
	}
	u.actions = append(u.actions, decision.Actions...)
}

func (u *user) event(name string, at int64, parts ...string) {
	u.seq++
	e := schema.UserEvent{EventID: fmt.Sprint("e", u.seq), EventName: name, Sequence: u.seq, OccurredAt: at, ReceivedAt: at, Lateness: schema.OnTime}
	if len(parts) > 0 {
		e.Traits = json.RawMessage(parts[0])
	}
	u.next(journey.Input{Event: &e}, at)
}

// until lets time pass, waking whenever the last decision asked for it.
func (u *user) until(at int64) {
	for u.wake != 0 && u.wake <= at {
		u.next(journey.Input{}, u.wake)
	}
}

// story lists outcomes as `+hours kind what`.
func (u *user) story(kinds ...schema.OutcomeKind) []string {
	var lines []string
	for _, o := range u.log {
		if len(kinds) > 0 && !slices.Contains(kinds, o.Kind) {
			continue
		}
		what := cmp.Or(o.Segment, o.Action, o.Goal, o.Variant, o.Journey+"/"+o.StepKey)
		if o.Kind == schema.ActionSuppressed || o.Kind == schema.EnrollmentEnded {
			what += " " + o.Reason
		}
		lines = append(lines, fmt.Sprintf("%+.1fh %s %s", float64(o.At-t0)/float64(hour), o.Kind, what))
	}
	return lines
}

func TestOnboardingStory(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	u := newUser(t, b, hash)
	u.event("signed_up", t0, `{"industry":"finance","company_size":40,"marketing_consent":true}`)
	u.event("feature_viewed", t0+hour)
	u.until(t0 + 8*day)
	require.Equal(t, []string{
		"+0.0h enrollment_started onboarding/",
		"+0.0h action_decided send_tutorial",
		"+24.0h action_decided send_reminder",
		"+49.0h enrollment_started comeback/",
		"+49.0h action_decided reengage",
		"+96.0h enrollment_started retention/",
		"+96.0h action_decided retention_offer",
		"+96.0h action_suppressed send_checklist frequency_cap",
		"+121.0h enrollment_ended comeback/gave_up gave_up",
		"+168.0h enrollment_ended onboarding/stalled stalled",
	}, u.story(schema.EnrollmentStarted, schema.EnrollmentEnded, schema.ActionDecided, schema.ActionSuppressed))
	require.Equal(t, []string{
		"+0.0h segment_entered new_user", "+49.0h segment_entered drop_off", "+96.0h segment_entered at_risk",
	}, u.story(schema.SegmentEntered, schema.SegmentLeft))
	require.Contains(t, u.actions[2].Segments, "drop_off")
	require.Equal(t, int64(40), u.actions[3].Properties["size"])
}

func TestGoalEndsAndOutlives(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	u := newUser(t, b, hash)
	u.event("signed_up", t0, `{"industry":"law"}`)
	u.event("profile_completed", t0+hour)
	u.event("onboarding_completed", t0+2*hour)
	require.Equal(t, []string{"+2.0h enrollment_ended onboarding/congratulations completed"}, u.story(schema.EnrollmentEnded))
	u.until(t0 + 5*day)
	u.event("activated", t0+6*day)
	require.Equal(t, []string{"+144.0h goal_converted activated"}, u.story(schema.GoalConverted))
	u.event("activated", t0+7*day)
	require.Len(t, u.story(schema.GoalConverted), 1, "a goal counts once")
	require.Equal(t, []string{
		"+0.0h segment_entered new_user", "+2.0h segment_left new_user", "+2.0h segment_entered engaged_newcomer",
	}, u.story(schema.SegmentEntered, schema.SegmentLeft))
}

func TestGoalAfterWindow(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	u := newUser(t, b, hash)
	u.event("signed_up", t0)
	u.until(t0 + 14*day)
	u.event("activated", t0+14*day+1)
	require.Empty(t, u.story(schema.GoalConverted))
}

func TestWaitSeesOnlyNewEvents(t *testing.T) {
	t.Parallel()
	b, hash := compile(t, `
name: x
events: {a: {}, b: {}}
actions: {act: {}}
journeys:
  j:
    enter: {on: a}
    steps:
      - {wait: {on: [a, b], up_to: 1h, timeout: [{exit: late}]}}
      - {action: act}
`)
	u := newUser(t, b, hash)
	u.event("a", t0)
	require.Empty(t, u.actions, "the event that lets a user in is not what the first step waits for")
	u.event("a", t0+hour-1)
	require.Len(t, u.actions, 1)

	late := newUser(t, b, hash)
	late.event("a", t0)
	late.event("b", t0+hour) // the wait ends at that moment, before the event
	require.Equal(t, []string{"+1.0h enrollment_ended j/s1_timeout_1 late"}, late.story(schema.EnrollmentEnded))
}

func TestConsentAndUnknown(t *testing.T) {
	t.Parallel()
	b, hash := compile(t, `
name: x
events: {a: {}}
traits: {ok: bool}
consent: {news: traits.ok}
actions: {act: {category: news}}
journeys: {j: {enter: {on: a}, reentry: after_exit, steps: [{action: act}]}}
`)
	u := newUser(t, b, hash)
	u.event("a", t0)
	u.event("a", t0+hour, `{"ok":false}`)
	u.event("a", t0+2*hour, `{"ok":true}`)
	require.Equal(t, []string{
		"+0.0h action_suppressed act no_consent", "+1.0h action_suppressed act no_consent", "+2.0h action_decided act",
	}, u.story(schema.ActionSuppressed, schema.ActionDecided))
}

func TestHistoricEventsNeverAct(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	u := newUser(t, b, hash)
	received := t0 + 3000*day
	for i, name := range []string{"signed_up", "feature_viewed"} {
		u.seq++
		e := schema.UserEvent{EventID: name, EventName: name, Sequence: u.seq, OccurredAt: t0 + int64(i)*hour, ReceivedAt: received, Lateness: schema.Historic}
		u.next(journey.Input{Event: &e}, received)
	}
	require.Equal(t, received+journey.HistoricGrace.Milliseconds(), u.wake, "the present waits until the log has come in")
	u.until(u.wake)
	require.Empty(t, u.actions)
	require.Equal(t, []string{"+0.0h segment_entered new_user", "+49.0h segment_entered drop_off", "+96.0h segment_entered at_risk", "+4321.0h segment_entered dormant"},
		u.story(schema.SegmentEntered, schema.SegmentLeft), "moments are those of the log")
	require.Equal(t, []string{"historic"}, suppressions(u))
}

// suppressions lists the reasons for which actions were held back.
func suppressions(u *user) []string {
	var reasons []string
	for _, o := range u.log {
		if o.Kind == schema.ActionSuppressed && !slices.Contains(reasons, o.Reason) {
			reasons = append(reasons, o.Reason)
		}
	}
	return reasons
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	u := newUser(t, b, hash)
	u.event("signed_up", t0)
	u.event("feature_viewed", t0+1)
	before := len(u.log)
	u.seq = 0
	u.event("signed_up", t0) // the same message again
	u.seq = 1
	republished := schema.UserEvent{EventID: "e2", EventName: "feature_viewed", Sequence: 77, OccurredAt: t0 + 1, ReceivedAt: t0 + 5}
	u.next(journey.Input{Event: &republished}, t0+5)
	require.Len(t, u.log, before)
	require.Equal(t, journey.Counts{Applied: 2, Duplicates: 1, Redelivered: 1}, u.state.Counts)
}

func TestNewPlaybook(t *testing.T) {
	t.Parallel()
	old := `
name: x
events: {a: {}, b: {}}
actions: {act: {}}
segments: {gone: {when: did("a")}, kept: {when: did("a")}}
journeys: {j: {enter: {on: a}, steps: [{wait: {on: b, up_to: 1d}}, {action: act}]}}
`
	b, hash := compile(t, old)
	u := newUser(t, b, hash)
	u.event("a", t0)
	newer, newHash := compile(t, strings.Replace(strings.Replace(old, "gone: {when: did(\"a\")}", "fresh: {when: did(\"a\")}", 1), ", {action: act}", "", 1))
	b[newHash] = newer[newHash]
	u.hash, u.revision = newHash, 2
	u.event("b", t0+hour)
	require.Equal(t, []string{
		"+0.0h segment_entered gone", "+0.0h segment_entered kept", "+1.0h segment_left gone", "+1.0h segment_entered fresh",
	}, u.story(schema.SegmentEntered, schema.SegmentLeft))
	require.Len(t, u.actions, 1, "the enrollment goes on in the version it entered")
	u.hash, u.revision = hash, 1
	u.event("a", t0+2*hour)
	require.Equal(t, newHash, u.state.Playbook, "never back to an older version")
}

// TestTimingOfWakesDoesNotMatter: however late the caller's timers fire, and however often it asks, the same outcomes come at
// the same moments.
func TestTimingOfWakesDoesNotMatter(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../examples/saas-onboarding/playbook.yaml")
	require.NoError(t, err)
	// Expiry alone looks at the caller's clock: it is there to tell how late the caller is.
	b, hash := compile(t, strings.ReplaceAll(string(text), ", expire: 12h", ""))
	names := []string{"signed_up", "profile_completed", "feature_viewed", "feature_used", "onboarding_completed", "activated", "support_ticket_opened"}
	rapid.Check(t, func(r *rapid.T) {
		type step struct {
			name string
			at   int64
		}
		var steps []step
		at := t0
		for range rapid.IntRange(1, 12).Draw(r, "events") {
			at += rapid.Int64Range(0, 3*day).Draw(r, "gap")
			steps = append(steps, step{rapid.SampledFrom(names).Draw(r, "name"), at})
		}
		prompt, lazy := newUser(t, b, hash), newUser(t, b, hash)
		for _, s := range steps {
			prompt.until(s.at)
			prompt.event(s.name, s.at)
			if rapid.Bool().Draw(r, "ask in between") {
				lazy.next(journey.Input{}, s.at)
			}
			lazy.event(s.name, s.at)
		}
		prompt.until(at + 30*day)
		lazy.next(journey.Input{}, at+30*day)
		for _, log := range [][]schema.Outcome{prompt.log, lazy.log} {
			for i := range log {
				log[i].LogSequence, log[i].DecidedAt = 0, 0 // these say who asked when
			}
		}
		require.Equal(t, prompt.log, lazy.log)
		prompt.state.Lived, lazy.state.Lived = nil, nil // who asks before anything came brings the playbook
		require.Equal(t, prompt.state, lazy.state)
	})
}

// TestInvariants holds for any log: no action twice, each enrollment ends once, segments alternate, the cap holds.
func TestInvariants(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/saas-onboarding/playbook.yaml")
	names := []string{"signed_up", "profile_completed", "feature_viewed", "feature_used", "onboarding_completed", "activated", "account_closed", "nonsense"}
	rapid.Check(t, func(r *rapid.T) {
		u := newUser(t, b, hash)
		at := t0
		for range rapid.IntRange(1, 25).Draw(r, "events") {
			at += rapid.Int64Range(0, 4*day).Draw(r, "gap")
			u.until(at)
			traits := fmt.Sprintf(`{"industry":%q,"marketing_consent":%t}`, rapid.SampledFrom([]string{"finance", "law"}).Draw(r, "industry"), rapid.Bool().Draw(r, "consent"))
			u.event(rapid.SampledFrom(names).Draw(r, "name"), at, traits)
		}
		u.until(at + 60*day)
		ids, inside, ended := map[string]bool{}, map[string]bool{}, map[string]int{}
		var capped []int64
		for _, o := range u.log {
			require.False(t, ids[o.OutcomeID], "outcome twice: %+v", o)
			ids[o.OutcomeID] = true
			switch o.Kind {
			case schema.SegmentEntered, schema.SegmentLeft:
				require.Equal(t, o.Kind == schema.SegmentLeft, inside[o.Segment], "enter and leave alternate")
				inside[o.Segment] = o.Kind == schema.SegmentEntered
			case schema.EnrollmentEnded:
				ended[o.EnrollmentID]++
				require.Equal(t, 1, ended[o.EnrollmentID])
			case schema.ActionDecided:
				if o.Action != "send_congratulations" {
					capped = append(capped, o.At)
				}
			default: // the others have no invariant of their own here
			}
		}
		for i := range capped {
			if i >= 4 {
				require.GreaterOrEqual(t, capped[i]-capped[i-4], 7*day, "five capped actions within seven days")
			}
		}
		for key, m := range u.state.Members {
			require.Equal(t, inside[key], m.In)
		}
		require.NotEmpty(t, journey.Explain(b, &u.state))
	})
}

// TestPublicLog folds a real log with the pure core alone and finds the counts its own labels give.
func TestPublicLog(t *testing.T) {
	t.Parallel()
	b, hash := load(t, "../examples/app-onboarding/playbook.yaml")
	logs := publicLog(t)
	ended, stalled := map[string]int{}, 0
	for _, log := range logs {
		u := newUser(t, b, hash)
		received := int64(1_790_000_000_000)
		for _, e := range log {
			if e.name == "lost" { // found again by the rule alone
				continue
			}
			u.seq++
			event := schema.UserEvent{EventID: strconv.FormatUint(u.seq, 10), EventName: e.name, Sequence: u.seq, OccurredAt: e.at, ReceivedAt: received, Lateness: schema.Historic}
			u.next(journey.Input{Event: &event}, received)
		}
		u.next(journey.Input{}, log[len(log)-1].at+601_000)
		if u.state.Members["stalled"].In {
			stalled++
		}
		ended[u.state.Passed["signup"].Ended]++
	}
	require.Equal(t, 1642, stalled)
	require.Equal(t, 2497, ended["goal_met"])
	require.Len(t, logs, 4139)
}

type logged struct {
	name string
	at   int64
}

func publicLog(t *testing.T) map[string][]logged {
	t.Helper()
	file, err := os.Open("../../shared/data/app_onboarding/train.csv.gz")
	if err != nil {
		t.Skip("the public log is not here: ", err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	logs := make(map[string][]logged)
	lines := bufio.NewScanner(unzipped)
	lines.Scan() // the header
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ",")
		nanos, err := strconv.ParseInt(fields[1], 10, 64)
		require.NoError(t, err)
		logs[fields[2]] = append(logs[fields[2]], logged{fields[0], nanos / int64(time.Millisecond)})
	}
	require.NoError(t, lines.Err())
	for _, log := range logs {
		slices.SortStableFunc(log, func(a, b logged) int { return cmp.Compare(a.at, b.at) })
	}
	return logs
}

// TestLivedSaysWhatAFoldMustKnow: which playbook came when, with which event or after which.
func TestLivedSaysWhatAFoldMustKnow(t *testing.T) {
	t.Parallel()
	b := books{}
	hash := make([]string, 40)
	for i := range hash {
		p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": fmt.Sprintf("name: v%d\nevents: {signed_up: {}}\nsegments: {s: {when: did(\"signed_up\")}}\n", i)}})
		require.NoError(t, err)
		b[p.Hash], hash[i] = p, p.Hash
	}
	state := journey.State{Token: "u_test"}
	take := func(i int, event *schema.UserEvent, now int64) {
		state, _ = journey.Next(b, state, journey.Input{Event: event, Playbook: hash[i], Revision: uint64(i + 1)}, now)
	}
	event := func(seq uint64, at int64) *schema.UserEvent {
		return &schema.UserEvent{EventID: fmt.Sprint("e", seq), EventName: "signed_up", Sequence: seq, OccurredAt: at, ReceivedAt: at}
	}
	take(0, event(7, t0), t0+5)
	take(0, event(9, t0+10), t0+15)
	take(1, nil, t0+20)
	take(2, event(9, t0+10), t0+30) // a repetition brings nothing
	take(2, event(12, t0+25), t0+30)
	require.Equal(t, []journey.Version{
		{Playbook: hash[0], Revision: 1, At: t0, Sequence: 7},
		{Playbook: hash[1], Revision: 2, At: t0 + 20, Sequence: 9, Alone: true},
		{Playbook: hash[2], Revision: 3, At: t0 + 25, Sequence: 12},
	}, state.Lived)
	for i := 3; i < 40; i++ {
		take(i, nil, t0+int64(i))
	}
	require.Len(t, state.Lived, 32)
	require.Equal(t, 8, state.Older)
	require.Equal(t, hash[39], state.Lived[31].Playbook)
}
