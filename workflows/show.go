package workflows

import (
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
)

// shown is what the Temporal UI shows in lists; it is written again only when it changed, because each write is a history
// event and a visibility transaction.
type shown struct {
	stage, playbook    string
	segments, variants []string
}

// show brings the Temporal UI up to date: current details for the person who opens the workflow, search attributes for the
// one who looks for it.
func (r *journeyRun) show(ctx workflow.Context, profile schema.Profile) {
	if r.state.Playbook == "" {
		return
	}
	workflow.SetCurrentDetails(ctx, journey.Page(r.books, profile, &r.state))
	now := shown{stage: profile.Stage, playbook: profile.Playbook, segments: []string{}, variants: []string{}}
	for _, m := range profile.Segments {
		if m.In {
			now.segments = append(now.segments, m.Segment)
		}
	}
	for _, experiment := range workflow.DeterministicKeys(profile.Variants) {
		now.variants = append(now.variants, experiment+"="+profile.Variants[experiment])
	}
	slices.Sort(now.segments)
	updates := r.shown.changes(now)
	if len(updates) == 0 {
		return
	}
	r.shown = now
	if err := workflow.UpsertTypedSearchAttributes(ctx, updates...); err != nil {
		workflow.GetLogger(ctx).Error("search attributes not written", "user_token", r.in.UserToken, "error", err)
	}
}

func (s shown) changes(now shown) []temporal.SearchAttributeUpdate {
	var updates []temporal.SearchAttributeUpdate
	if s.stage != now.stage {
		updates = append(updates, temporal.NewSearchAttributeKeyKeyword(schema.AttributeStage).ValueSet(now.stage))
	}
	if s.playbook != now.playbook {
		updates = append(updates, temporal.NewSearchAttributeKeyKeyword(schema.AttributePlaybook).ValueSet(now.playbook))
	}
	if !slices.Equal(s.segments, now.segments) {
		updates = append(updates, temporal.NewSearchAttributeKeyKeywordList(schema.AttributeSegments).ValueSet(now.segments))
	}
	if !slices.Equal(s.variants, now.variants) {
		updates = append(updates, temporal.NewSearchAttributeKeyKeywordList(schema.AttributeVariants).ValueSet(now.variants))
	}
	return updates
}
