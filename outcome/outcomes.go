package outcome

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/onramphq/onramp/schema"
)

// outcomeRow is a row of outcomes.
type outcomeRow struct {
	schema.Outcome

	sequence uint64
}

// decodeOutcome reads an outcome. Fields it does not know pass: an older sink must not stop a newer worker. What has no
// identity or no possible time is refused.
func decodeOutcome(d delivery) (outcomeRow, error) {
	row := outcomeRow{sequence: d.sequence}
	if err := json.Unmarshal(d.msg.Data(), &row.Outcome); err != nil {
		return outcomeRow{}, fmt.Errorf("decode outcome: %w", err)
	}
	switch {
	case row.OutcomeID == "":
		return outcomeRow{}, errors.New("decode outcome: outcome_id is missing")
	case row.Kind == "":
		return outcomeRow{}, errors.New("decode outcome: kind is missing")
	}
	if err := schema.CheckToken(row.UserToken); err != nil {
		return outcomeRow{}, fmt.Errorf("decode outcome: user_token: %w", err)
	}
	for _, at := range []int64{row.At, row.RecordedAt, row.CauseReceivedAt, row.DecidedAt} {
		if at < 0 || at > latestMilli {
			return outcomeRow{}, fmt.Errorf("decode outcome: %d is not a time in Unix milliseconds", at)
		}
	}
	return row, nil
}

func (s *Store) insertOutcomes(ctx context.Context, token string, rows []*outcomeRow) error {
	return s.insert(ctx, "outcomes", token, []column{
		{"outcome_id", pick(rows, func(r *outcomeRow) string { return r.OutcomeID })},
		{"kind", pick(rows, func(r *outcomeRow) string { return string(r.Kind) })},
		{"user_token", pick(rows, func(r *outcomeRow) string { return r.UserToken })},
		{"at", pick(rows, func(r *outcomeRow) int64 { return r.At })},
		{"recorded_at", pick(rows, func(r *outcomeRow) int64 { return r.RecordedAt })},
		{"sequence", pick(rows, func(r *outcomeRow) uint64 { return r.sequence })},
		{"cause_event_id", pick(rows, func(r *outcomeRow) string { return r.CauseEventID })},
		{"cause_received_at", pick(rows, func(r *outcomeRow) int64 { return r.CauseReceivedAt })},
		{"playbook", pick(rows, func(r *outcomeRow) string { return r.Playbook })},
		{"journey", pick(rows, func(r *outcomeRow) string { return r.Journey })},
		{"journey_version", pick(rows, func(r *outcomeRow) string { return r.JourneyVersion })},
		{"enrollment_id", pick(rows, func(r *outcomeRow) string { return r.EnrollmentID })},
		{"step_key", pick(rows, func(r *outcomeRow) string { return r.StepKey })},
		{"action", pick(rows, func(r *outcomeRow) string { return r.Action })},
		{"action_id", pick(rows, func(r *outcomeRow) string { return r.ActionID })},
		{"segment", pick(rows, func(r *outcomeRow) string { return r.Segment })},
		{"experiment", pick(rows, func(r *outcomeRow) string { return r.Experiment })},
		{"variant", pick(rows, func(r *outcomeRow) string { return r.Variant })},
		{"bucket", pick(rows, func(r *outcomeRow) float64 { return r.Bucket })},
		{"goal", pick(rows, func(r *outcomeRow) string { return r.Goal })},
		{"reason", pick(rows, func(r *outcomeRow) string { return r.Reason })},
		{"details", pick(rows, func(r *outcomeRow) string { return string(r.Details) })},
		{"trace_id", pick(rows, func(r *outcomeRow) string { return r.Trace.ID() })},
		{"log_sequence", pick(rows, func(r *outcomeRow) uint64 { return r.LogSequence })},
		{"decided_at", pick(rows, func(r *outcomeRow) int64 { return r.DecidedAt })},
	})
}
