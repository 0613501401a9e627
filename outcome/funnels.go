package outcome

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// VariantStep is how many users of a variant reached a step of a journey after they had met the variant there.
type VariantStep struct {
	Journey string
	Step    string // key; converted where the goal was met
	Variant string
	Users   int64
}

// VariantFunnel counts how far the users of an experiment got in the journeys where they met it, by journey and then by the order
// in which steps are reached on average. Users who are in no arm are left out, and so is who met the experiment before since.
// Where ClickHouse is away, the error is CodeUnavailable.
func (s *Store) VariantFunnel(ctx context.Context, experiment string, since time.Time) ([]VariantStep, error) {
	q := &query{store: s}
	if !since.IsZero() {
		q.since = max(0, since.UnixMilli())
	}
	steps := []VariantStep{}
	err := q.each(ctx, func(rows driver.Rows) error {
		var one VariantStep
		var users uint64
		err := rows.Scan(&one.Journey, &one.Step, &one.Variant, &users)
		one.Users = int64(users)
		steps = append(steps, one)
		return err
	}, `SELECT journey, step, variant, users FROM
		(
			SELECT toString(s.journey) AS journey, s.step AS step, toString(e.variant) AS variant, uniqExact(e.user_token) AS users,
				any(s.rank) AS rank, avg(s.place) AS place
			FROM (SELECT user_token, variant, journey, exposed_at FROM exposures_first WHERE experiment = ? AND exposed_at >= `+moment+` AND excluded = '') AS e
			INNER JOIN
			(
				SELECT n.user_token AS user_token, n.journey AS journey, toString(s.step_key) AS step, 0 AS rank, s.position AS place, s.entered_at AS at
				FROM enrollment_steps AS s INNER JOIN enrollments AS n USING (enrollment_id)
				UNION ALL
				SELECT user_token, journey, 'converted' AS step, 1 AS rank, 0 AS place, converted_at AS at FROM enrollments WHERE converted
			) AS s ON e.user_token = s.user_token AND e.journey = s.journey
			WHERE s.at >= e.exposed_at
			GROUP BY journey, step, variant
		)
		ORDER BY journey, avg(rank) OVER (PARTITION BY journey, step), avg(place) OVER (PARTITION BY journey, step), step, variant`, experiment, q.since)
	return steps, translate(err, s.addr, "count the funnel of experiment "+experiment)
}

// Traffic is who met an experiment, and when.
type Traffic struct {
	Users int64
	First time.Time // exposure; zero where nobody has met it
	Last  time.Time
}

// PerDay is how many users met it a day. Zero where fewer than two have.
func (t Traffic) PerDay() float64 {
	days := t.Last.Sub(t.First).Hours() / 24
	if t.Users < 2 || days <= 0 {
		return 0
	}
	return float64(t.Users) / days
}

// Traffic counts the users of an experiment. Where ClickHouse is away, the error is CodeUnavailable.
func (s *Store) Traffic(ctx context.Context, experiment string) (Traffic, error) {
	var users uint64
	var first, last int64
	err := s.conn.QueryRow(ctx, `SELECT count(), toUnixTimestamp64Milli(min(exposed_at)), toUnixTimestamp64Milli(max(exposed_at))
		FROM exposures_first WHERE experiment = ? AND excluded = ''`, experiment).Scan(&users, &first, &last)
	t := Traffic{Users: int64(users)}
	if users > 0 {
		t.First, t.Last = time.UnixMilli(first), time.UnixMilli(last)
	}
	return t, translate(err, s.addr, "count who meets experiment "+experiment)
}

// Exposed lists the tokens of the users of an experiment who count, in their order. Where ClickHouse is away, the error is
// CodeUnavailable.
func (s *Store) Exposed(ctx context.Context, experiment string) ([]string, error) {
	q := &query{store: s}
	tokens := []string{}
	err := q.each(ctx, func(rows driver.Rows) error {
		var token string
		err := rows.Scan(&token)
		tokens = append(tokens, token)
		return err
	}, "SELECT user_token FROM exposures_first WHERE experiment = ? AND excluded = '' ORDER BY user_token", experiment)
	return tokens, translate(err, s.addr, "list who meets experiment "+experiment)
}

// Misplaced counts the exposures of an experiment that the seed, weights, coverage and namespace on their own row do not give. Those
// whose row does not say enough are not among them. Where ClickHouse is away, the error is CodeUnavailable.
func (s *Store) Misplaced(ctx context.Context, experiment string) (int64, error) {
	var n uint64
	err := s.conn.QueryRow(ctx, "SELECT countIf(startsWith(verdict, 'wrong_')) FROM assignment_check WHERE experiment = ?", experiment).Scan(&n)
	return int64(n), translate(err, s.addr, "prove the assignment of experiment "+experiment)
}
