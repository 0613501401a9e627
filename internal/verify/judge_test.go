package verify_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/internal/truth"
	"github.com/onramphq/onramp/internal/verify"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

const ours = `
name: ours
events: {signed_up: {}, used: {properties: {n: int}}}
traits: {plan: string}
actions: {hello: {}, come_back: {}}
segments:
  newcomer: {when: 'did("signed_up") && !did("used")'}
  heavy: {when: 'events("used").count() >= 3'}
  quiet: {when: 'inactive_for("2h")'}
journeys:
  welcome:
    enter: {on: [signed_up]}
    goal: {on: used, within: 24h}
    steps:
      - {id: greet, action: hello}
      - id: wait
        wait: {on: [used], up_to: 72h}
  return:
    enter: {segment: quiet}
    steps:
      - {id: nudge, action: come_back}
      - {id: rest, delay: 72h}
`

const (
	minute = int64(60_000)
	hour   = 60 * minute
	began  = int64(1_790_000_000_000)
)

// settledLife is a user of playbook ours to whom nothing bad has happened: three events, an hour apart, and five hours after.
func settledLife(t *testing.T, lose ...string) (*verify.Inputs, *verify.User) {
	t.Helper()
	var log []schema.UserEvent
	for i, name := range []string{"signed_up", "used", "not_declared", "used"} {
		at := began + int64(i)*hour
		log = append(log, schema.UserEvent{
			EventID: fmt.Sprint("e", i), EventName: name, Lateness: schema.OnTime, OccurredAt: at, ReceivedAt: at, Properties: json.RawMessage(`{"n":7}`),
		})
	}
	return lived(t, ours, began+8*hour, log, func(e *schema.UserEvent) int64 {
		if e.EventName == "not_declared" || slices.Contains(lose, e.EventID) {
			return 0
		}
		return e.ReceivedAt + 3
	})
}

// lived is a user of a playbook at an end, with the events of a log in places 10, 20 and so on. taken says when the workflow takes one; 0: never.
func lived(t *testing.T, book string, end int64, log []schema.UserEvent, taken func(*schema.UserEvent) int64) (*verify.Inputs, *verify.User) {
	t.Helper()
	p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": book}})
	require.NoError(t, err)
	l := &life{books: books{p.Hash: p}, stored: []*playbook.Playbook{p}, state: journey.State{Token: "u1"}, user: verify.User{Token: "u1"}}
	var signals []signal
	for i, e := range log {
		e.Sequence = uint64(10 * (i + 1))
		l.user.Events, l.user.Archive = append(l.user.Events, e), append(l.user.Archive, e)
		if at := taken(&e); at != 0 {
			signals = append(signals, signal{at, journey.Input{Event: &e, Playbook: p.Hash, Revision: 1}})
		}
	}
	l.run(signals, end)
	l.user.Rows, l.user.State, l.user.AsOf, l.user.Profile = slices.Clone(l.user.Outcomes), &l.state, end, &l.profile
	last := uint64(10 * len(log))
	return &verify.Inputs{
		Books: l.books, Stored: l.stored, Letters: verify.Letters{}, AsOf: end, FirstEvent: 1, FirstOutcome: 1, Recorded: 1 << 40,
		Settled: verify.Settled{Ingest: last, Archive: last, Outcomes: 1000},
	}, &l.user
}

func found(v verify.Verdict) []string {
	var all []string
	for _, d := range v.Differences {
		all = append(all, d.Field+" "+d.What)
	}
	return all
}

// TestEveryCorruptionIsFound does one bad thing at a time to a user who was well, and looks for its name in the verdict.
func TestEveryCorruptionIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		corrupt func(in *verify.Inputs, u *verify.User)
		found   string // field and what; empty: nothing is wrong
	}{
		{"nothing", func(*verify.Inputs, *verify.User) {}, ""},
		{"an archived event is lost", func(_ *verify.Inputs, u *verify.User) { u.Archive = u.Archive[1:] }, "archive missing"},
		{"an event nobody reads is lost from the archive", func(_ *verify.Inputs, u *verify.User) { u.Archive = slices.Delete(u.Archive, 2, 3) }, "archive missing"},
		{"the archive waits for its turn", func(in *verify.Inputs, u *verify.User) { u.Archive, in.Settled.Archive = u.Archive[:3], 30 }, ""},
		{"the sink refused the row, and said so", func(in *verify.Inputs, u *verify.User) {
			u.Archive = u.Archive[1:]
			in.Letters.Add(schema.EventsStream, schema.ArchiveConsumer, 10)
		}, ""},
		{"a row of nobody's", func(_ *verify.Inputs, u *verify.User) {
			u.Archive = append(u.Archive, schema.UserEvent{EventID: "ghost", EventName: "used", Sequence: 35})
		}, "archive unexpected"},
		{"a body was altered", func(_ *verify.Inputs, u *verify.User) { u.Archive[1].Properties = json.RawMessage(`{"n":8}`) }, "archive differs"},
		{"a time was altered", func(_ *verify.Inputs, u *verify.User) { u.Archive[1].OccurredAt++ }, "archive differs"},
		{"not the first body", func(_ *verify.Inputs, u *verify.User) {
			again := u.Events[1]
			again.Sequence = 38
			u.Events, u.Archive[1].Sequence = slices.Insert(u.Events, 3, again), 38
		}, "archive differs"},
		{"the same event twice in the stream", func(_ *verify.Inputs, u *verify.User) {
			again := u.Events[1]
			again.Sequence, again.Properties = 38, nil
			u.Events = slices.Insert(u.Events, 3, again)
		}, ""},
		{"an event is taken out of the stream", func(_ *verify.Inputs, u *verify.User) { u.Events = slices.Delete(u.Events, 1, 2) }, "counts differs"},
		{"an outcome's row is lost", func(_ *verify.Inputs, u *verify.User) { u.Rows = u.Rows[1:] }, "outcomes missing"},
		{"outcomes on their way to ClickHouse", func(in *verify.Inputs, u *verify.User) { in.Settled.Outcomes, u.Rows = 2, u.Rows[:2] }, ""},
		{"an outcome's row is there twice", func(_ *verify.Inputs, u *verify.User) {
			extra := u.Rows[0]
			extra.Kind = schema.SegmentLeft
			u.Rows = append(u.Rows, extra)
		}, "outcomes twice"},
		{"a row of no outcome", func(_ *verify.Inputs, u *verify.User) {
			extra := u.Rows[0]
			extra.OutcomeID = "ghost"
			u.Rows = append(u.Rows, extra)
		}, "outcomes unexpected"},
		{"an outcome was never recorded", func(_ *verify.Inputs, u *verify.User) { u.Outcomes, u.Rows = u.Outcomes[1:], u.Rows[1:] }, "outcomes missing"},
		{"an outcome that follows from nothing", func(_ *verify.Inputs, u *verify.User) {
			extra := u.Outcomes[0]
			extra.OutcomeID, extra.Sequence = "ghost", 900
			u.Outcomes, u.Rows = append(u.Outcomes, extra), append(u.Rows, extra)
		}, "outcomes unexpected"},
		{"the workflow went on after it was asked", func(in *verify.Inputs, u *verify.User) {
			later := u.Outcomes[0]
			later.OutcomeID, later.Sequence = "later", 901
			in.Recorded, in.Settled.Outcomes, u.Outcomes = 900, 900, append(u.Outcomes, later)
		}, ""},
		{"a profile of nobody's", func(_ *verify.Inputs, u *verify.User) { *u = verify.User{Token: "u1", Profile: u.Profile} }, "profile unexpected"},
		{"nobody knows what became of an action", func(in *verify.Inputs, u *verify.User) {
			delivered := func(o verify.Outcome) bool { return o.Kind == schema.ActionDelivered }
			u.Outcomes, u.Rows = slices.DeleteFunc(u.Outcomes, delivered), slices.DeleteFunc(u.Rows, delivered)
			in.AsOf, u.AsOf = in.AsOf+100*hour, u.AsOf+100*hour
		}, "action open"},
		{"no profile", func(_ *verify.Inputs, u *verify.User) { u.Profile = nil }, "profile missing"},
		{"an old profile", func(_ *verify.Inputs, u *verify.User) { u.Profile.Sequence-- }, "profile stale"},
		{"a wrong profile", func(_ *verify.Inputs, u *verify.User) { u.Profile.Segments[0].In = !u.Profile.Segments[0].In }, "profile differs"},
		{"a membership was altered", func(_ *verify.Inputs, u *verify.User) { u.State.Members["heavy"].In = true }, "membership.heavy differs"},
		{"a membership is gone", func(_ *verify.Inputs, u *verify.User) { delete(u.State.Members, "heavy") }, "membership.heavy differs"},
		{"a count was altered", func(_ *verify.Inputs, u *verify.User) { u.State.Counts.Applied++ }, "counts differs"},
		{"a fact was altered", func(_ *verify.Inputs, u *verify.User) { u.State.Facts.LastSeen++ }, "facts differs"},
		{"a passage is gone", func(_ *verify.Inputs, u *verify.User) { u.State.Passed = nil }, "passed.welcome differs"},
		{"the workflow is gone", func(_ *verify.Inputs, u *verify.User) { u.State = nil }, "workflow missing"},
		{"the workflow was closed", func(_ *verify.Inputs, u *verify.User) { u.State, u.Closed = nil, true }, "workflow closed"},
		{"the workflow is stuck", func(_ *verify.Inputs, u *verify.User) { u.State, u.Silent = nil, "timeout" }, "workflow silent"},
		{"a timer was lost", func(in *verify.Inputs, u *verify.User) { in.AsOf, u.AsOf = in.AsOf+71*hour, u.AsOf+71*hour }, "timer overdue"},
		{"a workflow of nobody's", func(_ *verify.Inputs, u *verify.User) {
			*u = verify.User{Token: "u1", State: &journey.State{Token: "u1"}}
		}, "workflow unexpected"},
		{"the streams begin later, and ClickHouse has what came before", func(in *verify.Inputs, u *verify.User) {
			in.FirstEvent, u.Events = 15, u.Events[1:]
			in.FirstOutcome, u.Outcomes = 4, u.Outcomes[3:]
		}, ""},
		{"the streams begin later, and ClickHouse lacks something", func(in *verify.Inputs, u *verify.User) {
			in.FirstEvent, u.Events, u.Archive = 15, u.Events[1:], u.Archive[1:]
		}, "counts differs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in, user := settledLife(t)
			c.corrupt(in, user)
			verdict := verify.Judge(in, user)
			require.Empty(t, verdict.Unjudged)
			if c.found == "" {
				require.Empty(t, verdict.Differences)
				return
			}
			require.Contains(t, found(verdict), c.found)
		})
	}
}

// TestPastBehindTime: ingest is away while timers fire. An event of the past, of which nothing is on record, is taken after them, and so
// is the next event, of which something is.
func TestPastBehindTime(t *testing.T) {
	t.Parallel()
	in, user := lived(t, ours, began+100*hour, []schema.UserEvent{
		{EventID: "e0", EventName: "signed_up", OccurredAt: began, ReceivedAt: began, Lateness: schema.OnTime},
		{EventID: "e1", EventName: "signed_up", OccurredAt: began - 200*hour, ReceivedAt: began + hour, Lateness: schema.Historic},
		{EventID: "e2", EventName: "used", OccurredAt: began + hour + minute, ReceivedAt: began + hour + minute, Lateness: schema.OnTime},
	}, func(e *schema.UserEvent) int64 {
		if e.EventID == "e0" {
			return e.ReceivedAt
		}
		return began + 90*hour
	})
	require.Greater(t, user.State.Refused["welcome"].At, began+hour, "the past came behind time")
	verdict := verify.Judge(in, user)
	require.Empty(t, verdict.Unjudged)
	require.Empty(t, verdict.Differences)

	for i := range user.Outcomes { // of a release that did not note it
		user.Outcomes[i].LogSequence, user.Outcomes[i].DecidedAt = 0, 0
	}
	verdict = verify.Judge(in, user)
	require.Equal(t, verify.UnjudgedPlaces, verdict.Unjudged)
	require.Empty(t, verdict.Differences, "nobody can say")
}

// TestPastWhileTimersRest: a timer asks a rule again, to no effect that anybody records, before an event of the past is taken that was received before
// it. Timers rest for a minute after that, and meanwhile the log does not say how far they had got.
func TestPastWhileTimersRest(t *testing.T) {
	t.Parallel()
	book := `
name: ours
events: {used: {}, opened: {}}
segments:
  busy: {when: 'events("used").within("1h").count() >= 2'}
  keen: {when: 'events("opened").within("1h").count() >= 2'}
`
	for name, past := range map[string]string{"asks another rule": "opened", "asks the same rule": "used"} {
		for _, after := range []int64{0, 2 * minute} { // the hold lasts; it is over
			t.Run(fmt.Sprint(name, " ", after), func(t *testing.T) {
				t.Parallel()
				judge := func(corrupt func(*journey.State)) []string {
					in, user := lived(t, book, began+hour+2000+after, []schema.UserEvent{
						{EventID: "e0", EventName: "used", OccurredAt: began, ReceivedAt: began, Lateness: schema.OnTime},
						{EventID: "e1", EventName: "opened", OccurredAt: began, ReceivedAt: began, Lateness: schema.OnTime},
						{EventID: "e2", EventName: past, OccurredAt: began - 200*hour, ReceivedAt: began + hour - 1000, Lateness: schema.Historic},
					}, func(e *schema.UserEvent) int64 {
						if e.Lateness == schema.Historic {
							return began + hour + 1000 // the timers came at began + hour
						}
						return e.ReceivedAt
					})
					require.Zero(t, min(user.State.Members["keen"].Until, user.State.Members["busy"].Until), "a timer came before the past did")
					corrupt(user.State)
					verdict := verify.Judge(in, user)
					require.Empty(t, verdict.Unjudged)
					return found(verdict)
				}
				require.Empty(t, judge(func(*journey.State) {}))
				require.Contains(t, judge(func(s *journey.State) { s.Members["busy"].In = true }), "membership.busy differs")
				require.Contains(t, judge(func(s *journey.State) { s.Members["keen"].Until = began + 2*hour }), "membership.keen differs")
			})
		}
	}
}

// TestLostEventsAreFound: whichever event does not reach the workflow.
func TestLostEventsAreFound(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"e0", "e1", "e3"} {
		in, user := settledLife(t, lost)
		require.Contains(t, found(verify.Judge(in, user)), "counts differs", lost)
	}
	in, user := settledLife(t, "e0", "e1", "e3")
	user.State = nil
	require.Contains(t, found(verify.Judge(in, user)), "workflow missing")

	in, user = settledLife(t, "e3") // unless it is on its way
	in.Settled.Ingest = 30
	verdict := verify.Judge(in, user)
	require.Empty(t, verdict.Differences)
	require.Equal(t, 1, verdict.InFlight)
	require.Equal(t, 3, verdict.Events)

	in, user = settledLife(t, "e3") // or ingest put it aside, and said so
	in.Letters.Add(schema.EventsStream, schema.IngestConsumer, 40)
	require.Empty(t, verify.Judge(in, user).Differences)
	in.Letters = verify.Letters{}
	in.Letters.Add(schema.EventsStream, "", 40)
	require.Empty(t, verify.Judge(in, user).Differences)
}

// TestAnyLostEventIsFound: of any user of any playbook, one event that was read is lost on its way to the workflow.
func TestAnyLostEventIsFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, in, user := drawLife(t, truth.Cases())
		if user.State == nil || len(c.Log) < 2 {
			t.Skip("nobody there")
		}
		taken := slices.DeleteFunc(slices.Clone(user.Events), func(e schema.UserEvent) bool {
			return !user.State.Seen.Has(e.Sequence)
		})
		lost := rapid.SampledFrom(taken).Draw(t, "lost")
		others := *c
		others.Log = slices.DeleteFunc(slices.Clone(c.Log), func(d truth.Delivery) bool { return d.Event != nil && d.ID == lost.EventID })
		_, without := live(t, &others, nil, nil, 0)
		user.State, user.Outcomes, user.Rows, user.Profile = without.State, without.Outcomes, without.Rows, without.Profile
		if differences := verify.Judge(in, user).Differences; len(differences) == 0 {
			t.Fatalf("%s\nwithout %s nobody notices", c, lost.EventID)
		}
	})
}

// TestWhatCannotBeJudgedIsSaid: nobody is passed over in silence.
func TestWhatCannotBeJudgedIsSaid(t *testing.T) {
	t.Parallel()
	in, user := settledLife(t)
	user.State.Older = 1
	require.Equal(t, verify.UnjudgedVersions, verify.Judge(in, user).Unjudged)

	in, user = settledLife(t)
	in.Books = books{}
	require.Equal(t, verify.UnjudgedPlaybook, verify.Judge(in, user).Unjudged)

	in, user = settledLife(t)
	user.State, user.Busy = nil, true
	require.Equal(t, verify.UnjudgedBusy, verify.Judge(in, user).Unjudged)

	// Another version that was stored does not read what this one reads: of a user without a workflow nothing more is known.
	other, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": "name: other\nevents: {else: {}}\n"}})
	require.NoError(t, err)
	in, user = settledLife(t, "e0", "e1", "e3")
	user.State, user.Profile = nil, nil
	in.Stored = append(in.Stored, other)
	verdict := verify.Judge(in, user)
	require.Empty(t, verdict.Differences)
	require.Equal(t, verify.UnjudgedNoWorkflow, verdict.Unjudged)

	// Of a user with one, the state says what reached it, and how often it was believed is counted.
	in, user = settledLife(t)
	in.Stored = append(in.Stored, other)
	verdict = verify.Judge(in, user)
	require.Empty(t, verdict.Differences)
	require.Equal(t, 2, verdict.Trusted, "the first came with its playbook")
}

// TestNothingPersonalIsTold: differences are read by operators and kept in logs.
func TestNothingPersonalIsTold(t *testing.T) {
	t.Parallel()
	in, user := settledLife(t)
	user.State.Facts.Traits = nil
	user.Events[0].Traits = json.RawMessage(`{"plan":"ann@example.com"}`)
	user.Archive[0].Traits = json.RawMessage(`{"plan":"bob@example.com"}`)
	verdict := verify.Judge(in, user)
	require.Contains(t, found(verdict), "facts differs")
	require.Contains(t, found(verdict), "archive differs")
	raw, err := json.Marshal(verdict.Differences)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "example.com")
}
