package outcome

import (
	"context"
	"strings"
	"time"
)

// Decision is what the figures of an experiment decided. It is a record: nothing is changed by it.
type Decision struct {
	DecisionID string // the same for the same decision
	Experiment string
	DecidedAt  time.Time
	Action     string
	Variants   []string
	Shares     map[string]float64
	Because    []string
	Change     string
	Rule       string
	AnalysisID string
	Playbook   string // content hash
}

// RecordDecisions writes decisions. One that was taken before is counted once, at its first time. Where ClickHouse is away, the
// error is CodeUnavailable.
func (s *Store) RecordDecisions(ctx context.Context, decisions []Decision) error {
	if len(decisions) == 0 {
		return nil
	}
	var ids strings.Builder
	for _, d := range decisions {
		ids.WriteString(d.DecisionID)
	}
	return translate(s.insert(ctx, "decisions", ids.String(), []column{
		{"decision_id", pick(decisions, func(d Decision) string { return d.DecisionID })},
		{"experiment", pick(decisions, func(d Decision) string { return d.Experiment })},
		{"decided_at", pick(decisions, func(d Decision) int64 { return d.DecidedAt.UnixMilli() })},
		{"action", pick(decisions, func(d Decision) string { return d.Action })},
		{"variants", pick(decisions, func(d Decision) []string { return d.Variants })},
		{"shares", pick(decisions, func(d Decision) map[string]float64 { return d.Shares })},
		{"because", pick(decisions, func(d Decision) []string { return d.Because })},
		{"change", pick(decisions, func(d Decision) string { return d.Change })},
		{"rule", pick(decisions, func(d Decision) string { return d.Rule })},
		{"analysis_id", pick(decisions, func(d Decision) string { return d.AnalysisID })},
		{"playbook", pick(decisions, func(d Decision) string { return d.Playbook })},
	}), s.addr, "record decisions")
}
