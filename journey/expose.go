package journey

import (
	"cmp"
	"slices"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// FlagEvaluated is the reason of an exposure that a flag recorded, and no journey.
const FlagEvaluated = "flag_evaluated"

// FlagVariant is the variant of a user in an experiment that no journey's step names: its flag alone treats people. It is the one by
// hash, as a step would assign it, and a visitor's own where the user was one; false where the user is outside the experiment, or held out
// of everything.
func FlagVariant(book *playbook.Playbook, x *playbook.Experiment, user *schema.Profile) (experiment.Assignment, bool) {
	token := unitOf(user)
	if book.Holdout != nil && book.Holdout.Assign(token).Variant == playbook.HeldOut {
		return experiment.Assignment{}, false
	}
	a := x.Assign(token)
	return a, a.Variant != ""
}

func unitOf(user *schema.Profile) string { return cmp.Or(user.Unit, user.UserToken) }

// FlagExposure is the record of the moment at which a flag treated a user, at in Unix milliseconds. It says what the record of a
// step's exposure says. Its id is made of user, experiment and variant: the same however often the flag is evaluated, and by which
// process, and another where shares were changed in between, so that whoever met two variants is seen to have.
func FlagExposure(book *playbook.Playbook, x *playbook.Experiment, a experiment.Assignment, user *schema.Profile, at int64) schema.Outcome {
	in := make([]string, 0, len(user.Segments))
	for _, m := range user.Segments {
		if m.In {
			in = append(in, m.Segment)
		}
	}
	slices.Sort(in)
	return schema.Outcome{
		OutcomeID: schema.OutcomeID(schema.ExposureRecorded, user.UserToken, x.Key, FlagEvaluated, a.Variant), Kind: schema.ExposureRecorded,
		UserToken: user.UserToken, At: at, Playbook: book.Hash, Experiment: x.Key, Variant: a.Variant, Bucket: a.Bucket, Reason: FlagEvaluated,
		Details: details(settings(&x.Experiment, exposure(x, a, unitOf(user)), in)),
	}
}

// exposure is what the record of a meeting says besides what every one says.
func exposure(x *playbook.Experiment, a experiment.Assignment, token string) map[string]any {
	extra := map[string]any{}
	if a.Variant == x.Holdout {
		extra["counterfactual"] = true
	}
	if a.Forced {
		extra["forced"] = true
	}
	if n := x.Namespace; n != nil {
		extra["namespace"] = map[string]any{
			"name": n.Name, "range": []float64{n.Range.Start, n.Range.End}, "hash_version": n.HashVersion, "place": n.Place(token),
		}
	}
	if levels := x.Levels[a.Variant]; levels != nil {
		extra["levels"] = levels
	}
	return extra
}

// settings adds to the record of a meeting how the variant came about, and where the user was.
func settings(x *experiment.Experiment, extra map[string]any, segments []string) map[string]any {
	extra["segments"], extra["seed"], extra["hash_version"] = segments, x.Seed, x.HashVersion
	extra["coverage"], extra["weights"], extra["variants"] = x.Coverage, weights(x), variantsOf(x)
	return extra
}

// variantsOf lists the variants in order: it decides where each one's range of buckets lies.
func variantsOf(x *experiment.Experiment) []string {
	keys := make([]string, len(x.Variants))
	for i, v := range x.Variants {
		keys[i] = v.Key
	}
	return keys
}

func weights(x *experiment.Experiment) map[string]float64 {
	w := make(map[string]float64, len(x.Variants))
	for _, v := range x.Variants {
		w[v.Key] = v.Weight
	}
	return w
}
