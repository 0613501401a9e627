package outcome

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Standing is how many users stand at one step of one version of a journey.
type Standing struct {
	Journey string `json:"journey"`
	Step    string `json:"step"` // key; empty before the first
	Version string `json:"version"`
	Users   uint64 `json:"users"`
}

// Standings counts the open enrollments by where they stand, as far as outcomes have reached ClickHouse. Where that is away, the
// error is CodeUnavailable.
func (s *Store) Standings(ctx context.Context) ([]Standing, error) {
	q := &query{store: s}
	standings := []Standing{}
	err := q.each(ctx, func(rows driver.Rows) error {
		var one Standing
		err := rows.Scan(&one.Journey, &one.Step, &one.Version, &one.Users)
		standings = append(standings, one)
		return err
	}, `SELECT journey, step, version, uniqExact(user_token) FROM
		(
			SELECT any(user_token) AS user_token, any(toString(journey)) AS journey,
				argMaxIf(toString(step_key), sequence, kind = 'step_entered') AS step,
				argMax(toString(journey_version), sequence) AS version
			FROM outcomes FINAL
			WHERE kind IN ('enrollment_started', 'step_entered', 'enrollment_ended') AND enrollment_id != ''
			GROUP BY enrollment_id HAVING countIf(kind = 'enrollment_ended') = 0
		)
		GROUP BY journey, step, version ORDER BY journey, step, version`)
	return standings, translate(err, s.addr, "count who is inside a journey")
}
