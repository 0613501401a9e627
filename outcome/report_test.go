package outcome_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// views are all that analysts read.
var views = []string{
	"events_unique", "users_unique", "outcomes_unique", "dead_letters_unique", "enrollments", "enrollment_steps", "journeys_summary", "funnel",
	"actions", "actions_summary", "decision_latency", "segment_members", "segment_sizes", "segment_timeline", "exposures", "conversions", "experiment_arms",
	"exposures_first", "exposures_excluded", "experiment_counts", "experiment_results", "assignment_check", "segment_metrics", "actions_daily",
}

// snapshot reads every view. Rows come in no order where the view gives none.
func snapshot(t *testing.T, store *outcome.Store) map[string][]string {
	t.Helper()
	all := make(map[string][]string, len(views))
	for _, v := range views {
		all[v] = rowsOf(t, store, "SELECT * FROM "+v+" ORDER BY ALL")
	}
	return all
}

// history is a hand-made past of six users of one journey, `welcome → tip → (wait) `, with an experiment on the way. Times
// are minutes after base.
type history struct {
	base     time.Time
	outcomes []schema.Outcome
}

func token(user string) string { return schema.UserToken(workspaceKey, user) }

func (h *history) add(user string, minute int, kind schema.OutcomeKind, set func(*schema.Outcome)) {
	at := h.base.Add(time.Duration(minute) * time.Minute).UnixMilli()
	o := schema.Outcome{
		OutcomeID: schema.OutcomeID(kind, user, strconv.Itoa(len(h.outcomes))), Kind: kind, UserToken: token(user), At: at, RecordedAt: at + 20,
		Playbook: "p1", Journey: "onboarding", JourneyVersion: "v1", EnrollmentID: "enrollment of " + user,
	}
	if set != nil {
		set(&o)
	}
	h.outcomes = append(h.outcomes, o)
}

func (h *history) segment(user string, minute int, kind schema.OutcomeKind, segment string) {
	h.add(user, minute, kind, func(o *schema.Outcome) { o.Segment, o.Journey, o.EnrollmentID = segment, "", "" })
}

func (h *history) step(user string, minute int, step string) {
	h.add(user, minute, schema.StepEntered, func(o *schema.Outcome) { o.StepKey = step })
}

func (h *history) action(user string, minute int, kind schema.OutcomeKind, action, reason string) {
	h.add(user, minute, kind, func(o *schema.Outcome) {
		o.Action, o.ActionID, o.Reason = action, action+" for "+user, reason
	})
}

func (h *history) expose(user string, minute int, variant string) {
	h.add(user, minute, schema.ExposureRecorded, func(o *schema.Outcome) {
		o.Experiment, o.Variant, o.Details = "checklist_first", variant, []byte(`{"weights":{"control":0.5,"treatment":0.5}}`)
	})
}

func (h *history) end(user string, minute int, reason string) {
	h.add(user, minute, schema.EnrollmentEnded, func(o *schema.Outcome) { o.Reason = reason })
}

func (h *history) goal(user string, minute int) {
	h.add(user, minute, schema.GoalConverted, func(o *schema.Outcome) { o.Goal = "activated" })
}

func handMade() *history {
	h := &history{base: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}
	for i, user := range []string{"ada", "bob", "cyd", "dan", "eve", "fay"} {
		h.add(user, i, schema.EnrollmentStarted, func(o *schema.Outcome) {
			o.CauseEventID, o.CauseReceivedAt = "signed_up of "+user, o.RecordedAt-int64(i+1) // 1, 2, … 6 ms
		})
		h.step(user, i, "welcome")
		h.segment(user, i, schema.SegmentEntered, "newcomer")
	}
	// ada: control, converts. bob: control, converted before the exposure only. cyd: control, no conversion.
	// dan, eve: treatment, convert. fay: not exposed.
	h.goal("bob", 9)
	for i, user := range []string{"ada", "bob", "cyd", "dan", "eve"} {
		variant := "control"
		if i > 2 {
			variant = "treatment"
		}
		h.expose(user, 10+i, variant)
		h.step(user, 10+i, "tip")
	}
	h.expose("ada", 30, "treatment") // a second meeting: the first wins, and ada is flagged
	h.goal("ada", 40)
	h.goal("ada", 41)
	h.goal("dan", 42)
	h.goal("eve", 14) // in the very millisecond of the exposure
	h.end("ada", 40, "goal_met")
	h.end("dan", 42, "goal_met")
	h.end("cyd", 50, "completed")
	h.action("ada", 10, schema.ActionDecided, "send_tip", "")
	h.action("ada", 11, schema.ActionDelivered, "send_tip", "")
	h.action("bob", 11, schema.ActionDecided, "send_tip", "")
	h.action("bob", 12, schema.ActionFailed, "send_tip", "receiver says 410")
	h.action("cyd", 12, schema.ActionSuppressed, "send_tip", "frequency_cap")
	h.action("dan", 13, schema.ActionSuppressed, "send_tip", "no_consent")
	h.action("eve", 14, schema.ActionSuppressed, "send_tip", "frequency_cap")
	h.action("eve", 15, schema.ActionDecided, "congratulate", "")
	h.segment("ada", 40, schema.SegmentLeft, "newcomer")
	h.segment("bob", 40, schema.SegmentLeft, "newcomer")
	h.segment("bob", 40, schema.SegmentEntered, "newcomer") // left and entered in one millisecond: the later record counts
	h.segment("ada", 40, schema.SegmentEntered, "engaged")
	return h
}

// carryTwice puts a history into the store through the sink, every outcome twice and later with another content, in many parts.
func carryTwice(t *testing.T, store *outcome.Store) {
	t.Helper()
	js := jetStream(t)
	for round := range 2 {
		for _, o := range handMade().outcomes {
			if round == 1 { // decided again after a crash: the record that stands is the first
				o.RecordedAt += 1000
				o.Playbook = "p2"
			}
			publishOutcome(t, js, o)
		}
	}
	for i, name := range []string{"signed_up", "signed_up", "signed_up", "activated"} {
		for range 2 {
			publishEvent(t, js, "web", schema.Event{
				EventID: fmt.Sprint("e", i), EventName: name, UserID: fmt.Sprint("user ", i%3), OccurredAt: time.Now(),
			})
		}
	}
	publishRaw(t, js, schema.DeadLetterSubject(schema.ReasonFuture), []byte("x"))
	_, stop := runSink(t, js, store, outcome.SinkConfig{MaxRows: 7})
	settled(t, js)
	stop()
}

func TestReportEqualsHandCount(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	carryTwice(t, store)
	report, err := store.Report(t.Context(), outcome.ReportOptions{Experiment: "checklist_first"})
	require.NoError(t, err)

	compared := experiment.CompareProportions(experiment.Arm{Users: 3, Converted: 1}, experiment.Arm{Users: 2, Converted: 2}, experiment.Options{})
	require.Equal(t, &outcome.Report{
		Users: 3, Events: 4, DeadLetters: 1,
		EventsByName: map[string]uint64{"signed_up": 3, "activated": 1},
		Funnel: []outcome.FunnelStep{
			{"onboarding", "enrolled", 6}, {"onboarding", "welcome", 6}, {"onboarding", "tip", 5}, {"onboarding", "converted", 4},
		},
		Segments: []outcome.SegmentSize{{"engaged", 1, 1}, {"newcomer", 5, 6}},
		Actions: []outcome.ActionCounts{
			{Action: "congratulate", Decided: 1, Reasons: map[string]uint64{}},
			{Action: "send_tip", Decided: 2, Delivered: 1, Failed: 1, Suppressed: 3, Reasons: map[string]uint64{"frequency_cap": 2, "no_consent": 1}},
		},
		Journeys: map[string]outcome.JourneySummary{
			"onboarding": {Enrollments: 6, Open: 3, Ended: map[string]uint64{"goal_met": 2, "completed": 1}},
		},
		Experiment: &outcome.Experiment{
			Key: "checklist_first", Metric: "activated", Control: "control", Treatment: "treatment",
			ControlUsers: 3, ControlConverted: 1, ControlRate: 1.0 / 3, TreatmentUsers: 2, TreatmentConverted: 2, TreatmentRate: 1,
			Lift: compared.Lift, Low: compared.Low, High: compared.High, PValue: compared.AnytimePValue,
			State: experiment.StateFewConversions, SRMP: experiment.SampleRatioMismatch([]int64{3, 2}, []float64{1, 1}).PValue, MixedUsers: 1,
		},
		LatencyMS: outcome.Latency{P50: 4, P99: 6, Count: 6},
	}, report)
	require.InDelta(t, 2.0, report.Experiment.Lift, 1e-9)

	raw, err := json.Marshal(report)
	require.NoError(t, err)
	for _, key := range []string{`"events_by_name"`, `"latency_ms":{"p50":4`, `"srm_p"`, `"control_rate"`, `"ever":6`, `"ended":{"completed":1,"goal_met":2}`} {
		require.Contains(t, string(raw), key)
	}
}

func TestReportSinceFollowsWhatBeganLater(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	carryTwice(t, store)
	report, err := store.Report(t.Context(), outcome.ReportOptions{Experiment: "checklist_first", Since: handMade().base.Add(3 * time.Minute)})
	require.NoError(t, err)
	require.Equal(t, outcome.JourneySummary{Enrollments: 3, Open: 2, Ended: map[string]uint64{"goal_met": 1}}, report.Journeys["onboarding"])
	require.Equal(t, []outcome.FunnelStep{
		{"onboarding", "enrolled", 3}, {"onboarding", "welcome", 3}, {"onboarding", "tip", 2}, {"onboarding", "converted", 2},
	}, report.Funnel)
	require.Equal(t, int64(3), report.Experiment.ControlUsers)
	require.Equal(t, uint64(6), report.Segments[1].Ever)

	report, err = store.Report(t.Context(), outcome.ReportOptions{Experiment: "checklist_first", Since: handMade().base.Add(24 * time.Hour)})
	require.NoError(t, err)
	require.Empty(t, report.Funnel)
	require.Equal(t, experiment.StateEmptyArm, report.Experiment.State)
	require.InDelta(t, 1, report.Experiment.SRMP, 0)
}

func TestReportOfNothing(t *testing.T) {
	t.Parallel()
	report, err := openStore(t).Report(t.Context(), outcome.ReportOptions{Experiment: "none"})
	require.NoError(t, err)
	require.Equal(t, experiment.StateEmptyArm, report.Experiment.State)
	raw, err := json.Marshal(report)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "null")
	require.False(t, math.IsNaN(report.LatencyMS.P99))
}

// The guarantee behind every figure: a view says the same whether or not the duplicates are still stored, and the same when
// every batch is written again, with its token or long after the table has forgotten it.
func TestViewsNeverCountADuplicate(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	carryTwice(t, store)
	before := snapshot(t, store)
	for _, v := range views {
		require.NotEmpty(t, before[v], "view %s has no rows: this test would see nothing", v)
	}
	require.Equal(t, []string{
		"('onboarding',0,'enrolled',6,1)", "('onboarding',1,'welcome',6,1)",
		"('onboarding',2,'tip',5,0.8333333333333334)", "('onboarding',3,'converted',4,0.6666666666666666)",
	}, rowsOf(t, store, "SELECT * FROM funnel"))
	require.Equal(t, []string{"('checklist_first','control','activated',3,1,1)", "('checklist_first','treatment','activated',2,2,0)"}, before["experiment_arms"])
	require.Equal(t, []string{"('engaged',1,1)", "('newcomer',5,6)"}, before["segment_sizes"])
	require.Equal(t, []string{"('onboarding',6,3,4,{'completed':1,'goal_met':2})"}, before["journeys_summary"])

	tables := []string{"events", "users", "outcomes", "dead_letters"}
	again := func() {
		for _, table := range tables { // the rows as they are stored, in a block no token names
			require.NoError(t, store.Conn().Exec(t.Context(), "INSERT INTO "+table+" SELECT * FROM "+table+" SETTINGS insert_deduplicate = 0"))
		}
	}
	again()
	require.Equal(t, before, snapshot(t, store), "after writing every row again")
	for _, table := range tables {
		require.NoError(t, store.Conn().Exec(t.Context(), "OPTIMIZE TABLE "+table+" FINAL"))
	}
	require.Equal(t, before, snapshot(t, store), "after merging")
	again()
	require.Equal(t, before, snapshot(t, store), "after writing every row again beside merged ones")
}

func TestTimelineEndsInTheSizes(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	carryTwice(t, store)
	require.Equal(t,
		rowsOf(t, store, "SELECT segment, toInt64(members) FROM segment_sizes ORDER BY segment"),
		rowsOf(t, store, "SELECT segment, argMax(members, minute) FROM segment_timeline GROUP BY segment ORDER BY segment"))
}
