package outcome

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/onramphq/onramp/experiment"
)

// query reads the parts of one report. since is in Unix milliseconds.
type query struct {
	store *Store
	since int64
}

// moment is the parameter of every query as a time. The driver's own binding of times cuts them to the second.
const moment = "fromUnixTimestamp64Milli(toInt64(?), 'UTC')"

// each calls scan on every row of a query.
func (q *query) each(ctx context.Context, scan func(driver.Rows) error, sql string, args ...any) (err error) {
	rows, err := q.store.conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (q *query) one(ctx context.Context, sql string, args []any, into ...any) error {
	return q.store.conn.QueryRow(ctx, sql, args...).Scan(into...)
}

func (q *query) events(ctx context.Context, r *Report) error {
	sql := "SELECT uniqExact(user_token), count() FROM events_unique WHERE occurred_at >= " + moment
	if err := q.one(ctx, sql, []any{q.since}, &r.Users, &r.Events); err != nil {
		return err
	}
	return q.each(ctx, func(rows driver.Rows) error {
		var name string
		var n uint64
		err := rows.Scan(&name, &n)
		r.EventsByName[name] = n
		return err
	}, "SELECT event_name, count() FROM events_unique WHERE occurred_at >= "+moment+" GROUP BY event_name", q.since)
}

func (q *query) deadLetters(ctx context.Context, r *Report) error {
	return q.one(ctx, "SELECT count() FROM dead_letters_unique WHERE received_at >= "+moment, []any{q.since}, &r.DeadLetters)
}

// journeys reads summaries and funnels. It says what the views journeys_summary and funnel say, since some moment.
func (q *query) journeys(ctx context.Context, r *Report) error {
	steps := make(map[string][]FunnelStep)
	err := q.each(ctx, func(rows driver.Rows) error {
		var step FunnelStep
		err := rows.Scan(&step.Journey, &step.Step, &step.Users)
		steps[step.Journey] = append(steps[step.Journey], step)
		return err
	}, `SELECT e.journey AS journey, s.step_key AS step, uniqExact(e.user_token) AS users
		FROM enrollment_steps AS s INNER JOIN enrollments AS e USING (enrollment_id)
		WHERE e.started_at >= `+moment+` GROUP BY journey, step ORDER BY journey, avg(s.position), users DESC, step`, q.since)
	if err != nil {
		return err
	}
	r.Funnel = []FunnelStep{}
	return q.each(ctx, func(rows driver.Rows) error {
		var journey string
		var enrolled, converted uint64
		var summary JourneySummary
		if err := rows.Scan(&journey, &enrolled, &converted, &summary.Enrollments, &summary.Open, &summary.Ended); err != nil {
			return err
		}
		r.Journeys[journey] = summary
		r.Funnel = append(r.Funnel, FunnelStep{journey, "enrolled", enrolled})
		r.Funnel = append(r.Funnel, steps[journey]...)
		r.Funnel = append(r.Funnel, FunnelStep{journey, "converted", converted})
		return nil
	}, `SELECT journey, uniqExact(user_token), uniqExactIf(user_token, converted), count(), countIf(NOT ended),
			sumMap(if(ended, map(toString(ended_reason), toUInt64(1)), CAST(map(), 'Map(String, UInt64)')))
		FROM enrollments WHERE started_at >= `+moment+` GROUP BY journey ORDER BY journey`, q.since)
}

func (q *query) segments(ctx context.Context, r *Report) error {
	r.Segments = []SegmentSize{}
	return q.each(ctx, func(rows driver.Rows) error {
		var size SegmentSize
		err := rows.Scan(&size.Segment, &size.Members, &size.Ever)
		r.Segments = append(r.Segments, size)
		return err
	}, "SELECT segment, members, ever FROM segment_sizes ORDER BY segment")
}

func (q *query) actions(ctx context.Context, r *Report) error {
	r.Actions = []ActionCounts{}
	return q.each(ctx, func(rows driver.Rows) error {
		var a ActionCounts
		err := rows.Scan(&a.Action, &a.Decided, &a.Delivered, &a.Failed, &a.Suppressed, &a.Reasons)
		r.Actions = append(r.Actions, a)
		return err
	}, `SELECT action, countIf(decided), countIf(delivered), countIf(failed), countIf(suppressed),
			sumMap(if(suppressed, map(toString(reason), toUInt64(1)), CAST(map(), 'Map(String, UInt64)')))
		FROM actions WHERE begun_at >= `+moment+` GROUP BY action ORDER BY action`, q.since)
}

func (q *query) latency(ctx context.Context, r *Report) error {
	var quantiles []float64
	err := q.one(ctx, `SELECT count(), arrayMap(v -> toFloat64(v), quantilesExact(0.5, 0.99)(latency_ms)) FROM decision_latency
		WHERE kind NOT IN ('action_delivered', 'action_failed') AND at >= `+moment, []any{q.since}, &r.LatencyMS.Count, &quantiles)
	if err == nil && r.LatencyMS.Count > 0 {
		r.LatencyMS.P50, r.LatencyMS.P99 = quantiles[0], quantiles[1]
	}
	return err
}

// arm is one variant's row.
type arm struct {
	variant                 string
	users, converted, mixed uint64
}

func (q *query) experiment(ctx context.Context, opts ReportOptions) (*Experiment, error) {
	result := &Experiment{Key: opts.Experiment, Metric: opts.Goal, Control: opts.Control, Treatment: opts.Treatment}
	if result.Metric == "" {
		if err := q.goal(ctx, result); err != nil {
			return nil, err
		}
	}
	var arms []arm
	err := q.each(ctx, func(rows driver.Rows) error {
		var a arm
		err := rows.Scan(&a.variant, &a.users, &a.converted, &a.mixed)
		arms = append(arms, a)
		return err
	}, `SELECT e.variant AS variant, count() AS users, countIf(c.met = 1 AND c.last_at >= e.exposed_at), countIf(e.mixed)
		FROM (SELECT user_token, variant, exposed_at, mixed FROM exposures WHERE experiment = ? AND exposed_at >= `+moment+`) AS e
		LEFT JOIN (SELECT user_token, last_at, 1 AS met FROM conversions WHERE goal = ?) AS c ON e.user_token = c.user_token
		GROUP BY variant ORDER BY users DESC, variant`, opts.Experiment, q.since, result.Metric)
	if err != nil {
		return nil, err
	}
	weights, err := q.weights(ctx, opts.Experiment)
	if err != nil {
		return nil, err
	}
	result.compare(arms, weights, opts.Interval)
	return result, nil
}

// goal finds what the experiment is about: the goal met most in the journeys its users were exposed in.
func (q *query) goal(ctx context.Context, result *Experiment) error {
	return q.each(ctx, func(rows driver.Rows) error { return rows.Scan(&result.Metric) }, `SELECT goal FROM outcomes_unique
		WHERE kind = 'goal_converted' AND journey IN (SELECT journey FROM exposures WHERE experiment = ?)
		GROUP BY goal ORDER BY count() DESC, goal LIMIT 1`, result.Key)
}

// weights reads the configured share of each variant from the newest exposure: what the ratio of the users is tested against.
func (q *query) weights(ctx context.Context, key string) (map[string]float64, error) {
	var details string
	err := q.each(ctx, func(rows driver.Rows) error { return rows.Scan(&details) },
		"SELECT details FROM outcomes_unique WHERE kind = 'exposure_recorded' AND experiment = ? ORDER BY sequence DESC LIMIT 1", key)
	if err != nil || details == "" {
		return nil, err
	}
	var configured struct {
		Weights map[string]float64 `json:"weights"`
	}
	if err := json.Unmarshal([]byte(details), &configured); err != nil {
		return nil, nil //nolint:nilerr,nilnil // without weights the arms count as equal, as they nearly always are
	}
	return configured.Weights, nil
}

func (e *Experiment) compare(arms []arm, weights map[string]float64, opts experiment.Options) {
	if e.Treatment == "" {
		if i := slices.IndexFunc(arms, func(a arm) bool { return a.variant != e.Control }); i >= 0 {
			e.Treatment = arms[i].variant
		}
	}
	counts := make(map[string]int64, len(arms))
	for _, a := range arms {
		counts[a.variant] = int64(a.users) //nolint:gosec // a count of users
		e.MixedUsers += int64(a.mixed)     //nolint:gosec // a count of users
		switch a.variant {
		case e.Control:
			e.ControlUsers, e.ControlConverted = int64(a.users), int64(a.converted) //nolint:gosec // counts of users
		case e.Treatment:
			e.TreatmentUsers, e.TreatmentConverted = int64(a.users), int64(a.converted) //nolint:gosec // counts of users
		}
	}
	c := experiment.CompareProportions(
		experiment.Arm{Users: e.ControlUsers, Converted: e.ControlConverted},
		experiment.Arm{Users: e.TreatmentUsers, Converted: e.TreatmentConverted}, opts)
	e.ControlRate, e.TreatmentRate, e.State = c.ControlRate, c.TreatmentRate, c.State
	e.Lift, e.Low, e.High, e.PValue = c.Lift, c.Low, c.High, c.AnytimePValue
	e.SRMP = experiment.SampleRatioMismatch(ratio(counts, weights, e.Control, e.Treatment)).PValue
}

// ratio lists users and weights of the arms: those configured, or where that is not known the two compared, as equals.
func ratio(counts map[string]int64, weights map[string]float64, control, treatment string) (users []int64, shares []float64) {
	if len(weights) == 0 {
		return []int64{counts[control], counts[treatment]}, []float64{1, 1}
	}
	for variant, weight := range weights {
		users, shares = append(users, counts[variant]), append(shares, weight)
	}
	return users, shares
}
