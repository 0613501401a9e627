package backtest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/internal/eventlog"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

const (
	hour = int64(3_600_000)
	day  = 24 * hour
	t0   = 20_000 * day
)

func load(tb testing.TB, name string) *playbook.Playbook {
	tb.Helper()
	text, err := os.ReadFile("../examples/" + name + "/playbook.yaml")
	require.NoError(tb, err)
	return compile(tb, string(text))
}

func compile(tb testing.TB, text string) *playbook.Playbook {
	tb.Helper()
	p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": text}})
	require.NoError(tb, err)
	return p
}

// each gives copies: a run orders and marks the events it is handed.
func each(users []backtest.User) iter.Seq2[backtest.User, error] {
	return func(yield func(backtest.User, error) bool) {
		for _, u := range users {
			u.Events = slices.Clone(u.Events)
			if !yield(u, nil) {
				return
			}
		}
	}
}

func event(i int, name string, at int64, traits string) schema.UserEvent {
	e := schema.UserEvent{EventID: fmt.Sprint("e", i), EventName: name, OccurredAt: at}
	if traits != "" {
		e.Traits = json.RawMessage(traits)
	}
	return e
}

// population draws users with events in any order, some of them twice.
func population(r *rapid.T) []backtest.User {
	names := []string{"signed_up", "profile_completed", "feature_viewed", "feature_used", "onboarding_completed", "activated", "account_closed", "nonsense"}
	users := make([]backtest.User, rapid.IntRange(1, 12).Draw(r, "users"))
	for i := range users {
		id := fmt.Sprintf("user-%d", i)
		users[i] = backtest.User{ID: id, Token: schema.UserToken([]byte("key"), id)}
		for n := range rapid.IntRange(1, 12).Draw(r, "events") {
			traits := ""
			if rapid.Bool().Draw(r, "has traits") {
				traits = fmt.Sprintf(`{"industry":%q,"marketing_consent":%t}`, rapid.SampledFrom([]string{"finance", "law"}).Draw(r, "industry"), rapid.Bool().Draw(r, "consent"))
			}
			at := t0 + rapid.Int64Range(0, 20*day).Draw(r, "at")
			users[i].Events = append(users[i].Events, event(n-n/7, rapid.SampledFrom(names).Draw(r, "name"), at, traits))
		}
	}
	return users
}

func encode(tb testing.TB, v any) string {
	tb.Helper()
	raw, err := json.Marshal(v)
	require.NoError(tb, err)
	return string(raw)
}

// TestSameResult: neither the number of workers, nor the order of users, nor a second run changes a byte of the result.
func TestSameResult(t *testing.T) {
	t.Parallel()
	newer, older := load(t, "saas-onboarding"), compile(t, older(t))
	rapid.Check(t, func(r *rapid.T) {
		users := population(r)
		opts := backtest.Options{
			Until: t0 + rapid.Int64Range(0, 60*day).Draw(r, "until"), From: t0 + rapid.Int64Range(0, 10*day).Draw(r, "from"),
			Live: rapid.Bool().Draw(r, "live"), Workers: 1,
		}
		serial, err := backtest.Compare(newer, older, each(users), opts)
		require.NoError(r, err)
		want := encode(t, serial)
		shuffled := slices.Clone(users)
		rand.New(rand.NewSource(rapid.Int64().Draw(r, "seed"))).Shuffle(len(users), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		for _, workers := range []int{0, 7} {
			opts.Workers = workers
			again, err := backtest.Compare(newer, older, each(shuffled), opts)
			require.NoError(r, err)
			require.Equal(r, want, encode(t, again))
		}
		alone, err := backtest.Run(newer, each(users), opts)
		require.NoError(r, err)
		require.Equal(r, encode(t, serial.New), encode(t, alone), "a comparison says of each playbook what a run of it says")
	})
}

// older is the case study with one segment and one cap changed.
func older(tb testing.TB) string {
	tb.Helper()
	text, err := os.ReadFile("../examples/saas-onboarding/playbook.yaml")
	require.NoError(tb, err)
	for from, to := range map[string]string{`inactive_for("2d")`: `inactive_for("5d")`, "actions: 4, per: 7d": "actions: 2, per: 7d"} {
		require.Contains(tb, string(text), from)
		text = []byte(strings.ReplaceAll(string(text), from, to))
	}
	return string(text)
}

// TestHistoricNeverActs, while everything but the actions is the same as live.
func TestHistoricNeverActs(t *testing.T) {
	t.Parallel()
	book := load(t, "saas-onboarding")
	rapid.Check(t, func(r *rapid.T) {
		users := population(r)
		until := t0 + rapid.Int64Range(0, 60*day).Draw(r, "until")
		live, err := backtest.Run(book, each(users), backtest.Options{Until: until, Live: true})
		require.NoError(r, err)
		historic, err := backtest.Run(book, each(users), backtest.Options{Until: until})
		require.NoError(r, err)
		for i, a := range historic.Actions {
			require.Zero(r, a.Decided)
			require.Equal(r, live.Actions[i].Decided+live.Actions[i].Suppressed, a.Suppressed, "wanted by the same steps")
		}
		require.Equal(r, live.Segments, historic.Segments)
		require.Equal(r, live.Journeys, historic.Journeys)
		require.Equal(r, live.Experiments, historic.Experiments)
		require.Equal(r, live.Timeline.Segments, historic.Timeline.Segments)
	})
}

// TestFigures are those that follow from three users by hand.
func TestFigures(t *testing.T) {
	t.Parallel()
	book := compile(t, `
name: x
events: {a: {}, b: {}, c: {}, done: {}}
actions: {act: {}}
limit: {actions: 1, per: 7d}
segments: {quiet: {when: 'did("a") && inactive_for("2d")'}}
experiments: {ab: {variants: {control: 0.5, b: 0.5}}}
journeys:
  j:
    enter: {on: a}
    reentry: after_exit
    goal: {on: done, within: 3d}
    steps:
      - {id: split, experiment: ab, variants: {control: [], b: []}}
      - {id: first, action: act}
      - {id: more, wait: {on: b, up_to: 1d, timeout: [{id: late, exit: late}]}}
      - {id: second, action: act}
`)
	users := []backtest.User{
		{ID: "one", Token: "u1", Events: []schema.UserEvent{event(1, "a", t0, ""), event(2, "b", t0+hour, ""), event(3, "done", t0+2*hour, ""), event(4, "a", t0+8*day, "")}},
		{ID: "two", Token: "u2", Events: []schema.UserEvent{event(2, "b", t0+hour, ""), event(1, "a", t0, ""), event(1, "a", t0+2*hour, "")}},
		{ID: "three", Token: "u3", Events: []schema.UserEvent{event(1, "a", t0+90*day, "")}}, // after the end
	}
	r, err := backtest.Run(book, each(users), backtest.Options{Until: t0 + 8*day + hour, Live: true})
	require.NoError(t, err)
	require.Equal(t, uint64(2), r.Users)
	require.Equal(t, uint64(7), r.Events)
	require.Equal(t, uint64(1), r.Duplicates)
	require.Equal(t, map[string]uint64{"a": 4, "b": 2, "done": 1}, r.EventsByName)
	require.Equal(t, []backtest.Segment{{Segment: "quiet", Members: 1, Ever: 2}}, r.Segments)
	require.Equal(t, []backtest.Journey{{
		Journey: "j", Enrollments: 3, Users: 2, Open: 1, Ended: map[string]uint64{"completed": 2}, Converted: 1,
		Funnel: []backtest.Step{{Step: "split", Users: 2}, {Step: "first", Users: 2}, {Step: "more", Users: 2}, {Step: "late"}, {Step: "second", Users: 2}},
	}}, r.Journeys)
	require.Equal(t, []backtest.Action{{Action: "act", Users: 2, Decided: 3, Suppressed: 2, Reasons: map[string]uint64{"frequency_cap": 2}}}, r.Actions)
	require.Equal(t, day, r.Timeline.BucketMS)
	require.Equal(t, []int64{0, 0, 2, 2, 2, 2, 2, 2, 1}, r.Timeline.Segments["quiet"])
	require.Equal(t, map[string][]int64{"decided": {2, 0, 0, 0, 0, 0, 0, 0, 1}, "frequency_cap": {2, 0, 0, 0, 0, 0, 0, 0, 0}}, r.Timeline.Actions["act"])
	exposed, converted := uint64(0), uint64(0)
	for _, arm := range r.Experiments[0].Arms {
		exposed, converted = exposed+arm.Users, converted+arm.Converted
	}
	require.Equal(t, []uint64{2, 1}, []uint64{exposed, converted})

	later, err := backtest.Run(book, each(users), backtest.Options{Until: t0 + 8*day + hour, From: t0 + day, Live: true})
	require.NoError(t, err)
	require.Equal(t, uint64(1), later.Users)
	require.Equal(t, uint64(1), later.Journeys[0].Enrollments)
	require.Equal(t, uint64(1), later.Actions[0].Decided)
	require.Equal(t, r.Segments, later.Segments, "membership is that of the end, whenever it began")
}

// TestCompareNamesWhoChanged, at most so many, and the same ones every time.
func TestCompareNamesWhoChanged(t *testing.T) {
	t.Parallel()
	const text = "name: x\nevents: {a: {}, b: {}}\nactions: {act: {}}\njourneys: {j: {enter: {on: a}, steps: [{action: act}]}}\n"
	var users []backtest.User
	for i := range 100 {
		name := "a"
		if i%4 == 0 {
			name = "b"
		}
		id := fmt.Sprintf("%03d", i)
		users = append(users, backtest.User{ID: id, Token: id, Events: []schema.UserEvent{event(1, name, t0, "")}})
	}
	c, err := backtest.Compare(compile(t, text), compile(t, strings.ReplaceAll(text, "enter: {on: a}", "enter: {on: b}")), each(users), backtest.Options{Until: t0, Live: true})
	require.NoError(t, err)
	require.Equal(t, uint64(100), c.UsersUnlike)
	require.Len(t, c.Changes, 2)
	require.Equal(t, []string{"enters j 25 75 75 25", "gets act 25 75 75 25"}, []string{line(c.Changes[0]), line(c.Changes[1])})
	require.Len(t, c.Changes[0].GainedExamples, backtest.MaxExamples)
	require.Equal(t, []string{"000", "004", "008"}, c.Changes[0].LostExamples[:3])
}

func line(c backtest.Change) string {
	return fmt.Sprintf("%s %s %d %d %d %d", c.What, c.Key, c.Old, c.New, c.Gained, c.Lost)
}

func TestUsersThatCannotBeRead(t *testing.T) {
	t.Parallel()
	broken := errors.New("cut")
	_, err := backtest.Run(load(t, "saas-onboarding"), func(yield func(backtest.User, error) bool) {
		if yield(backtest.User{ID: "a", Token: "a", Events: []schema.UserEvent{event(1, "signed_up", t0, "")}}, nil) {
			yield(backtest.User{}, broken)
		}
	}, backtest.Options{Until: t0})
	require.ErrorIs(t, err, broken)
}

// TestPublicLog finds the counts that the log's own labels give, as the running engine does.
func TestPublicLog(t *testing.T) {
	t.Parallel()
	users := publicLog(t)
	for _, live := range []bool{true, false} {
		began := time.Now()
		r, err := backtest.Run(load(t, "app-onboarding"), each(users), backtest.Options{Until: users[0].Events[0].OccurredAt + 365*day, Live: live})
		require.NoError(t, err)
		t.Log(time.Since(began))
		require.Equal(t, []uint64{4139, 30943}, []uint64{r.Users, r.Events})
		j := r.Journeys[0]
		require.Equal(t, map[string]uint64{"goal_met": 2497, "lost": 1642}, j.Ended)
		require.Equal(t, []uint64{4139, 2497}, []uint64{j.Enrollments, j.Converted})
		steps := make(map[string]uint64)
		for _, s := range j.Funnel {
			steps[s.Step] = s.Users
		}
		require.Equal(t, []uint64{4120, 2160, 2112, 2027}, []uint64{steps["welcome"], steps["login_choice"], steps["policy"], steps["accepted"]})
		require.Contains(t, r.Segments, backtest.Segment{Segment: "stalled", Members: 1642, Ever: 1732})
	}
}

func publicLog(t *testing.T) []backtest.User {
	t.Helper()
	const path = "../../shared/data/app_onboarding/train.csv.gz"
	if _, err := os.Stat(path); err != nil {
		t.Skip("the public log is not here: ", err)
	}
	var records []eventlog.Record
	_, err := eventlog.Read(t.Context(), []string{path}, eventlog.Mapping{}, nil,
		func(r eventlog.Record) error { records = append(records, r); return nil }, nil)
	require.NoError(t, err)
	eventlog.Sort(records)
	eventlog.Identify(records)
	var users []backtest.User
	place := make(map[string]int)
	for _, r := range records {
		i, known := place[r.Event.UserID]
		if !known {
			i = len(users)
			place[r.Event.UserID] = i
			users = append(users, backtest.User{ID: r.Event.UserID, Token: schema.UserToken(nil, r.Event.UserID)})
		}
		users[i].Events = append(users[i].Events, schema.UserEvent{EventID: r.Event.EventID, EventName: r.Event.EventName, OccurredAt: r.At.UnixMilli()})
	}
	return users
}
